"""The seat visit and the work on its way to it: when to look, when to alert, when to move."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import cast

from node.config import Config
from node.db.session import read
from node.errors import InvalidInput, Rejected
from orchestration.case import Case, Decision
from orchestration.labs import mirror
from orchestration.labs.chart import is_called_off, next_visit, visit_now
from orchestration.labs.desk import round_of, rx_of, standing_of
from orchestration.labs.rulebook import load_rulebook
from orchestration.labs.states import LabState, Standing
from orchestration.labs.workdays import add_workdays
from orchestration.workflow import Draft, Json
from pms_writeback.availability import open_slots
from pms_writeback.commands import MoveAppointment

_DAY = timedelta(days=1)
_SEARCH = timedelta(days=30)
_MOST_SLOTS = 5
_SHORTEST = timedelta(hours=1)
_SEAT_MIN = 30
_CHECKS = (
    "work and teeth as prescribed", "material and alloy slip enclosed", "shade",
    "margins on the model or die", "contacts", "no damage", "implant parts complete",
)  # fmt: skip


def seat_at(case: Case) -> datetime | None:
    """Read when the patient comes, as the schedule says now; the kept time if it says nothing.

    A visit that was called off is one no more: the first one booked after the work is due takes
    its place, and until there is one somebody is asked, once, to book it.
    """
    kept = cast("Mapping[str, str]", case.data.get("seat", {}))
    key = kept.get("key", "")
    visit = visit_now(case.chart, key) if key else None
    if visit is None and (not kept.get("at") or (key and is_called_off(case.chart, key))):
        visit = next_visit(case.chart, rx_of(case).due_at or case.clock())
        if visit is None:
            case.data["seat"] = {"key": "", "at": ""}
            if key:
                mirror.task(case, f"unseated:{round_of(case)}:{key}",
                            "The visit at which lab work is to be seated was called off. "
                            "Please book another one.")  # fmt: skip
            return None
    if visit is None:
        return datetime.fromisoformat(kept["at"])
    if visit.appointment_key != key:
        case.data["alerted"] = False
    case.data["seat"] = {"key": visit.appointment_key, "at": visit.starts_at.isoformat()}
    return visit.starts_at


def next_look(case: Case, config: Config) -> datetime:
    """Give the next look: by the rhythm of asking, when it is expected, when the alert is due."""
    now, seat, due = case.clock(), seat_at(case), rx_of(case).due_at
    moments = [now + timedelta(hours=config.labs.poll_hours)]
    if due is not None and due - _DAY > now:
        moments.append(due - _DAY)
    if seat is not None and not case.data.get("alerted"):
        alert = seat - timedelta(hours=config.labs.alert_hours)
        moments += [alert] if alert > now else []
    return min(moments)


def is_expected(case: Case, *, reports: bool) -> bool:
    """Tell whether somebody is asked for the work though nothing was said of its shipping.

    So it is, a day before it is due, with a laboratory that reports nothing by itself.
    """
    due = rx_of(case).due_at
    return not reports and due is not None and case.clock() >= due - _DAY


def alert_if_late(case: Case, config: Config) -> None:
    """Tell the lab coordinator once that the work is not here so shortly before its visit."""
    seat = seat_at(case)
    if seat is None or case.data.get("alerted"):
        return
    if case.clock() < seat - timedelta(hours=config.labs.alert_hours):
        return
    state = standing_of(case).state
    if state in (LabState.RECEIVED, LabState.CHECKED) or state.is_final:
        return
    case.data["alerted"] = True
    hours = max(0, int((seat - case.clock()).total_seconds() // 3600))
    words = state.value.replace("_", " ")
    mirror.task(case, f"alert:{round_of(case)}",
                f"Lab coordinator: lab work is not here {hours} hours before its visit "
                f"(it is {words}). Please call the laboratory and the patient.")  # fmt: skip


def note_eta(case: Case, standing: Standing) -> bool:
    """Write a new expected day into the log and the visit's note.

    Returns whether a person must think of the visit.

    That is so while the work comes too late for it and nobody has decided on this very day.
    """
    if standing.eta is None:
        return False
    eta, seat = standing.eta.isoformat(), seat_at(case)
    day = standing.eta.astimezone(case.chart.zone).date()
    is_late = seat is not None and day > add_workdays(_day(case, seat), -1)
    if case.data.get("told_eta") != eta:
        case.data["told_eta"] = eta
        visit = f" Seat visit {_wall(case, seat)}." if seat else ""
        words = "too late for the visit" if is_late else "in time"
        number = rx_of(case).case_number
        name = f"eta:{round_of(case)}:{day.isoformat()}:{standing.eta:%H%M}"
        mirror.log(case, name, f"Lab case {number} expected on {day} ({words}).{visit}")
    _note_on_visit(case, day, is_late=is_late)
    is_here = standing.state in (LabState.RECEIVED, LabState.CHECKED) or standing.state.is_final
    return is_late and not is_here and case.data.get("decided_eta") != eta


def note_arrival(case: Case) -> None:
    """Say in the note of the visit that the work is here and was checked."""
    if seat_at(case) is None:
        return
    key, number = _seat_key(case), rx_of(case).case_number
    mirror.annotate(case, f"here-note:{round_of(case)}:{key}", key,
                    f"Lab case {number} is here and was checked.")  # fmt: skip


def _note_on_visit(case: Case, day: date, *, is_late: bool) -> None:
    """Write the expected day to the note of the visit, again when day or visit are others."""
    key, seat = _seat_key(case), seat_at(case)
    if not key or seat is None:
        return
    late = " That is too late for this visit." if is_late else ""
    name = f"eta-note:{round_of(case)}:{key}:{day.isoformat()}:{_day(case, seat)}"
    words = f"Lab case {rx_of(case).case_number} is expected on {day}.{late}"
    mirror.annotate(case, name, key, words)


def _seat_key(case: Case) -> str:
    return cast("Mapping[str, str]", case.data.get("seat", {})).get("key", "")


def decided(case: Case) -> None:
    """Note that a person has decided about the visit for the day expected now."""
    eta = standing_of(case).eta
    case.data["decided_eta"] = eta.isoformat() if eta else ""


def proposal(case: Case, config: Config) -> Draft:
    """Propose visits after the work is here: the first fitting ones of the same dentist."""
    standing, seat = standing_of(case), seat_at(case)
    assert standing.eta is not None
    kept = cast("Mapping[str, str]", case.data.get("seat", {}))
    visit = visit_now(case.chart, kept.get("key", ""))
    slots: list[Json] = []
    if visit is not None:
        first = add_workdays(standing.eta.astimezone(case.chart.zone).date(), 1)
        minutes, provider = _length(case, visit.appointment_key)
        with read(case.chart.db) as conn:
            found = open_slots(
                conn, config, now=case.clock(), first=first, last=first + _SEARCH,
                minutes=minutes, provider_key=provider, step_min=30,
            )  # fmt: skip
        for slot in found[:_MOST_SLOTS]:
            slots.append({"starts_at": slot.starts_at.isoformat(), "room": slot.operatory_key})
    draft: Draft = {
        "eta": standing.eta.isoformat(),
        "visit": kept.get("key", ""),
        "visit_at": seat.isoformat() if seat else "",
        "slots": slots,
        "choice": 0,
    }
    return draft


def check_choice(draft: Draft) -> None:
    """Refuse a choice that is not one of the slots. Raises InvalidInput."""
    slots, choice = draft.get("slots"), draft.get("choice")
    if not isinstance(slots, list) or not isinstance(choice, int) or isinstance(choice, bool):
        raise InvalidInput("choose one of the slots by its number, from 0")
    if not 0 <= choice < len(slots):
        raise InvalidInput("choose one of the slots by its number, from 0")


def move(case: Case, draft: Draft) -> None:
    """Queue the move that a person chose; without a slot to choose a person does it by hand."""
    slots = cast("list[Mapping[str, str]]", draft.get("slots", []))
    name = f"move:{round_of(case)}:{str(draft.get('eta', ''))[:10]}"
    if not slots:
        mirror.task(case, name, "Please move the seat visit: the lab work comes later.")
        return
    check_choice(draft)
    slot = slots[int(str(draft["choice"]))]
    starts_at = datetime.fromisoformat(slot["starts_at"])
    expected = datetime.fromisoformat(str(draft["visit_at"]))
    case.queue(
        name,
        MoveAppointment(
            case.chart.pms_key(), str(draft["visit"]), expected, starts_at, slot["room"],
            case.ref(name),
        ),
    )  # fmt: skip
    case.data["seat"] = {"key": str(draft["visit"]), "at": starts_at.isoformat()}


def parcel_patience(case: Case) -> timedelta:
    """Give how long a parcel is waited for: a day after it is expected, a day before its visit."""
    now, eta, seat = case.clock(), standing_of(case).eta, seat_at(case)
    ends = [eta + _DAY if eta else now + 2 * _DAY]
    if seat is not None and seat - _DAY > now:
        ends.append(seat - _DAY)
    return max(min(ends) - now, _SHORTEST)


def until_seated(case: Case) -> timedelta:
    """Give how long the seating is waited for: a day after the visit, a week without one."""
    seat = seat_at(case)
    return max((seat + _DAY - case.clock()) if seat else 7 * _DAY, _SHORTEST)


def checklist(case: Case) -> Draft:
    """Give what is compared with the prescription; ``remake_reason`` is set where it fails."""
    rx = rx_of(case)
    draft: Draft = {
        "case": rx.case_number,
        "checks": list(_CHECKS),
        "remake_reason": "",
        "remake_reasons": list(load_rulebook().choices["remake.reason"]),
        "rx": case.data["rx"],
    }
    return draft


def check_fault(draft: Draft) -> None:
    """Refuse a reason that is none of the known ones. Raises InvalidInput."""
    if draft.get("remake_reason") not in load_rulebook().choices["remake.reason"]:
        raise InvalidInput("an edited check names a remake_reason of the list")


def fault_of(decision: Decision) -> str | None:
    """Read why work is made again: a known reason, empty where a person only refused it.

    None when it is good.
    """
    reason = str(decision.draft.get("remake_reason") or "")
    if decision.verdict == "refused":
        return reason
    return reason or None


def _day(case: Case, moment: datetime) -> date:
    return moment.astimezone(case.chart.zone).date()


def _wall(case: Case, moment: datetime | None) -> str:
    return moment.astimezone(case.chart.zone).strftime("%Y-%m-%d %H:%M") if moment else ""


def _length(case: Case, appointment_key: str) -> tuple[int, str]:
    """Read a visit's length and dentist. Raises Rejected when it is gone."""
    now = case.chart.now
    for visit in case.chart.visits(now - 90 * _DAY, now + 365 * _DAY):
        if visit.pms_key == appointment_key:
            minutes = max(5, min(540, visit.minutes - visit.minutes % 5)) or _SEAT_MIN
            return minutes, visit.provider_key or rx_of(case).dentist.provider_key
    raise Rejected("the seat visit is no longer in the schedule")
