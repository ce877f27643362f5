"""Keys and receipts as Open Dental writes them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from node.errors import InvalidInput, Rejected, Retryable
from pms_writeback.opendental.rows import Fields
from pms_writeback.pms import OutcomeUnknown, Receipt


def number(key: str) -> int:
    """Read a key as the number it is there; raises InvalidInput."""
    if not key.isascii() or not key.isdigit():
        raise InvalidInput("an Open Dental key is a number")
    return int(key)


@contextmanager
def once_sent(what: str) -> Iterator[None]:
    """Turn "later" into "outcome unknown" where a first write has landed and a step follows it."""
    try:
        yield
    except OutcomeUnknown:
        raise
    except Retryable as error:
        raise OutcomeUnknown(f"{what}: {error}", error.retry_after_s) from error


def receipt(
    resource: str, key: str, row: Fields, patient_key: str, patient_field: str = "PatNum"
) -> Receipt:
    """Read where a write landed; an answer without a key leaves the outcome unknown."""
    if not row.key(key):
        raise OutcomeUnknown(f"Open Dental's answer to a write of {resource} has no {key}")
    if row.key(patient_field) not in ("", patient_key):
        raise Rejected(f"Open Dental filed {resource} {row.key(key)} under another patient")
    return Receipt(resource, row.key(key))
