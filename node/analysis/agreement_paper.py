"""A comparison report on paper: one HTML file, one PDF, one JSON; nobody is named in them."""

from __future__ import annotations

import io
import json
from datetime import datetime
from html import escape
from pathlib import Path

from reportlab.lib import colors
from reportlab.lib.pagesizes import LETTER, landscape
from reportlab.lib.styles import ParagraphStyle
from reportlab.platypus import Flowable, Paragraph, SimpleDocTemplate, Spacer, Table, TableStyle

from node.domain.review import NOT_CLEARED
from node.rollout.reports import AgreementRow, Report
from pms_writeback.lettering import BOLD, REGULAR, markup, register_fonts

_TITLE = "Agreement with the dentist"
_SOURCES = {
    "silent": "What the models said in silence, against what dentists marked without seeing it.",
    "pilot": "What the models say of historical films, against what the practice charted.",
}
_HEAD = (
    "view", "kind", "per", "studies", "by the dentist", "by the models", "both", "sensitivity",
    "precision", "",
)  # fmt: skip
_STYLE = """body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:62rem;padding:0 1rem}
table{border-collapse:collapse;width:100%}th,td{border-bottom:1px solid #999;padding:.3rem .5rem;
text-align:left;font-variant-numeric:tabular-nums}caption{text-align:left;font-weight:600}"""


def write_report(report: Report, folder: Path, practice: str, at: datetime) -> tuple[Path, ...]:
    """Write ``agreement.html``, ``.pdf`` and ``.json`` into a folder, made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "agreement.json": json.dumps(report.to_json(), indent=2).encode(),
        "agreement.html": compose_html(report, practice, at).encode(),
        "agreement.pdf": compose_pdf(report, practice, at),
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return tuple(folder / name for name in files)


def compose_html(report: Report, practice: str, at: datetime) -> str:
    """Compose one page that needs nothing from elsewhere."""
    head = "".join(f'<th scope="col">{name or "remark"}</th>' for name in _HEAD)
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in _cells(row)) + "</tr>"
        for row in report.rows
    )
    notes = "".join(f"<li>{escape(note)}</li>" for note in report.notes)
    intro = "".join(f"<p>{escape(line)}</p>" for line in _intro(report, practice, at))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{_TITLE}</title>'
        f"<style>{_STYLE}</style></head><body><main><h1>{_TITLE}</h1>{intro}"
        f"<table><caption>Each kind on each view, with 95 % intervals (the wider of resampled "
        f"patients and Wilson&#39;s)</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{rows}</tbody></table>"
        f"<h2>How to read it</h2><ul>{notes}</ul></main></body></html>"
    )


def compose_pdf(report: Report, practice: str, at: datetime) -> bytes:
    """Compose the same for printing, on Letter paper."""
    register_fonts()
    body = ParagraphStyle("body", fontName=REGULAR, fontSize=9, leading=13)
    title = ParagraphStyle("title", parent=body, fontName=BOLD, fontSize=15, leading=20)
    table = Table([_HEAD, *map(_cells, report.rows)], repeatRows=1, hAlign="LEFT")
    table.setStyle(
        TableStyle(
            [
                ("FONT", (0, 0), (-1, -1), REGULAR, 7.5),
                ("FONT", (0, 0), (-1, 0), BOLD, 7.5),
                ("LINEBELOW", (0, 0), (-1, -1), 0.25, colors.grey),
            ]
        )
    )
    story: list[Flowable] = [Paragraph(_TITLE, title)]
    story += [Paragraph(markup(line), body) for line in _intro(report, practice, at)]
    story += [Spacer(0, 8), table, Spacer(0, 8)]
    story += [Paragraph(markup(note), body) for note in report.notes]
    file = io.BytesIO()
    SimpleDocTemplate(file, pagesize=landscape(LETTER), title=_TITLE).build(story)
    return file.getvalue()


def _intro(report: Report, practice: str, at: datetime) -> tuple[str, ...]:
    views = ", ".join(f"{view or 'unknown'} {count}" for view, count in report.views)
    return (
        f"{practice}, {at.date().isoformat()}. {_SOURCES.get(report.source, '')}",
        f"{report.studies} studies of {report.patients} patients, {report.images} images; studies "
        f"by view: {views or 'none'}. Models: {', '.join(report.models) or 'none'}.",
        NOT_CLEARED,
    )


def _cells(row: AgreementRow) -> tuple[str, ...]:
    return (
        row.view or "all", row.kind.replace("_", " "), row.level, str(row.studies),
        str(row.signed), str(row.said), str(row.both), row.sensitivity.words,
        row.precision.words, "too few to say" if row.is_few else "",
    )  # fmt: skip
