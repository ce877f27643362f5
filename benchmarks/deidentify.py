"""How much of what identifies a person is taken out of synthetic dental notes before a prompt.

Notes are made from templates with a fixed seed; the places, people, dates and numbers put into
them are known, and none of the family and given names put in stand in the word lists that the
program uses. The rules were written with the first 40 templates in sight; the 20 held out were
written afterwards, in other words, and nothing was changed after looking at their result. Counted
is each identifier of which no part is left (``found``), and which share of the other words was
taken out too (``too much``). Once with the values that the practice knows of the patient, as the
program works, and once blind, on the forms alone. All notes are invented by us: notes of real
practices are worded in more ways, and more will be missed in them.
"""

from __future__ import annotations

import itertools
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from orchestration.deidentify import PLACEHOLDER, strip


def _list(text: str) -> tuple[str, ...]:
    """Split a list of names; ``_`` stands for a blank inside one."""
    return tuple(each.replace("_", " ") for each in text.split())


_GIVEN = _list(
    "Ximena Thaddeus Saoirse Bartholomew Ngozi Leocadia Anselm Tadhg Oksana Zephyrine "
    "Ibrahima Rosalind Evander Mireille Casimir Ottilie Bjorn Chidinma Lysander Marisol "
    "Fenella Gulsum Hakeem Iolanthe Jocasta Kwabena Ludmila Mordecai Nikolai Oluwaseun"
)
_FAMILY = _list(
    "Achterberg Blanchflower Czarnecki Dragomir Eskenazi Featherstone Gbadamosi Hrdlicka "
    "Ilunga Jaworski Kjeldsen Lindqvist Mbeki O'Shaughnessy Papadopoulos Quarshie Rautavaara "
    "Szymborska Thorvaldsen Umarov Vandersteen Wickramasinghe Xanthopoulos Yamagishi Zelenko "
    "Abernathy-Holt de_la_Cueva MacTavish van_Houten St._Clair"
)
_STREETS = _list("Wisteria Quarry Larkspur Tamarack Old_Mill Foxglove Ninth Granite Juniper")
_KINDS = _list("St Street Ave Avenue Rd. Blvd Lane Drive Ct Way")
_TOWNS = _list("Ashfordville Port_Meridian Cedar_Hollow Kinderhook Tallgrass")
_MONTHS = _list(
    "January February March April May June July August September October November December"
)

