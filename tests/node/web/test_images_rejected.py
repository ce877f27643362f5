"""Images that their sender took back: not shown, and the reader is told."""

from __future__ import annotations

from node.db.session import begin
from node.db.tables import instance, study


def reject(practice, image_ids: list[str]) -> None:
    with begin(practice.db, practice.actor, "test") as tx:
        tx.conn.execute(
            instance.update()
            .where(instance.c.id.in_(image_ids))
            .values(state="rejected", failure="rejected for quality reasons")
        )


def rows(browser) -> dict[str, dict]:
    return {row["id"]: row for row in browser.get("/api/worklist?filter=all").json()["rows"]}


def test_the_rest_of_a_study_is_read_and_says_what_is_gone(practice):
    study_id = practice.analysed_study(images=3)
    image_ids = practice.image_ids(study_id)
    reject(practice, image_ids[:2])
    dentist = practice.sign_in("dentist")
    (row,) = rows(dentist).values()
    assert (row["images"], [problem["kind"] for problem in row["problems"]]) == (1, ["rejected"])
    words = "2 images were withdrawn by the sender (rejected for quality reasons)."
    assert row["problems"][0]["words"] == words
    assert [image["id"] for image in dentist.study(study_id)["images"]] == image_ids[2:]
    assert dentist.get(f"/api/images/{image_ids[0]}/pixels").status_code == 404


def test_a_study_without_any_image_left_leaves_the_list_unless_it_is_signed(practice):
    study_id = practice.analysed_study()
    reject(practice, practice.image_ids(study_id))
    dentist = practice.sign_in("dentist")
    assert rows(dentist) == {}
    with begin(practice.db, practice.actor, "test") as tx:
        tx.conn.execute(study.update().values(state="signed"))
    assert rows(dentist)[study_id]["problems"][0]["kind"] == "rejected"
