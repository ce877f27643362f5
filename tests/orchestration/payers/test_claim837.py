"""The 837D as an independent validator and our own reader see it."""

from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from node.domain.teeth import Surface, Tooth
from node.errors import InvalidInput
from orchestration.payers import claim837, segments
from orchestration.payers.claim import (
    Area,
    Attachment,
    Claim,
    Line,
    Person,
    Report,
    ToothAt,
    check_npi,
)
from tests.orchestration.payers.dental_map import build, validate
from tests.orchestration.payers.examples import (
    CROWN,
    ENVELOPE,
    FILLING,
    HOME,
    INSURANCE,
    PATIENT,
    SECOND,
    predetermination,
)


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("maps") / "map")


def write(claim: Claim) -> str:
    return claim837.compose(claim, ENVELOPE, "TGJ23", "66783JJT")


CHILD = Person("Doe", "Max", date(2015, 5, 5), "M", HOME)
SCALING = Line("1", "D4341", Decimal(280), area=Area.UPPER_RIGHT)
SCALING_FEW = Line("2", "D4342", Decimal(180), (ToothAt(Tooth("36")),), Area.LOWER_LEFT)
REPLACED = replace(CROWN, placement="R", prior_placement=date(2015, 4, 1))
ACCEPTED = {
    "predetermination": predetermination(),
    "lines": predetermination(CROWN, FILLING, SCALING, SCALING_FEW),
    "replacement crown": predetermination(REPLACED),
    "claim": predetermination(
        kind="claim", service_date=date(2026, 3, 1), predetermination_id="PRE77"
    ),
    "dependant": predetermination(
        patient=CHILD, insurance=replace(INSURANCE, relationship="child")
    ),
    "bare": predetermination(attachments=(), missing_teeth=(), narrative=""),
    "longest narrative": predetermination(narrative="x" * 400),
    "milk tooth": predetermination(
        replace(FILLING, teeth=(ToothAt(Tooth("75"), (Surface.BUCCAL,)),))
    ),
    "supernumerary": predetermination(
        replace(FILLING, teeth=(ToothAt(Tooth("11", supernumerary=True), (Surface.INCISAL,)),))
    ),
    "second insurance": predetermination(other=SECOND),
    "second insurance of a spouse": predetermination(
        other=replace(SECOND, relationship="spouse", group_number="")
    ),
    "correction": predetermination(frequency="7", payer_claim_number="ICN1"),
}


@pytest.mark.parametrize("name", list(ACCEPTED))
def test_an_independent_validator_accepts_what_we_write(name: str, maps: Path) -> None:
    accepted, answer = validate(write(ACCEPTED[name]), maps)
    assert accepted, answer


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("DN2*1*M****JP", "DN2*1*M"),
        ("PWK*RB*EL", "PWK*QQ*EL"),
        ("SV3*AD:", "SV3*HC:"),
        ("**********PB", "**********ZZ"),
        ("SV3*AD:D2740*1450***I*1~\n", ""),
        ("SE*", "SE*9"),
    ],
)
def test_the_validator_is_not_blind(old: str, new: str, maps: Path) -> None:
    text = write(predetermination())
    assert old in text
    accepted, _ = validate(text.replace(old, new), maps)
    assert not accepted


def test_a_predetermination_says_so_and_bears_no_date_of_service() -> None:
    (interchange,) = segments.read_interchanges(write(predetermination(CROWN, FILLING)))
    assert interchange.problems == ()
    (sent,) = interchange.transactions("837")
    rows = {row.id: row for row in sent.segments}
    assert rows["CLM"].raw(19) == "PB"
    assert rows["CLM"].value(2) == "1700.5"
    assert "DTP" not in rows
    assert [r.raw(2) for r in sent.segments if r.id == "REF" and r.raw(1) == "6R"] == [
        "4711",
        "4712",
    ]
    assert rows["TOO"].parts(3) == ("M", "O")
    assert rows["TOO"].value(2) == "19"


def test_the_narrative_is_cut_at_words_and_kept_whole() -> None:
    words = " ".join(f"word{n}" for n in range(60))[:400]
    parts = claim837.narrative_parts(words)
    assert len(parts) <= 5
    assert all(len(part) <= 80 for part in parts)
    assert "".join(parts).replace(" ", "") == words.upper().replace(" ", "")


WRONG = {
    "date of service": predetermination(service_date=date(2026, 1, 1)),
    "needs its date": predetermination(kind="claim"),
    "prior placement": predetermination(replace(CROWN, placement="R")),
    "control number": predetermination(attachments=(Attachment(Report.FILMS, "EL"),)),
    "no such surface": predetermination(
        replace(FILLING, teeth=(ToothAt(Tooth("36"), (Surface.INCISAL,)),))
    ),
    "exactly one quadrant": predetermination(replace(SCALING, area=None)),
    "names no teeth": predetermination(replace(SCALING, teeth=(ToothAt(Tooth("16")),))),
    "one to three teeth": predetermination(replace(SCALING_FEW, teeth=())),
    "outside the quadrant": predetermination(replace(SCALING_FEW, teeth=(ToothAt(Tooth("46")),))),
    "payer's claim number": predetermination(frequency="8"),
    "at most 400": predetermination(narrative="long " * 81),
    "same id": predetermination(CROWN, CROWN),
    "1 to 50 lines": predetermination(*(replace(CROWN, id=str(n)) for n in range(51))),
    "in cents": predetermination(replace(CROWN, fee=Decimal("1.005"))),
    "the two differ": predetermination(patient=CHILD),
    "is missing": predetermination(replace(SCALING_FEW, teeth=(ToothAt(Tooth("38")),)),
                                   missing_teeth=(Tooth("38"),)),
}  # fmt: skip


@pytest.mark.parametrize("reason", list(WRONG))
def test_what_a_payer_would_refuse_is_refused_here(reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        write(WRONG[reason])


def test_a_delimiter_in_a_name_cannot_break_the_file() -> None:
    evil = replace(PATIENT, family_name="D~OE*ST:^", given_name="Zoë")
    claim = predetermination(patient=evil, insurance=replace(INSURANCE, subscriber=evil))
    (interchange,) = segments.read_interchanges(write(claim))
    (sent,) = interchange.transactions("837")
    (name,) = [row for row in sent.segments if row.id == "NM1" and row.raw(1) == "IL"]
    assert (name.raw(3), name.raw(4)) == ("D OE ST", "ZOE")


@pytest.mark.parametrize("npi", ["1234567890", "123456789", "12345678931", "abcdefghij"])
def test_a_wrong_npi_is_refused(npi: str) -> None:
    with pytest.raises(InvalidInput, match="Identifier"):
        check_npi(npi)


def test_envelopes_are_judged() -> None:
    text = write(predetermination())
    foreign = text.replace("~\n", "!\r\n").replace("*", "|")
    (interchange,) = segments.read_interchanges(foreign.encode("latin-1"))
    assert interchange.problems == ()
    assert interchange.transactions()[0].set_id == "837"
    (short,) = segments.read_interchanges(text.replace("SE*", "SE*9"))
    assert short.problems
    for cut in (text[:90], text[: len(text) // 2], text[: text.index("IEA")]):
        with pytest.raises(InvalidInput, match="cut off"):
            segments.read_interchanges(cut)
    with pytest.raises(InvalidInput):
        segments.read_interchanges("<html>")
    assert len(segments.read_interchanges(text + text)) == 2
