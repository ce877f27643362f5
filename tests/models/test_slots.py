"""Which place of a series each image fills."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import slots
from models.slots import SlotImage, assign, place
from node.domain.findings import View
from node.domain.teeth import Tooth

BW, PA, PAN = View.BITEWING, View.PERIAPICAL, View.PANORAMIC


def image(name: str, view: View, teeth: str, quality: float = 1.0) -> SlotImage:
    return SlotImage(name, view, frozenset(Tooth(t) for t in teeth.split()), quality)


def whole(template: str) -> list[SlotImage]:
    """One image for each slot of a template, named by it, the last one first."""
    return [
        SlotImage(slot.code, slot.view, slot.teeth) for slot in reversed(slots.TEMPLATES[template])
    ]


@pytest.mark.parametrize("template", sorted(slots.TEMPLATES))
def test_a_whole_series_falls_into_its_own_slots(template):
    found = place(whole(template), template)
    assert found is not None
    assert not found.empty
    assert not found.unplaced
    by_name = {each.instance_id: each.slot for each in found.places}
    assert all(name == slot for name, slot in by_name.items())


@pytest.mark.parametrize("template", ["FMX18", "FMX20", "FMX16", "FMX14", "BW4", "VBW7"])
def test_the_template_is_told_by_the_images(template):
    found = place(whole(template))
    assert found is not None
    assert found.template == template


def test_counts_of_the_templates_are_those_in_their_names():
    for name, made_of in slots.TEMPLATES.items():
        number = "".join(filter(str.isdigit, name))
        if number and "+" not in name:
            assert len(made_of) == int(number), name
        assert len({slot.code for slot in made_of}) == len(made_of)


def test_a_missing_image_leaves_its_slot_empty():
    images = [each for each in whole("FMX18") if each.instance_id != "UL-CAN-PA"]
    found = place(images, "FMX18")
    assert found is not None
    assert found.empty == ("UL-CAN-PA",)
    assert not found.retakes


def test_of_two_images_of_one_place_the_better_is_kept():
    first = image("first", BW, "17 16 47 46", quality=0.6)
    again = image("again", BW, "17 16 47 46", quality=0.9)
    rest = [image("pm", BW, "15 14 45 44"), image("lm", BW, "26 27 36 37")]
    last = image("lp", BW, "24 25 34 35")
    found = place([first, *rest, last, again], "BW4")
    assert found is not None
    (retake,) = found.retakes
    assert (retake.instance_id, retake.kept_id, retake.slot) == ("first", "again", "R-MOL-BW")
    assert {each.instance_id for each in found.places} == {"again", "pm", "lm", "lp"}


def test_an_image_of_the_other_side_or_jaw_is_not_forced_into_a_slot():
    found = place([image("a", BW, "26 27 36 37"), image("b", PA, "36 37 38")], "BW2")
    assert found is not None
    assert found.unplaced == ("b",)
    assert found.empty == ("R-BW",)


def test_single_images_and_photographs_have_no_template():
    assert place([image("a", BW, "26 27 36 37")]) is None
    assert place([image("a", View.PHOTO, ""), image("b", View.OTHER, "")]) is None


def test_a_panoramic_with_bitewings_is_one_series():
    images = [image("pan", PAN, " ".join(f"{q}{p}" for q in (1, 2, 3, 4) for p in range(1, 8)))]
    images += [image("r", BW, "17 16 15 47 46 45"), image("l", BW, "25 26 27 35 36 37")]
    found = place(images)
    assert found is not None
    assert found.template == "PAN+BW2"
    assert {each.slot for each in found.places} == {"PAN", "R-BW", "L-BW"}


@given(st.integers(1, 4), st.integers(1, 4), st.data())
def test_the_assignment_is_the_cheapest_there_is(rows, columns, data):
    cost = st.floats(0, 4, allow_nan=False)
    costs = [[data.draw(cost) for _ in range(columns)] for _ in range(rows)]
    chosen = assign(costs)
    used = [column for column in chosen if column is not None]
    assert len(set(used)) == len(used) == min(rows, columns)
    total = sum(costs[r][c] for r, c in enumerate(chosen) if c is not None)
    if rows <= columns:
        every = permutations(range(columns), rows)
        best = min(sum(costs[r][c] for r, c in enumerate(p)) for p in every)
    else:
        every = permutations(range(rows), columns)
        best = min(sum(costs[r][c] for c, r in enumerate(p)) for p in every)
    assert total == pytest.approx(best, abs=1e-6)


def test_nothing_to_choose_from():
    assert assign([]) == []
    assert assign([[], []]) == [None, None]
