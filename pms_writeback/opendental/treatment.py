"""Commands about treatment: planned procedures, tooth marks, referrals, labs, recalls, fields.

Where the record has a text, the command's token stands in it. A planned procedure, a tooth mark, a
patient field, a lab case's stage and a recall's interval or status are found again by what they
say: writing them twice is one effect, and what somebody else changed meanwhile is never
overwritten.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import assert_never

from node.errors import Conflict, NotFound, Rejected
from pms_writeback.commands import (
    AdvanceLabCase,
    ChangeRecall,
    CreateLabCase,
    CreateReferral,
    MarkToothMissing,
    PlanProcedure,
    SetPatientField,
    SetRecallStatus,
    carries,
    with_ref,
)
from pms_writeback.opendental.connection import Connection
from pms_writeback.opendental.rows import Fields
from pms_writeback.opendental.wire import number, receipt
from pms_writeback.pms import OfficeTime, Receipt

Treatment = (
    PlanProcedure
    | MarkToothMissing
    | CreateReferral
    | CreateLabCase
    | AdvanceLabCase
    | ChangeRecall
    | SetRecallStatus
    | SetPatientField
)
_PLANNED = ("TP", "TPi")
_RECALL_STATUSES = 13  # the category of recall and unscheduled status definitions
_STAGES = {"sent": "DateTimeSent", "received": "DateTimeRecd", "checked": "DateTimeChecked"}


class TreatmentWriter:
    """Sends these commands to one office and finds what they left there."""

    def __init__(self, connection: Connection, office: OfficeTime) -> None:
        self._connection = connection
        self._office = office

    def execute(self, command: Treatment) -> Receipt:
        """Send one command once."""
        match command:
            case PlanProcedure():
                return self._plan(command)
            case MarkToothMissing():
                return self._mark(command)
            case CreateReferral():
                return self._refer(command)
            case CreateLabCase():
                return self._open_lab_case(command)
            case AdvanceLabCase():
                return self._advance(command)
            case ChangeRecall():
                return self._change_recall(command)
            case SetRecallStatus():
                return self._set_status(command)
            case SetPatientField():
                return self._set_field(command)
            case _:
                assert_never(command)

    def find(self, command: Treatment) -> Receipt | None:
        """Search the records of the command's patient for its effect, oldest first."""
        match command:
            case PlanProcedure():
                return self._first("procedurelogs", "ProcNum", self._same_plan(command))
            case MarkToothMissing():
                return self._first("toothinitials", "ToothInitialNum", self._same_mark(command))
            case CreateReferral():
                rows = self._mine("/refattaches", command.patient_key)
                return self._first("refattaches", "RefAttachNum", _carrying(rows, "Note", command))
            case CreateLabCase():
                rows = self._mine("/labcases", command.patient_key)
                found = _carrying(rows, "Instructions", command)
                return self._first("labcases", "LabCaseNum", found)
            case AdvanceLabCase():
                row = self._lab_case(command)
                is_set = row.moment(_STAGES[command.stage]) == self._wall(command.at)
                return self._first("labcases", "LabCaseNum", [row] if is_set else [])
            case ChangeRecall():
                row = self._recall(command)
                is_set = row.text("RecallInterval") == command.interval
                is_ours = carries(row.text("Note"), command.ref)
                return self._first("recalls", "RecallNum", [row] if is_set and is_ours else [])
            case SetRecallStatus():
                row = self._recall(command)
                is_set = row.key("RecallStatus") == self._status_key(command.status)
                return self._first("recalls", "RecallNum", [row] if is_set else [])
            case SetPatientField():
                rows = self._fields(command)
                same = [row for row in rows if row.text("FieldValue") == command.value]
                return self._first("patfields", "PatFieldNum", same)
            case _:
                assert_never(command)

    def _plan(self, command: PlanProcedure) -> Receipt:
        self._check_provider(command.provider_key)
        body: dict[str, str | int] = {
            "PatNum": number(command.patient_key),
            "ProcDate": command.day.isoformat(),
            "ProcStatus": "TP",
            "procCode": command.cdt_code,
            "ProvNum": number(command.provider_key),
        }
        # Empty texts are left out: the vendor ignores them, and areas without a tooth refuse one.
        optional = {
            "ToothNum": command.tooth,
            "Surf": command.surfaces,
            "ClaimNote": command.claim_note,
        }
        body |= {name: text for name, text in optional.items() if text}
        row = self._connection.write("POST", "/procedurelogs", body)
        return receipt("procedurelogs", "ProcNum", row, command.patient_key)

    def _same_plan(self, command: PlanProcedure) -> list[Fields]:
        return [
            row
            for row in self._mine("/procedurelogs", command.patient_key)
            if row.text("ProcStatus") in _PLANNED
            and row.text("procCode") == command.cdt_code
            and row.text("ToothNum") == command.tooth
            and set(row.text("Surf")) == set(command.surfaces)
        ]

    def _mark(self, command: MarkToothMissing) -> Receipt:
        row = self._connection.write(
            "POST",
            "/toothinitials",
            {
                "PatNum": number(command.patient_key),
                "ToothNum": command.tooth,
                "InitialType": "Missing",
            },
        )
        return receipt("toothinitials", "ToothInitialNum", row, command.patient_key)

    def _same_mark(self, command: MarkToothMissing) -> list[Fields]:
        return [
            row
            for row in self._mine("/toothinitials", command.patient_key)
            if row.text("ToothNum") == command.tooth and row.text("InitialType") == "Missing"
        ]

    def _refer(self, command: CreateReferral) -> Receipt:
        # A name that matches nobody would make a new entry in the directory: always by number.
        body: dict[str, str | int] = {
            "PatNum": number(command.patient_key),
            "ReferralNum": number(command.contact_key),
            "ReferralType": "RefTo",  # the default would say that the patient was sent to us
            "RefDate": command.day.isoformat(),
            "Note": with_ref(command.text, command.ref),
        }
        if command.procedure_key:
            body["ProcNum"] = number(command.procedure_key)
        if command.provider_key:
            self._check_provider(command.provider_key)
            body["ProvNum"] = number(command.provider_key)
        row = self._connection.write("POST", "/refattaches", body)
        return receipt("refattaches", "RefAttachNum", row, command.patient_key)

    def _open_lab_case(self, command: CreateLabCase) -> Receipt:
        self._check_provider(command.provider_key)
        body: dict[str, str | int] = {
            "PatNum": number(command.patient_key),
            "LaboratoryNum": number(command.laboratory_key),
            "ProvNum": number(command.provider_key),
            "DateTimeDue": self._text(command.due),
            "Instructions": with_ref(command.text, command.ref),
        }
        if command.appointment_key:
            body["AptNum"] = number(command.appointment_key)
        row = self._connection.write("POST", "/labcases", body)
        return receipt("labcases", "LabCaseNum", row, command.patient_key)

    def _advance(self, command: AdvanceLabCase) -> Receipt:
        row, column = self._lab_case(command), _STAGES[command.stage]
        if row.moment(column) is not None:
            raise Conflict(f"the lab case already has another time for {command.stage}")
        path = f"/labcases/{number(command.lab_case_key)}"
        self._connection.write("PUT", path, {column: self._text(command.at)})
        return Receipt("labcases", command.lab_case_key)

    def _lab_case(self, command: AdvanceLabCase) -> Fields:
        return self._one("/labcases", "LabCaseNum", command.patient_key, command.lab_case_key)

    def _change_recall(self, command: ChangeRecall) -> Receipt:
        row = self._recall(command)
        if row.text("RecallInterval") != command.expected_interval:
            raise Conflict("the recall's interval was changed in the chart meanwhile")
        note = " ".join(part for part in (row.text("Note"), command.text) if part)
        path = f"/recalls/{number(command.recall_key)}"
        body: dict[str, str | int] = {
            "RecallInterval": command.interval,
            "Note": with_ref(note, command.ref),
        }
        self._connection.write("PUT", path, body)
        return Receipt("recalls", command.recall_key)

    def _set_status(self, command: SetRecallStatus) -> Receipt:
        self._recall(command)
        status = number(self._status_key(command.status))
        path = f"/recalls/{number(command.recall_key)}"
        self._connection.write("PUT", path, {"RecallStatus": status})
        return Receipt("recalls", command.recall_key)

    def _status_key(self, name: str) -> str:
        if key := self._connection.definition(_RECALL_STATUSES, name):
            return key
        raise Rejected(f"the office has no recall status {name[:60]!r}")

    def _recall(self, command: ChangeRecall | SetRecallStatus) -> Fields:
        return self._one("/recalls", "RecallNum", command.patient_key, command.recall_key)

    def _set_field(self, command: SetPatientField) -> Receipt:
        now = {row.text("FieldValue") for row in self._fields(command)} or {""}
        if now != {command.expected}:
            raise Conflict("the patient field was changed in the chart meanwhile")
        body: dict[str, str | int] = {
            "PatNum": number(command.patient_key),
            "FieldName": command.name,
            "FieldValue": command.value,
        }
        row = self._connection.write("PUT", "/patfields", body)
        return receipt("patfields", "PatFieldNum", row, command.patient_key)

    def _fields(self, command: SetPatientField) -> list[Fields]:
        rows = self._mine("/patfields", command.patient_key)
        return [row for row in rows if row.text("FieldName") == command.name]

    def _check_provider(self, key: str) -> None:
        """Refuse a provider that is hidden or gone: nothing may be charted in such a name."""
        # One provider by number can be asked for only since 24.4.17.
        rows = self._connection.rows("/providers")
        row = next((row for row in rows if row.key("ProvNum") == key), None)
        if row is None:
            raise Rejected("the office has no such provider; map the provider anew")
        if row.flag("IsHidden") or row.text("ProvStatus") == "Deleted":
            raise Rejected("this provider is hidden in Open Dental; nothing was written")

    def _mine(self, path: str, patient_key: str) -> list[Fields]:
        """Read a patient's rows; a filter that an old version ignores does no harm."""
        rows = self._connection.rows(path, {"PatNum": patient_key})
        return [row for row in rows if row.key("PatNum") == patient_key]

    def _one(self, path: str, key_name: str, patient_key: str, key: str) -> Fields:
        for row in self._mine(path, patient_key):
            if row.key(key_name) == key:
                return row
        raise NotFound("the record is not in this patient's chart; nothing was written")

    def _first(self, resource: str, key: str, rows: Iterable[Fields]) -> Receipt | None:
        keys = sorted((row.own_key(key) for row in rows), key=int)
        return Receipt(resource, keys[0], already_there=True) if keys else None

    def _wall(self, moment: datetime) -> datetime:
        return self._office.to_wall(moment).replace(microsecond=0)

    def _text(self, moment: datetime) -> str:
        return self._office.to_wall(moment).strftime("%Y-%m-%d %H:%M:%S")


def _carrying(
    rows: Iterable[Fields], text: str, command: CreateReferral | CreateLabCase
) -> list[Fields]:
    return [row for row in rows if carries(row.text(text), command.ref)]
