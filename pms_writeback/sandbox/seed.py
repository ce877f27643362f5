"""An invented practice: reference data, the cast of the sample studies, other patients, a schedule.

Seeding is idempotent: what is there stays as it is, and days without appointments get theirs, so
that a sandbox started tomorrow has a schedule for tomorrow.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from importlib.resources import files
from typing import TypedDict

from pms_writeback.sandbox.appointments import NOT_CONFIRMED, record_history
from pms_writeback.sandbox.care_seed import seed_care, seed_hours
from pms_writeback.sandbox.practice_data import (
    DEFINITIONS,
    FAMILY_NAMES,
    GIVEN_NAMES,
    OPERATORIES,
    PROCEDURE_CODES,
    PROVIDERS,
    TASK_LISTS,
    USERS,
    VISITS,
    ProcedureCode,
)
from pms_writeback.sandbox.store import Chart, Row, Store, stamp
from pms_writeback.sandbox.tables import TABLES

DAYS_AROUND = 7
"""How many days before and after today have visits."""

HOURS_AHEAD = 60
"""How many days ahead the providers' hours are set."""


@dataclass(frozen=True, slots=True)
class CastMember:
    """A patient of the sample studies and the procedures of today's visit."""

    key: int
    family: str = field(repr=False)
    given: str = field(repr=False)
    birth_date: str = field(repr=False)
    sex: str
    cdt_codes: tuple[str, ...]


class _RawPatient(TypedDict):
    id: str
    family: str
    given: str
    birth_date: str
    sex: str


class _RawStudy(TypedDict):
    patient: str
    cdt_codes: list[str]


class _RawCast(TypedDict):
    patients: list[_RawPatient]
    studies: list[_RawStudy]


def read_cast() -> tuple[CastMember, ...]:
    """Read the patients of the installed sample studies; empty when they are not installed."""
    try:
        text = (files("sample_studies") / "cast.json").read_text("utf-8")
    except (ModuleNotFoundError, FileNotFoundError):
        return ()
    raw: _RawCast = json.loads(text)
    codes: dict[str, list[str]] = {}
    for study in raw["studies"]:
        codes.setdefault(study["patient"], []).extend(study["cdt_codes"])
    return tuple(
        CastMember(
            key=int(each["id"]),
            family=each["family"],
            given=each["given"],
            birth_date=each["birth_date"],
            sex=each["sex"],
            cdt_codes=tuple(dict.fromkeys(codes.get(each["id"], ()))),
        )
        for each in raw["patients"]
    )


def seed(store: Store, *, patients: int = 40, years: int = 0, number: int = 1) -> None:
    """Fill the practice up to `patients` patients and give the days around today a schedule.

    ``number`` selects the invented people and visits: the same number, the same practice.
    ``years`` of past visits are added when the practice is new.
    """
    cast = read_cast()
    with store.begin() as chart:
        if chart.count("providers") == 0:
            _add_reference(chart)
        _add_cast(chart, cast)
        _add_people(chart, patients, number)
        today = chart.now.date()
        _schedule_cast(chart, cast, today)
        for offset in range(-DAYS_AROUND, DAYS_AROUND + 1):
            _schedule_day(chart, cast, today + timedelta(days=offset), number)
        seed_care(chart, number, years)
        seed_hours(chart, today, today + timedelta(days=HOURS_AHEAD))


def _add_reference(chart: Chart) -> None:
    for key, category, name, value in DEFINITIONS:
        chart.add(
            "definitions",
            {"DefNum": key, "Category": category, "ItemName": name, "ItemValue": value},
        )
    for provider in PROVIDERS:
        chart.add("providers", provider)
    for operatory in OPERATORIES:
        chart.add("operatories", operatory)
    for user in USERS:
        chart.add("userods", user)
    for name in TASK_LISTS:
        chart.add("tasklists", {"Descript": name, "TaskListStatus": "Active"})
    for code in PROCEDURE_CODES:
        chart.add("procedurecodes", _code_row(code))
    for pref, value in (("PracticeTitle", "Sandbox Dental"), ("DocPath", "\\\\SANDBOX\\")):
        chart.add("preferences", {"PrefName": pref, "ValueString": value})


def _code_row(code: ProcedureCode) -> Row:
    return {
        "ProcCode": code.code,
        "Descript": code.description,
        "AbbrDesc": code.abbreviation,
        "TreatArea": code.area,
        "ProcCat": code.category,
        "ProcTime": "/XX/",
        "IsRadiology": "true" if code.is_radiology else "false",
        "IsHygiene": "true" if code.is_hygiene else "false",
    }


_SEXES = {"F": "Female", "M": "Male"}


def _add_cast(chart: Chart, cast: Sequence[CastMember]) -> None:
    for member in cast:
        if chart.get("patients", member.key) is None:
            sex = _SEXES.get(member.sex, "Unknown")
            row = _patient(member.key, member.family, member.given, member.birth_date, sex)
            chart.add("patients", row)


