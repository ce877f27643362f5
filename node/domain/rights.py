"""The one table of who may do what. Pages, routes and workflows ask for rights, never for roles."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """What a person is in the practice; a bundle of rights."""

    DENTIST = "dentist"
    HYGIENIST = "hygienist"
    ASSISTANT = "assistant"
    OFFICE_MANAGER = "office_manager"
    FRONT_DESK = "front_desk"
    LAB_COORDINATOR = "lab_coordinator"
    ADMIN = "admin"
    AUDITOR = "auditor"
    SERVICE = "service"  # a program; it has tokens and never a password


class Right(StrEnum):
    """One thing that the server allows or refuses."""

    WORKLIST_SEE = "worklist.see"  # without `patients.see`: states and problems, no names
    PATIENTS_SEE = "patients.see"
    PATIENTS_LINK = "patients.link"
    IMAGES_SEE = "images.see"
    IMAGES_DOWNLOAD = "images.download"  # the DICOM file as received
    IMAGES_STORE = "images.store"  # bring images by DICOMweb
    IMAGES_RELEASE = "images.release"  # let a picture leave that may name its patient
    IMAGES_MOUNT = "images.mount"  # which place of the mount, and how it hangs
    FINDINGS_SEE_UNSIGNED = "findings.see_unsigned"
    FINDINGS_PROPOSE = "findings.propose"
    FINDINGS_DECIDE = "findings.decide"
    FINDINGS_SIGN = "findings.sign"
    FINDINGS_RETRACT = "findings.retract"  # wrong patient or wrong finding, after signing
    FINDINGS_SEARCH = "findings.search"  # signed findings of all patients
    FINDINGS_EXPORT = "findings.export"
    PATIENT_PAGE_SHOW = "patient_page.show"  # signed findings in plain words
    ANALYSIS_RETRY = "analysis.retry"
    WRITES_RETRY = "writes.retry"  # an entry that the practice system refused
    WORKFLOWS_SEE = "workflows.see"  # cases, their states and figures
    WORKFLOWS_RETRY = "workflows.retry"
    WORKFLOWS_PAUSE = "workflows.pause"
    PREAUTHS_APPROVE = "preauths.approve"
    LAB_CASES_MANAGE = "lab_cases.manage"
    LAB_CASES_PRESCRIBE = "lab_cases.prescribe"  # a licensed dentist's signature
    MESSAGES_APPROVE = "messages.approve"
    RECALLS_ADJUST = "recalls.adjust"  # a clinical interval
    AUDIT_SEE = "audit.see"
    PARTNERS_MANAGE = "partners.manage"  # agreements with outside parties
    USERS_CHANGE = "users.change"
    ROLLOUT_SEE = "rollout.see"
    ROLLOUT_LEAD = "rollout.lead"  # acknowledge, let findings in, approve a calibration
    ROLLOUT_SWITCH = "rollout.switch"  # let workflows in; switch anything back
    GLASS_BREAK = "glass.break"  # open one study in an emergency, with a reason
    GLASS_REVIEW = "glass.review"  # see who did, and why
    FLEET_SEE = "fleet.see"  # how all locations stand, without patients
    FLEET_REPORT = "fleet.report"  # a location's own node says how it stands


#: What breaking the glass gives, for one study and a limited time; never unsigned findings.
EMERGENCY = frozenset({Right.PATIENTS_SEE, Right.IMAGES_SEE})


@dataclass(frozen=True, slots=True)
class Open:
    """Says of a route that it asks for no role, and what it asks for instead.

    A route without this and without a right is refused when the web application is put together.
    """

    why: str

    def __call__(self) -> None:
        """Let everybody pass; the route itself checks what `why` says."""


_R = Right

RIGHTS: dict[Role, frozenset[Right]] = {
    Role.DENTIST: frozenset(
        {_R.WORKLIST_SEE, _R.PATIENTS_SEE, _R.PATIENTS_LINK, _R.IMAGES_SEE, _R.IMAGES_DOWNLOAD}
        | {_R.FINDINGS_SEE_UNSIGNED, _R.FINDINGS_PROPOSE, _R.FINDINGS_DECIDE, _R.FINDINGS_SIGN}
        | {_R.IMAGES_MOUNT, _R.PATIENT_PAGE_SHOW, _R.WRITES_RETRY}
        | {_R.FINDINGS_RETRACT, _R.FINDINGS_SEARCH, _R.FINDINGS_EXPORT, _R.IMAGES_RELEASE}
        | {_R.ANALYSIS_RETRY, _R.WORKFLOWS_SEE, _R.PREAUTHS_APPROVE, _R.RECALLS_ADJUST}
        | {_R.LAB_CASES_MANAGE, _R.LAB_CASES_PRESCRIBE, _R.MESSAGES_APPROVE, _R.IMAGES_STORE}
        | {_R.ROLLOUT_SEE, _R.ROLLOUT_LEAD, _R.ROLLOUT_SWITCH}
    ),
    Role.HYGIENIST: frozenset(
        {_R.WORKLIST_SEE, _R.PATIENTS_SEE, _R.PATIENTS_LINK, _R.IMAGES_SEE, _R.IMAGES_DOWNLOAD}
        | {_R.FINDINGS_SEE_UNSIGNED, _R.FINDINGS_PROPOSE, _R.ANALYSIS_RETRY}
        | {_R.IMAGES_MOUNT, _R.PATIENT_PAGE_SHOW, _R.FINDINGS_SEARCH}
        | {_R.WORKFLOWS_SEE, _R.RECALLS_ADJUST, _R.IMAGES_STORE, _R.ROLLOUT_SEE}
    ),
    Role.ASSISTANT: frozenset(
        {_R.WORKLIST_SEE, _R.PATIENTS_SEE, _R.PATIENTS_LINK, _R.IMAGES_SEE, _R.IMAGES_STORE}
        | {_R.IMAGES_MOUNT, _R.PATIENT_PAGE_SHOW}
    ),
    Role.OFFICE_MANAGER: frozenset(
        {_R.WORKLIST_SEE, _R.ANALYSIS_RETRY, _R.WRITES_RETRY, _R.WORKFLOWS_SEE, _R.WORKFLOWS_RETRY}
        | {_R.WORKFLOWS_PAUSE, _R.PREAUTHS_APPROVE, _R.MESSAGES_APPROVE, _R.LAB_CASES_MANAGE}
        | {_R.GLASS_BREAK, _R.GLASS_REVIEW, _R.ROLLOUT_SEE, _R.ROLLOUT_SWITCH, _R.FLEET_SEE}
        | {_R.PARTNERS_MANAGE}
    ),
    Role.FRONT_DESK: frozenset(
        {_R.WORKFLOWS_SEE, _R.PREAUTHS_APPROVE, _R.MESSAGES_APPROVE, _R.GLASS_BREAK}
    ),
    Role.LAB_COORDINATOR: frozenset({_R.WORKFLOWS_SEE, _R.LAB_CASES_MANAGE}),
    Role.ADMIN: frozenset(
        {_R.WORKLIST_SEE, _R.ANALYSIS_RETRY, _R.WRITES_RETRY, _R.WORKFLOWS_SEE, _R.WORKFLOWS_RETRY}
        | {_R.WORKFLOWS_PAUSE, _R.USERS_CHANGE, _R.GLASS_BREAK, _R.ROLLOUT_SEE, _R.FLEET_SEE}
        | {_R.PARTNERS_MANAGE}
    ),
    Role.AUDITOR: frozenset(
        {_R.WORKLIST_SEE, _R.PATIENTS_SEE, _R.IMAGES_SEE, _R.IMAGES_DOWNLOAD}
        | {_R.FINDINGS_SEE_UNSIGNED, _R.WORKFLOWS_SEE, _R.AUDIT_SEE}
        | {_R.FINDINGS_SEARCH, _R.FINDINGS_EXPORT, _R.GLASS_REVIEW, _R.ROLLOUT_SEE}
    ),
    Role.SERVICE: frozenset(  # the most that a token may be given
        {_R.WORKLIST_SEE, _R.PATIENTS_SEE, _R.IMAGES_SEE, _R.IMAGES_DOWNLOAD, _R.IMAGES_STORE}
        | {_R.FINDINGS_SEARCH, _R.FINDINGS_EXPORT, _R.WORKFLOWS_SEE, _R.FLEET_REPORT}
    ),
}


def rights_of(role: str | None) -> frozenset[Right]:
    """Give what a kept role may do today; nothing for nobody."""
    return RIGHTS[Role(role)] if role else frozenset()


#: How a missing right is named to a person.
WORDS: dict[Right, str] = {
    _R.WORKLIST_SEE: "see the worklist",
    _R.PATIENTS_SEE: "see patients",
    _R.PATIENTS_LINK: "link studies to patients",
    _R.IMAGES_SEE: "see images",
    _R.IMAGES_DOWNLOAD: "download images",
    _R.IMAGES_STORE: "store images",
    _R.IMAGES_RELEASE: "let images with lettering leave the practice",
    _R.IMAGES_MOUNT: "place images on the mount",
    _R.FINDINGS_SEE_UNSIGNED: "see unsigned findings",
    _R.FINDINGS_PROPOSE: "propose decisions on findings",
    _R.FINDINGS_DECIDE: "decide findings",
    _R.FINDINGS_SIGN: "sign findings",
    _R.FINDINGS_RETRACT: "take signed findings back",
    _R.FINDINGS_SEARCH: "search signed findings",
    _R.FINDINGS_EXPORT: "export signed findings",
    _R.PATIENT_PAGE_SHOW: "show the patient page",
    _R.ANALYSIS_RETRY: "start an analysis again",
    _R.WRITES_RETRY: "write to the practice system again",
    _R.WORKFLOWS_SEE: "see workflows",
    _R.WORKFLOWS_RETRY: "retry workflows",
    _R.WORKFLOWS_PAUSE: "pause workflows",
    _R.PREAUTHS_APPROVE: "approve pre-authorisations",
    _R.LAB_CASES_MANAGE: "manage lab cases",
    _R.LAB_CASES_PRESCRIBE: "prescribe to a laboratory",
    _R.MESSAGES_APPROVE: "approve messages to patients",
    _R.RECALLS_ADJUST: "change a patient's recall interval",
    _R.AUDIT_SEE: "see the audit",
    _R.PARTNERS_MANAGE: "manage agreements with partners",
    _R.USERS_CHANGE: "change users",
    _R.ROLLOUT_SEE: "see the roll-out",
    _R.ROLLOUT_LEAD: "lead the roll-out",
    _R.ROLLOUT_SWITCH: "switch workflows and suggestions",
    _R.GLASS_BREAK: "open a study in an emergency",
    _R.GLASS_REVIEW: "see emergency accesses",
    _R.FLEET_SEE: "see how all locations stand",
    _R.FLEET_REPORT: "report how a location stands",
}
