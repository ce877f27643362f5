"""The API without its transport: a request in, an answer out, one transaction each."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pms_writeback.sandbox.appointments import (
    add_appointment,
    append_appointment_note,
    break_appointment,
    change_appointment,
    confirm_appointment,
)
from pms_writeback.sandbox.care import (
    add_allergy,
    add_disease,
    add_lab_case,
    add_perio_exam,
    add_perio_measure,
    add_recall,
    add_referral_event,
    add_treatment_plan,
    change_lab_case,
    set_patient_field,
    set_recall_status,
    subscribe,
)
from pms_writeback.sandbox.catalog import Match, Operation, Version, match
from pms_writeback.sandbox.claims import (
    add_claim,
    add_patient_plan,
    add_tracking,
    change_claim,
    delete_claim,
    send_claim,
    verify_insurance,
)
from pms_writeback.sandbox.documents import change_document, delete_document, upload_document
from pms_writeback.sandbox.office import add_commlog, add_definition, add_task, change_task
from pms_writeback.sandbox.patients import add_patient, change_patient
from pms_writeback.sandbox.procedures import (
    add_note,
    add_procedure,
    add_tooth_initial,
    change_procedure,
    delete_procedure,
    delete_tooth_initial,
)
from pms_writeback.sandbox.queries import short_query
from pms_writeback.sandbox.reads import read_list, read_one
from pms_writeback.sandbox.rules import add_row, change_row, delete_row
from pms_writeback.sandbox.sftp_documents import sftp_writes
from pms_writeback.sandbox.store import Chart, Store
from pms_writeback.sandbox.tables import KEYS
from pms_writeback.sandbox.wire import Answer, Call, Refusal, read_body, read_page, read_query

ALL_PERMISSIONS = frozenset(
    {
        *("ReadAll", "AllOthers", "Comm", "Documents", "Setup", "Queries"),
        *("Appointments", "Patients", "ProcedureLogs", "Insurance", "InsuranceSimple"),
    }
)
"""Every permission a customer key can carry that the sandbox's operations ask for."""

MAX_BODY = 16_777_216
"""Longest request body in bytes (the manual: about 16.8 million characters)."""

Handler = Callable[[Chart, Call], Answer]

_WRITES: Mapping[str, Handler] = {
    "POST /patients": add_patient,
    "PUT /patients/{id}": change_patient,
    "POST /appointments": add_appointment,
    "PUT /appointments/{id}": change_appointment,
    "PUT /appointments/{id}/Break": break_appointment,
    "PUT /appointments/{id}/Note": append_appointment_note,
    "PUT /appointments/{id}/Confirm": confirm_appointment,
    "POST /procedurelogs": add_procedure,
    "PUT /procedurelogs/{id}": change_procedure,
    "DELETE /procedurelogs/{id}": delete_procedure,
    "POST /procnotes": add_note,
    "POST /documents/Upload": upload_document,
    "PUT /documents/{id}": change_document,
    "DELETE /documents/{id}": delete_document,
    "POST /toothinitials": add_tooth_initial,
    "DELETE /toothinitials/{id}": delete_tooth_initial,
    "POST /commlogs": add_commlog,
    "PUT /commlogs/{id}": change_row,
    "POST /tasks": add_task,
    "PUT /tasks/{id}": change_task,
    "POST /definitions": add_definition,
    "POST /allergies": add_allergy,
    "POST /diseases": add_disease,
    "POST /labcases": add_lab_case,
    "PUT /labcases/{id}": change_lab_case,
    "POST /perioexams": add_perio_exam,
    "POST /periomeasures": add_perio_measure,
    "POST /recalls": add_recall,
    "PUT /recalls/Status": set_recall_status,
    "POST /refattaches": add_referral_event,
    "POST /treatplans": add_treatment_plan,
    "POST /patfields": set_patient_field,
    "PUT /patfields": set_patient_field,
    "POST /claims": add_claim,
    "PUT /claims/{id}": change_claim,
    "PUT /claims/{id}/Status": send_claim,
    "DELETE /claims/{id}": delete_claim,
    "POST /claimtrackings": add_tracking,
    "POST /patplans": add_patient_plan,
    "PUT /insverifies": verify_insurance,
    "POST /subscriptions": subscribe,
    "PUT /queries/ShortQuery": short_query,
}
#: Writes whose rules are the catalogue's alone: the documented fields, kept as they come.
_PLAIN = frozenset(
    {
        *("tasknotes", "providers", "clinics", "carriers", "allergies", "diseases"),
        *("medications", "medicationpats", "treatplans", "treatplanattaches", "proctps"),
        *("perioexams", "periomeasures", "recalls", "claimprocs", "claimtrackings"),
        *("laboratories", "labturnarounds", "referrals", "refattaches", "insplans", "inssubs"),
        *("patplans", "benefits", "covcats", "patfields", "patfielddefs", "popups"),
        "subscriptions",
    }
)
_VERBS: Mapping[tuple[str, int], Handler] = {
    ("POST", 1): add_row,
    ("PUT", 2): change_row,
    ("DELETE", 2): delete_row,
}


