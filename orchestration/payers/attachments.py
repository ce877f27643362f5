"""Images and papers as payers want them: JPEG with its text beside it, and one PDF for portals.

A film stands unmarked on the left; where findings of the place are signed, its marked copy stands
on the right. Below, never on the film: name, birth date, day taken, side, teeth, and who signed.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date

import numpy as np
from PIL import Image
from reportlab.lib.pagesizes import LETTER
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import inch
from reportlab.platypus import Flowable, KeepTogether, Paragraph, SimpleDocTemplate, Spacer
from reportlab.platypus import Image as Picture

from node.dicom.annotation import Mark, Pixels, annotate, writable
from node.domain.teeth import Tooth
from node.errors import InvalidInput
from pms_writeback.lettering import BOLD, REGULAR, markup, register_fonts
from pms_writeback.lettering import writable as printable

#: Resolution that is written into the files; payers ask for 150 to 300.
DPI = 300
#: A picture is never made smaller than this on its longer side, pixels.
LEAST_PX = 900
_QUALITIES = (92, 85, 75, 65)
_SIDES = {"R": "Right", "L": "Left"}


@dataclass(frozen=True, slots=True)
class Label:
    """What stands below a picture; `side` is R, L or empty for both or unknown."""

    family_name: str = field(repr=False)
    given_name: str = field(repr=False)
    birth_date: date | None = field(repr=False)
    taken_on: date | None
    kind: str
    side: str = ""
    teeth: tuple[Tooth, ...] = ()
    signed: str = ""

    @property
    def lines(self) -> tuple[str, ...]:
        """The text, a line each."""
        name = f"{self.family_name}, {self.given_name}".strip(", ")
        born = f"{self.birth_date:%m/%d/%Y}" if self.birth_date else "unknown"
        taken = f"{self.taken_on:%m/%d/%Y}" if self.taken_on else "unknown"
        teeth = ", ".join(f"#{tooth.universal}" for tooth in self.teeth)
        side = _SIDES.get(self.side, "")
        place = "   ".join(part for part in (side, f"Teeth {teeth}" if teeth else "") if part)
        return tuple(
            line
            for line in (
                f"{writable(name, 'name as in the claim')}   born {born}",
                f"{self.kind} taken {taken}   {place}".rstrip(),
                writable(self.signed, "signed by the treating dentist") if self.signed else "",
            )
            if line
        )


def compose_picture(grey8: Pixels, marks: Sequence[Mark], label: Label, most_bytes: int) -> bytes:
    """Compose a JPEG of at most `most_bytes`: the film, beside it its marked copy, text below.

    ``grey8`` is the image as shown, ``(rows, columns)``, 0 black.

    Raises
    ------
    InvalidInput
        The picture is no 8-bit grey one, or cannot be made small enough and still be read.
    """
    plain = annotate(grey8, (), label.lines)
    sheet = plain
    if marks:
        drawn = annotate(grey8, marks, label.lines)
        gap = np.zeros((plain.shape[0], max(4, plain.shape[1] // 100), 3), np.uint8)
        sheet = np.hstack([plain, gap, drawn])
    picture = Image.fromarray(sheet)
    while True:
        for quality in _QUALITIES:
            content = _jpeg(picture, quality)
            if len(content) <= most_bytes:
                return content
        smaller = (round(picture.width * 0.8), round(picture.height * 0.8))
        if max(smaller) < LEAST_PX:
            raise InvalidInput("an image cannot be made small enough for the payer")
        picture = picture.resize(smaller, Image.Resampling.LANCZOS)


def _jpeg(picture: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality, dpi=(DPI, DPI))
    return buffer.getvalue()


@dataclass(frozen=True, slots=True)
class PortalPage:
    """What the PDF for a payer's portal says besides its pictures."""

    practice: str
    dentist: str
    payer: str
    patient: str = field(repr=False)
    birth_date: date | None = field(repr=False)
    member_id: str = field(repr=False)
    claim_id: str
    lines: tuple[str, ...]
    narrative: str = field(repr=False)
    sources: tuple[str, ...]
    perio: tuple[str, ...] = ()


def compose_portal_pdf(page: PortalPage, pictures: Sequence[bytes]) -> bytes:
    """Compose the request on US Letter for payers without an electronic way; same in, same out."""
    register_fonts()
    body = ParagraphStyle("body", fontName=REGULAR, fontSize=9.5, leading=13)
    title = ParagraphStyle("title", fontName=BOLD, fontSize=14, leading=20)
    head = ParagraphStyle("head", fontName=BOLD, fontSize=10, leading=16)
    small = ParagraphStyle("small", parent=body, fontSize=7.5, leading=10)
    buffer = io.BytesIO()
    document = SimpleDocTemplate(
        buffer, pagesize=LETTER, leftMargin=0.7 * inch, rightMargin=0.7 * inch,
        topMargin=0.6 * inch, bottomMargin=0.6 * inch, invariant=1,
        title=f"Predetermination {page.claim_id}", author="", subject="",
    )  # fmt: skip
    story: list[Flowable] = [Paragraph("Request for predetermination of benefits", title)]
    story += [Paragraph(markup(line), body) for line in _about(page)]
    story.append(Paragraph("Planned treatment", head))
    story += [Paragraph(markup(line), body) for line in page.lines]
    story.append(Paragraph("Narrative", head))
    story += [Paragraph(markup(line), body) for line in page.narrative.splitlines()]
    if page.perio:
        story.append(Paragraph("Periodontal chart", head))
        story += [Paragraph(markup(line), body) for line in page.perio]
    story.append(Paragraph("Each sentence rests on: " + markup("; ".join(page.sources)), small))
    story.append(Spacer(0, 10))
    for content in pictures:
        story.append(KeepTogether([_fitted(content), Spacer(0, 10)]))
    document.build(story)
    return buffer.getvalue()


def compose_paper(title: str, about: Sequence[str], lines: Sequence[str]) -> bytes:
    """Compose a page of text, such as a periodontal chart, as PDF; same in, same out."""
    register_fonts()
    body = ParagraphStyle("body", fontName=REGULAR, fontSize=10, leading=14)
    head = ParagraphStyle("head", fontName=BOLD, fontSize=13, leading=20)
    buffer = io.BytesIO()
    document = SimpleDocTemplate(
        buffer, pagesize=LETTER, invariant=1, title=title, author="", subject=""
    )
    story: list[Flowable] = [Paragraph(markup(title), head)]
    story += [Paragraph(markup(line), body) for line in about]
    story.append(Spacer(0, 10))
    story += [Paragraph(markup(line), body) for line in lines]
    document.build(story)
    return buffer.getvalue()


def _about(page: PortalPage) -> Iterator[str]:
    born = f"{page.birth_date:%m/%d/%Y}" if page.birth_date else "unknown"
    yield f"Payer: {page.payer}     Our reference: {page.claim_id}"
    patient = printable(page.patient, "as in the claim")
    yield f"Patient: {patient}     born {born}     member {page.member_id}"
    yield f"Practice: {page.practice}     Treating dentist: {page.dentist}"


def _fitted(content: bytes) -> Picture:
    with Image.open(io.BytesIO(content)) as opened:
        width, height = opened.size
    scale = min(LETTER[0] - 1.4 * inch, width * 72 / DPI * 2) / width
    scale = min(scale, 6.5 * inch / height)
    return Picture(io.BytesIO(content), width * scale, height * scale)
