"""Who is due when: from the last completed trigger procedure and the interval in the chart.

Pure rules over values read from the practice's records. Images are never recalled by the calendar
alone: whether they are needed is a finding of the visit.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum

from node.errors import InvalidInput
from pms_writeback.records import PmsRecord

#: CDT codes that make a recall one of cleaning, of perio maintenance, or of images only.
_PROPHY = frozenset({"D1110", "D1120", "D0120", "D0145", "D1206", "D1208", "D0150"})
_PERIO = frozenset({"D4910"})
#: A visit with one of these is a recall visit.
RECALL_CODES = frozenset({"D1110", "D1120", "D4910", "D0120"})
#: A visit that had any of these is a completed recall visit of its track.
_TRIGGERS = {
    "prophy": frozenset({"D1110", "D1120"}),
    "perio": frozenset({"D4910"}),
}


class Track(StrEnum):
    """What a recall is for; the value is stored."""

    PROPHY = "prophy"
    PERIO = "perio"
    IMAGING = "imaging"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Interval:
    """A recall interval such as "6m1d": months are counted by the calendar."""

    months: int
    days: int

    @classmethod
    def parse(cls, text: str) -> Interval | None:
        """Read the PMS's text; None when it is empty or none."""
        found = re.fullmatch(r"(?:(\d+)y)?(?:(\d+)m)?(?:(\d+)w)?(?:(\d+)d)?", text.strip())
        if found is None or not text.strip():
            return None
        years, months, weeks, days = (int(part or 0) for part in found.groups())
        made = cls(years * 12 + months, weeks * 7 + days)
        return made if 0 < made.months * 30 + made.days < 40 * 366 else None

    def after(self, day: date) -> date:
        """Add it to a day; a month without that day ends on its last."""
        total = day.year * 12 + day.month - 1 + self.months
        year, month = divmod(total, 12)
        last = calendar.monthrange(year, month + 1)[1]
        return date(year, month + 1, min(day.day, last)) + timedelta(days=self.days)

    def text(self) -> str:
        """Write it as the PMS does."""
        months, days = (
            f"{n}{unit}" if n else "" for n, unit in ((self.months, "m"), (self.days, "d"))
        )
        return months + days


@dataclass(frozen=True, slots=True)
class RecallType:
    """One of the office's types of recall."""

    key: str
    track: Track
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class Recall:
    """One patient's recall as the chart has it."""

    key: str
    type_key: str
    due: date | None
    previous: date | None
    scheduled: date | None
    interval: Interval | None
    is_disabled: bool
    disabled_until: date | None
    interval_text: str = ""  # as the chart has it


@dataclass(frozen=True, slots=True)
class Due:
    """One recall to pursue; `days_overdue` is negative while it is ahead."""

    recall_key: str
    type_key: str
    track: Track
    due_on: date
    days_overdue: int


class Why(StrEnum):
    """Why a recall is not pursued."""

    INACTIVE = "the patient is not active"
    DISABLED = "switched off in the chart"
    DISABLED_UNTIL = "switched off in the chart until later"
    SCHEDULED = "a visit is booked"
    NOT_YET = "not due yet"
    NO_DATE = "neither a due day nor a completed visit"
    IMAGES = "images are asked for by need, not by the calendar"
    PERIO_INSTEAD = "perio maintenance takes its place"


def read_type(record: PmsRecord) -> RecallType:
    """Read one of the office's types; its track follows from its procedures, then its name."""
    codes = {code.strip().upper() for code in str(record.values.get("codes") or "").split(",")}
    name = str(record.values.get("name") or "").casefold()
    if codes & _PERIO or "perio" in name:
        track = Track.PERIO
    elif codes & _PROPHY or "prophy" in name or "clean" in name:
        track = Track.PROPHY
    elif any(code.startswith(("D02", "D03", "D07")) for code in codes):
        track = Track.IMAGING
    else:
        track = Track.OTHER
    return RecallType(record.key, track, Interval.parse(str(record.values.get("interval") or "")))


