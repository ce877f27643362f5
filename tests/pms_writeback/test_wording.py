"""A vendor's refusal is kept as far as it names nobody."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.errors import Rejected
from pms_writeback.pms import AppendCommlog
from pms_writeback.practice import open_pms
from pms_writeback.wording import without_names


@pytest.mark.parametrize(
    "said",
    [
        "PatNum is required",
        "Patient not found",
        "'DateTStamp' is not a valid parameter.",
        "No documents exist for this patient",
        "DocCategory is invalid.",
        "Office eConnector is not responding. Check the office's connectivity.",
        "The request timed out after 60 seconds.",
    ],
)
def test_what_names_nobody_is_kept(said):
    kept = without_names(said)
    assert [word for word in kept.split() if word != "…"]
    assert kept.replace("…", "").split()[0] == said.split()[0]


def test_names_dates_and_numbers_are_left_out():
    said = "Patient Robin McExample (born 1980-02-03, phone 555-0199) is deleted. Long, May exists."
    kept = without_names(said)
    assert kept == "Patient … is deleted. … exists."


def test_the_manuals_own_words_pass():
    assert without_names("ClaimNote is invalid.") == "ClaimNote is invalid."
    assert without_names("requires Open Dental version 24.4.19 or later.").endswith("or later.")


@given(st.text(max_size=200))
def test_nothing_outside_the_list_ever_passes(said):
    for word in without_names(said).split():
        assert word == "…" or without_names(word) == word or word[:1].isupper()


def test_a_refusal_that_names_somebody_is_not_kept(office, config):
    text = "Patient Robin Example cannot be changed by user Kim Sample."
    office.fault("status", status=400, text=text, methods=("POST",))
    command = AppendCommlog(
        "1", "Signed.", datetime(2026, 11, 21, 15, tzinfo=UTC), "ref:BW-0123456789"
    )
    with closing(open_pms(config)) as pms, pytest.raises(Rejected) as refused:
        pms.execute(command)
    assert "Example" not in str(refused.value)
    assert "Sample" not in str(refused.value)
    assert "cannot be changed by user" in str(refused.value)
