"""DICOM audit messages at a real collector: what is told, in which form, and what waits."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import sqlalchemy as sa

from node.audit_messages import Kind, Party, Told, compose, kind_of
from node.audit_telling import AuditTeller, read_progress
from node.db.session import Actor, begin, read
from node.db.tables import instance
from node.status import Status
from node.syslog import Collector, SyslogSender, Transport
from node.web.accounts import create_user
from tests.protocol.conftest import Node, make_film, wait_until, write
from tests.protocol.rsyslog import Rsyslog, free_port, plain_tcp

pytestmark = pytest.mark.protocol

LATER = timedelta(hours=2)


def soon(hours: int = 0) -> datetime:
    return datetime.now(UTC) + hours * LATER


def teller_of(node: Node, port: int) -> AuditTeller:
    audit = node.config.audit.model_copy(
        update={"syslog_host": "127.0.0.1", "syslog_port": port, "syslog_dicom": True}
    )
    node.config = node.config.model_copy(update={"audit": audit})
    return AuditTeller(
        node.db, node.config, SyslogSender(Collector("127.0.0.1", port, Transport.TCP))
    )


def messages(collector: Rsyslog) -> list[ET.Element]:
    found = []
    for line in collector.lines():
        *_, msgid, _, text = line.split("|", 6)
        assert msgid == "DICOM+RFC3881"
        found.append(ET.fromstring(text.lstrip("\ufeff")))
    return found


def codes(root: ET.Element) -> tuple[str, str]:
    event = root.find("EventIdentification")
    assert event is not None
    return event.find("EventID").get("csd-code"), event.get("EventActionCode")


def test_accesses_and_transfers_reach_the_repository(start: Callable[..., Node], tmp_path: Path):
    node = start()
    port = free_port()
    teller = teller_of(node, port)
    assert teller.run_due(soon()) == 0, "what was before it was switched on is not told"
    film = make_film(PatientName="Doe^Jane", PatientID="17")
    node.storescu("-aet", "SENSOR1", write(film, tmp_path / "film.dcm"))
    dentist = create_user(
        node.db,
        Actor("cli", "main"),
        username="lin",
        display_name="Anna Lin",
        role="dentist",
        password="correct horse battery",
    )
    with read(node.db) as conn:
        study_id = conn.execute(sa.select(instance.c.study_id)).scalar_one()
    with begin(node.db, Actor(dentist, "main"), "study.opened") as tx:
        tx.record(f"study:{study_id}")
    with begin(node.db, Actor("sweep", "main"), "sweep.done"):
        pass

    assert teller.run_due(soon()) == 0, "nobody listens there yet"
    status = Status(node.db, node.config).probes()["audit messages"]
    assert not status.is_ok
    assert "entries of the audit wait" in status.words
    collector = Rsyslog(tmp_path, plain_tcp(port))
    try:
        hours = iter(range(1, 200))
        wait_until(lambda: teller.run_due(soon(next(hours))) > 0)
        wait_until(lambda: len(collector.lines()) >= 3)
        transfer, created, opened = messages(collector)
    finally:
        collector.stop()
    with read(node.db) as conn:
        progress = read_progress(conn, "main")
    assert (progress.waiting, progress.error) == (0, "")
    assert Status(node.db, node.config).probes()["audit messages"].is_ok

    assert codes(transfer) == ("110104", "C")
    sender, receiver = transfer.findall("ActiveParticipant")
    assert (sender.get("UserID"), sender.get("UserIsRequestor")) == ("SENSOR1", "true")
    assert receiver.find("RoleIDCode").get("csd-code") == "110152"
    study, patient = transfer.findall("ParticipantObjectIdentification")
    assert study.get("ParticipantObjectID") == film.StudyInstanceUID
    sop_class = study.find("ParticipantObjectDescription/SOPClass")
    assert (sop_class.get("UID"), sop_class.get("NumberOfInstances")) == (film.SOPClassUID, "1")
    assert patient.get("ParticipantObjectID") == "17"
    assert codes(created) == ("110113", "U")
    assert codes(opened) == ("110103", "R")
    (person,) = opened.findall("ActiveParticipant")
    assert (person.get("UserID"), person.get("AlternativeUserID")) == ("lin", dentist)
    assert "Doe" not in ET.tostring(transfer, encoding="unicode"), "by number, not by name"


def test_what_a_collector_refuses_is_told_again_and_only_once_in_order(
    start: Callable[..., Node], tmp_path: Path
):
    node = start()
    port = free_port()
    teller = teller_of(node, port)
    teller.run_due(soon())
    for number in range(450):
        with begin(node.db, Actor("dicom", "main"), "archive.queried") as tx:
            tx.record(f"query-{number}", peer="VIEWER")
    collector = Rsyslog(tmp_path, plain_tcp(port))
    try:
        hours = iter(range(1, 200))
        wait_until(lambda: teller.run_due(soon(next(hours))) == 450)
        wait_until(lambda: len(collector.lines()) >= 450)
        assert teller.run_due(soon(300)) == 0
        told = [codes(root) for root in messages(collector)]
    finally:
        collector.stop()
    assert told == [("110112", "E")] * 450


def test_what_the_program_does_for_itself_is_not_told():
    assert kind_of("sweep.done") is None
    assert kind_of("user.preferences_changed") is None
    assert kind_of("case.step_done") is None
    wrong = kind_of("user.wrong_password")
    assert wrong is not None
    assert wrong.outcome == 4


def test_hostile_text_stays_text():
    title = 'EVIL"><x>\x00\n&'
    told = Told(datetime.now(UTC), "NODE", "main", (Party(title, True),), query="a\x01<b>")
    root = ET.fromstring(compose(Kind("110112", "E"), told))
    assert root.find("ActiveParticipant").get("UserID").startswith('EVIL"><x>')
    assert [child.tag for child in root] == [
        "EventIdentification",
        "ActiveParticipant",
        "AuditSourceIdentification",
        "ParticipantObjectIdentification",
    ]
