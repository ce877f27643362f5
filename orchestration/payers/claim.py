"""A claim or a predetermination as values: who asks whom, for whom, and for what.

Teeth are ours (ISO 3950); they go out in the US Universal numbering. A value is valid once made;
whether a claim as a whole would be taken is said by `orchestration.payers.claim837.problems`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import Literal

from node.domain.teeth import Arch, Surface, Tooth
from node.errors import InvalidInput
from orchestration.payers.segments import plain

#: Most characters of the narrative on a claim: five NTE of eighty.
MAX_NARRATIVE = 400


class Area(StrEnum):
    """Part of the mouth (SV304)."""

    MOUTH = "00"
    MAXILLA = "01"
    MANDIBLE = "02"
    UPPER_RIGHT = "10"
    UPPER_LEFT = "20"
    LOWER_LEFT = "30"
    LOWER_RIGHT = "40"


QUADRANTS: dict[int, Area] = {
    1: Area.UPPER_RIGHT,
    2: Area.UPPER_LEFT,
    3: Area.LOWER_LEFT,
    4: Area.LOWER_RIGHT,
}


class Report(StrEnum):
    """What an attachment is (PWK01)."""

    FILMS = "RB"
    PERIO_CHART = "P6"
    MODELS = "DA"
    DIAGNOSTIC = "DG"
    RADIOLOGY = "RR"
    OTHER_EOB = "EB"
    REFERRAL = "B4"
    OTHER = "OZ"


Transmission = Literal["AA", "BM", "EL", "EM", "FT", "FX"]
Relationship = Literal["self", "spouse", "child", "other"]
Kind = Literal["predetermination", "claim"]


@dataclass(frozen=True, slots=True)
class Address:
    """A US address; ``postal_code`` is 5 or 9 digits."""

    street: str = field(repr=False)
    city: str = field(repr=False)
    state: str = field(repr=False)
    postal_code: str = field(repr=False)

    def __post_init__(self) -> None:
        if not (plain(self.street, 55) and plain(self.city, 30)):
            raise InvalidInput("an address needs a street and a city")
        if not re.fullmatch(r"[A-Z]{2}", self.state):
            raise InvalidInput("an address needs a state of two letters")
        if not re.fullmatch(r"\d{5}(\d{4})?", self.postal_code):
            raise InvalidInput("a ZIP code has 5 or 9 digits")


@dataclass(frozen=True, slots=True)
class Person:
    """A person as the payer knows them; ``gender`` is F, M or U. A claim needs the address."""

    family_name: str = field(repr=False)
    given_name: str = field(repr=False)
    birth_date: date = field(repr=False)
    gender: Literal["F", "M", "U"] = field(repr=False)
    address: Address | None = field(repr=False)

    def __post_init__(self) -> None:
        if not plain(self.family_name, 60):
            raise InvalidInput("a person on a claim needs a family name")


@dataclass(frozen=True, slots=True)
class Practice:
    """The billing provider; ``tax_id`` is the employer's nine digits."""

    name: str
    npi: str
    tax_id: str
    taxonomy: str
    address: Address
    phone: str

    def __post_init__(self) -> None:
        check_npi(self.npi)
        if not re.fullmatch(r"\d{9}", self.tax_id):
            raise InvalidInput("a tax id has nine digits")
        if len(self.address.postal_code) != 9:
            raise InvalidInput("the billing address needs a ZIP code of nine digits")
        if not re.fullmatch(r"\d{10}", self.phone):
            raise InvalidInput("a telephone number has ten digits")
        _check_taxonomy(self.taxonomy)


@dataclass(frozen=True, slots=True)
class Dentist:
    """The treating dentist."""

    family_name: str
    given_name: str
    npi: str
    taxonomy: str

    def __post_init__(self) -> None:
        check_npi(self.npi)
        _check_taxonomy(self.taxonomy)


