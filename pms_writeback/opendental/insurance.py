"""Commands about insurance: pre-authorisations, the tracking of claims, answers, verification.

Open Dental transmits nothing by its API: a pre-authorisation is made unsent, its token in the
claim note.
"""

from __future__ import annotations

from typing import assert_never

from node.errors import Conflict, NotFound, Rejected
from pms_writeback.commands import (
    CreatePreauthorization,
    EstimateBenefit,
    TrackClaim,
    VerifyInsurance,
    carries,
    with_ref,
)
from pms_writeback.opendental.connection import Connection
from pms_writeback.opendental.rows import Fields
from pms_writeback.opendental.wire import number, once_sent, receipt
from pms_writeback.pms import Receipt

Insurance = CreatePreauthorization | TrackClaim | EstimateBenefit | VerifyInsurance
_TRACKING = 31  # the category of claim tracking definitions


class InsuranceWriter:
    """Sends these commands to one office and finds what they left there."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def execute(self, command: Insurance) -> Receipt:
        """Send one command once."""
        match command:
            case CreatePreauthorization():
                return self._preauthorize(command)
            case TrackClaim():
                return self._track(command)
            case EstimateBenefit():
                return self._estimate(command)
            case VerifyInsurance():
                return self._verify(command)
            case _:
                assert_never(command)

    def find(self, command: Insurance) -> Receipt | None:
        """Search for what an earlier attempt left."""
        match command:
            case CreatePreauthorization():
                return self._find_preauthorization(command)
            case TrackClaim():
                rows = self._trackings(command)
                keys = sorted(row.own_key("ClaimTrackingNum") for row in rows)
                found = Receipt("claimtrackings", keys[0], already_there=True) if keys else None
                return found
            case EstimateBenefit():
                line = self._line(command)
                done = line is not None and carries(line.text("Remarks"), command.ref)
                key = command.claim_line_key
                return Receipt("claimprocs", key, already_there=True) if done else None
            case VerifyInsurance():
                return self._find_verification(command)
            case _:
                assert_never(command)

    def _preauthorize(self, command: CreatePreauthorization) -> Receipt:
        """Make the claim, then write its note; an attempt cut between the two goes on there."""
        claim = self._unfinished(command)
        key = self._make_claim(command).key if claim is None else claim.own_key("ClaimNum")
        self._write_note(key, command)
        return Receipt("claims", key)

    def _make_claim(self, command: CreatePreauthorization) -> Receipt:
        body: dict[str, str | int | list[int]] = {
            "PatNum": number(command.patient_key),
            "procNums": [number(key) for key in command.procedure_keys],
            "ClaimType": "PreAuth",
            "PatRelat": self._relationship(command),
        }
        if command.subscription_key:
            body["InsSubNum"] = number(command.subscription_key)
        row = self._connection.write("POST", "/claims", body)
        return receipt("claims", "ClaimNum", row, command.patient_key)

    def _relationship(self, command: CreatePreauthorization) -> str:
        """Read what the patient is to the subscriber of the insurance that is asked."""
        rows = self._connection.rows("/patplans", {"PatNum": command.patient_key})
        mine = [row for row in rows if row.key("PatNum") == command.patient_key]
        named = [r for r in mine if command.subscription_key in ("", r.key("InsSubNum"))]
        if not named:
            raise Rejected("the patient does not have this insurance; nothing was written")
        first = min(named, key=lambda row: row.number("Ordinal") or 0)
        return first.text("Relationship") or "Self"

    def _write_note(self, claim: str, command: CreatePreauthorization) -> None:
        note = with_ref(command.text, command.ref)
        with once_sent("the pre-authorisation was made without its note"):
            self._connection.write("PUT", f"/claims/{number(claim)}", {"ClaimNote": note})

    def _find_preauthorization(self, command: CreatePreauthorization) -> Receipt | None:
        """Find our claim by its token, or the unsent one of the very same procedures."""
        for row in self._preauthorizations(command):
            if carries(row.text("ClaimNote"), command.ref):
                return Receipt("claims", row.own_key("ClaimNum"), already_there=True)
        claim = self._unfinished(command)
        if claim is None:
            return None
        return Receipt("claims", claim.own_key("ClaimNum"), already_there=True, is_complete=False)

    def _unfinished(self, command: CreatePreauthorization) -> Fields | None:
        """Find a claim of the very same procedures that has no note yet."""
        for row in self._preauthorizations(command):
            if row.text("ClaimNote") == "" and self._is_of(row, command):
                return row
        return None

    def _preauthorizations(self, command: CreatePreauthorization) -> list[Fields]:
        return [
            row
            for row in self._connection.rows("/claims", {"PatNum": command.patient_key})
            if row.key("PatNum") == command.patient_key and row.text("ClaimType") == "PreAuth"
        ]

    def _is_of(self, claim: Fields, command: CreatePreauthorization) -> bool:
        if claim.text("ClaimStatus") != "U":
            return False
        key = claim.own_key("ClaimNum")
        lines = self._connection.rows("/claimprocs", {"ClaimNum": key})
        procedures = {row.key("ProcNum") for row in lines if row.key("ClaimNum") == key}
        return procedures == set(command.procedure_keys)

    def _track(self, command: TrackClaim) -> Receipt:
        self._check_claim(command)
        row = self._connection.write(
            "POST",
            "/claimtrackings",
            {
                "ClaimNum": number(command.claim_key),
                "Note": with_ref(command.text, command.ref),
                "TrackingDefNum": number(self._status(command.status)),
            },
        )
        return receipt("claimtrackings", "ClaimTrackingNum", row, command.patient_key)

    def _check_claim(self, command: TrackClaim) -> None:
        rows = self._connection.rows("/claims", {"PatNum": command.patient_key})
        mine = {row.key("ClaimNum") for row in rows if row.key("PatNum") == command.patient_key}
        if command.claim_key not in mine:
            raise NotFound("the claim is not this patient's; nothing was written")

    def _trackings(self, command: TrackClaim) -> list[Fields]:
        rows = self._connection.rows("/claimtrackings", {"ClaimNum": command.claim_key})
        return [
            row
            for row in rows
            if row.key("ClaimNum") == command.claim_key and carries(row.text("Note"), command.ref)
        ]

    def _estimate(self, command: EstimateBenefit) -> Receipt:
        """Override the line's estimate; a line that was received meanwhile is left alone."""
        line = self._line(command)
        if line is None:
            raise NotFound("the claim's line is not this patient's; nothing was written")
        if line.text("Status") != "Preauth":
            raise Conflict("the line is no open pre-authorisation any more; nothing was written")
        body = {
            "InsEstTotalOverride": f"{command.cents // 100}.{command.cents % 100:02d}",
            "Remarks": with_ref(command.text, command.ref),
        }
        self._connection.write("PUT", f"/claimprocs/{number(command.claim_line_key)}", body)
        return Receipt("claimprocs", command.claim_line_key)

    def _line(self, command: EstimateBenefit) -> Fields | None:
        rows = self._connection.rows("/claimprocs", {"PatNum": command.patient_key})
        for row in rows:
            is_mine = row.key("PatNum") == command.patient_key
            if is_mine and row.own_key("ClaimProcNum") == command.claim_line_key:
                return row
        return None

    def _verify(self, command: VerifyInsurance) -> Receipt:
        rows = self._connection.rows("/patplans", {"PatNum": command.patient_key})
        mine = {
            row.own_key("PatPlanNum") for row in rows if row.key("PatNum") == command.patient_key
        }
        if command.coverage_key not in mine:
            raise NotFound("the insurance is not this patient's; nothing was written")
        body: dict[str, str | int] = {
            "VerifyType": "PatientEnrollment",
            "FKey": number(command.coverage_key),
            "DateLastVerified": command.day.isoformat(),
            "Note": with_ref(command.text, command.ref),
        }
        row = self._connection.write("PUT", "/insverifies", body)
        return receipt("insverifies", "InsVerifyNum", row, command.patient_key)

    def _find_verification(self, command: VerifyInsurance) -> Receipt | None:
        """Find our note on this coverage; what replaced it later is not found."""
        for row in self._connection.rows("/insverifies", {"VerifyType": "PatientEnrollment"}):
            is_it = row.key("FKey") == command.coverage_key
            if is_it and carries(row.text("Note"), command.ref):
                return Receipt("insverifies", row.own_key("InsVerifyNum"), already_there=True)
        return None

    def _status(self, name: str) -> str:
        if key := self._connection.definition(_TRACKING, name):
            return key
        raise Rejected(
            f"the office has no claim tracking status {name[:60]!r}: add it in Open Dental under"
            " Setup > Definitions > Claim Custom Tracking"
        )
