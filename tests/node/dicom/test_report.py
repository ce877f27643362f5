"""What the receiving process tells the node, and what the node makes of a failure."""

from __future__ import annotations

import logging

import pytest

from node.dicom.instances import FolderStore
from node.dicom.place import Place
from node.dicom.receiver import Receiver
from node.dicom.report import ReceivingFault, Report, failed, read_report
from node.errors import InvalidInput, Retryable

REPORT = Report(
    "ab" * 16,
    "1.2",
    "1.2.3",
    "1.2.840.10008.1.2.1",
    "main/ab/abab.dcm",
    "00" * 32,
    7,
    start=b"\n{}\n",
)


def test_a_report_arrives_as_it_was_sent():
    assert read_report(REPORT.to_bytes()) == REPORT
    REPORT.require_object()


@pytest.mark.parametrize(
    ("error", "family"),
    [
        (InvalidInput("no UID"), InvalidInput),
        (Retryable("the image store is full"), Retryable),
        (ValueError("Doe^Jane"), ReceivingFault),
    ],
)
def test_a_failure_keeps_its_family_and_quotes_nothing_sent(error, family):
    told = read_report(failed("ab" * 16, error).to_bytes())
    with pytest.raises(family) as caught:
        told.require_object()
    assert "Doe" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "status"),
    [(InvalidInput("no UID"), 0xA900), (Retryable("full"), 0xA700), (ValueError("Doe"), 0xC211)],
)
def test_failures_become_statuses_and_a_line_in_the_log(
    sqlite_database, enqueuer, tmp_path, caplog, error, status
):
    place = Place(sqlite_database, FolderStore(tmp_path), enqueuer, "main", "ISO_IR 100")
    caplog.set_level(logging.WARNING)
    assert Receiver(place).take(failed("ab" * 16, error).to_bytes(), "SENSOR") == status
    assert caplog.records
    assert "Doe" not in caplog.text
