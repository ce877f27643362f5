"""What is wrong with a radiograph, each flaw with its reason.

Flags come from measured geometry (contacts, tilt, edges, tooth proportions, the arch) and from
pixels (:mod:`models.quality_pixels`); the triage network adds what only a look tells. A flaw is
disqualifying when the image should not be relied on for what it hides. Limits, and how often each
flag is right, stand in models/cards/quality.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from models import quality_pixels
from models.geometry import neck_scale_mm
from models.intraoral_reading import IntraoralReading, Landmarks
from node.domain.findings import (
    Box,
    Finding,
    FindingKind,
    QualityFlag,
    QualityKind,
    Spacing,
    ToothMark,
    View,
)
from node.domain.teeth import Arch, Tooth

_Q = QualityKind

#: Frozen limits, see the card. The first six are the clinical reference's, §8.
MOST_OVERLAP = 0.5
MOST_TILT_DEGREES = 10.0
ELONGATED, FORESHORTENED = 1.25, 0.8
APEX_MARGIN_MM, CROWN_MARGIN_MM = 2.0, 1.0
MOST_LOST = 0.2
MOST_MOLAR_RATIO = 1.2
LEAST_CONTRAST_TO_NOISE = 5.0
LEAST_SHARPNESS = 1.13
MOST_CLEAR = 0.035
#: The curve of the occlusal line and the width of the front teeth against the molars': the middle
#: 98 % of panoramics lie within.
CURVE_RANGE = (-0.145, 0.025)
FRONT_RANGE = (0.365, 0.625)

#: Longer side of an intraoral film when nothing tells its scale: size 2.
_FILM_MM = 40.0
#: (crown + root) ÷ mesio-distal neck by place in the quadrant. Source: Wheeler-type means.
_PROPORTION: dict[Arch, tuple[float, ...]] = {
    Arch.UPPER: (3.36, 4.4, 4.91, 4.5, 4.5, 2.5, 2.64, 2.69),
    Arch.LOWER: (6.14, 5.88, 4.91, 4.5, 4.5, 2.39, 2.5, 2.4),
}
_MOLAR_PAIRS = (("16", "26"), ("17", "27"), ("46", "36"), ("47", "37"))
_INCISORS = frozenset({"11", "12", "21", "22", "31", "32", "41", "42"})
_MOLARS = frozenset({"16", "17", "26", "27", "36", "37", "46", "47"})
_DENSE = frozenset({FindingKind.RESTORATION, FindingKind.CROWN, FindingKind.IMPLANT})

#: What only a look tells, from this probability upwards; the network's other faults are measured
#: here (cone cut) or too often wrong to be shown (double exposure), see the card.
_LEAST_FAULT = 0.6
_FAULT_WORDS = {
    "receptor": (_Q.RECEPTOR, "The receptor seems scratched, bent, bitten or has dead lines."),
    "motion": (_Q.BLUR, "The film seems moved or shows its contours twice."),
}


def of_intraoral(
    image: np.ndarray,
    view: View,
    reading: IntraoralReading,
    spacing: Spacing,
    faults: Mapping[str, float],
) -> tuple[QualityFlag, ...]:
    """Judge a bitewing or periapical, upright, 0..1 with metal bright, and what was read on it.

    `faults` are the triage network's, by name, with their probability.
    """
    scale = _scale_mm(image.shape, reading, spacing)
    flags = [
        *_overlaps(view, reading),
        *_cut_teeth(image.shape, view, reading.teeth, scale),
        *_proportions(reading.landmarks),
        *_tilted(reading.tilt_degrees),
        *_cone_cut(image),
        *_exposed(image, reading.teeth, reading.findings),
        *_sharp(image),
    ]
    said = {flag.kind for flag in flags}
    for name, (kind, words) in _FAULT_WORDS.items():
        chance = faults.get(name, 0.0)
        if chance >= _LEAST_FAULT and kind not in said:
            flags.append(QualityFlag(kind, words, chance))
    return tuple(flags)


def of_panoramic(
    image: np.ndarray, teeth: Sequence[ToothMark], findings: Sequence[Finding]
) -> tuple[QualityFlag, ...]:
    """Judge a panoramic, upright, 0..1 with metal bright, by its teeth and pixels."""
    boxes = {mark.tooth.code: mark.box for mark in teeth}
    return (*_positioned(boxes), *_exposed(image, teeth, findings), *_sharp(image))


def _scale_mm(shape: tuple[int, ...], reading: IntraoralReading, spacing: Spacing) -> float:
    """Give mm per pixel: measured, else from necks, else from the size of a common film."""
    if spacing.is_known:
        return spacing.mm_row
    necks = [(one.tooth, *one.necks) for one in reading.landmarks]
    whole = [(t, a, b) for t, a, b in necks if a is not None and b is not None]
    return neck_scale_mm(whole) or _FILM_MM / max(shape)


def _overlaps(view: View, reading: IntraoralReading) -> list[QualityFlag]:
    flags = []
    for contact in reading.contacts:
        if contact.overlap > MOST_OVERLAP:
            words = f"The crowns overlap by {contact.overlap:.0%} of an enamel's width"
            flags.append(
                QualityFlag(
                    _Q.OVERLAP,
                    f"{words}; caries cannot be judged at this contact.",
                    teeth=contact.teeth,
                    is_disqualifying=view is View.BITEWING
                    and all(tooth.is_posterior for tooth in contact.teeth),
                )
            )
    return flags


def _cut_teeth(
    shape: tuple[int, ...], view: View, teeth: Sequence[ToothMark], scale_mm: float
) -> list[QualityFlag]:
    """Find teeth in the middle of the film whose crown or apex the film's edge cuts off."""
    rows, cols = shape[:2]
    margin = 0.02 * cols
    apex, crown = [], []
    for mark in teeth:
        if mark.box.x0 < margin or mark.box.x1 > cols - margin:
            continue
        is_upper = mark.tooth.arch is Arch.UPPER
        above, below = mark.box.y0 * scale_mm, (rows - mark.box.y1) * scale_mm
        at_apex, at_crown = (above, below) if is_upper else (below, above)
        if at_apex < APEX_MARGIN_MM:
            apex.append(mark.tooth)
        if at_crown < CROWN_MARGIN_MM:
            crown.append(mark.tooth)
    flags = []
    if apex and view is View.PERIAPICAL:
        words = f"Less than {APEX_MARGIN_MM:.0f} mm are seen beyond the apex."
        flags.append(QualityFlag(_Q.APEX_CUT, words, teeth=tuple(apex), is_disqualifying=True))
    if crown:
        words = "The crown is cut off at the edge of the film."
        is_hidden = view is View.BITEWING
        flags.append(
            QualityFlag(_Q.CROWN_CUT, words, teeth=tuple(crown), is_disqualifying=is_hidden)
        )
    return flags


