"""Rule packs and what of their evidence a chart holds."""

from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from node.domain.findings import CariesDepth, FindingKind, View
from node.domain.teeth import Surface, Tooth
from node.errors import ConfigError
from orchestration.payers.chart import ChartFacts, Done, PerioExam, Pockets, read_chart
from orchestration.payers.claim import Area
from orchestration.payers.evidence import Assessment, Standing, assess, lacking_words
from orchestration.payers.rules import Preauth, Rule, load_rules
from pms_writeback.records import PmsRecord, RecordKind, Scalar
from tests.orchestration.payers.charts import CROWN, FILM, FULL, SCALING, TODAY, exam, mark

BOOK = load_rules()


def rule(code: str, payer: str = "EX001") -> Rule:
    found = BOOK.find(payer, code, TODAY)
    assert found is not None
    return found.rule


def judge(facts: ChartFacts, code: str = "D2740") -> Assessment:
    planned = CROWN if code == "D2740" else SCALING
    return assess(rule(code), planned, facts, TODAY)


def test_a_complete_chart_lacks_nothing() -> None:
    crown = judge(FULL)
    assert crown.lacking == ()
    assert crown.limits == ()
    assert crown.flags == ()
    assert crown.image_ids == ("film-1",)
    scaling = judge(FULL, "D4341")
    assert scaling.lacking == ()
    assert scaling.image_ids == ("wing-0", "wing-1")


def test_what_is_missing_or_too_old_is_said() -> None:
    bare = judge(ChartFacts(planned=(CROWN,)))
    assert [item.standing for item in bare.lacking] == [Standing.MISSING]
    assert "periapical radiograph or bitewing is missing" in lacking_words(bare.lacking)
    old = judge(replace(FULL, images=(replace(FILM, taken_on=date(2024, 1, 1)),)))
    assert [item.standing for item in old.lacking] == [Standing.TOO_OLD]
    assert "2024-01-01" in lacking_words(old.lacking)
    stale = judge(replace(FULL, exams=(exam(date(2025, 6, 1)),)), "D4341")
    assert [item.standing for item in stale.lacking] == [Standing.TOO_OLD]
    shallow = judge(replace(FULL, exams=(exam(depth=3),)), "D4341")
    assert [item.standing for item in shallow.lacking] == [Standing.INSUFFICIENT]
    assert "0 teeth" in lacking_words(shallow.lacking)
    few = judge(replace(FULL, exams=(exam(teeth=3),)), "D4341")
    assert few.lacking


def test_a_film_of_another_tooth_is_no_evidence() -> None:
    other = replace(FILM, teeth=(Tooth("36"),))
    unknown = replace(FILM, teeth=())
    for film in (other, unknown, replace(FILM, taken_on=None), replace(FILM, view=View.PHOTO)):
        assert judge(replace(FULL, images=(film,))).lacking


def test_a_frequency_counts_the_same_tooth_and_quadrant() -> None:
    lately = Done("8", "D2750", date(2023, 1, 1), Tooth("46"))
    assert "2023-01-01" in judge(replace(FULL, done=(lately,))).limits[0]
    assert judge(replace(FULL, done=(replace(lately, tooth=Tooth("36")),))).limits == ()
    assert judge(replace(FULL, done=(replace(lately, day=date(2019, 1, 1)),))).limits == ()
    quadrant = Done("8", "D4341", date(2025, 1, 1), None, Area.UPPER_RIGHT)
    assert judge(replace(FULL, done=(quadrant,)), "D4341").limits
    elsewhere = replace(quadrant, area=Area.LOWER_LEFT)
    assert not judge(replace(FULL, done=(elsewhere,)), "D4341").limits


def test_signs_that_make_payers_refuse_are_said_beforehand() -> None:
    deep = PerioExam("e", TODAY, (Pockets("m", Tooth("46"), (8, None, None, 2, 2, 2)),))
    marks = (
        mark(depth=CariesDepth.P),
        mark(FindingKind.PERIAPICAL_RADIOLUCENCY, depth=None),
        mark(FindingKind.BONE_LEVEL, depth=None, mm=8.0, percent=55.0),
        mark(FindingKind.FURCATION, "36", depth=None),
    )
    flags = judge(replace(FULL, marks=marks, exams=(deep,))).flags
    assert len(flags) == 4
    assert any("8 mm" in flag for flag in flags)


def test_packs_are_dated_and_the_payers_own_goes_first() -> None:
    own = BOOK.find("EX001", "D2740", TODAY)
    assert own is not None
    assert own.rule.preauth is Preauth.REQUIRED
    assert own.warnings == ()
    other = BOOK.find("99999", "D2740", TODAY)
    assert other is not None
    assert other.pack.name == "general"
    assert [word in other.warnings[n] for n, word in enumerate(("no rule pack", "checked by"))] == [
        True,
        True,
    ]
    late = BOOK.find("99999", "D2740", date(2031, 1, 1))
    assert late is not None
    assert any("out of date" in warning for warning in late.warnings)
    assert BOOK.find("EX001", "D0120", TODAY) is None


