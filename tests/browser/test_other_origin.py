"""A viewer on another origin opens a study by DICOMweb from a browser, where it is let."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx2
import pytest
from playwright.sync_api import Browser, Page
from pydicom.uid import generate_uid

from tests.browser.conftest import PASSWORD, Clinic, phantom, radiograph

pytestmark = pytest.mark.browser

#: What a viewer does: search, read the metadata, fetch the frame, draw it.
OPEN = """async ([root, credentials]) => {
	const ask = (path, accept) =>
		fetch(root + path, {headers: {Authorization: credentials, Accept: accept}});
	const list = async (path) => (await ask(path, "application/dicom+json")).json();
	const study = (await list("/studies"))[0]["0020000D"].Value[0];
	const [image] = await list(`/studies/${study}/metadata`);
	const value = (tag) => image[tag].Value[0];
	const path =
		`/studies/${study}/series/${value("0020000E")}/instances/${value("00080018")}`;
	const octets = 'multipart/related; type="application/octet-stream"';
	const frame = await ask(`${path}/frames/1`, octets);
	const drawn = await (await ask(`${path}/rendered`, "image/png")).blob();
	const picture = await createImageBitmap(drawn);
	return {
		rows: value("00280010"), columns: value("00280011"),
		width: picture.width, height: picture.height,
		bytes: (await frame.arrayBuffer()).byteLength,
		kind: frame.headers.get("content-type"),
	};
}"""
TRY = """async ([url, credentials]) => {
	const headers = {Authorization: credentials};
	try { return (await fetch(url, {headers, credentials: "include"})).status; }
	catch (error) { return error.name; }
}"""


class _Blank(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>viewer</title>")

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def viewer_origin() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Blank)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join(10)


@pytest.fixture
def page(chromium: Browser, viewer_origin: str) -> Iterator[Page]:
    opened = chromium.new_page()
    opened.goto(viewer_origin)
    yield opened
    opened.close()


def credentials() -> str:
    return "Basic " + base64.b64encode(f"lin:{PASSWORD}".encode()).decode()


def test_a_viewer_of_a_configured_origin_opens_a_study(
    open_clinic: Callable[..., Clinic], viewer_origin: str, page: Page
) -> None:
    clinic = open_clinic(dicomweb_origins=[viewer_origin])
    series = generate_uid()
    study_id = clinic.add_study(clinic.add_patient("Doe", "Jane"), images=0)
    image = radiograph(phantom(), SeriesInstanceUID=series)
    clinic.add_image(study_id, ds=image, series_instance_uid=series)
    found = page.evaluate(OPEN, [f"{clinic.url}/dicomweb", credentials()])
    assert (found["width"], found["height"]) == (found["columns"], found["rows"])
    assert found["bytes"] > found["rows"] * found["columns"]
    assert found["kind"].startswith("multipart/related")
    wrong = "Basic " + base64.b64encode(b"lin:wrong").decode()
    asked = {"Origin": viewer_origin, "Authorization": wrong}
    answer = httpx2.get(f"{clinic.url}/dicomweb/studies", headers=asked)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (
        401,
        viewer_origin,
    ), "the viewer may read why"


def test_nothing_else_of_the_node_is_open_to_it(
    open_clinic: Callable[..., Clinic], viewer_origin: str, page: Page
) -> None:
    clinic = open_clinic(dicomweb_origins=[viewer_origin])
    for path in ("/api/worklist", "/dicomweb/studies"):  # the latter with the page's cookie
        assert page.evaluate(TRY, [clinic.url + path, credentials()]) == "TypeError"


def test_a_viewer_of_any_other_origin_gets_nothing(
    open_clinic: Callable[..., Clinic], viewer_origin: str, page: Page
) -> None:
    clinic = open_clinic(dicomweb_origins=["https://viewer.example"])
    url = f"{clinic.url}/dicomweb/studies"
    assert page.evaluate(TRY, [url, credentials()]) == "TypeError"
    asked = {"Origin": viewer_origin, "Access-Control-Request-Method": "GET"}
    answer = httpx2.request("OPTIONS", url, headers=asked)
    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers
    assert answer.headers["vary"] == "Origin"