def _proportions(landmarks: Sequence[Landmarks]) -> list[QualityFlag]:
    """Compare length with width; two teeth must agree with the median."""
    ratios = [(one.tooth, ratio) for one in landmarks if (ratio := _proportion(one))]
    if len(ratios) < 2:
        return []
    middle = float(np.median([ratio for _, ratio in ratios]))
    long = [tooth for tooth, ratio in ratios if ratio > ELONGATED]
    short = [tooth for tooth, ratio in ratios if ratio < FORESHORTENED]
    if middle > ELONGATED and len(long) >= 2:
        words = f"Teeth look {middle:.1f} times as long as usual for their width."
        return [QualityFlag(_Q.ELONGATION, words, teeth=tuple(long))]
    if middle < FORESHORTENED and len(short) >= 2:
        words = f"Teeth look only {middle:.1f} times as long as usual for their width."
        return [QualityFlag(_Q.FORESHORTENING, words, teeth=tuple(short))]
    return []


def _proportion(one: Landmarks) -> float | None:
    """Length ÷ width of a tooth against the mean of its kind."""
    left, right = one.necks
    if one.crown is None or not one.apices or left is None or right is None:
        return None
    width = math.dist(left, right)
    apex = np.mean(np.array(one.apices), axis=0)
    if one.tooth.is_deciduous or width < 1.0:
        return None
    usual = _PROPORTION[one.tooth.arch][one.tooth.position - 1]
    return math.dist(one.crown, (float(apex[0]), float(apex[1]))) / width / usual


def _tilted(degrees: float | None) -> list[QualityFlag]:
    if degrees is None or abs(degrees) <= MOST_TILT_DEGREES:
        return []
    words = f"The occlusal plane is tilted by {abs(degrees):.0f} degrees."
    return [QualityFlag(_Q.TILTED, words)]


