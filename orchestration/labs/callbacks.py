"""A laboratory's words about a case, as JSON: from its webhook, its API or a file it leaves.

``{"id", "case", "status", "at", "lab_case"?, "eta"?, "tracking"?, "carrier"?, "note"?}``; times are
ISO with a zone. Other members are allowed and ignored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime

from node.errors import InvalidInput
from orchestration.labs.partner import LabUpdate
from orchestration.signatures import verify

#: A callback is a few hundred bytes; one that is longer is none.
MAX_BODY = 65_536


def read_callback(secret: str, body: bytes, signature: str, now: datetime) -> LabUpdate:
    """Verify a webhook call and read it.

    Raises
    ------
    Forbidden
        The laboratory did not sign it, or signed it long ago.
    InvalidInput
        It is no update.
    """
    if len(body) > MAX_BODY:
        raise InvalidInput("the laboratory's call is too long")
    verify(secret, body, signature, now)
    return read_update(body)


def read_update(body: bytes) -> LabUpdate:
    """Read an update whose origin is known; raises InvalidInput when it is none."""
    try:
        fields: object = json.loads(body)
    except (ValueError, RecursionError):
        raise InvalidInput("the laboratory's word is not JSON") from None
    return update_of(fields)


def update_of(fields: object) -> LabUpdate:
    """Read an update from its JSON value; raises InvalidInput when it is none."""
    if not isinstance(fields, Mapping):
        raise InvalidInput("the laboratory's word is not an object")
    at = _moment(fields, "at")
    if at is None:
        raise InvalidInput("the laboratory's word has no time")
    return LabUpdate(
        delivery_id=_text(fields, "id"),
        case_number=_text(fields, "case"),
        status=_text(fields, "status"),
        at=at,
        lab_case=_text(fields, "lab_case"),
        eta=_moment(fields, "eta"),
        tracking=_text(fields, "tracking"),
        carrier=_text(fields, "carrier"),
        note=_text(fields, "note"),
    )


def update_to_json(update: LabUpdate) -> dict[str, str]:
    """Encode an update as laboratories send it; what is empty is left out."""
    words = {
        "id": update.delivery_id,
        "case": update.case_number,
        "status": update.status,
        "at": update.at.isoformat(),
        "lab_case": update.lab_case,
        "eta": update.eta.isoformat() if update.eta else "",
        "tracking": update.tracking,
        "carrier": update.carrier,
        "note": update.note,
    }
    return {name: word for name, word in words.items() if word}


def _text(fields: Mapping[str, object], name: str) -> str:
    value = fields.get(name)
    if value is None:
        return ""
    if not isinstance(value, str) or "\x00" in value:
        raise InvalidInput(f"the laboratory's word has a wrong {name}")
    return value.strip()


def _moment(fields: Mapping[str, object], name: str) -> datetime | None:
    text = _text(fields, name)
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInput(f"the laboratory's word has a wrong {name}") from None
    if moment.tzinfo is None:
        raise InvalidInput(f"the laboratory's {name} has no zone")
    return moment
