"""Named conditions that make a field of a prescription necessary, as the rule files use them.

Each is asked with the prescription and the family of its material ("" while that is open).
"""

from __future__ import annotations

from collections.abc import Callable

from node.domain.teeth import Arch
from orchestration.labs.prescription import LabRx

Condition = Callable[[LabRx, str], bool]

#: Below this a restoration lets the tooth's own colour through, millimetres.
_THIN_MM = 1.5


def _is_anterior(rx: LabRx, _family: str) -> bool:
    return any(not tooth.is_posterior for tooth in rx.teeth)


def _is_tooth_coloured(_rx: LabRx, family: str) -> bool:
    """An open material counts as having a shade."""
    return family != "metal"


def _does_stump_show(rx: LabRx, family: str) -> bool:
    is_thin = rx.thickness_mm is not None and rx.thickness_mm < _THIN_MM
    shows = family == "glass_ceramic" or is_thin or rx.shade.is_prep_dark
    return _is_tooth_coloured(rx, family) and shows


CONDITIONS: dict[str, Condition] = {
    "anterior": _is_anterior,
    "tooth_coloured": _is_tooth_coloured,
    "stump_shows": _does_stump_show,
    "needs_alloy": lambda rx, family: family in ("pfm", "metal") and "titanium" not in rx.material,
    "scanned": lambda rx, _: rx.records.impression == "scan",
    "opposing_scanned": lambda rx, _: rx.records.opposing == "scan",
    "subgingival": lambda rx, _: rx.margin.level == "subgingival",
    "zirconia_abutment": lambda rx, _: rx.abutment_material in ("zirconia", "hybrid_ti_base"),
    "screw_retained": lambda rx, _: rx.implant is not None and rx.implant.retention == "screw",
    "splinted": lambda rx, _: rx.joining.is_splinted,
    "upper": lambda rx, _: rx.arch is Arch.UPPER,
    "overdenture": lambda rx, _: rx.denture is not None and rx.denture.has_implants,
    "metal_frame": lambda _, family: family == "frame_metal",
    "remake": lambda rx, _: rx.remake is not None,
    "allergy_known": lambda rx, _: bool(rx.allergies),
}
