"""Names of the events that parts leave for each other, one row each."""

from __future__ import annotations

from enum import StrEnum


class EventKind(StrEnum):
    """What happened; the row's subject is the opaque id of the object."""

    IMAGE_STORED = "image.stored"
    DUPLICATE_KEPT = "image.duplicate_kept"
    IMAGE_ANALYSED = "image.analysed"
    IMAGE_REJECTED = "image.rejected"
    STUDY_COMPLETED = "study.completed"
    STUDY_READY = "study.ready"
    STUDY_READING = "study.reading"
    STUDY_REOPENED = "study.reopened"
    STUDY_MATCHED = "study.matched"
    STEP_STARTED = "step.started"
    STEP_COMPLETED = "step.completed"
    STEP_DISCONTINUED = "step.discontinued"
    REVIEW_CHANGED = "review.changed"
    REVIEW_SIGNED = "review.signed"
    REVIEW_RETRACTED = "review.retracted"
    WRITE_QUEUED = "pms.write_queued"
    WRITE_DONE = "pms.write_done"
    WRITE_FAILED = "pms.write_failed"
    RESULT_SENT = "result.sent"
    SCHEDULE_SYNCED = "schedule.synced"
    RECORDS_CHANGED = "records.changed"
    CASE_CHANGED = "case.changed"
    APPROVAL_ASKED = "approval.asked"
    APPROVAL_DECIDED = "approval.decided"
