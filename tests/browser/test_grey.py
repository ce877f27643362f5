"""The page's grey values are the server's, to the last bit; its view matrices have an inverse."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from node.dicom.greyscale import Greyscale, LookUpTable, VoiFunction, Window, percentile_window
from node.dicom.pixels import render8

pytestmark = pytest.mark.browser

RANDOM = np.random.default_rng(3)


def stored(bits: int, is_signed: bool = False) -> np.ndarray:
    """Every value of small depths, a spread of values of large ones."""
    low = -(2 ** (bits - 1)) if is_signed else 0
    kind = ("int8" if is_signed else "uint8") if bits <= 8 else ("int16" if is_signed else "uint16")
    values = np.linspace(low, low + 2**bits - 1, 4096).round().astype(kind)
    return values.reshape(64, 64)


def lut(bits: int, count: int, first: int = 0) -> LookUpTable:
    values = np.sort(RANDOM.integers(0, 2**bits, count))
    return LookUpTable(first, bits, tuple(int(v) for v in values))


LINEAR, EXACT, SIGMOID = VoiFunction.LINEAR, VoiFunction.LINEAR_EXACT, VoiFunction.SIGMOID
WINDOW = (Window(1900.0, 3000.0),)
CASES = {
    "linear 12": Greyscale(stored(12), 12, False, windows=WINDOW),
    "linear narrow": Greyscale(stored(12), 12, False, windows=(Window(2000.0, 1.0),)),
    "linear 8": Greyscale(stored(8), 8, False, windows=(Window(128.0, 256.0),)),
    "linear 10": Greyscale(stored(10), 10, False, windows=(Window(511.3, 700.7),)),
    "linear 14": Greyscale(stored(14), 14, False, windows=(Window(8000.0, 12000.0),)),
    "linear 16": Greyscale(stored(16), 16, False, windows=(Window(30000.0, 50000.0),)),
    "exact 12": Greyscale(stored(12), 12, False, windows=WINDOW, function=EXACT),
    "sigmoid 12": Greyscale(stored(12), 12, False, windows=WINDOW, function=SIGMOID),
    "sigmoid 16": Greyscale(
        stored(16), 16, False, windows=(Window(30000.0, 9000.0),), function=SIGMOID
    ),
    "signed 16": Greyscale(stored(16, True), 16, True, windows=(Window(-200.0, 20000.0),)),
    "signed 12 slope": Greyscale(
        stored(12, True), 12, True, 1.7, -312.5, windows=(Window(40.0, 2222.2),), function=EXACT
    ),
    "monochrome1": Greyscale(
        stored(12), 12, False, windows=WINDOW, photometric="MONOCHROME1", is_inverted=True
    ),
    "monochrome1 sigmoid padding": Greyscale(
        stored(12),
        12,
        False,
        windows=WINDOW,
        function=SIGMOID,
        photometric="MONOCHROME1",
        is_inverted=True,
        padding=(0, 12),
    ),
    "voi lut": Greyscale(stored(12), 12, False, voi_lut=lut(8, 4096)),
    "voi lut short": Greyscale(stored(16, True), 16, True, voi_lut=lut(12, 500, -250)),
    "modality lut": Greyscale(stored(12), 12, False, modality_lut=lut(14, 4096), windows=WINDOW),
    "both luts inverted": Greyscale(
        stored(12),
        12,
        False,
        modality_lut=lut(10, 4096),
        voi_lut=lut(16, 1024),
        is_inverted=True,
    ),
    "slope and voi lut": Greyscale(stored(12), 12, False, 0.5, -3.25, voi_lut=lut(8, 2000)),
}
AUTO = Greyscale(RANDOM.normal(900, 120, (64, 64)).astype("uint16"), 12, False, function=EXACT)
CASES["percentiles"] = replace(AUTO, windows=(percentile_window(AUTO),), function=LINEAR)


def parameters(image: Greyscale) -> dict:
    """The parameters as the study answer carries them."""

    def table(found: LookUpTable | None) -> dict | None:
        return found and {"first": found.first, "bits": found.bits, "values": list(found.values)}

    return {
        "bits_stored": image.bits_stored,
        "is_signed": image.is_signed,
        "sample_offset": 32768 if image.stored.dtype.kind == "i" else 0,
        "slope": image.slope,
        "intercept": image.intercept,
        "modality_lut": table(image.modality_lut),
        "voi_lut": table(image.voi_lut),
        "windows": [
            {"center": w.center, "width": w.width, "label": w.label} for w in image.windows
        ],
        "function": image.function.value,
        "is_inverted": image.is_inverted,
        "padding": image.padding,
    }


@pytest.fixture(scope="module")
def tables(chromium, module_server):
    """Build a table with the page's own module."""
    context = chromium.new_context()
    page = context.new_page()
    page.goto(f"{module_server}/login")
    yield lambda grey: np.array(
        page.evaluate(
            """async (grey) => {
              const { buildTable, firstDisplay } = await import("/static/engine/grey.mjs");
              return Array.from(buildTable(grey, firstDisplay(grey)));
            }""",
            grey,
        ),
        np.uint8,
    )
    context.close()


@pytest.mark.parametrize("name", CASES)
def test_the_page_shows_the_same_grey_values(tables, name: str) -> None:
    image = CASES[name]
    grey = parameters(image)
    samples = image.stored.astype(np.int64) + grey["sample_offset"]
    assert np.array_equal(tables(grey)[samples], render8(image))


def test_view_matrices_have_an_inverse(chromium, module_server) -> None:
    context = chromium.new_context()
    page = context.new_page()
    page.goto(f"{module_server}/login")
    worst = page.evaluate(
        """async () => {
          const v = await import("/static/engine/view.mjs");
          const image = { width: 1300, height: 1700 }, stage = { width: 900, height: 700 };
          let worst = 0;
          for (const turns of [0, 1, 2, 3]) for (const mirror of [false, true]) {
            let view = v.fit(image, stage, turns, mirror);
            for (const step of [(x) => x, (x) => v.zoomAt(x, stage, [123, 456], 3.3),
                (x) => v.pan(x, stage, image, 40, -70), v.flip, (x) => v.rotate(x)]) {
              view = step(view);
              const m = v.matrix(view, stage);
              for (const p of [[0, 0], [1300, 1700], [12.5, 800]]) {
                const q = v.map(v.inverse(m), v.map(m, p));
                worst = Math.max(worst, Math.hypot(q[0] - p[0], q[1] - p[1]));
              }
            }
            const anchored = v.zoomAt(view, stage, [300, 200], 2);
            const under = (w) => v.map(v.inverse(v.matrix(w, stage)), [300, 200]);
            const [a, b] = [under(view), under(anchored)];
            worst = Math.max(worst, Math.hypot(a[0] - b[0], a[1] - b[1]));
            const m1 = v.map(v.matrix(view, stage), [100, 100]);
            const m2 = v.map(v.matrix(v.flip(view), stage), [100, 100]);
            if (view.cx === 650) worst = Math.max(worst, Math.abs(m1[0] + m2[0] - 900));
          }
          return worst;
        }"""
    )
    context.close()
    assert worst < 1e-9
