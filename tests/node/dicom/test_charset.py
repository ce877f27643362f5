"""Text that was declared, undeclared, or declared wrongly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.charset import convert_encodings
from pydicom.valuerep import PersonName

from node.dicom.charset import answer_in, decode, encode, parse_terms


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
    assert answer_in(["ISO_IR 100"], ["Müller"]) == ("ISO_IR 100",)
    assert answer_in(["ISO_IR 100"], ["Łoś"]) == ("ISO_IR 192",)
    assert answer_in(["ISO_IR 101"], ["Łoś"]) == ("ISO_IR 101",)
    assert answer_in(["", "ISO 2022 IR 87"], ["Müller"]) == ("ISO_IR 192",)
    assert answer_in([], ["Doe"]) == ("ISO_IR 192",)


@pytest.mark.parametrize(
    ("terms", "text"),
    [
        (("", "ISO 2022 IR 87"), "Yamada^Tarou=山田^太郎"),
        (("ISO 2022 IR 6", "ISO 2022 IR 87", "ISO 2022 IR 159"), "山田 A^丂"),
        (("", "ISO 2022 IR 149"), "Hong^Gildong=洪^吉洞=홍^길동"),
        (("ISO 2022 IR 6", "ISO 2022 IR 100", "ISO 2022 IR 126"), "Διονυσιος^Müller"),
        (("ISO 2022 IR 100", "ISO 2022 IR 144"), "Müller^Люкceмбypг"),
        (("ISO 2022 IR 13", "ISO 2022 IR 87"), "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎"),
        (("GB18030",), "Wang^XiaoDong=王^小东"),
        (("ISO_IR 100",), "Müller"),
    ],
)
def test_what_is_written_another_program_reads(terms, text):
    """pydicom's own decoder is the other program."""
    assert answer_in(terms, [text]) == terms
    written = encode(text, terms)
    name = PersonName(written, convert_encodings(list(terms)))
    assert "=".join(name.decode().components) == text
    assert decode(written, terms, "ISO_IR 100") == text


def test_simplified_chinese_is_written_as_the_standard_writes_it():
    """PS3.5 K.2; pydicom 3.0 leaves the escape sequences in, so it cannot be the judge."""
    text, terms = "Zhang^XiaoDong=张^小东", ("", "ISO 2022 IR 58")
    written = encode(text, terms)
    assert written == b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab"
    assert decode(written, terms, "ISO_IR 100") == text


def test_what_a_charset_lacks_becomes_a_question_mark():
    assert encode("Łoś", ("ISO_IR 100",)) == b"?o?"
    assert encode("Łoś", ("", "ISO 2022 IR 87")) == b"?o?"


@given(st.text(max_size=20))
def test_an_answer_in_japanese_never_holds_an_open_escape(text):
    written = encode(text, ("", "ISO 2022 IR 87"))
    assert written.rfind(b"\x1b$B") <= max(written.rfind(b"\x1b(B"), 0)