GOOD = """version = 1
name = "ours"
payer_ids = ["EX001"]
valid_from = 2026-01-01
sources = ["a letter"]
[[rule]]
key = "crown"
label = "crown"
codes = ["D2740"]
preauth = "no"
"""


def test_the_offices_pack_goes_before_ours_and_is_checked(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(GOOD)
    found = load_rules(tmp_path).find("EX001", "D2740", TODAY)
    assert found is not None
    assert found.rule.preauth is Preauth.NO
    for old, new, reason in (
        ('"D2740"', '"2740"', "procedure code"),
        ('"no"', '"maybe"', "maybe"),
        ('sources = ["a letter"]', "", "sources"),
        ('label = "crown"', "", "label"),
        ('label = "crown"', 'label = "crown"\nslots = ["soul"]', "soul"),
        ('label = "crown"', 'label = "crown"\nlabl = "x"', "labl"),
        ('["D2740"]', '["D2740", "D2740"]', "two rules"),
        ("2026-01-01", '"today"', "valid_from"),
    ):
        (tmp_path / "own.toml").write_text(GOOD.replace(old, new))
        with pytest.raises(ConfigError, match=reason):
            load_rules(tmp_path)
    with pytest.raises(ConfigError, match="no folder"):
        load_rules(tmp_path / "none")


def record(kind: RecordKind, key: str, **values: Scalar) -> PmsRecord:
    return PmsRecord(kind, key, "2", "", None, values)


def test_records_become_a_chart_and_what_cannot_be_read_is_named() -> None:
    k = RecordKind
    facts = read_chart(
        {
            k.PROCEDURE: [
                record(k.PROCEDURE, "1", cdt_code="D2740", status="TP", tooth="30", surfaces="",
                       fee=1450.0, planned_on="2026-02-20", original_prosthesis_on="0001-01-01"),
                record(k.PROCEDURE, "2", cdt_code="D4341", status="TP", tooth="", surfaces="UR",
                       fee=280.0),
                record(k.PROCEDURE, "3", cdt_code="D4342", status="TP", tooth="", surfaces="LL",
                       tooth_range="18,19", fee=1.0),
                record(k.PROCEDURE, "4", cdt_code="D2392", status="C", tooth="19", surfaces="MO",
                       day="2024-01-01"),
                record(k.PROCEDURE, "5", cdt_code="D2392", status="TP", tooth="99", surfaces="QX",
                       fee=0),
                record(k.PROCEDURE, "6", cdt_code="D2392", status="D", tooth="3"),
            ],
            k.TOOTH_STATE: [record(k.TOOTH_STATE, "1", tooth="1", state="Missing"),
                            record(k.TOOTH_STATE, "2", tooth="2", state="Rotated")],
            k.PERIO_EXAM: [record(k.PERIO_EXAM, "7", day="2026-01-01")],
            k.PERIO_MEASURE: [
                record(k.PERIO_MEASURE, "1", exam_key="7", sequence="Probing", tooth=30,
                       mesiobuccal=5, buccal=-1, distobuccal=3, mesiolingual=3, lingual=2,
                       distolingual=3),
                record(k.PERIO_MEASURE, "2", exam_key="7", sequence="BleedSupPlaqCalc", tooth=30,
                       mesiobuccal=3, buccal=2, distobuccal=-1, mesiolingual=0, lingual=0,
                       distolingual=0),
                record(k.PERIO_MEASURE, "3", exam_key="7", sequence="Mobility", tooth=30),
            ],
            k.DOCUMENT: [
                record(k.DOCUMENT, "1", image_type="Radiograph", category="Bitewings", teeth="30",
                       description="", created_at="2026-01-05T10:00:00+00:00"),
                record(k.DOCUMENT, "2", image_type="Document", category="Bitewings",
                       description=""),
                record(k.DOCUMENT, "3", image_type="Radiograph", category="AI Imaging",
                       description="Radiograph 1 ref:BW-1a2b3c4d5e"),
            ],
        }
    )  # fmt: skip
    crown, scaling, few, broken = facts.planned
    assert (crown.tooth, crown.fee, crown.replaces_on) == (Tooth("46"), Decimal(1450), None)
    assert scaling.area is Area.UPPER_RIGHT
    assert few.teeth == (Tooth("37"), Tooth("36"))
    assert broken.tooth is None
    assert len(facts.problems) == 2
    assert facts.done[0].tooth == Tooth("36")
    assert facts.missing == {Tooth("18")}
    (tooth,) = facts.exams[0].teeth
    assert tooth.depths_mm == (5, None, 3, 3, 2, 3)
    assert tooth.bleeding[:3] == (True, False, None)
    assert [(i.id, i.view, i.teeth) for i in facts.images] == [
        ("pms:1", View.BITEWING, (Tooth("46"),))
    ]
    assert Surface.MESIAL not in crown.surfaces
