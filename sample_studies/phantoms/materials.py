"""Attenuation of what a dental film shows, hardened with thickness.

A path of ``t`` mm attenuates by ``mu t / (1 + b t)``: ``mu`` and ``b`` follow from the values for a
thin layer and for 3 mm behind 2 cm of soft tissue, at 60 kVp (1.5 mm Al) and 70 kVp (2 mm Al), in
between interpolated. Source: computed from photon cross sections of assumed compositions; the
enamel to dentine ratio of 1.6 to 1.8 agrees with the usual aluminium equivalents.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Map = npt.NDArray[np.float32]
#: Either kind of float; what is kept is a :data:`Map`.
Floats = npt.NDArray[np.float32] | npt.NDArray[np.float64]

#: Per cm: 60 kVp thin, 60 kVp over 3 mm, 70 kVp thin, 70 kVp over 3 mm.
TABLE: dict[str, tuple[float, float, float, float]] = {
    "enamel": (4.75, 3.47, 3.77, 2.91),
    "dentine": (2.68, 2.18, 2.15, 1.82),
    "cortical": (2.25, 1.88, 1.81, 1.57),
    "trabecular": (0.87, 0.82, 0.72, 0.68),
    "soft": (0.35, 0.34, 0.31, 0.31),
    "calculus": (2.92, 2.34, 2.33, 1.95),
    "composite": (6.88, 5.76, 6.43, 5.47),
    "lucent_composite": (1.04, 0.97, 0.87, 0.83),
    "glass_ionomer": (3.69, 2.89, 2.97, 2.41),
    "amalgam": (230.0, 79.0, 192.0, 58.0),
    "gold": (294.0, 87.0, 237.0, 64.0),
    "cobalt_chrome": (60.0, 23.0, 47.0, 19.0),
    "titanium": (17.5, 9.3, 13.7, 7.7),
    "zirconia": (83.7, 30.7, 66.9, 24.0),
    "lithium_disilicate": (1.6, 1.4, 1.3, 1.2),
    "porcelain": (2.4, 2.0, 1.9, 1.7),
    "gutta_percha": (16.2, 10.7, 13.3, 9.0),
    "sealer": (17.2, 9.3, 13.5, 7.7),
    "aluminium": (2.47, 2.05, 1.99, 1.72),
    "plastic": (0.34, 0.33, 0.3, 0.3),
}


def attenuation(material: str, path_mm: Map, kvp: float) -> Map:
    """Attenuate along `path_mm` of one material at 60 to 70 `kvp`; gives mu·t, no unit."""
    thin60, thick60, thin70, thick70 = TABLE[material]
    share = (float(np.clip(kvp, 60.0, 70.0)) - 60.0) / 10.0
    thin = (thin60 + share * (thin70 - thin60)) / 10.0
    thick = (thick60 + share * (thick70 - thick60)) / 10.0
    harden = (thin / thick - 1.0) / 3.0
    return np.asarray(thin * path_mm / (1.0 + harden * path_mm), np.float32)
