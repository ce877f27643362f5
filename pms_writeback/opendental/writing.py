"""Commands as Open Dental writes, and the search for what an earlier attempt wrote.

The vendor has no idempotency key: the command's token travels in the record's own text (note,
description) and is searched for there. Nothing is ever signed on a user's behalf.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

from node.errors import Conflict, NotFound, Rejected
from pms_writeback.opendental.booking import BookingWriter
from pms_writeback.opendental.connection import Connection, OpenDentalSettings
from pms_writeback.opendental.documents import DocumentDesk
from pms_writeback.opendental.insurance import InsuranceWriter
from pms_writeback.opendental.rows import Fields
from pms_writeback.opendental.treatment import TreatmentWriter
from pms_writeback.opendental.versions import COMMLOG_CHANGES_SINCE, TASK_CHANGES_SINCE, Version
from pms_writeback.opendental.wire import number, receipt
from pms_writeback.pms import (
    AnnotateAppointment,
    AppendCommlog,
    AppendProcedureNote,
    BookAppointment,
    CancelAppointment,
    CloseTask,
    Command,
    ConfirmAppointment,
    CreatePreauthorization,
    CreateTask,
    EstimateBenefit,
    MoveAppointment,
    OfficeTime,
    Receipt,
    TrackClaim,
    UploadDocument,
    VerifyInsurance,
    carries,
    with_ref,
)

if TYPE_CHECKING:
    from pms_writeback.sftp import SftpFolder

# Tasks GET shows only the last 14 days unless told otherwise.
LONG_AGO = "2000-01-01 00:00:00"


class Writer:
    """Sends commands to one office and finds what they left there."""

    def __init__(
        self,
        connection: Connection,
        settings: OpenDentalSettings,
        office: OfficeTime,
        folder: SftpFolder | None = None,
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._office = office
        self.documents = DocumentDesk(connection, office, folder)
        self._treatment = TreatmentWriter(connection, office)
        self._insurance = InsuranceWriter(connection)
        self._booking = BookingWriter(connection, office)

    def execute(self, command: Command, version: Version) -> Receipt:
        """Send one command once."""
        match command:
            case AppendProcedureNote():
                return self._append_note(command)
            case AppendCommlog():
                return self._append_commlog(command, version)
            case UploadDocument():
                return self.documents.upload(command, version)
            case CreateTask():
                return self._create_task(command, version)
            case CloseTask():
                return self._close_task(command)
            case (
                BookAppointment()
                | MoveAppointment()
                | ConfirmAppointment()
                | CancelAppointment()
                | AnnotateAppointment()
            ):
                return self._booking.execute(command)
            case CreatePreauthorization() | TrackClaim() | EstimateBenefit() | VerifyInsurance():
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
                return self.documents.find(command)
            case CreateTask():
                return _first("tasks", "TaskNum", self._tasks(command))
            case CloseTask():
                done = [row for row in self._tasks(command) if row.text("TaskStatus") == "Done"]
                return _first("tasks", "TaskNum", done)
            case (
                BookAppointment()
                | MoveAppointment()
                | ConfirmAppointment()
                | CancelAppointment()
                | AnnotateAppointment()
            ):
                return self._booking.find(command)
            case CreatePreauthorization() | TrackClaim() | EstimateBenefit() | VerifyInsurance():
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

    def _append_commlog(self, command: AppendCommlog, version: Version) -> Receipt:
        if command.follows_ref and version >= COMMLOG_CHANGES_SINCE:
            earlier = self._commlogs(command, command.follows_ref)
            if earlier:
                key = earlier[0].own_key("CommlogNum")
                return self._go_on(f"/commlogs/{number(key)}", "Note", "PatNum", command)
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

    def _create_task(self, command: CreateTask, version: Version) -> Receipt:
        if command.follows_ref and version >= TASK_CHANGES_SINCE:
            earlier = self._tasks(command, command.follows_ref)
            if earlier:
                key = earlier[0].own_key("TaskNum")
                return self._go_on(f"/tasks/{number(key)}", "Descript", "KeyNum", command)
        row = self._connection.write(
            "POST",
            "/tasks",
            {
                "TaskListNum": number(self._task_list()),
                "UserNum": number(self._task_user(command.user_key)),
                "ObjectType": "Patient",
                "KeyNum": number(command.patient_key),
                "Descript": with_ref(command.text, command.ref),
            },
        )
        return receipt("tasks", "TaskNum", row, command.patient_key, patient_field="KeyNum")

    def _go_on(
        self, path: str, column: str, patient_field: str, command: AppendCommlog | CreateTask
    ) -> Receipt:
        """Append to a record of ours as it stands now, whatever somebody wrote into it kept."""
        row = self._connection.row(path)
        text = row.text(column)
        is_theirs = row.key(patient_field) == command.patient_key
        if not is_theirs or not carries(text, command.follows_ref):
            raise Conflict("the record to go on with was changed in the chart meanwhile")
        longer = f"{text.rstrip()}\n\n{with_ref(command.text, command.ref)}"
        self._connection.write("PUT", path, {column: longer})
        resource, key = path.strip("/").split("/")
        return Receipt(resource, key)

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

    def _commlogs(self, command: AppendCommlog, ref: str = "") -> list[Fields]:
        rows = self._connection.rows("/commlogs", {"PatNum": command.patient_key})
        return _carrying(rows, "PatNum", "Note", command, ref)

    def _tasks(self, command: CreateTask | CloseTask, ref: str = "") -> list[Fields]:
        query = {
            "ObjectType": "Patient",
            "KeyNum": command.patient_key,
            "DateTimeOriginal": LONG_AGO,
        }
        rows = self._connection.rows("/tasks", query)
        mine = [row for row in rows if row.text("ObjectType") == "Patient"]
        return _carrying(mine, "KeyNum", "Descript", command, ref)

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

    def _task_user(self, mapped: str) -> str:
        """Give the user whom a task is from: `mapped` if it is one here, else the configured."""
        if mapped and any(
            row.own_key("UserNum") == mapped and not row.flag("IsHidden")
            for row in self._connection.rows("/userods")
        ):
            return mapped
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


def _carrying(
    rows: Iterable[Fields], patient_field: str, text_field: str, command: Command, ref: str = ""
) -> list[Fields]:
    """Keep the patient's rows that hold `ref`, else the command's token; any filter may fail."""
    return [
        row
        for row in rows
        if row.key(patient_field) == command.patient_key
        and carries(row.text(text_field), ref or command.ref)
    ]


def _first(resource: str, key: str, rows: list[Fields]) -> Receipt | None:
    keys = sorted((row.own_key(key) for row in rows), key=int)
    return Receipt(resource, keys[0], already_there=True) if keys else None
