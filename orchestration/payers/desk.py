"""What the pre-authorisation workflow does at one stage; stages stay short and say what follows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import cast

from node.errors import BitewingError, InvalidInput, Rejected, Retryable
from orchestration.case import Case
from orchestration.payers import claim837, dispatch, verdicts
from orchestration.payers.claim import MAX_NARRATIVE, Attachment, Report
from orchestration.payers.coverage import ask_payer, verification_words
from orchestration.payers.mail import KeptMail, read_mail
from orchestration.payers.narrative import (
    Narrative,
    check_answer,
    narrative_for_claim,
    objections,
    place_words,
)
from orchestration.payers.office import PayerOffice
from orchestration.payers.policy import NoPolicy, Policy
from orchestration.payers.request import (
    Request,
    build_claim,
    claim_id_of,
    claim_record,
    eligibility_draft,
    known_values,
    line_words,
    perio_lines,
    read_request,
    submission_id_of,
)
from orchestration.steps import Paced, Paused
from orchestration.workflow import Draft, Json
from pms_writeback.commands import (
    MAX_CLAIM_NOTE,
    AppendCommlog,
    CreatePreauthorization,
    CreateTask,
    EstimateBenefit,
    TrackClaim,
    UploadDocument,
    VerifyInsurance,
    with_ref,
)
from pms_writeback.records import PmsRecord, RecordKind

PARTNER = "payer"
_INSTRUCTIONS = (
    "You word requests for pre-authorisation to a US dental payer. Use only the facts given. State"
    " no tooth, number, date, surface or condition that stands in none of them. No opinion, no"
    f" exaggeration, no greeting. At most {MAX_NARRATIVE} characters, plain text."
)


class PreauthDesk:
    """The desk of one practice."""

    def __init__(self, office: PayerOffice) -> None:
        self.office = office

    # --- reading ---

    def look(self, case: Case) -> Request:
        """Read the request anew."""
        keys = [str(key) for key in _list(case.data.get("procedures"))]
        return read_request(self.office, case.chart, case.patient_id, keys)

    def policy(self, request: Request) -> Policy:
        """Give the insurance; raises Rejected when it went away meanwhile."""
        if isinstance(request.policy, NoPolicy):
            raise Rejected(request.policy.reason)
        return request.policy

    def attempt(self, case: Case) -> int:
        """Say for which time the payer is asked, from 1."""
        return int(str(case.data.get("attempt", 1)))

    def answers(self, case: Case) -> dict[str, str]:
        """Give the clinician's answers so far."""
        return {key: str(value) for key, value in _dict(case.data.get("answers")).items()}

    def lines(self, case: Case) -> dict[str, str]:
        """Give the procedures that were sent, with their codes."""
        return {key: str(code) for key, code in _dict(case.data.get("sent")).items()}

    def begin_again(self, case: Case) -> None:
        """Forget how a case that is taken up again ended; what was sent goes under a new id."""
        if case.data.get("claim_ids"):
            case.data["attempt"] = self.attempt(case) + 1
        case.data["asked_before"] = case.data.get("asked", 0)
        for name in ("missing_since", "told", "reminders"):
            case.data.pop(name, None)

    # --- eligibility ---

    def ask_eligibility(self, case: Case, request: Request) -> Draft:
        """Ask the payer once a round; the answer is kept and noted on the patient's insurance."""
        policy = self.policy(request)
        asked = int(str(case.data.get("asked", 0)))
        name = f"eligibility:{asked}"
        kept = case.outside(
            PARTNER,
            name,
            lambda: ask_payer(
                self.office, policy, f"{case.id}:{asked}", case.clock(), request.service_types
            ),
        )
        answer = cast("Draft", kept)
        case.data["eligibility"] = answer
        ref = case.ref(name)
        words = verification_words(answer)
        day = self._today(case)
        pms_key = case.chart.pms_key()
        case.queue(name, VerifyInsurance(pms_key, policy.coverage_key, day, words, ref))
        self._ask_secondary(case, request, asked)
        return answer

    def _ask_secondary(self, case: Case, request: Request, asked: int) -> None:
        """Ask the insurance that pays second too; what it cannot say now holds nothing up."""
        policy = request.secondary
        case.data.pop("eligibility_secondary", None)
        if not isinstance(policy, Policy):
            return
        name = f"eligibility:{asked}:2"
        try:
            kept = case.outside(
                PARTNER,
                name,
                lambda: ask_payer(
                    self.office, policy, f"{case.id}:{asked}:2", case.clock(), request.service_types
                ),
            )
        except (Paused, Paced):
            raise
        except (Retryable, Rejected, InvalidInput) as error:
            case.note(secondary="not asked", reason=str(error))
            return
        case.data["eligibility_secondary"] = kept
        words, ref = verification_words(cast("Draft", kept)), case.ref(name)
        pms_key, day = case.chart.pms_key(), self._today(case)
        case.queue(name, VerifyInsurance(pms_key, policy.coverage_key, day, words, ref))

    # --- words ---

    def questions(self, case: Case, request: Request, narrative: Narrative) -> Draft:
        """Put what only a clinician knows as a draft to be filled in."""
        places = {w.planned.key: f"{w.rule.label} {place_words(w.planned)}" for w in request.wishes}
        return {
            "questions": [
                {
                    "id": slot.id,
                    "about": places.get(slot.procedure_key, "").strip(),
                    "question": slot.question,
                    "options": list(slot.options),
                    "unit": slot.unit,
                }
                for slot in narrative.open_slots
            ],
            "answers": {slot.id: "" for slot in narrative.open_slots},
            "facts": [sentence.long for sentence in narrative.sentences],
            "notes": self._notes(case, request),
        }

    def keep_answers(self, case: Case, draft: Draft) -> None:
        """Take a clinician's answers into the case."""
        answers: dict[str, Json] = {**_dict(case.data.get("answers"))}
        for key, text in _dict(draft.get("answers")).items():
            slot = self.office.book.slots.get(key.partition(":")[0])
            if slot is not None and str(text).strip():
                answers[key] = check_answer(slot, str(text))
        case.data["answers"] = answers

    def check_answers(self, draft: Draft) -> None:
        """Refuse answers that are none; raises InvalidInput naming the question."""
        asked = {str(q["id"]) for q in _list(draft.get("questions")) if isinstance(q, dict)}
        for key, text in _dict(draft.get("answers")).items():
            slot = self.office.book.slots.get(key.partition(":")[0])
            if slot is None or key not in asked:
                raise InvalidInput("an answer belongs to none of the questions")
            if str(text).strip():
                check_answer(slot, str(text))

    def proposal(self, case: Case, request: Request) -> Draft:
        """Draft the request as whoever approves it reads it."""
        narrative = request.narrative(self.office, self.answers(case))
        text, wording, refused = self._worded(case, request, narrative)
        policy = self.policy(request)
        enclosed = dispatch.enclosures(
            self.office, case.chart, request, policy, narrative.long_text()
        )
        case.data["proposed"] = self._print(case, request)
        warnings = [*self._news(case), *request.warnings, *refused]
        by_hand = dispatch.pms_images(request)
        if by_hand:
            warnings.append(f"{by_hand} pictures are in the PMS only: send them on request")
        return {
            "payer": f"{policy.insurance.payer_name} ({policy.insurance.payer_id})",
            "lines": [line_words(wish) for wish in request.wishes],
            "total": f"{request.total:.2f}",
            "narrative": text,
            "wording": wording,
            "sentences": [
                {"text": s.long, "short": s.short, "sources": list(s.sources)}
                for s in narrative.sentences
            ],
            "enclosures": [each.file_name for each in enclosed],
            "warnings": list(dict.fromkeys(warnings)),
            "eligibility": eligibility_draft(case.data.get("eligibility")),
            **self._coordination(case, request),
        }

    def _coordination(self, case: Case, request: Request) -> Draft:
        """Say who pays after the primary insurance, to which alone the request goes."""
        if not isinstance(request.secondary, Policy):
            return {}
        second = request.secondary.insurance
        return {
            "coordination": (
                f"Goes to the primary insurance only. {second.payer_name} ({second.payer_id}) pays "
                "second: it is named in the request, and asked with the primary's answer."
            ),
            "eligibility_secondary": eligibility_draft(case.data.get("eligibility_secondary")),
        }

    def has_changed(self, case: Case, request: Request) -> bool:
        """Tell whether plan, payer, evidence or answers are no longer those that were approved."""
        proposed = case.data.get("proposed")  # a case of an earlier release kept none
        return proposed is not None and proposed != self._print(case, request)

    def _print(self, case: Case, request: Request) -> str:
        """Give a digest of everything that an approver decides on, its words apart."""
        policy = self.policy(request)
        insurance = policy.insurance
        second = request.secondary.insurance if isinstance(request.secondary, Policy) else None
        parts = [
            *(insurance.payer_id, insurance.member_id, policy.subscription_key),
            *((second.payer_id, second.member_id) if second else ()),
            *(f"{wish.planned.key} {line_words(wish)}" for wish in request.wishes),
            *request.image_ids,
            *perio_lines(request.facts),
            request.narrative(self.office, self.answers(case)).long_text(),
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def _news(self, case: Case) -> list[str]:
        words = "plan, payer or evidence changed after it was approved; please decide again"
        return [words] if case.data.pop("changed", False) else []

    def check_proposal(self, draft: Draft) -> None:
        """Refuse an edited narrative that says what no fact says, or does not fit the claim."""
        text = str(draft.get("narrative", ""))
        if not text.strip() or len(text) > MAX_NARRATIVE:
            raise InvalidInput(f"a narrative has 1 to {MAX_NARRATIVE} characters")
        facts = [
            f"{s.get('text')} {s.get('short')}"
            for s in _list(draft.get("sentences"))
            if isinstance(s, dict)
        ]
        found = objections(text, Narrative((), ()), facts)
        if found:
            raise InvalidInput("the narrative says what no fact says: " + "; ".join(found[:5]))

    def _worded(
        self, case: Case, request: Request, narrative: Narrative
    ) -> tuple[str, str, list[str]]:
        """Word the claim's text: the template's sentences, or a model's draft that holds."""
        template = narrative.claim_text()
        if not self.office.gateway.is_on:
            return template, "template", []
        kept = case.once(
            f"wording:{self.attempt(case)}:{_digest(narrative.long_text())}",
            self._ask_model, narrative, known_values(request, case.chart.pms_key()),
        )  # fmt: skip
        drafted = _dict(kept)
        if drafted.get("text"):
            return str(drafted["text"]), f"language model {drafted['model']}", []
        return template, "template", [f"a language model's draft was refused: {drafted['why']}"]

    def _ask_model(self, narrative: Narrative, known: Sequence[str]) -> Json:
        try:
            answer = self.office.gateway.ask(
                "narrative", _INSTRUCTIONS, narrative.long_text(), known
            )
        except BitewingError as error:
            return {"text": "", "why": str(error)}
        text = " ".join(answer.text.split())
        found = objections(text, narrative)
        if len(text) > MAX_NARRATIVE:
            found = (*found, "it is too long")
        if found:
            return {"text": "", "why": "; ".join(found[:5])}
        return {"text": text, "model": answer.model}

    def _notes(self, case: Case, request: Request) -> list[Json]:
        """Give the chart's notes on the planned procedures, for the clinician's eyes only."""
        keys = {wish.planned.key for wish in request.wishes}
        return [
            str(note.values.get("text") or "")
            for note in case.records(RecordKind.PROCEDURE_NOTE)
            if str(note.values.get("procedure_key") or "") in keys
        ]

    # --- going out ---

    def file_in_pms(self, case: Case, request: Request) -> None:
        """Make the unsent pre-authorisation in the PMS, once whatever is sent again."""
        if case.data.get("claim_ref"):
            return
        ref = case.ref("claim")
        room = MAX_CLAIM_NOTE - len(with_ref("", ref)) - 1
        text = narrative_for_claim(str(case.data["narrative"]), room)
        keys = tuple(wish.planned.key for wish in request.wishes)
        subscription = self.policy(request).subscription_key
        pms_key = case.chart.pms_key()
        case.queue("claim", CreatePreauthorization(pms_key, keys, subscription, text, ref))
        case.data["claim_ref"] = ref

    def attach(self, case: Case, request: Request) -> None:
        """Send every file once; their control numbers are kept."""
        policy, number = self.policy(request), self.attempt(case)
        long_text = request.narrative(self.office, self.answers(case)).long_text()
        rows: list[Json] = []
        for place, each in enumerate(
            dispatch.enclosures(self.office, case.chart, request, policy, long_text), start=1
        ):
            reference = f"{case.id}-{number}-{place}"
            control = self._attach_one(case, f"attach:{number}:{place}", each, reference)
            rows.append({"report": each.report, "control_number": control})
        rows += [{"report": "RB", "control_number": ""}] * bool(dispatch.pms_images(request))
        case.data["attachments"] = rows

    def _attach_one(self, case: Case, name: str, each: dispatch.Enclosure, reference: str) -> Json:
        house = self.office.house
        return case.outside(
            PARTNER,
            name,
            lambda: house.attach(each.photo(reference)),
            lambda: house.find_attachment(reference),
        )

    def compose(self, case: Case, request: Request) -> None:
        """Write the 837D and the portal's PDF as approved; what changes later changes neither."""
        number = self.attempt(case)
        claim_id = claim_id_of(case.id, number)
        case.once(f"x12:{number}", self._compose, case, request, claim_id)
        self._file_portal_pdf(case, request, claim_id)
        case.data["composed"] = {
            "attempt": number,
            "lines": {wish.planned.key: wish.planned.cdt_code for wish in request.wishes},
            "payer": self.policy(request).insurance.payer_name,
            "total": f"{request.total:.2f}",
            "secondary": request.secondary.insurance.payer_name
            if isinstance(request.secondary, Policy)
            else "",
        }

    def submit(self, case: Case) -> str:
        """Send the 837D once and note it in the patient's account; returns the submission id."""
        number = self.attempt(case)
        composed = _dict(case.data.get("composed"))
        if composed.get("attempt") != number:  # it stood here when an earlier release was left
            self.compose(case, self.look(case))
            composed = _dict(case.data["composed"])
        claim_id, submission = claim_id_of(case.id, number), submission_id_of(case.id, number)
        x12 = str(case.once(f"x12:{number}", str))
        house = self.office.house

        def act() -> Json:
            house.submit(submission, x12)
            return {"submission": submission}

        def find() -> Json | None:
            return {"submission": submission} if house.find_submission(submission) else None

        case.outside(PARTNER, f"submit:{number}", act, find)
        lines = _dict(composed["lines"])
        case.data["claim_ids"] = [*_list(case.data.get("claim_ids")), claim_id]
        case.data["sent"] = {**lines}
        words = (
            f"Pre-authorisation sent to {composed['payer']}: submission {submission}, claim "
            f"{claim_id}, {len(lines)} procedures, {composed['total']}."
        )
        if composed.get("secondary"):
            words += f" Primary insurance only; {composed['secondary']} pays second."
        self.log(case, f"sent:{number}", words)
        case.note(submission=submission, claim=claim_id)
        return submission

    def _compose(self, case: Case, request: Request, claim_id: str) -> Json:
        rows = [row for row in _list(case.data.get("attachments")) if isinstance(row, dict)]
        attachments = [
            Attachment(Report(str(row["report"])), "EL", str(row["control_number"]))
            if row["control_number"]
            else Attachment(Report(str(row["report"])), "AA")
            for row in rows
        ]
        policy = self.policy(request)
        narrative = str(case.data["narrative"])
        claim = build_claim(
            self.office, request, policy, claim_id, narrative, self.answers(case), attachments
        )
        section = self.office.section
        envelope = self.office.envelope(claim_id, case.clock())
        return claim837.compose(claim, envelope, section.sender, section.receiver)

    def _file_portal_pdf(self, case: Case, request: Request, claim_id: str) -> None:
        """File the whole request as PDF: for payers with a portal only, and to look at."""
        narrative = request.narrative(self.office, self.answers(case))
        sources = [source for each in narrative.sentences for source in each.sources]
        policy = self.policy(request)
        long_text = narrative.long_text()
        content = dispatch.portal_pdf(
            self.office, case.chart, request, policy, claim_id, long_text, sources
        )
        name = f"portal:{self.attempt(case)}"
        ref = case.ref(name)
        case.queue(
            name,
            UploadDocument(
                patient_key=case.chart.pms_key(),
                filename=f"{claim_id}.pdf",
                extension=".pdf",
                content=content,
                description=f"Request for pre-authorisation {claim_id} {ref}",
                category=self.office.config.pms.document_category,
                image_type="Document",
                tooth_numbers=(),
                created=case.clock(),
                ref=ref,
            ),
        )

    # --- coming back ---

    def mail(self, case: Case) -> KeptMail:
        """Read the answer that woke the case."""
        mail_id = str(case.signal.get("mail", ""))
        return read_mail(case.chart.db, case.chart.location_id, mail_id)

    def is_current(self, case: Case, mail: KeptMail) -> bool:
        """Tell whether an answer is about what was sent last.

        Under another's submission id it found the case by its claim id, which is looked at next.
        """
        current = submission_id_of(case.id, self.attempt(case))
        return mail.submission_id == current or not mail.submission_id.startswith(case.id)

    def claim_id(self, case: Case) -> str:
        """Give the claim id that was sent last."""
        return claim_id_of(case.id, self.attempt(case))

    def apply(self, case: Case, answer: Draft) -> None:
        """Write an answer into the PMS: estimates, claim tracking, the patient's account."""
        number, pms_key = self._answer_number(case), case.chart.pms_key()
        claim = self._claim(case)
        if claim is not None:
            self._estimate(case, claim, answer, number)
        is_more = answer.get("result") == "more_information"
        self.track(case, f"answer:{number}", verdicts.TRACK_MORE if is_more else
                   verdicts.TRACK_ANSWERED, verdicts.result_words(answer))  # fmt: skip
        words = (
            f"Pre-authorisation {verdicts.result_words(answer)}: claim {self.claim_id(case)}, "
            f"payer's number {answer.get('payer_claim_number') or 'not given'}; "
            + "; ".join(verdicts.line_texts(answer))
        )
        self.log(case, f"answered:{number}", words)
        self._hand_to_secondary(case, number, is_more=is_more)
        suggestions = [str(each) for each in _list(answer.get("suggestions"))]
        if suggestions and answer.get("result") != "approved":
            name = f"denial:{number}"
            ref = case.ref(name)
            who = ", ".join(str(r).replace("_", " ") for r in _list(answer.get("roles")))
            text = f"Pre-authorisation {verdicts.result_words(answer)} ({who}): "
            case.queue(name, CreateTask(pms_key, f"{text}{'; '.join(suggestions)}. {ref}", ref))

    def _hand_to_secondary(self, case: Case, number: str, *, is_more: bool) -> None:
        second = _dict(case.data.get("composed")).get("secondary")
        if second and not is_more:
            words = f"the primary insurance has answered; send its answer to {second}, which pays"
            self.task(case, f"secondary-{number}", f"{words} second")

    def _answer_number(self, case: Case) -> str:
        """Number an answer: by its submission, and apart where the payer answers that again."""
        number = str(self.attempt(case))
        before = _list(case.data.get("applied"))
        again = sum(str(each).partition(".")[0] == number for each in before)
        name = f"{number}.{again + 1}" if again else number
        case.data["applied"] = [*before, name]
        return name

    def track(self, case: Case, name: str, status: str, words: str) -> None:
        """Add to the claim's history in the PMS, if it made the claim and we have read it."""
        claim = self._claim(case)
        if claim is None:
            case.note(untracked=status)
            return
        ref = case.ref(f"track:{name}")
        text = f"{words}; submission {submission_id_of(case.id, self.attempt(case))}"
        pms_key = case.chart.pms_key()
        case.queue(f"track:{name}", TrackClaim(pms_key, claim.key, status, text, ref))

    def _estimate(self, case: Case, claim: PmsRecord, answer: Draft, number: str) -> None:
        lines = {
            str(each.values.get("procedure_key") or ""): each.key
            for each in case.records(RecordKind.CLAIM_LINE)
            if str(each.values.get("claim_key") or "") == claim.key
        }
        for row in _list(answer.get("lines")):
            if not isinstance(row, dict) or str(row["procedure"]) not in lines:
                continue
            name = f"estimate:{number}:{row['procedure']}"
            ref = case.ref(name)
            codes = ", ".join(str(code) for code in _list(row.get("codes")))
            words = f"Payer's answer to the pre-authorisation, codes {codes or 'none'}"
            line = lines[str(row["procedure"])]
            cents = verdicts.cents_of(row.get("expected"))
            case.queue(name, EstimateBenefit(case.chart.pms_key(), line, cents, words, ref))

    def _claim(self, case: Case) -> PmsRecord | None:
        ref = str(case.data.get("claim_ref", ""))
        return claim_record(case.records(RecordKind.CLAIM), ref) if ref else None

    # --- telling people ---

    def log(self, case: Case, name: str, words: str) -> None:
        """Add to the patient's communication log."""
        ref = case.ref(f"log:{name}")
        text = f"{words} {ref}"
        pms_key = case.chart.pms_key()
        case.queue(f"log:{name}", AppendCommlog(pms_key, text, case.clock(), ref))

    def task(self, case: Case, name: str, words: str) -> None:
        """Put a task on the office's list, once per name; in silent mode only into the timeline."""
        case.note(task=words)
        if case.is_silent:
            return
        ref = case.ref(f"task:{name}")
        text = f"Pre-authorisation: {words}. Case {case.id[:8]}. {ref}"
        case.queue(f"task:{name}", CreateTask(case.chart.pms_key(), text, ref))

    def lack(self, case: Case, words: Iterable[str]) -> bool:
        """Tell the office once what is missing; returns False when nothing is."""
        missing = "; ".join(dict.fromkeys(words))
        if not missing:
            return False
        name = _digest(missing)
        if case.data.get("told") != name:
            case.data["told"] = name
            self.task(case, f"missing-{name}", missing)
        return True

    def set_deadline(self, case: Case, what: str, span: timedelta) -> datetime:
        """Say until when the payer's next word is waited for."""
        until = case.clock() + span
        case.data["waits_for"], case.data["deadline"] = what, until.isoformat()
        return until

    def deadline(self, case: Case) -> datetime:
        """Give the moment that was set last."""
        return datetime.fromisoformat(str(case.data["deadline"]))

    def _today(self, case: Case) -> date:
        return case.clock().astimezone(case.chart.zone).date()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _list(value: object) -> list[Json]:
    return value if isinstance(value, list) else []


def _dict(value: object) -> Mapping[str, Json]:
    return value if isinstance(value, dict) else {}
