"""Who looks after the machine is told on the page that its disk fills up; nobody else is."""

import pytest

WORDS = "The disk of this node fills up: "
#: Millions of megabytes, more than any disk here has, and none.
FILLING, WIDE = {"low_disk_mb": 10**9}, {"low_disk_mb": 0}


@pytest.mark.parametrize(
    ("role", "path", "is_told"),
    [
        ("office_manager", "/", True),
        ("office_manager", "/workflows", True),
        ("admin", "/fleet", True),
        ("admin", "/people", True),
        ("dentist", "/", False),
        ("front_desk", "/workflows", False),
        ("auditor", "/audit", False),
    ],
)
def test_a_disk_that_fills_up_is_told_to_who_looks_after_it(open_practice, role, path, is_told):
    page = open_practice(node=FILLING).sign_in(role).get(path)
    assert page.status_code == 200
    assert (WORDS in page.text) is is_told
    if is_told:
        assert '<p class="notice bar warn" role="status">' in page.text
        assert "GB free: make room soon." in page.text


def test_with_room_nobody_is_told(open_practice):
    practice = open_practice(node=WIDE)
    assert WORDS not in practice.sign_in("office_manager").get("/").text


def test_a_stranger_is_not_told(open_practice):
    assert WORDS not in open_practice(node=FILLING).client().get("/login").text
