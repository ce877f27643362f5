"""The key of the durable engine and of signed links: a file of the data folder, wrapped.

Plain (32 bytes) as long as nothing is sealed; from then on wrapped by the master key, so that a
backup of the data folder gives nothing away. While the master key is replaced the file holds it
wrapped by both, so that a power cut leaves one that opens.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from node.config import Config
from node.db.master import Master, open_master
from node.engine import read_engine_key
from node.errors import ConfigError

_HEAD = "wrapped"
_ABOUT = "engine key"


def engine_key_of(config: Config) -> bytes:
    """Read the 32-byte key, making a plain one when there is none.

    Raises ConfigError when the file is not a key, or the master key is not the one that wrapped it.
    """
    lines = _wrapped(_path(config))
    if not lines:
        return read_engine_key(_path(config))
    return _unwrap(open_master(config), lines)


def wrap_engine_key(config: Config, *masters: Master) -> None:
    """Keep the key wrapped by each of `masters` from now on, making it when there is none."""
    path = _path(config)
    lines = _wrapped(path)
    key = _unwrap(open_master(config), lines) if lines else _read_or_make(path)
    _write(path, [_HEAD, *(master.wrap(key, _ABOUT) for master in masters)])


def keep_wrapped(config: Config) -> None:
    """Wrap the key, once, by the configured master key."""
    if not _wrapped(_path(config)):
        wrap_engine_key(config, open_master(config))


def _read_or_make(path: Path) -> bytes:
    return read_engine_key(path) if path.exists() else secrets.token_bytes(32)


def _path(config: Config) -> Path:
    return config.node.data_dir / "engine.key"


def _wrapped(path: Path) -> Sequence[str]:
    """Read the wrapped keys of the file; none when it is plain or missing."""
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    if lines[0] != _HEAD.encode():
        return []
    return [line.decode("ascii", "replace") for line in lines[1:] if line]


def _unwrap(master: Master, lines: Sequence[str]) -> bytes:
    for line in lines[:-1]:
        try:
            return master.unwrap(line, _ABOUT)
        except ConfigError:
            continue  # wrapped by the other master key
    return master.unwrap(lines[-1], _ABOUT)


def _write(path: Path, lines: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write("\n".join(lines) + "\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
