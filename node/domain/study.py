"""States of studies and images, and how a person's name is compared."""

from __future__ import annotations

import re
import unicodedata
from enum import StrEnum

#: By how many letters of the family name people can be looked for where names are sealed.
START_CHARS = 3


class StudyState(StrEnum):
    """Where a study stands on its way to a signature."""

    RECEIVING = "receiving"
    COMPLETE = "complete"  # quiet time is over; analysis may still run
    READY = "ready"  # everything analysed (or failed with a reason): may be read and signed
    SIGNED = "signed"


class InstanceState(StrEnum):
    """Where one image stands."""

    RECEIVED = "received"
    ANALYSED = "analysed"
    UNREADABLE = "unreadable"  # no pixels could be decoded; the reason is in `failure`
    FAILED = "failed"  # the models failed; may be retried
    NOT_AN_IMAGE = "not_an_image"
    REJECTED = "rejected"  # withdrawn by its sender (node.dicom.withdrawal)


#: Images that nobody is shown.
NOT_SHOWN = (InstanceState.NOT_AN_IMAGE.value, InstanceState.REJECTED.value)


class MatchState(StrEnum):
    """How sure the node is whose study this is. Only MATCHED and LINKED may reach a chart."""

    PENDING = "pending"
    MATCHED = "matched"  # accession, worklist UID or patient ID, and name and birth date agree
    LINKED = "linked"  # a person linked it
    SUGGESTED = "suggested"  # name, birth date and day agree: a person must confirm
    AMBIGUOUS = "ambiguous"  # contradicting or several candidates
    UNMATCHED = "unmatched"  # nobody fits

    @property
    def is_certain(self) -> bool:
        """Whether the chart may be written."""
        return self in (MatchState.MATCHED, MatchState.LINKED)


def name_key(family: str, given: str) -> str:
    """Fold a name for comparison: no accents, case, punctuation or middle names.

    ``O'Brien-Smith, Anna Maria`` becomes ``obriensmith^anna``. Source of the need: vendors write
    ``LAST, FIRST``, titles and upper case; the stored name stays verbatim.
    """
    first = given.strip().split()[0] if given.strip() else ""
    return f"{_fold(family)}^{_fold(first)}"


def name_start(key: str) -> str:
    """Take what people are looked for by from a folded name: its first three letters."""
    return key.partition("^")[0][:START_CHARS]


def dicom_name_key(person_name: str) -> str:
    """Fold a DICOM PN (``Family^Given^Middle``) or a ``Family, Given`` text like name_key."""
    alphabetic = person_name.split("=")[0]
    separator = "^" if "^" in alphabetic else ","
    parts = [*alphabetic.split(separator), "", ""]
    return name_key(parts[0], parts[1])


def _fold(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text.casefold())
    return re.sub(r"[\W_]+", "", "".join(c for c in plain if not unicodedata.combining(c)))
