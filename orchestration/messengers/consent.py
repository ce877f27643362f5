"""When somebody may be written to, and by which way: choices, the chart, the hour, the count.

Pure rules. An opt-out by any way ends all of them, at once, and holds for the address as well as
for the person: a shared number that says STOP is nobody's reminder any more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from node.errors import InvalidInput
from orchestration.messengers.message import Channel, email_address, mobile_number

_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
#: The PMS's preferred methods that name a way we have, and those only a person can follow.
_METHODS = {"Email": Channel.EMAIL, "TextMessage": Channel.SMS, "WirelessPh": Channel.SMS}
_BY_A_PERSON = frozenset({"DoNotCall", "SeeNotes", "Mail", "HmPhone", "WkPhone"})


@dataclass(frozen=True, slots=True)
class Choice:
    """What somebody said: stop or start, for all ways or one; the newest of a scope counts."""

    scope: str  # all, email, sms
    choice: str  # stop, start
    at: datetime


@dataclass(frozen=True, slots=True)
class Contact:
    """How the chart says that a person is reached; `text_allowed` is yes, no or empty."""

    email: str = field(default="", repr=False)
    mobile: str = field(default="", repr=False)
    text_allowed: str = ""
    recall_method: str = ""
    contact_method: str = ""
    language: str = ""


@dataclass(frozen=True, slots=True)
class Way:
    """A channel with its address."""

    channel: Channel
    address: str = field(repr=False)


def has_stopped(choices: Iterable[Choice], channel: Channel) -> bool:
    """Tell whether the newest choice that bears on a channel is to stop."""
    bearing = [each for each in choices if each.scope in ("all", channel.value)]
    newest = max(bearing, key=lambda each: (each.at, each.choice == "stop"), default=None)
    return newest is not None and newest.choice == "stop"


def ways(
    contact: Contact,
    choices: Sequence[Choice],
    available: Collection[Channel],
    *,
    texts_need_consent: bool,
) -> tuple[Way, ...]:
    """Give the ways a person may be written to, the preferred one first.

    `choices` are those of the person and of their addresses. There is none when the chart asks
    for a call, a letter or a look at its notes: then a person sees to it.
    """
    method = contact.recall_method or contact.contact_method
    if method in ("", "None"):
        method = contact.contact_method
    if method in _BY_A_PERSON:
        return ()
    found: list[Way] = []
    email, mobile = email_address(contact.email), mobile_number(contact.mobile)
    if email and Channel.EMAIL in available and not has_stopped(choices, Channel.EMAIL):
        found.append(Way(Channel.EMAIL, email))
    agreed = contact.text_allowed == "yes" or _said_start(choices)
    may_text = contact.text_allowed != "no" and (agreed or not texts_need_consent)
    if mobile and may_text and Channel.SMS in available and not has_stopped(choices, Channel.SMS):
        found.append(Way(Channel.SMS, mobile))
    preferred = _METHODS.get(method)
    return tuple(sorted(found, key=lambda way: way.channel is not preferred))


def next_hour(
    now: datetime,
    zone: ZoneInfo,
    send_from: time,
    send_until: time,
    weekdays: Collection[str],
) -> datetime:
    """Give the first moment from `now` on within the hours of the practice's own clock.

    Hours run from `send_from` up to, not including, `send_until`. On the night the clocks change
    the wall clock decides: an hour that does not exist is skipped, of one that comes twice the
    first counts.

    Raises
    ------
    InvalidInput
        The hours or days are empty.
    """
    if send_from >= send_until or not set(weekdays) & set(_WEEKDAYS):
        raise InvalidInput("recall.send_from must be before recall.send_until, on some weekday")
    local = now.astimezone(zone)
    for offset in range(9):
        day = local.date() + timedelta(days=offset)
        if _WEEKDAYS[day.weekday()] not in weekdays:
            continue
        begin = datetime.combine(day, send_from, zone).astimezone(UTC)
        moment = max(begin, now)
        wall = moment.astimezone(zone)
        if wall.date() == day and send_from <= wall.time() < send_until and wall.fold == 0:
            return moment
    raise InvalidInput("no hour to send in was found within a week")


def next_turn(
    now: datetime, sent: Iterable[datetime], most_per_week: int, days_between: int
) -> datetime:
    """Give the first moment from `now` on at which the counts allow one more message."""
    moments = sorted(sent)
    turn = now
    if moments:
        turn = max(turn, moments[-1] + timedelta(days=days_between))
    if len(moments) >= most_per_week:
        turn = max(turn, moments[-most_per_week] + timedelta(days=7))
    return turn


def language_of(contact: Contact) -> str:
    """Read the language of messages: Spanish when the chart says so, else English."""
    word = contact.language.strip().casefold()
    return "es" if word in ("es", "spa", "spanish", "español", "espanol") else "en"


def age_on(birth_date: date, day: date) -> int:
    """Give the age in whole years."""
    return day.year - birth_date.year - ((day.month, day.day) < (birth_date.month, birth_date.day))


def _said_start(choices: Sequence[Choice]) -> bool:
    bearing = [each for each in choices if each.scope in ("all", Channel.SMS.value)]
    return bool(bearing) and not has_stopped(bearing, Channel.SMS)
