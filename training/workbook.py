"""Read the first sheet of an ``.xlsx`` workbook; data sets describe their films in such."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from xml.etree import ElementTree

from node.errors import InvalidInput

_NS = {"m": "http://schemas.openxmlformats.org/spreadsheetml/2006/main"}
_MAX_BYTES = 64 << 20


def read_table(path: Path) -> list[dict[str, str]]:
    """Give the rows under the first one, by the first row's names in lower case.

    Raises InvalidInput when the file is not a workbook.
    """
    try:
        with zipfile.ZipFile(path) as book:
            names = book.namelist()
            sheet = sorted(n for n in names if re.fullmatch(r"xl/worksheets/sheet\d*\.xml", n))[0]
            shared = _shared(book) if "xl/sharedStrings.xml" in names else []
            rows = [_row(row, shared) for row in _parse(book, sheet).iterfind(".//m:row", _NS)]
    except (OSError, zipfile.BadZipFile, ElementTree.ParseError, LookupError, ValueError) as error:
        raise InvalidInput(f"{path.name} is not a readable workbook") from error
    if not rows:
        return []
    heads = {column: text.strip().lower() for column, text in rows[0].items()}
    return [
        {heads[column]: text.strip() for column, text in row.items() if column in heads}
        for row in rows[1:]
    ]


def _parse(book: zipfile.ZipFile, name: str) -> ElementTree.Element:
    if book.getinfo(name).file_size > _MAX_BYTES:
        raise ValueError("too large")
    return ElementTree.fromstring(book.read(name))


def _shared(book: zipfile.ZipFile) -> list[str]:
    items = _parse(book, "xl/sharedStrings.xml").iterfind("m:si", _NS)
    return ["".join(part.text or "" for part in item.iterfind(".//m:t", _NS)) for item in items]


def _row(row: ElementTree.Element, shared: list[str]) -> dict[str, str]:
    """Give the texts of a row by the letters of their columns."""
    cells = {}
    for cell in row.iterfind("m:c", _NS):
        column = re.sub(r"\d", "", cell.get("r", ""))
        if cell.get("t") == "inlineStr":
            text = "".join(part.text or "" for part in cell.iterfind(".//m:t", _NS))
        else:
            value = cell.find("m:v", _NS)
            text = value.text or "" if value is not None else ""
            text = shared[int(text)] if cell.get("t") == "s" and text else text
        cells[column] = text
    return cells
