"""Commands as Open Dental writes, and the search for what an earlier attempt wrote.

The vendor has no idempotency key: the command's token travels in the record's own text (note,
description) and is searched for there. Nothing is ever signed on a user's behalf.
"""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Iterable
from datetime import datetime

from node.errors import InvalidInput, NotFound, Rejected
from pms_writeback.opendental.booking import BookingWriter
from pms_writeback.opendental.connection import Connection, OpenDentalSettings
from pms_writeback.opendental.insurance import InsuranceWriter
from pms_writeback.opendental.rows import Fields
from pms_writeback.opendental.treatment import TreatmentWriter
from pms_writeback.opendental.versions import TOOTH_NUMBERS_SINCE, Version
from pms_writeback.opendental.wire import number, receipt
from pms_writeback.pms import (
    AppendCommlog,
    AppendProcedureNote,
    BookAppointment,
    CancelAppointment,
    CloseTask,
    Command,
    ConfirmAppointment,
    CreatePreauthorization,
    CreateTask,
    MoveAppointment,
    OfficeTime,
    Receipt,
    TrackClaim,
    UploadDocument,
    carries,
    with_ref,
)

MAX_DOCUMENT_BYTES = 12_000_000
"""Largest document: the request of base64 text is limited to about 16.8 million characters."""

MAX_DESCRIPTION = 255
IMAGE_CATEGORIES = 18
CATEGORY_AGE_S = 600.0
# Tasks GET shows only the last 14 days unless told otherwise.
LONG_AGO = "2000-01-01 00:00:00"


