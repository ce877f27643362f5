"""The sandbox PMS on the wire: doors, paging, inputs, rows, rules and texts of each resource."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import httpx2
import pytest

from pms_writeback.sandbox.catalog import match, operations
from pms_writeback.sandbox.server import running

NOON = datetime(2026, 6, 10, 17, 0, tzinfo=UTC)  # 13:00 in New York
PDF = base64.b64encode(b"%PDF-1.7").decode()


@pytest.fixture
def pms(tmp_path):
    with running(tmp_path / "pms.sqlite", clock=lambda: NOON) as sandbox:
        yield sandbox


def open_client(pms, **headers):
    keys = f"ODFHIR {pms.developer_key}/{pms.customer_key}"
    chosen = {"Authorization": keys, "Content-Type": "application/json", **headers}
    return httpx2.Client(base_url=pms.url, headers={k: v for k, v in chosen.items() if v})


@pytest.fixture
def api(pms):
    with open_client(pms) as client:
        yield client


def refused(answer, status, text):
    assert answer.status_code == status, answer.text
    assert text in answer.json()


def procedure_of(api, patient=1):
    return api.get("/procedurelogs", params={"PatNum": patient}).json()[0]["ProcNum"]


def appointment_of(api, patient=1):
    return api.get("/appointments", params={"PatNum": patient}).json()[0]["AptNum"]


def test_every_catalogued_operation_is_answered_as_documented(api):
    """No operation of the catalogue ends in a bug: each is offered, refused or not found."""
    for operation in operations():
        path = operation.path.replace("{id}", "1")
        answer = api.request(operation.method, path, json=None)
        assert answer.status_code in (200, 201, 400, 404), (operation.name, answer.text)


def test_the_door_checks_keys_and_content_type(pms):
    for headers, status in (
        ({"Authorization": ""}, 400),
        ({"Authorization": "Bearer x"}, 400),
        ({"Authorization": "ODFHIR wrong/wrong"}, 401),
        ({"Authorization": f"ODFHIR {pms.developer_key}/wrong"}, 401),
    ):
        with open_client(pms, **headers) as client:
            assert client.get("/patients/1").status_code == status
    with open_client(pms, **{"Content-Type": "text/plain"}) as client:
        refused(client.post("/commlogs", content=b"{}"), 400, "Content-Type")


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'"x"', b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_object_is_refused(api, body):
    assert api.post("/commlogs", content=body).status_code == 400


def test_paths_that_do_not_exist_are_not_found(api):
    for path in (
        "/nope",
        "/patients/x",
        "/patients/1/2/3",
        "/Patients/1",
        "/patients/99999999999999999999",
    ):
        assert api.get(path).status_code == 404
    assert api.delete("/patients/1").status_code == 404
    assert match("GET", "/patients/Simple").key is None
    assert match("GET", "/patients/12").key == 12


def test_pages_are_cut_at_the_cap(tmp_path):
    with running(tmp_path / "pms.sqlite", seed_patients=130) as pms, open_client(pms) as api:
        assert len(api.get("/patients/Simple").json()) == 100
        assert len(api.get("/patients/Simple?Limit=5000").json()) == 100
        assert len(api.get("/patients/Simple?Offset=100").json()) == 30
        assert len(api.get("/patients/Simple?Limit=7&Offset=129").json()) == 1
        assert api.get("/patients/Simple?Offset=500").json() == []
        assert api.get("/patients/Simple?Limit=-1").status_code == 400


def test_rows_follow_the_conventions(api):
    patient = api.get("/patients/1").json()
    assert patient["Premed"] == "false"
    assert patient["DateFirstVisit"] == "0001-01-01"
    assert patient["PatNum"] == 1
    assert patient["priProvAbbr"] == "DRB"
    visit = api.get(f"/appointments/{appointment_of(api)}").json()
    assert visit["DateTimeArrived"] == "0001-01-01 00:00:00"
    assert visit["serverDateTime"] == "2026-06-10 13:00:00"
    assert visit["confirmed"] == "Not Called"
    assert visit["ProcDescript"] == "4BW"
    procedure = api.get(f"/procedurelogs/{procedure_of(api)}").json()
    assert procedure["ProcFee"] == "0.00"
    assert procedure["procCode"] == "D0274"


def test_unknown_filters_are_refused_or_ignored_as_the_lists_are_old(api):
    refused(
        api.get("/patients?DateTStamp=2026-01-01"), 400, "'DateTStamp' is not a valid parameter."
    )
    assert len(api.get("/patients?Colour=red").json()) == 40
    refused(api.get("/patients/Simple?Colour=red"), 400, "'Colour' is not a valid parameter.")


def test_names_are_found_by_part_and_percent_signs_are_letters(api):
    assert [row["PatNum"] for row in api.get("/patients/Simple?LName=sandb&FName=bor").json()] == [
        2,
        8,
    ]
    assert api.get("/patients/Simple?LName=%25").json() == []
    assert len(api.get("/patients/Simple?LName=Sandbox&Birthdate=1971-11-05").json()) == 2


def test_changes_are_read_after_the_given_second(api, pms):
    pms.change("patients", 3, DateTStamp="2026-06-10 14:00:00")
    found = api.get("/patients/Simple", params={"DateTStamp": "2026-06-10 13:59:59"}).json()
    assert [row["PatNum"] for row in found] == [3]
    assert api.get("/patients/Simple", params={"DateTStamp": "2026-06-10 14:00:00"}).json() == []
    assert api.get("/patients/Simple", params={"DateTStamp": "lately"}).status_code == 400


def test_patients_are_created_updated_and_never_doubled(api):
    body = {"LName": "New", "FName": "Person", "Birthdate": "2000-02-29", "Email": "n@example.com"}
    made = api.post("/patients", json={**body, "NoSuchField": "ignored"})
    assert made.status_code == 201
    assert made.headers["location"] == f"/api/v1/patients/{made.json()['PatNum']}"
    assert made.json()["Guarantor"] == made.json()["PatNum"]
    refused(api.post("/patients", json={**body, "LName": "NEW"}), 400, "already exists")
    refused(api.post("/patients", json={"LName": "New"}), 400, "FName is required")
    refused(api.post("/patients", json={**body, "Gender": "Purple"}), 400, "Gender is invalid")
    refused(api.post("/patients", json={**body, "Birthdate": "2001-02-29"}), 400, "Birthdate")
    refused(api.post("/patients", json={**body, "SSN": "123"}), 400, "SSN")
    refused(api.post("/patients", json={**body, "PriProv": 77}), 404, "Provider not found")
    key = made.json()["PatNum"]
    changed = api.put(f"/patients/{key}", json={"Preferred": "P", "PatNum": 1, "Colour": "red"})
    assert changed.status_code == 200
    assert (changed.json()["Preferred"], changed.json()["LName"]) == ("P", "New")
    assert api.put("/patients/9999", json={"Preferred": "P"}).status_code == 404


def test_appointments_are_booked_moved_confirmed_and_broken(api, pms):
    body = {"PatNum": 9, "Op": 1, "AptDateTime": "2026-06-12 09:00:00"}
    made = api.post("/appointments", json=body)
    assert made.status_code == 201
    key, row = made.json()["AptNum"], made.json()
    assert (row["Pattern"], row["AptStatus"], row["ProvNum"]) == ("/XX/", "Scheduled", 1)
    refused(api.post("/appointments", json={**body, "Op": 99}), 404, "Operatory not found")
    refused(api.post("/appointments", json={**body, "Pattern": "XYZ"}), 400, "Pattern")
    refused(api.post("/appointments", json={**body, "AptDateTime": "tomorrow"}), 400, "AptDateTime")
    moved = api.put(f"/appointments/{key}", json={"AptDateTime": "2026-06-12 10:00:00", "Op": "2"})
    assert (moved.json()["AptDateTime"], moved.json()["Op"]) == ("2026-06-12 10:00:00", 2)
    for text in ("First.", "Second."):
        assert api.put(f"/appointments/{key}/Note", json={"Note": text}).status_code == 200
    assert api.get(f"/appointments/{key}").json()["Note"] == "First.\nSecond."
    confirm = f"/appointments/{key}/Confirm"
    assert api.put(confirm, json={"confirmVal": "Confirmed"}).status_code == 200
    assert api.get(f"/appointments/{key}").json()["confirmed"] == "Appointment Confirmed"
    assert api.put(confirm, json={"defNum": 25}).status_code == 200
    assert api.get(f"/appointments/{key}").json()["confirmed"] == "Arrived"
    assert api.put(confirm, json={}).status_code == 400
    assert api.put(confirm, json={"confirmVal": "Sent", "defNum": 25}).status_code == 400
    assert api.put(confirm, json={"defNum": 131}).status_code == 404
    gone = {"sendToUnscheduledList": "false", "breakType": "Missed"}
    assert api.put(f"/appointments/{key}/Break", json=gone).status_code == 200
    assert api.get(f"/appointments/{key}").json()["AptStatus"] == "Broken"
    refused(api.put(f"/appointments/{key}/Break", json=gone), 400, "Scheduled")
    history = api.get("/histappointments", params={"AptNum": key}).json()
    actions = [row["HistApptAction"] for row in history]
    assert actions == ["Created", *["Changed"] * 5, "Missed"]


def test_appointments_are_listed_by_day_state_and_operatory(api, pms):
    today = api.get("/appointments?date=2026-06-10").json()
    assert {1, 2, 3, 4, 5, 6, 7} <= {row["PatNum"] for row in today}
    both = api.get("/appointments?dateStart=2026-06-10&dateEnd=2026-06-11").json()
    assert len(both) > len(today)
    assert {row["AptDateTime"][:10] for row in both} == {"2026-06-10", "2026-06-11"}
    assert {row["Op"] for row in api.get("/appointments?date=2026-06-10&Op=3").json()} == {3}
    complete = api.get("/appointments?AptStatus=Complete").json()
    assert complete
    assert {row["AptStatus"] for row in complete} == {"Complete"}
    pms.delete_appointment(today[0]["AptNum"])
    assert api.get(f"/appointments/{today[0]['AptNum']}").status_code == 404
    deleted = api.get("/histappointments?HistApptAction=Deleted&date=2026-06-10").json()
    assert [row["AptNum"] for row in deleted] == [today[0]["AptNum"]]


def test_procedures_follow_the_area_of_their_code(api):
    body = {"PatNum": 9, "ProcDate": "2026-06-10", "ProcStatus": "TP"}
    for code, given, status in (
        ("D2740", {"ToothNum": "30"}, 201),
        ("D2740", {}, 400),
        ("D2740", {"ToothNum": "33"}, 400),
        ("D2392", {"ToothNum": "30", "Surf": "MO"}, 201),
        ("D2392", {"ToothNum": "30"}, 400),
        ("D4341", {"Surf": "UR"}, 201),
        ("D4341", {"Surf": "XX"}, 400),
        ("D0274", {}, 201),
        ("D9999", {}, 404),
    ):
        answer = api.post("/procedurelogs", json={**body, "procCode": code, **given})
        assert answer.status_code == status, (code, given, answer.text)
    refused(api.post("/procedurelogs", json=body), 400, "CodeNum or procCode is required")
    refused(
        api.post("/procedurelogs", json={**body, "procCode": "D0274", "ProcStatus": "D"}),
        400,
        "ProcStatus is invalid",
    )
    other = {**body, "procCode": "D0274", "AptNum": appointment_of(api, 1)}
    refused(api.post("/procedurelogs", json=other), 400, "AptNum does not belong")


def test_completed_procedures_are_frozen_and_deleted_ones_stay(api):
    key = procedure_of(api)
    assert api.put(f"/procedurelogs/{key}", json={"ProcStatus": "C"}).json()["ProcStatus"] == "C"
    refused(api.put(f"/procedurelogs/{key}", json={"procCode": "D0272"}), 400, "frozen")
    assert api.put(f"/procedurelogs/{key}", json={"BillingNote": "x"}).json()["BillingNote"] == "x"
    assert api.delete(f"/procedurelogs/{key}").status_code == 200
    assert api.get(f"/procedurelogs/{key}").json()["ProcStatus"] == "D"
    assert api.delete(f"/procedurelogs/{key}").status_code == 400


def test_the_newest_note_replaces_or_appends(api):
    key = procedure_of(api)
    body = {"PatNum": 1, "ProcNum": key}
    assert api.post("/procnotes", json={**body, "Note": "One\nline"}).status_code == 201
    second = api.post("/procnotes", json={**body, "Note": "Two", "doAppendNote": "true"}).json()
    assert second["Note"] == "One\nline\n\nTwo"
    assert second["isSigned"] == "false"
    assert api.post("/procnotes", json={**body, "Note": "Three"}).json()["Note"] == "Three"
    listed = api.get("/procnotes", params=body).json()
    assert [row["Note"] for row in listed] == ["Three", "One line  Two", "One line"]
    refused(
        api.post("/procnotes", json={**body, "PatNum": 2, "Note": "x"}), 400, "ProcNum does not"
    )
    refused(api.post("/procnotes", json={**body, "Note": ""}), 400, "Note is required")
    refused(api.get("/procnotes?PatNum=4711"), 404, "Patient not found")


def test_documents_are_rows_at_once_and_files_when_opened(api, pms):
    refused(api.get("/documents"), 400, "PatNum is required")
    refused(api.get("/documents?PatNum=1"), 404, "No documents exist for this patient")
    body = {"PatNum": 1, "rawBase64": PDF, "extension": ".pdf"}
    made = api.post("/documents/Upload", json={**body, "ToothNumbers": "1-5,8", "DocCategory": 138})
    assert made.status_code == 201
    row = made.json()
    assert (row["FileName"], row["ToothNumbers"]) == ("x", "1,2,3,4,5,8")
    assert (row["docCategory"], row["ImgType"]) == ("AI Imaging", "Document")
    default = api.post("/documents/Upload", json={**body, "ImgType": "radiograph"}).json()
    assert (default["docCategory"], default["ImgType"]) == ("BWs", "Radiograph")
    listed = api.get("/documents?PatNum=1").json()
    assert [each["PatNum"] for each in listed] == ["1", "1"]
    assert listed[0]["filePath"] == ""
    page = httpx2.get(f"{pms.page_url}/documents/{row['DocNum']}")
    assert page.content == b"%PDF-1.7"
    assert page.headers["content-type"] == "application/pdf"
    assert api.get("/documents?PatNum=1").json()[0]["filePath"].endswith("Document1.pdf")
    for wrong in (
        {"rawBase64": "not base64!"},
        {"extension": "pdf"},
        {"extension": "./../x"},
        {"DocCategory": 19},
        {"ToothNumbers": "5-1"},
        {"ToothNumbers": "99"},
        {"ImgType": "Hologram"},
        {"Description": "x" * 256},
    ):
        assert api.post("/documents/Upload", json={**body, **wrong}).status_code == 400, wrong
    changed = api.put(f"/documents/{row['DocNum']}", json={"Description": "New"}).json()
    assert (changed["Description"], changed["DocCategory"]) == ("New", 138)
    assert api.delete(f"/documents/{row['DocNum']}").status_code == 200
    assert httpx2.get(f"{pms.page_url}/documents/{row['DocNum']}").status_code == 404
    refused(api.post("/documents/UploadSftp", json={}), 400, "required")
    sftp = {"PatNum": 1, "SftpAddress": "h", "SftpUsername": "u", "SftpPassword": "p"}
    refused(api.post("/documents/UploadSftp", json=sftp), 400, "SftpAddress")
    refused(api.post("/documents/Thumbnails", json=sftp), 400, "does not offer")


def test_a_body_over_the_limit_is_refused(api):
    body = {"PatNum": 1, "rawBase64": "A" * 17_000_000, "extension": ".pdf"}
    refused(api.post("/documents/Upload", json=body), 400, "too large")


def test_commlogs_default_to_a_call_that_was_made(api):
    made = api.post("/commlogs", json={"PatNum": 1, "Note": "Hello", "commType": "misc"})
    assert made.status_code == 201
    row = made.json()
    assert (row["Mode_"], row["SentOrReceived"]) == ("Phone", "Sent")
    assert (row["CommType"], row["commType"]) == ("238", "Misc")
    refused(api.post("/commlogs", json={"PatNum": 1, "Note": "x", "Mode_": "Pigeon"}), 400, "Mode_")
    key = row["CommlogNum"]
    assert api.put(f"/commlogs/{key}", json={"Note": "Changed"}).json()["Note"] == "Changed"
    assert api.get("/commlogs?PatNum=1").json()[0]["Note"] == "Changed"
    assert api.delete(f"/commlogs/{key}").status_code == 404


def test_tasks_are_linked_listed_and_finished(api, pms):
    body = {
        "TaskListNum": 2,
        "Descript": "Look",
        "UserNum": 2,
        "ObjectType": "Patient",
        "KeyNum": 1,
    }
    made = api.post("/tasks", json=body)
    assert made.status_code == 201
    key = made.json()["TaskNum"]
    refused(api.post("/tasks", json={**body, "KeyNum": 4711}), 404, "Patient not found")
    refused(api.post("/tasks", json={**body, "TaskListNum": 9}), 404, "TaskList not found")
    assert [row["TaskNum"] for row in api.get("/tasks?KeyNum=1&ObjectType=Patient").json()] == [key]
    done = api.put(f"/tasks/{key}", json={"TaskStatus": "Done"}).json()
    assert done["DateTimeFinished"] == "2026-06-10 13:00:00"
    assert api.put(f"/tasks/{key}", json={"Descript": "Again"}).json()["TaskStatus"] == "Viewed"
    pms.change("tasks", key, DateTimeOriginal="2026-05-01 08:00:00")
    assert api.get("/tasks").json() == []
    old = {"DateTimeOriginal": "2026-04-01 00:00:00"}
    assert [row["TaskNum"] for row in api.get("/tasks", params=old).json()] == [key]
    note = api.post("/tasknotes", json={"TaskNum": key, "UserNum": 2, "Note": "n"})
    assert note.status_code == 201
    assert api.get(f"/tasknotes?TaskNum={key}").json()[0]["Note"] == "n"
    assert [row["Descript"] for row in api.get("/tasklists").json()] == [
        "Front Desk",
        "AI Imaging Review",
    ]


def test_teeth_are_marked_once(api):
    body = {"PatNum": 1, "ToothNum": "16", "InitialType": "Missing"}
    made = api.post("/toothinitials", json=body)
    assert made.status_code == 201
    assert made.json()["ToothNum"] == "16"
    refused(api.post("/toothinitials", json=body), 400, "already exists")
    assert api.post("/toothinitials", json={**body, "ToothNum": "33"}).status_code == 400
    assert api.post("/toothinitials", json={**body, "InitialType": "Tilted"}).status_code == 400
    key = made.json()["ToothInitialNum"]
    assert api.delete(f"/toothinitials/{key}").status_code == 200
    assert api.get("/toothinitials?PatNum=1").json() == []


def test_reference_lists_are_answered(api, pms):
    assert [row["Abbr"] for row in api.get("/providers").json()] == ["DRA", "DRB", "HYG"]
    assert len(api.get("/operatories").json()) == 3
    assert "bitewing" in {row["UserName"] for row in api.get("/userods").json()}
    images = api.get("/definitions?Category=18").json()
    assert {row["category"] for row in images} == {"ImageCats"}
    pms.change("definitions", 135, isHidden="true")
    assert len(api.get("/definitions?Category=18").json()) == len(images) - 1
    assert len(api.get("/definitions?Category=18&includeHidden=true").json()) == len(images)
    made = api.post("/definitions", json={"ItemName": "New", "category": "ImageCats"})
    assert made.status_code == 201
    assert made.json()["Category"] == 18
    (version,) = api.get("/preferences?PrefName=ProgramVersion").json()
    assert version["ValueString"] == "25.3.36"
    codes = {row["ProcCode"]: row for row in api.get("/procedurecodes").json()}
    assert codes["D0274"]["IsRadiology"] == "true"
    assert api.get("/clinics").json() == []
    made = api.post("/carriers", json={"CarrierName": "Invented Mutual"})
    assert made.status_code == 201
    assert (
        api.get(f"/carriers/{made.json()['CarrierNum']}").json()["CarrierName"] == "Invented Mutual"
    )


def test_old_offices_lack_methods_ignore_fields_and_filters(tmp_path):
    with running(tmp_path / "pms.sqlite", od_version="22.4.30") as pms, open_client(pms) as api:
        refused(api.get("/procnotes?PatNum=1"), 400, "24.2.29")
        refused(api.get("/documents/1"), 400, "24.2.32")
        body = {"PatNum": 1, "rawBase64": PDF, "extension": ".pdf", "ToothNumbers": "nonsense"}
        made = api.post("/documents/Upload", json=body)
        assert made.status_code == 201
        assert made.json()["ToothNumbers"] == ""
        # The ProcStatus filter came with 25.2.21 and is ignored before.
        assert api.get("/procedurelogs?PatNum=1&ProcStatus=Cn").json() != []


def test_permissions_bind_a_key(tmp_path):
    permissions = frozenset({"ReadAll", "Comm"})
    with running(tmp_path / "p.sqlite", permissions=permissions) as pms, open_client(pms) as api:
        assert api.get("/patients/1").status_code == 200
        assert api.post("/commlogs", json={"PatNum": 1, "Note": "x"}).status_code == 201
        refused(api.post("/tasks", json={}), 401, "AllOthers")


def test_a_throttled_key_waits(tmp_path):
    with running(tmp_path / "p.sqlite", throttle_s=30) as pms, open_client(pms) as api:
        assert api.get("/operatories").status_code == 200
        answer = api.get("/operatories")
        assert answer.status_code == 429
        assert answer.headers["retry-after"] == "30"


def test_faults_are_armed_over_the_wire_and_requests_logged_without_bodies(api, pms):
    door = f"{pms.page_url}/_sandbox/faults"
    fault = {"kind": "status", "status": 504, "count": 2, "methods": ["POST"], "path": "/commlogs"}
    assert httpx2.post(door, json=fault).status_code == 204
    body = {"PatNum": 1, "Note": "confidential words"}
    assert api.get("/commlogs?PatNum=1").status_code == 200
    assert [api.post("/commlogs", json=body).status_code for _ in range(3)] == [504, 504, 201]
    assert len(pms.rows("commlogs")) == 1
    log = httpx2.get(f"{pms.page_url}/_sandbox/log")
    assert [(line["method"], line["status"]) for line in log.json()] == [
        ("GET", 200),
        ("POST", 504),
        ("POST", 504),
        ("POST", 201),
    ]
    assert "confidential" not in log.text
    assert httpx2.post(door, json={"kind": "earthquake"}).status_code == 422
    assert httpx2.post(door, json={"kind": "skew", "minutes": 5}).status_code == 422
    assert httpx2.post(door, json={"kind": "skew", "seconds": 90}).status_code == 204
    assert api.get("/providers").json()[0]["serverDateTime"] == "2026-06-10 13:01:30"
    assert httpx2.post(door, json={"kind": "clear"}).status_code == 204
    assert api.get("/providers").json()[0]["serverDateTime"] == "2026-06-10 13:00:00"


def test_a_dropped_connection_gives_no_answer(api, pms):
    body = {"PatNum": 1, "Note": "x"}
    for kind, rows in (("drop_before_commit", 0), ("commit_then_drop", 1)):
        pms.fault(kind)
        with pytest.raises(httpx2.TransportError):
            api.post("/commlogs", json=body)
        assert len(pms.rows("commlogs")) == rows
    assert pms.log()[-1].status == 0
    pms.fault("offline")
    with pytest.raises(httpx2.TransportError):
        api.get("/patients/1")
    pms.fault("offline", on=False)
    assert api.get("/patients/1").status_code == 200


def test_the_page_shows_what_was_written_and_escapes_it(api, pms):
    text = "<script>alert(1)</script> & more"
    api.post("/procnotes", json={"PatNum": 1, "ProcNum": procedure_of(api), "Note": text})
    api.post("/commlogs", json={"PatNum": 1, "Note": text})
    upload = {"PatNum": 1, "rawBase64": PDF, "extension": ".html", "Description": text}
    made = api.post("/documents/Upload", json=upload).json()
    task = {"TaskListNum": 2, "Descript": text, "UserNum": 2, "ObjectType": "Patient", "KeyNum": 1}
    api.post("/tasks", json=task)
    for path in ("/", "/patients/1"):
        page = httpx2.get(pms.page_url + path)
        assert page.status_code == 200
        assert "<script>" not in page.text
        assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in page.text
        assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "4BW" in httpx2.get(pms.page_url).text
    assert httpx2.get(f"{pms.page_url}/patients/4711").status_code == 404
    served = httpx2.get(f"{pms.page_url}/documents/{made['DocNum']}")
    # A page of somebody's making is downloaded, never shown.
    assert served.headers["content-disposition"].startswith("attachment")
    assert served.headers["content-type"] == "application/octet-stream"
    assert served.headers["x-content-type-options"] == "nosniff"
