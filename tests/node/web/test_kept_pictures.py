"""What is kept for whoever asks next, and pictures drawn before anybody asks."""

from __future__ import annotations

import threading

import pytest

from node.db.session import begin
from node.domain.events import EventKind
from node.web.early_pictures import EarlyPictures
from node.web.images import Pictures
from node.web.kept import Kept


def test_a_result_is_made_once_for_many_who_ask_at_one_time():
    kept: Kept[str, int] = Kept(4)
    made, go = [], threading.Event()

    def make() -> int:
        go.wait(60)
        made.append(1)
        return 7

    answers = []
    askers = [
        threading.Thread(target=lambda: answers.append(kept.get("a", make))) for _ in range(6)
    ]
    for asker in askers:
        asker.start()
    go.set()
    for asker in askers:
        asker.join(60)
    assert (answers, made) == ([7] * 6, [1])


def test_the_oldest_go_when_the_budget_is_spent_and_the_last_one_stays():
    kept: Kept[str, bytes] = Kept(10, len)
    kept.get("a", lambda: b"12345")
    kept.get("b", lambda: b"1234")
    assert kept.get("a", lambda: b"another") == b"12345"  # used again: now the younger
    kept.get("c", lambda: b"123")
    assert [kept.peek(key) for key in "abc"] == [b"12345", None, b"123"]
    kept.get("large", lambda: b"x" * 50)
    assert kept.peek("large") == b"x" * 50
    assert kept.peek("c") is None


def test_what_failed_is_asked_again():
    kept: Kept[str, int] = Kept(4)

    def fail() -> int:
        raise ValueError("not now")

    with pytest.raises(ValueError, match="not now"):
        kept.get("a", fail)
    assert kept.get("a", lambda: 3) == 3


@pytest.fixture
def pictures(practice):
    return Pictures(practice.store)


def test_a_ready_study_is_drawn_before_it_is_opened(practice, pictures):
    study_id = practice.analysed_study(images=2)
    early = EarlyPictures(practice.app.state.web, pictures)
    assert early.follow() == 0  # what happened before is drawn when it is asked for
    with begin(practice.db, practice.actor, "test.ready") as tx:
        tx.append_event(EventKind.STUDY_READY, study_id, f"study:{study_id}:again")
    assert early.follow() == 2
    for image_id in practice.image_ids(study_id):
        assert pictures.is_drawn(image_id)
    assert early.follow() == 0


def test_an_image_that_cannot_be_read_does_not_stop_the_others(practice, pictures):
    study_id = practice.add_study(images=0)
    practice.add_image(study_id, state="unreadable")
    good = practice.add_image(study_id)
    early = EarlyPictures(practice.app.state.web, pictures)
    early.follow()
    with begin(practice.db, practice.actor, "test.ready") as tx:
        tx.append_event(EventKind.STUDY_READY, study_id, f"study:{study_id}:ready")
    early.follow()
    assert pictures.is_drawn(good)
