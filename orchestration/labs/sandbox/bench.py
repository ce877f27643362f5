"""The bench: the cases of the sandbox laboratory, what it does with them, and when.

A case is acknowledged an hour after it came, begun the next day and shipped a day before it is due
(eight days later where nothing is said). Its clock is given: the real one, faster, or a test's.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO, Literal, get_args

from node.errors import Conflict, InvalidInput, NotFound
from orchestration.labs.callbacks import update_of, update_to_json
from orchestration.labs.package import read_package
from orchestration.labs.partner import LabUpdate
from orchestration.labs.prescription import Restoration

FaultKind = Literal[
    "down",  # takes no connection until cleared
    "slow",  # answers after `seconds`
    "busy",  # refuses for now (429)
    "commit_then_drop",  # takes the package and breaks off
    "duplicate",  # tells the next word twice
    "out_of_order",  # tells the next word after the one that follows it
    "bad_signature",  # signs the next call wrongly, once
    "silent",  # does not tell the next word at all; who asks learns it
    "delay",  # the next case takes `seconds` longer
    "refuse",  # the next case is cancelled by the laboratory
    "wrong_amount",  # the next invoice is 25.00 too high
    "no_case",  # the next invoice does not name its case
    "clear",
]

#: Prices of the house, in the office's currency.
PRICES: dict[Restoration, str] = {
    Restoration.CROWN: "185.00",
    Restoration.BRIDGE: "520.00",
    Restoration.VENEER: "210.00",
    Restoration.INLAY_ONLAY: "150.00",
    Restoration.IMPLANT_CROWN: "340.00",
    Restoration.FULL_DENTURE: "410.00",
    Restoration.PARTIAL_DENTURE: "460.00",
    Restoration.NIGHT_GUARD: "95.00",
}
_ACKNOWLEDGED = timedelta(hours=1)
_BEGUN = timedelta(days=1)
_USUAL = timedelta(days=9)
_ON_THE_WAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault; it meets the next `count` occasions, ``down`` lasts until cleared."""

    kind: FaultKind
    count: int = 1
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in get_args(FaultKind):
            raise InvalidInput(f"no such fault; kinds are {', '.join(get_args(FaultKind))}")
        if not 0 <= self.count <= 100_000 or not 0 <= self.seconds <= 90 * 86400:
            raise InvalidInput("a fault's count or seconds are out of range")


@dataclass(slots=True)
class Job:
    """One case on the bench; times are ISO texts, so that the bench can be kept as JSON."""

    case_number: str
    lab_case: str
    sha256: str
    file_name: str
    received_at: str
    restoration: str
    teeth: list[str]
    patient_number: str
    is_remake: bool
    due_at: str
    packages: int = 1
    plan: list[dict[str, str]] = field(default_factory=list)
    told: list[dict[str, str]] = field(default_factory=list)

    @property
    def status(self) -> str:
        """The last word's status."""
        return next((w["status"] for w in reversed(self.told) if w.get("status")), "received_file")


