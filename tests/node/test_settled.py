"""Words of what was settled long ago go; digest, receipt, and what is on hold or open stay."""

import hashlib
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from node.config import read_config
from node.db import tables
from node.db.session import Actor, read
from node.db.settled import count_settled, reduce_settled
from node.dicom.holds import place_hold, release_hold
from node.domain.audit_chain import canonical
from node.errors import NotFound
from orchestration.payers.mail import read_mail
from tests.node.dicom.conftest import Practice

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
OLD, NEW = NOW - timedelta(days=2300), NOW - timedelta(days=2100)
CONFIG = read_config(None, {}, {})
COMMAND = {"patient_key": "17", "procedure_key": "P9", "text": "deep caries on 46", "ref": "r"}
RECEIPT = {"resource": "procnotes", "key": "81", "already_there": False}
MAIL = b"ISA*CLAIM OF SOMEBODY"
ALL = {"writes": 2, "payer_mail": 1, "replies": 1}


@pytest.fixture
def practice(database: sa.Engine) -> Practice:
    made = Practice(database)
    patient_id = made.patient()
    study_id = made.insert(
        tables.study, study_instance_uid="1.2.3", patient_id=patient_id, state="signed",
        match_state="matched", received_at=OLD, last_image_at=OLD,
    )  # fmt: skip
    for at in (OLD, NEW):
        for state in ("done", "withdrawn", "failed", "held", "declined", "queued"):
            made.insert(
                tables.pms_command, key=f"{state}{at}", ref="r", study_id=study_id,
                patient_id=patient_id, kind="AppendProcedureNote", state=state,
                payload={"command": COMMAND, "delivery": {"tries": 0}}, receipt=RECEIPT,
                created_at=at, updated_at=at,
            )  # fmt: skip
        made.insert(
            tables.message_reply, key=f"{at}", channel="sms", address_digest="d",
            patient_id=patient_id, meaning="question", text="my crown fell out", at=at,
        )  # fmt: skip
        case_id = made.insert(
            tables.workflow_case, workflow="preauthorisation", key=f"{at}", state="done",
            patient_id=patient_id, data={}, created_at=at, updated_at=at,
        )  # fmt: skip
        for found in (case_id, None):
            made.insert(
                tables.payer_mail, delivery_id=f"{at}{found}", kind="835", media_type="x",
                content=MAIL, case_id=found, state="given" if found else "unknown", at=at,
            )  # fmt: skip
    return made


def rows(
    db: sa.Engine, table: sa.Table, is_reduced: bool = True
) -> list[sa.Row[tuple[object, ...]]]:
    wanted = table.c.reduced_at.is_not(None) if is_reduced else table.c.reduced_at.is_(None)
    with read(db) as conn:
        return list(conn.execute(sa.select(table).where(wanted)))


def test_words_become_their_digest_and_all_else_stays(practice: Practice) -> None:
    db = practice.db
    assert count_settled(db, CONFIG, NOW) == ALL
    assert reduce_settled(db, CONFIG, NOW) == ALL
    assert reduce_settled(db, CONFIG, NOW) == count_settled(db, CONFIG, NOW) == {}
    writes = rows(db, tables.pms_command)
    assert {row.state for row in writes} == {"done", "withdrawn"}
    digest = hashlib.sha256(canonical([COMMAND])).hexdigest()  # as the audit says it of a write
    for row in writes:
        assert row.payload == {
            "command": {"patient_key": "17", "procedure_key": "P9"},
            "delivery": {"tries": 0},
            "digest": digest,
        }
        assert (row.receipt, row.ref, row.updated_at) == (RECEIPT, "r", OLD)
    (mail,) = rows(db, tables.payer_mail)
    assert mail.content.decode() == f"sha256:{hashlib.sha256(MAIL).hexdigest()}"
    (reply,) = rows(db, tables.message_reply)
    assert (reply.meaning, reply.text[:7]) == ("question", "sha256:")
    with read(db) as conn:
        said = conn.execute(
            sa.select(tables.audit.c.detail).where(tables.audit.c.action == "settled.reduced")
        ).scalars()
        assert {key: value for each in said for key, value in each.items()} == ALL


def test_a_reduced_answer_of_a_payer_is_not_shown_as_one(practice: Practice) -> None:
    reduce_settled(practice.db, CONFIG, NOW)
    (mail,) = rows(practice.db, tables.payer_mail)
    with pytest.raises(NotFound, match="settled long ago"):
        read_mail(practice.db, "main", mail.id)
    kept = rows(practice.db, tables.payer_mail, is_reduced=False)[0]
    assert read_mail(practice.db, "main", kept.id).content == MAIL


@pytest.mark.parametrize("on", [{"patient_key": "17"}, {"study_uid": "1.2.3"}])
def test_nothing_is_touched_while_a_hold_stands(
    practice: Practice, actor: Actor, on: dict[str, str]
) -> None:
    hold = place_hold(practice.db, actor, "suit", **on)
    assert count_settled(practice.db, CONFIG, NOW) == {}
    assert reduce_settled(practice.db, CONFIG, NOW) == {}
    release_hold(practice.db, actor, hold, "settled")
    assert reduce_settled(practice.db, CONFIG, NOW) == ALL


def test_a_reply_stays_while_a_case_of_the_patient_is_open(practice: Practice) -> None:
    (patient_id,) = {row.patient_id for row in rows(practice.db, tables.pms_command, False)}
    practice.insert(
        tables.workflow_case, workflow="recall", key="k", state="asking", patient_id=patient_id,
        data={}, created_at=NOW, updated_at=NOW,
    )  # fmt: skip
    assert "replies" not in reduce_settled(practice.db, CONFIG, NOW)


def test_another_location_is_left_alone(practice: Practice) -> None:
    node = CONFIG.node.model_copy(update={"location_id": "other"})
    assert reduce_settled(practice.db, CONFIG.model_copy(update={"node": node}), NOW) == {}