def _write(operation: Operation, by_sftp: Mapping[str, Handler]) -> Handler:
    """Choose what carries out a write: its own rules, the catalogue's alone, or a refusal."""
    parts = operation.path.strip("/").split("/")
    plain = _VERBS.get((operation.method, len(parts)))
    is_plain = operation.resource in _PLAIN and parts[1:] in ([], ["{id}"])
    own = _WRITES.get(operation.name) or by_sftp.get(operation.name)
    return own or (plain if plain and is_plain else _not_offered)


@dataclass(frozen=True, slots=True)
class Office:
    """What one sandbox office is: its keys, version, permissions, page cap and throttle.

    ``throttle_s`` is the least time between requests of the customer key; 0 is no throttle, as in
    the vendor's local and service modes. ``sftp_port`` is where it reaches SFTP servers.
    """

    developer_key: str = field(repr=False)
    customer_key: str = field(repr=False)
    version: Version
    permissions: frozenset[str] = ALL_PERMISSIONS
    page_cap: int = 100
    throttle_s: float = 0.0
    sftp_port: int = 22


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request below ``/api/v1``; a fault lets the office ignore its optional filters."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    ignores_filters: bool = False


class Service:
    """Check, route and answer requests."""

    def __init__(self, store: Store, office: Office) -> None:
        self._store = store
        self._office = office
        self._last = float("-inf")
        self._by_sftp = sftp_writes(office.sftp_port)

    def answer(self, request: Request) -> Answer:
        """Answer one request; a refusal rolls its transaction back."""
        try:
            self._admit(request)
            found = self._route(request)
            call = self._read(request, found)
            with self._store.begin() as chart:
                return self._handler(found)(chart, call)
        except Refusal as refusal:
            wait = str(max(1, round(self._office.throttle_s)))
            headers = (("retry-after", wait),) if refusal.status == 429 else ()
            return Answer(refusal.status, refusal.text, headers=headers)

    def _admit(self, request: Request) -> None:
        scheme, _, keys = request.headers.get("authorization", "").partition(" ")
        if scheme != "ODFHIR" or not keys:
            raise Refusal(400, "Authorization header is missing or not of the form ODFHIR key/key.")
        if keys != f"{self._office.developer_key}/{self._office.customer_key}":
            raise Refusal(401, "Invalid developer key or customer key.")
        content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if request.method in ("POST", "PUT") and content_type != "application/json":
            raise Refusal(400, "Content-Type must be application/json.")
        if len(request.body) > MAX_BODY:
            raise Refusal(400, "Request body is too large.")
        now = time.monotonic()
        if now - self._last < self._office.throttle_s:
            raise Refusal(429, "Too many requests.")
        self._last = now

    def _route(self, request: Request) -> Match:
        found = match(request.method, request.path)
        if found is None:
            raise Refusal(404, "The requested resource does not exist.")
        operation = found.operation
        if operation.since > self._office.version:
            wanted = ".".join(str(part) for part in operation.since)
            raise Refusal(400, f"{operation.name} requires Open Dental version {wanted} or later.")
        if operation.permission not in self._office.permissions:
            raise Refusal(401, f"The API key lacks the permission {operation.permission}.")
        return found

    def _read(self, request: Request, found: Match) -> Call:
        operation, version = found.operation, self._office.version
        if request.method == "GET":
            given = read_query(operation, request.query, version)
            if request.ignores_filters:
                needed = {each.name for each in operation.parameters if each.need == "required"}
                given = {name: value for name, value in given.items() if name in needed}
            limit, offset = read_page(request.query, self._office.page_cap)
            return Call(operation, found.key, given, version, limit=limit, offset=offset)
        given, lists = read_body(operation, request.body, version)
        limit, offset = read_page(request.query, self._office.page_cap)
        return Call(operation, found.key, given, version, lists, limit, offset)

    def _handler(self, found: Match) -> Handler:
        operation = found.operation
        if operation.method != "GET":
            return _write(operation, self._by_sftp)
        if operation.path in _LISTS:
            return read_list
        return read_one if operation.path in _SINGLES else _not_offered


_LISTS = frozenset({*(f"/{resource}" for resource in KEYS), "/patients/Simple"})
_SINGLES = frozenset(f"/{resource}/{{id}}" for resource in KEYS)


def _not_offered(_chart: Chart, call: Call) -> Answer:
    raise Refusal(400, f"This sandbox does not offer {call.operation.name}.")
