"""What payers answer, read: 271, 999, 277CA and 835, whole, damaged and out of balance."""

import re
from dataclasses import replace
from datetime import date
from decimal import Decimal
from io import StringIO
from pathlib import Path

import pytest
import pyx12.x12file
from hypothesis import given
from hypothesis import strategies as st

from node.domain.rights import Role
from node.errors import ConfigError, InvalidInput
from orchestration.payers import claim837
from orchestration.payers.acknowledgements import Verdict, read_277ca, read_999
from orchestration.payers.denials import Action, Result, load_routes, result_of, suggest
from orchestration.payers.eligibility import Coverage, Eligibility, Question, compose_270, read_271
from orchestration.payers.remittance import ClaimResult, Remittance, read_835
from orchestration.payers.sandbox.answers import (
    Decision,
    Plan,
    SentClaim,
    compose_271,
    compose_277ca,
    compose_835,
    compose_999,
    read_claim,
    read_question,
)
from orchestration.payers.segments import read_interchanges, transaction_kinds
from tests.orchestration.payers.dental_map import build, validate
from tests.orchestration.payers.examples import (
    CROWN,
    ENVELOPE,
    FILLING,
    INSURANCE,
    PATIENT,
    PRACTICE,
    predetermination,
)

QUESTION = Question("REQ1", PRACTICE, INSURANCE, PATIENT, date(2026, 3, 2))


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("maps") / "map")


def sent(**values: object) -> SentClaim:
    text = claim837.compose(predetermination(CROWN, FILLING, **values), ENVELOPE, "A1", "B2")
    return read_claim(read_interchanges(text)[0].transactions("837")[0])


def answer(decision: Decision, **values: object) -> ClaimResult:
    (read,) = read_835(compose_835(ENVELOPE, sent(**values), "ICN1", decision))
    assert read.problems == ()
    found = read.claim("BW1")
    assert found is not None
    assert found.problems == ()
    return found


def asked(plan: Plan, question: Question = QUESTION) -> Eligibility:
    (interchange,) = read_interchanges(compose_270(question, ENVELOPE))
    rows = interchange.transactions("270")[0].segments
    (read,) = read_271(compose_271(ENVELOPE, read_question(rows), plan))
    return read


def test_the_question_is_whole_for_a_foreign_reader() -> None:
    for question in (
        QUESTION,
        replace(QUESTION, insurance=replace(INSURANCE, relationship="child")),
    ):
        reader = pyx12.x12file.X12Reader(StringIO(compose_270(question, ENVELOPE)))
        names = [row.get_seg_id() for row in reader]
        assert reader.pop_errors() == []
        assert names[-4:] == ["EQ", "SE", "GE", "IEA"]


def test_a_plan_is_read_and_the_share_is_the_patients() -> None:
    read = asked(Plan())
    assert read.trace == "REQ1"
    assert read.coverage is Coverage.ACTIVE
    assert read.plan_begin == date(2026, 1, 1)
    assert read.maximum(remaining=False) == 1500
    assert read.maximum(remaining=True) == 1150
    assert read.deductible(remaining=True) == 0
    assert read.patient_share("25") == Decimal("0.2")  # the payer pays 80 %
    assert read.needs_authorization("D2740", "39") is True
    assert read.said_about("D2740", "39") == (
        "CROWNS ONCE PER TOOTH IN 5 YEARS. MISSING TOOTH CLAUSE.",
    )


def test_what_is_not_said_stays_unknown() -> None:
    read = asked(Plan(coverage="silent"))
    assert read.coverage is Coverage.ACTIVE
    assert read.maximum(remaining=True) is None
    assert read.deductible(remaining=False) is None
    assert read.patient_share("39") is None
    assert read.needs_authorization("D2740", "39") is None
    assert asked(Plan(coverage="inactive")).coverage is Coverage.INACTIVE


