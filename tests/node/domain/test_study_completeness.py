"""Whether what was asked for came, and whether a series shows what it must."""

import pytest

from node.domain.completeness import SeenImage, procedure_checks, six_items
from node.domain.findings import BoneSite, Box, QualityFlag, QualityKind, View
from node.domain.reading import Arrival, Outcome, Retake, Series
from node.domain.teeth import Surface, Tooth

BW, PA, PAN = View.BITEWING, View.PERIAPICAL, View.PANORAMIC


@pytest.mark.parametrize(
    ("codes", "views", "expected"),
    [
        (["D0274"], [BW] * 4, [Arrival.COMPLETE]),
        (["D0274"], [BW] * 3, [Arrival.SHORT]),
        (["D0272"], [BW] * 3, [Arrival.OVER]),
        (["D0274"], [BW, BW, BW, PA], [Arrival.SHORT]),
        (["D0220", "D0230", "D0230"], [PA] * 3, [Arrival.COMPLETE]),
        (["D0272", "D0330"], [BW, BW], [Arrival.COMPLETE, Arrival.SHORT]),
        (["D0330"], [PAN], [Arrival.COMPLETE]),
        (["D0210"], [PA] * 14 + [BW] * 4, [Arrival.COMPLETE]),
        (["D0210"], [PA] * 14, [Arrival.COMPLETE]),
        (["D0210"], [PA] * 10, [Arrival.SHORT]),
        (["D0210", "D0330"], [PA] * 16 + [PAN], [Arrival.COMPLETE, Arrival.COMPLETE]),
        (["D0277"], [BW] * 7, [Arrival.COMPLETE]),
        (["d0270 "], [BW], [Arrival.COMPLETE]),
        (["D0367", "D2391"], [BW], []),
    ],
)
def test_procedures_are_checked_by_view(codes, views, expected):
    assert [each.state for each in procedure_checks(codes, views)] == expected


def test_the_words_say_what_is_missing():
    (check,) = procedure_checks(["D0274"], [BW] * 3)
    assert check.words == "3 bitewings of the 4 asked for: is one missing?"


def seen(name="i", view=PA, teeth="", sites=(), flags=(), cut=()):
    boxes = {Tooth(t): Box(0 if t in cut else 50, 50, 150, 300) for t in teeth.split()}
    return SeenImage(name, view, 400, 500, (0.05, 0.05), boxes, tuple(sites), tuple(flags))


def both_sides(tooth, apex=(200.0, 250.0)):
    return [
        BoneSite(Tooth(tooth), surface, (100, 200), (100, 220), apex, 1.5, None, 0.9)
        for surface in (Surface.MESIAL, Surface.DISTAL)
    ]


def outcomes(*images, series=None):
    return {check.number: check.outcome for check in six_items(images, series)}


def test_an_apex_needs_room_beyond_it():
    inside = seen(teeth="46", sites=both_sides("46"))
    at_the_edge = seen(teeth="46", sites=both_sides("46", apex=(200.0, 390.0)))
    cut = seen(teeth="46", sites=both_sides("46"),
               flags=[QualityFlag(QualityKind.APEX_CUT, "cut", teeth=(Tooth("46"),))])  # fmt: skip
    assert outcomes(inside)[1] is Outcome.PASS
    assert outcomes(at_the_edge)[1] is Outcome.FAIL
    assert outcomes(cut)[1] is Outcome.FAIL
    assert outcomes(cut, seen("pan", PAN, "46"))[1] is Outcome.PASS
    assert outcomes(seen(view=BW, teeth="46"))[1] is Outcome.NOT_APPLICABLE


def test_a_contact_must_be_open_on_one_image():
    closed = [QualityFlag(QualityKind.OVERLAP, "closed", teeth=(Tooth("46"), Tooth("45")))]
    one = seen("a", BW, "46 45", flags=closed)
    assert outcomes(one)[2] is Outcome.FAIL
    assert outcomes(one, seen("b", BW, "46 45"))[2] is Outcome.PASS
    assert outcomes(seen(teeth="11 21"))[2] is Outcome.NOT_APPLICABLE


def test_both_crests_of_every_tooth():
    assert outcomes(seen(teeth="46", sites=both_sides("46")))[3] is Outcome.PASS
    half = seen(teeth="46", sites=both_sides("46")[:1])
    assert outcomes(half)[3] is Outcome.FAIL
    assert outcomes(seen(teeth="46"))[3] is Outcome.NOT_APPLICABLE


def test_bitewings_reach_from_the_canine_to_the_last_molar():
    assert outcomes(seen("a", BW, "47 46 45 44 43"))[4] is Outcome.PASS
    assert outcomes(seen("a", BW, "47 46 45", cut=("47",)))[4] is Outcome.FAIL
    no_canine = [seen("a", BW, "47 46 45 44"), seen("p", PA, "43")]
    assert outcomes(*no_canine)[4] is Outcome.FAIL
    assert outcomes(seen("p", PA, "43"))[4] is Outcome.NOT_APPLICABLE


def test_third_molar_areas():
    assert outcomes(seen("pan", PAN, "46"))[5] is Outcome.PASS
    ends = [seen(str(q), PA, f"{q}7 {q}6") for q in (1, 2, 3, 4)]
    assert outcomes(*ends)[5] is Outcome.PASS
    assert outcomes(*ends[:3])[5] is Outcome.FAIL


def test_a_flawed_image_needs_a_better_one():
    blur = [QualityFlag(QualityKind.BLUR, "moved", is_disqualifying=True)]
    bad = seen("bad", BW, "46 45", flags=blur)
    assert outcomes(bad)[6] is Outcome.FAIL
    assert outcomes(bad, seen("good", BW, "46 45 44"))[6] is Outcome.PASS
    retaken = Series("BW2", retakes=(Retake("bad", "good", "R-BW", "repeats"),))
    assert outcomes(bad, series=retaken)[6] is Outcome.PASS