def read_recall(record: PmsRecord) -> Recall:
    """Read one recall of a patient; days that cannot be read are none."""
    values = record.values
    return Recall(
        key=record.key,
        type_key=str(values.get("type_key") or ""),
        due=_day(values.get("due")),
        previous=_day(values.get("previous")),
        scheduled=_day(values.get("scheduled")),
        interval=Interval.parse(str(values.get("interval") or "")),
        is_disabled=values.get("is_disabled") is True,
        disabled_until=_day(values.get("disabled_until")),
        interval_text=str(values.get("interval") or ""),
    )


def completed(procedures: Iterable[PmsRecord], today: date) -> list[tuple[str, date]]:
    """Give code and day of every completed procedure up to today, oldest first."""
    found = []
    for record in procedures:
        day = _day(record.values.get("day"))
        if record.values.get("status") in ("C", "Complete", "complete") and day and day <= today:
            found.append((str(record.values.get("cdt_code") or ""), day))
    return sorted(found, key=lambda each: each[1])


def due_on(recall: Recall, kind: RecallType, done: Sequence[tuple[str, date]]) -> date | None:
    """Find the day on which a recall is due.

    A visit that was completed after the chart last counted begins the interval anew. Otherwise the
    chart's day holds, which a person may have set by hand.
    """
    interval = recall.interval or kind.interval
    codes = _TRIGGERS.get(kind.track.value, frozenset())
    last = max((day for code, day in done if code in codes), default=None)
    if last is not None and interval is not None and last > (recall.previous or date.min):
        return interval.after(last)
    if recall.due is not None:
        return recall.due
    if recall.previous is not None and interval is not None:
        return interval.after(recall.previous)
    return None


def judge(
    recalls: Sequence[Recall],
    types: Mapping[str, RecallType],
    done: Sequence[tuple[str, date]],
    *,
    today: date,
    days_ahead: int,
    is_active: bool = True,
    booked_on: date | None = None,
) -> tuple[list[Due], dict[str, Why]]:
    """Split one patient's recalls into those to pursue and those not to, with the reason.

    `done` are completed procedures; `booked_on` is the next hygiene visit that we know of.
    """
    if days_ahead < 0:
        raise InvalidInput("recalls are looked for ahead, not back")
    wanted: list[Due] = []
    left: dict[str, Why] = {}
    tracks = {each.key: types[each.type_key].track for each in recalls if each.type_key in types}
    has_perio = any(
        tracks.get(each.key) is Track.PERIO and not each.is_disabled for each in recalls
    )
    for recall in recalls:
        kind = types.get(recall.type_key) or RecallType(recall.type_key, Track.OTHER, None)
        day = due_on(recall, kind, done)
        why = _why_not(recall, kind.track, day, today, days_ahead, has_perio=has_perio)
        if not is_active:
            why = Why.INACTIVE
        elif why in (None, Why.NOT_YET) and booked_on is not None and booked_on >= today:
            why = Why.SCHEDULED
        if why is None and day is not None:
            wanted.append(Due(recall.key, recall.type_key, kind.track, day, (today - day).days))
        else:
            left[recall.key] = why or Why.NO_DATE
    return wanted, left


def _why_not(
    recall: Recall,
    track: Track,
    day: date | None,
    today: date,
    days_ahead: int,
    *,
    has_perio: bool,
) -> Why | None:
    if recall.is_disabled:
        return Why.DISABLED
    if recall.disabled_until is not None and recall.disabled_until > today:
        return Why.DISABLED_UNTIL
    if recall.scheduled is not None and recall.scheduled >= today:
        return Why.SCHEDULED
    if track is Track.IMAGING:
        return Why.IMAGES
    if track is Track.PROPHY and has_perio:
        return Why.PERIO_INSTEAD
    if day is None:
        return Why.NO_DATE
    return Why.NOT_YET if day > today + timedelta(days=days_ahead) else None


def _day(value: object) -> date | None:
    try:
        day = date.fromisoformat(str(value)[:10])
    except ValueError:
        return None
    return day if day.year > 1900 else None  # a sentinel of the PMS
