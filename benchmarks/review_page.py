"""How soon a dentist sees the picture, and what a reading costs: time, keys, bytes of code.

Measured in headless Chromium without a GPU on a whole node on the same machine: navigation to the
preview's and to the full image's first paint, cold (a new browser context) and warm (opened again);
a window step and a zoom step as the page paints them at 1600 × 1000; the accept key to the next
suggestion; the mount of an 18-image series (the sample series of 14 and four bitewings) until its
last thumbnail stands, from its key and from a cold navigation; keys and interaction
time of a scripted reading of 4 bitewings (without the time a person reads); and the bytes of
JavaScript before compression, until the picture stands and through a whole reading. Beside it the
same image in a Cornerstone3D page, where that was built (`benchmarks/cornerstone_page.py`).

Run: ``python -m benchmarks.review_page [--rounds 9]`` (about two minutes).
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa
from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks import cornerstone_page
from node.db.tables import study
from pms_writeback.sandbox.server import running
from sample_studies import SampleStudy
from tests.faults.running_node import PASSWORD, NodeProcess, sample_study, until

ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
]
#: When the first picture was painted, as the browser says (element timing); and when the
#: frame after the one that painted the full image began, which is how the other page is measured.
_WATCH = """
  new PerformanceObserver((list) => {
    for (const { renderTime, loadTime } of list.getEntries())
      window.firstPaint ??= renderTime || loadTime;
  }).observe({ type: "element", buffered: true });
  const look = () => {
    if (!performance.getEntriesByName("image-painted").length) requestAnimationFrame(look);
    else window.fullPaint = performance.now();
  };
  requestAnimationFrame(look);
  window.fromPage = (name) => import(document.querySelector("script[type=module]").src
    .replace(/(.static.[0-9a-f]{16}.).*/, "$1") + name);
"""
#: What one opening asked the node for: requests that left the browser, and their kilobytes.
_ASKED = """() => {
  const asked = performance.getEntriesByType("resource").filter((entry) => entry.transferSize);
  const page = performance.getEntriesByType("navigation")[0].transferSize;
  const early = asked.filter((entry) => entry.startTime < window.fullPaint);
  const sum = (list) => (list.reduce((all, entry) => all + entry.transferSize, page)) / 1000;
  return [early.length + 1, sum(early)];
}"""
#: Median milliseconds of 30 steps: from the cause to the end of the frame that shows it, and the
#: work inside that frame, which is what must stay below 16 ms.
_STEPS = """async (kind) => {
  const { viewing } = await fromPage("review/actions.mjs");
  const times = [];
  const works = [];
  for (let i = 0; i < 30; i += 1) {
    await new Promise(requestAnimationFrame);
    const start = performance.now();
    if (kind === "window") viewing.window(i % 2 ? 6 : -6, i % 3 ? 3 : -3);
    else viewing.zoom(i % 2 ? 1.05 : 1 / 1.05);
    await new Promise((done) => requestAnimationFrame((begun) => {
      // what a frame queued before this one painted is finished when a pixel can be read
      document.querySelector("#stage canvas").getContext("2d").getImageData(0, 0, 1, 1);
      works.push(performance.now() - begun);
      done();
    }));
    times.push(performance.now() - start);
  }
  return [times, works].map((each) => each.sort((a, b) => a - b)[15]);
}"""


def main() -> None:
    """Measure and print the rows of docs/benchmarks.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with running(folder / "sandbox.sqlite") as sandbox:
            (folder / "data").mkdir()
            node = NodeProcess(folder, sandbox)
            node.add_dentist()
            node.start()
            try:
                bitewings, series = sample_study("bitewings-4"), sample_study("full-mouth-14")
                both = (*series.images, *bitewings.images)
                reading = ready_study(node, bitewings)
                whole = ready_study(node, dataclasses.replace(series, images=both))
                _measure(node, reading, whole, rounds)
            finally:
                node.stop()


def ready_study(node: NodeProcess, sample: SampleStudy) -> str:
    """Send a sample study and wait for its findings; returns its id."""
    uid = node.send_study(sample).study_instance_uid
    until(lambda: node.study_state(uid) == "ready", 300, "analysis")
    return str(node.rows(sa.select(study.c.id).where(study.c.study_instance_uid == uid))[0].id)


