"""The 837 dental claim (005010X224A2); a predetermination is the same set with CLM19 ``PB``.

Teeth go out in the US Universal numbering (TOO01 ``JP``). What cannot be written faithfully is
named by :func:`problems` and refused by :func:`compose`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime

from node.domain.teeth import Surface
from node.errors import InvalidInput
from orchestration.payers.claim import (
    MAX_NARRATIVE,
    QUADRANTS,
    Address,
    Claim,
    Insurance,
    Line,
    Person,
    Practice,
    ToothAt,
    quadrant_of,
    surface_letter,
)
from orchestration.payers.segments import (
    Elements,
    Envelope,
    money,
    plain,
    segment,
    write_interchange,
)

VERSION = "005010X224A2"
MAX_LINES = 50
MAX_ATTACHMENTS = 10
MAX_TEETH = 32
_NTE = 80

_RELATIONSHIPS: dict[str, str] = {"self": "18", "spouse": "01", "child": "19", "other": "G8"}
_SCALING = "D4341"
_SCALING_FEW = "D4342"


def problems(claim: Claim) -> tuple[str, ...]:
    """Say everything for which a payer's front end would refuse the claim; no names in it."""
    return (*_of_claim(claim), *(p for line in claim.lines for p in _of_line(claim, line)))


def compose(claim: Claim, envelope: Envelope, submitter: str, receiver: str) -> str:
    """Write the claim as one interchange.

    ``submitter`` and ``receiver`` are the ids that the clearinghouse gave (NM109 of 41 and 40).

    Raises
    ------
    InvalidInput
        Something is missing or does not fit; the message lists all of it.
    """
    wrong = problems(claim)
    if wrong:
        raise InvalidInput("the claim cannot be sent: " + "; ".join(wrong))
    body = [
        *_head(claim, envelope.at, submitter, receiver),
        *_billing(claim.practice),
        *_parties(claim),
        *_claim(claim),
        *(row for number, line in enumerate(claim.lines, 1) for row in _line(number, line)),
    ]
    return write_interchange(envelope, "HC", VERSION, "837", [body])


# --- checks ---------------------------------------------------------------------------------------


def _of_claim(claim: Claim) -> Iterator[str]:
    if not re.fullmatch(r"[A-Za-z0-9\-]{1,20}", claim.id):
        yield "the claim's id is not 1 to 20 letters and digits"
    if not 1 <= len(claim.lines) <= MAX_LINES:
        yield f"a claim has 1 to {MAX_LINES} lines"
    if len({line.id for line in claim.lines}) != len(claim.lines):
        yield "two lines have the same id"
    is_predetermination = claim.kind == "predetermination"
    if is_predetermination and (claim.service_date or any(x.service_date for x in claim.lines)):
        yield "a predetermination has no date of service"
    if not is_predetermination and claim.service_date is None:
        yield "a claim needs its date of service"
    if len(claim.attachments) > MAX_ATTACHMENTS:
        yield f"a claim names at most {MAX_ATTACHMENTS} attachments"
    if any(a.transmission == "EL" and not a.control_number for a in claim.attachments):
        yield "an electronic attachment needs its control number"
    if any(not re.fullmatch(r"[A-Za-z0-9#\-]{0,50}", a.control_number) for a in claim.attachments):
        yield "an attachment control number is at most 50 letters and digits"
    if len(plain(claim.narrative, len(claim.narrative))) > MAX_NARRATIVE:
        yield f"a narrative has at most {MAX_NARRATIVE} characters"
    if len(claim.missing_teeth) > 35:
        yield "a claim names at most 35 missing teeth"
    if claim.frequency != "1" and not claim.payer_claim_number:
        yield "a replacement or void names the payer's claim number"
    if claim.insurance.subscriber.address is None or claim.patient.address is None:
        yield "an address is missing"
    if claim.insurance.relationship == "self" and claim.patient != claim.insurance.subscriber:
        yield "the patient is the subscriber, but the two differ"


