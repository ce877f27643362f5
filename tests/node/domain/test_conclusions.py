"""What follows from findings and facts: groups, tags, urgency, severity, referrals."""

import json
from dataclasses import replace

import pytest

from node.domain import cdt
from node.domain.conclusions import UNSIGNED_WORDS, conclude, reading_of
from node.domain.findings import (
    Box,
    CariesDepth,
    Finding,
    FindingKind,
    Line,
    View,
)
from node.domain.merging import group_key, linked, merge
from node.domain.reading import (
    Change,
    ImageFacts,
    SiteFact,
    StudyFacts,
    StudyFinding,
    StudyReading,
    ToothState,
    ToothStatus,
    Urgency,
    Verdict,
)
from node.domain.severity import percent_of_root
from node.domain.teeth import Surface, Tooth
from node.errors import InvalidInput

K = FindingKind
M, D = Surface.MESIAL, Surface.DISTAL
TABLE = cdt.load()


def image(name="bw", view=View.BITEWING, teeth="16 15 46 45", **values) -> ImageFacts:
    return ImageFacts(name, view, teeth=tuple(Tooth(t) for t in teeth.split()), **values)


def caries(number, tooth="46", surfaces=(M,), depth=CariesDepth.D1, on="bw", p=0.8, kind=K.CARIES):
    mark = Finding(kind, Box(0, 0, 9, 9), Tooth(tooth), surfaces, depth, probability=p)
    return StudyFinding(f"f{number}", on, mark)


def bone(number, tooth, surface, mm=None, percent=None, on="pa"):
    line = Line(((0, 0), (0, 9)))
    mark = Finding(K.BONE_LEVEL, line, Tooth(tooth), (surface,), value_mm=mm,
                   value_percent=percent, probability=0.8)  # fmt: skip
    return StudyFinding(f"b{number}", on, mark)


def thing(number, kind, tooth, on="pa", box=(0, 0, 9, 9)):
    return StudyFinding(f"t{number}", on, Finding(kind, Box(*box), Tooth(tooth), probability=0.7))


def site(tooth, surface, percent, mm=None, view=View.PERIAPICAL):
    return SiteFact("pa", Tooth(tooth), surface, view, mm, percent)


def signed(*findings):
    return [replace(each, is_signed=True) for each in findings]


# --- merging -------------------------------------------------------------------------------------


def test_the_same_surface_on_two_films_is_one_group_and_the_rows_stay():
    facts = StudyFacts(images=(image(), image("pa", View.PERIAPICAL)))
    weak = caries(1, on="pa", p=0.9, depth=CariesDepth.D2)
    strong = caries(2, on="bw", p=0.7)
    (group,) = merge([weak, strong, caries(3, surfaces=(D,))], facts)[:1]
    assert group.key == "caries:46:M"
    assert group.finding_ids == ("f1", "f2")
    assert group.images == 2
    assert group.probability == 0.7, "a bitewing outweighs a periapical"
    assert group.depth is CariesDepth.D2
    assert len(linked(merge([weak, strong, caries(3, surfaces=(D,))], facts))) == 1


def test_primary_and_recurrent_caries_of_a_surface_are_one_thing():
    first, second = caries(1), caries(2, kind=K.RECURRENT_CARIES)
    assert group_key(first.finding) == group_key(second.finding)


def test_the_order_of_surfaces_does_not_make_another_thing():
    one = caries(1, surfaces=(M, Surface.OCCLUSAL)).finding
    other = replace(one, surfaces=(Surface.OCCLUSAL, M))
    assert group_key(one) == group_key(other)
    assert group_key(replace(one, tooth=None)) is None


def test_a_lone_periapical_does_not_support_caries_a_bitewing_does():
    facts = StudyFacts(images=(image(), image("pa", View.PERIAPICAL), image("p2", View.PERIAPICAL)))
    assert not merge([caries(1, on="pa")], facts)[0].is_supported
    assert merge([caries(1, on="bw")], facts)[0].is_supported
    assert merge([caries(1, on="pa"), caries(2, on="p2")], facts)[0].is_supported
    assert merge(signed(caries(1, on="pa")), facts)[0].is_supported


def test_bone_is_the_median_of_sound_periapicals_before_bitewings():
    facts = StudyFacts(
        images=(
            image("bw"),
            image("p1", View.PERIAPICAL),
            image("p2", View.PERIAPICAL),
            image("p3", View.PERIAPICAL, flaws=("elongation",)),
        )
    )
    marks = [
        bone(n, "46", M, mm=mm, on=on)
        for n, (mm, on) in enumerate([(2.0, "bw"), (4.0, "p1"), (5.0, "p2"), (9.0, "p3")])
    ]
    assert merge(marks, facts)[0].value_mm == 4.5
    assert merge(marks[:1], facts)[0].value_mm == 2.0


def test_a_panoramic_speaks_of_an_apex_only_without_a_periapical():
    facts = StudyFacts(images=(image("pan", View.PANORAMIC), image("pa", View.PERIAPICAL)))
    both = [thing(1, K.PERIAPICAL_RADIOLUCENCY, "46", "pan"),
            thing(2, K.PERIAPICAL_RADIOLUCENCY, "46", "pa")]  # fmt: skip
    assert merge(both, facts)[0].is_supported
    assert not merge(both[:1], facts)[0].is_supported


