"""Messages are claimed, sent once, and their outcome is kept; wishes hold for all of a family."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from node.db.session import Actor, begin, new_id, read
from node.db.tables import contact_choice, message, patient, patient_contact, patient_identity
from node.errors import Retryable
from orchestration.messengers.consent import Choice, Contact
from orchestration.messengers.contacts import choices, keep_choice, reach
from orchestration.messengers.mailroom import Letter, Mailroom, sent_to
from orchestration.messengers.message import (
    Channel,
    Message,
    Messenger,
    OutcomeUnknown,
    address_digest,
)
from orchestration.messengers.sandbox.server import InboxHandle, running_inbox
from orchestration.messengers.sms import SmsMessenger, SmsSettings
from orchestration.messengers.smtp import SmtpMessenger, SmtpSettings
from pms_writeback.merging import PatientMove, move_patient

NOW = datetime(2026, 3, 2, 15, tzinfo=UTC)
NUMBER = "+12125550123"


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[InboxHandle]:
    with running_inbox(tmp_path) as running:
        yield running


@pytest.fixture
def room(database: sa.Engine, actor: Actor, inbox: InboxHandle) -> Mailroom:
    text = SmsMessenger(
        SmsSettings(inbox.sms_url, inbox.account.key, inbox.account.number, hosts=("127.0.0.1",))
    )
    mail = SmtpMessenger(
        SmtpSettings("127.0.0.1", inbox.mail_port, "office@example.org", ca_file=inbox.ca_file)
    )
    ways: dict[Channel, Messenger] = {Channel.SMS: text, Channel.EMAIL: mail}
    return Mailroom(database, actor, ways.__getitem__)


def add_patient(
    db: sa.Engine, actor: Actor, pms_key: str, born: date = date(1980, 1, 1), **contact: str
) -> str:
    patient_id = new_id()
    with begin(db, actor, "test.patient") as tx:
        common = {"patient_id": patient_id, "location_id": "main"}
        tx.conn.execute(
            patient.insert().values(
                id=patient_id, location_id="main", pms_key=pms_key, status="active", synced_at=NOW
            )
        )
        tx.conn.execute(
            patient_identity.insert().values(
                **common, family_name="Invented", given_name="Ada", birth_date=born,
                name_key="INVENTED^ADA",
            )
        )  # fmt: skip
        tx.conn.execute(patient_contact.insert().values(**common, **contact))
    return patient_id


def letter(key: str = "k1", channel: Channel = Channel.SMS, **more: str) -> Letter:
    to = NUMBER if channel is Channel.SMS else "a@example.org"
    return Letter(key, "recall", channel, Message(to, "Come and see us."), NOW, **more)


def fine(_conn: sa.Connection) -> str:
    return ""


def states(room: Mailroom) -> list[str]:
    with read(room.db) as conn:
        return list(conn.execute(sa.select(message.c.state)).scalars())


def test_a_letter_goes_once_and_is_found_again(room: Mailroom, inbox: InboxHandle) -> None:
    assert room.find(letter()) is None
    sent = room.send(letter(), fine)
    assert room.find(letter()) == sent
    assert states(room) == ["sent"]
    assert len(inbox.messages("sms")) == 1


def test_an_objection_leaves_no_trace(room: Mailroom, inbox: InboxHandle) -> None:
    held = room.send(letter(), lambda conn: "opted out")
    assert held == {"state": "held", "reason": "opted out"}
    assert states(room) == []
    assert not inbox.messages()


def test_a_lost_answer_is_looked_for_where_that_is_possible(
    room: Mailroom, inbox: InboxHandle
) -> None:
    for channel, door in ((Channel.SMS, "sms"), (Channel.EMAIL, "smtp")):
        inbox.fault("commit_then_drop", door)  # type: ignore[arg-type]
        with pytest.raises(OutcomeUnknown):
            room.send(letter(channel.value, channel), fine)
    assert states(room) == ["sending", "sending"]
    found = [room.settle(each.value, each) for each in (Channel.SMS, Channel.EMAIL)]
    assert [each["state"] for each in found if isinstance(each, dict)] == ["sent", "in_doubt"]
    assert len(inbox.messages()) == 2


def test_what_was_certainly_not_sent_may_go_again(room: Mailroom, inbox: InboxHandle) -> None:
    inbox.fault("busy")
    with pytest.raises(Retryable):
        room.send(letter(), fine)
    assert states(room) == ["queued"]
    assert room.find(letter()) is None
    room.send(letter(), fine)
    assert states(room) == ["sent"]


def test_an_opt_out_at_the_provider_becomes_one_here(
    room: Mailroom, inbox: InboxHandle, actor: Actor
) -> None:
    patient_id = add_patient(room.db, actor, "1", mobile=NUMBER)
    inbox.reply(NUMBER, "STOP")
    outcome = room.send(replace(letter(), patient_id=patient_id), fine)
    assert isinstance(outcome, dict)
    assert outcome["state"] == "refused"
    with read(room.db) as conn:
        (row,) = conn.execute(sa.select(contact_choice)).all()
    assert (row.patient_id, row.choice, row.scope) == (patient_id, "stop", "all")


def test_messages_are_counted_over_all_channels_but_not_those_that_failed(
    room: Mailroom, inbox: InboxHandle, actor: Actor
) -> None:
    patient_id = add_patient(room.db, actor, "1")
    for key, channel in (("a", Channel.SMS), ("b", Channel.EMAIL)):
        room.send(replace(letter(key, channel), patient_id=patient_id), fine)
    inbox.fault("busy")
    with pytest.raises(Retryable):
        room.send(replace(letter("c"), patient_id=patient_id), fine)
    since = NOW - timedelta(days=7)
    with read(room.db) as conn:
        assert len(sent_to(conn, "main", patient_id, since)) == 2
        assert len(sent_to(conn, "main", patient_id, since, apart_from="a")) == 1
        assert not sent_to(conn, "elsewhere", patient_id, since)


def test_a_wish_holds_for_everybody_written_to_at_that_number(room: Mailroom, actor: Actor) -> None:
    ada, ben = (add_patient(room.db, actor, key, mobile=NUMBER) for key in ("1", "2"))
    eve = add_patient(room.db, actor, "3", mobile="212 555 0199")
    for each in (ada, ben):
        room.send(replace(letter(each), patient_id=each), fine)
    for _ in range(2):  # told twice
        with begin(room.db, actor, "test") as tx:
            keep_choice(
                tx, "event-1", scope="all", choice="stop", source="sms",
                digest=address_digest(NUMBER),
            )  # fmt: skip

    def said(patient_id: str, contact: Contact) -> list[Choice]:
        with read(room.db) as conn:
            return choices(conn, "main", [patient_id], contact)

    by_mail = Contact(email="x@example.org")
    assert [each.choice for each in said(ada, by_mail)] == ["stop"]
    assert [each.choice for each in said(ben, by_mail)] == ["stop"]
    assert said(eve, Contact(mobile="212 555 0199")) == []
    assert [each.choice for each in said(eve, Contact(mobile="(212) 555-0123"))] == ["stop"]


def test_a_wish_follows_a_patient_who_was_merged(database: sa.Engine, actor: Actor) -> None:
    gone, remains = (add_patient(database, actor, key) for key in ("1", "2"))
    with begin(database, actor, "test") as tx:
        keep_choice(tx, "k", scope="all", choice="stop", source="link", patient_id=gone)
    move_patient(database, actor, PatientMove("1", "2"), "merged in the practice's system")
    with read(database) as conn:
        said = choices(conn, "main", [remains], Contact())
    assert [each.choice for each in said] == ["stop"]


def test_a_minors_messages_go_to_the_guarantor_who_must_be_of_age(
    database: sa.Engine, actor: Actor
) -> None:
    born = date(2017, 5, 5)
    parent = add_patient(database, actor, "1", mobile="+12125550101")
    child = add_patient(database, actor, "2", born, guarantor_key="1", mobile="+12125550102")
    sibling = add_patient(database, actor, "3", born, guarantor_key="2", email="c@example.org")
    adult = add_patient(database, actor, "4", guarantor_key="1", mobile="+12125550104")
    with read(database) as conn:
        reached = {each: reach(conn, "main", each, NOW.date()) for each in (child, sibling, adult)}
        assert reach(conn, "elsewhere", child, NOW.date()) is None
    assert [r and (r.owner_id, r.contact.mobile) for r in reached.values()] == [
        (parent, "+12125550101"),
        (sibling, ""),  # a guarantor under age answers for nobody
        (adult, "+12125550104"),
    ]
    assert reached[child] is not None
    assert reached[child].age == 8


def test_a_guarantor_who_was_merged_is_followed_and_one_who_was_deleted_is_not(
    database: sa.Engine, actor: Actor
) -> None:
    born = date(2017, 5, 5)
    add_patient(database, actor, "1", mobile="+12125550101")
    remains = add_patient(database, actor, "5", mobile="+12125550105")
    child = add_patient(database, actor, "2", born, guarantor_key="1", mobile="+12125550102")

    def number() -> str:
        with read(database) as conn:
            reached = reach(conn, "main", child, NOW.date())
        return reached.contact.mobile if reached else ""

    move_patient(database, actor, PatientMove("1", "5"), "merged in the practice's system")
    assert number() == "+12125550105"
    with begin(database, actor, "test") as tx:
        tx.conn.execute(
            patient.update().where(patient.c.id == remains).values(tombstoned_at=tx.now)
        )
    assert number() == "+12125550102"