def _of_line(claim: Claim, line: Line) -> Iterator[str]:
    name = f"line {line.id}"
    if line.fee < 0 or line.fee != round(line.fee, 2):
        yield f"{name}: a fee is 0 or more, in cents"
    if not 1 <= line.units <= 99:
        yield f"{name}: units are 1 to 99"
    if line.placement == "R" and line.prior_placement is None:
        yield f"{name}: a replacement needs the date of the prior placement"
    if len(line.teeth) > MAX_TEETH:
        yield f"{name}: at most {MAX_TEETH} teeth"
    missing = set(claim.missing_teeth)
    for each in line.teeth:
        yield from (f"{name}: {text}" for text in _of_surfaces(each))
        if line.cdt_code in (_SCALING, _SCALING_FEW) and each.tooth in missing:
            yield f"{name}: tooth {each.tooth.universal} is missing"
    if line.cdt_code == _SCALING and line.area not in QUADRANTS.values():
        yield f"{name}: {_SCALING} names exactly one quadrant"
    if line.cdt_code == _SCALING and line.teeth:
        yield f"{name}: {_SCALING} names no teeth"
    if line.cdt_code == _SCALING_FEW:
        yield from _of_few(name, line)


def _of_surfaces(each: ToothAt) -> Iterator[str]:
    allowed = {Surface.MESIAL, Surface.DISTAL, Surface.LINGUAL, Surface.BUCCAL}
    allowed.add(Surface.OCCLUSAL if each.tooth.is_posterior else Surface.INCISAL)
    if not set(each.surfaces) <= allowed:
        yield f"tooth {each.tooth.universal} has no such surface"
    if len(set(each.surfaces)) != len(each.surfaces):
        yield f"a surface of tooth {each.tooth.universal} stands twice"


def _of_few(name: str, line: Line) -> Iterator[str]:
    if line.area not in QUADRANTS.values():
        yield f"{name}: {_SCALING_FEW} names its quadrant"
    if not 1 <= len(line.teeth) <= 3:
        yield f"{name}: {_SCALING_FEW} names one to three teeth"
    if any(quadrant_of(each.tooth) is not line.area for each in line.teeth):
        yield f"{name}: a tooth lies outside the quadrant"


# --- segments -------------------------------------------------------------------------------------


def _head(claim: Claim, at: datetime, submitter: str, receiver: str) -> Iterator[Elements]:
    yield segment("BHT", "0019", "00", claim.id, f"{at:%Y%m%d}", f"{at:%H%M}", "CH")
    name = plain(claim.practice.name, 60)
    yield segment("NM1", "41", "2", name, "", "", "", "", "46", submitter)
    yield segment("PER", "IC", "OFFICE", "TE", claim.practice.phone)
    yield segment("NM1", "40", "2", "CLEARINGHOUSE", "", "", "", "", "46", receiver)


def _billing(practice: Practice) -> Iterator[Elements]:
    yield segment("HL", "1", "", "20", "1")
    yield segment("PRV", "BI", "PXC", practice.taxonomy)
    name = plain(practice.name, 60)
    yield segment("NM1", "85", "2", name, "", "", "", "", "XX", practice.npi)
    yield from _address(practice.address)
    yield segment("REF", "EI", practice.tax_id)


def _parties(claim: Claim) -> Iterator[Elements]:
    insurance = claim.insurance
    is_self = insurance.relationship == "self"
    yield segment("HL", "2", "1", "22", "0" if is_self else "1")
    group = plain(insurance.group_number, 50)
    relationship = "18" if is_self else ""
    yield segment("SBR", insurance.sequence, relationship, group, "", "", "", "", "", "CI")
    yield from _person("IL", insurance.subscriber, insurance.member_id)
    payer = plain(insurance.payer_name, 60)
    yield segment("NM1", "PR", "2", payer, "", "", "", "", "PI", insurance.payer_id)
    if not is_self:
        yield segment("HL", "3", "2", "23", "0")
        yield segment("PAT", _RELATIONSHIPS[insurance.relationship])
        yield from _person("QC", claim.patient, "")


def _person(role: str, person: Person, member_id: str) -> Iterator[Elements]:
    family, given = plain(person.family_name, 60), plain(person.given_name, 35)
    qualifier = "MI" if member_id else ""
    yield segment("NM1", role, "1", family, given, "", "", "", qualifier, member_id)
    if person.address is not None:
        yield from _address(person.address)
    yield segment("DMG", "D8", f"{person.birth_date:%Y%m%d}", person.gender)


