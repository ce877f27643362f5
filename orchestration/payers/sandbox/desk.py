"""The invented payer's desk: what it received, what it decided, and when its answers are due.

One SQLite file; everything is kept under the sender's own ids, so that the same submission twice is
one. Answers come on the desk's clock: acknowledgements after minutes, decisions after days.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Literal

from reportlab.lib.pagesizes import LETTER
from reportlab.pdfgen.canvas import Canvas

from node.errors import Conflict, InvalidInput, NotFound
from orchestration.payers import remittance
from orchestration.payers.sandbox.answers import (
    PAYER_NAME,
    Decision,
    Plan,
    SentClaim,
    compose_271,
    compose_277ca,
    compose_835,
    compose_999,
    read_claim,
    read_question,
)
from orchestration.payers.segments import Envelope, read_interchanges

Clock = Callable[[], datetime]
FaultKind = Literal[
    "down",
    "slow",
    "drop",
    "commit_then_drop",
    "duplicate",
    "out_of_order",
    "malformed",
    "eob_pdf",
    "eob_scan",
    "reject_front_end",
    "reject_syntax",
]
#: Faults of the wire; the others are about the next answers.
WIRE_FAULTS = frozenset({"down", "slow", "drop", "commit_then_drop"})
_MAX_MESSAGES = 50

_SCHEMA = """
CREATE TABLE IF NOT EXISTS submission (
  id TEXT PRIMARY KEY, digest TEXT NOT NULL, x12 TEXT NOT NULL, claim_id TEXT NOT NULL,
  payer_number TEXT NOT NULL, decision TEXT NOT NULL, received_at TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS message (
  id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, kind TEXT NOT NULL,
  submission_id TEXT NOT NULL, due_at TEXT NOT NULL, place INTEGER, media_type TEXT NOT NULL,
  content BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS attachment (
  control_number TEXT PRIMARY KEY, reference TEXT UNIQUE NOT NULL, digest TEXT NOT NULL,
  file_name TEXT NOT NULL, media_type TEXT NOT NULL, content BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
"""


@dataclass(slots=True)
class Fault:
    """One fault that hits the next `count` requests (or answers); ``seconds`` is for ``slow``.

    ``path`` limits faults of the wire to requests below it, ``methods`` to some verbs.
    """

    kind: FaultKind
    count: int = 1
    seconds: float = 0.0
    path: str = "/v1/"
    methods: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Submission:
    """One claim as it stands here."""

    id: str
    claim_id: str
    payer_number: str
    decision: str
    received_at: datetime
    is_new: bool


@dataclass(frozen=True, slots=True)
class Stored:
    """One attachment as it stands here."""

    control_number: str
    reference: str
    file_name: str
    media_type: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Mail:
    """One answer in the inbox; ``place`` is its order there."""

    place: int
    name: str
    kind: str
    submission_id: str
    media_type: str
    content: bytes = field(repr=False)


def utc_now() -> datetime:
    """Tell the time."""
    return datetime.now(UTC)


class Desk:
    """Receives, decides, answers; safe to use from several threads."""

    def __init__(
        self, path: Path, clock: Clock = utc_now, answer_after: timedelta = timedelta(days=3)
    ) -> None:
        self.clock = clock
        self.answer_after = answer_after
        self._lock = threading.RLock()
        self._db = sqlite3.connect(path, check_same_thread=False)
        self._db.executescript(_SCHEMA)
        self._faults: deque[Fault] = deque()
        self._decisions: deque[Decision] = deque()
        self._plans: dict[str, Plan] = {}
        self.is_offline = False

    def close(self) -> None:
        """Release the file."""
        self._db.close()

    # --- what a test or a person at the page arranges ---

    def arm(self, fault: Fault) -> None:
        """Arm a fault."""
        with self._lock:
            self._faults.append(fault)

    def clear_faults(self) -> None:
        """Forget all faults."""
        with self._lock:
            self._faults.clear()
            self.is_offline = False

    def decide(self, *decisions: Decision) -> None:
        """Say how the next submissions are decided, in this order; after them by the rules."""
        with self._lock:
            self._decisions.extend(decisions)

    def set_plan(self, member_id: str, plan: Plan) -> None:
        """Say what a member's plan holds."""
        with self._lock:
            self._plans[member_id] = plan

    def take(self, method: str, path: str) -> Fault | None:
        """Take one use of a wire fault that hits this request."""
        with self._lock:
            for fault in self._faults:
                hits = path.startswith(fault.path) and (
                    not fault.methods or method in fault.methods
                )
                if fault.kind in WIRE_FAULTS and fault.count > 0 and hits:
                    fault.count -= 1
                    return fault
        return None

    # --- what comes in ---

    def ask(self, x12: str) -> str:
        """Answer an eligibility question at once; raises InvalidInput when it is none."""
        (interchange,) = read_interchanges(x12)
        sets = interchange.transactions("270")
        if len(sets) != 1 or interchange.problems:
            raise InvalidInput("one whole 270 is expected")
        asked = read_question(sets[0].segments)
        with self._lock:
            plan = self._plans.get(asked.member_id, Plan())
            return self._spoil(compose_271(self._envelope(), asked, plan))

    def submit(self, submission_id: str, x12: str) -> Submission:
        """Take a claim under the sender's id; the same again is the same submission.

        Raises
        ------
        Conflict
            Another claim came under this id.
        InvalidInput
            It is no whole 837.
        """
        digest = hashlib.sha256(x12.encode()).hexdigest()
        with self._lock, self._db:
            known = self._db.execute(
                "SELECT digest FROM submission WHERE id = ?", (submission_id,)
            ).fetchone()
            if known is not None:
                if known[0] != digest:
                    raise Conflict("another claim came under this id")
                return self._found(submission_id, is_new=False)
            (interchange,) = read_interchanges(x12)
            sets = interchange.transactions("837")
            if len(sets) != 1 or interchange.problems:
                raise InvalidInput("one whole 837 is expected")
            claim = read_claim(sets[0])
            now = self.clock()
            self._db.execute(
                "INSERT INTO submission VALUES (?,?,?,?,?,?,?)",
                (submission_id, digest, x12, claim.id, f"SBX{self._next('payer'):07d}",
                 self._decision(claim), now.isoformat()),
            )  # fmt: skip
            self._plan_answers(submission_id, claim, interchange.groups[0].control, now)
            return self._found(submission_id, is_new=True)

    def find(self, submission_id: str) -> Submission:
        """Look a submission up; raises NotFound."""
        with self._lock:
            return self._found(submission_id, is_new=False)

    def attach(self, reference: str, file_name: str, media_type: str, content: bytes) -> Stored:
        """Keep an attachment under the sender's reference; the same again is the same one.

        Raises Conflict for other bytes under it, InvalidInput for none or too many.
        """
        digest = hashlib.sha256(content).hexdigest()
        if not 1 <= len(content) <= 10_000_000:
            raise InvalidInput("an attachment has 1 byte to 10 MB")
        if media_type not in ("image/jpeg", "image/png", "application/pdf"):
            raise InvalidInput("attachments are JPEG, PNG or PDF")
        with self._lock, self._db:
            known = self._db.execute(
                "SELECT digest FROM attachment WHERE reference = ?", (reference,)
            ).fetchone()
            if known is None:
                number = f"SBX{self._next('attachment'):06d}"
                self._db.execute(
                    "INSERT INTO attachment VALUES (?,?,?,?,?,?)",
                    (number, reference, digest, file_name, media_type, content),
                )
            elif known[0] != digest:
                raise Conflict("another file came under this reference")
            return self._stored(reference)

    def find_attachment(self, reference: str) -> Stored:
        """Look an attachment up; raises NotFound."""
        with self._lock:
            return self._stored(reference)

    def attachments(self) -> list[Stored]:
        """Give all attachments in the order of their numbers."""
        with self._lock:
            rows = self._db.execute("SELECT reference FROM attachment ORDER BY control_number")
            return [self._stored(row[0]) for row in rows.fetchall()]

    def attachment_content(self, control_number: str) -> tuple[str, bytes]:
        """Give an attachment's media type and bytes; raises NotFound."""
        with self._lock:
            row = self._db.execute(
                "SELECT media_type, content FROM attachment WHERE control_number = ?",
                (control_number,),
            ).fetchone()
        if row is None:
            raise NotFound("no such attachment")
        return str(row[0]), bytes(row[1])

    def submissions(self) -> list[tuple[Submission, SentClaim]]:
        """Give everything that was submitted, oldest first."""
        with self._lock:
            rows = self._db.execute("SELECT id, x12 FROM submission ORDER BY received_at, id")
            return [(self._found(row[0], is_new=False), self._claim(row[1])) for row in rows]

    # --- what goes out ---

    def inbox(self, after: int) -> list[Mail]:
        """Give the answers that are due and stand behind `after` in the inbox."""
        now = self.clock().isoformat()
        with self._lock, self._db:
            self._deliver(now)
            rows = self._db.execute(
                "SELECT place, name, kind, submission_id, media_type, content FROM message"
                " WHERE place > ? ORDER BY place LIMIT ?",
                (after, _MAX_MESSAGES),
            ).fetchall()
        return [Mail(*row) for row in rows]

    def repeat(self, place: int) -> None:
        """Put an answer into the inbox again, under the same name, as a nervous sender would."""
        with self._lock, self._db:
            self._db.execute(
                "INSERT INTO message (name, kind, submission_id, due_at, media_type, content)"
                " SELECT name, kind, submission_id, due_at, media_type, content FROM message"
                " WHERE place = ?",
                (place,),
            )

    def answer_again(self, decision: Decision) -> None:
        """Decide anew about the newest claim and answer it once more, as payers correct theirs."""
        with self._lock, self._db:
            row = self._db.execute(
                "SELECT id, x12 FROM submission ORDER BY received_at DESC, id DESC LIMIT 1"
            ).fetchone()
            if row is None:
                raise NotFound("nothing was submitted")
            self._db.execute("UPDATE submission SET decision = ? WHERE id = ?", (decision, row[0]))
            found = self._found(row[0], is_new=False)
            self._answer(row[0], self._claim(row[1]), found, self.clock())

    def _deliver(self, now: str) -> None:
        """Give what has become due its place; a place once given never changes."""
        rows = self._db.execute(
            "SELECT id FROM message WHERE place IS NULL AND due_at <= ? ORDER BY due_at, id", (now,)
        ).fetchall()
        for row in rows:
            place = self._next("place")
            self._db.execute("UPDATE message SET place = ? WHERE id = ?", (place, row[0]))

    def _plan_answers(
        self, submission_id: str, claim: SentClaim, group_control: str, now: datetime
    ) -> None:
        syntax = self._take_answer("reject_syntax") is None
        x12 = compose_999(self._envelope(), group_control, accepted=syntax)
        self._post("999", submission_id, now + timedelta(minutes=1), x12.encode())
        if not syntax:
            return
        known = {row[0] for row in self._db.execute("SELECT control_number FROM attachment")}
        is_taken = set(claim.control_numbers) <= known
        is_taken = self._take_answer("reject_front_end") is None and is_taken
        found = self._found(submission_id, is_new=False)
        number = found.payer_number if is_taken else ""
        status = ("A2", "20") if is_taken else ("A7", "562")
        front = compose_277ca(self._envelope(), claim, number, *status).encode()
        first, second = now + timedelta(minutes=10), now + self.answer_after
        if self._take_answer("out_of_order") is not None:
            first, second = second + timedelta(minutes=5), second
        self._post("277CA", submission_id, first, front)
        if is_taken:
            self._answer(submission_id, claim, found, second)

    def _answer(
        self, submission_id: str, claim: SentClaim, found: Submission, due: datetime
    ) -> None:
        decision: Decision = found.decision  # type: ignore[assignment]  # stored as we wrote it
        x12 = compose_835(self._envelope(), claim, found.payer_number, decision)
        if self._take_answer("eob_pdf") is not None:
            pdf = compose_eob(claim, x12)
            self._post("EOB", submission_id, due, pdf, "application/pdf")
        elif self._take_answer("eob_scan") is not None:
            scan = compose_eob(claim, x12, is_readable=False)
            self._post("EOB", submission_id, due, scan, "application/pdf")
        elif self._take_answer("malformed") is not None:
            self._post("835", submission_id, due, x12[: len(x12) * 2 // 3].encode())
            self._post("835", submission_id, due + timedelta(hours=1), x12.encode())
        else:
            self._post("835", submission_id, due, x12.encode())
            if self._take_answer("duplicate") is not None:
                self._db.execute(
                    "INSERT INTO message (name, kind, submission_id, due_at, media_type, content)"
                    " SELECT name, kind, submission_id, due_at, media_type, content FROM message"
                    " WHERE submission_id = ?",
                    (submission_id,),
                )

    def _post(
        self,
        kind: str,
        submission_id: str,
        due: datetime,
        content: bytes,
        media_type: str = "application/edi-x12",
    ) -> None:
        name = f"msg-{self._next('message'):06d}"
        self._db.execute(
            "INSERT INTO message (name, kind, submission_id, due_at, media_type, content)"
            " VALUES (?,?,?,?,?,?)",
            (name, kind, submission_id, due.isoformat(), media_type, content),
        )

    def _decision(self, claim: SentClaim) -> Decision:
        """Take what was arranged, else approve what comes with a picture or a perio chart."""
        if self._decisions:
            return self._decisions.popleft()
        return "approve" if claim.control_numbers else "more_info"

    def _take_answer(self, kind: FaultKind) -> Fault | None:
        for fault in self._faults:
            if fault.kind == kind and fault.count > 0:
                fault.count -= 1
                return fault
        return None

    def _spoil(self, x12: str) -> str:
        return x12[: len(x12) // 2] if self._take_answer("malformed") else x12

    def _envelope(self) -> Envelope:
        control = self._next("control")
        return Envelope("SANDBOXCH", "BITEWING", control, self.clock(), is_test=True)

    def _next(self, name: str) -> int:
        row = self._db.execute(
            "INSERT INTO counter VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET value = value + 1"
            " RETURNING value",
            (name,),
        ).fetchone()
        return int(row[0])

    def _found(self, submission_id: str, *, is_new: bool) -> Submission:
        row = self._db.execute(
            "SELECT id, claim_id, payer_number, decision, received_at FROM submission WHERE id = ?",
            (submission_id,),
        ).fetchone()
        if row is None:
            raise NotFound("no such submission")
        received_at = datetime.fromisoformat(row[4])
        return Submission(row[0], row[1], row[2], row[3], received_at, is_new)

    def _stored(self, reference: str) -> Stored:
        row = self._db.execute(
            "SELECT control_number, reference, file_name, media_type, length(content)"
            " FROM attachment WHERE reference = ?",
            (reference,),
        ).fetchone()
        if row is None:
            raise NotFound("no such attachment")
        return Stored(*row)

    @staticmethod
    def _claim(x12: str) -> SentClaim:
        return read_claim(read_interchanges(x12)[0].transactions("837")[0])


def compose_eob(claim: SentClaim, x12: str, *, is_readable: bool = True) -> bytes:
    """Print an answer as a portal's PDF; one that is not readable holds a picture of no text."""
    (result,) = remittance.read_835(x12)[0].claims
    buffer = BytesIO()
    canvas = Canvas(buffer, pagesize=LETTER, invariant=1)
    if not is_readable:
        canvas.rect(100, 300, 300, 200, fill=1)
        canvas.showPage()
        canvas.save()
        return buffer.getvalue()
    words = [
        PAYER_NAME,
        "EXPLANATION OF BENEFITS - PREDETERMINATION" if claim.is_predetermination
        else "EXPLANATION OF BENEFITS",
        f"Claim reference: {claim.id}",
        f"Payer claim number: {result.payer_claim_number}",
        f"Patient: {claim.given_name} {claim.family_name}   Member ID: {claim.member_id}",
        "",
        "Procedure   Submitted   Allowed   Patient   Plan pays   Remark",
    ]  # fmt: skip
    for line in result.lines:
        allowed = line.allowed or Decimal(0)
        codes = ",".join(a.reason for a in line.adjustments if a.reason not in ("2", "101"))
        words.append(
            f"{line.submitted_code or line.cdt_code}   {line.charged:.2f}   {allowed:.2f}   "
            f"{line.patient_share:.2f}   {line.expected:.2f}   {codes or '-'}"
        )
    words.append(f"Total plan pays: {result.expected:.2f}")
    for number, text in enumerate(words):
        canvas.drawString(60, 720 - 18 * number, text)
    canvas.showPage()
    canvas.save()
    return buffer.getvalue()