def _measure(node: NodeProcess, reading: str, series: str, rounds: int) -> None:
    url = node.url
    page_url = f"{url}/review/{reading}"
    rows: list[tuple[str, str]] = []

    def add(name: str, values: list[float]) -> None:
        words = f"{statistics.median(values):.0f} | {max(values):.0f} | {len(values)}"
        rows.append((name, words))

    with sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        cold = [open_page(signed_in(browser, url), page_url) for _ in range(rounds)]
        page = signed_in(browser, url)
        open_page(page, page_url)
        warm = [open_page(page, page_url) for _ in range(rounds)]
        asked = page.evaluate(_ASKED)
        add("navigation to the first picture (preview), cold, ms", [first for first, _ in cold])
        add("navigation to the full 16-bit image, cold, ms", [full for _, full in cold])
        add("navigation to the first picture (preview), warm, ms", [first for first, _ in warm])
        add("navigation to the full 16-bit image, warm, ms", [full for _, full in warm])
        cpu = _server_ms(node, page, page_url)
        for kind in ("window", "zoom"):
            whole, work = page.evaluate(_STEPS, kind)
            add(f"{kind} step to the end of its frame, median of 30, ms", [whole])
            add(f"{kind} step, work inside that frame, median of 30, ms", [work])
        add("accept key to the next suggestion, ms", accepts(page))
        mounts = [_mount(signed_in(browser, url), f"{url}/review/{series}") for _ in range(rounds)]
        add("18-image mount, from its key to the last thumbnail, ms", [key for key, _ in mounts])
        add("18-image mount, from a cold navigation, ms", [whole for _, whole in mounts])
        code = signed_in(browser, url)
        if cornerstone_page.BUNDLE.is_file():
            pixels, about, preview = _same_image(code, reading)
            for name, values in cornerstone_page.measure(browser, pixels, about, preview, rounds):
                add(name, values)
        sizes, keys, seconds = _read(code, page_url)
        browser.close()
    print("| measure | median | worst | rounds |")
    print("|---|--:|--:|--:|")
    for name, words in rows:
        print(f"| {name} | {words} |")
    print(f"| requests of a warm opening until the full image | {asked[0]} | | |")
    print(f"| kilobytes of those, the samples among them | {asked[1]:.0f} | | |")
    print(f"| processor time of the node for the page itself, ms | {cpu:.1f} | | 30 |")
    print(f"| JavaScript until the picture stands, kB | {sizes[0] / 1000:.0f} | | |")
    print(f"| JavaScript of a whole reading with its signature, kB | {sizes[1] / 1000:.0f} | | |")
    if cornerstone_page.BUNDLE.is_file():
        print(
            f"| JavaScript of the Cornerstone3D page, kB | {cornerstone_page.code_kb():.0f} | | |"
        )
    else:
        print("| Cornerstone3D page | not built, see benchmarks/cornerstone_page.py | | |")
    print(f"| keys of that reading beyond the password | {keys} | | |")
    print(f"| interaction time of that reading without the reading itself, s | {seconds:.1f} | | |")


def signed_in(browser: Browser, url: str) -> Page:
    """Open a context of its own and sign in as the dentist."""
    page = browser.new_context(viewport={"width": 1600, "height": 1000}).new_page()
    page.add_init_script(_WATCH)
    page.goto(f"{url}/login")
    page.get_by_label("User name").fill("dentist")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.get_by_role("tab", name="To review").wait_for()
    return page


def open_page(page: Page, page_url: str) -> tuple[float, float]:
    """Milliseconds to the first picture and to the full image, from the start of navigation."""
    page.goto(page_url)
    page.wait_for_function("() => window.fullPaint")
    page.locator("#stage[aria-busy=false]").wait_for()
    page.wait_for_timeout(400)  # let the page finish what it loads behind the picture
    first, full = page.evaluate("() => [window.firstPaint ?? window.fullPaint, window.fullPaint]")
    return float(first), float(full)


def _server_ms(node: NodeProcess, page: Page, page_url: str, times: int = 30) -> float:
    """Milliseconds of processor time that the node spends on one page, images left out."""
    assert node.process is not None
    stat = Path(f"/proc/{node.process.pid}/stat")
    ticks = os.sysconf("SC_CLK_TCK")

    def spent() -> float:
        fields = stat.read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * 1000 / ticks

    before = spent()
    for _ in range(times):
        page.request.get(page_url)
    return (spent() - before) / times


