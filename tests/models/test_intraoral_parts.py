"""Caries by surface, marks on teeth, bone by site and contacts, from made-up maps."""

import numpy as np
import pytest

pytest.importorskip("torch")

from models import intraoral_bone as bone
from models import intraoral_caries as caries
from models import intraoral_contacts as lying
from models.geometry import Canvas
from models.intraoral_maps import CELL, HEADS, MARK_NAMES, TEETH, Seen
from models.intraoral_marks import marks
from models.intraoral_reading import Landmarks
from models.panoramic import BOX_UNIT, Peak
from node.domain.findings import NO_SPACING, CariesDepth, FindingKind, Spacing
from node.domain.teeth import Surface, Tooth

ROWS, COLS = 96, 128
CANVAS = Canvas.fit(384, 512, NO_SPACING)
MM = Spacing(0.078, 0.078, "detector")


def blank():
    maps = {name: np.zeros((count, ROWS, COLS), np.float32) for name, count in HEADS.items()}
    maps["tooth"][0] = 1.0
    return maps


def tooth(code, box, points=()):
    """Make a seen tooth with a box and points (name, side, x, y), canvas pixels."""
    number = Tooth(code)
    jaw = TEETH.index(number) // 16
    row, column = int((box[1] + box[3]) / 2 / CELL), int((box[0] + box[2]) / 2 / CELL)
    peak = Peak(jaw, row, column, 0.9, box)
    places = {(name, side): ((x, y), 0.8) for name, side, x, y in points}
    return Seen(number, peak, 0.9, places)


# --- caries --------------------------------------------------------------------------------------


def test_a_distribution_falls_and_sums_to_one():
    shares = caries.distribution([0.9, 0.8, 0.3, 0.4, 0.1])
    assert len(shares) == len(caries.DEPTHS)
    assert sum(shares) == pytest.approx(1.0)
    assert min(shares) >= 0
    assert caries.mode(shares) is CariesDepth.D1


def test_the_depth_is_the_most_likely_one():
    assert caries.mode((0.1, 0.5, 0.2, 0.1, 0.05, 0.05)) is CariesDepth.E2
    assert caries.mode(caries.distribution([1, 1, 1, 1, 1])) is CariesDepth.P
    assert caries.mode(caries.distribution([0, 0, 0, 0, 0])) is CariesDepth.E1


def test_a_lesion_belongs_to_the_side_of_its_tooth():
    maps = blank()
    maps["caries"][0, 40, 32] = 0.7
    maps["outline"][0, 38:43, 31:34] = 0.9
    maps["depth"][:2, 38:43, 31:34] = 0.9
    seen = [tooth("46", (120.0, 100.0, 220.0, 300.0)), tooth("45", (222.0, 100.0, 280.0, 300.0))]
    (lesion,) = caries.lesions(maps, seen, CANVAS)
    assert (lesion.tooth.code, lesion.surface) == ("46", Surface.DISTAL)
    assert lesion.score == pytest.approx(0.7)
    assert lesion.depth is CariesDepth.D1
    xs = [x for x, _ in lesion.outline.points]
    assert 31 * CELL - 4 <= min(xs) <= max(xs) <= 34 * CELL + 4


def test_two_peaks_on_one_surface_are_one_lesion():
    maps = blank()
    maps["caries"][0, 40, 32], maps["caries"][0, 48, 32] = 0.7, 0.4
    seen = [tooth("46", (120.0, 100.0, 220.0, 300.0))]
    assert [one.score for one in caries.lesions(maps, seen, CANVAS)] == [pytest.approx(0.7)]


def test_a_lesion_far_from_every_tooth_is_noise():
    maps = blank()
    maps["caries"][0, 10, 120] = 0.9
    assert caries.lesions(maps, [tooth("46", (120.0, 100.0, 220.0, 300.0))], CANVAS) == []


def test_a_lesion_is_the_part_of_the_outline_round_its_peak():
    outline = np.zeros((ROWS, COLS), np.float32)
    outline[10:13, 20:22] = 0.9
    outline[30:34, 20:22] = 0.9
    mask = caries.lesion_mask(outline, 11, 20)
    assert mask.sum() == 6
    assert mask[11, 20]
    assert caries.lesion_mask(np.zeros_like(outline), 5, 5).sum() == 1


