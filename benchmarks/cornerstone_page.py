"""The same image in a Cornerstone3D page, for the comparison in `benchmarks.review_page`.

Not part of the product. Prepare it with ``npm install && npm run build`` in
``benchmarks/cornerstone``; without that the comparison is left out.
"""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from shutil import copyfile

from playwright.sync_api import Browser, Page

_HERE = Path(__file__).parent / "cornerstone"
BUNDLE = _HERE / "dist" / "page.js"


#: One picture and nothing else; how soon it stands is what no page can be sooner than.
_FLOOR = """<!doctype html><title>floor</title>
<script>new PerformanceObserver((list) => {
  for (const { renderTime, loadTime } of list.getEntries())
    window.firstPaint ??= renderTime || loadTime;
}).observe({ type: "element", buffered: true });</script>
<img src="preview.webp" alt="" elementtiming="first">"""


class _Quiet(SimpleHTTPRequestHandler):
    extensions_map = {**SimpleHTTPRequestHandler.extensions_map, ".js": "text/javascript"}  # noqa: RUF012

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing; the benchmark prints its rows only."""


@contextmanager
def _served(pixels: bytes, about: dict[str, float], preview: bytes) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copyfile(_HERE / "index.html", folder / "index.html")
        copyfile(BUNDLE, folder / "page.js")
        (folder / "pixels").write_bytes(pixels)
        (folder / "about.json").write_text(json.dumps(about))
        (folder / "preview.webp").write_bytes(preview)
        (folder / "floor.html").write_text(_FLOOR)
        handler = partial(_Quiet, directory=name)
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def measure(
    browser: Browser, pixels: bytes, about: dict[str, float], preview: bytes, rounds: int
) -> list[tuple[str, list[float]]]:
    """Measure navigation to the rendered image, cold and warm, and a window step; milliseconds.

    Beside it the floor: a page of the same bare server that holds nothing but our preview, warm.

    ``pixels`` are unsigned 16-bit little-endian samples; ``about`` has rows, columns, bits, center
    and width. Drawn on the CPU, as there is no GPU here.
    """
    with _served(pixels, about, preview) as url:
        address = f"{url}/index.html?cpu=1"
        cold = []
        for _ in range(rounds):
            context = browser.new_context(viewport={"width": 1600, "height": 1000})
            page = context.new_page()
            page.goto(address)
            cold.append(_rendered(page))
            context.close()
        page = browser.new_context(viewport={"width": 1600, "height": 1000}).new_page()
        page.goto(address)
        _rendered(page)
        warm = []
        for _ in range(rounds):
            page.goto(address)
            warm.append(_rendered(page))
        step = page.evaluate("() => window.windowSteps()")
        floor = []
        for _ in range(rounds + 1):
            page.goto(f"{url}/floor.html")
            page.wait_for_function("() => window.firstPaint")
            floor.append(float(page.evaluate("() => window.firstPaint")))
    return [
        ("Cornerstone3D: navigation to the image, cold, ms", cold),
        ("Cornerstone3D: navigation to the image, warm, ms", warm),
        ("nothing but our preview on a bare page, warm, ms", floor[1:]),
        ("Cornerstone3D: window step to its frame, median of 30, ms", [float(step)]),
    ]


def _rendered(page: Page) -> float:
    page.wait_for_function("() => window.rendered || window.failed", timeout=60_000)
    failed = page.evaluate("() => window.failed ?? null")
    if failed:
        raise RuntimeError(f"the Cornerstone page failed: {failed}")
    return float(page.evaluate("() => window.rendered"))


def code_kb() -> float:
    """Kilobytes of its bundle, minified, before compression."""
    return BUNDLE.stat().st_size / 1000
