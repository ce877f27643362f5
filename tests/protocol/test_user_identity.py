"""User identity in associations: DCMTK and this node's own sender as users of a listener."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom.uid import UID
from pynetdicom import AE
from pynetdicom.pdu_primitives import UserIdentityNegotiation

from node.config import ClientSection, PeerSection
from node.db.tables import instance
from node.dicom.access import Access, Service, User
from node.dicom.send import send_object
from node.errors import Rejected
from tests.protocol.conftest import Node, make_film, write

pytestmark = pytest.mark.protocol

SENSOR = {
    "ae_title": "SENSOR",
    "username": "röntgen-1",
    "passcode": "a passcode",
    "services": ["store"],
}
OPEN = {"ae_title": "OPEN", "services": ["store"]}


@pytest.fixture
def node(start: Callable[..., Node]) -> Node:
    return start(clients=[SENSOR, OPEN])


def store(node: Node, film: Path, *options: str, ae_title: str = "SENSOR") -> bool:
    return node.storescu("-aet", ae_title, *options, film, check=False).returncode == 0


def rows(node: Node) -> int:
    return len(node.rows(instance))


@pytest.fixture
def film(tmp_path: Path) -> Path:
    return write(make_film(), tmp_path / "film.dcm")


def test_only_the_right_user_stores(node, film, tmp_path):
    assert not store(node, film), "nobody named"
    assert not store(node, film, "-usr", "röntgen-1")
    assert not store(node, film, "-usr", "röntgen-1", "-pwd", "another")
    assert not store(node, film, "-usr", "röntgen-2", "-pwd", "a passcode")
    assert rows(node) == 0
    assert store(node, film, "-usr", "röntgen-1", "-pwd", "a passcode")
    assert rows(node) == 1
    other = write(make_film(), tmp_path / "other.dcm")
    assert store(node, other, "-usr", "röntgen-1", "-pwd", "a passcode", "-rsp"), "answered"
    assert rows(node) == 2


def test_a_user_is_no_harm_where_none_is_asked_for(node, film):
    assert store(node, film, "-usr", "anybody", ae_title="OPEN")


@pytest.mark.parametrize("kind", ["--saml", "--jwt", "--kerberos"])
def test_identities_that_cannot_be_checked_are_refused_and_said_so(
    node, film, tmp_path, kind, caplog
):
    token = tmp_path / "token"
    token.write_text("eyJhbGciOiJIUzI1NiJ9.c2VjcmV0.c2ln")
    with caplog.at_level(logging.WARNING):
        assert not store(node, film, kind, str(token), ae_title="OPEN")
    assert rows(node) == 0
    assert "of a kind not supported" in caplog.text
    assert "eyJ" not in caplog.text


def test_this_node_names_its_user_to_a_peer(node, film):
    def peer(**user: str) -> PeerSection:
        return PeerSection(
            name="pacs", ae_title="BITEWING", host="127.0.0.1", port=node.port, **user
        )

    with pytest.raises(Rejected):
        send_object(film, peer(username="röntgen-1", passcode="wrong"), calling_ae="SENSOR")
    send_object(film, peer(username="röntgen-1", passcode="a passcode"), calling_ae="SENSOR")
    assert rows(node) == 1


def test_a_refusal_is_permanent_and_gives_no_reason(node):
    identity = UserIdentityNegotiation()
    identity.user_identity_type, identity.positive_response_requested = 1, True
    identity.primary_field = b"\xff\xfe' OR 1=1 --"
    entity = AE("SENSOR")
    entity.add_requested_context(UID("1.2.840.10008.1.1"))
    assoc = entity.associate("127.0.0.1", node.port, ext_neg=[identity])
    assert assoc.is_rejected
    answer = assoc.acceptor.primitive
    assert (answer.result, answer.result_source, answer.diagnostic) == (1, 2, 1)


def test_users_may_have_different_services_at_one_device():
    access = Access(
        [
            ClientSection(ae_title="PAN1", services=("worklist",)),
            ClientSection(ae_title="*", username="lin", services=("query", "retrieve")),
        ]
    )
    assert access.services("PAN1", "127.0.0.1") == {Service.WORKLIST}
    lin = User("lin")
    assert access.services("PAN1", "127.0.0.1", lin) == {Service.QUERY, Service.RETRIEVE}
    assert access.services("OTHER", "127.0.0.1", lin) == {Service.QUERY, Service.RETRIEVE}
    assert access.services("OTHER", "127.0.0.1") == frozenset()
    assert "passcode" not in repr(User("lin", "passcode"))
