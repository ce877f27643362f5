"""Rules that hold on every page: accessibility, keys, code size, nothing personal kept."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

import node.web
from node.domain.findings import Box, Finding, FindingKind, ModelVersion
from node.domain.teeth import Tooth
from node.web.assets import release

pytestmark = pytest.mark.browser

PASSWORD = "correct horse battery"
STATIC = Path(node.web.__file__).parent / "static"
RESERVED = {
    *(f"Ctrl+{key}" for key in "TNWLRPFSDACVXQ"),
    *("Ctrl+Shift+T", "Ctrl+Shift+N", "Ctrl+Shift+W", "Ctrl+Shift+I", "Ctrl+Tab", "Tab"),
    *("Alt+ArrowLeft", "Alt+ArrowRight", "F1", "F5", "F11", "F12"),
}


def corner(number: int) -> tuple[float, float]:
    """The lower right corner of the n-th of many marks."""
    return 80 + 140 * (number % 8), 100 + 160 * (number // 8)


@pytest.fixture
def study_id(clinic) -> str:
    made = clinic.add_study(clinic.add_patient("Sandbox", "Ada"), images=2)
    clinic.analyse(made)
    return made


def test_axe_finds_nothing_serious(clinic, study_id, open_reader, serious) -> None:
    reader = open_reader(clinic)
    reader.page.goto(f"{clinic.url}/login")
    expect(reader.page.get_by_label("User name")).to_be_focused()
    assert serious(reader.page) == []
    reader.shot("login")
    reader.sign_in()
    assert serious(reader.page) == []
    reader.open(study_id)
    assert serious(reader.page) == []
    reader.press("a", "c")
    assert serious(reader.page) == []
    reader.press("Escape", "Control+Enter")
    expect(reader.page.get_by_label("Password of Dr. Mei Lin")).to_be_visible()
    assert serious(reader.page) == []


def test_no_key_means_two_things(clinic, study_id, reader) -> None:
    reader.open(study_id)
    combos = reader.page.evaluate(
        """async () => (await fromPage("review/keymap.mjs")).KEYS.flatMap((k) => k.combos)"""
    )
    assert len(combos) == len(set(combos)) > 40
    assert RESERVED.isdisjoint(combos)


@pytest.mark.parametrize(
    ("width", "height"), [(1280, 720), (1920, 1080), (3840, 2160), (1024, 768), (768, 1024)]
)
def test_the_page_fits_the_screen(clinic, study_id, open_reader, width: int, height: int) -> None:
    reader = open_reader(clinic, width, height)
    reader.sign_in()
    reader.open(study_id)
    size = reader.page.evaluate(
        "[document.documentElement.scrollWidth, document.documentElement.scrollHeight]"
    )
    assert size[0] <= width
    assert size[1] <= height
    box = reader.page.locator("#stage").bounding_box()
    assert box is not None
    assert box["width"] * box["height"] > 0.25 * width * height
    sign = reader.page.get_by_role("button", name=re.compile("^Sign Ctrl"))
    expect(sign).to_be_in_viewport()
    reader.shot(f"review-{width}x{height}")


def test_nothing_personal_stays_in_the_browser(clinic, study_id, reader) -> None:
    urls: list[str] = []
    reader.page.on("request", lambda request: urls.append(request.url))
    reader.open(study_id)
    reader.press("a", "]")
    reader.settle()
    assert not [url for url in urls if re.search("sandbox|ada|1984", url, re.IGNORECASE)]
    kept = reader.page.evaluate(
        "JSON.stringify([{...localStorage}, {...sessionStorage}, document.title])"
    )
    assert not re.search("sandbox, ada|1984", kept, re.IGNORECASE)


def test_the_first_picture_waits_for_little_code(clinic, study_id, reader) -> None:
    loaded: set[str] = set()
    reader.page.on("request", lambda request: loaded.add(request.url))
    # hold the pixels back, so that nothing is fetched that may come after the first picture
    reader.page.route("**/pixels", lambda route: None)
    reader.page.goto(f"{clinic.url}/review/{study_id}")
    expect(reader.page.locator(".mark").first).to_be_visible()
    modules = modules_of(loaded)
    assert 20 < len(modules) <= 30
    assert code_bytes(modules) <= 125_000


def test_a_whole_reading_needs_little_code(clinic, study_id, reader) -> None:
    loaded: set[str] = set()
    reader.page.on("request", lambda request: loaded.add(request.url))
    reader.open(study_id)
    reader.press("a", "x", "1", "a", "a", "]")
    expect(reader.page.get_by_text("seen 2/2")).to_be_visible()
    reader.settle()
    reader.press("Control+Enter")
    reader.page.get_by_label("Password of Dr. Mei Lin").fill(PASSWORD)
    reader.page.get_by_role("button", name="Sign Enter").click()
    expect(reader.page.get_by_text("Entries for the chart are being prepared.")).to_be_visible()
    assert code_bytes(modules_of(loaded)) <= 150_000


def modules_of(urls: set[str]) -> list[str]:
    """The modules among addresses, by their names."""
    below = f"/static/{release().name}/"
    return [url.split(below)[1] for url in sorted(urls) if url.endswith(".mjs")]


def code_bytes(modules: list[str]) -> int:
    """What modules weigh as they are served, before compression."""
    return sum(len(release().assets[name].content) for name in modules)


def test_modules_are_short_and_the_engine_stands_alone() -> None:
    for path in STATIC.rglob("*.mjs"):
        text = path.read_text()
        if path.parent.name != "vendor":
            assert text.count("\n") < 400, path.name
        if path.parent.name == "engine":
            imports = re.findall(r'from "([^"]+)"', text)
            assert all(name.startswith("./") for name in imports), path.name


def test_many_findings_and_a_long_name_fit(clinic, open_reader) -> None:
    model = ModelVersion("intraoral", "1.0", "d" * 64)
    found = tuple(
        Finding(
            list(FindingKind)[number % 4 if number % 4 != 1 else 0],
            Box(40 + 140 * (number % 8), 60 + 160 * (number // 8), *corner(number)),
            Tooth(f"{1 + number % 4}{1 + number % 8}"),
            probability=0.55 + number / 100,
            model=model,
        )
        for number in range(40)
    )
    patient_id = clinic.add_patient("Wolfeschlegelsteinhausenbergerdorff", "Maximiliana Alexandra")
    study_id = clinic.add_study(patient_id)
    clinic.analyse(study_id, findings=found)
    reader = open_reader(clinic, 1280, 720)
    reader.sign_in()
    reader.shot("worklist-long-name")
    reader.open(study_id)
    expect(reader.page.locator(".mark")).to_have_count(40)
    assert reader.page.evaluate("document.documentElement.scrollWidth") <= 1280
    labels = reader.page.locator(".label rect").evaluate_all(
        """(all) => all.map((label) => label.getBoundingClientRect())
                        .map((box) => [box.x, box.y, box.right, box.bottom])"""
    )
    overlaps = sum(
        a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
        for number, a in enumerate(labels)
        for b in labels[:number]
    )
    assert overlaps <= 4
    reader.shot("review-many")
    # the next suggestion is chosen within a tenth of a second of the key
    times = []
    for _ in range(9):
        reader.page.evaluate(
            """() => {
              const card = document.querySelector(".card.selected");
              window.took = new Promise((done) => new MutationObserver((_, observer) => {
                if (document.querySelector(".card.selected") === card) return;
                observer.disconnect();
                done(performance.now() - window.begun);
              }).observe(document.getElementById("findings"), {subtree: true, attributes: true}));
              addEventListener("keydown", () => (window.begun = performance.now()),
                {capture: true, once: true});
            }"""
        )
        reader.press("a")
        times.append(reader.page.evaluate("window.took"))
    assert sorted(times)[4] < 100
