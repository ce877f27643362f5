"""Documents of a chart: filed by SFTP where a folder is configured, as text otherwise; and fetched.

By SFTP the office's system fetches the file itself, stores it at once and answers where. An upload
as base64 text is stored in the database until somebody clicks it, and has a limit of size.
"""

from __future__ import annotations

import base64
import logging
import threading
import time
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING

from node.errors import BitewingError, ConfigError, InvalidInput, NotFound, Rejected
from pms_writeback.commands import UploadDocument, carries, with_ref
from pms_writeback.opendental.connection import Connection
from pms_writeback.opendental.rows import Fields
from pms_writeback.opendental.versions import TOOTH_NUMBERS_SINCE, Version
from pms_writeback.opendental.wire import number, receipt
from pms_writeback.pms import OfficeTime, Receipt

if TYPE_CHECKING:  # an SSH library is loaded only where a folder is configured
    from pms_writeback.sftp import SftpFolder

log = logging.getLogger(__name__)

MAX_DOCUMENT_BYTES = 12_000_000
"""Largest document as text: the request of base64 is limited to about 16.8 million characters."""

SFTP_SINCE: Version = (24, 2, 32)
"""First version that keeps the description, and with it our token, of an upload by SFTP."""

MAX_DESCRIPTION = 255
IMAGE_CATEGORIES = 18
CATEGORY_AGE_S = 600.0


@dataclass(frozen=True, slots=True)
class ChartDocument:
    """One document of a chart; ``has_file`` False: nobody has opened it there since its upload.

    ``created_at`` is when its content was made, as far as the office knows.
    """

    key: str
    patient_key: str
    description: str = field(repr=False)
    category: str
    tooth_numbers: str
    created_at: datetime | None
    has_file: bool


