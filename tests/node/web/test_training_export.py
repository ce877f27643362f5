"""Signed reviews leave as training data: opted in, audited, complete, and naming nobody."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from PIL import Image
from pydicom.dataset import Dataset

from node.__main__ import main
from node.config import Config, read_config
from node.db import audit as chain
from node.db.session import begin, read
from node.db.tables import audit, instance, patient, review, study, user_account
from node.dicom import burned_in
from node.dicom.pixels import model_input
from node.errors import InvalidInput, Rejected
from node.training_export import FORMAT, Wish, export_training
from tests.node.web.conftest import bitewing


def config_of(practice, tmp_path: Path, **analysis: object) -> Config:
    return read_config(
        environment={},
        overrides={
            "node": {"data_dir": tmp_path / "node-data", "location_id": practice.location_id},
            "analysis": {"training_export": True, **analysis},
        },
    )


def clean_bitewing(**attributes: object) -> Dataset:
    return bitewing(
        BurnedInAnnotation="NO",
        Manufacturer="Acme Imaging",
        ManufacturerModelName="Sensor Two",
        **attributes,
    )


@pytest.fixture
def signed(practice) -> tuple[str, str]:
    """A signed study: caries accepted, bone level rejected, a restoration added by hand."""
    study_id = practice.add_study(images=0)
    image_id = practice.add_image(study_id, ds=clean_bitewing())
    practice.analyse(image_id)
    dentist = practice.sign_in("dentist")
    dentist.see_all(study_id)
    caries, bone = sorted(dentist.study(study_id)["findings"], key=lambda mark: mark["kind"])[::-1]
    assert {caries["kind"], bone["kind"]} == {"caries", "bone_level"}
    for mark, kind in ((caries, "accept"), (bone, "reject")):
        said = {"kind": kind, "finding_id": mark["id"], "base_rev": mark["rev"]}
        assert dentist.ops(study_id, said).status_code == 200
    added = {
        "kind": "restoration",
        "tooth": "46",
        "geometry": {"type": "polygon", "points": [[30, 30], [50, 32], [40, 48]]},
    }
    answer = dentist.ops(study_id, {"kind": "add", "data": {"image_id": image_id, **added}})
    assert answer.status_code == 200, answer.text
    assert dentist.sign(study_id).status_code == 200
    return study_id, image_id


def export(practice, tmp_path: Path, name: str = "out", **wish) -> tuple[dict, Path]:
    out = tmp_path / name
    export_training(practice.db, practice.store, config_of(practice, tmp_path), Wish(out, **wish))
    return json.loads((out / "annotations.coco.json").read_text()), out


def test_what_was_decided_is_what_is_exported(practice, signed, tmp_path) -> None:
    content, out = export(practice, tmp_path)
    names = {item["id"]: item["name"] for item in content["categories"]}
    (film,) = content["images"]
    assert content["info"]["format"] == FORMAT
    assert (film["view"], film["spacing_mm"], film["bits"]) == ("bitewing", [0.02, 0.02], 16)
    tooth, caries, added = content["annotations"]
    assert (names[tooth["category_id"]], tooth["bbox"]) == ("46", [20.0, 20.0, 40.0, 70.0])
    assert not tooth["is_verified"]
    assert (names[caries["category_id"]], caries["state"]) == ("caries", "accepted")
    assert (caries["tooth"], caries["surfaces"], caries["probability"]) == ("46", "D", 0.93)
    assert caries["bbox"] == [30.0, 30.0, 20.0, 20.0]
    assert (names[added["category_id"]], added["state"]) == ("restoration", "added")
    assert added["segmentation"] == [[30.0, 30.0, 50.0, 32.0, 40.0, 48.0]]
    (refused,) = content["rejected"]
    assert names[refused["category_id"]] == "bone_level"
    assert refused["line"] == [[70.0, 60.0], [70.0, 80.0]]
    with Image.open(out / "images" / film["file_name"]) as image:
        grey = np.asarray(image)
    path = practice.store.path(practice.rows(sa.select(instance.c.storage_key), scalars=True)[0])
    assert np.abs(grey / 65535 - model_input(path)[0]).max() < 1e-4


def test_nothing_of_the_patient_is_in_the_folder(practice, signed, tmp_path) -> None:
    _, out = export(practice, tmp_path)
    study_row = practice.rows(sa.select(study))[0]
    forbidden = {"Doe", "Jane", "1981", "2026", "dentist", "Acme", "Sensor", "1.2.840", "main"}
    forbidden |= {str(study_row.id), study_row.study_instance_uid, study_row.patient_id}
    for query in (
        sa.select(instance.c.id, instance.c.sop_instance_uid, instance.c.sha256),
        sa.select(patient.c.id, patient.c.pms_key),
        sa.select(review.c.id, review.c.signer_name, review.c.content_hash),
        sa.select(user_account.c.id, user_account.c.display_name),
    ):
        forbidden |= {str(value) for row in practice.rows(query) for value in row}
    whole = b"".join(p.read_bytes() + str(p).encode() for p in out.rglob("*") if p.is_file())
    names = " ".join(str(path.relative_to(out)) for path in out.rglob("*")).encode()
    text = (out / "annotations.coco.json").read_bytes() + names
    for word in forbidden:
        assert word.encode() not in text, word
    for word in forbidden - {"main", "dentist"}:  # the read-me speaks of dentists
        assert word.encode() not in whole.replace(str(tmp_path).encode(), b""), word
    key = (tmp_path / "node-data" / "training-export.key").read_bytes()
    assert key not in whole
    assert key.hex().encode() not in whole
    for path in (out / "images").iterdir():
        with Image.open(path) as image:
            assert image.info == {}
        assert b"tEXt" not in path.read_bytes()
        assert b"tIME" not in path.read_bytes()


def test_ids_stay_in_every_export_and_mean_nothing_elsewhere(practice, signed, tmp_path) -> None:
    first, _ = export(practice, tmp_path, "one")
    again, _ = export(practice, tmp_path, "two")
    assert first == again
    key = tmp_path / "node-data" / "training-export.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600 or os.name == "nt"
    key.unlink()
    other, _ = export(practice, tmp_path, "three")
    for name in ("file_name", "group", "device"):
        assert other["images"][0][name] != first["images"][0][name]


def test_a_practice_that_did_not_opt_in_exports_nothing(practice, signed, tmp_path) -> None:
    config = config_of(practice, tmp_path, training_export=False)
    with pytest.raises(Rejected, match="training_export"):
        export_training(practice.db, practice.store, config, Wish(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_an_export_stands_in_the_audit(practice, signed, tmp_path) -> None:
    export(practice, tmp_path)
    (row,) = practice.rows(sa.select(audit).where(audit.c.action == "training.exported"))
    assert (row.detail["images"], row.detail["patients"], row.detail["findings"]) == (1, 1, 2)
    with read(practice.db) as conn:
        assert chain.verify(conn)[1] is None


def test_images_that_may_carry_text_stay_out_unless_asked_for(practice, signed, tmp_path) -> None:
    study_id = practice.add_study(images=0)
    for burned in ({"BurnedInAnnotation": "YES"}, {}):
        practice.analyse(practice.add_image(study_id, ds=bitewing(**burned)))
    dentist = practice.sign_in("dentist")
    dentist.see_all(study_id)
    dentist.accept_all(study_id)
    assert dentist.sign(study_id).status_code == 200
    careful, _ = export(practice, tmp_path, "careful")
    everything, _ = export(practice, tmp_path, "everything", include_burned_in=True)
    assert len(careful["images"]) == 1
    assert len(everything["images"]) == 3
    assert len({film["group"] for film in everything["images"]}) == 2


def test_lettering_that_was_seen_stays_out_until_a_person_let_it_go(
    practice, signed, tmp_path
) -> None:
    _, image_id = signed
    with begin(practice.db, practice.actor, "test") as tx:
        burned_in.note(tx, image_id, "There seems to be a line of lettering in the picture.")
    held, _ = export(practice, tmp_path, "held")
    with begin(practice.db, practice.actor, "test") as tx:
        burned_in.release(tx, image_id, "only the side")
    free, _ = export(practice, tmp_path, "free")
    assert (len(held["images"]), len(free["images"])) == (0, 1)


def test_unsigned_amended_and_older_reviews_stay_out(practice, signed, tmp_path) -> None:
    practice.analysed_study()
    tomorrow = (datetime.now(UTC) + timedelta(days=2)).date()
    assert export(practice, tmp_path, "later", since=tomorrow)[0]["images"] == []
    assert export(practice, tmp_path, "panoramic", task="panoramic_caries")[0]["images"] == []
    assert len(export(practice, tmp_path, "signed", task="intraoral")[0]["images"]) == 1
    dentist = practice.sign_in("dentist")
    assert dentist.post(f"/api/studies/{signed[0]}/amend", {"reason": "second look"}).is_success
    assert export(practice, tmp_path, "amending")[0]["images"] == []


def test_a_folder_that_exists_and_an_unknown_task_are_refused(practice, signed, tmp_path) -> None:
    with pytest.raises(InvalidInput, match="exists"):
        export(practice, tmp_path, ".")
    with pytest.raises(InvalidInput, match="smile"):
        export(practice, tmp_path, task="smile")


def test_a_signed_review_becomes_training_data_with_one_command(
    practice, signed, tmp_path, monkeypatch, capsys
) -> None:
    layouts = pytest.importorskip("training.layouts")
    data = tmp_path / "node"
    data.mkdir()
    key = practice.rows(sa.select(instance.c.storage_key), scalars=True)[0]
    shutil.copytree(practice.store.path(key).parents[len(Path(key).parts) - 1], data / "images")
    file = tmp_path / "bitewing.toml"
    file.write_text(
        f'[node]\ndata_dir = "{data}"\nlocation_id = "{practice.location_id}"\n'
        f'[database]\nurl = "{practice.db.url.render_as_string(hide_password=False)}"\n'
        "[analysis]\ntraining_export = true\n"
    )
    out = tmp_path / "out"
    arguments = ["export-training", "--out", str(out), "--config", str(file)]
    monkeypatch.setattr("sys.argv", ["bitewing", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert "1 images of 1 patients, 2 findings, 1 rejected" in capsys.readouterr().out

    films = set()
    for part in ("train", "tune", "test"):
        with contextlib.suppress(InvalidInput):
            films |= set(layouts.read_part(out, part))
    (film,) = films
    (lesion,) = film.lesions
    assert (lesion.tooth.code, lesion.surface.value) == ("46", "D")
    assert film.read().shape == (120, 160)