def _add_people(chart: Chart, patients: int, number: int) -> None:
    taken = {int(row["PatNum"]) for row in chart.select("patients")}
    people = []
    for key in range(1, patients + 1):
        if key in taken:
            continue
        chance = random.Random(f"{number}:patient:{key}")
        sex = chance.choice(("Female", "Male"))
        born = date(1935, 1, 1) + timedelta(days=chance.randrange(80 * 365))
        given, family = chance.choice(GIVEN_NAMES[sex]), chance.choice(FAMILY_NAMES)
        people.append(_patient(key, family, given, born.isoformat(), sex))
    chart.add_many("patients", people)


def _patient(key: int, family: str, given: str, birth_date: str, sex: str) -> Row:
    return {
        "PatNum": key,
        "LName": family,
        "FName": given,
        "Birthdate": birth_date,
        "Gender": sex,
        "PatStatus": "Patient",
        "Position": "Single",
        "Guarantor": key,
        "PriProv": 1 + key % 2,
        "ChartNumber": f"S{key:05d}",
        "Email": f"patient{key}@example.com",
        "Address": f"{100 + key} Oak St",
        "City": "Springfield",
        "State": "OR",
        "Zip": "97477",
        "TxtMsgOk": "Unknown",
        "ImageFolder": f"Sandbox{key}",
    }


def _schedule_cast(chart: Chart, cast: Sequence[CastMember], today: date) -> None:
    for place, member in enumerate(cast):
        codes = member.cdt_codes or _EXTRA_VISITS.get(member.key, ())
        if codes and not _has_visit(chart, member.key, today):
            begin = datetime.combine(today, time(8 + place // 3 % 10))
            _add_visit(chart, member.key, 1 + place % 3, begin, codes, done=False)


_EXTRA_VISITS = {7: ("D0272", "D0120")}
"""Today's visits of cast members without a sample study."""


def _has_visit(chart: Chart, patient: int, day: date) -> bool:
    columns = TABLES["appointments"].c
    return bool(
        chart.select(
            "appointments",
            columns.PatNum == patient,
            columns.AptDateTime.startswith(day.isoformat()),
        )
    )


def _schedule_day(chart: Chart, cast: Sequence[CastMember], day: date, number: int) -> None:
    """Give a day visits of people outside the cast, unless it has some."""
    cast_keys = {member.key for member in cast}
    columns = TABLES["appointments"].c
    others = [row for row in chart.select("patients") if row["PatNum"] not in cast_keys]
    booked = chart.select(
        "appointments",
        columns.AptDateTime.startswith(day.isoformat()),
        columns.PatNum.not_in(cast_keys),
    )
    if booked or not others:
        return
    chance = random.Random(f"{number}:{day.isoformat()}")
    people = chance.sample(others, min(len(others), chance.randint(2, 5)))
    for person, (operatory, begin) in zip(people, _slots(day), strict=False):
        codes = chance.choice(VISITS)
        done = day < chart.now.date()
        _add_visit(chart, int(person["PatNum"]), operatory, begin, codes, done=done)


def _slots(day: date) -> Iterator[tuple[int, datetime]]:
    for hour in (13, 14, 15, 16):
        for operatory in (1, 2, 3):
            yield operatory, datetime.combine(day, time(hour))


def _add_visit(
    chart: Chart, patient: int, operatory: int, begin: datetime, codes: Sequence[str], *, done: bool
) -> None:
    room = chart.get("operatories", operatory)
    dentist, hygienist = (int(room["ProvDentist"]), int(room["ProvHygienist"])) if room else (1, 0)
    appointment = chart.add(
        "appointments",
        {
            "PatNum": patient,
            "AptStatus": "Complete" if done else "Scheduled",
            "Pattern": "/" + "X" * 10 + "/",
            "PatternSecondary": "/" * 12,
            "Confirmed": NOT_CONFIRMED,
            "Op": operatory,
            "ProvNum": dentist,
            "ProvHyg": hygienist,
            "IsHygiene": "true" if hygienist else "false",
            "AptDateTime": stamp(begin),
            "Priority": "Normal",
            "colorOverride": "0,0,0",
        },
    )
    record_history(chart, appointment, "Created")
    for code in codes:
        _add_procedure(chart, appointment, code, done=done)


def _add_procedure(chart: Chart, appointment: Row, code: str, *, done: bool) -> None:
    found = chart.select("procedurecodes", TABLES["procedurecodes"].c.ProcCode == code)
    if not found:
        return
    area = str(found[0]["TreatArea"])
    day = str(appointment["AptDateTime"])[:10]
    chart.add(
        "procedurelogs",
        {
            "PatNum": appointment["PatNum"],
            "AptNum": appointment["AptNum"],
            "ProcDate": day,
            "DateTP": day,
            "ProcStatus": "C" if done else "TP",
            "CodeNum": found[0]["CodeNum"],
            "ProvNum": appointment["ProvNum"],
            "ToothNum": "30" if area in ("Tooth", "Surf") else "",
            "Surf": "MO" if area == "Surf" else "",
            "UnitQty": 1,
            "PlaceService": "Office",
        },
    )
