"""Severity ranges of radiographic bone loss."""

import pytest

from models.periodontal import Severity, severity, severity_range
from node.domain.findings import BoneSite
from node.domain.teeth import Surface, Tooth


def site(percent):
    return BoneSite(
        Tooth("46"), Surface.MESIAL, (0.0, 0.0), (0.0, 9.0), None, None, percent, probability=0.9
    )


@pytest.mark.parametrize(
    ("percent", "range_"),
    [
        (0.0, Severity.NONE),
        (1.9, Severity.NONE),
        (14.9, Severity.FIRST),
        (15.0, Severity.SECOND),
        (33.0, Severity.SECOND),
        (33.1, Severity.THIRD),
        (100.0, Severity.THIRD),
    ],
)
def test_ranges_meet_at_their_limits(percent, range_):
    assert severity(percent) is range_


def test_the_worst_site_counts():
    assert severity_range([site(5.0), site(None), site(20.0)]) is Severity.SECOND


def test_without_a_seen_root_there_is_no_range():
    assert severity_range([site(None)]) is None
    assert severity_range([]) is None


def test_no_wording_claims_a_diagnosis():
    for range_ in (Severity.FIRST, Severity.SECOND, Severity.THIRD):
        assert "needs probing" in range_.value
        assert "radiographic" in range_.value
