"""Lettering burned into a picture is found; teeth, metal, markers and noise are not lettering."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from models.lettering import find_lettering

ROWS, COLUMNS = 480, 640


def film(seed: int = 3) -> Image.Image:
    """A film of soft teeth with metal, screws and grain."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:ROWS, :COLUMNS] / 1.0
    grey = 60 + 30 * np.sin(x / 90) + 25 * np.cos(y / 130)
    for number in range(7):
        centre = 60 + number * 85
        grey += 70 * np.exp(-(((x - centre) / 30) ** 2) - ((y - 250) / 110) ** 2)
    for number in range(9):  # brackets: as many, as bright and as much in a row as letters
        grey[225:243, 50 + number * 60 : 66 + number * 60] = 250 - 9 * number
    grey[300:420, 300:312] = 245
    grey[300:420:8, 294:318] = 245  # the threads of an implant
    return Image.fromarray((grey + rng.normal(0, 6, grey.shape)).clip(0, 255).astype(np.uint8))


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("L"), dtype=np.float32) / 255


def stamped(
    words: str, size: int, at: tuple[int, int] = (12, 12), ink: int = 255, turns: int = 0
) -> np.ndarray:
    image = film().rotate(90 * turns, expand=True)
    ImageDraw.Draw(image).text(at, words, fill=ink, font=ImageFont.load_default(size))
    return pixels(image.rotate(-90 * turns, expand=True))


@pytest.mark.parametrize("size", [12, 14, 18, 24, 30])
@pytest.mark.parametrize("words", ["MUSTER, ERIKA 12.03.1961", "Doe^Jane 1980-01-02", "ID 0047118"])
def test_a_name_or_number_is_found_where_it_stands(words: str, size: int):
    found = find_lettering(stamped(words, size))
    assert found
    assert min(box.y0 for box in found) < 12 + 1.5 * size
    assert max(box.y1 for box in found) < 12 + 3 * size, "and nothing else on the film"


def test_dark_lettering_on_a_light_strip_is_found():
    image = film()
    draw = ImageDraw.Draw(image)
    draw.rectangle([0, 0, COLUMNS, 30], fill=255)
    draw.text((10, 5), "Muster, Erika", fill=0, font=ImageFont.load_default(16))
    assert find_lettering(pixels(image))


def test_lettering_that_stands_upright_along_an_edge_is_found():
    assert find_lettering(stamped("MUSTER, ERIKA", 18, turns=1))


def test_a_screenshot_saved_as_jpeg_still_shows_it():
    saved = io.BytesIO()
    Image.fromarray((stamped("Muster, Erika", 18) * 255).astype(np.uint8)).save(
        saved, "JPEG", quality=75
    )
    assert find_lettering(pixels(Image.open(saved)))


@pytest.mark.parametrize("seed", range(4))
def test_a_film_with_metal_brackets_and_screws_is_not_lettered(seed: int):
    assert find_lettering(pixels(film(seed))) == ()


@pytest.mark.parametrize("marker", ["R", "L", "R 1"])
def test_a_side_marker_is_not_a_line(marker: str):
    assert find_lettering(stamped(marker, 30)) == ()


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((40, 40), np.float32),
        np.ones((3, 500), np.float32),
        np.random.default_rng(1).random((300, 300), np.float32),
        np.indices((200, 200)).sum(0).astype(np.float32) % 2,
    ],
    ids=["black", "a strip", "noise", "checks"],
)
def test_what_is_no_film_is_taken_too(image: np.ndarray):
    assert find_lettering(image) == ()