class Writer:
    """Sends commands to one office and finds what they left there."""

    def __init__(
        self, connection: Connection, settings: OpenDentalSettings, office: OfficeTime
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._office = office
        self._lock = threading.Lock()
        self._categories: tuple[float, dict[str, str]] | None = None
        self._treatment = TreatmentWriter(connection, office)
        self._insurance = InsuranceWriter(connection)
        self._booking = BookingWriter(connection, office)

    def execute(self, command: Command, version: Version) -> Receipt:
        """Send one command once."""
        match command:
            case AppendProcedureNote():
                return self._append_note(command)
            case AppendCommlog():
                return self._append_commlog(command)
            case UploadDocument():
                return self._upload(command, version)
            case CreateTask():
                return self._create_task(command)
            case CloseTask():
                return self._close_task(command)
            case BookAppointment() | MoveAppointment() | ConfirmAppointment() | CancelAppointment():
                return self._booking.execute(command)
            case CreatePreauthorization() | TrackClaim():
                return self._insurance.execute(command)
            case _:
                return self._treatment.execute(command)

    def find(self, command: Command) -> Receipt | None:
        """Search for the command's token in the records of its patient, oldest first."""
        match command:
            case AppendProcedureNote():
                return _first("procnotes", "ProcNoteNum", self._notes(command))
            case AppendCommlog():
                return _first("commlogs", "CommlogNum", self._commlogs(command))
            case UploadDocument():
                return _first("documents", "DocNum", self._documents(command))
            case CreateTask():
                return _first("tasks", "TaskNum", self._tasks(command))
            case CloseTask():
                done = [row for row in self._tasks(command) if row.text("TaskStatus") == "Done"]
                return _first("tasks", "TaskNum", done)
            case BookAppointment() | MoveAppointment() | ConfirmAppointment() | CancelAppointment():
                return self._booking.find(command)
            case CreatePreauthorization() | TrackClaim():
                return self._insurance.find(command)
            case _:
                return self._treatment.find(command)

    def _append_note(self, command: AppendProcedureNote) -> Receipt:
        procedure = self._connection.row(f"/procedurelogs/{number(command.procedure_key)}")
        if procedure.key("PatNum") != command.patient_key:
            raise Rejected("the procedure belongs to another patient; nothing was written")
        row = self._connection.write(
            "POST",
            "/procnotes",
            {
                "PatNum": number(command.patient_key),
                "ProcNum": number(command.procedure_key),
                "Note": with_ref(command.text, command.ref),
                "doAppendNote": "true",
                "isSigned": "false",
            },
        )
        return receipt("procnotes", "ProcNoteNum", row, command.patient_key)

    def _append_commlog(self, command: AppendCommlog) -> Receipt:
        row = self._connection.write(
            "POST",
            "/commlogs",
            {
                "PatNum": number(command.patient_key),
                "Note": with_ref(command.text, command.ref),
                "CommDateTime": self._wall(command.when),
                "Mode_": "None",
                # The default would say that the office had sent something.
                "SentOrReceived": "Neither",
            },
        )
        return receipt("commlogs", "CommlogNum", row, command.patient_key)

    def _upload(self, command: UploadDocument, version: Version) -> Receipt:
        if len(command.content) > MAX_DOCUMENT_BYTES:
            raise InvalidInput(f"a document of {len(command.content)} bytes is too large to upload")
        teeth = ",".join(command.tooth_numbers)
        keeps_teeth = version >= TOOTH_NUMBERS_SINCE
        text = command.description
        if teeth and not keeps_teeth:
            text = f"{text} (teeth {teeth})"
        body: dict[str, str | int] = {
            "PatNum": number(command.patient_key),
            "rawBase64": base64.b64encode(command.content).decode("ascii"),
            "extension": command.extension,
            "Description": _description(text, command.ref),
            "DateCreated": self._wall(command.created),
            "DocCategory": number(self._category(command.category)),
            "ImgType": command.image_type,
        }
        if teeth and keeps_teeth:
            body["ToothNumbers"] = teeth
        row = self._connection.write("POST", "/documents/Upload", body)
        return receipt("documents", "DocNum", row, command.patient_key)

    def _create_task(self, command: CreateTask) -> Receipt:
        row = self._connection.write(
            "POST",
            "/tasks",
            {
                "TaskListNum": number(self._task_list()),
                "UserNum": number(self._task_user()),
                "ObjectType": "Patient",
                "KeyNum": number(command.patient_key),
                "Descript": with_ref(command.text, command.ref),
            },
        )
        return receipt("tasks", "TaskNum", row, command.patient_key, patient_field="KeyNum")

    def _close_task(self, command: CloseTask) -> Receipt:
        tasks = self._tasks(command)
        if not tasks:
            raise NotFound("the task to close is not in Open Dental; it may have been deleted")
        still_open = [row for row in tasks if row.text("TaskStatus") != "Done"]
        for task in still_open:
            key = task.own_key("TaskNum")
            self._connection.write("PUT", f"/tasks/{number(key)}", {"TaskStatus": "Done"})
        return Receipt("tasks", tasks[0].own_key("TaskNum"), already_there=not still_open)

    def _notes(self, command: AppendProcedureNote) -> list[Fields]:
        query = {"PatNum": command.patient_key, "ProcNum": command.procedure_key}
        rows = self._connection.rows("/procnotes", query)
        mine = [row for row in rows if row.key("ProcNum") == command.procedure_key]
        return _carrying(mine, "PatNum", "Note", command)

    def _commlogs(self, command: AppendCommlog) -> list[Fields]:
        rows = self._connection.rows("/commlogs", {"PatNum": command.patient_key})
        return _carrying(rows, "PatNum", "Note", command)

    def _documents(self, command: UploadDocument) -> list[Fields]:
        try:
            rows = self._connection.rows("/documents", {"PatNum": command.patient_key})
        except NotFound as error:
            if "no documents" in str(error).lower():
                return []
            raise
        # Rows without a DocNum are mounts.
        documents = [row for row in rows if row.key("DocNum")]
        return _carrying(documents, "PatNum", "Description", command)

    def _tasks(self, command: CreateTask | CloseTask) -> list[Fields]:
        query = {
            "ObjectType": "Patient",
            "KeyNum": command.patient_key,
            "DateTimeOriginal": LONG_AGO,
        }
        rows = self._connection.rows("/tasks", query)
        mine = [row for row in rows if row.text("ObjectType") == "Patient"]
        return _carrying(mine, "KeyNum", "Descript", command)

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

    def _task_list(self) -> str:
        wanted = self._settings.task_list
        if wanted.isdigit():
            return wanted
        for row in self._connection.rows("/tasklists"):
            if row.text("Descript").strip().lower() == wanted.strip().lower():
                return row.own_key("TaskListNum")
        raise Rejected(
            f"the office has no task list {wanted[:60]!r}: add it in Open Dental's task window,"
            " or change pms.task_list"
        )

    def _task_user(self) -> str:
        wanted = self._settings.task_user
        if wanted.isdigit():
            return wanted
        for row in self._connection.rows("/userods"):
            if row.text("UserName").strip().lower() == wanted.strip().lower():
                return row.own_key("UserNum")
        raise Rejected(
            f"the office has no user {wanted[:60]!r}: add it in Open Dental under"
            " Setup > Security, or change pms.task_user"
        )

    def _wall(self, moment: datetime) -> str:
        return self._office.to_wall(moment).strftime("%Y-%m-%d %H:%M:%S")


def _description(text: str, ref: str) -> str:
    """Fit a description and its token into the column; the token is never cut."""
    if carries(text, ref):
        text = text.replace(ref, "").strip()
    return with_ref(" ".join(text.split())[: MAX_DESCRIPTION - len(ref) - 1], ref)


def _carrying(
    rows: Iterable[Fields], patient_field: str, text_field: str, command: Command
) -> list[Fields]:
    """Keep the rows of this patient that hold the token; an ignored filter does no harm."""
    return [
        row
        for row in rows
        if row.key(patient_field) == command.patient_key
        and carries(row.text(text_field), command.ref)
    ]


def _first(resource: str, key: str, rows: list[Fields]) -> Receipt | None:
    keys = sorted((row.own_key(key) for row in rows), key=int)
    return Receipt(resource, keys[0], already_there=True) if keys else None