#: Identifiers stand in braces, by kind; everything else must stay.
TEMPLATES = tuple(
    line.strip()
    for line in """
    {name} presents with pain on chewing #30 for two weeks. Cold test positive, percussion positive.
    Pt {name}, DOB {date}, seen for limited exam. PA of #14 shows periapical radiolucency.
    {last_first} needs a crown on #19: fractured mesiobuccal cusp, 40 % sound tooth structure.
    Spoke with her mother {name}, who asked about cost. Estimate mailed to {address}.
    Referred by Dr. {family} for implant consult #8 and #9. CBCT taken {date}.
    Chart {chart}: D2740 planned on #3, buildup D2950. Probing 3-2-3, 4-3-5.
    Insurance member ID {member}, group {group}. Subscriber is the husband, {name}.
    Call back at {phone} after 4 pm. Prefers e-mail: {email}.
    Mr. {family} reports throbbing on the lower left. Tooth 36 tender to percussion, no swelling.
    {given} was anxious today; nitrous 30 %, tolerated well. Two carpules lidocaine 2 %.
    Films of {date} and {date} compared: bone loss 2.5 mm at the distal of #18.
    Patient's wife {given} called from {phone} about the temporary on #12.
    SSN {ssn} on the paper form was shredded. Account no. {account}.
    Lives at {address}, {town}, OR {zip}. Works nights, next visit in the morning.
    Dr. {name} removed #17 on {date}; healing within normal limits.
    RCT #5 started {date}, working length 21 mm, obturated with gutta percha.
    Extraction of 38 discussed with {given} and her son {given}. Consent signed by {name}.
    {title} {family} declined fluoride. Recall six months.
    Lab slip: crown 46, shade A2, patient {name}, due {date}.
    Patient aged {age} years, lives with daughter {name}. Partial denture reline.
    MRN {chart}; allergies: penicillin. Medication list from {given}'s pharmacy, fax {phone}.
    {name} paid by check #{check}. Policy {member} ended {date}.
    Pt states that {given} from the front desk told her to come. Sensitivity to cold upper right.
    See note of {date} by {name}, RDH: 6 mm pockets at #2 and #15, bleeding on probing.
    {upper} - perio maintenance, generalized 4 mm pockets, SRP quadrant completed.
    Emergency contact: {name}, {phone}. Relationship: sister.
    Photo uploaded to {link}. Composite #9 MIFL, shade A1.
    Claim {account} denied; narrative: existing crown #31 placed {year_month}, open margin distal.
    Seen with guardian {name} of {town}. Sealants 16, 26, 36 and 46.
    Since {short_date} the bridge 24 x 26 is loose. Recement or replace.
    {given} {family} will return for seat of #30. No changes in medical history.
    Message left for {title} {family} at {phone}; pre-authorization for D6010 approved.
    Driver license {licence} copied. Patient moved from {address}.
    Biopsy sent {date}; result to {email}.
    I saw {name} together with {given} today, both need bitewings.
    Night guard delivered to {name}. Bruxism, attrition of the anterior teeth.
    Thanks to {family} Dental Lab for the quick remake. Margins closed, contacts good.
    {name} c/o sore jaw; hx of trismus after wisdom teeth in {year_month}.
    Next visit {long_date} at 9:30 with Dr. {family}. Bring the retainer.
    Post and core #20, 2 mm ferrule, prognosis fair. Discussed with {given} on {short_date}.
    """.strip().splitlines()
)
#: Written after the rules, and not used to change them.
HELD_OUT = tuple(
    line.strip()
    for line in """
    Toothache UL since Tuesday, {name} says it wakes her at night. Vitality negative 25.
    {given} called to reschedule, best number {phone}, mailbox full so wrote to {email}.
    Consult letter from Dr {name} ({town}) scanned {date}. Agrees with extraction of 48.
    Crown #{check} at the lab of {family} Brothers; invoice {account}.
    Grandson {given} translated. Explained that #29 cannot be restored.
    Perio recheck: {name} improved at 11 sites, still bleeding at 3 and 14.
    Record transfer requested by {given} {family}, new address {address}, {town}, WA {zip}.
    Medicaid no. {member} verified {date} by {given}.
    Had a fall on {short_date}; chipped 11 and 21. Photo taken, {name} will think about bonding.
    Patient ({age} y/o) accompanied by {title} {family}.
    Denture adjustment, sore spot lower right. {name} happy, will call {phone} if it persists.
    Prescription for amoxicillin phoned to the pharmacy at {address}, attention {given}.
    {last_first}: no show {date}, second time. Fee waived by {family}.
    Employer {family} Plumbing covers two cleanings. Plan year starts {year_month}.
    Anesthesia: 1.7 mL articaine. {name} fainted briefly, BP 100/60, recovered in 5 minutes.
    Bone graft #13 with Dr. {family} on {long_date}; sutures out after ten days.
    Discussed whitening with {given}; she is getting married in {year_month}.
    SSN ending unknown, file number {chart}. Prior films at {town} Dental.
    Hx: bisphosphonates since {year_month} according to Dr. {name}, oncology.
    Mrs {name} and her neighbour {given} share a ride; book both on {date}.
    """.strip().splitlines()
)
_SLOT = re.compile(r"\{(\w+)\}")
_NAMED = {"name", "family", "given", "last_first", "upper"}
_PARTS = re.compile(r"[A-Za-z0-9']+")
_WORDS = re.compile(r"[A-Za-z0-9%#]+")


@dataclass(frozen=True, slots=True)
class Note:
    """One invented note: its text, its identifiers as (kind, value), what the practice knows."""

    text: str
    identifiers: tuple[tuple[str, str], ...]
    known: tuple[str, ...]

    @property
    def rest(self) -> str:
        """The words that identify nobody."""
        text = self.text
        for _, value in self.identifiers:
            text = text.replace(value, " ")
        return text


def notes(count: int, templates: Sequence[str] = TEMPLATES, seed: int = 20260302) -> Iterator[Note]:
    """Make invented notes, the same ones for a seed."""
    chance = random.Random(seed)
    for number in range(count):
        template = templates[number % len(templates)]
        given, family = chance.choice(_GIVEN), chance.choice(_FAMILY)
        found: list[tuple[str, str]] = []

        def fill(match: re.Match[str], given: str = given, family: str = family) -> str:
            kind, value = _value(match[1], chance, given, family)
            found.append((kind, value))  # noqa: B023 - used before the next note
            return value

        text = _SLOT.sub(fill, template)
        mine = {given, family, f"{given} {family}"}
        known = [value for kind, value in found if kind in ("chart", "phone", "email", "number")]
        yield Note(text, tuple(found), (*sorted(mine), *known))