def test_a_refusal_says_whether_to_ask_again() -> None:
    missing = asked(Plan(coverage="missing"))
    assert missing.coverage is Coverage.UNKNOWN
    assert [(r.code, r.is_for_later) for r in missing.rejections] == [("75", False)]
    assert [r.is_for_later for r in asked(Plan(coverage="later")).rejections] == [True]
    child = replace(QUESTION, insurance=replace(INSURANCE, relationship="child"))
    assert asked(Plan(), child).coverage is Coverage.ACTIVE


def test_contradicting_answers_are_unknown() -> None:
    text = compose_271(
        ENVELOPE,
        read_question(
            read_interchanges(compose_270(QUESTION, ENVELOPE))[0].transactions()[0].segments
        ),
        Plan(),
    )
    doubled = text.replace("EB*1*IND*35", "EB*6*IND*35~\nEB*1*IND*35").replace(
        "EB*A*IND*25*****.2", "EB*A*IND*25*****.2~\nEB*A*IND*25*****.4"
    )
    (read,) = read_271(doubled)
    assert not read.is_intact  # SE01 no longer counts right
    assert read.coverage is Coverage.UNKNOWN
    assert read.patient_share("25") is None


@pytest.mark.parametrize("decision", ["approve", "deny", "downgrade", "more_info", "partial"])
@pytest.mark.parametrize("kind", ["predetermination", "claim"])
def test_answers_balance_for_us_and_for_a_foreign_validator(
    decision: Decision, kind: str, maps: Path
) -> None:
    day = date(2026, 3, 1) if kind == "claim" else None
    text = compose_835(ENVELOPE, sent(kind=kind, service_date=day), "ICN1", decision)
    accepted, verdict = validate(text, maps)
    assert accepted, verdict
    (read,) = read_835(text)
    assert read.problems == ()
    (claim,) = read.claims
    assert claim.problems == ()
    assert [line.line_id for line in claim.lines] == ["4711", "4712"]
    assert claim.is_predetermination == (kind == "predetermination")


RESULTS: dict[Decision, Result] = {
    "approve": Result.APPROVED,
    "deny": Result.DENIED,
    "downgrade": Result.DOWNGRADED,
    "more_info": Result.MORE_INFORMATION,
    "partial": Result.PARTLY,
}


@pytest.mark.parametrize("decision", list(RESULTS))
def test_an_answer_leads_to_suggested_actions(decision: Decision) -> None:
    table = load_routes()
    read = answer(decision)
    assert result_of(read, table) is RESULTS[decision]
    actions = {each.action: each for each in suggest(read, table)}
    match decision:
        case "approve":
            assert actions == {}
        case "deny" | "partial":
            assert actions[Action.APPEAL].who is Role.DENTIST
        case "downgrade":
            assert actions[Action.DOWNGRADE].codes[-1] == "D2392 -> D2150"
            assert [line.is_downgraded for line in read.lines] == [True, True]
        case "more_info":
            assert actions[Action.ATTACH].evidence == ("radiograph",)


def test_a_predetermination_says_what_would_be_paid() -> None:
    read = answer("approve")
    assert read.paid == 0
    assert read.expected == Decimal("740.32")  # 1450 x .8 x .5 + 250.50 x .8 x .8
    assert [line.patient_share for line in read.lines] == [Decimal("580"), Decimal("40.08")]


def test_an_unknown_code_goes_to_a_person() -> None:
    text = compose_835(ENVELOPE, sent(), "ICN1", "deny").replace("CAS*CO*50", "CAS*CO*987")
    (suggestion,) = suggest(read_835(text)[0].claims[0], load_routes())
    assert suggestion.action is Action.PERSON


@pytest.mark.parametrize("hostile", ["9" * 5_000, "9E+999999", "1E-999999", "NaN", "٣"])
def test_a_number_that_none_is_spoils_its_own_answer_only(hostile: str) -> None:
    text = compose_835(ENVELOPE, sent(kind="claim", service_date=date(2026, 3, 1)), "I", "approve")
    amounts = re.sub(r"(BPR\*I\*|SVC\*[^*]+\*|CAS\*CO\*45\*)[\d.]+", rf"\g<1>{hostile}", text)
    assert amounts.count(hostile) >= 2
    (read,) = read_835(amounts)
    assert read.problems
    counts = re.sub(r"(SE|GE|IEA)\*\d+", rf"\g<1>*{hostile}", text)
    (read,) = read_835(counts)
    assert read.problems


