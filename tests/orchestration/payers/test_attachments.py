"""Pictures and papers for payers: text beside the film, sizes kept, the original unmarked."""

from dataclasses import replace
from datetime import date
from io import BytesIO

import numpy as np
import pypdf
import pytest
from PIL import Image

from node.dicom.annotation import mark
from node.domain.teeth import Tooth
from node.errors import InvalidInput
from orchestration.payers.attachments import (
    DPI,
    Label,
    PortalPage,
    compose_picture,
    compose_portal_pdf,
)
from tests.orchestration.payers.charts import mark as signed_mark

LABEL = Label("Doe", "Jané", date(1980, 1, 2), date(2026, 2, 1), "Periapical", "R",
              (Tooth("46"),), "Confirmed by Dr Test on 2026-02-02, AI-assisted")  # fmt: skip
FILM = np.tile(np.linspace(0, 255, 1200).astype(np.uint8), (900, 1))
NOISE = np.random.default_rng(1).integers(0, 255, (2200, 2600)).astype(np.uint8)
MARKS = (mark(signed_mark().signed.finding, "#30", 1),)


def opened(content: bytes) -> Image.Image:
    return Image.open(BytesIO(content))


def test_the_film_stands_unmarked_beside_its_marked_copy() -> None:
    alone = opened(compose_picture(FILM, (), LABEL, 5_000_000))
    both = opened(compose_picture(FILM, MARKS, LABEL, 5_000_000))
    assert alone.format == "JPEG"
    assert tuple(round(v) for v in alone.info["dpi"]) == (DPI, DPI)
    assert alone.height > 900  # the text stands below, not on the film
    assert both.width > 2 * alone.width - 10
    left = np.asarray(both.convert("L"), float)[:900, :1200]
    assert np.abs(left - FILM).mean() < 2
    assert np.abs(left - np.asarray(alone.convert("L"), float)[:900, :1200]).mean() < 1


def test_the_label_says_whose_film_it_is() -> None:
    assert LABEL.lines == (
        "Doe, Jané   born 01/02/1980",
        "Periapical taken 02/01/2026   Right   Teeth #30",
        "Confirmed by Dr Test on 2026-02-02, AI-assisted",
    )
    bare = replace(LABEL, birth_date=None, taken_on=None, side="", teeth=(), signed="")
    assert bare.lines == ("Doe, Jané   born unknown", "Periapical taken unknown")


def test_a_size_limit_is_kept_or_the_picture_refused() -> None:
    content = compose_picture(NOISE, (), LABEL, 700_000)
    assert len(content) <= 700_000
    assert max(opened(content).size) >= 900
    with pytest.raises(InvalidInput, match="small enough"):
        compose_picture(NOISE, (), LABEL, 20_000)
    with pytest.raises(InvalidInput, match="8-bit"):
        compose_picture(NOISE.astype(np.uint16), (), LABEL, 700_000)  # type: ignore[arg-type]


def test_the_portals_pdf_holds_everything_and_is_the_same_again() -> None:
    page = PortalPage(
        "Any Dental PC", "Ann Smith", "Example Dental Plan", "Jané Doe", date(1980, 1, 2), "W1234",
        "BW1", ("D2740 #30 1450.00",), "#30: crown.\nProbing <3 mm & stable.", ("finding:f1",),
        ("#30 3-2-3 3-2-3",),
    )  # fmt: skip
    picture = compose_picture(FILM, MARKS, LABEL, 2_000_000)
    pictures = [picture, compose_picture(FILM, (), LABEL, 2_000_000)]
    content = compose_portal_pdf(page, pictures)
    assert content == compose_portal_pdf(page, pictures)
    reader = pypdf.PdfReader(BytesIO(content))
    text = "".join(each.extract_text() for each in reader.pages)
    for words in ("W1234", "D2740 #30", "Probing <3 mm & stable.", "finding:f1", "BW1"):
        assert words in text
    assert sum(len(each.images) for each in reader.pages) == 2
