"""The lab desk: what the lab case workflow does at one stage. Stages call one thing here each.

A case's data holds JSON only: ``rx`` the prescription, ``check`` its validation, ``files`` keys of
the store, ``package`` what was sent, ``standing`` what the laboratory said, ``seat`` the visit.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, cast

from node.config import Config
from node.db.session import read
from node.dicom.object_file import size_of
from node.domain.plain_json import decode, encode
from node.errors import InvalidInput, Rejected
from orchestration.case import Case, Decision
from orchestration.labs import chart as labs_chart
from orchestration.labs import checks
from orchestration.labs.callbacks import update_of, update_to_json
from orchestration.labs.chart import case_facts, draft_facts, laboratory_key, patient_procedures
from orchestration.labs.directory import Directory, LabEntry
from orchestration.labs.drafting import compose_draft, due_moment, with_clinician
from orchestration.labs.files import openers, patient_folder, take_files
from orchestration.labs.history import closed_cases
from orchestration.labs.order import order_to_json
from orchestration.labs.package import package_name, write_package
from orchestration.labs.partner import Dispatch, LabUpdate, Receipt
from orchestration.labs.prescription import (
    Laboratory,
    LabRx,
    Remake,
    Restoration,
    Signature,
    rx_from_json,
    rx_to_json,
)
from orchestration.labs.states import LabState, Standing, Step, hear, may_follow
from orchestration.labs.statistics import suggest_lab, suggest_material
from orchestration.labs.validation import ValidationResult, validate
from orchestration.workflow import Draft, Json

STATEMENT = (
    "I prescribe this work. I have examined the patient, checked every field of this prescription "
    "and the files listed in it, and hold the licence named here."
)
SILENT_STATEMENT = "Silent trial. Not signed by anybody, not a prescription; sandbox only."
#: A package up to this size is put together in memory, in bytes.
_IN_MEMORY = 32_000_000
#: New scans are wanted where the fit was at fault; else the old ones do.
_NEEDS_NEW_SCANS = frozenset({"fit", "margin", "contact", "occlusion", "damaged", "wrong_case"})


class LabDesk:
    """The lab desk of one practice."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.directory = Directory(config)

    # --- drafting and checking ---

    def draft(self, case: Case) -> LabRx:
        """Compose the case's first draft and keep it."""
        restoration = self._restoration(case)
        entry = self._choose(case, restoration)
        keys = [str(key) for key in cast("list[str]", case.data["procedures"])]
        with read(case.chart.db) as conn:
            history = closed_cases(conn, case.chart.location_id, case.chart.zone)
        allowed = [m.key for m in self.directory.book.materials.values() if restoration in m.fits]
        facts = draft_facts(
            case, self.config, self.directory, entry, case.key, keys,
            suggest_material(history, restoration, allowed),
        )  # fmt: skip
        rx = compose_draft(facts, self.directory.codes)
        case.data["lab"] = entry.section.key
        keep_rx(case, rx)
        return rx

    def check(self, case: Case) -> ValidationResult:
        """Take in new files, check the prescription against chart and clock, keep the result."""
        keep_rx(case, self._with_visit(case, self._with_files(case, rx_of(case))))
        return self.judge(case)

    def judge(self, case: Case) -> ValidationResult:
        """Check the prescription as it is, and keep the result."""
        entry, rx = self.entry(case), rx_of(case)
        facts = case_facts(
            case, entry, rx.restoration, rx.procedure_codes, rx.teeth,
            cast("list[str]", case.data["procedures"]),
        )  # fmt: skip
        result = validate(rx, facts, self.directory.book, entry.pack, checks.ALL)
        case.data["check"] = cast("Json", result.to_json())
        return result

    def is_wanted(self, case: Case) -> bool:
        """Tell whether the chart still has a procedure of this case."""
        keys = set(cast("list[str]", case.data["procedures"]))
        return any(procedure.key in keys for procedure in patient_procedures(case.chart))

    def offer(self, case: Case) -> Draft:
        """Give what a person is asked to complete or sign."""
        draft: dict[str, object] = {
            "check": case.data["check"],
            "rx": case.data["rx"],
            "lab": self.entry(case).section.name,
            "statement": STATEMENT,
            "files_refused": case.data.get("files_refused", []),
            "suggested_lab": case.data.get("suggested_lab"),
        }
        return cast("Draft", draft)

    def take_edit(self, case: Case, decision: Decision) -> None:
        """Keep what a person changed, with the person as the source of it.

        Case, patient and files are ours: another laboratory may be chosen, a file left out.
        """
        if decision.verdict != "edited":
            return
        before, after = rx_of(case), rx_from_json(decision.draft["rx"])
        lab = self.directory.labs.get(after.lab.key)
        if lab is not None:
            case.data["lab"] = lab.section.key
        entry = self.entry(case)
        shas = {ref.name: ref.sha256 for ref in before.attachments}
        after = replace(
            after,
            case_number=before.case_number,
            patient=before.patient,
            written_on=before.written_on,
            lab=Laboratory(entry.section.key, entry.section.name),
            attachments=tuple(r for r in after.attachments if shas.get(r.name) == r.sha256),
        )
        keep_rx(case, with_clinician(before, after))

    def sign(self, case: Case, decision: Decision) -> None:
        """Put the signature of the person who approved on the prescription.

        Raises Rejected when no licence is on file for that person.
        """
        with read(case.chart.db) as conn:
            licensed = self.directory.prescriber_of_user(conn, case.chart.location_id, decision.by)
        signature = Signature(
            licensed.name, licensed.licence_number, licensed.licence_state, decision.at, STATEMENT,
            decision.by,
        )  # fmt: skip
        keep_rx(case, rx_of(case).signed(signature))

    def sign_silently(self, case: Case) -> None:
        """Mark the draft as a silent trial, so that a sandbox takes it."""
        nobody = Signature("SILENT TRIAL", "NONE", "", case.clock(), SILENT_STATEMENT)
        keep_rx(case, rx_of(case).signed(nobody))

    # --- sending ---

    def pack(self, case: Case) -> Dispatch:
        """Make the package once and keep it; the same prescription gives the same bytes."""
        rx, entry = rx_of(case), self.entry(case)
        name = package_name(rx, entry.pack, case.chart.zone)
        files = openers(case.chart.store, cast("Mapping[str, str]", case.data.get("files", {})))

        def write(out: BinaryIO) -> None:
            # ZIP wants to seek, which a store's file need not
            with SpooledTemporaryFile(max_size=_IN_MEMORY) as whole:
                write_package(
                    cast("BinaryIO", whole), rx, self.directory.book, files, case.chart.zone
                )
                whole.seek(0)
                shutil.copyfileobj(whole, out)

        def make() -> Json:
            key = f"lab-{rx.case_number.lower()}-package.zip"
            stored = case.chart.store.put(case.chart.location_id, key, write)
            return {"name": name, "key": stored.storage_key, "sha256": stored.sha256}

        made = cast("Mapping[str, str]", case.once(f"pack:{round_of(case)}", make))
        case.data["package"] = {**made, "case": rx.case_number}
        size = size_of(case.chart.store.file(made["key"]))
        return Dispatch(
            rx.case_number, made["name"], made["sha256"], size, rx.due_at,
            lambda: case.chart.store.open(made["key"]),
        )  # fmt: skip

    def dispatch(self, case: Case, entry: LabEntry, dispatch: Dispatch) -> None:
        """Send the package once; a way that can look is asked before it is sent again."""

        def submit() -> Json:
            return _receipt(entry.partner.submit(dispatch))

        def look() -> Json | None:
            found = entry.partner.find(dispatch)
            return None if found is None else _receipt(found)

        find = look if entry.partner.can_look else None
        name = f"submit:{round_of(case)}"
        receipt = cast("Mapping[str, Json]", case.outside(entry.outside_name, name, submit, find))
        case.data["lab_case"] = receipt["lab_case"]
        keep_standing(case, Standing(LabState.SENT, case.clock()))

    def order(self, case: Case) -> Draft:
        """Compose the order as other systems read it."""
        rx = rx_of(case)
        facts = case_facts(
            case, self.entry(case), rx.restoration, rx.procedure_codes, rx.teeth,
            cast("list[str]", case.data["procedures"]),
        )  # fmt: skip
        result = validate(rx, facts, self.directory.book, self.entry(case).pack, checks.ALL)
        made = order_to_json(
            rx, result, self.directory.book, case_id=case.id, patient_id=case.patient_id or ""
        )
        return cast("Draft", made)

    # --- the laboratory's words ---

    def hear(self, case: Case, fields: Mapping[str, object]) -> Step:
        """Apply one word of the laboratory; of another laboratory or round it is refused."""
        update = update_of(fields)
        if fields.get("lab", case.data["lab"]) != case.data["lab"]:
            return Step.REFUSED
        heard = [str(each) for each in cast("list[str]", case.data.get("heard", []))]
        if update.case_number != rx_of(case).case_number:
            return Step.REFUSED
        if update.delivery_id in heard:
            return Step.REPEATED
        case.data["heard"] = [*heard, update.delivery_id][-200:]
        standing, step = hear(standing_of(case), update)
        keep_standing(case, standing)
        case.note(word=update.status, step=step.value, at=update.at.isoformat())
        return step

    def poll(self, case: Case, number: int) -> list[LabUpdate]:
        """Ask the laboratory how the case stands; raises Retryable when it is away."""
        entry, rx = self.entry(case), rx_of(case)
        if not entry.partner.can_report:
            return []

        def ask() -> Json:
            words = entry.partner.updates(rx.case_number)
            return cast("Json", [update_to_json(update) for update in words])

        name = f"poll:{round_of(case)}:{number}"
        words = cast("list[Mapping[str, object]]", case.outside(entry.outside_name, name, ask))
        return [update_of(word) for word in words]

    def move(self, case: Case, state: LabState) -> None:
        """Note a step that happened here in the practice. Raises Rejected for one out of order."""
        standing = standing_of(case)
        if not may_follow(standing.state, state):
            raise Rejected(f"a case that is {standing.state.value} cannot become {state.value}")
        keep_standing(case, replace(standing, state=state, at=case.clock()))

    def reopen(self, case: Case, reason: str | None = None, note: str = "") -> None:
        """Begin the case's next round: a remake with its reason, or what the lab sent back."""
        before = rx_of(case)
        number = round_of(case) + 1
        case.data["round"] = number
        remake = before.remake
        if reason is not None:
            remake = Remake(before.case_number, reason, note)
            again: Json = {"case": before.case_number, "reason": reason, "round": number - 1}
            case.data["remade"] = [*cast("list[Json]", case.data.get("remade", [])), again]
        keeps_files = reason not in _NEEDS_NEW_SCANS
        if not keeps_files:
            case.data["files"] = {}
            case.data["files_since"] = case.clock().isoformat()
        after = replace(
            before,
            case_number=f"{case.key}-R{number}",
            written_on=case.chart.today,
            signature=None,
            remake=remake,
            attachments=before.attachments if keeps_files else (),
            due_at=None,
            seat_at=None,
            seat_appointment_key="",
        )
        keep_rx(case, after)
        for name in ("heard", "alerted", "told_eta", "decided_eta", "polls"):
            case.data.pop(name, None)

    # --- smaller things ---

    def entry(self, case: Case) -> LabEntry:
        """The laboratory of the case; in silent mode a sandbox or none."""
        return self.directory.lab(str(case.data["lab"]))

    def reports(self, case: Case) -> bool:
        """Whether the case's laboratory tells or can be asked how a case stands."""
        entry = self.entry(case)
        return entry.partner.can_report or bool(entry.section.webhook_secret.get_secret_value())

    def laboratory_key(self, case: Case) -> str:
        """The PMS's key of the case's laboratory, empty when it has none."""
        return laboratory_key(case.chart, self.entry(case))

    def check_draft(self, draft: Draft) -> None:
        """Refuse an edited prescription that is none, or of another case. Raises InvalidInput."""
        rx = rx_from_json(draft.get("rx"))
        if rx.signature is not None:
            raise InvalidInput("a prescription is signed by approving it, not by editing it")

    def _restoration(self, case: Case) -> Restoration:
        keys = set(cast("list[str]", case.data["procedures"]))
        codes = self.directory.codes
        for procedure in patient_procedures(case.chart):
            if procedure.key in keys and procedure.cdt_code in codes:
                return codes[procedure.cdt_code].restoration
        raise Rejected("the procedure of this case is no longer in the chart")

    def _choose(self, case: Case, restoration: Restoration) -> LabEntry:
        """Take the usual laboratory, and keep which one the figures would suggest."""
        labs = self.directory.labs
        if not labs:
            raise Rejected("no laboratory is configured; add labs.partners")
        with read(case.chart.db) as conn:
            history = closed_cases(conn, case.chart.location_id, case.chart.zone)
        found = suggest_lab(history, restoration)
        if found is not None and found.name in labs:
            case.data["suggested_lab"] = {"lab": found.name, "reasons": list(found.reasons)}
        if case.is_silent and (sandbox := self.directory.sandbox()) is not None:
            return sandbox
        return next(iter(labs.values()))

    def _with_files(self, case: Case, rx: LabRx) -> LabRx:
        folder = patient_folder(self.config.labs.scans_dir, case.chart.pms_key())
        if folder is None:
            return rx
        known = dict(cast("Mapping[str, str]", case.data.get("files", {})))
        keys = set(cast("list[str]", case.data["procedures"]))
        own = [p for p in patient_procedures(case.chart) if p.key in keys]
        text = str(case.data.get("files_since", ""))
        since = datetime.fromisoformat(text) if text else labs_chart.begins_at(own, case.clock())
        taken = take_files(
            case.chart.store, case.chart.location_id, rx.case_number.lower(), folder, since, known
        )
        case.data["files"] = {**known, **taken.keys}
        case.data["files_refused"] = list(dict.fromkeys(taken.refused))
        if not taken.refs:
            return rx
        return replace(rx, attachments=(*rx.attachments, *taken.refs))

    def _with_visit(self, case: Case, rx: LabRx) -> LabRx:
        """Follow the seat visit while nothing is signed: it may be booked or moved meanwhile."""
        if rx.signature is not None:
            return rx
        visit = (
            labs_chart.visit_now(case.chart, rx.seat_appointment_key)
            if rx.seat_appointment_key
            else None
        )
        if visit is None:
            keys = set(cast("list[str]", case.data["procedures"]))
            own = [p for p in patient_procedures(case.chart) if p.key in keys]
            visit = labs_chart.seat_visit(case.chart, own)
        seat_at = visit.starts_at if visit else None
        return replace(
            rx,
            seat_at=seat_at,
            seat_appointment_key=visit.appointment_key if visit else "",
            due_at=rx.due_at or self._due(case, rx, seat_at),
        )

    def _due(self, case: Case, rx: LabRx, seat_at: datetime | None) -> datetime:
        entry = self.entry(case)
        days = labs_chart.turnaround(case.chart, entry, rx.restoration)
        return due_moment(case.chart.today, case.chart.zone, days, entry.pack.holidays, seat_at)


def rx_of(case: Case) -> LabRx:
    """Read the case's prescription."""
    return rx_from_json(case.data["rx"])


def keep_rx(case: Case, rx: LabRx) -> None:
    """Keep the case's prescription."""
    case.data["rx"] = cast("Json", rx_to_json(rx))


def standing_of(case: Case) -> Standing:
    """Read where the case stands."""
    return decode(Standing, case.data["standing"])


def keep_standing(case: Case, standing: Standing) -> None:
    """Keep where the case stands, and when it first came there in this round."""
    case.data["standing"] = cast("Json", encode(standing))
    moments = cast(
        "dict[str, Json]", dict(cast("Mapping[str, Json]", case.data.get("moments", {})))
    )
    moments.setdefault(f"{round_of(case)}:{standing.state.value}", standing.at.isoformat())
    case.data["moments"] = moments


def round_of(case: Case) -> int:
    """Count the remakes so far."""
    return int(str(case.data.get("round", 0)))


def _receipt(receipt: Receipt) -> Json:
    return {"lab_case": receipt.lab_case, "already_there": receipt.already_there}
