"""Care of the invented practice: insurance, history, recalls, perio exams, labs, past years.

Everything is drawn from the patient's number, so that the same practice comes out again, and rows
are inserted in bulk, so that one of realistic size is there in seconds.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta

from pms_writeback.sandbox.care_data import ALLERGIES, BENEFITS, CARE_DEFINITIONS, REFERENCE
from pms_writeback.sandbox.practice_data import VISITS
from pms_writeback.sandbox.store import Chart, Row, stamp
from pms_writeback.sandbox.tables import TABLES

_Rows = dict[str, list[Row]]
_TEETH = (3, 14, 19, 30)


def seed_care(chart: Chart, number: int, years: int = 0) -> None:
    """Give every patient that has no recall yet their care, and `years` of past visits.

    ``years`` 0 gives no past visits beyond those of the schedule.
    """
    _seed_reference(chart)
    columns = TABLES["recalls"].c
    known = {int(row["PatNum"]) for row in chart.select("recalls", columns.RecallTypeNum == 1)}
    today = chart.now.date()
    rows: _Rows = defaultdict(list)
    for patient in chart.select("patients"):
        key = int(patient["PatNum"])
        if key not in known:
            chance = random.Random(f"{number}:care:{key}")
            _care_of(rows, key, chance, today)
    exams = rows.pop("perioexams", [])
    for resource, each in rows.items():
        chart.add_many(resource, each)
    _add_exams(chart, exams, number)
    if years and not known:
        _add_past(chart, number, years, today)


def _seed_reference(chart: Chart) -> None:
    known = {int(row["DefNum"]) for row in chart.select("definitions")}
    chart.add_many(
        "definitions",
        [
            {"DefNum": key, "Category": category, "ItemName": name, "ItemValue": value}
            for key, category, name, value in CARE_DEFINITIONS
            if key not in known
        ],
    )
    for resource, rows in REFERENCE.items():
        if chart.count(resource) == 0:
            chart.add_many(resource, list(rows))
    if chart.count("benefits") == 0:
        common: Row = {"TimePeriod": "CalendarYear", "CoverageLevel": "Individual"}
        chart.add_many(
            "benefits",
            [{"PlanNum": plan, **common, **row} for plan in (1, 2) for row in BENEFITS],
        )


def seed_hours(chart: Chart, first: date, last: date) -> None:
    """Give every weekday without a schedule its hours: 8 to 17, lunch from 12 to 13."""
    columns = TABLES["schedules"].c
    known = {
        str(row["SchedDate"])
        for row in chart.select("schedules", columns.SchedDate >= first.isoformat())
    }
    blocks: list[Row] = []
    rooms: list[Row] = []
    number = chart.highest("schedules")
    for offset in range((last - first).days + 1):
        day = first + timedelta(days=offset)
        if day.weekday() > 4 or day.isoformat() in known:
            continue
        for provider, operatory in ((1, 1), (2, 2), (3, 3)):
            number += 1
            blocks.append(
                {
                    "ScheduleNum": number, "SchedDate": day.isoformat(), "SchedType": "Provider",
                    "StartTime": "08:00:00", "StopTime": "17:00:00", "ProvNum": provider,
                }
            )  # fmt: skip
            rooms.append({"ScheduleNum": number, "OperatoryNum": operatory})
        number += 1
        blocks.append(
            {
                "ScheduleNum": number, "SchedDate": day.isoformat(), "SchedType": "Blockout",
                "StartTime": "12:00:00", "StopTime": "13:00:00", "BlockoutType": 371,
            }
        )  # fmt: skip
    chart.add_many("schedules", blocks)
    chart.add_many("scheduleops", rooms)


def _care_of(rows: _Rows, key: int, chance: random.Random, today: date) -> None:
    is_perio = chance.random() < 0.2
    due = today + timedelta(days=chance.randint(-200, 180))
    rows["recalls"].append(
        {
            "PatNum": key, "RecallTypeNum": 1, "DateDue": due.isoformat(), "Priority": "Normal",
            "DatePrevious": (due - timedelta(days=183)).isoformat(), "RecallInterval": "6m1d",
            "IsDisabled": "true" if is_perio else "false",
        }
    )  # fmt: skip
    if is_perio:
        rows["recalls"].append(
            {
                "PatNum": key, "RecallTypeNum": 2, "DateDue": due.isoformat(),
                "RecallInterval": "3m1d", "Priority": "Normal",
            }
        )  # fmt: skip
        rows["perioexams"].append(
            {
                "PatNum": key, "ProvNum": 3,
                "ExamDate": (due - timedelta(days=92)).isoformat(),
                "DateTMeasureEdit": stamp(datetime.combine(due - timedelta(days=92), time(9))),
            }
        )  # fmt: skip
    if chance.random() < 0.7:
        plan = chance.choice((1, 2))
        rows["inssubs"].append(
            {
                "InsSubNum": key, "PlanNum": plan, "Subscriber": key,
                "SubscriberID": 100_000_000 + key, "DateEffective": f"{today.year}-01-01",
                "ReleaseInfo": "true", "AssignBen": "true",
            }
        )  # fmt: skip
        rows["patplans"].append(
            {"PatNum": key, "InsSubNum": key, "Ordinal": 1, "Relationship": "Self"}
        )
    if chance.random() < 0.15:
        definition, text = chance.choice(ALLERGIES)
        rows["allergies"].append(
            {
                "PatNum": key, "AllergyDefNum": definition, "defDescription": text,
                "StatusIsActive": "true",
            }
        )  # fmt: skip
    if chance.random() < 0.25:
        problem = chance.choice((1, 2, 3))
        rows["diseases"].append({"PatNum": key, "DiseaseDefNum": problem, "ProbStatus": "Active"})
        rows["medicationpats"].append(
            {
                "PatNum": key, "MedicationNum": problem, "ProvNum": 1,
                "medName": str(REFERENCE["medications"][problem - 1]["MedName"]),
            }
        )  # fmt: skip


def _add_exams(chart: Chart, exams: list[Row], number: int) -> None:
    """Insert perio exams with the pockets of four molars each."""
    first = chart.highest("perioexams") + 1
    chart.add_many(
        "perioexams", [{"PerioExamNum": first + n, **row} for n, row in enumerate(exams)]
    )
    measures: list[Row] = []
    for n in range(len(exams)):
        chance = random.Random(f"{number}:perio:{first + n}")
        for tooth in _TEETH:
            depths = [chance.choice((2, 3, 3, 4, 5, 6)) for _ in range(6)]
            sites = ("MBvalue", "Bvalue", "DBvalue", "MLvalue", "Lvalue", "DLvalue")
            row: Row = {
                "PerioExamNum": first + n, "SequenceType": "Probing", "IntTooth": tooth,
                "ToothValue": -1,
            }  # fmt: skip
            measures.append({**row, **dict(zip(sites, depths, strict=True))})
    chart.add_many("periomeasures", measures)


def _add_past(chart: Chart, number: int, years: int, today: date) -> None:
    """Insert two completed visits a year for every patient, with their procedures."""
    codes = {str(row["ProcCode"]): row for row in chart.select("procedurecodes")}
    visit = chart.highest("appointments")
    visits: list[Row] = []
    done: list[Row] = []
    for patient in chart.select("patients"):
        chance = random.Random(f"{number}:past:{patient['PatNum']}")
        for begin in _past(chance, years, today):
            visit += 1
            when = stamp(begin)
            visits.append(
                {
                    "AptNum": visit, "PatNum": patient["PatNum"], "AptStatus": "Complete",
                    "Pattern": "/XXXXXXXXXX/", "PatternSecondary": "/" * 12, "Op": 3,
                    "ProvNum": 1, "ProvHyg": 3, "IsHygiene": "true", "AptDateTime": when,
                    "Priority": "Normal", "colorOverride": "0,0,0", "DateTStamp": when,
                    "SecDateTEntry": when,
                }
            )  # fmt: skip
            done.extend(
                {
                    "PatNum": patient["PatNum"], "AptNum": visit, "ProcDate": when[:10],
                    "DateTP": when[:10], "ProcStatus": "C", "CodeNum": codes[code]["CodeNum"],
                    "ProvNum": 1, "UnitQty": 1, "PlaceService": "Office", "DateTStamp": when,
                    "ToothNum": "30" if codes[code]["TreatArea"] in ("Tooth", "Surf") else "",
                    "Surf": "MO" if codes[code]["TreatArea"] == "Surf" else "",
                }
                for code in chance.choice(VISITS)
            )  # fmt: skip
    chart.add_many("appointments", visits)
    chart.add_many("procedurelogs", done)


def _past(chance: random.Random, years: int, today: date) -> Iterator[datetime]:
    for half in range(2 * years):
        day = today - timedelta(days=30 + 182 * half + chance.randrange(150))
        yield datetime.combine(day, time(8 + chance.randrange(9)))
