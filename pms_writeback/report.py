"""The signed report as a PDF for the chart: who, what was confirmed, by whom, with what help.

The same review, patient and images give the same bytes.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, tzinfo

from PIL import Image as Picture
from reportlab.lib import colors
from reportlab.lib.enums import TA_CENTER
from reportlab.lib.pagesizes import LETTER
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import inch
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    BaseDocTemplate,
    Flowable,
    Image,
    KeepTogether,
    PageTemplate,
    Paragraph,
    Spacer,
    Table,
    TableStyle,
)
from reportlab.platypus.frames import Frame

from node.domain.review import NOT_CLEARED, SignedFinding, SignedReview
from pms_writeback import notes
from pms_writeback.lettering import BOLD, REGULAR, markup, register_fonts, writable

_MARGIN = 0.6 * inch
_WIDTH = LETTER[0] - 2 * _MARGIN
_LONGEST_PX = 1400  # enough for print at this size, and the file stays under 2 MB
_GREY = colors.HexColor("#4A5560")
_RULE = colors.HexColor("#C9D0D6")
_HEAD = colors.HexColor("#EEF1F4")


@dataclass(frozen=True, slots=True)
class ChartPatient:
    """Whose chart the report goes to; ``study_date`` is DICOM's YYYYMMDD or empty."""

    family_name: str = field(repr=False)
    given_name: str = field(repr=False)
    birth_date: date | None = field(repr=False)
    patient_key: str
    study_date: str


def compose_report(
    signed: SignedReview,
    patient: ChartPatient,
    practice_name: str,
    zone: tzinfo,
    images: Sequence[tuple[str, bytes]],
) -> bytes:
    """Compose the report on US Letter, one page where it fits; `images` are captions and PNGs."""
    register_fonts()
    styles = _Styles.make()
    buffer = io.BytesIO()
    document = BaseDocTemplate(
        buffer,
        pagesize=LETTER,
        invariant=1,
        title=f"AI-assisted imaging report, version {signed.version}",
        author="",
        subject=signed.study_instance_uid,
        creator=f"Bitewing {signed.software_version}",
    )
    frame = Frame(_MARGIN, 0.75 * inch, _WIDTH, LETTER[1] - 0.75 * inch - _MARGIN, 0, 0, 0, 0)
    foot = f"{NOT_CLEARED}  Review version {signed.version}."

    def draw_foot(canvas: Canvas, _document: object) -> None:
        canvas.setFont(REGULAR, 7)
        canvas.setFillColor(_GREY)
        canvas.drawString(_MARGIN, 0.45 * inch, foot)
        canvas.drawRightString(LETTER[0] - _MARGIN, 0.45 * inch, f"Page {canvas.getPageNumber()}")

    document.addPageTemplates([PageTemplate("page", [frame], onPage=draw_foot)])
    story = [
        *_head(signed, patient, practice_name, styles),
        *_findings(signed, styles),
        *_pictures(images, styles),
        KeepTogether(_signature(signed, zone, styles)),
    ]
    document.build(story)
    return buffer.getvalue()


@dataclass(frozen=True, slots=True)
class _Styles:
    title: ParagraphStyle
    body: ParagraphStyle
    small: ParagraphStyle
    cell: ParagraphStyle
    caption: ParagraphStyle

    @classmethod
    def make(cls) -> _Styles:
        body = ParagraphStyle("body", fontName=REGULAR, fontSize=9, leading=12)
        return cls(
            title=ParagraphStyle("title", fontName=BOLD, fontSize=14, leading=18),
            body=body,
            small=ParagraphStyle("small", parent=body, fontSize=7.5, leading=10, textColor=_GREY),
            cell=ParagraphStyle("cell", parent=body, fontSize=8, leading=10),
            caption=ParagraphStyle(
                "caption", parent=body, fontSize=7.5, leading=10, alignment=TA_CENTER
            ),
        )


def _head(
    signed: SignedReview, patient: ChartPatient, practice_name: str, styles: _Styles
) -> Iterator[Flowable]:
    name = ", ".join(part for part in (patient.family_name, patient.given_name) if part)
    name = writable(name, f"name as in chart {patient.patient_key}")
    born = patient.birth_date.isoformat() if patient.birth_date else "unknown"
    facts = [
        ("Patient", name, "Study date", _day(patient.study_date)),
        ("Birth date", born, "Images read", str(len(signed.instances))),
        ("Patient no.", patient.patient_key, "Models", notes.model_names(signed)),
    ]
    yield Paragraph(markup(practice_name), styles.small)
    yield Paragraph("AI-assisted imaging report", styles.title)
    table = Table(
        [
            [
                Paragraph(cell if number % 2 else f"<b>{cell}</b>", styles.cell)
                for number, cell in enumerate(map(markup, row))
            ]
            for row in facts
        ],
        colWidths=[0.9 * inch, 2.5 * inch, 0.9 * inch, _WIDTH - 4.3 * inch],
        style=TableStyle(
            [
                ("VALIGN", (0, 0), (-1, -1), "TOP"),
                ("LINEABOVE", (0, 0), (-1, 0), 0.75, _RULE),
                ("LINEBELOW", (0, -1), (-1, -1), 0.75, _RULE),
                ("LEFTPADDING", (0, 0), (-1, -1), 2),
                ("TOPPADDING", (0, 0), (-1, -1), 2),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 2),
            ]
        ),
    )
    yield Spacer(0, 4)
    yield table
    if signed.version > 1:
        reason = f" Reason: {signed.reason}" if signed.reason.strip() else ""
        text = f"Amendment: version {signed.version} replaces version {signed.version - 1}.{reason}"
        yield Spacer(0, 4)
        yield Paragraph(markup(text), styles.body)
    yield Spacer(0, 8)


