"""The mount, calibration by a known length, and who else has a study open."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from node.db.session import begin
from node.db.tables import image_place, study_presence, study_reading
from node.domain.cdt import load
from node.domain.conclusions import conclude
from node.domain.reading import Series, SlotPlace, StudyFacts, StudyReading
from node.web.mounts import CODES, slot_words


def slots(shown: dict) -> dict[str, str | None]:
    return {s["code"]: s["image_id"] for row in shown["mount"]["rows"] for s in row}


def read_as_series(practice, study_id: str, series: Series) -> None:
    facts = StudyFacts(series=series)
    content = StudyReading(facts, conclude([], facts, load(None), is_signed=False)).to_json()
    with begin(practice.db, practice.actor, "test.reading") as tx:
        tx.conn.execute(
            study_reading.insert().values(
                study_id=study_id,
                location_id=practice.location_id,
                generation=0,
                patient_id=None,
                inputs="x",
                content=content,
                computed_at=tx.now,
            )
        )


@pytest.fixture
def four(practice):
    """Four bitewings of which the models placed three."""
    study_id = practice.add_study(images=4)
    ids = [image["id"] for image in practice.sign_in("dentist").study(study_id)["images"]]
    codes = ("R-MOL-BW", "R-PM-BW", "L-PM-BW")
    places = tuple(SlotPlace(i, c, 0.1) for i, c in zip(ids, codes, strict=False))
    read_as_series(
        practice, study_id, Series("BW4", places, empty=("L-MOL-BW",), unplaced=(ids[3],))
    )
    return study_id, ids


def test_images_hang_where_the_models_place_them(practice, four):
    study_id, ids = four
    shown = practice.sign_in("dentist").study(study_id)
    assert shown["mount"]["template"] == "BW4"
    assert [[s["code"] for s in row] for row in shown["mount"]["rows"]] == [
        ["R-MOL-BW", "R-PM-BW", "L-PM-BW", "L-MOL-BW"]
    ]
    assert slots(shown)["R-MOL-BW"] == ids[0]
    assert shown["mount"]["loose"] == [ids[3]]


def test_a_person_corrects_a_place_and_the_other_image_becomes_loose(practice, four):
    study_id, ids = four
    browser = practice.sign_in("assistant")
    put = {"kind": "place", "data": {"image_id": ids[3], "slot": "R-MOL-BW", "quarter_turns": 1}}
    assert browser.ops(study_id, put).status_code == 200
    shown = practice.sign_in("dentist").study(study_id)
    assert slots(shown)["R-MOL-BW"] == ids[3]
    assert ids[0] in shown["mount"]["loose"]
    hung = shown["mount"]["hangs"][0]
    assert (hung["image_id"], hung["quarter_turns"], hung["by"]) == (
        ids[3],
        1,
        "The assistant of main",
    )
    # a second image at the same place takes it over
    put["data"] = {"image_id": ids[1], "slot": "R-MOL-BW"}
    assert browser.ops(study_id, put).status_code == 200
    assert slots(practice.sign_in("dentist").study(study_id))["R-MOL-BW"] == ids[1]
    with practice.db.connect() as conn:
        kept = conn.execute(sa.select(image_place.c.instance_id, image_place.c.slot)).all()
    assert dict(map(tuple, kept)) == {ids[3]: "", ids[1]: "R-MOL-BW"}


def test_who_may_not_see_ai_content_gets_no_places_from_it(practice, four):
    study_id, ids = four
    shown = practice.sign_in("assistant").study(study_id)
    assert shown["mount"]["rows"] == []
    assert set(shown["mount"]["loose"]) == set(ids)


@pytest.mark.parametrize(
    ("role", "slot", "status"),
    [("assistant", "NOWHERE", 422), ("auditor", "R-MOL-BW", 409), ("hygienist", "", 200)],
)
def test_only_known_places_by_those_who_may(practice, four, role, slot, status):
    study_id, ids = four
    browser = practice.sign_in(role)
    put = {"kind": "place", "data": {"image_id": ids[0], "slot": slot}}
    assert browser.ops(study_id, put).status_code == status


def test_a_known_length_gives_a_scale_that_can_be_taken_back(practice):
    study_id = practice.add_study()
    browser = practice.sign_in("hygienist")
    image_id = browser.study(study_id)["images"][0]["id"]
    data = {"image_id": image_id, "points": [[10, 10], [110, 10]], "known_mm": 5.0}
    assert browser.ops(study_id, {"kind": "calibrate", "data": data}).status_code == 200
    shown = browser.study(study_id)["images"][0]["calibration"]
    assert (shown["mm_per_px"], shown["by"]) == (0.05, "The hygienist of main")
    back = {"kind": "calibrate", "data": {"image_id": image_id}}
    assert browser.ops(study_id, back).status_code == 200
    assert browser.study(study_id)["images"][0]["calibration"] is None


@pytest.mark.parametrize(
    ("points", "known_mm"),
    [
        ([[10, 10], [20, 10]], 5.0),
        ([[10, 10], [910, 10]], 5.0),
        ([[10, 10], [110, 10]], 0.0),
        ([[10, 10], [110, 10]], 5000.0),
    ],
)
def test_a_useless_calibration_is_refused(practice, points, known_mm):
    study_id = practice.add_study()
    browser = practice.sign_in("dentist")
    image_id = browser.study(study_id)["images"][0]["id"]
    data = {"image_id": image_id, "points": points, "known_mm": known_mm}
    assert browser.ops(study_id, {"kind": "calibrate", "data": data}).status_code == 422


def test_each_reader_is_told_who_else_reads(practice):
    study_id = practice.add_study()
    dentist, hygienist = practice.sign_in("dentist"), practice.sign_in("hygienist")
    path = f"/api/studies/{study_id}/presence"
    image_id = dentist.study(study_id)["images"][0]["id"]
    assert dentist.post(path, {"image_id": image_id}).json() == {"others": []}
    others = hygienist.post(path, {}).json()["others"]
    assert others == [{"name": "The dentist of main", "role": "dentist", "image_id": image_id}]
    assert dentist.post(path, {"image_id": image_id}).json()["others"][0]["role"] == "hygienist"
    dentist.post(path, {"is_leaving": True})
    assert hygienist.post(path, {}).json() == {"others": []}


def test_a_reader_who_is_silent_is_forgotten(practice):
    study_id = practice.add_study()
    dentist, hygienist = practice.sign_in("dentist"), practice.sign_in("hygienist")
    path = f"/api/studies/{study_id}/presence"
    dentist.post(path, {})
    with begin(practice.db, practice.actor, "test.time") as tx:
        long_ago = tx.now.replace(year=2020)
        tx.conn.execute(study_presence.update().values(seen_at=long_ago))
    assert hygienist.post(path, {}).json() == {"others": []}


def test_every_place_has_words():
    words = {code: slot_words(code) for code in CODES}
    assert len(set(words.values())) == len(CODES)
    assert words["UR-MOL-PA"] == "upper right molars periapical"
    assert words["L-MOL-BW"] == "left molars bitewing"


def template(name: str) -> dict:
    return {"kind": "template", "data": {"template": name}}


def codes_of(mount: dict) -> set[str]:
    return {slot["code"] for row in mount["rows"] for slot in row}


def test_a_person_chooses_how_a_study_is_mounted_and_takes_it_back(practice):
    study_id = practice.add_study(images=2)
    browser = practice.sign_in("assistant")
    assert browser.study(study_id)["mount"]["template"] == ""
    assert browser.ops(study_id, template("FMX16")).status_code == 200
    mount = browser.study(study_id)["mount"]
    assert (mount["template"], mount["chosen"], len(codes_of(mount))) == ("FMX16", "FMX16", 16)
    first, second = (image["id"] for image in browser.study(study_id)["images"])
    placed = {"kind": "place", "data": {"image_id": first, "slot": "R-BW"}}
    assert browser.ops(study_id, placed).status_code == 200
    browser.ops(study_id, template("BW4"))  # it has no such place: the image waits beside
    mount = browser.study(study_id)["mount"]
    assert (len(codes_of(mount)), mount["loose"]) == (4, [first, second])
    browser.ops(study_id, template("LOOSE"))
    assert browser.study(study_id)["mount"]["rows"] == []
    browser.ops(study_id, template("BW2"))
    assert browser.study(study_id)["mount"]["loose"] == [second]
    browser.ops(study_id, template(""))
    assert browser.study(study_id)["mount"]["chosen"] == ""


def test_no_mount_but_a_known_one_is_chosen_and_only_by_whom_it_concerns(practice):
    study_id = practice.add_study()
    assert practice.sign_in("dentist").ops(study_id, template("FMX99")).status_code == 422
    answer = practice.sign_in("auditor").ops(study_id, template("FMX18"))
    assert answer.json()["results"][0]["status"] == "refused"
    assert practice.sign_in("dentist").study(study_id)["mount"]["chosen"] == ""
