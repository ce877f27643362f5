"""Which rule wins, what policy never allows, and the one switch back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.domain.findings import FindingKind
from node.domain.rollout import (
    ANYWHERE,
    AUTO_ALLOWED,
    Area,
    Place,
    RollMode,
    Rule,
    Subject,
    check_auto,
    decide,
    known_subjects,
)
from node.errors import InvalidInput, Rejected

CARIES = Subject(Area.FINDING, "caries")
CHAIR = Place(operatory="2", provider="7", view="bitewing")


def rule(subject: str, mode: str, is_ceiling: bool = False, **place: str) -> Rule:
    return Rule("", Subject.parse(subject), Place(**place), RollMode(mode), is_ceiling)


def test_what_nobody_let_in_is_silent():
    decision = decide([], CARIES, CHAIR)
    assert decision.mode is RollMode.SILENT
    assert "nobody let in" in decision.words


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([rule("finding:*", "assist")], "assist"),
        ([rule("finding:*", "assist"), rule("finding:caries", "silent")], "silent"),
        ([rule("finding:caries", "silent"), rule("finding:caries", "assist", view="bitewing")],
         "assist"),
        ([rule("finding:caries", "assist", view="panoramic")], "silent"),
        ([rule("finding:*", "assist", operatory="2"), rule("finding:caries", "silent")], "silent"),
        ([rule("finding:*", "assist", operatory="2", provider="7"),
          rule("finding:caries", "silent")], "assist"),
        ([rule("finding:*", "assist"), rule("finding:calculus", "silent")], "assist"),
        ([rule("finding:*", "assist"), rule("*", "silent", True)], "silent"),
        ([rule("finding:caries", "assist", provider="7"), rule("finding:*", "silent", True)],
         "silent"),
        ([rule("finding:*", "assist"), rule("workflow:*", "silent", True)], "assist"),
    ],
)  # fmt: skip
def test_the_rule_that_names_most_wins(rules, expected):
    decision = decide(rules, CARIES, CHAIR)
    assert decision.mode.value == expected
    assert decision.words.startswith(expected)


def test_the_words_name_the_winner_and_those_that_lost():
    rules = [rule("finding:*", "silent"), rule("finding:caries", "assist", provider="7")]
    words = decide(rules, CARIES, CHAIR).words
    assert "finding:caries assist (provider 7)" in words
    assert "wins over finding:* silent" in words
    held = decide([*rules, rule("*", "silent", True)], CARIES, CHAIR).words
    assert "held back: * at most silent" in held


modes = st.sampled_from(list(RollMode))
places = st.builds(
    Place,
    operatory=st.sampled_from(["", "1", "2"]),
    provider=st.sampled_from(["", "7"]),
    view=st.sampled_from(["", "bitewing"]),
)
rules_drawn = st.lists(
    st.builds(
        Rule,
        st.just(""),
        st.sampled_from([Subject(Area.FINDING), CARIES]),
        places,
        modes,
        st.booleans(),
    ),
    max_size=6,
)


@given(rules_drawn, places)
def test_a_ceiling_is_never_exceeded_and_order_does_not_matter(rules, where):
    decision = decide(rules, CARIES, where)
    assert decide(list(reversed(rules)), CARIES, where).mode is decision.mode
    limits = [r.mode.rank for r in rules if r.is_ceiling and r.place.holds(where)]
    assert all(decision.mode.rank <= limit for limit in limits)


def test_only_low_risk_subjects_may_be_automatic():
    allowed = {str(subject) for subject in known_subjects(["recall", "notify_staff"])
               if _is_allowed(subject)}  # fmt: skip
    assert allowed == {
        "tag:view",
        "tag:orientation",
        "tag:quality",
        "tag:series",
        "tag:completeness",
        "workflow:notify_staff",
    }
    assert all(AUTO_ALLOWED.values())


@pytest.mark.parametrize("kind", list(FindingKind))
def test_no_finding_is_ever_automatic(kind):
    with pytest.raises(Rejected, match="only a clinician"):
        check_auto(Subject(Area.FINDING, kind.value))


@pytest.mark.parametrize(
    "text", ["finding", "finding:", "finding:bogus", "tag:colour", "chair:2", "", "**"]
)
def test_a_subject_that_is_none_is_refused(text):
    with pytest.raises(InvalidInput):
        Subject.parse(text)


def test_places_that_make_no_sense_are_refused():
    for subject, place in (
        ("finding:caries", Place(lab="a")),
        ("workflow:recall", Place(view="bitewing")),
        ("finding:caries", Place(view="sideways")),
    ):
        with pytest.raises(InvalidInput):
            Rule("", Subject.parse(subject), place, RollMode.SILENT)
    with pytest.raises(InvalidInput):
        Rule("", Subject(None), ANYWHERE, RollMode.SILENT)


def _is_allowed(subject: Subject) -> bool:
    try:
        check_auto(subject)
    except Rejected:
        return False
    return True