def test_restorations_go_by_majority_of_the_images_that_show_the_tooth():
    shows = tuple(image(name) for name in ("a", "b", "c"))
    facts = StudyFacts(images=shows)
    assert not merge([thing(1, K.CROWN, "46", "a")], facts)[0].is_supported
    two = [thing(1, K.CROWN, "46", "a"), thing(2, K.CROWN, "46", "b")]
    assert merge(two, facts)[0].is_supported


# --- tags and urgency ----------------------------------------------------------------------------


def test_tags_name_views_suspicions_and_surfaces_in_universal_numbers():
    facts = StudyFacts(images=(image(),))
    found = conclude(
        [caries(1, "36"), thing(1, K.RESTORATION, "46", "bw"), bone(1, "45", D, 3.4, on="bw")],
        facts, TABLE, is_signed=False,
    )  # fmt: skip
    assert {"bitewing", "posterior", "caries_suspected", "restoration_present"} <= set(found.tags)
    assert {"tooth_19_mesial", "bone_loss_suspected", "tooth_29_distal"} <= set(found.tags)


def test_what_is_signed_is_no_suspicion():
    tags = reading_of(signed(caries(1)), StudyFacts(images=(image(),)), TABLE).tags
    assert "caries_recorded" in tags
    assert "caries_suspected" not in tags


def test_nothing_found_is_routine_and_says_so():
    found = conclude([], StudyFacts(images=(image(),)), TABLE, is_signed=False)
    assert found.priority.urgency is Urgency.ROUTINE
    assert found.priority.words == UNSIGNED_WORDS
    assert found.severity is None
    assert not found.codes


@pytest.mark.parametrize(
    ("findings", "urgency"),
    [
        ([caries(1, depth=CariesDepth.E2)], Urgency.ROUTINE),
        ([caries(1, depth=CariesDepth.D3)], Urgency.SOON),
        ([thing(1, K.PERIAPICAL_RADIOLUCENCY, "46")], Urgency.SOON),
        ([thing(1, K.ROOT_REMNANT, "46")], Urgency.SOON),
        (
            [thing(1, K.PERIAPICAL_RADIOLUCENCY, "46"), caries(1, depth=CariesDepth.P)],
            Urgency.PROMPT,
        ),
    ],
)
def test_urgency_follows_from_findings_with_its_reason(findings, urgency):
    facts = StudyFacts(images=(image(), image("pa", View.PERIAPICAL)))
    found = conclude(findings, facts, TABLE, is_signed=False)
    assert found.priority.urgency is urgency
    assert found.priority.reasons
    assert "emergency" in found.priority.words


def test_a_wide_lucency_is_measured_only_with_a_spacing():
    wide = thing(1, K.PERIAPICAL_RADIOLUCENCY, "46", box=(0, 0, 300, 200))
    sized = StudyFacts(images=(image("pa", View.PERIAPICAL, spacing_mm=(0.04, 0.04)),))
    blind = StudyFacts(images=(image("pa", View.PERIAPICAL),))
    assert conclude([wide], sized, TABLE, is_signed=False).priority.urgency is Urgency.PROMPT
    assert conclude([wide], blind, TABLE, is_signed=False).priority.urgency is Urgency.SOON
    to = {each.to for each in conclude([wide], sized, TABLE, is_signed=False).referrals}
    assert "oral surgeon or radiologist" in to


def test_new_loss_asks_for_a_periodontist():
    change = Change(K.BONE_LEVEL, Tooth("46"), D, Verdict.MORE_LOSS, "", "i", "p", "2025-01-01",
                    "signed", delta_mm=2.4)  # fmt: skip
    facts = StudyFacts(images=(image(),), changes=(change,))
    found = conclude([], facts, TABLE, is_signed=False)
    assert found.priority.urgency is Urgency.SOON
    assert [each.to for each in found.referrals] == ["periodontist"]
    assert "change_since_prior" in found.tags
    small = replace(change, delta_mm=1.4)
    assert not conclude([], replace(facts, changes=(small,)), TABLE, is_signed=False).referrals


def test_a_lucency_on_a_filled_root_goes_to_the_endodontist():
    facts = StudyFacts(images=(image("pa", View.PERIAPICAL),))
    marks = [thing(1, K.PERIAPICAL_RADIOLUCENCY, "46"), thing(2, K.ROOT_FILLING, "46")]
    assert "endodontist" in {e.to for e in conclude(marks, facts, TABLE, is_signed=False).referrals}


def test_a_missing_tooth_is_a_tag():
    facts = StudyFacts(teeth=(ToothStatus(Tooth("36"), ToothState.MISSING),))
    assert "missing_teeth" in conclude([], facts, TABLE, is_signed=False).tags


# --- severity ------------------------------------------------------------------------------------

PERIAPICAL = (image("pa", View.PERIAPICAL, "47 46 45 44"),)


