"""Rows of the audit as DICOM audit messages (PS3.15 A.5), for a practice's audit repository.

Told are starts, sign-ins, accesses, transfers, queries, imports, exports and changes of users and
security; what the program does for itself (sweeps, cases, clocks) stays in the node's own audit.
A message names the patient by number, as the standard asks; never by name.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from xml.etree import ElementTree as ET

_TRANSFER, _ACCESS, _QUERY = "110104", "110103", "110112"
_LOGIN, _ALERT, _EXPORT, _IMPORT = "110114", "110113", "110106", "110107"
_ACTIVITY, _LOG_USED = "110100", "110101"
#: PS3.16 CID 400, 401 and 402.
_MEANINGS = {
    _ACTIVITY: "Application Activity",
    _LOG_USED: "Audit Log Used",
    _ACCESS: "DICOM Instances Accessed",
    _TRANSFER: "DICOM Instances Transferred",
    _EXPORT: "Export",
    _IMPORT: "Import",
    _QUERY: "Query",
    _ALERT: "Security Alert",
    _LOGIN: "User Authentication",
    "110120": "Application Start",
    "110122": "Login",
    "110123": "Logout",
    "110127": "Emergency Override Started",
    "110131": "Security Configuration",
    "110137": "User Security Attributes Changed",
    "110150": "Application",
    "110152": "Destination Role ID",
    "110153": "Source Role ID",
    "110180": "Study Instance UID",
}


@dataclass(frozen=True, slots=True)
class Kind:
    """What one action of the audit is to the standard.

    ``action`` is C, R, U, D or E; ``event_type`` is empty where the event needs none.
    """

    event: str
    action: str
    event_type: str = ""
    outcome: int = 0  # 4: refused, by the person's or peer's doing


#: By the action's exact name, or by its first part with a star.
_KINDS: Mapping[str, Kind] = {
    "config.effective": Kind(_ACTIVITY, "E", "110120"),
    "session.opened": Kind(_LOGIN, "E", "110122"),
    "session.ended": Kind(_LOGIN, "E", "110123"),
    "session.all_ended": Kind(_LOGIN, "E", "110123"),
    "session.others_ended": Kind(_LOGIN, "E", "110123"),
    "user.wrong_password": Kind(_LOGIN, "E", "110122", outcome=4),
    "user.preferences_changed": Kind("", ""),
    "user.*": Kind(_ALERT, "U", "110137"),
    "token.used": Kind(_LOGIN, "E", "110122"),
    "token.*": Kind(_ALERT, "U", "110137"),
    "second_factor.*": Kind(_ALERT, "U", "110137"),
    "recovery_codes.*": Kind(_ALERT, "U", "110137"),
    "certificate.*": Kind(_ALERT, "U", "110131"),
    "keys.*": Kind(_ALERT, "U", "110131"),
    "rollout.*": Kind(_ALERT, "U", "110131"),
    "emergency.opened": Kind(_ALERT, "E", "110127"),
    "image.received": Kind(_TRANSFER, "C"),
    "image.sent": Kind(_TRANSFER, "R"),
    "result.done": Kind(_TRANSFER, "R"),
    "archive.moved": Kind(_TRANSFER, "R"),
    "archive.retrieved": Kind(_TRANSFER, "R"),
    "archive.queried": Kind(_QUERY, "E"),
    "archive.searched": Kind(_QUERY, "E"),
    "worklist.queried": Kind(_QUERY, "E"),
    "patients.searched": Kind(_QUERY, "E"),
    "findings.searched": Kind(_QUERY, "E"),
    "archive.opened": Kind(_ACCESS, "R"),
    "study.opened": Kind(_ACCESS, "R"),
    "study.linked": Kind(_ACCESS, "U"),
    "chart.opened": Kind(_ACCESS, "R"),
    "image.opened": Kind(_ACCESS, "R"),
    "image.previewed": Kind(_ACCESS, "R"),
    "images.compared": Kind(_ACCESS, "R"),
    "images.rejected": Kind(_ACCESS, "U"),
    "patient_page.shown": Kind(_ACCESS, "R"),
    "patient_page.printed": Kind(_EXPORT, "R"),
    "review.*": Kind(_ACCESS, "U"),
    "pixels.removed": Kind(_ACCESS, "D"),
    "image.downloaded": Kind(_EXPORT, "R"),
    "image.released": Kind(_ACCESS, "U"),
    "findings.exported": Kind(_EXPORT, "R"),
    "training.exported": Kind(_EXPORT, "R"),
    "file.imported": Kind(_IMPORT, "C"),
    "audit.*": Kind(_LOG_USED, "R"),
}


def kind_of(action: str) -> Kind | None:
    """Find what an action is to the standard; None where it is not told."""
    kind = _KINDS.get(action) or _KINDS.get(f"{action.partition('.')[0]}.*")
    return kind if kind is not None and kind.event else None


@dataclass(frozen=True, slots=True)
class Party:
    """Somebody or something that took part; `role` is a code of CID 402 or empty."""

    user_id: str
    is_requestor: bool
    role: str = ""
    other_id: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True)
class Told:
    """What a message says besides what it is: who, and about whom and what."""

    at: datetime
    source_id: str  # which node
    site_id: str  # which location
    parties: tuple[Party, ...]
    patient_id: str = ""
    study_uid: str = ""
    sop_classes: Mapping[str, int] = field(default_factory=dict)  # instances of each
    query: str = ""


def compose(kind: Kind, told: Told) -> str:
    """Write the message as XML (PS3.15 A.5.1)."""
    root = ET.Element("AuditMessage")
    event = ET.SubElement(
        root,
        "EventIdentification",
        EventActionCode=kind.action,
        EventDateTime=told.at.isoformat(timespec="milliseconds"),
        EventOutcomeIndicator=str(kind.outcome),
    )
    _code(event, "EventID", kind.event)
    if kind.event_type:
        _code(event, "EventTypeCode", kind.event_type)
    for party in told.parties:
        _add_party(root, party)
    source = ET.SubElement(
        root,
        "AuditSourceIdentification",
        AuditEnterpriseSiteID=_clean(told.site_id),
        AuditSourceID=_clean(told.source_id),
    )
    ET.SubElement(source, "AuditSourceTypeCode", {"csd-code": "4"})  # application server process
    if told.study_uid:
        _add_study(root, told)
    if told.patient_id:
        item = _object(root, told.patient_id, "1", "1")
        _code(item, "ParticipantObjectIDTypeCode", "2", "RFC-3881", "Patient Number")
    if told.query:
        item = _object(root, told.source_id, "2", "24")  # the query itself
        _code(item, "ParticipantObjectIDTypeCode", "10", "RFC-3881", "Search Criteria")
        query = base64.b64encode(told.query.encode()).decode("ascii")
        ET.SubElement(item, "ParticipantObjectQuery").text = query
    return '<?xml version="1.0" encoding="UTF-8"?>' + ET.tostring(root, encoding="unicode")


def _add_party(root: ET.Element, party: Party) -> None:
    attributes = {
        "UserID": _clean(party.user_id) or "unknown",
        "UserIsRequestor": "true" if party.is_requestor else "false",
    }
    if party.other_id:
        attributes["AlternativeUserID"] = _clean(party.other_id)
    if party.address:
        attributes["NetworkAccessPointID"] = _clean(party.address)
        is_address = re.fullmatch(r"[0-9a-fA-F:.]+", party.address) is not None
        attributes["NetworkAccessPointTypeCode"] = "2" if is_address else "1"
    item = ET.SubElement(root, "ActiveParticipant", attributes)
    if party.role:
        _code(item, "RoleIDCode", party.role)


def _add_study(root: ET.Element, told: Told) -> None:
    item = _object(root, told.study_uid, "2", "3")  # a system object, in the role of a report
    _code(item, "ParticipantObjectIDTypeCode", "110180")
    if told.sop_classes:
        about = ET.SubElement(item, "ParticipantObjectDescription")
        for uid, count in told.sop_classes.items():
            ET.SubElement(about, "SOPClass", UID=uid, NumberOfInstances=str(count))


def _object(root: ET.Element, object_id: str, kind: str, role: str) -> ET.Element:
    return ET.SubElement(
        root,
        "ParticipantObjectIdentification",
        ParticipantObjectID=_clean(object_id),
        ParticipantObjectTypeCode=kind,
        ParticipantObjectTypeCodeRole=role,
    )


def _code(
    parent: ET.Element, name: str, value: str, scheme: str = "DCM", meaning: str = ""
) -> None:
    attributes = {
        "csd-code": value,
        "codeSystemName": scheme,
        "originalText": meaning or _MEANINGS[value],
    }
    ET.SubElement(parent, name, attributes)


def _clean(text: str) -> str:
    """Leave out what XML 1.0 cannot hold."""
    return re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "", text)
