"""The narrative says what facts say, names them, and waits for the clinician."""

from dataclasses import replace
from datetime import date

import pytest

from node.domain.findings import FindingKind
from node.domain.teeth import Tooth
from node.errors import InvalidInput, Rejected
from orchestration.payers.chart import ChartFacts
from orchestration.payers.narrative import Narrative, check_answer, compose, objections
from orchestration.payers.rules import load_rules
from tests.orchestration.payers.charts import ANSWERS, CROWN, FULL, SCALING, TODAY, mark

BOOK = load_rules()


def written(
    facts: ChartFacts = FULL, answers: dict[str, str] | None = None, payer: str = "EX001"
) -> Narrative:
    wishes = []
    for planned in (CROWN, SCALING):
        found = BOOK.find(payer, planned.cdt_code, TODAY)
        assert found is not None
        wishes.append((found.rule, planned))
    return compose(wishes, facts, BOOK.slots, ANSWERS if answers is None else answers)


def test_every_sentence_names_the_facts_it_rests_on() -> None:
    told = written()
    assert told.is_complete
    assert all(each.sources for each in told.sentences)
    by_source = {source: each for each in told.sentences for source in each.sources}
    caries = by_source["finding:f1"]
    assert "#30 caries, distal and occlusal, inner third of dentin (D3)" in caries.long
    assert "confirmed by Dr Test on 2026-02-02" in caries.long
    assert "5-3-3-3-2-3" in by_source["perio:m0"].long
    assert by_source["slot:sound_structure:70"].short == "Sound structure about 40 %."
    assert "procedure:9" in by_source


def test_it_refuses_to_be_complete_while_a_question_is_open() -> None:
    told = written(answers={})
    assert not told.is_complete
    assert {slot.id for slot in told.open_slots} == {
        "sound_structure:70", "placement:70", "why_not_filling:70", "prognosis:70",
        "bleeding:71", "prognosis:71",
    }  # fmt: skip
    for text in (told.claim_text, told.long_text):
        with pytest.raises(Rejected, match="sound_structure"):
            text()


def test_a_replacement_asks_when_the_first_was_placed() -> None:
    told = written(answers={**ANSWERS, "placement:70": "replacement"})
    assert [slot.id for slot in told.open_slots] == ["prior_date:70"]
    known = replace(CROWN, replaces_on=date(2016, 5, 31))
    found = BOOK.find("EX001", "D2740", TODAY)
    assert found is not None
    answers = {**ANSWERS, "placement:70": "replacement"}
    told = compose([(found.rule, known)], FULL, BOOK.slots, answers)
    assert told.is_complete
    assert "placed 2016-05-31" in told.claim_text()


def test_the_claims_version_fits_and_loses_whole_sentences() -> None:
    many = tuple(mark(FindingKind.BONE_LEVEL, f"1{n}", None, 4.0 + n, name=f"b{n}")
                 for n in range(1, 9))  # fmt: skip
    told = written(replace(FULL, marks=(*FULL.marks, *many)))
    text = told.claim_text()
    assert len(text) <= 400
    assert text.endswith("See attached narrative.")
    assert "#30 caries" in text
    assert all(each.long in told.long_text() for each in told.sentences)
    assert len(written().long_text()) > 400


def test_bone_is_no_ground_for_a_crown_and_caries_none_for_scaling() -> None:
    told = written(replace(FULL, marks=(mark(tooth="16", name="upper"),)))
    assert "finding:upper" not in {s for each in told.sentences for s in each.sources}


def test_a_faithful_wording_passes_and_an_invention_does_not() -> None:
    told = written()
    assert objections(told.claim_text(), told) == ()
    assert objections(told.long_text(), told) == ()
    good = "Tooth 30 shows caries into the inner third of dentin; about 40 % of it is sound."
    assert objections(good, told) == ()
    for text, reason in (
        ("#31 shows caries.", "#31"),
        ("Tooth 14 shows caries.", "#14"),
        ("About 30 % of #30 is sound.", "30 %"),  # 30 is a tooth, not a percentage
        ("Pockets of 40 mm at #30.", "40 mm"),  # 40 is a percentage
        ("Pockets of 9 mm at #30.", "9 mm"),
        ("Film of 2026-02-03.", "2026-02-03"),
        ("#30 is fractured.", "fracture"),
        ("Seven surfaces of #30 are lost.", "seven"),
        ("#30 mesial caries.", "mesial"),
        ("D2750 for #30.", "D2750"),
        ("#A shows caries.", "#A"),
        ("Teeth 30, 31 and 32 shows caries.", "31"),
    ):
        found = objections(text, told)
        assert any(reason in each for each in found), (text, found)


@pytest.mark.parametrize(
    ("slot", "text", "clean"),
    [
        ("sound_structure", "40 %", "40"),
        ("sound_structure", "37.50", "37.5"),
        ("prognosis", "good", "good"),
        ("prior_date", "2016-05-31", "2016-05-31"),
        ("why_not_filling", " cusp  lost. ", "cusp lost"),
    ],
)
def test_answers_are_cleaned(slot: str, text: str, clean: str) -> None:
    assert check_answer(BOOK.slots[slot], text) == clean


@pytest.mark.parametrize(
    ("slot", "text"),
    [
        ("sound_structure", "a lot"),
        ("sound_structure", "140"),
        ("sound_structure", "NaN"),
        ("prognosis", "excellent"),
        ("prior_date", "2016"),
        ("why_not_filling", "x" * 121),
        ("why_not_filling", "  "),
    ],
)
def test_answers_that_are_none_are_refused(slot: str, text: str) -> None:
    with pytest.raises(InvalidInput, match=slot):
        check_answer(BOOK.slots[slot], text)


def test_missing_teeth_are_said_where_they_matter() -> None:
    implant = replace(CROWN, key="72", cdt_code="D6010", tooth=Tooth("18"))
    found = BOOK.find("1", "D6010", TODAY)
    assert found is not None
    told = compose([(found.rule, implant)], FULL, BOOK.slots, {})
    assert any(each.short == "Missing: #1." for each in told.sentences)
