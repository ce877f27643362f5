"""The walk in Chromium: a film by C-STORE, a mark by hand, a signature, the PMS's receipts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from pms_writeback.sandbox.server import running
from tests.faults.running_node import PASSWORD, NodeProcess

pytestmark = pytest.mark.browser


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NodeProcess]:
    """A node that runs against its own sandbox practice, with one dentist."""
    with running(tmp_path / "sandbox.sqlite") as sandbox:
        (tmp_path / "data").mkdir()
        process = NodeProcess(tmp_path, sandbox)
        process.add_dentist()
        process.start()
        yield process
        process.kill()


def test_from_c_store_to_receipts(node: NodeProcess, chromium: Browser, keep) -> None:
    context = chromium.new_context(viewport={"width": 1600, "height": 900})
    page = context.new_page()
    page.goto(f"{node.url}/login")
    page.get_by_label("User name").fill("dentist")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_text("live", exact=True)).to_be_visible()

    # the study appears by itself when the images have come, under the PMS's name of the patient
    node.send("bitewings-4")
    row = page.get_by_role("row", name=re.compile("Sandbox, Ada"))
    expect(row).to_be_visible(timeout=60_000)
    expect(row).to_contain_text(re.compile("ready|AI"), timeout=120_000)
    keep(page, "node-worklist")
    page.get_by_role("link", name="Sandbox, Ada").click()
    expect(page.locator(".thumb")).to_have_count(4)
    expect(page.get_by_text("Patient not confirmed")).to_be_hidden()

    expect(page.locator(".chartside, .reading").first).to_be_visible()
    expect(page.locator("#stage[aria-busy=false]")).to_be_visible()
    keep(page, "node-review")

    # see every image, decide what the models say, add one mark by keys
    for number in range(1, 5):
        expect(page.get_by_text(f"seen {number}/4")).to_be_visible()
        page.keyboard.press("]")
    expect(page.locator("#saving")).to_have_text("Saved")
    while not page.get_by_text("all decided", exact=True).is_visible():
        page.keyboard.press("Shift+J")
        page.keyboard.press(".")
        page.keyboard.press("x")
    page.keyboard.press("Shift+Home")
    page.get_by_role("link", name="Sandbox, Ada").click()
    expect(page.locator("#stage[aria-busy=false]")).to_be_visible()
    stage = page.locator("#stage").bounding_box()
    assert stage is not None
    page.keyboard.press("n")
    expect(page.locator(".mode")).to_contain_text("drag a box")
    page.mouse.move(stage["x"] + 300, stage["y"] + 200)
    page.mouse.down()
    page.mouse.move(stage["x"] + 360, stage["y"] + 270, steps=4)
    page.mouse.up()
    page.keyboard.press("1")
    expect(page.get_by_role("dialog", name="Tooth and surface")).to_be_visible()
    page.get_by_label("Tooth (Universal)").fill("3")
    page.keyboard.press("Enter")
    page.keyboard.press("4")
    page.keyboard.press("g")
    page.keyboard.press("3")
    expect(page.locator("#saving")).to_have_text("Saved")

    page.keyboard.press("Control+Enter")
    page.get_by_label("Password of Dr Test").fill(PASSWORD)
    keep(page, "node-sign")
    expect(page.get_by_role("button", name="Sign Enter")).to_be_enabled(timeout=60_000)
    page.keyboard.press("Enter")
    expect(page.get_by_text("Signed, version 1", exact=True).first).to_be_visible()

    # receipts arrive by themselves
    receipts = page.locator(".receipt")
    expect(receipts.first).to_be_visible(timeout=60_000)
    expect(receipts.filter(has_text=re.compile("note", re.IGNORECASE)).first).to_contain_text(
        "done", timeout=60_000
    )
    expect(page.locator(".receipt:not(:has-text('done'))")).to_have_count(0, timeout=120_000)
    keep(page, "node-signed")
    context.close()
