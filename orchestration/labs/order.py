"""The order as other systems read it: who, what, which files, and how its validation went.

The JSON form is ``lab_order.v1.schema.json`` beside this file.
"""

from __future__ import annotations

from orchestration.labs.prescription import LabRx
from orchestration.labs.rulebook import Rulebook
from orchestration.labs.validation import ValidationResult


def order_to_json(
    rx: LabRx, result: ValidationResult, book: Rulebook, *, case_id: str, patient_id: str
) -> dict[str, object]:
    """Compose the order event; ids are opaque, teeth Universal, times ISO in UTC."""
    return {
        "event_type": "lab_order",
        "version": 1,
        "case_number": rx.case_number,
        "case_id": case_id,
        "patient_id": patient_id,
        "dentist_id": rx.dentist.provider_key,
        "lab_partner": rx.lab.key,
        "prescription": {
            "procedure": book.restorations[rx.restoration].label,
            "tooth": ",".join(tooth.universal for tooth in rx.teeth),
            "material": rx.material,
            "shade": rx.shade.value,
            "margin_type": rx.margin.design,
            "due_date": rx.due_at.isoformat() if rx.due_at else None,
        },
        "attachments": [
            {"name": each.name, "kind": each.kind.value, "sha256": each.sha256}
            for each in rx.attachments
        ],
        "validation_result": {
            "status": result.status.value,
            "checks_passed": list(result.checks_passed),
            "notes": list(result.notes),
        },
    }