def _same_image(page: Page, study_id: str) -> tuple[bytes, dict[str, float], bytes]:
    """The samples of the first image, how they are shown, and its preview."""
    image = page.request.get(f"{_origin(page)}/api/studies/{study_id}").json()["images"][0]
    pixels = page.request.get(f"{_origin(page)}/api/images/{image['id']}/pixels").body()
    preview = page.request.get(f"{_origin(page)}/api/images/{image['id']}/preview?w=900").body()
    window = image["grey"]["windows"][0]
    about = {
        "rows": image["rows"],
        "columns": image["columns"],
        "bits": image["grey"]["bits_stored"],
        "center": window["center"],
        "width": window["width"],
    }
    return pixels, about, preview


def _origin(page: Page) -> str:
    return str(page.evaluate("() => location.origin"))


def accepts(page: Page) -> list[float]:
    """Accept the suggestions of the image, as many as there are; milliseconds of each."""
    took = []
    while "suggested" in (page.locator(".card.selected .state").first.get_attribute("class") or ""):
        took.append(_timed(page, "a"))
        if len(took) == 8 or page.locator(".card.open").count() == 0:
            break
    return took


def _timed(page: Page, key: str) -> float:
    """Milliseconds from a key to another card selected, or to the card's new state."""
    page.evaluate(
        """() => {
          window.took = new Promise((done) => {
            const list = document.getElementById("findings");
            new MutationObserver((_, observer) => {
              observer.disconnect();
              requestAnimationFrame(() => done(performance.now() - window.begun));
            }).observe(list, { subtree: true, attributes: true, childList: true });
            addEventListener("keydown", () => (window.begun = performance.now()),
              { capture: true, once: true });
          });
        }"""
    )
    page.keyboard.press(key)
    return float(page.evaluate("() => window.took"))


def _mount(page: Page, page_url: str) -> tuple[float, float]:
    """Milliseconds to the complete mount: from its key, and from the start of navigation."""
    begun = time.perf_counter()
    page.goto(page_url)
    page.locator("#stage:not([aria-busy=true])").wait_for()
    start = time.perf_counter()
    page.keyboard.press("Home")
    page.wait_for_function(
        """() => {
          const films = [...document.querySelectorAll(".mount img")];
          return films.length === 18 && films.every((film) => film.complete && film.naturalWidth);
        }"""
    )
    done = time.perf_counter()
    page.context.close()
    return (done - start) * 1000, (done - begun) * 1000


def _read(page: Page, page_url: str) -> tuple[tuple[int, int], int, float]:
    """Read 4 bitewings by keys alone, as a person would who needs no time to look."""
    loaded: set[str] = set()
    page.on("request", lambda request: loaded.add(request.url.partition("?")[0]))

    def code() -> int:
        modules = [url for url in sorted(loaded) if url.endswith(".mjs")]
        return sum(len(page.request.get(url).body()) for url in modules)

    page.route("**/pixels", lambda route: _later(page, route.continue_))
    start = time.perf_counter()
    page.goto(page_url)
    page.locator("#stage canvas").wait_for()
    page.locator(".thumb img").first.wait_for()
    paused = time.perf_counter()
    first = code()
    start += time.perf_counter() - paused  # counting is not reading
    page.locator("#stage:not([aria-busy=true])").wait_for()
    keys = 0
    images = page.locator(".thumb").count()
    for number in range(images):
        if number:
            page.keyboard.press("]")
            keys += 1
        page.locator("#stage:not([aria-busy=true])").wait_for()
        while page.locator(".card.open").count():
            page.keyboard.press("a" if keys % 4 else "x")
            keys += 1
            page.wait_for_timeout(60)
    page.keyboard.press("Control+Enter")
    keys += 1
    page.get_by_label("assword of").fill(PASSWORD)
    leave = page.get_by_role("checkbox", name="Leave the")
    if leave.count():
        leave.check()
        keys += 1
    page.get_by_role("button", name="Sign Enter").click()
    keys += 1
    page.get_by_text("Signed, version 1.", exact=True).wait_for()
    took = time.perf_counter() - start
    return (first, code()), keys, took


def _later(page: Page, go_on: Callable[[], None]) -> None:
    """Hold the pixels back until the page has drawn everything that does not wait for them."""
    page.locator(".card").first.wait_for()
    go_on()


if __name__ == "__main__":
    main()
