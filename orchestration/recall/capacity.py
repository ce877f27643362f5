"""How many reminders go out today: as many as the coming days have room for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from math import ceil

import sqlalchemy as sa

from node.config import Config
from pms_writeback.availability import Slot, open_slots


def allowance(
    open_visits: int | None, outstanding: int, booking_rate: float, most_a_day: int
) -> int:
    """Say how many new reminders may go out.

    `open_visits` is the room in the days to be filled, None where it is not counted;
    `outstanding` reminders went out already and may still bring visits.
    """
    if open_visits is None:
        return most_a_day
    free = open_visits - outstanding * booking_rate
    return max(0, min(most_a_day, ceil(free / booking_rate)))


def open_visits(conn: sa.Connection, config: Config, now: datetime) -> int | None:
    """Count the visits that fit into the coming days of the configured hygienists.

    None where none is configured. A provider is counted once at a time, however many rooms are
    free. Days whose visits we do not read (``pms.days_after``) are not counted.
    """
    section = config.recall
    today = now.astimezone(config.zone).date()
    days = min(section.fill_days, config.pms.days_after)
    if not section.hygienists or not days:
        return None
    total = 0
    for provider_key in section.hygienists:
        slots = open_slots(
            conn,
            config,
            now=now,
            first=today + timedelta(days=1),
            last=today + timedelta(days=days),
            minutes=section.visit_min,
            provider_key=provider_key,
            appointment_type=section.appointment_type,
            step_min=section.visit_min,
        )
        total += _apart(slots)
    return total


def _apart(slots: Sequence[Slot]) -> int:
    """Count slots of one provider that do not overlap, earliest first."""
    count, free_at = 0, None
    for slot in slots:
        if free_at is None or slot.starts_at >= free_at:
            count += 1
            free_at = slot.starts_at + timedelta(minutes=slot.minutes)
    return count
