"""What an office's Open Dental version can take, planned before anything is sent.

Versions are those of the API manual: a method newer than the office is refused with 400, a newer
field is dropped silently, which is worse.
"""

from __future__ import annotations

import re

from node.errors import Unsupported
from pms_writeback.pms import (
    AdvanceLabCase,
    AnnotateAppointment,
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
    EstimateBenefit,
    MarkToothMissing,
    MoveAppointment,
    PlanProcedure,
    SetPatientField,
    SetRecallStatus,
    Support,
    TrackClaim,
    UploadDocument,
    VerifyInsurance,
)

Version = tuple[int, ...]

# What each command needs, the search before a resend included.
_NEEDS: dict[type[Command], Version] = {
    AppendProcedureNote: (24, 2, 29),  # ProcNotes POST doAppendNote, ProcNotes GET
    AppendCommlog: (21, 1),  # Commlogs POST and GET
    UploadDocument: (21, 2),  # Documents POST Upload 21.1, Documents GET 21.2
    CreateTask: (22, 3, 17),  # Tasks POST
    CloseTask: (24, 2, 10),  # Tasks PUT TaskStatus
    PlanProcedure: (21, 4),  # ProcedureLogs POST
    MarkToothMissing: (24, 2, 3),  # ToothInitials GET
    CreateReferral: (22, 4, 27),  # RefAttaches GET
    CreatePreauthorization: (23, 2, 5),  # Claims POST
    TrackClaim: (23, 2, 5),  # ClaimTrackings POST and GET
    EstimateBenefit: (22, 3, 33),  # ClaimProcs PUT
    VerifyInsurance: (24, 1, 17),  # InsVerifies PUT Note 24.1.17, GET 23.2.23
    CreateLabCase: (24, 4, 19),  # LabCases POST
    AdvanceLabCase: (24, 4, 19),  # LabCases PUT
    ChangeRecall: (24, 2, 31),  # Recalls PUT
    SetRecallStatus: (24, 2, 31),
    SetPatientField: (21, 1),  # PatFields PUT
    BookAppointment: (21, 4),  # Appointments GET PatNum
    MoveAppointment: (21, 4),
    ConfirmAppointment: (21, 4),
    CancelAppointment: (21, 4),
    AnnotateAppointment: (21, 1),  # Appointments PUT Note and GET (single)
}
TOOTH_NUMBERS_SINCE: Version = (23, 1, 35)
"""First version whose uploads keep ToothNumbers."""
COMMLOG_CHANGES_SINCE: Version = (25, 2, 21)
"""First version whose contact log can be changed."""
TASK_CHANGES_SINCE: Version = (24, 4, 13)
"""First version whose tasks can be read one by one, line ends kept, and changed."""
CLAIM_NOTE_SINCE: Version = (25, 2, 21)
"""First version whose procedures keep a ClaimNote."""
REFERRAL_LINKS_SINCE: Version = (23, 3, 26)
"""First version whose referrals keep a procedure and a provider."""


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


def check_fields(command: Command, version: Version) -> None:
    """Raise Unsupported when this version would silently drop a field that the command needs."""
    match command:
        case PlanProcedure() if command.claim_note and version < CLAIM_NOTE_SINCE:
            raise Unsupported(_newer("a procedure's claim note", CLAIM_NOTE_SINCE, version))
        case CreateReferral() if version < REFERRAL_LINKS_SINCE and (
            command.procedure_key or command.provider_key
        ):
            what = "a referral's procedure and provider"
            raise Unsupported(_newer(what, REFERRAL_LINKS_SINCE, version))
        case _:
            pass


def _newer(what: str, needed: Version, version: Version) -> str:
    return f"{what} needs Open Dental {_dotted(needed)}, the office runs {_dotted(version)}"


def _dotted(version: Version) -> str:
    return ".".join(str(part) for part in version)


def _capability(command: type[Command], version: Version, has_tasks: bool) -> Capability:
    needed = _NEEDS[command]
    if command in (CreateTask, CloseTask) and not has_tasks:
        reason = "no task list and user are configured (pms.task_list, pms.task_user)"
        return Capability(command.__name__, Support.UNSUPPORTED, reason)
    if version < needed:
        reason = f"needs Open Dental {_dotted(needed)}, the office runs {_dotted(version)}"
        return Capability(command.__name__, Support.NEEDS_VERSION, reason)
    return Capability(command.__name__, Support.SUPPORTED)
