"""Synthetic bitewings, periapicals and panoramics by X-ray physics, with exact truth.

Teeth are shapes with an enamel cap, dentine, pulp and roots (:mod:`.anatomy`, :mod:`.teeth`); bone
is plates over trabeculae with a crest, lamina dura and a ligament space (:mod:`.bone`,
:mod:`.landmarks`). Lesions remove mineral over a limited bucco-lingual depth, so an early one is
faint by physics, not by drawing (:mod:`.lesions`); :mod:`.dentistry` adds what dentists put in.
Path lengths times attenuation (:mod:`.materials`) make a :class:`Scene`; :mod:`.exposure` takes
films of it. A panoramic unrolls both jaws (:mod:`.panoramic`) amid what lies round them
(:mod:`.face`); it has no lengths. Nothing is taken from a real patient.

Film frame: pixels, x to the right, y down, origin at the top-left corner of the top-left pixel.
The patient's right is on the viewer's left.

To train on many looks of one scene, keep ``scene.attenuation`` (float16 is enough) and call
:func:`capture` with fresh :func:`draw_settings` each time.
"""

from sample_studies.phantoms.exposure import Settings, capture, draw_settings
from sample_studies.phantoms.films import (
    bitewing,
    bitewing_scene,
    bitewing_series,
    panoramic,
    periapical,
    periapical_scene,
)
from sample_studies.phantoms.panoramic import panoramic_scene, take_panoramic
from sample_studies.phantoms.plan import Prevalence
from sample_studies.phantoms.scene import Scene, expose
from sample_studies.phantoms.truth import (
    Film,
    TrueLesion,
    TrueMark,
    TrueOverlap,
    TrueQuality,
    TrueSite,
    TrueTooth,
    in_8_bits,
)

__all__ = [
    "Film",
    "Prevalence",
    "Scene",
    "Settings",
    "TrueLesion",
    "TrueMark",
    "TrueOverlap",
    "TrueQuality",
    "TrueSite",
    "TrueTooth",
    "bitewing",
    "bitewing_scene",
    "bitewing_series",
    "capture",
    "draw_settings",
    "expose",
    "in_8_bits",
    "panoramic",
    "panoramic_scene",
    "periapical",
    "periapical_scene",
    "take_panoramic",
]