def _address(address: Address) -> Iterator[Elements]:
    yield segment("N3", plain(address.street, 55))
    yield segment("N4", plain(address.city, 30), address.state, address.postal_code)


def _claim(claim: Claim) -> Iterator[Elements]:
    place = f"{claim.place_of_service}:B:{claim.frequency}"
    ending = ("",) * 9 + ("PB",) if claim.kind == "predetermination" else ()
    yield segment("CLM", claim.id, money(claim.total), "", "", place, "Y", "A", "Y", "Y", *ending)
    if claim.service_date:
        yield segment("DTP", "472", "D8", f"{claim.service_date:%Y%m%d}")
    for tooth in claim.missing_teeth:
        yield segment("DN2", tooth.universal, "M", "", "", "", "JP")
    for each in claim.attachments:
        qualifier = "AC" if each.control_number else ""
        yield segment(
            "PWK", each.report.value, each.transmission, "", "", qualifier, each.control_number
        )
    if claim.predetermination_id:
        yield segment("REF", "G3", plain(claim.predetermination_id, 50))
    if claim.payer_claim_number:
        yield segment("REF", "F8", plain(claim.payer_claim_number, 50))
    for part in narrative_parts(claim.narrative):
        yield segment("NTE", "ADD", part)
    dentist = claim.treating
    names = (plain(dentist.family_name, 60), plain(dentist.given_name, 35))
    yield segment("NM1", "82", "1", *names, "", "", "", "XX", dentist.npi)
    yield segment("PRV", "PE", "PXC", dentist.taxonomy)
    if claim.other is not None:
        yield from _other(claim.other)


def _other(insurance: Insurance) -> Iterator[Elements]:
    """Name the insurance that pays next (2320, 2330A, 2330B), so that benefits are coordinated."""
    group = plain(insurance.group_number, 50)
    relationship = _RELATIONSHIPS[insurance.relationship]
    yield segment("SBR", insurance.sequence, relationship, group, "", "", "", "", "", "CI")
    yield segment("OI", "", "", "Y", "", "", "Y")
    person = insurance.subscriber
    family, given = plain(person.family_name, 60), plain(person.given_name, 35)
    yield segment("NM1", "IL", "1", family, given, "", "", "", "MI", insurance.member_id)
    if person.address is not None:
        yield from _address(person.address)
    payer = plain(insurance.payer_name, 60)
    yield segment("NM1", "PR", "2", payer, "", "", "", "", "PI", insurance.payer_id)


def narrative_parts(text: str) -> tuple[str, ...]:
    """Cut a narrative into at most five parts of eighty characters, at blanks where possible.

    Where words do not fit the five parts, they are cut hard, so that nothing is lost.
    """
    words = plain(text, MAX_NARRATIVE)
    parts: list[str] = []
    rest = words
    while rest:
        cut = rest[:_NTE]
        if len(rest) > _NTE and rest[_NTE] != " " and " " in cut:
            cut = cut[: cut.rfind(" ")]
        parts.append(cut.strip())
        rest = rest[len(cut) :].strip()
    if len(parts) <= MAX_NARRATIVE // _NTE:
        return tuple(parts)
    return tuple(words[at : at + _NTE] for at in range(0, len(words), _NTE))


def _line(number: int, line: Line) -> Iterator[Elements]:
    yield segment("LX", str(number))
    area = line.area.value if line.area else ""
    fee, units = money(line.fee), str(line.units)
    yield segment("SV3", f"AD:{line.cdt_code}", fee, "", area, line.placement, units)
    for each in line.teeth:
        letters = ":".join(surface_letter(s, each.tooth) for s in each.surfaces)
        yield segment("TOO", "JP", each.tooth.universal, letters)
    if line.service_date:
        yield segment("DTP", "472", "D8", f"{line.service_date:%Y%m%d}")
    if line.prior_placement:
        yield segment("DTP", "441", "D8", f"{line.prior_placement:%Y%m%d}")
    yield segment("REF", "6R", line.id)