@dataclass(frozen=True, slots=True)
class Insurance:
    """Who pays for whom; ``subscriber`` is the patient unless ``relationship`` says otherwise."""

    payer_name: str
    payer_id: str
    member_id: str = field(repr=False)
    group_number: str
    subscriber: Person = field(repr=False)
    relationship: Relationship = "self"
    sequence: Literal["P", "S", "T"] = "P"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9]{2,80}", self.payer_id):
            raise InvalidInput("a payer id is letters and digits")
        if not re.fullmatch(r"[A-Za-z0-9\-]{2,80}", self.member_id):
            raise InvalidInput("a member id is letters and digits")


@dataclass(frozen=True, slots=True)
class ToothAt:
    """One tooth of a line with its surfaces."""

    tooth: Tooth
    surfaces: tuple[Surface, ...] = ()


@dataclass(frozen=True, slots=True)
class Line:
    """One procedure; ``id`` comes back as REF*6R in the answer.

    ``placement`` is I (initial) or R (replacement, with ``prior_placement``) for prostheses and
    crowns, empty where it has no meaning.
    """

    id: str
    cdt_code: str
    fee: Decimal
    teeth: tuple[ToothAt, ...] = ()
    area: Area | None = None
    placement: Literal["", "I", "R"] = ""
    prior_placement: date | None = None
    units: int = 1
    service_date: date | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9\-]{1,30}", self.id):
            raise InvalidInput("a line's id is 1 to 30 letters and digits")
        if not re.fullmatch(r"D\d{4}", self.cdt_code):
            raise InvalidInput("a procedure code is D and four digits")


@dataclass(frozen=True, slots=True)
class Attachment:
    """A document sent apart (PWK); electronic ones carry the control number they went under."""

    report: Report
    transmission: Transmission
    control_number: str = ""


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim or a predetermination; ``id`` is CLM01, our key, at most 20 characters.

    ``frequency`` is 1 original, 7 replacement, 8 void; the latter two name the payer's claim.
    """

    id: str
    kind: Kind
    practice: Practice
    treating: Dentist
    insurance: Insurance  # whom the claim goes to
    patient: Person = field(repr=False)
    lines: tuple[Line, ...] = field(repr=False)
    narrative: str = field(default="", repr=False)
    attachments: tuple[Attachment, ...] = ()
    missing_teeth: tuple[Tooth, ...] = ()
    service_date: date | None = None
    frequency: Literal["1", "7", "8"] = "1"
    payer_claim_number: str = ""
    predetermination_id: str = ""
    place_of_service: str = "11"
    other: Insurance | None = None  # who pays after it

    @property
    def total(self) -> Decimal:
        """Sum of the lines' fees (CLM02)."""
        return sum((line.fee for line in self.lines), Decimal(0))


def check_npi(npi: str) -> None:
    """Refuse what is no National Provider Identifier (Luhn over 80840 and the number)."""
    if not re.fullmatch(r"\d{10}", npi) or _luhn("80840" + npi) != 0:
        raise InvalidInput("not a National Provider Identifier: its check digit does not fit")


def quadrant_of(tooth: Tooth) -> Area:
    """Give the quadrant a tooth stands in, permanent or deciduous."""
    return QUADRANTS[(tooth.quadrant - 1) % 4 + 1]


def arch_of(tooth: Tooth) -> Area:
    """Give the jaw a tooth stands in."""
    return Area.MAXILLA if tooth.arch is Arch.UPPER else Area.MANDIBLE


def _check_taxonomy(code: str) -> None:
    if not re.fullmatch(r"[A-Z0-9]{9}X", code):
        raise InvalidInput("a provider taxonomy is nine letters and digits and an X")


def _luhn(digits: str) -> int:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if place % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10


def surface_letter(surface: Surface, tooth: Tooth) -> str:
    """Give the claim's letter: the outer surface is B behind and F in front."""
    if surface is Surface.BUCCAL:
        return "B" if tooth.is_posterior else "F"
    return str(surface.value)


def read_surfaces(letters: str) -> tuple[Surface, ...]:
    """Read claim letters such as ``MOD``; F and V are the outer surface.

    Raises InvalidInput for any other letter.
    """
    same = {"F": "B", "V": "B"}
    try:
        return tuple(Surface(same.get(letter, letter)) for letter in letters.upper())
    except ValueError:
        raise InvalidInput("not tooth surfaces in claim letters") from None
