"""What is configured leaves its row at each start; keys that changed are named, values never."""

import json

import sqlalchemy as sa

from node.config import Config, read_config
from node.config_trail import ACTION, note_config
from node.db.session import read
from node.db.tables import audit

KEY = b"an installation's own key, 32 b."


def config(**sections: dict[str, object]) -> Config:
    return read_config(environment={}, overrides=sections)


def rows(db: sa.Engine) -> list[dict]:
    with read(db) as conn:
        query = sa.select(audit.c.detail).where(audit.c.action == ACTION).order_by(audit.c.seq)
        return list(conn.execute(query).scalars())


def test_changed_keys_are_named_and_no_secret_is_kept(sqlite_database: sa.Engine) -> None:
    peer = {"name": "pacs", "ae_title": "PACS", "host": "pacs.example", "port": 104}
    first = config(pms={"customer_key": "open sesame"}, web={"port": 8080})
    second = config(
        pms={"customer_key": "changed secret"}, web={"port": 8081}, dicom={"peers": [peer]}
    )
    assert note_config(sqlite_database, first, "node-1", KEY) == []
    assert note_config(sqlite_database, first, "node-1", KEY) == []
    changed = note_config(sqlite_database, second, "node-1", KEY)
    assert {"pms.customer_key", "web.port", "dicom.peers[0].host"} <= set(changed)
    assert not [name for name in changed if not name.startswith(("pms.", "web.", "dicom.peers"))]
    kept = rows(sqlite_database)
    assert [row["is_first"] for row in kept] == [True, False, False]
    assert kept[0]["digest"] == kept[1]["digest"] != kept[2]["digest"]
    assert list(kept[2]["changed"]) == list(changed)
    text = json.dumps(kept)
    for secret in ("open sesame", "changed secret", "8081", "pacs.example"):
        assert secret not in text


def test_each_process_is_compared_with_itself(sqlite_database: sa.Engine) -> None:
    assert note_config(sqlite_database, config(web={"port": 1234}), "node-1", KEY) == []
    assert note_config(sqlite_database, config(), "node-2", KEY) == []
    assert note_config(sqlite_database, config(), "node-1", KEY) == ["web.port"]
