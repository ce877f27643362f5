"""How soon a dentist sees the picture: navigation to the drawn 16-bit image, and a decision's echo.

Measured in headless Chromium without a GPU on a whole node on the same machine: milliseconds from
navigation until the stage shows the full image, cold (a new browser context, nothing cached) and
warm (the same page opened again), and from the accept key to the next suggestion selected.

Run: ``python -m benchmarks.page [--rounds 9]`` (about a minute).
"""

from __future__ import annotations

import argparse
import shutil
import time

import sqlalchemy as sa
from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks import whole_node
from node.db.tables import study
from tests.faults.running_node import PASSWORD, until

ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
]


def main() -> None:
    """Measure and print the rows of docs/benchmarks.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    with whole_node.started() as node:
        step = node.send("bitewings-4")
        until(lambda: node.study_state(step.study_instance_uid) == "ready", 90, "analysis")
        study_id = str(node.rows(sa.select(study.c.id))[0].id)
        _measure(f"{node.url}/review/{study_id}", node.url, rounds)


def _measure(page_url: str, url: str, rounds: int) -> None:
    with sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        cold = [_open(_signed_in(browser, url), page_url) for _ in range(rounds)]
        page = _signed_in(browser, url)
        _open(page, page_url)
        warm = [_open(page, page_url) for _ in range(rounds)]
        echo = [_accept(page) for _ in range(4)]
        browser.close()
    whole_node.print_head()
    for name, values in (
        ("navigation to the 16-bit image, cold, ms", cold),
        ("navigation to the 16-bit image, warm, ms", warm),
        ("accept key to the next suggestion, ms", echo),
    ):
        whole_node.print_row(name, values, digits=0)


def _signed_in(browser: Browser, url: str) -> Page:
    page = browser.new_context(viewport={"width": 1600, "height": 1000}).new_page()
    page.goto(f"{url}/login")
    page.get_by_label("User name").fill("dentist")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.get_by_role("tab", name="To review").wait_for()
    return page


def _open(page: Page, page_url: str) -> float:
    start = time.perf_counter()
    page.goto(page_url, wait_until="commit")
    page.locator("#stage:not([aria-busy=true])").wait_for()
    took = time.perf_counter() - start
    page.wait_for_timeout(300)  # let the page finish what it loads behind the picture
    return took * 1000


def _accept(page: Page) -> float:
    selected = page.locator(".card.selected")
    before = selected.first.inner_text()
    start = time.perf_counter()
    page.keyboard.press("a")
    while selected.first.inner_text() == before:
        if time.perf_counter() - start > 5:
            raise RuntimeError("no next suggestion was selected")
    return (time.perf_counter() - start) * 1000


if __name__ == "__main__":
    main()
