"""Routing rules: what they mean, and that nothing in them is ever run."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.dicom.routing import read_rule
from node.errors import ConfigError

FACTS = {
    "Modality": ["PX"],
    "StudyDescription": ["Ortho control"],
    "ImageType": ["ORIGINAL", "PRIMARY"],
    "Rows": ["1200"],
    "sender": ["PAN1"],
    "findings": ["2"],
    "finding": ["caries", "calculus"],
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('Modality == "PX"', True),
        ("Modality == 'px'", True),
        ('Modality != "PX"', False),
        ('Modality in ("IO", "PX")', True),
        ('Modality in ("IO")', False),
        ('StudyDescription like "*ortho*"', True),
        ('StudyDescription like "ortho"', False),
        ('ImageType == "PRIMARY"', True),
        ("Rows >= 1200 and Rows < 1300", True),
        ("Rows > 1e", None),
        ('sender == "PAN1" and findings > 1', True),
        ('finding == "bone_level" or finding == "calculus"', True),
        ('not finding == "caries"', False),
        ('not (Modality == "IO") and (sender == "X" or findings == 2)', True),
        ('sender == "X" or Modality == "IO" and findings == 2', False),
        ('PatientComments == ""', False),
        ('PatientComments != "x"', True),
        ("Modality > 3", False),
    ],
)
def test_rules(text, expected):
    if expected is None:
        with pytest.raises(ConfigError):
            read_rule(text)
        return
    assert read_rule(text).holds(FACTS) is expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Modality",
        "Modality ==",
        'Nonsense == "x"',
        'Modality == "PX" and',
        '(Modality == "PX"',
        'Modality == "PX")',
        'Modality in "PX"',
        "Modality == PX",
        '__import__("os").system("true")',
        'Modality == "PX"; import os',
        "(" * 50 + 'Modality == "PX"' + ")" * 50,
        'Modality == "' + "x" * 2000 + '"',
    ],
)
def test_what_is_no_rule_is_a_configuration_error(text):
    with pytest.raises(ConfigError):
        read_rule(text)


@given(st.text(max_size=60))
def test_any_text_is_a_rule_or_refused(text):
    try:
        rule = read_rule(text)
    except ConfigError:
        return
    assert rule.holds(FACTS) in (True, False)