def test_lesions_that_face_each_other_stay_two():
    maps = blank()
    maps["outline"][0, 38:43, 53:58] = 0.9
    maps["caries"][0, 40, 54], maps["caries"][0, 40, 57] = 0.8, 0.7
    maps["depth"][:4, 38:43, 53:56] = 0.9
    seen = [tooth("46", (120.0, 100.0, 223.0, 300.0)), tooth("45", (225.0, 100.0, 280.0, 300.0))]
    found = caries.lesions(maps, seen, CANVAS)
    assert [(x.tooth.code, x.surface, x.depth) for x in found] == [
        ("46", Surface.MESIAL, CariesDepth.D3),
        ("45", Surface.DISTAL, CariesDepth.E1),
    ]


# --- marks ---------------------------------------------------------------------------------------


def with_mark(maps, name, box, score=0.8):
    """Draw a mark with its box (canvas pixels) into the maps."""
    from models.intraoral_maps import MARKS

    row, column = int((box[1] + box[3]) / 2 / CELL), int((box[0] + box[2]) / 2 / CELL)
    maps["marks"][MARK_NAMES.index(name), row, column] = score
    x, y = (column + 0.5) * CELL, (row + 0.5) * CELL
    head = MARKS[MARK_NAMES.index(name)][2]
    sides = np.array([x - box[0], y - box[1], box[2] - x, box[3] - y]) / BOX_UNIT
    near = (slice(max(row - 1, 0), row + 2), slice(max(column - 1, 0), column + 2))
    maps["mark_box"][(slice(4 * head, 4 * head + 4), *near)] = sides[:, None, None]
    return maps


def only(maps, seen):
    (mark,) = marks(maps, seen, CANVAS)
    return mark


LOWER = tooth("46", (120.0, 100.0, 220.0, 300.0))


def test_a_filling_names_the_surfaces_it_reaches():
    mark = only(with_mark(blank(), "restoration", (150.0, 102.0, 218.0, 140.0)), [LOWER])
    assert mark.tooth.code == "46"
    assert mark.surfaces == (Surface.MESIAL, Surface.OCCLUSAL)
    assert (mark.box.x0, mark.box.y1) == pytest.approx((150.0, 140.0), abs=1)


def test_calculus_lies_on_one_side():
    mark = only(with_mark(blank(), "calculus", (112.0, 170.0, 124.0, 182.0)), [LOWER])
    assert (mark.kind, mark.surfaces) == (FindingKind.CALCULUS, (Surface.DISTAL,))


def test_a_lucency_belongs_to_the_nearest_root_end():
    beside = tooth("45", (230.0, 100.0, 290.0, 250.0))
    mark = only(
        with_mark(blank(), "periapical_radiolucency", (150.0, 290.0, 190.0, 330.0)),
        [LOWER, beside],
    )
    assert mark.tooth.code == "46"


def test_a_thing_off_every_tooth_has_no_number():
    mark = only(with_mark(blank(), "implant", (400.0, 100.0, 440.0, 200.0)), [LOWER])
    assert mark.tooth is None


def test_only_caries_has_depths():
    maps = with_mark(blank(), "recurrent_caries", (112.0, 150.0, 130.0, 170.0))
    maps["depth"][:3] = 0.9
    found = only(maps, [LOWER])
    assert found.depth is CariesDepth.D2
    assert only(with_mark(blank(), "post", (160.0, 150.0, 170.0, 200.0)), [LOWER]).depth is None


def test_a_sure_crown_is_not_also_a_filling():
    maps = with_mark(blank(), "restoration", (122.0, 100.0, 218.0, 160.0), 0.5)
    maps = with_mark(maps, "crown", (122.0, 100.0, 218.0, 164.0), 0.9)
    assert [m.name for m in marks(maps, [LOWER], CANVAS)] == ["crown"]


# --- bone ----------------------------------------------------------------------------------------


def sites(code, left, right, apex=None):
    """Make a lower tooth whose crest lies (left, right) mm below its CEJs."""
    points = []
    for side, x, mm in (("left", 130.0, left), ("right", 210.0, right)):
        points += [("cej", side, x, 160.0), ("crest", side, x, 160.0 + mm / 0.078)]
        if apex:
            points.append(("apex", side, x, 160.0 + apex / 0.078))
    return tooth(code, (120.0, 100.0, 220.0, 380.0), points)


def measured(seen, spacing=MM):
    on_film = bone.places(seen, CANVAS)
    return bone.levels(seen, on_film, bone.scale_of(seen, on_film, spacing), spacing.is_known)


def test_levels_are_millimetres_with_a_spacing():
    left, right = measured([sites("46", 1.5, 4.0)])
    assert (left.surface, right.surface) == (Surface.DISTAL, Surface.MESIAL)
    assert left.site(0.9).level_mm == pytest.approx(1.5, abs=0.01)
    assert right.site(0.9).level_mm == pytest.approx(4.0, abs=0.01)
    assert right.site(0.9).percent is None


