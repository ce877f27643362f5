"""What the recall workflow does at one stage: facts, the next step, a draft, a letter, an entry.

Stages stay short: each calls one thing here and says what follows.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import cache
from typing import cast

import sqlalchemy as sa

from node.config import Config
from node.db.session import Actor, begin, read
from node.db.tables import message_reply, user_account
from node.errors import InvalidInput
from orchestration.access import Chart
from orchestration.case import Case
from orchestration.messengers.consent import (
    Choice,
    Way,
    has_stopped,
    language_of,
    next_hour,
    next_turn,
    ways,
)
from orchestration.messengers.contacts import Reached, choices
from orchestration.messengers.links import LinkKey
from orchestration.messengers.mailroom import Letter, Mailroom, sent_to
from orchestration.messengers.message import Channel, Message, Messenger
from orchestration.messengers.office import channels, open_messenger
from orchestration.messengers.stop_page import stop_link
from orchestration.recall import lift, policy, templates, trials
from orchestration.recall.facts import Facts, look
from orchestration.recall.segments import Segment
from orchestration.recall.sequence import Finish, Send, Touch, next_step
from orchestration.recall.templates import Filling
from orchestration.workflow import Draft, Json
from pms_writeback.commands import AppendCommlog, CreateTask, SetRecallStatus

_MOST_TEXT = 1_600
_QUOTED = 200
#: A message is looked back for this long when they are counted.
_COUNTED = timedelta(days=60)


class Desk:
    """The recall desk of one practice; `key` signs the links that end messages."""

    def __init__(self, config: Config, key: LinkKey) -> None:
        self._config = config
        self._section = config.recall
        self._key = key
        self._texts = templates.load(config.recall.template_dir)

        @cache
        def open_way(channel: Channel) -> Messenger:
            return open_messenger(config, channel)

        self._open_way = open_way

    def facts(self, case: Case) -> Facts:
        """Look at the case's recall anew; whatever was planned, the chart of now counts."""
        assert case.patient_id is not None
        return look(
            case.chart, case.patient_id, str(case.data["recall_key"]), self._section.days_ahead
        )

    def ways(self, case: Case, reached: Reached) -> tuple[Way, ...]:
        """Find the ways that are open to this patient now, the preferred one first."""
        refused = cast("list[str]", case.data.get("refused", []))
        found = ways(
            reached.contact,
            self._choices(case, reached),
            channels(self._config),
            texts_need_consent=self._section.texts_need_consent,
        )
        return tuple(way for way in found if way.channel.value not in refused)

    def has_stopped(self, case: Case, reached: Reached) -> bool:
        """Tell whether the patient wants no messages at all."""
        said = self._choices(case, reached)
        return all(has_stopped(said, each) for each in (Channel.EMAIL, Channel.SMS))

    def next_step(self, case: Case, reached: Reached) -> Send | Finish:
        """Plan the next message from what was sent."""
        segment = Segment(str(case.data["segment"]))
        return next_step(segment, touches(case), self.ways(case, reached), case.clock())

    def moment(self, case: Case, not_before: datetime) -> datetime:
        """Find when the next message may go: by the count of messages, then by the hour."""
        return self._moment(case, max(not_before, case.clock()), "")

    def moment_of_draft(self, case: Case) -> datetime:
        """Find when the message that was drafted may go; it may be on its way already."""
        return self._moment(case, case.clock(), _letter_key(case))

    def _moment(self, case: Case, not_before: datetime, apart_from: str) -> datetime:
        with read(case.chart.db) as conn:
            turn = self._turn(conn, case, not_before, apart_from)
        section = self._section
        return next_hour(
            turn, case.chart.zone, section.send_from, section.send_until, section.send_weekdays
        )

    def draft(self, case: Case, step: Send, reached: Reached) -> Draft:
        """Compose the message of a step as a person is asked for it."""
        node = self._config.node
        language = language_of(reached.contact)
        template = self._texts.find(step.template, language, step.way.channel)
        rendered = templates.render(
            template,
            Filling(
                practice=node.practice_name,
                phone=self._section.phone,
                booking_url=self._section.booking_url,
                stop_url=self._stop_url(case, step.way),
                first_name=reached.first_name if self._section.use_first_name else "",
            ),
        )
        return {
            "channel": step.way.channel.value,
            "template": rendered.template,
            "subject": rendered.subject,
            "text": rendered.text,
            "language": language,
            "segment": str(case.data["segment"]),
        }

    def standing_approval(self, case: Case) -> str:
        """Give the id of the policy under which the case's draft may go unasked; empty for none."""
        draft = cast("Mapping[str, str]", case.data["draft"])
        found = self._texts.by_id(draft["template"])
        with read(case.chart.db) as conn:
            return policy.covers(
                conn,
                case.chart.location_id,
                Segment(str(case.data["segment"])),
                found,
                case.clock(),
            )

    def send(self, case: Case, way: Way, reached: Reached) -> str:
        """Send the case's draft once; returns what became of it (`Mailroom.send`)."""
        draft = cast("Mapping[str, str]", case.data["draft"])
        letter = Letter(
            key=_letter_key(case),
            purpose="recall",
            channel=way.channel,
            message=Message(
                way.address,
                draft["text"],
                draft["subject"],
                self._stop_url(case, way) if way.channel is Channel.EMAIL else "",
            ),
            at=case.clock(),
            patient_id=case.patient_id,
            case_id=case.id,
            template=draft["template"],
        )
        room = Mailroom(case.chart.db, _actor(case.chart), self._open_way)
        result = case.outside(
            way.channel.value,
            _step_name(case),
            lambda: room.send(letter, lambda conn: self._objection(conn, case, reached)),
            lambda: room.find(letter),
        )
        return str(cast("Mapping[str, Json]", result)["state"])

    def settle(self, case: Case) -> str:
        """Find out whether the case's draft went out in an earlier run; empty when it did not."""
        channel = Channel(str(cast("Mapping[str, str]", case.data["draft"])["channel"]))
        room = Mailroom(case.chart.db, _actor(case.chart), self._open_way)
        found = room.settle(_letter_key(case), channel)
        return "" if found is None else str(cast("Mapping[str, Json]", found)["state"])

    def draw_arm(self, case: Case) -> lift.Arm:
        """Draw whether this reminder is delayed, and write it down with its seed."""
        section = self._section

        def assign() -> Json:
            arm = lift.draw(section.lift_seed, case.key, section.lift_share)
            with begin(case.chart.db, _actor(case.chart), "recall.trial") as tx:
                trials.assign(
                    tx,
                    case.key,
                    arm,
                    seed=section.lift_seed,
                    share=section.lift_share,
                    delay_days=section.lift_delay_days,
                    at=case.clock(),
                )
            return arm.value

        return lift.Arm(str(case.once("arm", assign)))

    def keep_booking(self, case: Case) -> None:
        """Write down that the patient booked, for the measurement."""

        def keep() -> Json:
            with begin(case.chart.db, _actor(case.chart), "recall.booked") as tx:
                trials.book(tx, case.key, case.clock())
            return True

        case.once("booked", keep)

    def log(self, case: Case, name: str, words: str) -> None:
        """Put an entry into the patient's communication log, once per name."""
        if self._may_write(case):
            key, ref = case.chart.pms_key(), case.ref(name)
            case.queue(name, AppendCommlog(key, words, case.clock(), ref))

    def mark(self, case: Case, name: str, channel: Channel) -> None:
        """Set the recall's status in the chart to the office's word for what was sent."""
        section = self._section
        status = section.status_texted if channel is Channel.SMS else section.status_emailed
        if status and self._may_write(case):
            key, recall_key = case.chart.pms_key(), str(case.data["recall_key"])
            case.queue(name, SetRecallStatus(key, recall_key, status, case.ref(name)))

    def task(self, case: Case, name: str, words: str) -> None:
        """Ask somebody by a task in the PMS, once per name."""
        if self._may_write(case):
            case.queue(name, CreateTask(case.chart.pms_key(), words, case.ref(name)))

    def name_of(self, case: Case, user_id: str) -> str:
        """Name a colleague as the chart's readers know them."""
        with read(case.chart.db) as conn:
            name = conn.execute(
                sa.select(user_account.c.display_name).where(
                    user_account.c.id == user_id,
                    user_account.c.location_id == case.chart.location_id,
                )
            ).scalar()
        return str(name or f"user {user_id[:8]}")

    def _may_write(self, case: Case) -> bool:
        return not case.is_silent and self._config.pms.kind != "none"

    def _choices(self, case: Case, reached: Reached) -> list[Choice]:
        with read(case.chart.db) as conn:
            return self._choices_in(conn, case, reached)

    def _choices_in(self, conn: sa.Connection, case: Case, reached: Reached) -> list[Choice]:
        people = {reached.owner_id, str(case.patient_id)}
        return choices(conn, case.chart.location_id, sorted(people), reached.contact)

    def _turn(self, conn: sa.Connection, case: Case, moment: datetime, apart_from: str) -> datetime:
        assert case.patient_id is not None
        since = case.clock() - _COUNTED
        sent = sent_to(conn, case.chart.location_id, case.patient_id, since, apart_from)
        return next_turn(moment, sent, self._section.most_per_week, self._section.days_between)

    def _objection(self, conn: sa.Connection, case: Case, reached: Reached) -> str:
        """Ask once more as the message is claimed: a wish of this very moment counts."""
        said = self._choices_in(conn, case, reached)
        draft = cast("Mapping[str, str]", case.data["draft"])
        if has_stopped(said, Channel(draft["channel"])):
            return "opted out"
        turn = self._turn(conn, case, case.clock(), _letter_key(case))
        return "too soon" if turn > case.clock() else ""

    def _stop_url(self, case: Case, way: Way) -> str:
        assert case.patient_id is not None
        return stop_link(self._config, self._key, case.patient_id, way.address, case.clock())


