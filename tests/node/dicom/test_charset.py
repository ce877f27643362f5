"""Text that was declared, undeclared, or declared wrongly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.dicom.charset import answer_in, decode, parse_terms


@pytest.mark.parametrize(
    ("raw", "terms", "expected"),
    [
        (b"Doe^Jane ", (), "Doe^Jane"),
        (b"Doe^Jane\0", ("ISO_IR 100",), "Doe^Jane"),
        ("Müller".encode("latin-1"), ("ISO_IR 100",), "Müller"),
        ("Müller".encode("latin-1"), (), "Müller"),
        ("Müller".encode(), (), "Müller"),
        ("Müller".encode(), ("ISO_IR 6",), "Müller"),
        ("Müller".encode(), ("ISO_IR 100",), "Müller"),  # declared wrongly
        ("Müller".encode("latin-1"), ("ISO_IR 192",), "Müller"),  # declared wrongly
        ("Иванов".encode("iso8859_5"), ("ISO_IR 144",), "Иванов"),
        ("王^小东".encode("gb18030"), ("GB18030",), "王^小东"),
        ("王^小东".encode(), ("NONSENSE",), "王^小东"),
        (
            b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B",
            ("", "ISO 2022 IR 87"),
            "Yamada^Tarou=山田^太郎",
        ),
        (None, (), ""),
    ],
)
def test_names_are_read_as_they_were_meant(raw, terms, expected):
    assert decode(raw, terms, "ISO_IR 100") == expected


@given(st.binary(max_size=60), st.sampled_from(["", "ISO_IR 100", "ISO_IR 192", "ISO 2022 IR 87"]))
def test_no_bytes_make_it_fail(raw, term):
    assert isinstance(decode(raw, (term,), "ISO_IR 100"), str)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (None, ()),
        (b"", ()),
        (b"ISO_IR 192", ("ISO_IR 192",)),
        (b"iso-ir 100 ", ("ISO_IR 100",)),
        (b"\\ISO 2022 IR 87", ("", "ISO 2022 IR 87")),
    ],
)
def test_terms_are_repaired(raw, expected):
    assert parse_terms(raw) == expected


def test_an_answer_never_loses_a_character():
    assert answer_in(["ISO_IR 100"], ["Müller"]) == "ISO_IR 100"
    assert answer_in(["ISO_IR 100"], ["Łoś"]) == "ISO_IR 192"
    assert answer_in(["ISO_IR 101"], ["Łoś"]) == "ISO_IR 101"
    assert answer_in([], ["Doe"]) == "ISO_IR 192"
