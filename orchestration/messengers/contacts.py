"""How a patient is reached, and what people chose: rows of ours, read and kept.

A choice is kept for the address that it came from and for every patient who was written to there,
so that an opt-out holds at once for all ways and all members of a family who share a number.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

import sqlalchemy as sa

from node.db.session import Tx, insert_once, new_id
from node.db.tables import contact_choice, message, patient, patient_contact, patient_identity
from orchestration.messengers.consent import Choice, Contact, age_on
from orchestration.messengers.message import address_digest, email_address, mobile_number

_ADULT = 18


@dataclass(frozen=True, slots=True)
class Reached:
    """Whose address is used for a patient: their own, or that of who answers for a minor."""

    contact: Contact
    owner_id: str
    first_name: str
    age: int | None
    is_active: bool


def reach(conn: sa.Connection, location_id: str, patient_id: str, today: date) -> Reached | None:
    """Read how a patient is reached; None when there is no such patient at this location.

    The messages of somebody under 18 go to the guarantor where there is one, who must be of age.
    One who was merged is followed; one who was deleted counts no more.
    """
    own = _row(conn, location_id, patient.c.id == patient_id)
    if own is None:
        return None
    age = None if own.birth_date is None else age_on(own.birth_date, today)
    owner = own
    if age is not None and age < _ADULT and own.guarantor_key not in (None, "", own.pms_key):
        found = _row(conn, location_id, patient.c.pms_key == own.guarantor_key)
        if found is not None and found.merged_into is not None:
            found = _row(conn, location_id, patient.c.id == found.merged_into)
        is_there = found is not None and found.tombstoned_at is None
        if found is not None and is_there and not _is_minor(found.birth_date, today):
            owner = found
    contact = Contact(
        email=owner.email or "",
        mobile=owner.mobile or "",
        text_allowed=owner.text_allowed or "",
        recall_method=owner.recall_method or "",
        contact_method=owner.contact_method or "",
        language=owner.language or "",
    )
    is_active = own.status == "active" and own.tombstoned_at is None
    return Reached(contact, owner.id, owner.given_name, age, is_active)


def choices(
    conn: sa.Connection, location_id: str, patient_ids: Iterable[str], contact: Contact
) -> list[Choice]:
    """Read what was chosen by these patients or from the contact's addresses, in their order."""
    columns = contact_choice.c
    rows = conn.execute(
        sa.select(columns.scope, columns.choice, columns.at)
        .where(
            columns.location_id == location_id,
            sa.or_(
                columns.patient_id.in_(list(patient_ids)),
                columns.address_digest.in_(_digests(contact)),
            ),
        )
        .order_by(columns.at)
    )
    return [Choice(row.scope, row.choice, row.at) for row in rows]


def keep_choice(
    tx: Tx,
    key: str,
    *,
    scope: str,
    choice: str,
    source: str,
    patient_id: str | None = None,
    digest: str = "",
) -> bool:
    """Keep a choice under `key`, for an address by its digest and all who were written to there.

    Returns False when the key was kept before: then nothing is done.
    """
    common: dict[str, object] = {
        "location_id": tx.location_id,
        "scope": scope,
        "choice": choice,
        "source": source[:32],
        "at": tx.now,
    }
    first = {**common, "id": new_id(), "key": key[:128], "patient_id": patient_id}
    if not insert_once(tx.conn, contact_choice, {**first, "address_digest": digest}):
        return False
    others = written_to(tx.conn, tx.location_id, digest) - {patient_id} if digest else set()
    for other in sorted(others):
        row = {**common, "id": new_id(), "key": f"{key[:95]}:{other}", "patient_id": other}
        insert_once(tx.conn, contact_choice, row)
    tx.record("contact", choice=choice, scope=scope, source=source, patients=len(others))
    return True


def written_to(conn: sa.Connection, location_id: str, digest: str) -> set[str]:
    """Find the patients about whom messages went to an address."""
    rows = conn.execute(
        sa.select(message.c.patient_id)
        .where(
            message.c.location_id == location_id,
            message.c.address_digest == digest,
            message.c.patient_id.is_not(None),
        )
        .distinct()
    )
    return {str(each) for each in rows.scalars()}


def _row(  # SQLAlchemy's Row is generic over its columns.
    conn: sa.Connection, location_id: str, where: sa.ColumnElement[bool]
) -> sa.Row | None:  # type: ignore[type-arg]
    contact = [column for column in patient_contact.c if column.name.endswith("_key")]
    contact += [
        patient_contact.c[name]
        for name in ("email", "mobile", "text_allowed", "recall_method", "contact_method")
    ]
    return conn.execute(
        sa.select(
            patient.c.id,
            patient.c.pms_key,
            patient.c.status,
            patient.c.tombstoned_at,
            patient.c.merged_into,
            patient_identity.c.given_name,
            patient_identity.c.birth_date,
            patient_contact.c.language,
            *contact,
        )
        .join(patient_identity, patient_identity.c.patient_id == patient.c.id)
        .outerjoin(patient_contact, patient_contact.c.patient_id == patient.c.id)
        .where(patient.c.location_id == location_id, where)
    ).first()


def _is_minor(birth_date: date | None, today: date) -> bool:
    return birth_date is not None and age_on(birth_date, today) < _ADULT


def _digests(contact: Contact) -> list[str]:
    found = (email_address(contact.email), mobile_number(contact.mobile))
    return [address_digest(each) for each in found if each]