def test_sums_that_do_not_fit_are_said() -> None:
    text = compose_835(ENVELOPE, sent(kind="claim", service_date=date(2026, 3, 1)), "I", "approve")
    (read,) = read_835(text.replace("BPR*I*740.32", "BPR*I*741.32"))
    assert read.problems
    (read,) = read_835(text.replace("CAS*CO*45*290", "CAS*CO*45*291"))
    assert read.claims[0].problems
    taken = text.replace("SE*", "PLB*1234567893*20261231*WO:X*40~\nSE*")
    (read,) = read_835(taken.replace("BPR*I*740.32", "BPR*I*700.32"))
    assert read.take_backs == (("WO", Decimal(40)),)
    assert read.problems == ("the envelope's counts or control numbers do not fit",)


def test_acknowledgements_are_read_and_valid(maps: Path) -> None:
    good = compose_999(ENVELOPE, "7", accepted=True)
    bad = compose_999(ENVELOPE, "7", accepted=False, problem="CLM")
    assert [read_999(text)[0].verdict for text in (good, bad)] == [
        Verdict.ACCEPTED,
        Verdict.REJECTED,
    ]
    assert [(p.segment, p.element) for p in read_999(bad)[0].problems] == [
        ("CLM", ""),
        ("CLM", "1"),
    ]
    for text in (good, bad):
        assert validate(text, maps)[0]


def test_the_front_end_answers_each_claim(maps: Path) -> None:
    taken = compose_277ca(ENVELOPE, sent(), "ICN1", "A2", "20")
    (read,) = read_277ca(taken)
    assert (read.claim_id, read.verdict, read.payer_claim_number) == (
        "BW1",
        Verdict.ACCEPTED,
        "ICN1",
    )
    (refused,) = read_277ca(compose_277ca(ENVELOPE, sent(), "", "A7", "562"))
    assert refused.verdict is Verdict.REJECTED
    assert "invalid" in refused.words
    assert transaction_kinds(taken) == ("277CA",)
    accepted, verdict = validate(taken, maps)
    assert accepted, verdict


@given(st.text(max_size=200))
def test_no_text_but_ours_is_taken_for_an_answer(text: str) -> None:
    for reader in (read_271, read_835, read_999, read_277ca):
        with pytest.raises(InvalidInput):
            reader(text)


@given(st.data())
def test_a_damaged_answer_is_refused_or_read_never_a_bug(data: st.DataObject) -> None:
    text = compose_835(ENVELOPE, sent(), "ICN1", "approve")
    at = data.draw(st.integers(0, len(text) - 1))
    broken = text[:at] + data.draw(st.text(max_size=3)) + text[at + data.draw(st.integers(0, 9)) :]
    try:
        read = read_835(broken)
    except InvalidInput:
        return
    assert all(isinstance(each, Remittance) for each in read)


def test_the_routes_are_checked(tmp_path: Path) -> None:
    table = load_routes()
    assert table.updated >= date(2026, 1, 1)
    wrong = tmp_path / "denials.toml"
    for text, reason in (
        ("version = 2", "version"),
        ("version = 1\nupdated = 2026-01-01\n[carc]\n1 = {label='x', action='pray', who='dentist'}",
         "pray"),
        ("version = 1\nupdated = 2026-01-01\n[carc]\n1 = {label='x', action='fix'}", "who"),
        ("version", "TOML"),
    ):  # fmt: skip
        wrong.write_text(text)
        with pytest.raises(ConfigError, match=reason):
            load_routes(wrong)
    with pytest.raises(ConfigError, match="cannot read"):
        load_routes(tmp_path / "none.toml")
