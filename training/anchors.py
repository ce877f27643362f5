"""What published programs and people reached, to stand beside our own figures.

All are of real films that are not ours: other patients, other machines, other rules. They give
the order of size and no more. Ranges are as published.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Anchor:
    """A published figure: for which tasks and figure names, and where it stands."""

    task: str  # regular expression
    figure: str  # regular expression on the figure's name without its view
    programs: str
    people: str
    source: str


_PERIAPICAL = r"(?:periapical)_"
_BITEWING = r"(?:bitewing)_"

#: The first that fits counts, so that what is said of one view stands before what is said of all.
ANCHORS: tuple[Anchor, ...] = (
    # teeth
    Anchor(
        "panoramic_teeth",
        r"(tooth_)?precision",
        "0.9945",
        "0.9998",
        "Tuzoff 2019, 1,352 panoramics",
    ),
    Anchor(
        "panoramic_teeth", r"(tooth_)?recall", "0.9941", "0.998", "Tuzoff 2019, 1,352 panoramics"
    ),
    Anchor("panoramic_teeth", r"(tooth_)?f1", "0.99", "0.999", "Tuzoff 2019, 1,352 panoramics"),
    Anchor(
        "panoramic_teeth",
        r"fdi_exact_of_matched",
        "0.980",
        "0.9893",
        "Tuzoff 2019, sensitivity of numbering",
    ),
    Anchor("panoramic_teeth", r"fdi_ap", "0.848", "", "OdontoAI + DENTEX, mAP of FDI instances"),
    Anchor("panoramic_teeth", r"mask_dice.*", "0.950", "", "Tufts panoramics, Dice"),
    Anchor(
        "intraoral",
        rf"{_PERIAPICAL}f1_with_exact_fdi|{_PERIAPICAL}tooth_f1",
        "0.872",
        "",
        "numbering on periapicals, F1, 2021",
    ),
    Anchor(
        "intraoral",
        rf"{_PERIAPICAL}fdi_exact_of_matched",
        "0.952",
        "",
        "numbering on periapicals, precision, 2025",
    ),
    Anchor("intraoral", r".*fdi_exact_of_matched", "0.95", "", "target of the project, real films"),
    Anchor("intraoral", rf"({_BITEWING})?fdi_ap50", "0.915", "", "bitewings, Mask R-CNN, mAP"),
    # caries
    Anchor(
        "intraoral",
        r"(bitewing_)?caries_surface_auroc_dentine",
        "0.90",
        "0.86",
        "histology-referenced, 2026",
    ),
    Anchor(
        "intraoral",
        r"(bitewing_)?caries_surface_auroc_enamel",
        "0.70",
        "0.64",
        "histology-referenced, 2026",
    ),
    Anchor(
        "intraoral",
        r"(bitewing_)?caries_surface_auroc",
        "0.872; with AI readers 0.89",
        "0.85",
        "Bayraktar 2021 (200 bitewings); Mertens 2021 (22 dentists)",
    ),
    Anchor(
        "intraoral",
        r"(bitewing_)?caries_surface_sensitivity_dentine.*",
        "0.84",
        "0.36–0.72",
        "Ammar 2024 meta-analysis; Schwendicke 2015, histology-referenced 2026",
    ),
    Anchor(
        "intraoral",
        r"(bitewing_)?caries_surface_sensitivity_enamel.*",
        "0.60–0.71",
        "0.42",
        "Ammar 2024 meta-analysis; histology-referenced 2026",
    ),
    Anchor(
        "intraoral",
        r"(bitewing_)?caries_surface_sensitivity.*",
        "0.72–0.94; assisted readers 0.81–0.86",
        "0.24–0.42; students 0.47; 0.61–0.72",
        "Bayraktar 2021, Chen 2022, Ammar 2024, Carvalho 2024, Mertens 2021, Envista 2024; "
        "Schwendicke 2015, Chen 2022, Envista 2024, Mertens 2021",
    ),
    Anchor(
        "intraoral",
        r"(bitewing_)?caries_surface_specificity.*",
        "0.83–0.98",
        "0.70–0.97",
        "Cantu 2020 (per tooth), Bayraktar 2021, Chen 2022, Ammar 2024, Carvalho 2024; "
        "Schwendicke 2015",
    ),
    Anchor(
        "intraoral",
        r"(bitewing_)?caries_w?afroc",
        "0.740",
        "0.667; with AI 0.739",
        "K213795 (AFROC)",
    ),
    Anchor(
        "intraoral",
        r"(bitewing_)?recurrent_caries_sensitivity_at_(review|high_specificity)",
        "0.33–0.49, specificity 0.96–0.99; 0.81",
        "",
        "eight products and research programs, 885 surfaces; Mask R-CNN Swin",
    ),
    Anchor(
        "intraoral",
        r"periapical_radiolucency_sensitivity_at_(review|high_specificity)",
        "0.68",
        "",
        "K221921",
    ),
    Anchor("intraoral", r"caries_sensitivity_at_(review|high_specificity)", "0.70", "", "K221921"),
    Anchor(
        "intraoral",
        r"angular_defect_sensitivity_at_(review|high_specificity)",
        "0.87 (accuracy, horizontal against angular)",
        "",
        "1,000 periapicals, 2025",
    ),
    Anchor(
        "intraoral", r".*caries_f1_iou_0\.1", "", "0.75", "experts among themselves, 100 bitewings"
    ),
    Anchor(
        "intraoral", r".*caries_f1_iou_0\.3", "", "0.56", "experts among themselves, 100 bitewings"
    ),
    Anchor(
        "intraoral", r".*caries_f1_iou_0\.5", "", "0.30", "experts among themselves, 100 bitewings"
    ),
    Anchor("panoramic_caries", r"caries_tooth_auroc", "0.881–0.960", "", "OdontoAI + DENTEX, AUC"),
    Anchor(
        "panoramic_caries", r"impacted_tooth_tooth_auroc", "0.996", "", "OdontoAI + DENTEX, AUC"
    ),
    Anchor(
        "panoramic_caries",
        r"periapical_radiolucency_tooth_auroc",
        "0.93–0.974",
        "",
        "meta-analysis 2026; OdontoAI + DENTEX",
    ),
    Anchor(
        "panoramic_caries",
        r"periapical_radiolucency_sensitivity_at_(review|threshold)",
        "0.80 (0.49–0.94)",
        "",
        "meta-analysis 2026, panoramics",
    ),
    Anchor("panoramic_caries", r"caries_f1_iou_0\.5", "0.66–0.68", "", "OdontoAI + DENTEX, F1"),
    Anchor(
        "panoramic_caries",
        r"caries_sensitivity_at_1_false_per_film",
        "0.82",
        "",
        "within one source; the project's target on another source is 0.5",
    ),
    # bone
    Anchor("intraoral", rf"{_PERIAPICAL}bone_mae_mm", "0.353", "", "K210187, periapicals"),
    Anchor("intraoral", r".*bone_mae_mm", "0.307 (periapicals 0.353)", "", "K210187"),
    Anchor(
        "intraoral",
        r".*bone_reported_of_3mm_or_more",
        "0.987 (periapicals 0.889)",
        "",
        "K210187, sensitivity",
    ),
    Anchor(
        "intraoral",
        r".*bone_unreported_of_2mm_or_less",
        "0.950 (periapicals 0.960)",
        "",
        "K210187, specificity",
    ),
    Anchor("intraoral", r".*bone_icc", "0.80–0.91", "", "Chang 2020; 1,000 periapicals, 2025"),
    Anchor("intraoral", r".*prck_0\.25", "0.726", "", "193 periapicals"),
    Anchor("intraoral", r".*prck_0\.05", "0.401", "", "193 periapicals"),
    # view
    Anchor(
        "triage",
        r"accuracy_panoramic_intraoral_other",
        "",
        "",
        "nothing comparable is published; the project's target on real films is 0.99",
    ),
)


def find(task: str, figure: str) -> Anchor | None:
    """Give the anchor of a figure, or None where nothing comparable is published."""
    return next(
        (a for a in ANCHORS if re.fullmatch(a.task, task) and re.fullmatch(a.figure, figure)), None
    )
