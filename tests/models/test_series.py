"""Tooth numbers that fit together over the images of a study."""

from models.series import SeriesImage, reconcile
from node.domain.findings import Box, FindingKind, View
from node.domain.teeth import Tooth

K = FindingKind
BOX = Box(0, 0, 10, 10)


def film(name, view, teeth, marks=(), *, sure=0.6, decided=False, side="", region=""):
    """A film with teeth as numbered by its model; marks are (tooth, kind) pairs."""
    carried: dict[Tooth, frozenset[FindingKind]] = {}
    for tooth, kind in marks:
        carried[Tooth(tooth)] = carried.get(Tooth(tooth), frozenset()) | {kind}
    return SeriesImage(
        name,
        view,
        side,
        region,
        tuple((Tooth(t), BOX, sure) for t in teeth.split()),
        carried,
        decided,
    )


RIGHT = film(
    "molar", View.BITEWING, "17 16 15 47 46 45",
    [("16", K.CROWN), ("46", K.RESTORATION), ("15", K.RESTORATION)], sure=0.95,
)  # fmt: skip
#: The premolar film of the same side, every number one too far back.
SHIFTED = film(
    "premolar", View.BITEWING, "17 16 15 47 46 45",
    [("17", K.CROWN), ("47", K.RESTORATION), ("16", K.RESTORATION)],
)  # fmt: skip


def test_films_that_agree_are_left_alone():
    twin = film("twin", View.BITEWING, "16 15 14 46 45 44",
                [("16", K.CROWN), ("46", K.RESTORATION), ("15", K.RESTORATION)])  # fmt: skip
    assert reconcile([RIGHT, twin]) == ()


def test_a_film_off_by_one_is_renumbered_with_its_reason():
    (found,) = reconcile([RIGHT, SHIFTED])
    assert found.instance_id == "premolar"
    assert found.is_applied
    assert (Tooth("17"), Tooth("16")) in found.teeth
    assert (Tooth("45"), Tooth("44")) in found.teeth
    assert "crown on #3" in found.reason


def test_the_order_of_the_films_does_not_matter():
    assert reconcile([SHIFTED, RIGHT]) == reconcile([RIGHT, SHIFTED])


def test_a_film_with_a_decision_keeps_its_numbers():
    decided = film("premolar", View.BITEWING, "17 16 15 47 46 45",
                   [("17", K.CROWN), ("47", K.RESTORATION), ("16", K.RESTORATION)],
                   decided=True)  # fmt: skip
    assert not any(each.is_applied and each.instance_id == "premolar"
                   for each in reconcile([RIGHT, decided]))  # fmt: skip


def test_a_sure_film_is_not_overruled_by_one_weak_mark():
    sure = film("premolar", View.BITEWING, "16 15 14", [("16", K.RESTORATION)], sure=0.98)
    other = film("molar", View.BITEWING, "17 16 15", [("17", K.RESTORATION)], sure=0.98)
    assert not any(each.is_applied for each in reconcile([sure, other]))


def test_no_number_leaves_the_arch():
    last = film("last", View.PERIAPICAL, "18 17", [("18", K.CROWN)])
    other = film("other", View.PERIAPICAL, "18 17 16", [("17", K.CROWN)], sure=0.95)
    for each in reconcile([other, last]):
        assert all(1 <= new.position <= 8 for _, new in each.teeth)


def test_impossible_numbers_are_flagged_and_never_changed():
    wrong_side = film("a", View.BITEWING, "26 36", side="R")
    both_sides = film("b", View.BITEWING, "16 26")
    wrong_jaw = film("c", View.PERIAPICAL, "46 45", region="upper right molar")
    found = reconcile([wrong_side, both_sides, wrong_jaw])
    assert [each.instance_id for each in found] == ["a", "b", "c"]
    assert not any(each.is_applied or each.teeth for each in found)


def test_milk_teeth_take_no_part():
    child = film("child", View.BITEWING, "55 54 85 84", [("54", K.CROWN)])
    assert reconcile([child, film("x", View.BITEWING, "16", [("16", K.CROWN)])]) == ()
