"""The team hears that drafts wait, without a name or a finding.

Started by: a draft that waits for a decision; at most once a quarter of an hour per person and for
the chat room. Sends: to the chat room how many wait; to each person who may decide some of them a
mail with one-time links. Approved by: nobody, as nothing but titles and counts is in it; who gets
them stands in the configuration.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from node.config import Config
from node.db.session import read
from node.db.tables import approval, user_account
from node.domain.events import EventKind
from node.domain.rights import RIGHTS, Right, Role
from node.errors import Unsupported
from orchestration.access import Chart
from orchestration.approval_page import PATH
from orchestration.case import Case
from orchestration.cases import Row
from orchestration.messengers.links import Link, LinkKey, Purpose
from orchestration.messengers.message import Channel, Message
from orchestration.messengers.office import open_messenger, public
from orchestration.workflow import Happened, Json, Outcome, Start, Workflow, done, wait

_ROOM = ""
_PARTNERS = frozenset({"staff_chat", "staff_mail"})


def make(config: Config, key: LinkKey) -> Workflow:
    """Make the workflow for the people and the room that the configuration names."""
    section = config.messengers
    flow = Workflow(
        name="notify_staff",
        title="Notices to the team",
        partners=_PARTNERS,
        silent_partners=_PARTNERS,  # it reaches nobody but the team
    )
    span = timedelta(minutes=section.staff_every_min)

    @flow.on(EventKind.APPROVAL_ASKED)
    def asked(chart: Chart, event: Happened) -> list[Start]:
        slot = int(event.at.timestamp() // span.total_seconds())
        whom = [*section.staff_mail, *([_ROOM] if section.chat_url.get_secret_value() else [])]
        return [Start(f"{name}:{slot}", data={"to": name, "slot": slot}) for name in whom]

    @flow.stage
    def gather(case: Case) -> Outcome:
        slot = case.data["slot"]
        assert isinstance(slot, int)
        due = datetime.fromtimestamp((slot + 1) * span.total_seconds(), UTC)
        return wait(tell, until=due)

    @flow.stage
    def tell(case: Case) -> Outcome:
        name = str(case.data["to"])
        waiting = _waiting(case.chart, name)
        if not waiting:
            return done("nothing")
        if name == _ROOM:
            _send(case, config, Channel.CHAT, Message("", _counted(waiting)))
        else:
            _send(case, config, Channel.EMAIL, _mail(case, config, key, name, waiting))
        return done("told")

    return flow


def _waiting(chart: Chart, username: str) -> Sequence[Row]:
    """Read what waits: all of it for the room, for a person what this one may decide."""
    with read(chart.db) as conn:
        rows = conn.execute(
            sa.select(approval)
            .where(approval.c.location_id == chart.location_id, approval.c.state == "waiting")
            .order_by(approval.c.created_at)
        ).all()
        if username == _ROOM:
            return rows
        person = _person(conn, chart, username)
    rights: frozenset[Right] = RIGHTS[Role(person.role)] if person else frozenset()
    return [row for row in rows if Right(row.right) in rights]


def _person(conn: sa.Connection, chart: Chart, username: str) -> Row | None:
    return conn.execute(
        sa.select(user_account).where(
            user_account.c.location_id == chart.location_id,
            user_account.c.username == username,
            user_account.c.is_active,
        )
    ).first()


def _counted(waiting: Sequence[Row]) -> str:
    titles = Counter(row.title for row in waiting)
    lines = [f"{count} × {title}" for title, count in sorted(titles.items())]
    return "\n".join([f"Waiting for a decision: {len(waiting)}", *lines])


def _mail(
    case: Case, config: Config, key: LinkKey, username: str, waiting: Sequence[Row]
) -> Message:
    with read(case.chart.db) as conn:
        person = _person(conn, case.chart, username)
    assert person is not None  # something waits for this one
    until = case.clock() + timedelta(hours=config.messengers.link_hours)
    lines = [_counted(waiting), ""]
    for row in waiting:
        token = key.make(Link(Purpose.APPROVE, row.id, person.id, until))
        address = public(config, f"{PATH}/{token}")
        lines.append(f"{row.title}: {address}" if address else row.title)
    subject = f"{len(waiting)} drafts wait for your decision"
    return Message(config.messengers.staff_mail[username], "\n".join(lines), subject)


def _send(case: Case, config: Config, channel: Channel, message: Message) -> None:
    messenger = open_messenger(config, channel)
    key = f"{case.id}:notice"

    def send() -> Json:
        return messenger.send(message, key).provider_id

    def find() -> Json | None:
        try:
            found = messenger.find(key)
        except Unsupported:
            return "in doubt"  # a notice that may have gone out is not sent again
        return None if found is None else found.provider_id

    case.outside(f"staff_{'chat' if channel is Channel.CHAT else 'mail'}", "send", send, find)
