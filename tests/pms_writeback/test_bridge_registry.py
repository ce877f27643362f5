"""The node's rows about bridges, on both databases."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from node.db.session import Actor, read
from node.db.tables import audit
from node.errors import Forbidden, InvalidInput
from pms_writeback.bridge import registry
from pms_writeback.bridge.authority import open_authority
from pms_writeback.bridge.identity import Identity

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
ACTOR = Actor("test", "main")


def state(db, location_id="main"):
    with read(db) as conn:
        return registry.state_of(conn, location_id)


def heard(db):
    with read(db) as conn:
        query = sa.select(sa.func.count()).where(audit.c.action == "bridge.heard")
        return conn.execute(query).scalar_one()


def test_a_token_is_used_once_and_a_bad_request_does_not_use_it(database, tmp_path):
    authority = open_authority(tmp_path / "node", NOW)
    token = registry.make_token(database, ACTOR, authority, 1, NOW)
    request = Identity(tmp_path / "clinic").prepare_renewal()
    with pytest.raises(InvalidInput, match="cannot be read"):
        registry.enrol(database, authority, token.secret, b"nonsense", 90, NOW)
    issued = registry.enrol(database, authority, token.secret, request, 90, NOW)
    assert issued.expires_at == NOW + timedelta(days=90)
    registry.check_certificate(database, issued.serial, "main")
    with pytest.raises(Forbidden, match="used already"):
        registry.enrol(database, authority, token.secret, request, 90, NOW)
    with pytest.raises(Forbidden, match="not known"):
        registry.check_certificate(database, issued.serial, "south")
    late = registry.make_token(database, ACTOR, authority, 1, NOW)
    with pytest.raises(Forbidden, match="too old"):
        registry.enrol(database, authority, late.secret, request, 90, NOW + timedelta(hours=1))
    assert token.secret not in repr(token)


def test_the_revocation_list_is_the_locations_own(database, tmp_path):
    authority = open_authority(tmp_path / "node", NOW)
    request = Identity(tmp_path / "clinic").prepare_renewal()
    mine = registry.renew(database, authority, "main", request, 90, NOW)
    other = registry.renew(database, authority, "south", request, 90, NOW)
    registry.revoke(database, ACTOR, mine.serial, "sold")
    with pytest.raises(Forbidden, match="revoked"):
        registry.check_certificate(database, mine.serial, "main")
    registry.check_certificate(database, other.serial, "south")
    with read(database) as conn:
        rows = registry.certificates(conn, "main")
    assert [(row.serial, row.reason) for row in rows] == [(mine.serial, "sold")]


def test_the_same_heartbeat_is_written_once_in_a_while(database):
    said = {"stopped": "", "problems": {}, "rows": {"patient": 5}, "now": "…"}
    registry.keep_heard(database, "main", NOW, about={"product": "Dentrix"}, heartbeat=said)
    assert heard(database) == 1
    for second in range(1, 200):
        moment = NOW + timedelta(seconds=second)
        more = {**said, "rows": {"patient": second}, "now": str(second)}
        registry.keep_heard(database, "main", moment, heartbeat=more)
    assert heard(database) == 1
    trouble = {**said, "problems": {"patient": "locked"}}
    registry.keep_heard(database, "main", NOW + timedelta(seconds=201), heartbeat=trouble)
    registry.keep_heard(database, "main", NOW + timedelta(seconds=502), heartbeat=trouble)
    assert heard(database) == 3
    assert state(database).about == {"product": "Dentrix"}
    assert state(database).heartbeat["problems"] == {"patient": "locked"}


def test_stop_and_offer_belong_to_one_location(database):
    assert state(database) == registry.BridgeState(False, None, None, {}, {})
    registry.set_stopped(database, ACTOR, True, "maintenance")
    registry.set_offer(database, ACTOR, {"version": "1.2"})
    assert state(database).is_stopped
    assert state(database).offer == {"version": "1.2"}
    assert not state(database, "south").is_stopped
    registry.keep_heard(database, "main", NOW, heartbeat={"stopped": "by the node"})
    assert state(database).is_stopped, "what is heard changes nothing that was told"
    registry.set_stopped(database, ACTOR, False)
    registry.set_offer(database, ACTOR, None)
    assert (state(database).is_stopped, state(database).offer) == (False, None)
