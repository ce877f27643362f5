"""Every route of the assembled application × every role, strangers, tokens and forged requests."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fastapi import Depends, FastAPI

from node.domain.rights import RIGHTS, Open, Right, Role
from node.web.auth import Gate, PageGate, declarations, demand_declarations
from node.web.tokens import PERSONAL

NOWHERE = "0" * 32

#: What each role may do, by the specification of the roles and not by the program's own table.
SPECIFIED = {
    "dentist": """worklist.see patients.see patients.link images.see images.download images.store
        images.mount findings.see_unsigned findings.propose findings.decide findings.sign
        findings.retract findings.search findings.export patient_page.show analysis.retry
        writes.retry workflows.see preauths.approve lab_cases.manage lab_cases.prescribe
        messages.approve recalls.adjust""",
    "hygienist": """worklist.see patients.see patients.link images.see images.download images.store
        images.mount findings.see_unsigned findings.propose findings.search patient_page.show
        analysis.retry workflows.see recalls.adjust""",
    "assistant": """worklist.see patients.see patients.link images.see images.store images.mount
        patient_page.show""",
    "office_manager": """worklist.see analysis.retry writes.retry workflows.see workflows.retry
        workflows.pause preauths.approve messages.approve lab_cases.manage glass.break
        glass.review""",
    "front_desk": "workflows.see preauths.approve messages.approve glass.break",
    "lab_coordinator": "workflows.see lab_cases.manage",
    "admin": """worklist.see analysis.retry writes.retry workflows.see workflows.retry
        workflows.pause users.change glass.break""",
    "auditor": """worklist.see patients.see images.see images.download findings.see_unsigned
        findings.search findings.export workflows.see audit.see glass.review""",
    "service": """worklist.see patients.see images.see images.download images.store
        findings.search findings.export workflows.see""",
}
#: Rights that other parts brought after this table was written are checked against the program's.
KNOWN = {right for words in SPECIFIED.values() for right in words.split()}

#: What the routes that matter most ask for; a route that stops asking fails here.
ASKED = {
    "GET /api/worklist": "worklist.see",
    "GET /api/events": "worklist.see",
    "GET /api/studies/{study_id}": "images.see",
    "POST /api/studies/{study_id}/ops": "images.see",
    "POST /api/studies/{study_id}/sign": "findings.sign",
    "POST /api/studies/{study_id}/amend": "findings.sign",
    "POST /api/studies/{study_id}/retract": "findings.retract",
    "POST /api/studies/{study_id}/link": "patients.link",
    "GET /api/studies/{study_id}/versions": "images.see",
    "GET /api/studies/{study_id}/comparisons/{number}/{part}": "findings.see_unsigned images.see",
    "GET /api/images/{image_id}/preview": "images.see",
    "GET /api/images/{image_id}/pixels": "images.see",
    "GET /api/images/{image_id}/dicom": "images.download",
    "POST /api/patients/search": "patients.link",
    "POST /api/findings/search": "findings.search",
    "POST /api/findings/export": "findings.export",
    "GET /review/{study_id}": "images.see",
    "GET /patient/{study_id}": "patient_page.show",
    "GET /search": "findings.search",
    "GET /workflows": "workflows.see",
    "GET /people": "users.change",
    "GET /api/people": "users.change",
    "POST /api/people": "users.change",
    "POST /api/people/{user_id}": "users.change",
    "POST /api/people/{user_id}/reset": "users.change",
    "POST /api/tokens": "users.change",
    "POST /api/emergencies": "glass.break",
    "GET /api/emergencies": "glass.review",
    "GET /dicomweb/studies": "patients.see images.see",
    "GET /dicomweb/studies/{study}": "patients.see images.see images.download",
    "POST /dicomweb/studies": "images.store",
    "GET /audit": "audit.see",
    "GET /partners": "partners.manage",
    "GET /api/partners": "partners.manage",
    "POST /api/partners": "partners.manage",
    "POST /api/partners/{agreement_id}/revoke": "partners.manage",
    "POST /api/audit/search": "audit.see",
    "POST /api/audit/export": "audit.see",
    "POST /api/cases/{case_id}/retry": "workflows.retry",
    "POST /api/cases/{case_id}/cancel": "workflows.retry",
    "POST /api/switches": "workflows.pause",
    "GET /api/payers/mail/{mail_id}": "preauths.approve",
    "POST /api/recall/standing": "messages.approve",
}


def rights_of(role: str) -> set[str]:
    own = {right.value for right in RIGHTS[Role(role)]}
    return (own - KNOWN) | set(SPECIFIED[role].split())


def routes(house) -> list[tuple[str, str, Gate]]:
    """Every route that asks for something, with ids of things that do not exist."""
    found = []
    for method, path, gate in declarations(house.app):
        if isinstance(gate, Gate) and method != "HEAD":
            address = re.sub(r"\{(number|frames)\}", "1", path)
            address = re.sub(r"\{[^}]*\}", NOWHERE, address)
            if path == "/api/events":
                address += "?after=-1"  # a stream would never end; this is refused after its gate
            found.append((method, address, gate))
    assert len(found) > 80
    return found


def is_refused(answer) -> bool:
    return answer.status_code == 403 and answer.json()["type"] == "forbidden"


def test_every_route_says_who_may_use_it(house):
    demand_declarations(house.app)
    said = {f"{method} {path}": gate for method, path, gate in declarations(house.app)}
    asked = {
        name: " ".join(right.value for right in said[name].rights)
        for name in ASKED
        if isinstance(said.get(name), Gate)
    }
    assert asked == ASKED
    assert all(gate.why for gate in said.values() if isinstance(gate, Open))


def test_a_route_that_says_nothing_is_not_served():
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/said", dependencies=[Depends(Open("nothing in it"))])
    def said() -> str:
        return ""

    demand_declarations(app)

    @app.get("/forgotten")
    def forgotten() -> str:
        return ""

    with pytest.raises(TypeError, match="GET /forgotten"):
        demand_declarations(app)


def test_the_table_is_that_of_the_specification():
    assert set(SPECIFIED) == {role.value for role in Role}
    for role in SPECIFIED:
        ours = {right.value for right in RIGHTS[Role(role)]}
        assert ours & KNOWN == set(SPECIFIED[role].split()), role


def test_the_document_shows_the_same_table():
    text = (Path(__file__).parents[3] / "docs" / "people-and-roles.md").read_text()
    for right in Right:
        (line,) = [row for row in text.splitlines() if f"`{right.value}` |" in row]
        said = [cell.strip() == "yes" for cell in line.split("|")[2:-1]]
        roles = [Role(role) for role in SPECIFIED]
        assert said == [right in RIGHTS[role] for role in roles], right


@pytest.mark.parametrize("role", [role for role in SPECIFIED if role != "service"])
def test_each_role_reaches_exactly_its_routes(house, role):
    rights = rights_of(role)
    for method, address, gate in routes(house):
        if gate.may_be_locked and method == "POST":
            continue  # signing out and locking: tested with the accounts
        answer = house.person(role).ask(method, address, None if method == "GET" else {})
        needed = {right.value for right in gate.rights}
        may_emergency = "glass.break" in rights and needed - rights <= {"images.see"}
        if isinstance(gate, PageGate) and not needed <= rights and may_emergency:
            assert answer.headers["location"].startswith("/emergency/"), address
        else:
            assert is_refused(answer) == (not needed <= rights), (method, address, answer.text)
        if gate.rights:
            assert answer.status_code != 401, (method, address)
        assert answer.status_code < 500, (method, address, answer.text)


def test_strangers_reach_nothing(house):
    stranger = house.stranger()
    for method, address, gate in routes(house):
        answer = stranger.ask(method, address, None if method == "GET" else {})
        if isinstance(gate, PageGate):
            assert answer.status_code == 303, address
            assert answer.headers["location"].startswith("/login?next=/"), address
        else:
            assert answer.status_code == 401, (method, address, answer.text)


@pytest.mark.parametrize(
    "scope", ["images.see", "patients.see images.see", "worklist.see", "images.store"]
)
def test_a_token_reaches_exactly_its_scope(house, scope):
    given = {Right(word) for word in scope.split()}
    program = house.program(*given)
    for method, address, gate in routes(house):
        answer = program.ask(method, address, None if method == "GET" else {})
        if isinstance(gate, PageGate):
            assert answer.status_code == 303, address
        elif not gate.rights:
            assert answer.status_code == 401, address  # a person's own things
        else:
            is_allowed = set(gate.rights) <= given
            assert is_refused(answer) == (not is_allowed), (method, address, answer.text)


def test_no_token_ever_signs_decides_or_changes_users(house):
    for right in PERSONAL:
        for role in Role:
            if right in RIGHTS[role]:
                with pytest.raises(Exception, match="cannot have"):
                    house.program(right, role=role.value)


def test_every_change_needs_the_pages_token(house):
    for role in ("dentist", "office_manager", "admin"):
        forger = house.person(role)
        forger.headers = {}
        for method, address, _ in routes(house):
            if method != "GET":
                answer = forger.ask(method, address, {})
                told = (answer.status_code, answer.json()["type"])
                assert told == (403, "csrf"), (method, address)


def test_every_change_from_another_site_is_refused(house):
    honest = house.person("dentist")
    program = house.program(Right.IMAGES_STORE)
    for method, address, gate in routes(house):
        if method == "GET":
            continue
        answer = honest.ask(method, address, {}, Sec_Fetch_Site="cross-site")
        assert (answer.status_code, answer.json()["type"]) == (403, "csrf"), address
        if gate.rights:
            answer = program.ask(method, address, {}, Sec_Fetch_Site="cross-site")
            assert (answer.status_code, answer.json()["type"]) == (403, "csrf"), address


def test_every_answer_carries_the_security_headers(house):
    dentist = house.person("dentist")
    for method, address, _ in routes(house):
        headers = dentist.ask(method, address, None if method == "GET" else {}).headers
        assert "default-src 'none'" in headers["content-security-policy"], address
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "camera=()" in headers["permissions-policy"]
        assert "no-store" in headers["cache-control"], address
        if "/api/sessions/end" in address or address.endswith("/logout"):
            dentist = house.person("dentist")


def test_every_route_refuses_a_body_that_is_announced_as_too_long(house):
    dentist = house.person("dentist")
    for method, address, _ in routes(house):
        if method == "POST":
            length = str((1 << 30) + 1)
            answer = dentist.ask(method, address, {}, Content_Length=length)
            assert answer.status_code == 413, (address, answer.text)


def test_transport_security_is_asked_for_only_over_tls(house):
    assert "strict-transport-security" not in house.stranger().get("/healthz").headers
    secure = house.client()
    secure.base_url = "https://testserver"
    assert "max-age=" in secure.get("/healthz").headers["strict-transport-security"]