def _value(slot: str, chance: random.Random, given: str, family: str) -> tuple[str, str]:
    """Give a slot's kind for the table, and what is put there."""
    other_given, other_family = chance.choice(_GIVEN), chance.choice(_FAMILY)
    if slot in _NAMED:
        if chance.random() < 0.5:
            given, family = other_given, other_family
        written = {
            "name": f"{given} {family}", "family": family, "given": given,
            "last_first": f"{family}, {given}", "upper": f"{family}, {given}".upper(),
        }[slot]  # fmt: skip
        return "name", written
    year, month, day = chance.randint(1940, 2026), chance.randint(1, 12), chance.randint(1, 28)
    digits = "".join(str(chance.randint(0, 9)) for _ in range(10))
    match slot:
        case "title":
            return "", chance.choice(("Mr.", "Mrs.", "Ms", "Dr"))
        case "date":
            forms = (
                f"{month:02}/{day:02}/{year}", f"{month}/{day}/{year % 100:02}",
                f"{year}-{month:02}-{day:02}", f"{month}-{day}-{year}", f"{day}.{month}.{year}",
                f"{_MONTHS[month - 1]} {day}, {year}", f"{_MONTHS[month - 1][:3]} {day} {year}",
            )  # fmt: skip
            return "date", chance.choice(forms)
        case "long_date":
            return "date", f"{_MONTHS[month - 1]} {day}{'th' if day > 3 else 'nd'}"
        case "short_date":
            return "date", f"{month}/{day}"
        case "year_month":
            return "date", f"{_MONTHS[month - 1]} {year}"
        case "phone":
            area, exchange, line = digits[:3], digits[3:6], digits[6:]
            forms = (
                f"({area}) {exchange}-{line}", f"{area}-{exchange}-{line}",
                f"{area}.{exchange}.{line}", f"+1 {area} {exchange} {line}", f"{exchange}-{line}",
            )  # fmt: skip
            return "phone", chance.choice(forms)
        case "email":
            return "email", f"{given.lower()}.{digits[:2]}@mail-{digits[2]}.example"
        case "link":
            return "link", f"https://files.example/{digits}"
        case "ssn":
            return "number", f"{digits[:3]}-{digits[3:5]}-{digits[5:9]}"
        case "chart":
            return "chart", chance.choice((digits[:4], digits[:6], f"A{digits[:5]}"))
        case "member":
            return "number", chance.choice((f"W{digits[:9]}", f"XYZ{digits[:8]}", digits))
        case "group" | "check":
            return "number", digits[:5]
        case "account":
            return "number", f"{digits[:4]}-{digits[4:8]}"
        case "licence":
            return "number", f"D{digits[:7]}"
        case "age":
            return "age", str(chance.randint(90, 104))
        case "address":
            street = chance.choice(_STREETS)
            return "address", f"{chance.randint(1, 9999)} {street} {chance.choice(_KINDS)}"
        case "town":
            return "town", chance.choice(_TOWNS)
        case "zip":
            return "address", digits[:5]
    raise AssertionError(slot)


@dataclass(frozen=True, slots=True)
class Measured:
    """Identifiers by kind and how many were found whole; words kept and taken besides."""

    total: Counter[str]
    found: Counter[str]
    others: int
    taken: int

    def recall(self, kind: str = "") -> float:
        """Share found, of one kind or of all."""
        if kind:
            return self.found[kind] / self.total[kind]
        return self.found.total() / self.total.total()

    @property
    def too_much(self) -> float:
        """Share of the other words that was taken out as well."""
        return self.taken / self.others


def measure(
    count: int, templates: Sequence[str] = TEMPLATES, *, is_blind: bool, seed: int = 20260302
) -> Measured:
    """Strip `count` notes, with or without what the practice knows, and count."""
    total: Counter[str] = Counter()
    found: Counter[str] = Counter()
    others = taken = 0
    for note in notes(count, templates, seed):
        left = strip(note.text, () if is_blind else note.known).text
        bare = set(_PARTS.findall(PLACEHOLDER.sub(" ", left)))
        rest = set(_PARTS.findall(note.rest))
        for kind, value in note.identifiers:
            if kind:
                total[kind] += 1
                parts = [each for each in _PARTS.findall(value) if len(each) > 2]
                is_left = bare.intersection(parts) - rest or f" {value} " in f" {left} "
                found[kind] += not is_left
        words = Counter(_WORDS.findall(note.rest))
        kept = Counter(_WORDS.findall(PLACEHOLDER.sub(" ", left)))
        others += words.total()
        taken += (words - kept).total()
    return Measured(total, found, others, taken)


def main() -> None:
    """Print the shares."""
    sets = (("seen", TEMPLATES), ("held out", HELD_OUT))
    for (name, templates), is_blind in itertools.product(sets, (False, True)):
        result = measure(2000, templates, is_blind=is_blind)
        print(f"templates {name},", "blind" if is_blind else "with what the practice knows")
        for kind in sorted(result.total):
            found, total = result.found[kind], result.total[kind]
            print(f"  {kind:<8} {found:>5} of {total:>5}  {found / total:.4f}")
        print(f"  all {result.recall():.4f}, too much {result.too_much:.4f} of {result.others}")


if __name__ == "__main__":
    main()
