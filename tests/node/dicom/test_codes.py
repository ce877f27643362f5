"""Codes of teeth, surfaces and findings: complete, well formed, and read back."""

import json
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.sr.codedict import codes as dictionary
from pydicom.sr.coding import Code

from node.dicom import codes
from node.domain.findings import CariesDepth, FindingKind
from node.domain.teeth import DECIDUOUS, PERMANENT, Surface, Tooth
from node.errors import InvalidInput

TABLE = json.loads(files("node.dicom").joinpath("dental_codes.json").read_text("utf-8"))
ROWS = [row for name, rows in TABLE.items() if name != "about" for row in rows]
ALL_TEETH = [
    tooth
    for regular in PERMANENT + DECIDUOUS
    for tooth in (regular, Tooth(regular.code, supernumerary=True))
]

_D = [[(i + j) % 5 if j < 5 else 0 for j in range(10)] for i in range(10)]
for _i in range(10):
    for _j in range(10):
        _a, _b = divmod(_i, 5), divmod(_j, 5)
        flip = _a[0] ^ _b[0]
        _D[_i][_j] = flip * 5 + ((_a[1] - _b[1]) % 5 if _a[0] else (_a[1] + _b[1]) % 5)
_P = [list(range(10)), [1, 5, 7, 6, 2, 8, 3, 0, 9, 4]]
for _ in range(6):
    _P.append([_P[-1][_P[1][digit]] for digit in range(10)])


def verhoeff_holds(identifier: str) -> bool:
    check = 0
    for place, digit in enumerate(reversed(identifier)):
        check = _D[check][_P[place % 8][int(digit)]]
    return check == 0


def test_the_check_itself_knows_good_and_bad_identifiers():
    assert verhoeff_holds("80967001")
    assert not verhoeff_holds("427936003")
    assert not verhoeff_holds("10837007")


@pytest.mark.parametrize(
    "identifier",
    sorted(
        {row["value"] for row in ROWS if row["scheme"] == "SCT"}
        | {value for row in TABLE["teeth"] for value in row["also_sct"]}
    ),
)
def test_every_snomed_identifier_has_a_valid_check_digit(identifier):
    assert verhoeff_holds(identifier)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['scheme']}-{row['value']}")
def test_every_code_fits_its_attribute(row):
    assert len(row["value"]) <= 16  # Code Value is SH
    assert 0 < len(row["meaning"]) <= 64  # Code Meaning is LO
    assert row["scheme"] in ("SCT", codes.LOCAL_SCHEME)


@pytest.mark.parametrize("tooth", PERMANENT + DECIDUOUS, ids=str)
def test_a_regular_tooth_is_written_as_the_dicom_dictionary_has_it(tooth):
    code = codes.tooth_code(tooth)
    group = dictionary.cid4019 if tooth.is_deciduous else dictionary.cid4018
    assert code in [getattr(group, name) for name in group.dir()]


@given(st.sampled_from(ALL_TEETH))
def test_a_tooth_reads_back_from_its_code(tooth):
    assert codes.read_tooth(codes.tooth_code(tooth)) == tooth


@pytest.mark.parametrize("row", TABLE["teeth"], ids=lambda row: row["tooth"])
def test_replaced_entire_and_snomed_rt_codes_are_read(row):
    expected = Tooth(row["tooth"])
    for value in row["also_sct"]:
        assert codes.read_tooth(Code(value, "SCT", "whatever it is called")) == expected
    for value in row["also_srt"]:
        for scheme in ("SRT", "SNM3", "99SDM"):
            assert codes.read_tooth(Code(value, scheme, "")) == expected


def test_no_code_names_two_teeth():
    values = [codes.tooth_code(tooth).value for tooth in ALL_TEETH]
    values += [value for row in TABLE["teeth"] for value in row["also_sct"] + row["also_srt"]]
    assert len(values) == len(set(values))


@pytest.mark.parametrize(
    ("members", "write"),
    [
        (Surface, codes.surface_code),
        (FindingKind, codes.finding_code),
        (CariesDepth, codes.depth_code),
    ],
    ids=["surface", "finding", "depth"],
)
def test_every_member_has_a_code_of_its_own(members, write):
    written = [write(member) for member in members]
    assert len({(code.value, code.scheme_designator) for code in written}) == len(written)


def test_an_unknown_code_is_refused():
    with pytest.raises(InvalidInput, match="38199008"):
        codes.read_tooth(Code("38199008", "SCT", "Tooth"))


def test_local_codes_use_the_declared_private_scheme():
    assert codes.LOCAL_SCHEME.startswith("99")
    assert len(codes.LOCAL_SCHEME) <= 16
    local = [row for row in ROWS if row["scheme"] == codes.LOCAL_SCHEME]
    assert all(row["verified"] == "P" for row in local)
