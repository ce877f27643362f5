"""The slip: the prescription as a PDF, signed with name and licence number.

The same values give the same bytes.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import datetime, tzinfo

from reportlab.lib import colors
from reportlab.lib.pagesizes import LETTER
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import inch
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    BaseDocTemplate,
    Flowable,
    KeepTogether,
    PageTemplate,
    Paragraph,
    Spacer,
    Table,
    TableStyle,
)
from reportlab.platypus.frames import Frame

from orchestration.labs.prescription import UNSIGNED, LabRx, Source
from orchestration.labs.rulebook import Rulebook
from orchestration.labs.validation import is_missing, value_at
from pms_writeback.lettering import BOLD, REGULAR, markup, register_fonts

_MARGIN = 0.6 * inch
_WIDTH = LETTER[0] - 2 * _MARGIN
_RULE = colors.HexColor("#C9D0D6")
_HEAD = colors.HexColor("#EEF1F4")

#: Fields of the middle part, in the order of a slip; those that hold nothing are left out.
_FIELDS = (
    "stage", "arch", "material", "alloy", "abutment_material", "thickness_mm",
    "shade.guide", "shade.value", "shade.stump", "shade.gingiva",
    "margin.design", "margin.level", "margin.depth_mm",
    "occlusion.contact", "occlusion.clearance_um", "occlusion.scheme", "occlusion.guidance",
    "occlusion.opening_mm", "occlusion.vertical_dimension_mm", "occlusion.centric_relation",
    "proximal.contact", "proximal.shape", "pontic.design", "pontic.tissue_pressure",
    "joining.connector", "joining.is_cantilever", "joining.is_splinted",
    "implant.maker", "implant.line", "implant.platform", "implant.platform_mm",
    "implant.connection", "implant.scan_body", "implant.scan_body_library", "implant.retention",
    "implant.is_access_checked", "implant.is_channel_angled", "implant.torque_ncm",
    "implant.tissue_height_mm", "implant.emergence_depth_mm", "implant.parts_supplied_by",
    "implant.is_abutment_approval_wanted",
    "denture.base", "denture.tooth_mould", "denture.midline", "denture.smile_line",
    "denture.post_dam", "denture.attachments",
    "framework.kennedy_class", "framework.major_connector", "framework.path_of_insertion",
    "records.impression", "records.opposing", "records.bite", "records.wax_up", "records.cast",
    "records.rims", "parafunction",
)  # fmt: skip
_NAMES = {
    "joining.is_cantilever": "cantilever",
    "joining.is_splinted": "splinted",
    "implant.is_channel_angled": "angled screw channel",
    "implant.is_abutment_approval_wanted": "abutment approval before milling",
    "proximal.shape": "contact shape",
    "denture.base": "base",
}


def compose_slip(rx: LabRx, book: Rulebook, zone: tzinfo) -> bytes:
    """Compose the slip on US Letter; an unsigned one says on every page that it is a draft."""
    register_fonts()
    buffer = io.BytesIO()
    document = BaseDocTemplate(
        buffer,
        pagesize=LETTER,
        invariant=1,
        title=f"Laboratory prescription {rx.case_number}",
        author="",
        subject=rx.restoration.value,
        creator="Bitewing",
    )
    frame = Frame(_MARGIN, 0.75 * inch, _WIDTH, LETTER[1] - 0.75 * inch - _MARGIN, 0, 0, 0, 0)
    foot = f"Case {rx.case_number}." + (f"  {UNSIGNED}" if rx.signature is None else "")

    def draw_foot(canvas: Canvas, _document: object) -> None:
        canvas.setFont(REGULAR, 7)
        canvas.drawString(_MARGIN, 0.45 * inch, foot)
        canvas.drawRightString(LETTER[0] - _MARGIN, 0.45 * inch, f"Page {canvas.getPageNumber()}")

    document.addPageTemplates([PageTemplate("page", [frame], onPage=draw_foot)])
    document.build([*_story(rx, book, zone)])
    return buffer.getvalue()


def _story(rx: LabRx, book: Rulebook, zone: tzinfo) -> Iterator[Flowable]:
    label = book.restorations[rx.restoration].label
    yield _line(f"Laboratory prescription: {label}", _TITLE)
    if rx.remake is not None:
        words = f"Remake of case {rx.remake.original_case}. Reason: {rx.remake.reason}."
        yield _line(f"{words} {rx.remake.note}".strip(), _STRONG)
    yield Spacer(0, 4)
    yield _grid([*_head(rx, zone)])
    yield Spacer(0, 6)
    if rx.units:
        yield _grid([("Teeth", ""), *_units(rx)])
        yield Spacer(0, 6)
    rows = [(_name(path, book), text) for path in _FIELDS if (text := _value(rx, path, book))]
    rows += [*_frame(rx)]
    yield _grid(rows)
    for title, text in _texts(rx):
        yield Spacer(0, 6)
        yield _line(title, _STRONG)
        yield _line(text, _BODY)
    yield Spacer(0, 6)
    yield _grid([("Files", f"{len(rx.attachments)}"), *_files(rx)])
    yield Spacer(0, 10)
    yield KeepTogether([*_signature(rx, zone)])


def _head(rx: LabRx, zone: tzinfo) -> Iterator[tuple[str, str]]:
    yield "Laboratory", rx.lab.name
    yield "Practice", ", ".join(filter(None, (rx.office.name, rx.office.address)))
    yield "Contact", ", ".join(filter(None, (rx.office.contact, rx.office.telephone)))
    yield "Dentist", f"{rx.dentist.name}, licence {_licence(rx)}"
    yield "Patient", ", ".join(filter(None, (f"no. {rx.patient.number}", rx.patient.name)))
    yield "Case", rx.case_number
    yield "Written on", rx.written_on.isoformat()
    yield "Due", _moment(rx.due_at, zone)
    yield "Seat appointment", _moment(rx.seat_at, zone)
    yield "Shipping", _words(rx.shipping)
    yield "Infection control", rx.infection_control
    if rx.allergies:
        yield "Allergies", ", ".join(rx.allergies)


def _units(rx: LabRx) -> Iterator[tuple[str, str]]:
    for unit in rx.units:
        surfaces = f", surfaces {unit.surfaces}" if unit.surfaces else ""
        work = f", {unit.work}" if unit.work else ""
        where = f"#{unit.tooth.universal} (ISO {unit.tooth})"
        yield where, f"{_words(unit.part.value)}{surfaces}{work}"


def _frame(rx: LabRx) -> Iterator[tuple[str, str]]:
    if rx.framework is None:
        return
    for clasp in rx.framework.clasps:
        yield f"Clasp on #{clasp.tooth.universal}", clasp.design
    if rx.framework.rests:
        yield "Rests on", ", ".join(f"#{tooth.universal}" for tooth in rx.framework.rests)


def _texts(rx: LabRx) -> Iterator[tuple[str, str]]:
    if rx.instructions.strip():
        yield "Instructions", rx.instructions
    if rx.observations:
        yield "From signed image findings", " ".join(rx.observations)


def _files(rx: LabRx) -> Iterator[tuple[str, str]]:
    for ref in rx.attachments:
        yield ref.name, f"{_words(ref.kind.value)}, SHA-256 {ref.sha256[:16]}…"


def _signature(rx: LabRx, zone: tzinfo) -> Iterator[Flowable]:
    if rx.signature is None:
        yield _line(UNSIGNED, _STRONG)
        return
    when = _moment(rx.signature.signed_at, zone)
    yield _line(f"Signed by {rx.signature.name}, licence {_licence(rx)}, on {when}.", _STRONG)
    yield _line(rx.signature.statement, _BODY)
    filled = sum(each.source is not Source.CLINICIAN for each in rx.sources)
    if filled:
        words = f"{filled} fields were filled in by software and confirmed by the signature above."
        yield _line(words, _SMALL)


def _licence(rx: LabRx) -> str:
    return " ".join(filter(None, (rx.dentist.licence_state, rx.dentist.licence_number)))


def _name(path: str, book: Rulebook) -> str:
    name = _NAMES.get(path) or book.name_of(path)
    return name[:1].upper() + name[1:]


def _value(rx: LabRx, path: str, book: Rulebook) -> str:
    value = value_at(rx, path)
    if is_missing(value):
        return ""
    if path in ("material", "abutment_material"):
        return book.label(str(value))
    if isinstance(value, bool):
        return "yes"
    if isinstance(value, float):
        unit = {"mm": " mm", "um": " µm", "ncm": " N·cm"}[path.rpartition("_")[2]]
        return f"{value:g}{unit}"
    return _words(str(getattr(value, "value", value)))


def _words(text: str) -> str:
    return text.replace("_", " ")


def _moment(moment: datetime | None, zone: tzinfo) -> str:
    return moment.astimezone(zone).strftime("%Y-%m-%d %H:%M %Z") if moment else ""


_BODY = ParagraphStyle("rx-body", fontName=REGULAR, fontSize=8.5, leading=11)
_STRONG = ParagraphStyle("rx-strong", parent=_BODY, fontName=BOLD)
_SMALL = ParagraphStyle("rx-small", parent=_BODY, fontSize=7, leading=9)
_TITLE = ParagraphStyle("rx-title", fontName=BOLD, fontSize=14, leading=18)


def _line(text: str, style: ParagraphStyle) -> Flowable:
    return Paragraph(markup(text), style)


def _grid(rows: list[tuple[str, str]]) -> Flowable:
    cells = [[_line(name, _STRONG), _line(text, _BODY)] for name, text in rows]
    return Table(
        cells or [["", ""]],
        colWidths=[1.8 * inch, _WIDTH - 1.8 * inch],
        style=TableStyle(
            [
                ("BACKGROUND", (0, 0), (0, -1), _HEAD),
                ("LINEBELOW", (0, 0), (-1, -1), 0.4, _RULE),
                ("VALIGN", (0, 0), (-1, -1), "TOP"),
                ("TOPPADDING", (0, 0), (-1, -1), 1.5),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 2),
            ]
        ),
    )
