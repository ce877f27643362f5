"""What goes wrong with lab cases: laboratories away, words lost, work late, work made again."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from fastapi.testclient import TestClient

from node.db.agreements import Agreement, record
from node.db.session import begin
from node.db.tables import case_entry, message, pms_command
from node.engine import DurableEngine
from orchestration.labs import fetching
from orchestration.labs.package import read_package
from orchestration.messengers.office import link_key
from tests.orchestration.clockwork import ACTOR
from tests.orchestration.labs.lab_world import ADA, MISSING, LabWorld, lab_world


@pytest.fixture
def world(sqlite_database: sa.Engine, engine: DurableEngine, tmp_path: Path) -> Iterator[LabWorld]:
    with lab_world(sqlite_database, engine, tmp_path) as running:
        yield running


def job(world: LabWorld) -> dict[str, object]:
    (only,) = world.lab.bench.jobs.values()
    return {"packages": only.packages, "status": only.status}


def test_a_laboratory_down_for_an_hour_gets_the_case_once(world: LabWorld) -> None:
    world.lab.fault("down")
    world.prescribe()
    assert world.case.state == "retrying"
    world.work.pass_time(hours=1)
    assert world.lab.bench.jobs == {}
    world.lab.fault("clear")
    world.work.pass_time(minutes=20)
    world.settle()
    assert job(world) == {"packages": 1, "status": "received_file"}
    assert world.state == "sent"


def test_a_lost_answer_sends_nothing_twice(world: LabWorld) -> None:
    world.lab.fault("commit_then_drop")
    world.prescribe()
    world.work.pass_time(minutes=20)
    world.settle()
    assert job(world)["packages"] == 1
    assert world.state == "sent"
    world.pull()
    assert len(world.lab_cases()) == 1


def test_words_twice_out_of_order_and_forged_change_nothing(world: LabWorld) -> None:
    world.prescribe()
    world.lab.fault("bad_signature")
    world.lab.fault("duplicate", count=2)
    world.lab.fault("out_of_order")
    world.work.pass_time(hours=30)  # two words are due together
    world.lab.work()
    world.settle()
    statuses = [call.status for call in world.lab.caller.calls]
    assert 401 in statuses
    assert statuses.count(202) >= 4
    assert world.state == "in_production"
    assert world.case.data["heard"] == list(dict.fromkeys(world.case.data["heard"]))
    log = [entry for entry in world.log() if "in production" in entry]
    assert len(log) == 1


def test_words_that_never_come_are_asked_for(world: LabWorld) -> None:
    world.prescribe()
    world.lab.fault("silent", count=10)
    world.hours(30)
    assert world.lab.caller.calls == []
    assert world.state == "in_production"


def test_late_work_proposes_another_visit_and_moves_it_only_when_told(world: LabWorld) -> None:
    world.lab.fault("delay", seconds=5 * 86400)
    world.prescribe()
    world.days(2)
    assert world.asked == "move_visit", world.explain()
    before = visit(world)
    assert "2026-03-19" in before
    question = world.work.question(world.case.id)
    assert question.draft["slots"], question.draft
    world.decide("edited", choice=1)
    assert any("takes a little longer" in text for text in world.texts())
    chosen = question.draft["slots"][1]["starts_at"]
    assert visit(world)[:10] == chosen[:10] != before[:10]
    assert world.asked == ""
    world.pull()
    assert any("too late" in entry for entry in world.log())
    assert "That is too late for this visit." in note_of_visit(world)


def test_a_visit_that_is_called_off_gives_its_place_to_the_next_one(world: LabWorld) -> None:
    world.prescribe()
    world.office.change("appointments", world.visit, AptStatus="Broken")
    world.days(2)
    assert any("called off" in task for task in world.tasks())
    assert world.case.data["seat"] == {"key": "", "at": ""}
    world.visit = int(str(world.book(world.today.replace(month=3, day=27))["AptNum"]))
    world.pull()
    world.days(2)
    assert world.case.data["seat"]["key"] == str(world.visit)
    assert "is expected on" in note_of_visit(world), world.explain()
    world.days(11)  # past the day of the alert for the visit that will not be
    assert not any("not here" in task for task in world.tasks())
    assert len([task for task in world.tasks() if "called off" in task]) == 1


@pytest.mark.parametrize("is_signed", [False, True])
def test_a_procedure_that_was_removed_from_the_chart_is_not_made(
    world: LabWorld, is_signed: bool
) -> None:
    world.scan()
    key = world.prepare_crown()
    world.pull()
    world.decide("edited", rx=MISSING)
    if is_signed:
        world.decide()
    world.office.change("procedurelogs", key, ProcStatus="D")
    world.pull()
    if is_signed:
        world.days(2)
        assert [task for task in world.tasks() if "removed from the chart" in task]
    else:
        world.decide()
        assert world.result == "no longer planned"
        assert world.lab.bench.jobs == {}


def test_a_visit_is_kept_when_a_person_says_so(world: LabWorld) -> None:
    world.lab.fault("delay", seconds=5 * 86400)
    world.prescribe()
    world.days(2)
    before = visit(world)
    world.decide("refused")
    assert visit(world) == before
    assert any("kept" in entry for entry in world.log())
    world.days(13)  # the alert, two days before the visit
    assert any("not here" in task for task in world.tasks())


def test_work_that_does_not_fit_is_made_again(world: LabWorld) -> None:
    world.prescribe()
    world.days(15)
    world.decide()
    world.decide("edited", remake_reason="shade")
    assert world.asked == "complete_prescription"  # the visit is too near for another one
    assert "due_at" in str(world.case.data["check"])
    world.office.delete_appointment(world.visit)
    world.visit = int(str(world.book(world.today.replace(month=4, day=20))["AptNum"]))
    world.pull()
    world.decide("edited", rx={"shade": {"value": "A3"}})
    assert world.asked == "sign_prescription", world.explain()
    world.decide()
    first, again = world.lab.bench.jobs.values()
    assert again.case_number == f"{first.case_number}-R1"
    assert again.is_remake
    world.pull()
    assert len(world.lab_cases()) == 2
    assert "Remake of" in str(world.lab_cases()[1]["Instructions"])
    world.days(34)
    assert world.state == "shipped", world.explain()
    world.decide()
    world.decide()
    world.decide()
    assert world.result == "seated"
    assert world.case.data["invoice"]["amount"] == "0.00"
    assert world.case.data["remade"][0]["reason"] == "shade"


def test_a_case_that_the_laboratory_sends_back_is_mended_and_sent_again(world: LabWorld) -> None:
    world.lab.fault("refuse")
    world.prescribe()
    world.hours(2)
    assert world.asked == "lab_cancelled"
    world.decide()
    assert world.asked == "sign_prescription", world.explain()
    world.decide()
    assert [j.case_number[-3:] for j in world.lab.bench.jobs.values()][1] == "-R1"
    assert world.state == "sent"


def test_dates_set_in_the_pms_count_and_a_high_invoice_goes_to_a_person(world: LabWorld) -> None:
    world.lab.fault("wrong_amount")
    world.prescribe()
    world.days(15)
    assert world.asked == "receive_case"
    (row,) = world.lab_cases()
    world.office.change("labcases", int(str(row["LabCaseNum"])), DateTimeRecd="2026-03-16 11:00:00")
    world.pull()
    assert world.asked == "check_case", world.explain()
    assert world.state == "received"
    world.decide()
    world.decide()
    assert world.asked == "lab_invoice", world.explain()
    assert "25.00 over" in str(world.work.question(world.case.id).draft["reasons"])
    world.decide()
    assert world.case.data["invoice"]["amount"] == "210.00"


def test_nobody_is_told_who_did_not_agree(world: LabWorld) -> None:
    world.scan()
    world.prepare_crown()
    world.office.change("patients", ADA, TxtMsgOk="No", Email="")
    world.pull()
    world.decide("edited", rx=MISSING)
    world.decide()
    world.days(2)
    assert world.state == "in_production"
    assert world.rows(message) == []


def test_a_prescription_is_not_signed_without_a_licence(world: LabWorld) -> None:
    world.scan()
    world.prepare_crown()
    world.pull()
    world.decide("edited", rx=MISSING)
    world.work.decide(world.case.id, by="somebody")
    assert world.case.state == "parked"
    assert "licence" in world.case.error
    assert world.lab.bench.jobs == {}


def test_a_refused_prescription_ends_the_case(world: LabWorld) -> None:
    world.scan()
    world.prepare_crown()
    world.pull()
    world.decide("refused")
    assert world.result == "refused"
    assert world.lab.bench.jobs == {}


def test_a_plan_marked_ready_begins_a_case(world: LabWorld) -> None:
    world.pull()
    codes = {row["ProcCode"]: row["CodeNum"] for row in world.office.rows("procedurecodes")}
    planned = world.office.add(
        "procedurelogs", PatNum=ADA, ProcStatus="TP", CodeNum=codes["D2740"], ToothNum="3",
        ProvNum=1, ProcDate=world.today.isoformat(), DateTP=world.today.isoformat(),
    )  # fmt: skip
    world.pull()
    assert not world.rows_of_cases()
    priority = world.office.add("definitions", Category=20, ItemName="Lab", ItemValue="")
    plan = world.office.add("treatplans", PatNum=ADA, Heading="Plan", TPStatus="Active")
    world.office.add(
        "treatplanattaches", TreatPlanNum=plan["TreatPlanNum"], ProcNum=planned["ProcNum"],
        Priority=priority["DefNum"],
    )  # fmt: skip
    world.pull()
    assert world.case.data["procedures"] == [str(planned["ProcNum"])]
    world.pull()
    assert len(world.rows_of_cases()) == 1


def test_silent_mode_reaches_the_sandbox_alone(
    sqlite_database: sa.Engine, engine: DurableEngine, tmp_path: Path
) -> None:
    with lab_world(sqlite_database, engine, tmp_path, mode="silent") as world:
        world.prepare_crown()
        world.pull()
        assert world.result == "mirrored", world.explain()
        assert len(world.lab.bench.jobs) == 1
        assert world.rows(pms_command) == []
        assert world.asked == ""


def test_an_sftp_laboratory_is_asked_for_its_words(
    sqlite_database: sa.Engine, engine: DurableEngine, tmp_path: Path
) -> None:
    with lab_world(sqlite_database, engine, tmp_path, transport="sftp") as world:
        world.prescribe()
        world.days(16)
        assert world.state == "shipped", world.explain()
        assert world.lab.caller.calls == []


def note_of_visit(world: LabWorld) -> str:
    rows = world.office.rows("appointments")
    return next(str(row["Note"]) for row in rows if row["AptNum"] == world.visit)


def visit(world: LabWorld) -> str:
    rows = world.office.rows("appointments")
    return next(str(row["AptDateTime"]) for row in rows if row["AptNum"] == world.visit)


def test_a_laboratory_without_a_connection_is_mailed_a_link(
    sqlite_database: sa.Engine, engine: DurableEngine, tmp_path: Path
) -> None:
    with lab_world(sqlite_database, engine, tmp_path, transport="email") as world:
        world.prescribe()
        (mail,) = world.inbox.messages("smtp")
        url = next(word for word in mail.text.split() if "/lab-packages/" in word)
        assert "Invented" not in mail.text
        assert httpx2.get(url).status_code == 200
        fetched = httpx2.post(url)
        rx = read_package(io.BytesIO(fetched.content)).rx
        assert rx.case_number == world.case.key
        assert httpx2.post(url[:-4] + "AAAA").status_code == 403
        assert_waits_for_an_agreement(world, url)
        world.days(15)
        assert world.asked == "receive_case", world.explain()  # it is due today
        for _ in range(3):
            world.decide()
        assert world.result == "seated"
        world.work.now += timedelta(days=30)
        assert httpx2.post(url).status_code == 403


def assert_waits_for_an_agreement(world: LabWorld, url: str) -> None:
    """The same link, of a laboratory that is no sandbox: nothing before the paper is recorded."""
    config, path = world.work.config, urlsplit(url).path

    def client_of(**change: object) -> TestClient:
        partners = [each.model_copy(update=change) for each in config.labs.partners if change]
        labs = config.labs.model_copy(update={"partners": tuple(partners)})
        runner = replace(world.work.runner, config=config.model_copy(update={"labs": labs}))
        app = FastAPI()
        app.include_router(fetching.make_router(runner, link_key(config)))
        app.state.config = runner.config
        return TestClient(app)

    client = client_of(is_sandbox=False)
    refused = client.post(path)
    assert (refused.status_code, "no agreement" in refused.text) == (403, True)
    today = world.today
    paper = Agreement(
        "lab:mail", "Mail Lab", "A. Manager", today, today + timedelta(days=9), "a" * 64
    )
    with begin(world.work.db, ACTOR, "agreement.recorded") as tx:
        record(tx, client.app.state.config, paper)
    given = client.post(path)
    assert (given.status_code, given.headers["content-type"]) == (200, "application/zip")
    assert client_of().post(path).status_code == 404  # configured no more


def test_a_dead_provider_of_texts_holds_no_lab_case_up(world: LabWorld) -> None:
    world.inbox.fault("down", "sms")
    world.prescribe()
    world.days(2)
    assert world.state == "in_production", world.explain()
    assert world.texts() == []
    world.inbox.fault("clear", "sms")
    world.days(1)
    assert [text for text in world.texts() if "making" in text], "\n".join(
        f"{r.kind} {r.stage} {r.detail}" for r in world.rows(case_entry)
    )
