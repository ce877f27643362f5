"""Pre-authorisation over weeks: real engine and database, the sandbox practice and payer."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from node.db.session import Actor, begin, read
from node.db.tables import workflow_case
from node.domain.findings import Disposition
from node.engine import DurableEngine
from node.errors import Conflict, InvalidInput
from orchestration import cases
from orchestration.payers import claim837
from orchestration.payers.sandbox.answers import Plan
from tests.orchestration.payers.examples import ENVELOPE, predetermination
from tests.orchestration.payers.preauth_world import ANSWERS, World, preauth_world
from tests.orchestration.test_gateway import Model, served


@pytest.fixture
def world(sqlite_database: sa.Engine, engine: DurableEngine, tmp_path: Path) -> Iterator[World]:
    with preauth_world(sqlite_database, engine, tmp_path) as made:
        yield made


@pytest.fixture
def model() -> Iterator[Model]:
    with served() as server:
        yield server


def test_a_crown_is_asked_for_approved_sent_and_answered(world: World) -> None:
    world.sign_film()
    procedure = world.plan_crown()
    world.pull()
    assert world.asked() == "preauth_answers"
    question = world.work.question(world.case_id)
    assert question.right == "findings.sign"
    assert len(question.draft["questions"]) == 4
    world.answer_questions()
    assert world.asked() == "preauth"
    draft = world.work.question(world.case_id).draft
    assert draft["payer"] == "Example Dental Plan (EX001)"
    assert draft["lines"] == ["D2740 #30 1450.00"]
    assert "#30 caries, distal and occlusal, inner third of dentin (D3)" in draft["narrative"]
    assert "confirmed by Dr Test" in draft["narrative"]
    assert draft["enclosures"] == ["image-1.jpg", "narrative.pdf"]
    assert draft["eligibility"]["maximum_left"] == "1150.00"
    assert not world.payer.desk.submissions()  # nothing leaves before the approval
    world.approve()
    ((submission, claim),) = world.payer.desk.submissions()
    assert claim.is_predetermination
    assert [line.cdt_code for line in claim.lines] == ["D2740"]
    assert claim.lines[0].id == procedure
    assert len(claim.control_numbers) == 2
    assert [a.media_type for a in world.payer.desk.attachments()] == [
        "image/jpeg",
        "application/pdf",
    ]
    world.written()
    world.pull()
    world.hours(1)
    assert world.work.case(world.case_id).data["waits_for"] == "answer"
    world.days(4)
    assert world.result == "approved"
    logs = [text for text in world.notes("commlogs", "Note") if "Pre-authorisation" in text]
    assert any(submission.id in text for text in logs)
    assert any("approved" in text and "580.00" in text for text in logs)
    (line,) = [r for r in world.office.rows("claimprocs") if r["Status"] == "Preauth"]
    assert float(line["InsEstTotalOverride"]) == 580
    (verified,) = verifications(world)
    assert "maximum left 1150.00" in verified
    tracked = [row["Note"] for row in world.office.rows("claimtrackings")]
    assert len(tracked) == 2
    documents = [r for r in world.office.rows("documents") if "pre-authorisation" in
                 str(r["Description"])]  # fmt: skip
    assert world.office.document(int(documents[0]["DocNum"])).startswith(b"%PDF")
    assert world.mails() == ["given", "given", "given"]


def test_missing_evidence_is_a_task_and_the_case_waits_for_it(world: World) -> None:
    world.plan_crown()
    world.pull()
    assert world.asked() == ""
    tasks = [t for t in world.notes("tasks", "Descript") if "Pre-authorisation" in t]
    assert len(tasks) == 1
    assert "periapical radiograph or bitewing is missing" in tasks[0]
    world.days(2)
    assert len([t for t in world.notes("tasks", "Descript") if "Pre-authorisation" in t]) == 1
    world.sign_film(day=date(2024, 1, 1))
    world.days(1)
    tasks = [t for t in world.notes("tasks", "Descript") if "Pre-authorisation" in t]
    assert "2024-01-01" in tasks[-1]
    world.sign_film()  # seen at once, not only tomorrow
    assert world.asked() == "preauth_answers"


def test_what_stays_missing_ends_the_case_after_two_months(world: World) -> None:
    world.plan_crown()
    world.pull()
    for days, result in ((59, ""), (3, "evidence missing")):
        world.work.now += timedelta(days=days)  # the practice was closed all the while
        world.work.settle()
        assert world.result == result


def test_an_answer_to_nothing_of_ours_is_kept_for_a_person(world: World) -> None:
    text = claim837.compose(predetermination(attachments=()), ENVELOPE, "A1", "B2")
    world.mailbox.house.submit("typed-in-by-hand", text)
    world.send()
    world.pull()
    world.days(4)
    assert world.result == "approved"
    assert sorted(world.mails()) == ["given"] * 3 + ["unknown"] * 3
    world.payer.desk.repeat(1)
    assert world.poll() == 0  # the same answer again is no other


def test_a_small_plan_starts_nothing_unless_a_signed_finding_leads_to_it(world: World) -> None:
    world.plan_crown(fee="400.00")
    world.pull()
    assert world.cases() == []
    world.sign_film(("46",))
    assert world.asked() == "preauth_answers"
    world.pull()
    world.work.hooks.run_daily()
    assert len(world.cases()) == 1


@pytest.mark.parametrize(
    ("decision", "result", "words"),
    [
        ("deny", "denied", "consider an appeal"),
        ("downgrade", "downgraded", "cheaper treatment"),
        ("more_info", "more information", "radiograph is missing"),
    ],
)
def test_a_denial_comes_with_suggested_actions_and_may_end_there(
    world: World, decision: str, result: str, words: str
) -> None:
    world.payer.desk.decide(decision)  # type: ignore[arg-type]  # one of the decisions
    world.send()
    world.pull()
    world.days(4)
    assert world.asked() == "preauth_denial"
    (task,) = [t for t in world.notes("tasks", "Descript") if "Pre-authorisation" in t]
    assert words in task
    world.work.decide(world.case_id, "refused", reason="the patient pays")
    assert world.result == result


def test_after_a_denial_it_is_sent_again_with_the_same_answers(world: World) -> None:
    world.payer.desk.decide("more_info", "approve")
    world.send()
    world.pull()
    world.days(4)
    assert world.asked() == "preauth_denial"
    world.approve()
    assert world.asked() == "preauth"
    world.approve()
    assert len(world.payer.desk.submissions()) == 2
    world.pull()
    world.days(4)
    assert world.result == "approved"
    assert len([r for r in world.office.rows("claims") if r["ClaimType"] == "PreAuth"]) == 1


def test_an_edited_narrative_goes_out_and_an_invention_is_refused(world: World) -> None:
    world.sign_film()
    world.plan_crown()
    world.pull()
    world.answer_questions()
    draft = dict(world.work.question(world.case_id).draft)
    for text, reason in (("#31 is fractured.", "#31"), ("x" * 401, "400"), ("", "characters")):
        with pytest.raises(InvalidInput, match=reason):
            world.work.decide(
                world.case_id, "edited", draft={**draft, "narrative": text}, reason="shorter"
            )
    short = "#30 caries into the inner third of dentin (D3), about 40 % sound, prognosis good."
    world.work.decide(
        world.case_id, "edited", draft={**draft, "narrative": short}, reason="shorter"
    )
    ((_, claim),) = world.payer.desk.submissions()
    assert claim.narrative == short.upper()
    assert world.work.case(world.case_id).data["edit_reason"] == "shorter"


def test_the_payer_is_away_for_an_hour_and_nothing_is_doubled(world: World) -> None:
    world.sign_film()
    world.plan_crown()
    world.pull()
    world.answer_questions()
    world.payer.desk.is_offline = True
    world.approve()
    world.work.pass_time(hours=1)
    assert not world.payer.desk.submissions()
    world.payer.desk.is_offline = False
    world.payer.fault("commit_then_drop", count=2, methods=("PUT",))
    world.work.pass_time(hours=1)
    assert len(world.payer.desk.submissions()) == 1
    assert len(world.payer.desk.attachments()) == 2
    world.written()
    world.pull()
    world.days(4)
    assert world.result == "approved"


@pytest.mark.parametrize("fault", ["duplicate", "out_of_order", "malformed", "eob_pdf"])
def test_answers_twice_backwards_broken_or_printed_end_the_same(world: World, fault: str) -> None:
    world.send(fault)  # type: ignore[arg-type]  # one of the faults
    world.pull()
    world.days(5)
    assert world.result == "approved"
    world.written()
    (line,) = [r for r in world.office.rows("claimprocs") if r["Status"] == "Preauth"]
    assert float(line["InsEstTotalOverride"]) == 580
    logs = [t for t in world.notes("commlogs", "Note") if "Pre-authorisation approved" in t]
    assert len(logs) == 1
    if fault == "malformed":
        assert any("cannot be read" in text for text in world.notes("tasks", "Descript"))


def test_a_scan_goes_to_a_person_who_types_what_it_says(world: World) -> None:
    world.payer.fault("eob_scan")
    world.send()
    world.pull()
    world.days(4)
    assert world.asked() == "preauth_answer"
    draft = dict(world.work.question(world.case_id).draft)
    assert any("scan" in doubt for doubt in draft["doubts"])
    (row,) = draft["lines"]
    told = {**draft, "result": "approved", "lines": [{**row, "expected": "500.00"}]}
    world.work.decide(world.case_id, "edited", draft=told, reason="read from the page")
    assert world.result == "approved"
    world.written()
    (line,) = [r for r in world.office.rows("claimprocs") if r["Status"] == "Preauth"]
    assert float(line["InsEstTotalOverride"]) == 500


def test_the_front_end_turns_it_away_and_it_is_sent_again(world: World) -> None:
    world.payer.fault("reject_front_end")
    world.send()
    world.hours(2)
    assert world.asked() == "preauth_refusal"
    world.approve()
    assert world.asked() == "preauth"
    world.approve()
    world.pull()
    world.days(4)
    assert world.result == "approved"


def test_a_silent_payer_is_reported_and_at_last_parks_the_case(world: World) -> None:
    world.send()
    world.work.pass_time(days=3)  # nobody reads the mail
    tasks = [t for t in world.notes("tasks", "Descript") if "no acknowledgement" in t]
    assert len(tasks) == 1
    world.work.pass_time(days=40)
    row = world.work.case(world.case_id)
    assert row.state == "parked"
    assert "clearinghouse" in row.error
    world.poll()  # somebody mended the line; what came meanwhile is heard after the retry
    with begin(world.work.db, Actor("user-1", "main"), "test") as tx:
        cases.retry(tx, world.work.engine, world.case_id)
    world.work.settle()
    assert world.result == "approved"


def test_a_plan_that_is_not_active_is_told_and_asked_again(world: World) -> None:
    member = str(100_000_000 + world.key)
    world.payer.desk.set_plan(member, Plan(coverage="inactive"))
    world.sign_film()
    world.plan_crown()
    world.pull()
    assert world.asked() == ""
    assert any("not active" in text for text in world.notes("tasks", "Descript"))
    world.payer.desk.set_plan(member, Plan())
    world.days(8)
    assert world.asked() == "preauth_answers"


def test_the_evening_asks_about_tomorrows_patients_and_shows_exceptions(world: World) -> None:
    world.work.pass_time(hours=10)  # past six in the evening
    with read(world.work.db) as conn:
        rows = conn.execute(
            sa.select(workflow_case).where(workflow_case.c.workflow == "eligibility")
        ).all()
    assert rows
    assert {row.stage for row in rows} <= {"active", "no insurance", "exception"}
    world.written()
    asked = [row for row in rows if row.stage == "active"]
    assert len(world.office.rows("insverifies")) == len(asked)
    for row in world.office.rows("inssubs"):
        world.payer.desk.set_plan(str(row["SubscriberID"]), Plan(coverage="missing"))
    world.work.pass_time(hours=24)
    tasks = [t for t in world.notes("tasks", "Descript") if "Eligibility" in t]
    assert tasks
    assert all("75" in text for text in tasks)


def test_a_cancelled_case_says_that_the_payer_must_be_told(world: World) -> None:
    world.send()
    with begin(world.work.db, Actor("user-1", "main"), "test") as tx:
        cases.cancel(tx, world.work.engine, world.case_id, "the patient moved away")
    world.work.settle()
    assert world.work.case(world.case_id).state == "cancelled"
    assert any("tell the payer" in text for text in world.notes("tasks", "Descript"))


def test_scaling_goes_with_its_perio_chart(world: World) -> None:
    world.sign_film(("16", "17"), Disposition.WATCH)
    exam = world.office.add(
        "perioexams", PatNum=world.key, ExamDate=f"{world.work.now:%Y-%m-%d}", ProvNum=3
    )
    sites = ("MBvalue", "Bvalue", "DBvalue", "MLvalue", "Lvalue", "DLvalue")
    for tooth in range(2, 7):
        world.office.add(
            "periomeasures", PerioExamNum=exam["PerioExamNum"], SequenceType="Probing",
            IntTooth=tooth, ToothValue=-1, **dict.fromkeys(sites, 5),
        )  # fmt: skip
    world.plan("D4341", "1280.00", Surf="UR")
    world.pull()
    world.answer_questions()
    draft = world.work.question(world.case_id).draft
    assert draft["enclosures"] == ["image-1.jpg", "perio-chart.pdf", "narrative.pdf"]
    assert "#2 5 mm, #3 5 mm" in draft["narrative"]
    assert "caries" not in draft["narrative"]  # no ground for scaling
    world.approve()
    ((_, claim),) = world.payer.desk.submissions()
    assert claim.reports == ("RB", "P6", "OZ")


def test_a_model_may_word_it_and_its_invention_is_refused(
    sqlite_database: sa.Engine, engine: DurableEngine, tmp_path: Path, model: Model
) -> None:
    gateway = {"base_url": model.url, "allowed_hosts": ("127.0.0.1",), "model": "m",
               "is_sandbox": True}  # fmt: skip
    with preauth_world(sqlite_database, engine, tmp_path, gateway=gateway) as world:
        model.says = "#30: deep caries (D3), 40 % sound, prognosis good."
        world.sign_film()
        world.plan_crown()
        world.pull()
        world.answer_questions()
        draft = world.work.question(world.case_id).draft
        assert (draft["narrative"], draft["wording"]) == (model.says, "language model m")
        prompt = str(model.asked)
        for row in world.office.rows("patients"):
            if row["PatNum"] == world.key:
                assert str(row["LName"]) not in prompt
                assert str(row["Birthdate"])[:10] not in prompt
        world.work.decide(world.case_id, "refused", reason="another time")
        model.says = "#30 is fractured below the bone and hurts; 20 % sound."
        world.plan_crown("31")
        world.sign_film(("47",))
        world.pull()
        second = world.cases()[-1].id
        asked = dict(world.work.question(second).draft)
        asked["answers"] = {key: ANSWERS[key.partition(":")[0]] for key in asked["answers"]}
        world.work.decide(second, "edited", draft=asked, reason="examined")
        draft = world.work.question(second).draft
        assert draft["wording"] == "template"
        assert any("draft was refused" in warning for warning in draft["warnings"])
        assert "fractured" not in draft["narrative"]


def test_silently_nothing_leaves_and_nobody_is_asked(
    sqlite_database: sa.Engine, engine: DurableEngine, tmp_path: Path
) -> None:
    with preauth_world(sqlite_database, engine, tmp_path, mode="silent") as world:
        world.sign_film()
        world.plan_crown()
        before = len(world.office.rows("tasks"))
        world.pull()
        row = world.work.case(world.case_id)
        assert row.state == "silent"
        assert len(row.data["silent_preauth_answers"]["questions"]) == 4
        assert not world.payer.desk.submissions()
        assert not world.payer.desk.attachments()
        world.written()
        world.work.pass_time(hours=10)  # the evening's questions too
        assert len(world.office.rows("tasks")) == before
        assert not world.office.rows("insverifies")


@pytest.mark.parametrize("what", ["fee", "film", "dropped"])
def test_what_changed_after_the_approval_is_decided_again_before_it_goes(
    world: World, what: str
) -> None:
    world.sign_film()
    crown = world.plan_crown()
    other = world.plan_crown("31")
    world.pull()
    world.answer_questions()
    world.payer.desk.is_offline = True
    world.approve()
    world.written()  # the chart has the claim before it changes
    if what == "fee":
        world.office.change("procedurelogs", int(crown), ProcFee="1999.00")
    elif what == "dropped":
        world.office.change("procedurelogs", int(other), ProcStatus="D")
    else:
        world.sign_film()
    world.pull()
    world.payer.desk.is_offline = False
    world.work.pass_time(hours=1)
    assert not world.payer.desk.submissions()  # nobody has approved this one
    assert world.asked() == "preauth"
    draft = world.work.question(world.case_id).draft
    assert any("changed after it was approved" in text for text in draft["warnings"])
    world.approve()
    world.work.pass_time(hours=1)
    ((_, claim),) = world.payer.desk.submissions()
    fees = {line.id: line.fee for line in claim.lines}
    assert fees.get(crown) == (1999 if what == "fee" else 1450)
    assert (other in fees) is (what != "dropped")
    world.pull()
    world.days(4)
    assert world.result == "approved"


def test_what_changes_while_the_answer_of_the_sending_is_lost_is_not_sent_twice(
    world: World,
) -> None:
    world.sign_film()
    crown = world.plan_crown()
    world.pull()
    world.answer_questions()
    world.payer.fault("commit_then_drop", count=50, methods=("PUT",))
    world.approve()
    while not world.payer.desk.submissions():
        world.work.pass_time(seconds=10)
    world.office.change("procedurelogs", int(crown), ProcFee="1999.00")
    world.pull()
    world.work.pass_time(hours=2)
    ((_, claim),) = world.payer.desk.submissions()
    assert [line.fee for line in claim.lines] == [1450]


def test_a_payer_that_changes_its_mind_is_heard_while_a_person_thinks(world: World) -> None:
    world.payer.desk.decide("deny")
    world.send()
    world.pull()
    world.days(4)
    assert world.asked() == "preauth_denial"
    world.payer.desk.answer_again("approve")
    world.poll()
    assert world.result == "approved"
    assert world.asked() == ""
    world.written()
    (line,) = [r for r in world.office.rows("claimprocs") if r["Status"] == "Preauth"]
    assert float(line["InsEstTotalOverride"]) == 580
    assert any("Pre-authorisation approved" in text for text in world.notes("commlogs", "Note"))


def test_an_answer_after_the_end_is_put_before_a_person(world: World) -> None:
    world.send()
    world.pull()
    world.days(4)
    assert world.result == "approved"
    world.payer.desk.answer_again("deny")
    world.poll()
    assert world.mails()[-1] == "late"
    first = world.case_id
    world.work.pass_time(days=2)  # both mornings look
    (late,) = [row for row in world.cases() if row.id != first]
    question = world.work.question(late.id)
    assert question.kind == "preauth_late_answer"
    assert question.draft["ended_as"] == "approved"
    assert "/api/payers/mail/" in question.draft["page"]
    world.work.decide(late.id)
    assert world.work.case(late.id).stage == "answered late"


def test_a_finding_signed_in_the_evening_is_dated_that_evening(
    sqlite_database: sa.Engine, engine: DurableEngine, tmp_path: Path
) -> None:
    evening = datetime(2026, 3, 3, 1, 30, tzinfo=UTC)  # half past eight on the second, New York
    with preauth_world(sqlite_database, engine, tmp_path, now=evening) as world:
        world.sign_film(day=date(2026, 3, 2))
        world.plan_crown()
        world.pull()
        world.answer_questions()
        draft = world.work.question(world.case_id).draft
        said = " ".join(str(each["text"]) for each in draft["sentences"])
        assert "confirmed by Dr Test on 2026-03-02" in said


def test_what_was_refused_by_mistake_is_taken_up_again(world: World) -> None:
    world.sign_film()
    world.plan_crown()
    world.pull()
    world.answer_questions()
    world.work.decide(world.case_id, "refused", reason="the wrong button")
    assert world.result == "refused"
    take_up(world)
    assert world.asked() == "preauth"  # what the dentist said holds
    world.approve()
    assert len(world.payer.desk.submissions()) == 1
    with pytest.raises(Conflict):
        take_up(world)


def test_what_was_turned_away_goes_under_a_new_id_when_it_is_taken_up_again(world: World) -> None:
    world.payer.fault("reject_front_end")
    world.send()
    world.hours(2)
    world.work.decide(world.case_id, "refused", reason="not now")
    assert world.result == "turned away"
    take_up(world)
    world.approve()
    first, second = world.payer.desk.submissions()
    assert first[1].id != second[1].id


def take_up(world: World) -> None:
    with begin(world.work.db, Actor("user-1", "main"), "test") as tx:
        cases.retry(tx, world.work.engine, world.case_id, world.flow.again)
    world.work.settle()


def test_a_second_insurance_is_asked_named_and_left_to_the_office(world: World) -> None:
    second_insurance(world)
    world.send()
    ((_, claim),) = world.payer.desk.submissions()
    assert claim.payer_id == "EX001"
    seen = world.work.case(world.case_id).data
    assert seen["eligibility_secondary"]["coverage"] == "active"
    assert claim.other_payer_ids == ("OT002",)
    world.pull()
    world.days(4)
    assert world.result == "approved"
    assert len(verifications(world)) == 2
    (task,) = [t for t in world.notes("tasks", "Descript") if "pays second" in t]
    assert "Second Dental" in task
    assert any("Second Dental pays second" in text for text in world.notes("commlogs", "Note"))


def test_a_second_insurer_that_cannot_be_asked_holds_nothing_up(world: World) -> None:
    world.payer.desk.set_plan(second_insurance(world), Plan(coverage="missing"))
    world.sign_film()
    world.plan_crown()
    world.pull()
    world.answer_questions()
    draft = world.work.question(world.case_id).draft
    assert draft["payer"] == "Example Dental Plan (EX001)"
    assert "Second Dental (OT002) pays second" in draft["coordination"]
    assert draft["eligibility_secondary"]["coverage"] != "active"


def verifications(world: World) -> list[str]:
    """Read what is noted on the patient's insurances; the evening asks about others too."""
    plans = world.office.rows("patplans")
    mine = {row["PatPlanNum"] for row in plans if row["PatNum"] == world.key}
    rows = world.office.rows("insverifies")
    return [str(row["Note"]) for row in rows if row["FKey"] in mine]


def second_insurance(world: World) -> str:
    """Give the patient another plan, of another carrier, which pays second."""
    carrier = world.office.add("carriers", CarrierName="Second Dental", ElectID="OT002")
    plan = world.office.add("insplans", CarrierNum=carrier["CarrierNum"], GroupNum="G9")
    member = "S900000001"
    subscription = world.office.add(
        "inssubs", PlanNum=plan["PlanNum"], Subscriber=world.key, SubscriberID=member
    )
    world.office.add(
        "patplans", PatNum=world.key, InsSubNum=subscription["InsSubNum"], Ordinal=2,
        Relationship="Self",
    )  # fmt: skip
    world.payer.desk.set_plan(member, Plan())
    return member