def _cone_cut(image: np.ndarray) -> list[QualityFlag]:
    share = quality_pixels.clear_share(image)
    if share <= MOST_CLEAR:
        return []
    words = f"About {share:.0%} of the film was not exposed (cone cut)."
    return [QualityFlag(_Q.CONE_CUT, words, is_disqualifying=True)]


def _exposed(
    image: np.ndarray, teeth: Sequence[ToothMark], findings: Sequence[Finding]
) -> list[QualityFlag]:
    dense = [
        finding.geometry
        for finding in findings
        if finding.kind in _DENSE and isinstance(finding.geometry, Box)
    ]
    seen = quality_pixels.exposure(image, [mark.box for mark in teeth], dense)
    if seen is None:
        return []
    if seen.dark > MOST_LOST:
        words = f"{seen.dark:.0%} of the teeth are black: too much exposure or a wrong window."
        return [QualityFlag(_Q.OVEREXPOSED, words, is_disqualifying=True)]
    if seen.bright > MOST_LOST:
        words = f"{seen.bright:.0%} of the teeth are white: too little exposure or a wrong window."
        return [QualityFlag(_Q.UNDEREXPOSED, words, is_disqualifying=True)]
    if seen.contrast_to_noise < LEAST_CONTRAST_TO_NOISE:
        words = "Noise hides the difference between enamel and dentine: too little exposure."
        return [QualityFlag(_Q.UNDEREXPOSED, words, is_disqualifying=True)]
    return []


def _sharp(image: np.ndarray) -> list[QualityFlag]:
    if quality_pixels.sharpness(image) >= LEAST_SHARPNESS:
        return []
    return [QualityFlag(_Q.BLUR, "No edge of the image is sharp.", is_disqualifying=True)]


def _positioned(boxes: Mapping[str, Box]) -> list[QualityFlag]:
    flags = []
    if words := _rotation(boxes):
        flags.append(words)
    if words := _chin(boxes):
        flags.append(words)
    if words := _depth(boxes):
        flags.append(words)
    return [QualityFlag(_Q.POSITIONING, text) for text in flags]


def _rotation(boxes: Mapping[str, Box]) -> str:
    """Compare the molars of both sides; a head turned to one side widens one of them."""
    pairs = [(boxes[a], boxes[b]) for a, b in _MOLAR_PAIRS if a in boxes and b in boxes]
    if len(pairs) < 2:
        return ""
    ratio = math.exp(float(np.median([math.log(_width(a) / _width(b)) for a, b in pairs])))
    if max(ratio, 1 / ratio) <= MOST_MOLAR_RATIO:
        return ""
    wide = "right" if ratio > 1 else "left"
    return (
        f"The patient's {wide} molars look {max(ratio, 1 / ratio):.2f} times as wide as the "
        "others: the head was turned, or teeth moved."
    )


def _chin(boxes: Mapping[str, Box]) -> str:
    """Measure the curve of the occlusal line, in widths of the arch."""
    points = [
        ((box.x0 + box.x1) / 2, box.y1 if Tooth(code).arch is Arch.UPPER else box.y0)
        for code, box in boxes.items()
        if Tooth(code).position < 8
    ]
    if len(points) < 16:
        return ""
    xs, ys = np.array(points).T
    width = float(np.ptp(xs))
    if width < 1.0:
        return ""
    curve = float(np.polyfit((xs - xs.mean()) / (width / 2), ys / width, 2)[0])
    if curve < CURVE_RANGE[0]:
        return "The occlusal line smiles strongly: the chin was low."
    if curve > CURVE_RANGE[1]:
        return "The occlusal line is flat or frowns: the chin was high."
    return ""


def _depth(boxes: Mapping[str, Box]) -> str:
    """Compare front teeth with molars: outside the focal trough they narrow or widen."""
    front = [_width(box) for code, box in boxes.items() if code in _INCISORS]
    back = [_width(box) for code, box in boxes.items() if code in _MOLARS]
    if len(front) < 6 or len(back) < 4:
        return ""
    share = float(np.mean(front) / np.mean(back))
    if share < FRONT_RANGE[0]:
        return "The front teeth look narrow: the head was too far forward."
    if share > FRONT_RANGE[1]:
        return "The front teeth look wide: the head was too far back."
    return ""


def _width(box: Box) -> float:
    return box.x1 - box.x0