class Bench:
    """The laboratory's cases, invoices and faults; safe to use from any thread.

    `clock` is its time. `folder` keeps packages and the bench itself over a restart.
    """

    def __init__(self, folder: Path, clock: Callable[[], datetime] | None = None) -> None:
        self._folder = folder
        self._lock = threading.RLock()
        self._faults: list[list[object]] = []
        self._clock = clock or (lambda: datetime.now(UTC))
        self._ahead = timedelta()
        self.is_down = False
        self.jobs: dict[str, Job] = {}
        self.bills: list[dict[str, str]] = []
        self.to_tell: deque[LabUpdate] = deque()
        (folder / "packages").mkdir(parents=True, exist_ok=True)
        self._load()

    def now(self) -> datetime:
        """Tell the laboratory's time."""
        return self._clock() + self._ahead

    def skip(self, span: timedelta) -> None:
        """Put the laboratory's clock forward."""
        with self._lock:
            self._ahead += max(span, timedelta())
            self._save()

    # --- cases ---

    def take(self, case_number: str, file_name: str, sha256: str, file: BinaryIO) -> Job:
        """Take a package in; the same again is the same case.

        Raises
        ------
        InvalidInput
            It is no package of this case, or an unsigned prescription.
        Conflict
            The case came before with other bytes.
        """
        with self._lock:
            known = self.jobs.get(case_number)
            if known is not None:
                if known.sha256 != sha256:
                    raise Conflict("this case came before with another package")
                known.packages += 1
                self._save()
                return known
            package = read_package(file)
            rx = package.rx
            if rx.case_number != case_number or rx.signature is None:
                raise InvalidInput("the package is not a signed prescription of this case")
            file.seek(0)
            (self._folder / "packages" / f"{case_number}.zip").write_bytes(file.read())
            job = Job(
                case_number, f"L-{len(self.jobs) + 1:05d}", sha256, file_name,
                self.now().isoformat(), rx.restoration.value,
                [tooth.universal for tooth in rx.teeth], rx.patient.number,
                rx.remake is not None, rx.due_at.isoformat() if rx.due_at else "",
            )  # fmt: skip
            self._plan(job)
            self.jobs[case_number] = job
            self._save()
            return job

    def job(self, case_number: str) -> Job:
        """Find a case; raises NotFound."""
        with self._lock:
            if case_number not in self.jobs:
                raise NotFound("the laboratory has no such case")
            return self.jobs[case_number]

    def package(self, case_number: str) -> bytes:
        """Read a case's package."""
        return (self._folder / "packages" / f"{self.job(case_number).case_number}.zip").read_bytes()

    def cancel(self, case_number: str) -> Job:
        """Take a case off the bench because the practice says so."""
        with self._lock:
            job = self.job(case_number)
            job.plan.clear()
            self._tell(job, {"status": "cancelled", "note": "cancelled by the practice"})
            self._save()
            return job

    def updates(self, case_number: str) -> list[LabUpdate]:
        """Give all words about a case, oldest first."""
        with self._lock:
            return [update_of(word) for word in self.job(case_number).told]

    def invoices(self, since: str = "") -> list[dict[str, str]]:
        """Give the invoices dated on or after a day."""
        with self._lock:
            return [bill for bill in self.bills if bill["date"] >= since]

    def tick(self) -> int:
        """Do what is due by the laboratory's clock; returns how many words that made."""
        count = 0
        with self._lock:
            now = self.now()
            for job in self.jobs.values():
                while job.plan and datetime.fromisoformat(job.plan[0]["at"]) <= now:
                    self._tell(job, job.plan.pop(0))
                    count += 1
            if count:
                self._save()
        return count

    # --- faults ---

    def arm(self, fault: Fault) -> None:
        """Arm a fault; ``clear`` disarms all."""
        with self._lock:
            if fault.kind == "clear":
                self._faults.clear()
                self.is_down = False
            elif fault.kind == "down":
                self.is_down = True
            else:
                self._faults.append([fault, fault.count])

    def met(self, kind: FaultKind) -> Fault | None:
        """Use up one armed fault of a kind."""
        with self._lock:
            for armed in self._faults:
                fault, left = armed
                assert isinstance(fault, Fault)
                assert isinstance(left, int)
                if fault.kind == kind and left > 0:
                    armed[1] = left - 1
                    return fault
        return None

    # --- inside ---

    def _plan(self, job: Job) -> None:
        now = self.now()
        due = datetime.fromisoformat(job.due_at) if job.due_at else now + _USUAL
        late = self.met("delay")
        eta = due + timedelta(seconds=late.seconds) if late else due
        begun = now + _BEGUN
        shipped = max(eta - _ON_THE_WAY, begun + timedelta(hours=1))
        job.plan = [
            {"at": (now + _ACKNOWLEDGED).isoformat(), "status": "acknowledged",
             "eta": due.isoformat()},
            {"at": begun.isoformat(), "status": "in_production", "eta": eta.isoformat(),
             "note": "a unit is fired again" if late else ""},
            {"at": shipped.isoformat(), "status": "shipped", "eta": eta.isoformat(),
             "carrier": "Sandbox Parcel", "tracking": f"SBX{job.lab_case[2:]}"},
        ]  # fmt: skip
        if self.met("refuse"):
            note = "the margin cannot be read on the scan; please send a new one"
            at = (now + _ACKNOWLEDGED).isoformat()
            job.plan = [{"at": at, "status": "cancelled", "note": note}]

    def _tell(self, job: Job, word: Mapping[str, str]) -> None:
        number = len(job.told) + 1
        at = word.get("at") or self.now().isoformat()
        told = {
            **word, "id": f"{job.lab_case}-{number}", "case": job.case_number, "at": at,
            "lab_case": job.lab_case,
        }  # fmt: skip
        update = update_of(told)
        job.told.append(update_to_json(update))
        self.to_tell.append(update)
        if update.status == "shipped":
            self._bill(job, at)

    def _bill(self, job: Job, at: str) -> None:
        amount = "0.00" if job.is_remake else PRICES[Restoration(job.restoration)]
        if self.met("wrong_amount"):
            amount = f"{float(amount) + 25:.2f}"
        self.bills.append(
            {
                "number": f"INV-{len(self.bills) + 1:05d}",
                "case": "" if self.met("no_case") else job.case_number,
                "lab_case": "" if self.met("no_case") else job.lab_case,
                "date": at[:10],
                "amount": amount,
                "patient": job.patient_number,
                "teeth": ",".join(job.teeth),
                "description": job.restoration,
            }
        )

    @property
    def _file(self) -> Path:
        return self._folder / "bench.json"

    def _load(self) -> None:
        if not self._file.exists():
            return
        kept = json.loads(self._file.read_text())
        self.jobs = {row["case_number"]: Job(**row) for row in kept["jobs"]}
        self.bills = kept["bills"]
        self.to_tell.extend(update_of(word) for word in kept["to_tell"])
        self._ahead = timedelta(seconds=kept["ahead_s"])

    def _save(self) -> None:
        kept = {
            "jobs": [asdict(job) for job in self.jobs.values()],
            "bills": self.bills,
            "to_tell": [update_to_json(update) for update in self.to_tell],
            "ahead_s": self._ahead.total_seconds(),
        }
        part = self._file.with_suffix(".part")
        part.write_text(json.dumps(kept))
        part.replace(self._file)