class DocumentDesk:
    """Files documents at one office, finds them again and fetches earlier ones."""

    def __init__(
        self, connection: Connection, office: OfficeTime, folder: SftpFolder | None
    ) -> None:
        self._connection = connection
        self._office = office
        self._folder = folder
        self._lock = threading.Lock()
        self._categories: tuple[float, dict[str, str]] | None = None

    def upload(self, command: UploadDocument, version: Version) -> Receipt:
        """File one document; goes on with one that was filed and not taken off the SFTP server."""
        if self._folder is None or version < SFTP_SINCE:
            return self._upload_text(command, version)
        filed = self._filed(command)
        made = self._upload_file(command, version, self._folder) if filed is None else filed
        self._tidy(self._folder, command)
        return made

    def find(self, command: UploadDocument) -> Receipt | None:
        """Find what an earlier attempt filed; incomplete while its file lies on the SFTP server."""
        filed = self._filed(command)
        if filed is None or self._folder is None:
            return filed
        return replace(filed, is_complete=not self._folder.exists(_file_name(command)))

    def of_patient(self, patient_key: str) -> tuple[ChartDocument, ...]:
        """List a patient's documents, oldest first; mounts are left out."""
        return tuple(
            ChartDocument(
                key=row.own_key("DocNum"),
                patient_key=patient_key,
                description=row.text("Description"),
                category=row.text("docCategory"),
                tooth_numbers=row.text("ToothNumbers"),
                created_at=_utc(row.moment("DateCreated"), self._office),
                has_file=bool(row.text("filePath")),
            )
            for row in self._rows(patient_key)
        )

    def fetch(self, document: ChartDocument) -> bytes:
        """Fetch the bytes of one document, which the office's system puts on our SFTP server.

        Raises
        ------
        NotFound
            It is not in this patient's chart, or nobody has opened it there yet.
        Rejected
            No SFTP folder is configured, or what came is no single file.
        """
        if self._folder is None:
            raise Rejected("documents are fetched by SFTP only: set pms.sftp_host")
        if all(row.own_key("DocNum") != document.key for row in self._rows(document.patient_key)):
            raise NotFound("the document is not in this patient's chart")
        with self._folder.mailbox() as mailbox:
            body: dict[str, str | int] = {
                "DocNum": number(document.key),
                **self._credentials(self._folder),
                "SftpAddress": mailbox.address,
            }
            self._connection.write("POST", "/documents/DownloadSftp", body)
            return mailbox.read()

    def _upload_text(self, command: UploadDocument, version: Version) -> Receipt:
        if len(command.content) > MAX_DOCUMENT_BYTES:
            raise InvalidInput(f"a document of {len(command.content)} bytes is too large to upload")
        body: dict[str, str | int] = {
            "rawBase64": base64.b64encode(command.content).decode("ascii"),
            "extension": command.extension,
            **self._properties(command, version),
        }
        row = self._connection.write("POST", "/documents/Upload", body)
        return receipt("documents", "DocNum", row, command.patient_key)

    def _upload_file(
        self, command: UploadDocument, version: Version, folder: SftpFolder
    ) -> Receipt:
        name = _file_name(command)
        body: dict[str, str | int] = {
            **self._credentials(folder),
            "SftpAddress": folder.settings.address(name),
            **self._properties(command, version),
        }
        folder.put(name, command.content)
        try:
            row = self._connection.write("POST", "/documents/UploadSftp", body)
        except (Rejected, ConfigError):  # certainly not filed, and nobody tries again by himself
            self._tidy(folder, command)
            raise
        return receipt("documents", "DocNum", row, command.patient_key)

    def _tidy(self, folder: SftpFolder, command: UploadDocument) -> None:
        """Take a filed document off the SFTP server; a search finds what was left behind."""
        try:
            folder.remove(_file_name(command))
        except BitewingError as error:
            log.warning("a filed document stays on the SFTP server: %s", error)

    def _properties(self, command: UploadDocument, version: Version) -> dict[str, str | int]:
        teeth = ",".join(command.tooth_numbers)
        keeps_teeth = version >= TOOTH_NUMBERS_SINCE
        text = command.description
        if teeth and not keeps_teeth:
            text = f"{text} (teeth {teeth})"
        wall = self._office.to_wall(command.created)
        body: dict[str, str | int] = {
            "PatNum": number(command.patient_key),
            "Description": _description(text, command.ref),
            "DateCreated": wall.strftime("%Y-%m-%d %H:%M:%S"),
            "DocCategory": number(self._category(command.category)),
            "ImgType": command.image_type,
        }
        if teeth and keeps_teeth:
            body["ToothNumbers"] = teeth
        return body

    def _credentials(self, folder: SftpFolder) -> dict[str, str]:
        settings = folder.settings
        return {"SftpUsername": settings.user, "SftpPassword": settings.password}

    def _filed(self, command: UploadDocument) -> Receipt | None:
        keys = sorted(
            (
                row.own_key("DocNum")
                for row in self._rows(command.patient_key)
                if carries(row.text("Description"), command.ref)
            ),
            key=int,
        )
        return Receipt("documents", keys[0], already_there=True) if keys else None

    def _rows(self, patient_key: str) -> list[Fields]:
        try:
            rows = self._connection.rows("/documents", {"PatNum": patient_key})
        except NotFound as error:
            if "no documents" in str(error).lower():
                return []
            raise
        # Rows without a DocNum are mounts. Old versions leave the patient out of such a list.
        return [row for row in rows if row.key("DocNum") and row.key("PatNum") in ("", patient_key)]

    def _category(self, name: str) -> str:
        """Look up an image category by name; category numbers differ from office to office."""
        found = self._image_categories().get(name.strip().lower())
        if found is None:
            raise Rejected(
                f"the office has no image category {name[:60]!r}: add it in Open Dental under"
                " Setup > Definitions > Image Categories, or change pms.document_category"
            )
        return found

    def _image_categories(self) -> dict[str, str]:
        with self._lock:
            known = self._categories
        if known is not None and time.monotonic() - known[0] < CATEGORY_AGE_S:
            return known[1]
        rows = self._connection.rows("/definitions", {"Category": str(IMAGE_CATEGORIES)})
        names = {
            row.text("ItemName").strip().lower(): row.own_key("DefNum")
            for row in rows
            if row.number("Category") == IMAGE_CATEGORIES and not row.flag("isHidden")
        }
        with self._lock:
            # An office without any is asked again next time.
            self._categories = (time.monotonic(), names) if names else None
        return names


def _file_name(command: UploadDocument) -> str:
    """Name the file by its token alone: ``BW-1a2b3c4d5e.pdf``."""
    return f"{command.ref.removeprefix('ref:')}{command.extension}"


def _description(text: str, ref: str) -> str:
    """Fit a description and its token into the column; the token is never cut."""
    if carries(text, ref):
        text = text.replace(ref, "").strip()
    return with_ref(" ".join(text.split())[: MAX_DESCRIPTION - len(ref) - 1], ref)


def _utc(wall: datetime | None, office: OfficeTime) -> datetime | None:
    return None if wall is None else office.to_utc(wall)
