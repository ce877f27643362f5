"""A page to look at: what the practice's own program would show a user of it.

Pages are built as element trees, so that every text is escaped when it is written out.
"""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement, tostring

from pms_writeback.sandbox.store import Chart, Row, Store
from pms_writeback.sandbox.tables import TABLES
from pms_writeback.sandbox.twins import procedures_text

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 70rem; padding: 1rem; }
table { border-collapse: collapse; width: 100%; margin-bottom: 1.5rem; }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem; }
tr { border-bottom: 1px solid #ddd; }
td.text { white-space: pre-wrap; }
.banner { background: #fff3cd; border: 1px solid #e0c96f; padding: .5rem .8rem; }
img { max-width: 9rem; max-height: 9rem; }
"""


def overview_page(store: Store) -> str:
    """Show today's appointments, open tasks and all patients."""
    with store.begin() as chart:
        body = _body("Sandbox practice", chart)
        SubElement(body, "h2").text = "Today"
        _table(body, ("Time", "Operatory", "Patient", "Procedures", "Status"), _today(chart))
        SubElement(body, "h2").text = "Tasks"
        _table(body, ("List", "Task", "Patient", "Status", "Entered"), _tasks(chart))
        SubElement(body, "h2").text = "Patients"
        _table(body, ("No.", "Name", "Born", "Status"), _patients(chart))
        return _page(body)


def patient_page(store: Store, key: int) -> str | None:
    """Show one patient's chart; None when there is no such patient."""
    with store.begin() as chart:
        patient = chart.get("patients", key)
        if patient is None:
            return None
        body = _body(f"{patient['LName']}, {patient['FName']} ({key})", chart)
        for title, columns, rows in (
            (
                "Chart",
                ("Date", "Code", "Tooth", "Description", "Status", "Note"),
                _chart(chart, key),
            ),
            (
                "Documents",
                ("No.", "Description", "Category", "Teeth", "Created"),
                _files(chart, key),
            ),
            ("Communications", ("When", "Mode", "Text"), _commlogs(chart, key)),
            ("Tasks", ("List", "Task", "Patient", "Status", "Entered"), _tasks(chart, key)),
        ):
            SubElement(body, "h2").text = title
            _table(body, columns, rows)
        return _page(body)


Cell = str | Element


def _today(chart: Chart) -> list[tuple[Cell, ...]]:
    when = TABLES["appointments"].c.AptDateTime
    rows = chart.select("appointments", when.startswith(chart.stamp[:10]), order=(when,))
    return [
        (
            str(row["AptDateTime"])[11:16],
            _name(chart, "operatories", "OpName", row["Op"]),
            _patient_link(chart, int(row["PatNum"])),
            procedures_text(chart, row),
            str(row["AptStatus"]),
        )
        for row in rows
    ]


def _patients(chart: Chart) -> list[tuple[Cell, ...]]:
    return [
        (
            str(row["PatNum"]),
            _patient_link(chart, int(row["PatNum"])),
            str(row["Birthdate"]),
            str(row["PatStatus"]),
        )
        for row in chart.select("patients")
    ]


def _tasks(chart: Chart, patient: int | None = None) -> list[tuple[Cell, ...]]:
    columns = TABLES["tasks"].c
    conditions = []
    if patient is not None:
        conditions = [columns.ObjectType == "Patient", columns.KeyNum == patient]
    return [
        (
            _name(chart, "tasklists", "Descript", row["TaskListNum"]),
            str(row["Descript"]),
            _patient_link(chart, int(row["KeyNum"])) if row["ObjectType"] == "Patient" else "",
            str(row["TaskStatus"]),
            str(row["DateTimeEntry"]),
        )
        for row in chart.select("tasks", *conditions, order=(columns.TaskNum.desc(),))
    ]


def _chart(chart: Chart, patient: int) -> list[tuple[Cell, ...]]:
    columns, notes = TABLES["procedurelogs"].c, TABLES["procnotes"].c
    shown: list[tuple[Cell, ...]] = []
    for row in chart.select("procedurelogs", columns.PatNum == patient):
        written = chart.select("procnotes", notes.ProcNum == int(row["ProcNum"]))
        shown.append(
            (
                str(row["ProcDate"]),
                _name(chart, "procedurecodes", "ProcCode", row["CodeNum"]),
                str(row["ToothNum"]),
                _name(chart, "procedurecodes", "Descript", row["CodeNum"]),
                str(row["ProcStatus"]),
                str(written[-1]["Note"]) if written else "",
            )
        )
    return shown


def _files(chart: Chart, patient: int) -> list[tuple[Cell, ...]]:
    columns = TABLES["documents"].c
    return [
        (
            str(row["DocNum"]),
            _document_link(row),
            _name(chart, "definitions", "ItemName", row["DocCategory"]),
            str(row["ToothNumbers"]),
            str(row["DateCreated"]),
        )
        for row in chart.select("documents", columns.PatNum == patient)
    ]


def _commlogs(chart: Chart, patient: int) -> list[tuple[Cell, ...]]:
    columns = TABLES["commlogs"].c
    return [
        (str(row["CommDateTime"]), str(row["Mode_"]), str(row["Note"]))
        for row in chart.select("commlogs", columns.PatNum == patient)
    ]


def _name(chart: Chart, resource: str, column: str, key: str | int | float) -> str:
    row = chart.get(resource, int(key))
    return "" if row is None else str(row[column])


def _patient_link(chart: Chart, key: int) -> Element:
    link = Element("a", href=f"/patients/{key:d}")
    row = chart.get("patients", key)
    link.text = f"{row['LName']}, {row['FName']}" if row else str(key)
    return link


def _document_link(row: Row) -> Element:
    link = Element("a", href=f"/documents/{int(row['DocNum']):d}")
    link.text = str(row["Description"]) or "(no description)"
    return link


def _body(title: str, chart: Chart) -> Element:
    body = Element("body")
    SubElement(body, "h1").text = title
    banner = SubElement(body, "p", {"class": "banner"})
    banner.text = (
        "A sandbox that speaks the Open Dental API's wire format; every patient is invented."
        f" Server clock: {chart.stamp}. "
    )
    SubElement(banner, "a", href="/").text = "Overview"
    return body


def _table(body: Element, columns: tuple[str, ...], rows: list[tuple[Cell, ...]]) -> None:
    if not rows:
        SubElement(body, "p").text = "None."
        return
    table = SubElement(body, "table")
    head = SubElement(SubElement(table, "thead"), "tr")
    for column in columns:
        SubElement(head, "th", scope="col").text = column
    lines = SubElement(table, "tbody")
    for row in rows:
        line = SubElement(lines, "tr")
        for cell in row:
            place = SubElement(line, "td", {"class": "text"})
            if isinstance(cell, Element):
                place.append(cell)
            else:
                place.text = cell


def _page(body: Element) -> str:
    html = Element("html", lang="en")
    head = SubElement(html, "head")
    SubElement(head, "meta", charset="utf-8")
    SubElement(head, "meta", name="viewport", content="width=device-width")
    SubElement(head, "title").text = "Sandbox practice"
    SubElement(head, "style").text = _STYLE
    html.append(body)
    return "<!doctype html>\n" + tostring(html, encoding="unicode", method="html")
