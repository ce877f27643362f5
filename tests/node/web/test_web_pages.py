"""Pages, files, headers, errors, live events, health and metrics."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from pathlib import Path

import pytest

import node.web
from node.db.session import begin
from node.domain.events import EventKind
from node.web.assets import release
from node.web.lean import lean
from node.web.live import Live
from node.web.pages import render
from node.web.shapes import Boot


def boot_of(page):
    found = re.search(r'<script type="application/json" id="boot">(.*?)</script>', page, re.S)
    return json.loads(found.group(1))


def test_every_answer_carries_the_security_headers(practice):
    dentist = practice.sign_in("dentist")
    for path in ("/login", "/", "/api/me", "/api/nothing", "/static/css/tokens.css", "/healthz"):
        headers = dentist.get(path).headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "camera=()" in headers["permissions-policy"]
        assert "server" not in headers or "uvicorn" in headers["server"]


def test_pages_come_with_their_first_answer_and_are_not_kept(practice):
    study_id = practice.analysed_study()
    dentist = practice.sign_in("dentist")
    worklist = dentist.get("/")
    assert worklist.headers["cache-control"] == "private, no-store"
    assert boot_of(worklist.text)["worklist"]["rows"][0]["id"] == study_id
    assert boot_of(worklist.text)["me"]["csrf_token"] == dentist.me["csrf_token"]
    review = boot_of(dentist.get(f"/review/{study_id}").text)
    assert review["study"]["id"] == study_id
    assert review["study"]["content_hash"] == dentist.study(study_id)["content_hash"]


def test_a_stranger_is_sent_to_sign_in_and_back(practice):
    study_id = practice.add_study()
    stranger = practice.client()
    answer = stranger.get(f"/review/{study_id}")
    assert answer.status_code == 303
    assert answer.headers["location"] == f"/login?next=/review/{study_id}"
    login = stranger.get("/login")
    assert boot_of(login.text)["me"] is None


def test_no_text_can_break_out_of_the_boot_block():
    evil = "</script><script>alert(1)</script><!--"
    boot = Boot(page="login", practice_name=evil, software_version="1")
    page = render("login", boot).body.decode()
    assert "<script>alert" not in page
    assert boot_of(page)["practice_name"] == evil


def test_modules_come_without_comments_and_every_line_keeps_its_number(practice):
    answer = practice.client().get("/static/review/store.mjs")
    written = (Path(node.web.__file__).parent / "static/review/store.mjs").read_text()
    served = answer.text.split("\n")
    assert len(served) == written.count("\n") + 1
    assert "/*" not in answer.text
    assert "//" not in answer.text
    for before, now in zip(written.split("\n"), served, strict=True):
        is_code = now and "`" not in before
        assert not is_code or "".join(now.split()) in "".join(before.split())
    assert len(answer.content) < 0.85 * len(written)


@pytest.mark.parametrize(
    ("written", "served"),
    [
        ("const a = b + +c; // why", "const a=b+ +c;"),
        ("return x / 2 / y;", "return x/2/y;"),
        ("return /a b[/ ]+/.test(x);", "return/a b[/ ]+/.test(x);"),
        ("if (a) b = c.replace(/\\/ /g, ' / ');", "if(a)b=c.replace(/\\/ /g,' / ');"),
        ('const a = "it\\"s // not";', 'const a="it\\"s // not";'),
        ("/* one\n two */ let a  =  1;", "\nlet a=1;"),
        ("x = h`<a b=${ f( `c  d` , 1 ) }>\n\t\te  f`;", "x=h`<a b=${f(`c  d`,1)}>\ne  f`;"),
        ("\treturn `${ { a : 1 }.a }  b`;", "return`${{a:1}.a}  b`;"),
        ("a = b\n\t++c", "a=b\n++c"),
        ("for (const [k, v] of list) k in v;", "for(const[k,v]of list)k in v;"),
    ],
)  # fmt: skip
def test_only_blanks_that_separate_nothing_are_left_out(written, served):
    assert lean(written) == served


def test_every_module_that_is_imported_is_there():
    files = release()
    for module, imported in files.imports.items():
        assert set(imported) <= set(files.assets), module


def test_vendored_files_are_served_as_they_came(practice):
    answer = practice.client().get("/static/vendor/preact.mjs")
    path = Path(node.web.__file__).parent / "static/vendor/preact.mjs"
    assert answer.content == path.read_bytes()


def test_a_page_asks_for_the_files_of_its_release_and_browsers_keep_them(practice):
    client = practice.client()
    page = client.get("/login").text
    addresses = re.findall(r'(?:src|href)="(/static/[^"]+)"', page)
    assert len(addresses) > 5
    assert {address.split("/")[2] for address in addresses} == {release().name}
    for address in addresses:
        answer = client.get(address)
        assert (answer.status_code, answer.headers["vary"]) == (200, "Accept-Encoding")
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"


def test_a_page_of_another_release_gets_no_file_and_learns_that_there_is_a_newer_one(practice):
    answer = practice.client().get("/static/0123456789abcdef/shared/say.mjs")
    assert answer.status_code == 404
    assert answer.headers["x-release"] == release().name
    assert "another release" in answer.json()["title"]


def test_files_come_compressed_to_whoever_reads_that(practice):
    client = practice.client()
    packed = client.get("/static/review/store.mjs", headers={"Accept-Encoding": "gzip"})
    plain = client.get("/static/review/store.mjs", headers={"Accept-Encoding": "identity"})
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert packed.content == plain.content
    assert int(packed.headers["content-length"]) < 0.6 * len(plain.content)


def test_the_head_of_a_review_names_its_first_picture_and_no_person(practice):
    study_id = practice.analysed_study()
    dentist = practice.sign_in("dentist")
    image_id = dentist.study(study_id)["images"][0]["id"]
    head = dentist.get(f"/review/{study_id}").text.partition('<script type="application/json"')[0]
    assert f'as="image" fetchpriority="high" href="/api/images/{image_id}/preview?w=900"' in head
    assert f'as="fetch" crossorigin href="/api/images/{image_id}/pixels"' in head
    assert "DOE" not in head.upper()
    dentist.post("/api/lock")
    locked = dentist.get(f"/review/{study_id}").text
    assert image_id not in locked


def test_files_are_asked_for_again(practice):
    client = practice.client()
    first = client.get("/static/vendor/preact.mjs")
    assert first.status_code == 200
    assert first.headers["content-type"].startswith("text/javascript")
    assert first.headers["cache-control"] == "no-cache"
    again = client.get(
        "/static/vendor/preact.mjs", headers={"If-None-Match": first.headers["etag"]}
    )
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "name",
    ["../pages.py", "%2e%2e/pages.py", "vendor/..%2f..%2fpages.py", "vendor", "x.mjs", "a//b.mjs"],
)
def test_nothing_but_the_pages_files_is_served(practice, name):
    assert practice.client().get(f"/static/{name}").status_code == 404


def test_bad_input_is_named_by_place_and_never_echoed(practice):
    dentist = practice.sign_in("dentist")
    answer = dentist.post("/api/patients/search", {"text": "DOE^JANE" * 20, "extra": 1})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert "body.text" in answer.json()["detail"]
    assert "DOE" not in answer.text


def test_a_request_larger_than_the_page_ever_sends_is_cut_off(practice):
    answer = practice.client().post("/api/login", content=b"x" * (3 << 20))
    assert (answer.status_code, answer.json()["type"]) == (413, "invalid")


def test_the_description_of_the_api_can_be_made(practice):
    paths = practice.app.openapi()["paths"]
    assert "/api/studies/{study_id}/ops" in paths
    assert practice.client().get("/openapi.json").status_code == 404


class Stream:
    """Follows the live events on a thread, as the browser does."""

    def __init__(self, browser, headers=None, after=None):
        self.events = []
        self._browser, self._headers = browser, headers or {}
        self._query = "" if after is None else f"?after={after}"
        self.is_open = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self.is_open.wait(60)

    def _run(self):
        path = f"/api/events{self._query}"
        with self._browser.http.stream("GET", path, headers=self._headers, timeout=30) as answer:
            self.status = answer.status_code
            for line in answer.iter_lines():
                self.is_open.set()
                if line.startswith("data: "):
                    self.events.append(json.loads(line[6:]))

    def wait_for(self, count):
        deadline = time.monotonic() + 60
        while len(self.events) < count:
            assert time.monotonic() < deadline, self.events
            self._thread.join(0.02)
        return self.events


def leave(practice, kind, subject, data=None):
    with begin(practice.db, practice.actor, "test.event") as tx:
        tx.append_event(kind, subject, f"{kind.value}:{subject}:{tx.now.isoformat()}", data)


def test_events_arrive_live_with_ids_only(practice):
    study_id = practice.add_study()
    (image_id,) = practice.image_ids(study_id)
    stream = Stream(practice.sign_in("dentist"))
    practice.analyse(image_id)
    leave(practice, EventKind.WRITE_DONE, "f" * 32, {"study_id": study_id, "name": "Doe"})
    first, second = stream.wait_for(2)
    assert first == {
        "seq": first["seq"],
        "kind": "image.analysed",
        "study_id": study_id,
        "image_id": image_id,
    }
    assert second == {
        "seq": second["seq"],
        "kind": "pms.write_done",
        "study_id": study_id,
        "image_id": None,
    }


def test_a_browser_that_comes_back_gets_what_it_missed(practice):
    study_id = practice.add_study()
    dentist = practice.sign_in("dentist")
    for kind in (EventKind.STUDY_COMPLETED, EventKind.STUDY_READY, EventKind.REVIEW_CHANGED):
        leave(practice, kind, study_id, {"study_id": study_id})
    first = Stream(dentist, after=0).wait_for(3)
    again = Stream(dentist, {"Last-Event-ID": str(first[0]["seq"])}).wait_for(2)
    assert [news["kind"] for news in again] == ["study.ready", "review.changed"]


def test_a_browser_that_missed_too_much_is_told_to_fetch_everything(practice):
    study_id = practice.add_study()
    with begin(practice.db, practice.actor, "test.events") as tx:
        for number in range(600):
            tx.append_event(EventKind.REVIEW_CHANGED, study_id, f"review:{number}")
    (news,) = Stream(practice.sign_in("dentist"), after=0).wait_for(1)
    assert (news["kind"], news["seq"]) == ("resync", 501)


def test_two_streams_opened_at_once_are_fed_by_one_follower(practice):
    async def open_two() -> int:
        live = Live(practice.app.state.web)
        before = len(asyncio.all_tasks())
        listeners = [live.join("one"), live.join("two")]
        await asyncio.gather(live.start(), live.start())
        followers = len(asyncio.all_tasks()) - before
        for listener in listeners:
            live.leave(listener)
        while len(asyncio.all_tasks()) > before:
            await asyncio.sleep(0.01)
        return followers

    assert asyncio.run(asyncio.wait_for(open_two(), 20)) == 1


def test_events_of_another_location_stay_there(open_practice):
    north, south = open_practice("north"), open_practice("south")
    stream = Stream(north.sign_in("dentist"))
    leave(south, EventKind.STUDY_READY, south.add_study())
    study_id = north.add_study()
    leave(north, EventKind.STUDY_READY, study_id)
    assert [news["study_id"] for news in stream.wait_for(1)] == [study_id]


def test_one_person_may_not_open_endless_streams(practice):
    dentist = practice.sign_in("dentist")
    for _ in range(4):
        Stream(dentist)
    answer = dentist.get("/api/events")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "10"


def test_health_is_bad_only_when_a_part_of_ours_is(practice, make_verdict):
    client = practice.client()
    assert client.get("/healthz").json()["status"] == "ok"
    practice.probes["pms"] = make_verdict(False, "away since 09:12", is_ours=False)
    degraded = client.get("/healthz")
    assert (degraded.status_code, degraded.json()["status"]) == (200, "degraded")
    assert degraded.json()["parts"][-1]["words"] == "away since 09:12"
    practice.probes["database"] = make_verdict(False, "cannot be read")
    assert client.get("/healthz").status_code == 503


def test_metrics_speak_prometheus(practice):
    answer = practice.client().get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert "# TYPE bitewing_studies gauge" in answer.text
