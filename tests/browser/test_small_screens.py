"""Every page at 200 % zoom, on a tablet held upright, in forced colours: nothing is cut off."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from node.domain.rights import Role

pytestmark = pytest.mark.browser

#: 1280 × 720 at 200 %, a tablet held upright, an office screen.
SIZES = ((640, 360), (768, 1024), (1280, 720))
#: Who opens which pages.
PAGES = {
    "lin": ("/", "/search", "/rollout", "/account", "/workflows"),
    "ada": ("/people", "/partners", "/fleet"),
    "ruth": ("/audit", "/emergencies"),
}
#: Controls of the bar at the top that stand outside it or outside the window.
CUT = """() => {
  const bar = document.querySelector(".topbar").getBoundingClientRect();
  return [...document.querySelectorAll(".topbar a, .topbar button")]
    .filter((each) => each.checkVisibility())
    .map((each) => [each.textContent, each.getBoundingClientRect()])
    .filter(([, box]) => box.top < bar.top || box.bottom > bar.bottom || box.right > innerWidth)
    .map(([words]) => words);
}"""


@pytest.fixture
def office(clinic):
    clinic.add_user("ada", "Ada Admin-Featherstonehaugh", Role.ADMIN)
    clinic.add_user("ruth", "Ruth Auditor", Role.AUDITOR)
    patient_id = clinic.add_patient("Wolfeschlegelsteinhausenbergerdorff", "Maximiliana Alexandra")
    clinic.study_id = clinic.add_study(patient_id, images=2)
    clinic.analyse(clinic.study_id)
    return clinic


def enter(reader, username: str) -> None:
    """Sign in without the page."""
    answer = reader.context.request.post(
        f"{reader.clinic.url}/api/login",
        data={"username": username, "password": "correct horse battery"},
    )
    assert answer.ok


def fits(page: Page, width: int, height: int) -> None:
    """Nothing of the page is outside a window of this size, sideways or in the bar at its top."""
    page.set_viewport_size({"width": width, "height": height})
    assert page.evaluate("document.documentElement.scrollWidth") <= width, page.url
    assert page.evaluate(CUT) == [], f"{page.url} at {width}"


@pytest.mark.parametrize("username", PAGES)
def test_nothing_is_cut_off(office, open_reader, serious, username: str) -> None:
    reader = open_reader(office, *SIZES[-1])
    enter(reader, username)
    for path in PAGES[username]:
        reader.page.goto(f"{office.url}{path}")
        expect(reader.page.locator(".topbar")).to_be_visible()
        for width, height in SIZES:
            fits(reader.page, width, height)
        reader.page.set_viewport_size({"width": 640, "height": 360})
        assert serious(reader.page) == []
        reader.shot(f"zoomed{path.replace('/', '-')}")


def test_a_reading_at_twice_the_size(office, open_reader, serious) -> None:
    reader = open_reader(office, 640, 360)
    page = reader.page
    page.emulate_media(forced_colors="active", reduced_motion="reduce")
    enter(reader, "lin")
    reader.open(office.study_id)
    fits(page, 640, 360)
    reader.shot("zoomed-review")
    reader.press("a")
    expect(page.get_by_text("accepted by you")).to_be_visible()
    reader.press("Control+Enter")
    proof = page.get_by_label("Password of Dr. Mei Lin")
    expect(proof).to_be_visible()
    proof.scroll_into_view_if_needed()
    expect(page.get_by_role("button", name="Sign Enter")).to_be_in_viewport()
    assert serious(page) == []
    reader.shot("zoomed-sign")
    page.set_viewport_size({"width": 1280, "height": 720})
    page.keyboard.press("Escape")
    reader.shot("forced-colours")