def test_without_a_spacing_there_are_no_millimetres_but_a_share_of_the_root():
    for level in measured([sites("46", 4.0, 4.0, apex=14.0)], NO_SPACING):
        assert level.site(0.9).level_mm is None
        assert 5 < level.site(0.9).percent < 50


def test_a_share_of_the_root_takes_the_normal_distance_off():
    (level, _) = measured([sites("46", 5.0, 1.0, apex=14.0)])
    assert level.percent == pytest.approx(100 * 3.0 / 12.0, abs=0.2)
    assert level.site(0.5).apex is not None


def test_an_apex_where_no_root_could_end_is_not_believed():
    (level, _) = measured([sites("46", 5.0, 1.0, apex=5.5)])
    assert level.apex is None
    assert level.percent is None


def test_the_score_of_a_lowered_site_rises_with_its_level():
    healthy, lowered = measured([sites("46", 1.0, 4.0)])
    assert healthy.lowered < 0.1 < 0.7 < lowered.lowered <= lowered.score


def test_a_crest_that_dips_at_one_tooth_is_measured_there():
    one = sites("46", 1.5, 5.0)
    points = [("cej", "left", 230.0, 160.0), ("crest", "left", 230.0, 160.0 + 1.5 / 0.078)]
    other = tooth("45", (222.0, 100.0, 290.0, 380.0), points)
    depths = bone.angular(measured([one, other]), (0.078, 0.078))
    assert depths == {(Tooth("46"), Surface.MESIAL): pytest.approx(3.5, abs=0.05)}


@pytest.mark.parametrize(
    ("code", "surface", "faced"),
    [
        ("46", Surface.MESIAL, ("45", Surface.DISTAL)),
        ("45", Surface.DISTAL, ("46", Surface.MESIAL)),
        ("11", Surface.MESIAL, ("21", Surface.MESIAL)),
    ],
)
def test_surfaces_face_each_other(code, surface, faced):
    other, there = bone.opposite(Tooth(code), surface)
    assert (other.code, there) == faced


# --- contacts ------------------------------------------------------------------------------------


def pair():
    return [
        tooth("46", (120.0, 100.0, 240.0, 300.0)),
        tooth("45", (236.0, 100.0, 310.0, 300.0)),
    ]


def test_crowns_that_cover_each_other_hide_their_contact():
    double = np.zeros((ROWS, COLS), np.float32)
    (contact,) = lying.contacts(double, pair(), CANVAS)
    assert contact.overlap == 0.0
    assert contact.is_readable
    double[28:40, 57:61] = 1.0
    (contact,) = lying.contacts(double, pair(), CANVAS)
    assert contact.overlap == pytest.approx(4 * CELL * 11.0 / 120.0 / 1.15, rel=0.25)
    assert not contact.is_readable


def test_teeth_apart_or_not_consecutive_have_no_contact():
    apart = [pair()[0], tooth("45", (300.0, 100.0, 370.0, 300.0))]
    skipping = [pair()[0], tooth("44", (236.0, 100.0, 300.0, 300.0))]
    double = np.ones((ROWS, COLS), np.float32)
    assert lying.contacts(double, apart, CANVAS) == []
    assert lying.contacts(double, skipping, CANVAS) == []


def test_an_edge_at_the_border_is_cut_off():
    seen = [tooth("46", (120.0, 1.0, 240.0, 300.0)), tooth("45", (236.0, 30.0, 310.0, 300.0))]
    cut, whole = lying.landmarks(seen, bone.places(seen, CANVAS), CANVAS)
    assert cut.crown is None
    assert whole.crown == pytest.approx((273.0, 30.0))


def test_the_occlusal_plane_of_a_tilted_film():
    marks_ = [
        Landmarks(Tooth(code), (x, 100.0 + 0.2 * x), (), (None, None))
        for code, x in (("47", 50.0), ("46", 150.0), ("45", 250.0))
    ]
    assert lying.occlusal_tilt(marks_) == pytest.approx(11.3, abs=0.1)
    assert lying.occlusal_tilt(marks_[:1]) is None


def test_crown_to_root_runs_from_edge_over_crest_to_apex():
    seen = [sites("46", 2.0, 2.0, apex=14.0)]
    found = lying.landmarks(seen, bone.places(seen, CANVAS), CANVAS)
    (ratio,) = lying.crown_roots(found, measured(seen))
    above, below = (160.0 - 100.0) * 0.078 + 2.0, 12.0
    assert ratio.ratio == pytest.approx(above / below, rel=0.05)
