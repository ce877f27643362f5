"""Telling patients where their work is: fixed words, nothing clinical, only who agreed to messages.

Switching ``labs.tell_patients`` on is the office's approval of these words; they name no work. A
patient without consent, address or hour is not told by us; the front desk has its own tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import cast

import sqlalchemy as sa

from node.config import Config
from node.db.session import Actor, read
from orchestration.case import Case
from orchestration.messengers.consent import Choice, Way, has_stopped, next_hour, ways
from orchestration.messengers.contacts import Reached, choices
from orchestration.messengers.mailroom import Letter, Mailroom
from orchestration.messengers.message import Channel, Message
from orchestration.messengers.office import channels, open_messenger
from orchestration.workflow import Json


class PatientDesk:
    """Writes to the patients of lab cases, by the ways they agreed to."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def hour(self, case: Case) -> datetime:
        """Find the next moment within the practice's hours for messages."""
        hours = self._config.recall
        return next_hour(
            case.clock(), case.chart.zone, hours.send_from, hours.send_until, hours.send_weekdays
        )

    def way(self, case: Case) -> tuple[Way, Reached] | None:
        """Find the way by which this patient may be told; None when there is none."""
        if not self._config.labs.tell_patients or case.is_silent or case.patient_id is None:
            return None
        reached = case.chart.reached()
        if reached is None or not reached.is_active:
            return None
        with read(case.chart.db) as conn:
            found = ways(
                reached.contact,
                self._choices(conn, case, reached),
                channels(self._config),
                texts_need_consent=self._config.recall.texts_need_consent,
            )
        return (found[0], reached) if found else None

    def tell(self, case: Case, name: str, words: str, way: Way, reached: Reached) -> str:
        """Send one message once; returns what became of it (`Mailroom.send`)."""
        node = self._config.node
        text = f"{node.practice_name}: {words}"
        if way.channel is Channel.SMS:
            text += " Reply STOP to end messages."
        letter = Letter(
            key=f"case:{case.id}:{name}",
            purpose="lab_case",
            channel=way.channel,
            message=Message(way.address, text, "A message from your dental practice"),
            at=case.clock(),
            patient_id=case.patient_id,
            case_id=case.id,
            template=name,
        )
        room = Mailroom(
            case.chart.db,
            Actor("workflows", case.chart.location_id),
            lambda channel: open_messenger(self._config, channel),
        )
        result = case.outside(
            way.channel.value,
            name,
            lambda: room.send(letter, lambda conn: self._objection(conn, case, reached, way)),
            lambda: room.find(letter),
        )
        return str(cast("Mapping[str, Json]", result)["state"])

    def _objection(self, conn: sa.Connection, case: Case, reached: Reached, way: Way) -> str:
        """Ask once more as the message is claimed: a wish of this very moment counts."""
        said = self._choices(conn, case, reached)
        return "opted out" if has_stopped(said, way.channel) else ""

    @staticmethod
    def _choices(conn: sa.Connection, case: Case, reached: Reached) -> list[Choice]:
        people = sorted({reached.owner_id, str(case.patient_id)})
        return choices(conn, case.chart.location_id, people, reached.contact)