def touches(case: Case) -> list[Touch]:
    """Read the steps that a case has done."""
    kept = cast("list[Mapping[str, str]]", case.data.get("touches", []))
    return [
        Touch(int(each["step"]), Channel(each["channel"]), datetime.fromisoformat(each["at"]))
        for each in kept
    ]


def keep_touch(case: Case, channel: Channel) -> None:
    """Write down that the case's step was done by a channel."""
    touch = {"step": case.data["step"], "channel": channel.value, "at": case.clock().isoformat()}
    case.data["touches"] = [*cast("list[Json]", case.data.get("touches", [])), touch]


def try_otherwise(case: Case, channel: Channel) -> None:
    """Let the case's step be done again, by another way than this one."""
    case.data["tries"] = int(str(case.data.get("tries", 0))) + 1
    case.data["refused"] = [*cast("list[Json]", case.data.get("refused", [])), channel.value]


def take_back_touch(case: Case, key: str) -> None:
    """Forget the last step if it is the one of this message's key: it did not arrive."""
    kept = cast("list[Mapping[str, Json]]", case.data.get("touches", []))
    if kept and f":send:{kept[-1]['step']}:" in f"{key}":
        case.data["touches"] = list(kept[:-1])


def sent_words(case: Case, outcome: str) -> str:
    """Say for the communication log what went out, in whose name."""
    draft = cast("Mapping[str, str]", case.data["draft"])
    way = "text message" if draft["channel"] == Channel.SMS.value else "e-mail"
    verb = "may have been sent (its answer was lost)" if outcome == "in_doubt" else "sent"
    by = case.data.get("approved_by", "")
    return f"Recall message {verb} by {way}: {draft['template']}, approved by {by}."