def _findings(signed: SignedReview, styles: _Styles) -> Iterator[Flowable]:
    findings = notes.confirmed(signed)
    if not findings:
        yield Paragraph(notes.NOTHING_RECORDED, styles.body)
        yield Spacer(0, 8)
        return
    places = {image_id: number for number, (image_id, _) in enumerate(signed.instances, start=1)}
    titles = ("No.", "Finding", "Tooth", "Surfaces", "Extent", "Plan", "Source", "Image")
    rows = [[Paragraph(f"<b>{title}</b>", styles.cell) for title in titles]]
    numbers = notes.numbers(signed)  # one thing on two images has one number and two rows
    for each in sorted(findings, key=lambda one: numbers[one.id]):
        place = str(places.get(each.instance_id, ""))
        cells = _cells(numbers[each.id], each, place)
        rows.append([Paragraph(cell, styles.cell) for cell in cells])
    inches = (0.4, 1.35, 0.55, 0.9, 1.6, 0.9, 0.95)
    widths = [width * inch for width in inches]
    yield Table(
        rows,
        colWidths=[*widths, _WIDTH - sum(widths)],
        repeatRows=1,
        style=TableStyle(
            [
                ("BACKGROUND", (0, 0), (-1, 0), _HEAD),
                ("LINEBELOW", (0, 0), (-1, -1), 0.5, _RULE),
                ("VALIGN", (0, 0), (-1, -1), "TOP"),
                ("LEFTPADDING", (0, 0), (-1, -1), 3),
                ("RIGHTPADDING", (0, 0), (-1, -1), 3),
                ("TOPPADDING", (0, 0), (-1, -1), 2),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 3),
            ]
        ),
    )
    yield Spacer(0, 8)


def _cells(number: int, each: SignedFinding, place: str) -> list[str]:
    kind = markup(notes.kind_name(each))
    if each.comment.strip():
        kind += f"<br/><i>{markup(each.comment)}</i>"
    tooth = f"#{each.finding.tooth.universal}" if each.finding.tooth else ""
    return [
        str(number),
        kind,
        tooth,
        notes.surface_names(each),
        notes.measure(each),
        notes.plan_name(each).removeprefix("plan: "),
        notes.origin_name(each),
        place,
    ]


def _pictures(images: Sequence[tuple[str, bytes]], styles: _Styles) -> Iterator[Flowable]:
    """Set the images in one, two or three columns."""
    if not images:
        return
    columns = 1 if len(images) == 1 else 2 if len(images) <= 4 else 3
    width = _WIDTH / columns - 6
    height = {1: 3.6, 2: 2.2, 3: 1.9}[columns] * inch
    cells = [
        [_picture(content, width, height), Paragraph(markup(caption), styles.caption)]
        for caption, content in images
    ]
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    rows[-1] += [""] * (columns - len(rows[-1]))  # type: ignore[list-item]  # reportlab's empty cell
    yield Table(
        rows,
        colWidths=[_WIDTH / columns] * columns,
        style=TableStyle(
            [
                ("ALIGN", (0, 0), (-1, -1), "CENTER"),
                ("VALIGN", (0, 0), (-1, -1), "TOP"),
                ("LEFTPADDING", (0, 0), (-1, -1), 3),
                ("RIGHTPADDING", (0, 0), (-1, -1), 3),
            ]
        ),
    )
    yield Spacer(0, 8)


def _picture(content: bytes, width: float, height: float) -> Image:
    """Shrink for print, as JPEG: the full picture is a document of its own in the chart."""
    with Picture.open(io.BytesIO(content)) as opened:
        picture = opened.convert("RGB")
    picture.thumbnail((_LONGEST_PX, _LONGEST_PX))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    scale = min(width / picture.width, height / picture.height)
    return Image(buffer, picture.width * scale, picture.height * scale)


def _signature(signed: SignedReview, zone: tzinfo, styles: _Styles) -> list[Flowable]:
    when = notes.local_time(signed.signed_at, zone)
    signer = writable(notes.signer(signed), "the reader")
    models = [f"{model}, weights SHA-256 {model.digest[:16]}" for model in signed.models]
    return [
        Paragraph(f"<b>Signed by {markup(signer)} on {markup(when)}</b>", styles.body),
        Paragraph(markup(signed.statement), styles.body),
        Spacer(0, 4),
        Paragraph(markup(notes.counts(signed, zone)), styles.small),
        Paragraph(markup("Models: " + ("; ".join(models) or "none installed") + "."), styles.small),
        Paragraph(
            "Lengths are measured at the detector plane and not corrected for magnification. "
            "Marks and suggestions come from software that misses disease and marks healthy "
            "areas; the findings listed are those that the signer confirmed.",
            styles.small,
        ),
        Paragraph(f"Study {markup(signed.study_instance_uid)}", styles.small),
    ]


def _day(study_date: str) -> str:
    digits = study_date.strip()
    if len(digits) != 8 or not digits.isdigit():
        return "unknown"
    return f"{digits[:4]}-{digits[4:6]}-{digits[6:]}"
