"""Signed results among what is queried and retrieved: for who is granted them, and no others."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydicom import dcmread
from pydicom.dataset import Dataset

from node.db.session import Actor, begin, new_id, read
from node.db.tables import dicom_result, instance, rejected_object, retraction, user_account
from node.dicom.derived import encode
from node.dicom.instances import FolderStore
from node.dicom.older_results import complete_results
from node.dicom.results import Algorithms, compose_signed_sr
from tests.node.dicom.test_results import COMPOSER, STUDY, grey8, review, source
from tests.protocol.conftest import Node, tool
from tests.protocol.test_query_retrieve_scp import find, send

pytestmark = pytest.mark.protocol

ACTOR = Actor("test", "main")
STORER = {"ae_title": "SENSOR", "services": ["store"]}
READER = {"ae_title": "FINDSCU", "services": ["query", "retrieve", "results"]}
GETTER = {"ae_title": "GETSCU", "services": ["retrieve", "results"]}


def film() -> Dataset:
    return source(PixelData=grey8().tobytes(), HighBit=7, PixelRepresentation=0)


def keep_result(node: Node, version: int = 1) -> str:
    """Keep a signed report of the one stored study, as publishing does; returns its UID."""
    ds = compose_signed_sr(
        [source()], review(version=version), algorithms=Algorithms.ALL_RAN, composer=COMPOSER
    )
    content, result_id = encode(ds), new_id()
    stored = FolderStore(node.folder).put(
        "main", f"{result_id}.dcm", lambda file: file.write(content)
    )
    with begin(node.db, ACTOR, "test") as tx:
        study_id = tx.conn.execute(sa.select(instance.c.study_id).limit(1)).scalar_one()
        tx.conn.execute(
            dicom_result.insert().values(
                id=result_id,
                location_id="main",
                study_id=study_id,
                review_version=version,
                kind="SR",
                sop_instance_uid=str(ds.SOPInstanceUID),
                sop_class_uid=str(ds.SOPClassUID),
                series_instance_uid=str(ds.SeriesInstanceUID),
                modality="SR",
                instance_number=1,
                storage_key=stored.storage_key,
                created_at=tx.now,
            )
        )
    return str(ds.SOPInstanceUID)


def images(node: Node, folder: Path) -> set[str]:
    keys = ("QueryRetrieveLevel=IMAGE", f"StudyInstanceUID={STUDY}", "SOPInstanceUID")
    return {str(ds.SOPInstanceUID) for ds in find(node, folder, *keys)}


def test_a_granted_peer_finds_and_fetches_the_report(start: Callable[..., Node], tmp_path: Path):
    node = start(clients=[STORER, READER, GETTER])
    send(node, film())
    uid = keep_result(node)
    assert images(node, tmp_path / "found") == {f"{STUDY}.1.1", uid}
    (study,) = find(
        node,
        tmp_path / "study",
        "QueryRetrieveLevel=STUDY",
        f"StudyInstanceUID={STUDY}",
        "ModalitiesInStudy",
        "NumberOfStudyRelatedInstances",
    )
    assert sorted(study.ModalitiesInStudy) == ["IO", "SR"]
    assert study.NumberOfStudyRelatedInstances == 2
    got = tmp_path / "got"
    got.mkdir()
    subprocess.run(
        [
            *(tool("getscu"), "-S", "-od", str(got), "-k", "QueryRetrieveLevel=STUDY"),
            *("-k", f"StudyInstanceUID={STUDY}", "127.0.0.1", str(node.port)),
        ],
        check=True,
        timeout=60,
    )
    kinds = {dcmread(path).Modality: dcmread(path) for path in got.iterdir()}
    assert set(kinds) == {"IO", "SR"}
    assert (kinds["SR"].VerificationFlag, kinds["SR"].SOPInstanceUID) == ("VERIFIED", uid)


def test_results_of_an_older_release_are_found_once_their_files_were_read(
    start: Callable[..., Node], tmp_path: Path
) -> None:
    node = start(clients=[STORER, READER])
    send(node, film())
    first, second = keep_result(node), keep_result(node, version=2)
    older = {"series_instance_uid": "", "modality": "", "instance_number": None}
    with begin(node.db, ACTOR, "test") as tx:
        tx.conn.execute(dicom_result.update().values(older))  # as rows before migration 0021 were
        is_second = dicom_result.c.sop_instance_uid == second
        key = tx.conn.execute(sa.select(dicom_result.c.storage_key).where(is_second)).scalar_one()
    assert images(node, tmp_path / "before") == {f"{STUDY}.1.1"}
    store = FolderStore(node.folder)
    store.path(key).write_bytes(b"no DICOM any more")
    assert complete_results(node.db, store, ACTOR) == 1
    assert images(node, tmp_path / "after") == {f"{STUDY}.1.1", first}
    assert complete_results(node.db, store, ACTOR) == 0


def test_a_peer_that_may_only_query_images_sees_no_result(start: Callable[..., Node], tmp_path):
    node = start(clients=[STORER, {**READER, "services": ["query", "retrieve"]}])
    send(node, film())
    keep_result(node)
    assert images(node, tmp_path / "found") == {f"{STUDY}.1.1"}


def test_nothing_unsigned_taken_back_or_rejected_is_shown(start: Callable[..., Node], tmp_path):
    node = start(clients=[STORER, READER])
    send(node, film())
    first = keep_result(node)
    with begin(node.db, ACTOR, "test") as tx:
        tx.conn.execute(dicom_result.update().values(review_version=0))
    assert first not in images(node, tmp_path / "a"), "preliminary"
    with begin(node.db, ACTOR, "test") as tx:
        tx.conn.execute(dicom_result.update().values(review_version=1))
        row = tx.conn.execute(sa.select(instance)).one()
        rejection = {"id": new_id(), "location_id": "main", "note_id": row.id, "at": tx.now}
        tx.conn.execute(
            rejected_object.insert().values(**rejection, sop_instance_uid=first, code="113001")
        )
    assert first not in images(node, tmp_path / "b"), "rejected by who holds it"
    with begin(node.db, ACTOR, "test") as tx:
        tx.conn.execute(rejected_object.delete())
    assert first in images(node, tmp_path / "c")
    _take_back(node, row.study_id)
    assert first not in images(node, tmp_path / "d"), "taken back by a dentist"
    second = keep_result(node, version=2)
    assert second in images(node, tmp_path / "e"), "signed anew"


def _take_back(node: Node, study_id: str) -> None:
    with begin(node.db, ACTOR, "test") as tx:
        user_id = new_id()
        tx.conn.execute(
            user_account.insert().values(
                id=user_id,
                location_id="main",
                username="lin",
                display_name="Anna Lin",
                role="dentist",
                password_hash="-",
            )
        )
        tx.conn.execute(
            retraction.insert().values(
                id=new_id(),
                location_id="main",
                study_id=study_id,
                kind="findings",
                version=1,
                reason="wrong tooth",
                finding_ids=[],
                steps=[],
                retracted_by=user_id,
                at=datetime.now(UTC),
            )
        )


def test_an_image_that_was_rejected_is_not_found(start: Callable[..., Node], tmp_path):
    node = start(clients=[STORER, READER])
    send(node, film())
    with begin(node.db, ACTOR, "test") as tx:
        tx.conn.execute(instance.update().values(state="rejected"))
    keys = ("QueryRetrieveLevel=STUDY", "StudyInstanceUID")
    assert find(node, tmp_path / "found", *keys) == []
    with read(node.db) as conn:
        kept = conn.execute(sa.select(instance.c.storage_key)).scalar_one()
    assert FolderStore(node.folder).holds(kept), "hidden, never deleted"
