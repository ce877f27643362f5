"""Codes worth considering: from the table, with the rules that no table changes."""

import re

import pytest

from node.domain import cdt
from node.domain.cdt import PANORAMIC_CARIES, RETAKES, CodeTable, load, suggest
from node.domain.findings import CariesDepth, FindingKind, View
from node.domain.merging import merge
from node.domain.reading import ImageFacts, Retake, Series, StudyFacts
from node.domain.schedule import IMAGING_CODES
from node.domain.teeth import Surface, Tooth
from node.errors import ConfigError
from tests.node.domain.test_conclusions import bone, caries, image, thing

K = FindingKind
M, D, O = Surface.MESIAL, Surface.DISTAL, Surface.OCCLUSAL  # noqa: E741 - the surface's letter
TABLE = load()


def codes(*findings, facts=None):
    facts = facts or StudyFacts(images=(image(), image("pa", View.PERIAPICAL)))
    found, _ = suggest(TABLE, merge(findings, facts), findings, facts)
    return {each.cdt_code for each in found}


def test_the_shipped_table_is_sound():
    text = cdt.SHIPPED.read_text()
    assert set(re.findall(r'"(D\d{4})"', text)) <= {
        code for rule in TABLE.rules for code, _ in rule.codes
    }
    assert len(TABLE.rules) > 15
    assert not {code for rule in TABLE.rules for code, _ in rule.codes} & set(IMAGING_CODES)


@pytest.mark.parametrize(
    ("marks", "expected", "absent"),
    [
        ([caries(1, depth=CariesDepth.E2)], {"D2990", "D1206"}, {"D2391"}),
        ([caries(1, depth=CariesDepth.D1)], {"D2391", "D2140"}, {"D2392"}),
        ([caries(1, surfaces=(M,)), caries(2, surfaces=(O,))], {"D2392"}, {"D2391"}),
        ([caries(1, "41", depth=CariesDepth.D2)], {"D2330"}, {"D2391"}),
        ([caries(1, depth=CariesDepth.P)], {"D0460", "D2740"}, {"D2391"}),
        ([thing(1, K.PERIAPICAL_RADIOLUCENCY, "45")], {"D3320"}, {"D3330", "D3347"}),
        (
            [thing(1, K.PERIAPICAL_RADIOLUCENCY, "46"), thing(2, K.ROOT_FILLING, "46")],
            {"D3348", "D3425"},
            {"D3330"},
        ),
        ([thing(1, K.ROOT_REMNANT, "36")], {"D7250"}, set()),
    ],
)
def test_findings_lead_to_the_codes_of_their_rule(marks, expected, absent):
    found = codes(*marks)
    assert expected <= found
    assert not absent & found


def test_every_suggestion_names_its_findings_and_evidence():
    facts = StudyFacts(images=(image(),))
    marks = [caries(1), caries(2, surfaces=(D,))]
    found, _ = suggest(TABLE, merge(marks, facts), marks, facts)
    two = next(each for each in found if each.cdt_code == "D2392")
    assert two.finding_ids == ("f1", "f2")
    assert two.surfaces == (M, D)
    assert two.evidence
    assert two.tooth == Tooth("46")


def test_panoramic_caries_is_no_ground_for_a_code():
    facts = StudyFacts(images=(image("pan", View.PANORAMIC), image()))
    marks = [caries(1, on="pan")]
    found, notes = suggest(TABLE, merge(marks, facts), marks, facts)
    assert found == ()
    assert notes == (PANORAMIC_CARIES,)
    with_bitewing = [*marks, caries(2, on="bw")]
    assert suggest(TABLE, merge(with_bitewing, facts), with_bitewing, facts)[0]


def test_a_quadrant_counts_its_teeth():
    three = [bone(n, f"4{p}", M, 4.0) for n, p in enumerate((5, 6, 7))]
    assert "D4342" in codes(*three)
    assert "D4341" not in codes(*three)
    four = [*three, bone(9, "44", D, 4.0)]
    assert "D4341" in codes(*four)
    assert "D4342" not in codes(*four)


def test_a_level_below_three_millimetres_counts_for_no_code():
    assert not codes(*[bone(n, f"4{p}", M, 2.6) for n, p in enumerate((4, 5, 6, 7))])


def test_scaling_without_loss_excludes_scaling_with_loss_in_a_quadrant():
    calculus = thing(1, K.CALCULUS, "46")
    assert "D4346" in codes(calculus)
    assert "D4346" not in codes(calculus, bone(1, "45", D, 4.0))
    elsewhere = codes(calculus, bone(1, "35", D, 4.0))
    assert {"D4346", "D4342"} <= elsewhere


def _taken(bitewings: int, periapicals: int, retakes: int = 0) -> StudyFacts:
    images = [ImageFacts(f"b{n}", View.BITEWING) for n in range(bitewings)]
    images += [ImageFacts(f"p{n}", View.PERIAPICAL) for n in range(periapicals)]
    again = tuple(Retake(f"p{n}", "p9", "UR-PM-PA", "repeats") for n in range(retakes))
    return StudyFacts(images=tuple(images), series=Series("FMX14", retakes=again))


def test_many_single_images_of_a_day_are_a_series():
    assert codes(facts=_taken(4, 10)) == {"D0210"}
    assert codes(facts=_taken(4, 9)) == set()
    assert codes(facts=_taken(2, 14)) == set()
    assert codes(facts=_taken(4, 10, retakes=1)) == set(), "a retake does not count"


def test_a_retake_is_said_to_be_not_billable():
    assert suggest(TABLE, (), (), _taken(4, 4, retakes=1))[1] == (RETAKES,)


def test_a_practice_may_bring_its_own_table(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        'version = 1\n[[rule]]\nreason = "ours"\nfinding = ["caries"]\n'
        'codes = [["D9999", "ours"]]\n'
    )
    facts = StudyFacts(images=(image(),))
    found, _ = suggest(load(path), merge([caries(1)], facts), [caries(1)], facts)
    assert [each.cdt_code for each in found] == ["D9999"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("version = 2", "version = 1"),
        ("= 3", "not valid TOML"),
        ('version = 1\n[[rule]]\nreason = "x"', "missing"),
        (
            'version = 1\n[[rule]]\nreason="x"\nfinding=["tooth ache"]\ncodes=[["D1110","x"]]',
            "rule 1",
        ),
        (
            'version = 1\n[[rule]]\nreason="x"\nfinding=["caries"]\ncodes=[["1110","x"]]',
            "four digits",
        ),
        ('version = 1\n[[rule]]\nreason="x"\nfinding=["caries"]\ncodes=[]', "four digits"),
        ('version = 1\n[[rule]]\nreason="x"\nfindings=["caries"]', "unknown key findings"),
        (
            'version = 1\n[[rule]]\nreason="x"\nfinding=["caries"]\nscope="mouth"\n'
            'codes=[["D1110","x"]]',
            "scope is",
        ),
        (
            'version = 1\n[[rule]]\nreason="x"\nfinding=["caries"]\nteeth="left"\n'
            'codes=[["D1110","x"]]',
            "teeth is one of",
        ),
        (
            'version = 1\n[[rule]]\nreason="x"\nfinding=["caries"]\ncount=[3,1]\n'
            'codes=[["D1110","x"]]',
            "range",
        ),
    ],
)
def test_a_wrong_table_is_refused_and_named(tmp_path, text, words):
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(words)):
        load(path)


def test_a_table_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="cannot read"):
        load(tmp_path / "none.toml")
    assert CodeTable().rules == ()