def test_percent_is_taken_beyond_the_normal_two_millimetres():
    assert percent_of_root(2.0, 14.0) == 0.0
    assert percent_of_root(5.0, 14.0) == 25.0
    assert percent_of_root(3.0, 3.0) is None


@pytest.mark.parametrize(
    ("worst", "stage"),
    [(10.0, "stage I range"), (15.0, "stage II range"), (33.0, "stage II range"),
     (34.0, "stage III or IV range")],
)  # fmt: skip
def test_the_range_follows_the_worst_site(worst, stage):
    marks = [bone(1, "47", M, percent=9.0), bone(2, "45", D, percent=worst)]
    found = conclude(marks, StudyFacts(images=PERIAPICAL), TABLE, is_signed=False).severity
    assert found is not None
    assert found.stage_range == stage
    assert f"consistent with {stage}" in found.words
    assert "needs probing" in found.words
    assert found.tooth == Tooth("45")


def test_one_tooth_is_no_case():
    marks = [bone(1, "46", M, percent=40.0), bone(2, "46", D, percent=30.0)]
    found = conclude(marks, StudyFacts(images=PERIAPICAL), TABLE, is_signed=False).severity
    assert found is not None
    assert found.stage_range == ""
    assert "two non-adjacent" in found.words


def test_a_deep_vertical_defect_raises_the_range():
    defect = thing(1, K.ANGULAR_DEFECT, "46")
    defect = replace(defect, finding=replace(defect.finding, value_mm=3.4))
    marks = [bone(1, "47", M, percent=10.0), bone(2, "45", D, percent=10.0), defect]
    found = conclude(marks, StudyFacts(images=PERIAPICAL), TABLE, is_signed=False)
    assert found.severity is not None
    assert found.severity.stage_range == "stage III or IV range"
    assert any("angular defect" in each.reason for each in found.referrals)


def test_bitewings_give_millimetres_only():
    facts = StudyFacts(images=(image(),))
    found = conclude([bone(1, "46", M, 4.2, on="bw")], facts, TABLE, is_signed=False).severity
    assert found is not None
    assert found.stage_range == ""
    assert found.percent is None
    assert "4.2 mm" in found.words


def test_a_bitewing_level_takes_its_root_from_a_periapical_of_the_same_tooth():
    root = SiteFact("pa", Tooth("46"), D, View.PERIAPICAL, None, None, root_mm=14.0)
    facts = StudyFacts(images=(image(), *PERIAPICAL), sites=(root,))
    found = conclude([bone(1, "46", M, 5.0, on="bw")], facts, TABLE, is_signed=False).severity
    assert found is not None
    assert found.percent == 25.0


def test_a_panoramic_alone_says_so():
    facts = StudyFacts(images=(image("pan", View.PANORAMIC, "47 46 45"),))
    marks = [bone(1, "47", M, percent=20.0, on="pan"), bone(2, "45", D, percent=20.0, on="pan")]
    found = conclude(marks, facts, TABLE, is_signed=False).severity
    assert found is not None
    assert any("panoramic image alone" in caveat for caveat in found.caveats)


def test_extent_counts_measured_teeth():
    sites = tuple(site(f"{q}{p}", M, 0.0) for q in (3, 4) for p in range(4, 8))
    facts = StudyFacts(images=PERIAPICAL, sites=sites)
    two = [bone(1, "47", M, percent=20.0), bone(2, "45", M, percent=20.0)]
    found = conclude(two, facts, TABLE, is_signed=False).severity
    assert found is not None
    assert found.extent == "localized (2 of 8 measured teeth)"


def test_a_rejected_level_and_healthy_sites_do_not_make_a_range():
    facts = StudyFacts(images=PERIAPICAL, sites=(site("46", M, 40.0), site("45", D, 0.0, 1.5)))
    found = conclude([], facts, TABLE, is_signed=False).severity
    assert found is not None
    assert found.stage_range == ""
    assert "No measured site" in found.words


def test_after_the_signature_only_signed_levels_count():
    facts = StudyFacts(images=PERIAPICAL, sites=(site("45", D, 0.0, 1.5),))
    assert conclude([], facts, TABLE, is_signed=True).severity is None


# --- JSON ----------------------------------------------------------------------------------------


def test_a_reading_survives_storage():
    facts = StudyFacts(
        images=(image(spacing_mm=(0.04, 0.05), flaws=("blur",)),),
        sites=(site("46", M, 12.5, 3.0),),
        teeth=(ToothStatus(Tooth("36", True), ToothState.IMPACTED, ("a",)),),
        age_years=41,
    )
    found = conclude([caries(1), bone(1, "45", D, 3.4)], facts, TABLE, is_signed=False)
    reading = StudyReading(facts, found)
    assert StudyReading.from_json(json.loads(json.dumps(reading.to_json()))) == reading


@pytest.mark.parametrize("broken", [{}, {"facts": 3}, {"facts": {"images": "x"}}])
def test_what_is_no_reading_is_refused(broken):
    with pytest.raises(InvalidInput):
        StudyReading.from_json(broken)
