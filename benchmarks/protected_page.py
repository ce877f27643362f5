"""What audit and encryption cost on the review page: a node with both beside one with neither.

Two whole nodes, each with the same four bitewings read and ready, opened in turns in one headless
Chromium: milliseconds from navigation to the first picture and to the full 16-bit image, cold (a
new browser context) and warm; milliseconds from the accept key to the next suggestion. Then the
same requests without a browser, a whole study at a time: milliseconds until page, previews and
16-bit images of all four have come, and the node's processor time of it. Last, a stored image
decoded for the first time, which is when its file is opened and unsealed.

Run: ``python -m benchmarks.protected_page [--rounds 15]`` (about two minutes).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import statistics
import time
from pathlib import Path

import sqlalchemy as sa
from playwright.sync_api import APIRequestContext, Page, sync_playwright

from benchmarks.review_page import ARGUMENTS, accepts, open_page, ready_study, signed_in
from benchmarks.whole_node import started
from node.db.tables import instance
from node.dicom.pixels import decode
from tests.faults.running_node import NodeProcess, sample_study

WITHOUT = "\n[encryption]\nenabled = false\n"


class Measured:
    """What was found of each node, in turns."""

    def __init__(self) -> None:
        self._found: dict[str, dict[str, list[float]]] = {}

    def add(self, name: str, way: str, value: float) -> None:
        """Note one value."""
        self._found.setdefault(name, {}).setdefault(way, []).append(value)

    def print(self) -> None:
        """Print a table in Markdown."""
        print("| measure | without | audit and encryption | more | rounds |")
        print("|---|--:|--:|--:|--:|")
        for name, ways in self._found.items():
            without, both = (statistics.median(values) for values in ways.values())
            share, rounds = both / without - 1, len(ways["without"])
            print(f"| {name} | {without:.1f} | {both:.1f} | {share:+.1%} | {rounds} |")


def main() -> None:
    """Measure and print the rows of docs/benchmarks.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    with started("benchmarks.unaudited", WITHOUT) as without, started() as both:
        nodes = {"without": without, "audit and encryption": both}
        studies = {
            way: ready_study(node, sample_study("bitewings-4")) for way, node in nodes.items()
        }
        found = Measured()
        _browse(found, nodes, studies, rounds)
        _decode(found, nodes)
    found.print()
    print(f"\nload {os.getloadavg()[0]:.0f}")


def _browse(
    found: Measured, nodes: dict[str, NodeProcess], studies: dict[str, str], rounds: int
) -> None:
    with sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        pages = {way: signed_in(browser, node.url) for way, node in nodes.items()}
        urls = {way: f"{node.url}/review/{studies[way]}" for way, node in nodes.items()}
        for number in range(rounds + 1):
            for way, node in nodes.items():
                cold = signed_in(browser, node.url)
                times = {
                    "cold": open_page(cold, urls[way]),
                    "warm": open_page(pages[way], urls[way]),
                }
                cold.context.close()
                for kind, (first, full) in times.items() if number else ():
                    found.add(f"first picture, {kind}, ms", way, first)
                    found.add(f"full 16-bit image, {kind}, ms", way, full)
        for number in range(rounds * 2 + 1):
            for way, node in nodes.items():
                took, cpu = _whole_study(node, pages[way], studies[way])
                if number:
                    found.add("page and all pictures of the study fetched, ms", way, took)
                    found.add("… processor time of the node, ms", way, cpu)
        for way in nodes:
            for took in accepts(pages[way]):
                found.add("accept key to the next suggestion, ms", way, took)
        browser.close()


def _whole_study(node: NodeProcess, page: Page, study_id: str) -> tuple[float, float]:
    """Fetch what one reading shows, over a warm connection; milliseconds and those of the CPU."""
    assert node.process is not None
    request: APIRequestContext = page.request
    began, spent = time.perf_counter(), _cpu_ms(node.process.pid)
    request.get(f"{node.url}/review/{study_id}")
    for image in request.get(f"{node.url}/api/studies/{study_id}").json()["images"]:
        for what in ("preview?w=900", "pixels"):
            answer = request.get(f"{node.url}/api/images/{image['id']}/{what}")
            assert answer.status == 200, answer.status
    return (time.perf_counter() - began) * 1000, _cpu_ms(node.process.pid) - spent


def _cpu_ms(pid: int) -> float:
    """Read the time that the threads of a process were on a processor (Linux)."""
    spent = 0
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):  # the thread has just ended
            spent += int(path.read_text().split()[0])
    return spent / 1e6


def _decode(found: Measured, nodes: dict[str, NodeProcess], times: int = 40) -> None:
    """Decode a stored image as the node does before it is first shown."""
    files = {}
    for way, node in nodes.items():
        key = str(node.rows(sa.select(instance.c.storage_key))[0].storage_key)
        files[way] = node.store().file(key)
    for number in range(times + 1):
        for way, file in files.items():
            start = time.process_time()
            decode(file)
            if number:
                took = (time.process_time() - start) * 1000
                found.add("a stored image decoded, processor time, ms", way, took)


if __name__ == "__main__":
    main()
