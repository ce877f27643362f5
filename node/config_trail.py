"""What is configured, as the audit keeps it: a digest at each start, and which keys differ.

Values stay out: each key is kept with a keyed digest of its value, so that a later start can name
the keys that changed without anybody reading a password out of the audit.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator, Mapping, Sequence

import sqlalchemy as sa
from pydantic import BaseModel, SecretStr

from node import __version__
from node.config import Config
from node.db.session import Actor, begin
from node.db.tables import audit

ACTION = "config.effective"


def note_config(db: sa.Engine, config: Config, executor_id: str, key: bytes) -> Sequence[str]:
    """Write down the configuration that a process starts with; return the keys that changed.

    `key` is this installation's own; the comparison is with the last start of this process.
    """
    subject = f"config:{executor_id}"[:128]
    digests = {name: _mac(key, value) for name, value in sorted(_leaves("", config))}
    with begin(db, Actor("node", config.node.location_id), ACTION) as tx:
        last = tx.conn.execute(
            sa.select(audit.c.detail)
            .where(audit.c.subject == subject, audit.c.action == ACTION)
            .order_by(audit.c.seq.desc())
            .limit(1)
        ).scalar()
        before = (last or {}).get("keys", digests)
        names = sorted(set(before) | set(digests))
        changed = [name for name in names if before.get(name) != digests.get(name)]
        whole = hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()
        tx.record(
            subject,
            digest=whole,
            version=__version__,
            is_first=last is None,
            changed=changed,
            keys=digests,
        )
    return changed


def _leaves(name: str, value: object) -> Iterator[tuple[str, str]]:
    """Give every key with its value as text; sections, lists and tables are gone into."""
    if isinstance(value, BaseModel):
        for field in type(value).model_fields:
            yield from _leaves(f"{name}.{field}" if name else field, getattr(value, field))
    elif isinstance(value, Mapping):
        for each, inner in value.items():
            yield from _leaves(f"{name}.{each}", inner)
    elif isinstance(value, tuple) and any(isinstance(each, BaseModel) for each in value):
        for number, inner in enumerate(value):
            yield from _leaves(f"{name}[{number}]", inner)
    else:
        yield name, value.get_secret_value() if isinstance(value, SecretStr) else str(value)


def _mac(key: bytes, value: str) -> str:
    return hmac.new(key, b"config:" + value.encode(), hashlib.sha256).hexdigest()[:16]
