"""The patient page on paper: one Letter page where it fits, with a ring around each place."""

from __future__ import annotations

import io
from calendar import month_name
from collections.abc import Mapping
from datetime import date
from xml.sax.saxutils import escape

from PIL import Image as Picture
from PIL import ImageDraw
from reportlab.lib.pagesizes import LETTER
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import inch
from reportlab.platypus import Flowable, Image, KeepTogether, Paragraph, SimpleDocTemplate, Spacer

from node.web.shapes import PatientItem, PatientPage, PatientPicture
from pms_writeback.lettering import BOLD, REGULAR, register_fonts, writable

_MARGIN = 0.75 * inch
_WIDTH = LETTER[0] - 2 * _MARGIN
_RING = (250, 204, 21)


def compose_pdf(page: PatientPage, drawn: Mapping[str, bytes]) -> bytes:
    """Compose the page; `drawn` holds each picture as bytes that Pillow reads, by image id."""
    register_fonts()
    body = ParagraphStyle("body", fontName=REGULAR, fontSize=12, leading=16)
    head = ParagraphStyle("head", parent=body, fontName=BOLD, fontSize=18, leading=24)
    item = ParagraphStyle("item", parent=body, fontName=BOLD, fontSize=13, leading=18)
    small = ParagraphStyle("small", parent=body, fontSize=9, leading=12)
    story: list[Flowable] = [
        Paragraph(_text(page.practice_name), small),
        Paragraph("What your dentist found", head),
        Paragraph(_text(_intro(page)), body),
        Spacer(0, 8),
    ]
    if not page.items:
        story.append(Paragraph("Your dentist marked nothing on these X-rays.", body))
    for picture in page.pictures:
        numbers = [each for each in page.items if each.image_id == picture.image_id]
        story += [_ringed(drawn[picture.image_id], picture, numbers), Spacer(0, 6)]
    for each in page.items:
        where = f" ({each.where})" if each.where else ""
        told = " ".join(part for part in (each.meaning, each.change) if part)
        story.append(
            KeepTogether(
                [
                    Paragraph(_text(f"{each.number}. {each.title}{where}"), item),
                    Paragraph(_text(told), body),
                    Paragraph(f"<b>If we wait:</b> {_text(each.waiting)}", body),
                    Paragraph(f"<b>Next:</b> {_text(each.plan)}", body),
                    Spacer(0, 6),
                ]
            )
        )
    story += [
        Spacer(0, 4),
        Paragraph(f"<b>You may want to ask:</b> {_text(' '.join(page.questions))}", body),
        Spacer(0, 6),
        Paragraph(_text(page.ai_words), small),
        Paragraph(f"Written for about reading grade {page.reading_grade:.0f}.", small),
    ]
    buffer = io.BytesIO()
    SimpleDocTemplate(
        buffer,
        pagesize=LETTER,
        leftMargin=_MARGIN,
        rightMargin=_MARGIN,
        topMargin=_MARGIN,
        bottomMargin=_MARGIN,
        title="What your dentist found",
        author="",
        invariant=1,
    ).build(story)
    return buffer.getvalue()


def _intro(page: PatientPage) -> str:
    names = (page.patient.given_name, page.patient.family_name) if page.patient else ()
    who = " ".join(name for name in names if name)
    day = page.study_date
    taken = f" of {_spelled(day)}" if len(day) == 8 else ""
    start = f"{writable(who, 'You')}: your" if who else "Your"
    return f"{start} X-rays{taken}, read and signed by {page.signed_by}."


def _spelled(day: str) -> str:
    """Write a day (YYYYMMDD) as people do; one that is no date as it stands."""
    try:
        at = date(int(day[:4]), int(day[4:6]), int(day[6:]))
    except ValueError:
        return day
    return f"{month_name[at.month]} {at.day}, {at.year}"


def _ringed(content: bytes, picture: PatientPicture, items: list[PatientItem]) -> Image:
    """Draw numbered rings around the marks, never over what they show."""
    with Picture.open(io.BytesIO(content)) as opened:
        image = opened.convert("RGB")
    scale = image.width / picture.columns
    pen = ImageDraw.Draw(image)
    for each in items:
        xs = [x * scale for x, _ in each.geometry.points]
        ys = [y * scale for _, y in each.geometry.points]
        room = max(14.0, 0.35 * max(max(xs) - min(xs), max(ys) - min(ys)))
        box = (min(xs) - room, min(ys) - room, max(xs) + room, max(ys) + room)
        pen.ellipse(box, outline=(0, 0, 0), width=6)
        pen.ellipse(box, outline=_RING, width=3)
        pen.text((box[2] + 2, box[1]), str(each.number), fill=_RING, font_size=26, stroke_width=3,
                 stroke_fill=(0, 0, 0))  # fmt: skip
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88)
    width = min(_WIDTH, 3.4 * inch * image.width / image.height)
    return Image(buffer, width, width * image.height / image.width)


def _text(text: str) -> str:
    return escape(text)