def quoted(case: Case, event_id: str) -> str:
    """Quote a patient's answer for the person who will call."""
    with read(case.chart.db) as conn:
        text = conn.execute(
            sa.select(message_reply.c.text).where(
                message_reply.c.location_id == case.chart.location_id,
                message_reply.c.key == event_id,
            )
        ).scalar()
    plain = " ".join("".join(c if c.isprintable() else " " for c in text or "").split())
    return f'"{plain[:_QUOTED]}"' if plain else ""


def check_draft(draft: Draft) -> None:
    """Refuse an edited message that could not go out as it is. Raises InvalidInput."""
    text, subject = draft.get("text"), draft.get("subject", "")
    if not isinstance(text, str) or not text.strip() or len(text) > _MOST_TEXT:
        raise InvalidInput(f"a message has between 1 and {_MOST_TEXT} characters")
    if not isinstance(subject, str) or not subject.isprintable():
        raise InvalidInput("a subject is one line")
    if draft.get("channel") == Channel.SMS.value and "STOP" not in text:
        raise InvalidInput("a text message says how to end messages: Reply STOP")
    if draft.get("channel") == Channel.EMAIL.value and not subject.strip():
        raise InvalidInput("an e-mail has a subject")


def _step_name(case: Case) -> str:
    """Name the sending of the case's draft; another try is another message."""
    return f"send:{case.data['step']}:{case.data.get('tries', 0)}"


def _letter_key(case: Case) -> str:
    return f"case:{case.id}:{_step_name(case)}"


def _actor(chart: Chart) -> Actor:
    return Actor("workflows", chart.location_id)
