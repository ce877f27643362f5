"""Keys and receipts as Open Dental writes them."""

from __future__ import annotations

from node.errors import InvalidInput, Rejected
from pms_writeback.opendental.rows import Fields
from pms_writeback.pms import OutcomeUnknown, Receipt


def number(key: str) -> int:
    """Read a key as the number it is there; raises InvalidInput."""
    if not key.isascii() or not key.isdigit():
        raise InvalidInput("an Open Dental key is a number")
    return int(key)


def receipt(
    resource: str, key: str, row: Fields, patient_key: str, patient_field: str = "PatNum"
) -> Receipt:
    """Read where a write landed; an answer without a key leaves the outcome unknown."""
    if not row.key(key):
        raise OutcomeUnknown(f"Open Dental's answer to a write of {resource} has no {key}")
    if row.key(patient_field) not in ("", patient_key):
        raise Rejected(f"Open Dental filed {resource} {row.key(key)} under another patient")
    return Receipt(resource, row.key(key))
