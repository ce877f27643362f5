"""Prescriptions against the rules: every gap and contradiction names its field and what to do."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.domain.teeth import Arch, Tooth
from node.errors import ConfigError, InvalidInput
from orchestration.labs import checks, rx_schema
from orchestration.labs.order import order_to_json
from orchestration.labs.prescription import (
    Clasp,
    Joining,
    LabRx,
    Part,
    Remake,
    Restoration,
    Shade,
    Unit,
    rx_from_json,
    rx_to_json,
)
from orchestration.labs.rulebook import RULES, load_pack, load_rulebook
from orchestration.labs.validation import (
    CaseFacts,
    Coverage,
    Level,
    ValidationResult,
    Verdict,
    is_missing,
    validate,
    value_at,
    wanted,
)
from orchestration.labs.workdays import add_workdays, workdays_between
from tests.orchestration.labs.prescriptions import (
    COMPLETE,
    CROWN,
    CROWN_FACTS,
    TODAY,
    facts_for,
    later,
    units,
)

BOOK, PACK = load_rulebook(), load_pack("sandbox")


def result_of(rx: LabRx, facts: CaseFacts | None = None) -> ValidationResult:
    return validate(rx, facts or facts_for(rx), BOOK, PACK, checks.ALL)


def wrong_fields(rx: LabRx, facts: CaseFacts | None = None) -> dict[str, str]:
    return {c.field: c.words for c in result_of(rx, facts).failed if c.level is Level.WRONG}


@pytest.mark.parametrize("kind", list(Restoration))
def test_a_complete_prescription_is_valid(kind: Restoration) -> None:
    result = result_of(COMPLETE[kind])
    assert result.failed == ()
    assert result.status is Verdict.VALID
    assert "turnaround" in result.checks_passed


@pytest.mark.parametrize("kind", list(Restoration))
def test_each_wanted_field_is_missed_when_empty(kind: Restoration) -> None:
    for rule in wanted(COMPLETE[kind], BOOK, PACK):
        if rule.field in ("written_on", "material"):  # always there; decides other fields
            continue
        result = result_of(_without(COMPLETE[kind], rule.field))
        missed = [check for check in result.failed if check.field == rule.field]
        assert missed, rule.field
        assert missed[0].level is Level.MISSING
        assert missed[0].words.endswith(".")
        assert result.status is not Verdict.VALID


def test_every_field_of_the_rules_exists_and_has_words() -> None:
    rules = [*BOOK.every, *(r for each in BOOK.restorations.values() for r in each.rules)]
    for rule in rules:
        for rx in COMPLETE.values():
            value_at(rx, rule.field)
        assert rule.field in BOOK.words, rule.field
    assert set(BOOK.restorations) == set(Restoration)
    for name in BOOK.choices:
        assert name in BOOK.words


@pytest.mark.parametrize("kind", list(Restoration))
def test_json_gives_the_same_prescription_back(kind: Restoration) -> None:
    rx = COMPLETE[kind]
    assert rx_from_json(json.loads(json.dumps(rx_to_json(rx)))) == rx


def test_the_shipped_schema_is_that_of_the_value() -> None:
    assert rx_schema.SHIPPED.read_text() == rx_schema.schema_text()
    schema = json.loads(rx_schema.schema_text())
    assert set(schema["required"]) == {"case_number", "written_on", "restoration"}
    assert set(schema["properties"]) == set(rx_to_json(CROWN))


@pytest.mark.parametrize(
    "change",
    [
        {"materiel": "gold"},
        {"shade": {"guide": "vita_classical", "valu": "A2"}},
        {"units": [{"tooth": "19"}]},
        {"units": [{"tooth": "36"}, {"tooth": "36"}]},
        {"units": [{"tooth": "36", "surfaces": "XY"}]},
        {"thickness_mm": "NaN"},
        {"schema_version": 2},
        {"case_number": "../up"},
        {"due_at": "2026-11-09T10:00:00"},
        {"restoration": "wig"},
    ],
)
def test_what_is_no_prescription_is_refused(change: Mapping[str, object]) -> None:
    with pytest.raises(InvalidInput):
        rx_from_json({**rx_to_json(CROWN), **change})


def test_the_order_has_the_agreed_shape() -> None:
    order = order_to_json(CROWN, result_of(CROWN), BOOK, case_id="c1", patient_id="p1")
    schema = json.loads(Path(rx_schema.SHIPPED.with_name("lab_order.v1.schema.json")).read_text())
    assert set(order) == set(schema["required"])
    assert order["dentist_id"] == "1"
    assert order["prescription"] == {
        "procedure": "Crown",
        "tooth": "19",
        "material": "zirconia_monolithic",
        "shade": "A2",
        "margin_type": "chamfer",
        "due_date": "2026-11-17T21:00:00+00:00",
    }
    outcome = order["validation_result"]
    assert isinstance(outcome, dict)
    assert outcome["status"] == "valid"
    assert outcome["notes"] == []


BRIDGE = COMPLETE[Restoration.BRIDGE]


def test_a_gap_in_the_span_is_named() -> None:
    rx = replace(BRIDGE, units=tuple(u for u in BRIDGE.units if u.tooth != Tooth("36")))
    rx = replace(rx, units=(*rx.units, Unit(Tooth("34"), Part.PONTIC)))
    assert "#19" in wrong_fields(rx, facts_for(rx))["units"]


def test_a_bridge_ends_on_retainers_unless_it_is_a_cantilever() -> None:
    rx = replace(
        BRIDGE, units=(*units("18", "19", part=Part.RETAINER), *units("20", part=Part.PONTIC))
    )
    assert "retainer" in wrong_fields(rx)["units"]
    assert wrong_fields(replace(rx, joining=Joining("rigid", is_cantilever=True))) == {}
    alone = replace(rx, units=units("20", part=Part.PONTIC), joining=Joining("rigid", True))
    assert "retainer" in wrong_fields(alone)["units"]


def test_pontics_are_missing_in_the_chart() -> None:
    assert "present in the chart" in wrong_fields(BRIDGE, CROWN_FACTS)["units"]
    unknown = replace(CROWN_FACTS, missing_teeth=None)
    result = result_of(BRIDGE, unknown)
    assert result.status is Verdict.VALID
    assert any("does not say which teeth are missing" in note for note in result.notes)


def test_a_crown_needs_its_tooth() -> None:
    facts = replace(CROWN_FACTS, missing_teeth=frozenset({Tooth("36")}))
    assert "missing in the chart" in wrong_fields(CROWN, facts)["units"]


@pytest.mark.parametrize(
    ("guide", "shade", "is_good"),
    [
        ("vita_classical", "A3.5", True),
        ("vita_classical", "A5", False),
        ("vita_classical", "D1", False),
        ("vita_classical", "a2", False),
        ("vita_3d_master", "2M2", True),
        ("vita_3d_master", "3L1.5", True),
        ("vita_3d_master", "3L2", False),
        ("vita_3d_master", "A2", False),
        ("bleach", "BL3", True),
        ("bleach", "OM1", True),
        ("bleach", "BL5", False),
    ],
)
def test_shades_are_those_of_their_guide(guide: str, shade: str, is_good: bool) -> None:
    rx = replace(CROWN, shade=Shade(guide, shade))
    assert ("shade.value" not in wrong_fields(rx)) is is_good


def test_a_laboratory_without_the_guide_says_so() -> None:
    pack = replace(PACK, shade_guides=("vita_classical",))
    rx = replace(CROWN, shade=Shade("bleach", "BL1", "ND3"))
    failed = validate(rx, CROWN_FACTS, BOOK, pack, checks.ALL).failed
    assert [check.field for check in failed] == ["shade.guide"]


def test_glass_ceramic_thin_walls_and_dark_stumps_ask_for_the_stump_shade() -> None:
    no_stump = Shade("vita_classical", "A2")
    thick = replace(CROWN, shade=no_stump, thickness_mm=2.0)
    assert result_of(thick).failed == ()
    glass = replace(thick, material="lithium_disilicate")
    thin = replace(thick, thickness_mm=1.2)
    dark = replace(thick, shade=replace(no_stump, is_prep_dark=True))
    for rx in (glass, thin, dark):
        assert [check.field for check in result_of(rx).failed] == ["shade.stump"]


def test_metal_has_no_shade_but_an_alloy() -> None:
    rx = replace(CROWN, material="metal_high_noble", shade=Shade())
    assert [check.field for check in result_of(rx).failed] == ["alloy"]


def test_front_teeth_need_a_photograph() -> None:
    rx = replace(CROWN, units=units("8"), arch=Arch.UPPER)
    assert [check.field for check in result_of(rx).failed] == ["attachments.photo"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"material": "guard_hard"}, "not for this restoration"),
        ({"material": "unobtainium"}, "not a material"),
        ({"material": "pmma"}, "temporary"),
        ({"material": "leucite"}, "too weak"),
    ],
)
def test_materials_that_do_not_fit_are_refused(change: dict[str, str], words: str) -> None:
    rx = replace(CROWN, **change)  # type: ignore[arg-type]
    assert words in wrong_fields(rx)["material"]


def test_lithium_disilicate_carries_short_bridges_without_molar_pontics() -> None:
    rx = replace(BRIDGE, material="lithium_disilicate")
    assert "molar pontic" in wrong_fields(rx)["material"]
    long = (
        *units("18", part=Part.RETAINER),
        *units("19", "20", part=Part.PONTIC),
        *units("21", part=Part.RETAINER),
    )
    assert "at most 3" in wrong_fields(replace(rx, units=long))["material"]


def test_a_laboratory_names_its_materials() -> None:
    pack = replace(PACK, materials=("lithium_disilicate",))
    failed = validate(CROWN, CROWN_FACTS, BOOK, pack, checks.ALL).failed
    assert "does not work with it" in failed[0].words


def test_thin_zirconia_is_refused_and_a_little_more_is_remarked() -> None:
    assert "0.6" in wrong_fields(replace(CROWN, thickness_mm=0.5))["thickness_mm"]
    result = result_of(replace(CROWN, thickness_mm=0.8))
    assert result.status is Verdict.VALID
    assert any(note.startswith("thickness_mm") for note in result.notes)


def test_an_allergy_meets_its_alloy() -> None:
    rx = replace(CROWN, material="pfm_base", alloy="NiCr", allergies=("Nickel sulfate",))
    assert "allergic" in wrong_fields(rx)["material"]
    assert wrong_fields(replace(rx, material="pfm_noble", alloy="PdAg", thickness_mm=1.5)) == {}


IMPLANT = COMPLETE[Restoration.IMPLANT_CROWN]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"platform": "XX"}, "implant.platform"),
        ({"connection": "internal hex"}, "implant.connection"),
        ({"platform_mm": 3.3}, "implant.platform_mm"),
    ],
)
def test_the_platform_stands_in_the_library(change: dict[str, object], field: str) -> None:
    assert IMPLANT.implant is not None
    rx = replace(IMPLANT, implant=replace(IMPLANT.implant, **change))  # type: ignore[arg-type]
    assert field in wrong_fields(rx)


def test_a_screw_retained_crown_has_its_access_checked() -> None:
    assert IMPLANT.implant is not None
    rx = replace(IMPLANT, implant=replace(IMPLANT.implant, is_access_checked=False))
    assert [check.field for check in result_of(rx).failed] == ["implant.is_access_checked"]
    cement = replace(IMPLANT, implant=replace(IMPLANT.implant, retention="cement"))
    assert result_of(cement).failed == ()


def test_the_practice_adds_platforms(tmp_path: Path) -> None:
    own = tmp_path / "implants.toml"
    own.write_text(
        'version = 1\ndated = 2026-11-22\nsources = ["own"]\n[[platform]]\nmaker = "Own"\n'
        'line = "L"\nplatform = "P"\nconnection = "hex"\ndiameters_mm = [4.0]\n'
    )
    assert len(load_rulebook(own).platforms) == len(BOOK.platforms) + 1


def test_clasps_stand_on_teeth_that_are_there() -> None:
    rx = COMPLETE[Restoration.PARTIAL_DENTURE]
    assert rx.framework is not None
    on_gap = replace(rx.framework, clasps=(Clasp(Tooth("46"), "RPI"),))
    assert "carry nothing" in wrong_fields(replace(rx, framework=on_gap))["framework.clasps"]
    other = replace(rx.framework, clasps=(Clasp(Tooth("16"), "RPI"),))
    assert "other jaw" in wrong_fields(replace(rx, framework=other))["framework.clasps"]


def test_the_due_date_gives_the_laboratory_its_days_and_the_visit_one() -> None:
    assert "working days" in wrong_fields(later(CROWN, -7))["due_at"]
    assert "before the visit" in wrong_fields(later(CROWN, 2))["due_at"]
    assert wrong_fields(later(CROWN, 1)) == {}


def test_holidays_of_the_laboratory_count() -> None:
    assert add_workdays(date(2026, 12, 21), 5, PACK.holidays) == date(2026, 12, 29)
    assert add_workdays(date(2026, 12, 21), 5) == date(2026, 12, 28)


def test_what_the_plan_does_not_pay_is_remarked() -> None:
    facts = replace(CROWN_FACTS, coverage=Coverage(0.0, TODAY + timedelta(days=400)))
    result = result_of(CROWN, facts)
    assert result.status is Verdict.VALID
    assert len(result.notes) == 2


def test_a_remake_names_another_case() -> None:
    assert "remake.original_case" in wrong_fields(replace(CROWN, remake=Remake("BW-1001", "fit")))
    assert wrong_fields(replace(CROWN, remake=Remake("BW-0999", "fit"))) == {}


def test_a_word_that_is_none_is_named() -> None:
    rx = replace(CROWN, margin=replace(CROWN.margin, design="wavy"))
    assert "chamfer" in wrong_fields(rx)["margin.design"]


@pytest.mark.parametrize(
    "text",
    [
        "version = 2",
        'version = 1\ndated = 2026-01-01\nsources = ["s"]\ncolour = 1',
        'version = 1\ndated = 2026-01-01\nsources = ["s"]\npackage_name = "{patient}"',
        'version = 1\ndated = 2026-01-01\nsources = ["s"]\nmaterials = ["cheese"]',
        'version = 1\ndated = 2026-01-01\nsources = ["s"]\n[[extra]]\nfield = "arch"',
        "version = 1\ndated = 2026-01-01\nsources = []",
        "not toml",
    ],
)
def test_a_broken_pack_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "lab.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"lab\.toml"):
        load_pack("own", path)


def test_every_rule_file_is_dated_and_sourced() -> None:
    for file in RULES.rglob("*.toml"):
        text = file.read_text()
        assert "dated = 20" in text, file.name
        assert "sources = [" in text, file.name


@given(st.dates(date(2026, 1, 1), date(2027, 12, 31)), st.integers(0, 60))
def test_working_days_count_back(day: date, count: int) -> None:
    there = add_workdays(day, count, PACK.holidays)
    assert workdays_between(day, there, PACK.holidays) == count
    assert there >= day


def _without(rx: LabRx, field: str) -> LabRx:
    """Empty one field, by its path."""
    head, _, rest = field.partition(".")
    if head == "attachments":
        kept = tuple(each for each in rx.attachments if each.kind.value != rest)
        return replace(rx, attachments=kept)
    if field == "units.surfaces":
        return replace(rx, units=tuple(replace(unit, surfaces="") for unit in rx.units))
    owner = getattr(rx, head)
    if not rest:
        empty = () if isinstance(owner, tuple) else "" if isinstance(owner, str) else None
        return replace(rx, **{head: empty})  # type: ignore[arg-type]
    value = getattr(owner, rest)
    empties = {str: "", bool: False, tuple: ()}
    emptied = replace(owner, **{rest: empties.get(type(value))})
    assert is_missing(value_at(replace(rx, **{head: emptied}), field))  # type: ignore[arg-type]
    return replace(rx, **{head: emptied})  # type: ignore[arg-type]


_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=5,
)


@given(st.sampled_from(sorted(rx_to_json(CROWN))), _ANYTHING)
def test_whatever_stands_in_a_field_is_read_or_refused(field: str, value: object) -> None:
    try:
        rx = rx_from_json({**rx_to_json(CROWN), field: value})
    except InvalidInput:
        return
    assert rx_to_json(rx_from_json(rx_to_json(rx))) == rx_to_json(rx)
    result_of(rx)


@given(_ANYTHING)
def test_whatever_is_no_prescription_is_refused(value: object) -> None:
    with pytest.raises(InvalidInput):
        rx_from_json(value)
