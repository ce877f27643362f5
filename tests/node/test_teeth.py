"""Tooth numbers: every code, every notation, and back."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from node.domain.teeth import DECIDUOUS, LOWER_ARCH, PERMANENT, UPPER_ARCH, Arch, Tooth
from node.errors import InvalidInput

KNOWN = {
    "18": "1", "11": "8", "21": "9", "28": "16", "38": "17", "31": "24", "41": "25", "48": "32",
    "55": "A", "51": "E", "61": "F", "65": "J", "75": "K", "71": "O", "81": "P", "85": "T",
}  # fmt: skip

any_tooth = st.builds(
    Tooth, st.sampled_from([t.code for t in PERMANENT + DECIDUOUS]), st.booleans()
)


@pytest.mark.parametrize(("fdi", "universal"), KNOWN.items())
def test_known_pairs(fdi: str, universal: str) -> None:
    assert Tooth(fdi).universal == universal


@given(any_tooth)
def test_universal_round_trips(tooth: Tooth) -> None:
    assert Tooth.from_universal(tooth.universal) == tooth
    assert Tooth.from_universal(f" {tooth.universal.lower()} ") == tooth


def test_all_numbers_differ() -> None:
    teeth = [Tooth(t.code, extra) for t in PERMANENT + DECIDUOUS for extra in (False, True)]
    assert len({tooth.universal for tooth in teeth}) == 104


def test_supernumerary_numbers() -> None:
    assert Tooth("18", supernumerary=True).universal == "51"
    assert Tooth("48", supernumerary=True).universal == "82"
    assert Tooth("55", supernumerary=True).universal == "AS"


@example("ß")  # whose capitals are "SS"
@given(st.text(max_size=4))
def test_nonsense_is_refused(text: str) -> None:
    known = {tooth.universal for tooth in PERMANENT + DECIDUOUS}
    name = text.strip().upper() if text.isascii() else ""
    if name in known or name.rstrip("S") in known:
        return
    if name.isdecimal() and 51 <= int(text.strip()) <= 82:
        return
    with pytest.raises(InvalidInput):
        Tooth.from_universal(text)


@pytest.mark.parametrize("code", ["", "1", "19", "10", "49", "56", "91", "111", "٤٦"])
def test_codes_that_are_no_tooth(code: str) -> None:
    with pytest.raises(InvalidInput):
        Tooth(code)


def test_arches_run_from_the_patients_right_to_left() -> None:
    assert [tooth.code for tooth in UPPER_ARCH][:2] == ["18", "17"]
    assert [tooth.code for tooth in LOWER_ARCH][-2:] == ["37", "38"]
    assert all(tooth.arch is Arch.UPPER for tooth in UPPER_ARCH)
    assert [t.is_patient_right for t in UPPER_ARCH] == [True] * 8 + [False] * 8
