"""The node's side of receiving: rows for what the receiving process has put into the store."""

from __future__ import annotations

import logging

from node.dicom.arrival import Arrived
from node.dicom.committer import Committer
from node.dicom.header import Header, parse_header, parse_start, read_transfer_syntax
from node.dicom.place import RECEIVED, Place
from node.dicom.report import ReceivingFault, Report, read_report
from node.dicom.store import log_failure

_LOG = logging.getLogger(__name__)


class Receiver:
    """Keeps what several associations bring; their rows are committed in groups."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._committer = Committer(place.db, place.actor, RECEIVED)

    def take(self, message: bytes, calling_ae: str) -> int:
        """Keep the object that is reported; return the status for its sender."""
        try:
            report = read_report(message)
            report.require_object()
            return self._keep(report, calling_ae)
        except Exception as error:  # noqa: BLE001 - the DIMSE edge
            if isinstance(error, ReceivingFault):  # says where, never what was sent
                _LOG.error("the receiving process failed: %s", error)
            return log_failure("C-STORE", error).store_status

    def _keep(self, report: Report, calling_ae: str) -> int:
        try:
            header = self._header(report)
        except BaseException:
            self.place.store.discard(report.storage_key)
            raise
        arrived = Arrived(
            report.object_id,
            report.sop_class_uid,
            report.sop_instance_uid,
            report.transfer_syntax_uid,
            calling_ae,
            header,
            report.sha256,
            report.size_bytes,
        )
        return self.place.keep_stored(arrived, report.storage_key, self._committer.run).status

    def _header(self, report: Report) -> Header:
        """Read the header from the start of the data set; from the store where that is not all."""
        syntax, fallback = report.transfer_syntax_uid, self.place.fallback_charset
        header, is_whole = parse_start(memoryview(report.start), syntax, fallback)
        if is_whole or len(report.start) == report.size_bytes:
            return header
        with self.place.store.open(report.storage_key) as file:
            read_transfer_syntax(file)
            return parse_header(file, syntax, fallback)
