"""Uploaded documents: rows that name no file until a user of the program clicks them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re

from pms_writeback.sandbox.rules import created, current, refuse_deleted, refuse_missing, stored
from pms_writeback.sandbox.store import Chart, Row
from pms_writeback.sandbox.tables import TABLES
from pms_writeback.sandbox.teeth import expand_teeth
from pms_writeback.sandbox.twins import show
from pms_writeback.sandbox.wire import Answer, Call, Refusal

IMAGE_CATEGORIES = 18
"""Category number of image categories in /definitions."""


def upload_document(chart: Chart, call: Call) -> Answer:
    """File a base64 document; ``FileName`` stays "x" until it is first opened."""
    refuse_missing(chart, call)
    refuse_deleted(chart, call.number("PatNum"))
    extension = call.text("extension").lower()
    if not re.fullmatch(r"\.[a-z0-9]{1,5}", extension):
        raise Refusal(400, "extension is invalid. Example: .pdf")
    try:
        content = base64.b64decode(call.text("rawBase64"), validate=True)
    except (binascii.Error, ValueError):
        raise Refusal(400, "rawBase64 is invalid.") from None
    return created(chart, call, file_document(chart, call, extension, content, "x"))


def file_document(chart: Chart, call: Call, extension: str, content: bytes, file_name: str) -> Row:
    """Keep a document's bytes beside its row; `file_name` "x" is no file yet."""
    values: Row = {
        "ImgType": "Document",
        "DateCreated": chart.stamp,
        **_checked(chart, stored(call)),
        "FileName": file_name,
    }
    row = chart.add("documents", values)
    digest = hashlib.sha256(content).hexdigest()
    chart.add_file(int(row["DocNum"]), extension, digest, content)
    return row


def change_document(chart: Chart, call: Call) -> Answer:
    """Update a document's properties; its bytes cannot be replaced."""
    refuse_missing(chart, call)
    row = current(chart, call)
    values = _checked(chart, stored(call), int(row["DocCategory"]))
    changed = chart.change("documents", int(row["DocNum"]), values)
    return Answer(200, show(chart, call.operation, changed))


def delete_document(chart: Chart, call: Call) -> Answer:
    """Delete a document and its bytes for good."""
    key = int(current(chart, call)["DocNum"])
    chart.remove("documents", key)
    chart.remove_file(key)
    return Answer(200)


def open_document(chart: Chart, key: int) -> tuple[str, bytes] | None:
    """Give extension and bytes; the first opening makes the real file, as a click does."""
    found = chart.file(key)
    row = chart.get("documents", key)
    if found is not None and row is not None and row["FileName"] == "x":
        chart.change("documents", key, {"FileName": f"Document{key}{found[0]}"})
    return found


def _checked(chart: Chart, values: Row, category: int = 0) -> Row:
    if len(str(values.get("Description", ""))) > 255:
        raise Refusal(400, "Description cannot exceed 255 characters.")
    if values.get("ToothNumbers"):
        try:
            values["ToothNumbers"] = ",".join(expand_teeth(str(values["ToothNumbers"])))
        except ValueError:
            raise Refusal(400, "ToothNumbers is invalid.") from None
    columns = TABLES["definitions"].c
    categories = chart.select(
        "definitions", columns.Category == IMAGE_CATEGORIES, columns.isHidden == "false"
    )
    wanted = int(values.get("DocCategory", 0) or 0) or category
    if not wanted and categories:
        wanted = int(categories[0]["DefNum"])
    if all(each["DefNum"] != wanted for each in categories):
        raise Refusal(400, "DocCategory is invalid.")
    return {**values, "DocCategory": wanted}
