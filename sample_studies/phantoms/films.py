"""Bitewings, periapicals and panoramics: which teeth stand where, what else is in the beam."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from node.domain.findings import View
from node.domain.teeth import LOWER_ARCH, UPPER_ARCH, Arch
from sample_studies.phantoms import landmarks
from sample_studies.phantoms import panoramic as unrolled
from sample_studies.phantoms.arrange import Stood, draw_aim, impacted, moved, row
from sample_studies.phantoms.canvas import Aim, Canvas
from sample_studies.phantoms.exposure import draw_settings
from sample_studies.phantoms.plan import Mouth, Prevalence, draw_mouth
from sample_studies.phantoms.scene import Painter, Scene, expose, finish
from sample_studies.phantoms.truth import Film

_USUAL = Prevalence()


def bitewing(
    rng: np.random.Generator,
    *,
    cols: int = 512,
    rows: int = 384,
    pixel_mm: float = 0.078,
    odds: Prevalence = _USUAL,
) -> Film:
    """Make a bitewing: upper and lower premolars and molars of one side, 40 × 30 mm by default."""
    scene = bitewing_scene(rng, cols=cols, rows=rows, pixel_mm=pixel_mm, odds=odds)
    return expose(scene, draw_settings(rng, flaws=odds.flaws), rng)


def periapical(
    rng: np.random.Generator,
    *,
    long_px: int = 512,
    short_px: int = 384,
    pixel_mm: float = 0.078,
    odds: Prevalence = _USUAL,
) -> Film:
    """Make a periapical of one arch: posterior teeth landscape, anterior teeth portrait."""
    scene = periapical_scene(rng, long_px=long_px, short_px=short_px, pixel_mm=pixel_mm, odds=odds)
    return expose(scene, draw_settings(rng, flaws=odds.flaws), rng)


def panoramic(
    rng: np.random.Generator,
    *,
    cols: int = 1200,
    rows: int = 600,
    pixel_mm: float = 0.25,
    odds: Prevalence = _USUAL,
) -> Film:
    """Make a panoramic of both jaws; its spacing is nominal, see :mod:`.panoramic`."""
    scene = unrolled.panoramic_scene(rng, odds, cols=cols, rows=rows, pixel_mm=pixel_mm)
    return unrolled.take_panoramic(scene, rng, odds)


def bitewing_series(
    rng: np.random.Generator,
    *,
    cols: int = 512,
    rows: int = 384,
    pixel_mm: float = 0.078,
    odds: Prevalence = _USUAL,
) -> tuple[Film, Film, Film, Film]:
    """Make four bitewings of one patient: right molar, right premolar, left premolar, left molar.

    A tooth on two films keeps its shape, bone level, fillings and lesions.
    """
    mouth = draw_mouth(rng)
    height, width = rows * pixel_mm, cols * pixel_mm
    films = []
    for is_right, shift in ((True, 0.12), (True, -0.12), (False, 0.12), (False, -0.12)):
        jaws = _quarters(
            np.random.default_rng((mouth.seed, int(is_right))), is_right, mouth, height, odds
        )
        first = _middle(jaws) - width / 2
        away = shift * width + float(rng.uniform(-0.8, 0.8))
        stood = [moved(jaw, -first + away) for jaw in jaws]
        aim = Aim(
            turn=float(np.radians(rng.normal(0, 1.5))), beam=(float(rng.normal(0, 0.04)), 0.03)
        )
        scene = _bitewing(rng, Canvas(rows, cols, pixel_mm, aim), stood, is_right, mouth, odds)
        films.append(expose(scene, draw_settings(rng, flaws=0.0), rng))
    one, two, three, four = films
    return one, two, three, four


def bitewing_scene(
    rng: np.random.Generator,
    *,
    cols: int = 512,
    rows: int = 384,
    pixel_mm: float = 0.078,
    odds: Prevalence = _USUAL,
) -> Scene:
    """Compose what a bitewing shows, not yet exposed."""
    is_right = bool(rng.random() < 0.5)
    mouth = draw_mouth(rng)
    width, height = cols * pixel_mm, rows * pixel_mm
    jaws = _quarters(rng, is_right, mouth, height, odds)
    first = _middle(jaws) - width / 2 + float(rng.uniform(-8.0, 8.0))
    stood = [moved(jaw, -first) for jaw in jaws]
    canvas = Canvas(rows, cols, pixel_mm, draw_aim(rng, odds))
    return _bitewing(rng, canvas, stood, is_right, mouth, odds)


def _middle(jaws: list[list[Stood]]) -> float:
    """The x between the second premolar and the first molar, on average over both jaws."""
    places = [one.shape.x for jaw in jaws for one in jaw if one.shape.tooth.position in (5, 6)]
    return sum(places) / len(places)


def _quarters(
    rng: np.random.Generator, is_right: bool, mouth: Mouth, height: float, odds: Prevalence
) -> list[list[Stood]]:
    """Stand the canine to the third molar of both jaws of one side; the upper row starts at 0."""
    magnified = float(rng.uniform(1.0, 1.12))
    middle = height * float(rng.uniform(0.43, 0.57))
    gap = float(rng.uniform(-0.8, 3.2))
    upper = UPPER_ARCH[:6] if is_right else UPPER_ARCH[10:]
    lower = LOWER_ARCH[:6] if is_right else LOWER_ARCH[10:]
    if rng.random() < 0.4:  # no third molars
        upper, lower = (t[1:] if is_right else t[:-1] for t in (upper, lower))
    shift = float(rng.uniform(1.0, 4.0)) * (1 if is_right else -1)
    above = row(mouth, upper, 0.0, middle - gap / 2, odds, magnified)
    below = row(mouth, lower, 0.0, middle + gap / 2, odds, magnified)
    # Lower teeth stand half a premolar further forward.
    places = [next(o.shape.x for o in jaw if o.shape.tooth.position == 6) for jaw in (above, below)]
    below = moved(below, places[0] - places[1] + shift)
    curve = float(rng.normal(0.0006, 0.0008))
    return [
        [
            replace(
                o, shape=replace(o.shape, y=o.shape.y - curve * (o.shape.x - places[0]) ** 2 * 10)
            )
            for o in jaw
        ]
        for jaw in (above, below)
    ]


def _bitewing(
    rng: np.random.Generator,
    canvas: Canvas,
    jaws: list[list[Stood]],
    is_right: bool,
    mouth: Mouth,
    odds: Prevalence,
) -> Scene:
    painter = Painter(canvas, mouth, odds)
    for jaw, arch in zip(jaws, (Arch.UPPER, Arch.LOWER), strict=True):
        painter.jaw(rng, jaw, arch)
    _holder(rng, canvas)
    edges = []
    for jaw in jaws:
        if rng.random() < 0.6:  # the gum's edge
            shape = jaw[len(jaw) // 2].shape
            edges.append((shape.x, shape.y + shape.crown_sign * float(rng.uniform(-1.0, 2.0))))
    landmarks.soft_tissue(rng, canvas, edges)
    kvp = float(rng.uniform(60, 70))
    stood = [one for jaw in jaws for one in jaw]
    return finish(painter, View.BITEWING, "R" if is_right else "L", stood, kvp)


def _holder(rng: np.random.Generator, canvas: Canvas) -> None:
    """Lay a bite tab or holder between the teeth, its edges rounded."""
    kind = rng.random()
    if kind < 0.25:
        return
    middle = canvas.middle[1] + float(rng.normal(0, 0.6))
    x0, x1 = sorted(rng.uniform(0, 2 * canvas.middle[0], 2))
    x1 = max(x1, x0 + 6)
    tall = float(rng.uniform(0.8, 1.6))
    ys = (canvas.ys - middle) / tall
    ends = np.clip(np.minimum(canvas.xs - x0, x1 - canvas.xs) / tall, 0, 1)
    inside = (np.abs(ys) < 1) * np.sqrt(1 - (1 - ends) ** 2)
    body = np.sqrt(np.clip(1 - np.abs(ys) ** 3, 0, 1)) * inside
    canvas.paths["plastic"] += np.asarray(body * float(rng.uniform(6, 16)), np.float32)
    if kind > 0.85:  # the holder's arm
        arm = (np.abs(canvas.xs - (x0 + x1) / 2) < 1.8) & (canvas.ys > middle)
        canvas.paths["plastic"] += np.asarray(arm * float(rng.uniform(2, 7)), np.float32)


def periapical_scene(
    rng: np.random.Generator,
    *,
    long_px: int = 512,
    short_px: int = 384,
    pixel_mm: float = 0.078,
    odds: Prevalence = _USUAL,
) -> Scene:
    """Compose what a periapical shows, not yet exposed."""
    arch = UPPER_ARCH if rng.random() < 0.5 else LOWER_ARCH
    centre = int(rng.choice(16, p=_CENTRES))
    anterior = 4 <= centre <= 11
    is_standing = rng.random() < (0.92 if anterior else 0.12)
    rows, cols = (long_px, short_px) if is_standing else (short_px, long_px)
    width, height = cols * pixel_mm, rows * pixel_mm
    mouth = draw_mouth(rng)
    magnified = float(rng.uniform(0.98, 1.12))
    low, high = max(0, centre - 4), min(16, centre + 5)
    chosen = arch[low:high]
    if rng.random() < 0.35:  # no third molars
        chosen = tuple(t for t in chosen if t.position != 8)
    upper = chosen[0].arch is Arch.UPPER
    aim = draw_aim(rng, odds)
    edge = float(rng.uniform(0.5, 5.0))
    if not is_standing:
        edge = float(rng.uniform(-1.5, 2.5))
    occlusal = height - edge if upper else edge
    occlusal = (occlusal - height / 2) / aim.elongation + height / 2
    teeth = row(mouth, chosen, 0.0, occlusal, odds, magnified)
    target = arch[centre] if arch[centre] in chosen else chosen[0 if centre < 8 else -1]
    at = next(o.shape.x for o in teeth if o.shape.tooth == target)
    teeth = moved(teeth, width / 2 - at + float(rng.uniform(-3, 3)))
    teeth = _curved(rng, teeth, width / 2)
    teeth = _with_impacted(rng, teeth, odds)
    canvas = Canvas(rows, cols, pixel_mm, aim)
    painter = Painter(canvas, mouth, odds)
    painter.jaw(rng, teeth, chosen[0].arch)
    _surroundings(rng, canvas, teeth, upper, odds)
    sides = {one.shape.tooth.is_patient_right for one in teeth if 0 < one.shape.x < width}
    side = "B" if len(sides) == 2 else "R" if True in sides else "L"
    return finish(painter, View.PERIAPICAL, side, teeth, float(rng.uniform(60, 70)))


#: How often a periapical is centred on each place of the arch.
_CENTRES = np.array([0.02, 0.09, 0.1, 0.09, 0.06, 0.05, 0.04, 0.05] * 2)
_CENTRES = np.concatenate([_CENTRES[:8], _CENTRES[:8][::-1]])
_CENTRES = _CENTRES / _CENTRES.sum()


def _curved(rng: np.random.Generator, teeth: list[Stood], x: float) -> list[Stood]:
    """Bend the occlusal line and fan the roots a little."""
    bow = float(rng.normal(0.0, 0.003))
    fan = float(rng.normal(0.0, 0.005))
    return [
        replace(
            o,
            shape=replace(
                o.shape,
                y=o.shape.y + bow * (o.shape.x - x) ** 2,
                tilt=o.shape.tilt + fan * (o.shape.x - x),
            ),
        )
        for o in teeth
    ]


def _with_impacted(rng: np.random.Generator, teeth: list[Stood], odds: Prevalence) -> list[Stood]:
    """Impact some of the lower third molars."""
    changed = list(teeth)
    for place, one in enumerate(teeth):
        tooth = one.shape.tooth
        if tooth.position != 8 or tooth.arch is not Arch.LOWER or rng.random() > odds.impacted:
            continue
        beside = [p for p in (place - 1, place + 1) if 0 <= p < len(teeth)]
        if beside and teeth[beside[0]].shape.tooth.position == 7:
            changed[place] = impacted(rng, one, teeth[beside[0]].shape)
    return changed


def _surroundings(
    rng: np.random.Generator, canvas: Canvas, teeth: list[Stood], upper: bool, odds: Prevalence
) -> None:
    """Paint the jaw's landmarks round the teeth, each as often as films show it."""

    def chance(share: float) -> bool:
        return bool(rng.random() < share * odds.anatomy)

    shapes = {one.shape.tooth.position: one.shape for one in teeth}
    by_tooth = [one.shape for one in teeth]
    apical = [(s.x, s.y - s.crown_sign * s.root) for s in by_tooth]
    posterior = [s for s in by_tooth if s.tooth.position >= 5]
    incisors = [s for s in by_tooth if s.tooth.position == 1]
    midline = sum(s.x for s in incisors) / len(incisors) if len(incisors) == 2 else None
    edges: list[tuple[float, float]] = []
    if upper:
        if posterior and chance(0.75):
            near = float(rng.normal(0.5, 2.0))
            floor = [(s.x, s.y - s.root + 1.5 - near) for s in posterior]
            rise = [(s.x, s.y - s.root - 9.0) for s in by_tooth if s.tooth.position <= 3]
            landmarks.sinus(rng, canvas, floor + rise[:2])
        if 6 in shapes and chance(0.45):
            s = shapes[6]
            landmarks.zygoma(
                rng,
                canvas,
                s.x - s.mesial_sign * float(rng.uniform(0, 6)),
                s.y - s.root - rng.uniform(-4, 4),
            )
        if midline is not None and chance(0.8):
            top = min(y for _, y in apical)
            landmarks.nasal(rng, canvas, midline, top - float(rng.uniform(0.0, 5.0)))
    else:
        deep = [(x, y + float(rng.uniform(1.5, 7.0))) for x, y in apical]
        if posterior and chance(0.55):
            drop = float(rng.uniform(0.5, 5.0))
            landmarks.canal(rng, canvas, [(s.x, s.y + s.root + drop) for s in posterior])
        if {4, 5} & set(shapes) and chance(0.4):
            s = shapes.get(5) or shapes[4]
            landmarks.foramen(
                rng, canvas, s.x + float(rng.normal(0, 3)), s.y + s.root + rng.uniform(-1, 4)
            )
        if posterior and chance(0.45):
            s = max(posterior, key=lambda t: t.tooth.position)
            slope = s.mesial_sign * float(rng.uniform(0.25, 0.9))
            y0 = s.y + float(rng.uniform(2, 9))
            landmarks.ridge(
                rng, canvas, [(s.x, y0), (s.x + 20 * s.mesial_sign, y0 + 20 * abs(slope))]
            )
        if chance(0.4):
            low = float(rng.uniform(3.0, 9.0))
            landmarks.lower_border(rng, canvas, [(x, y + low) for x, y in deep])
        if midline is not None and chance(0.6):
            landmarks.tubercles(
                rng, canvas, midline, max(y for _, y in apical) + float(rng.uniform(1, 5))
            )
    middle = by_tooth[len(by_tooth) // 2]
    for share in (0.7, 0.35):
        if rng.random() < share:
            up = middle.crown_sign * float(rng.uniform(-1.5, 0.9 * middle.crown))
            edges.append((middle.x, middle.y + up))
    if rng.random() < 0.25:
        block = (canvas.ys - middle.y) * middle.crown_sign > middle.crown + float(
            rng.uniform(-1, 0.6)
        )
        canvas.paths["plastic"] += np.asarray(block * float(rng.uniform(4, 12)), np.float32)
    landmarks.soft_tissue(rng, canvas, edges)
