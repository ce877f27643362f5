"""No agreement, no call: what was to go out waits and goes on once one is recorded."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from node.config import Config, read_config
from node.db.agreements import (
    Agreement,
    NoAgreement,
    demand,
    parties,
    record,
    revoke,
    standings,
)
from node.db.session import Actor, begin, read
from node.db.tables import audit, workflow_case
from node.engine import DurableEngine
from node.errors import InvalidInput, NotFound
from orchestration.case import Case
from orchestration.workflow import Outcome, Workflow, done
from orchestration.workflows import open_workflows
from tests.orchestration.clockwork import Clockwork

ACTOR = Actor("test", "main")
NOW = datetime(2026, 3, 2, 15, 0, tzinfo=UTC)
TODAY = NOW.date()
HOUSE = {"url": "https://clearinghouse.example/v1", "allowed_hosts": ("clearinghouse.example",)}


def config(**sections: dict[str, object]) -> Config:
    return read_config(environment={}, overrides=sections)


def paper(party: str, until: date, counterparty: str = "Clearing House Inc.") -> Agreement:
    return Agreement(party, counterparty, "A. Manager", TODAY - timedelta(days=30), until, "a" * 64)


def keep(db: sa.Engine, settings: Config, agreement: Agreement) -> str:
    with begin(db, ACTOR, "agreement.recorded") as tx:
        return record(tx, settings, agreement)


def test_a_party_may_be_called_only_while_its_agreement_is_in_force(database: sa.Engine) -> None:
    settings = config(payers={**HOUSE, "api_key": "k"})

    def ask(now: datetime) -> None:
        with read(database) as conn:
            demand(conn, settings, "payer", now)

    with pytest.raises(NoAgreement, match="none is recorded"):
        ask(NOW)
    agreement_id = keep(database, settings, paper("payer", TODAY + timedelta(days=90)))
    ask(NOW)
    ask(NOW + timedelta(days=90))
    with pytest.raises(NoAgreement, match="ended on 2026-05-31"):
        ask(NOW + timedelta(days=91))
    keep(database, settings, paper("payer", TODAY + timedelta(days=400)))
    ask(NOW + timedelta(days=91))
    with read(database) as conn:
        (standing,) = standings(conn, settings, NOW + timedelta(days=371))
    assert (standing.may_be_called, standing.words) == (
        True,
        "the agreement with payer ends on 2027-04-06",
    )
    with begin(database, ACTOR, "agreement.revoked") as tx:
        revoke(tx, standing.agreement_id, "changed the clearinghouse")
    ask(NOW)  # the older one still stands
    with begin(database, ACTOR, "agreement.revoked") as tx:
        revoke(tx, agreement_id, "changed the clearinghouse")
    with pytest.raises(NoAgreement, match="none is recorded"):
        ask(NOW)
    with pytest.raises(NotFound), begin(database, ACTOR, "agreement.revoked") as tx:
        revoke(tx, agreement_id, "again")


def test_an_agreement_names_who_what_and_until_when(sqlite_database: sa.Engine) -> None:
    for wrong in (
        {"counterparty": " "},
        {"signed_by": ""},
        {"valid_until": TODAY - timedelta(days=40)},
        {"document_sha256": "abc"},
    ):
        values = {
            "party": "payer", "counterparty": "C", "signed_by": "A",
            "signed_on": TODAY - timedelta(days=30), "valid_until": TODAY,
            "document_sha256": "b" * 64, **wrong,
        }  # fmt: skip
        with pytest.raises(InvalidInput):
            Agreement(**values)
    with pytest.raises(NotFound, match="no party payer"):
        keep(sqlite_database, config(), paper("payer", TODAY))
    keep(sqlite_database, config(payers={**HOUSE, "api_key": "k"}), paper("payer", TODAY))
    with read(sqlite_database) as conn:
        row = conn.execute(sa.select(audit).where(audit.c.action == "agreement.recorded")).one()
    assert (row.detail["party"], row.detail["document"]) == ("payer", "a" * 64)


@pytest.mark.parametrize(
    ("host", "is_sandbox", "needs"),
    [
        ("127.0.0.1", True, False),
        ("localhost", True, False),
        ("127.0.0.1", False, True),  # perhaps the end of a tunnel
        ("clearinghouse.example", True, True),
        ("192.168.1.9", True, True),
    ],
)
def test_only_a_marked_sandbox_on_this_machine_needs_none(
    host: str, is_sandbox: bool, needs: bool
) -> None:
    url = f"https://{host}/v1"
    settings = config(payers={"url": url, "is_sandbox": is_sandbox, "api_key": "k"})
    assert parties(settings)["payer"].needs_agreement is needs


def test_every_way_out_that_is_configured_is_a_party() -> None:
    peers = [
        {"name": "pacs", "ae_title": "PACS", "host": "10.0.0.9", "port": 104},
        {"name": "cloud", "ae_title": "CLOUD", "host": "archive.example", "port": 104},
        {"name": "hub", "ae_title": "HUB", "host": "10.0.0.8", "port": 104, "external": True},
    ]
    lab = {"key": "smile", "name": "Smile Lab", "transport": "sftp", "host": "sftp.smile.example"}
    hook = {"name": "crm", "url": "https://crm.example/in", "secret": "s" * 16}
    settings = config(
        payers={**HOUSE, "api_key": "k"},
        dicom={"peers": peers},
        labs={"partners": [lab]},
        workflows={"webhooks": [hook]},
        gateway={"base_url": "https://llm.example/v1"},
        messengers={"smtp_host": "mail.example", "sms_url": "https://sms.example/",
                    "chat_url": "https://chat.example/x"},
    )  # fmt: skip
    assert set(parties(settings)) == {
        "payer", "archive:cloud", "archive:hub", "lab:smile", "webhook:crm", "model", "email",
        "sms", "chat",
    }  # fmt: skip
    assert all(party.needs_agreement for party in parties(settings).values())


def test_no_installed_workflow_calls_somebody_who_is_no_party(
    sqlite_database: sa.Engine, tmp_path: Path
) -> None:
    lab = {"key": "smile", "name": "Smile", "transport": "api", "url": "https://smile.example",
           "api_key": "k"}  # fmt: skip
    hook = {"name": "crm", "url": "https://crm.example/in", "secret": "s" * 16}
    settings = config(
        node={"data_dir": str(tmp_path)},
        payers={**HOUSE, "api_key": "k"},
        labs={"partners": [lab]},
        workflows={"webhooks": [hook]},
        messengers={"smtp_host": "mail.example", "sms_url": "https://sms.example/",
                    "chat_url": "https://chat.example/x"},
    )  # fmt: skip
    called = {
        partner
        for flow in open_workflows(settings, sqlite_database).values()
        for partner in flow.partners
    }
    assert called
    for partner in called:
        with pytest.raises(NoAgreement), read(sqlite_database) as conn:
            demand(conn, settings, partner, NOW)


def test_a_case_waits_with_the_reason_and_goes_on_when_one_is_recorded(
    sqlite_database: sa.Engine, engine: DurableEngine, tmp_path: Path
) -> None:
    posted: list[str] = []
    flow = Workflow(name="claims", title="Claims", partners=frozenset({"payer"}))

    @flow.stage
    def send(case: Case) -> Outcome:
        case.outside("payer", "send", lambda: posted.append(case.key))
        return done("sent")

    work = Clockwork(
        sqlite_database, engine, tmp_path, flow, workflows={"modes": {"claims": "assist"}},
        payers={**HOUSE, "api_key": "k"},
    )  # fmt: skip
    work.start(flow, "claim-1")
    work.settle()

    def case() -> sa.Row:
        with read(sqlite_database) as conn:
            return conn.execute(sa.select(workflow_case)).one()

    assert (case().state, posted) == ("retrying", [])
    assert case().error == "waits for an agreement with payer: none is recorded"
    for _ in range(3):
        work.pass_time(hours=5)
    assert (case().attempts, posted) == (0, [])  # waiting is no failure
    settings = work.runner.config
    until = work.now.date() + timedelta(days=60)
    keep(sqlite_database, settings, paper("payer", until))
    work.pass_time(minutes=20)
    assert (case().state, posted) == ("done", ["claim-1"])
    work.pass_time(days=61)
    work.start(flow, "claim-2")
    work.settle()
    assert posted == ["claim-1"]
    with read(sqlite_database) as conn:
        second = conn.execute(
            sa.select(workflow_case.c.error).where(workflow_case.c.key == "claim-2")
        ).scalar_one()
    assert "ended on" in second
