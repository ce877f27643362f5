"""What an office's Open Dental version can take, planned before anything is sent.

Versions are those of the API manual: a method newer than the office is refused with 400, a newer
field is dropped silently, which is worse.
"""

from __future__ import annotations

import re

from pms_writeback.pms import (
    AdvanceLabCase,
    AppendCommlog,
    AppendProcedureNote,
    BookAppointment,
    CancelAppointment,
    Capabilities,
    Capability,
    ChangeRecall,
    CloseTask,
    Command,
    ConfirmAppointment,
    CreateLabCase,
    CreatePreauthorization,
    CreateReferral,
    CreateTask,
    MarkToothMissing,
    MoveAppointment,
    PlanProcedure,
    SetPatientField,
    Support,
    TrackClaim,
    UploadDocument,
)

Version = tuple[int, ...]

# What each command needs, the search before a resend included.
_NEEDS: dict[type[Command], Version] = {
    AppendProcedureNote: (24, 2, 29),  # ProcNotes POST doAppendNote, ProcNotes GET
    AppendCommlog: (21, 1),  # Commlogs POST and GET
    UploadDocument: (21, 2),  # Documents POST Upload 21.1, Documents GET 21.2
    CreateTask: (22, 3, 17),  # Tasks POST
    CloseTask: (24, 2, 10),  # Tasks PUT TaskStatus
    PlanProcedure: (21, 1),  # ProcedureLogs POST and GET
    MarkToothMissing: (24, 2, 3),  # ToothInitials GET
    CreateReferral: (22, 4, 27),  # RefAttaches GET
    CreatePreauthorization: (23, 2, 5),  # Claims POST
    TrackClaim: (23, 2, 5),  # ClaimTrackings POST and GET
    CreateLabCase: (24, 2, 28),  # LabCases GET
    AdvanceLabCase: (24, 2, 28),
    ChangeRecall: (24, 2, 31),  # Recalls PUT
    SetPatientField: (21, 1),  # PatFields PUT
    BookAppointment: (21, 4),  # Appointments GET PatNum
    MoveAppointment: (21, 4),
    ConfirmAppointment: (21, 4),
    CancelAppointment: (21, 4),
}
TOOTH_NUMBERS_SINCE: Version = (23, 1, 35)
"""First version whose uploads keep ToothNumbers."""


def read_version(text: str) -> Version:
    """Read "25.2.21.0"; an unreadable one is version 0, which can do nothing."""
    if not re.fullmatch(r"\d+(\.\d+)*", text.strip()):
        return (0,)
    return tuple(int(part) for part in text.strip().split("."))


def capabilities(version_text: str, *, has_tasks: bool) -> Capabilities:
    """List what this office can do; `has_tasks` says that a task list and user are configured."""
    version = read_version(version_text)
    return Capabilities(
        product="Open Dental",
        version=version_text,
        operations=tuple(_capability(command, version, has_tasks) for command in _NEEDS),
    )


def _capability(command: type[Command], version: Version, has_tasks: bool) -> Capability:
    needed = _NEEDS[command]
    if command in (CreateTask, CloseTask) and not has_tasks:
        reason = "no task list and user are configured (pms.task_list, pms.task_user)"
        return Capability(command.__name__, Support.UNSUPPORTED, reason)
    if version < needed:
        wanted = ".".join(str(part) for part in needed)
        running = ".".join(str(part) for part in version)
        reason = f"needs Open Dental {wanted}, the office runs {running}"
        return Capability(command.__name__, Support.NEEDS_VERSION, reason)
    return Capability(command.__name__, Support.SUPPORTED)
