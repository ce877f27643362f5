"""Heads of the audit, kept where the database cannot reach: a file that only grows."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from node.db.audit import Head
from node.errors import ConfigError, Retryable

_HASH = re.compile(r"[0-9a-f]{64}")
#: What a line begins with; a head that stands whole counts, also where the line's end is damaged.
_BEGINS = re.compile(r'\{"seq": (\d+), "hash": "([0-9a-f]{64})"')


@dataclass(frozen=True, slots=True)
class HeadFile:
    """One file of heads, a JSON line each; best on another disk or machine."""

    path: Path

    def append(self, head: Head) -> None:
        """Add a head and see it on the disk. Raises Retryable when the disk does not take it."""
        line = {"seq": head.seq, "hash": head.hash, "at": datetime.now(UTC).isoformat()}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
            file = os.open(self.path, flags, 0o600)
            try:
                # a line torn by a crash must not swallow this one
                gap = b"\n" if self._ends_open() else b""
                os.write(file, gap + json.dumps(line).encode() + b"\n")
                os.fsync(file)
            finally:
                os.close(file)
        except OSError as error:
            words = error.strerror or type(error).__name__
            raise Retryable(f"the file of audit heads cannot be written ({words})") from None

    def read(self) -> Mapping[int, str]:
        """Read every head, the hash by its row; no file holds none.

        Raises ConfigError when a line is damaged, or two heads of one row differ.
        """
        heads: dict[int, str] = {}
        try:
            lines = self.path.read_text(encoding="utf-8", errors="replace").split("\n")
        except FileNotFoundError:
            return heads
        except OSError as error:
            raise ConfigError(f"audit.heads_file cannot be read ({error.strerror})") from None
        for number, line in enumerate(lines, 1):
            head = _read(line)
            if head is None and (not line.strip() or _is_torn(line)):
                continue
            if head is None:
                raise ConfigError(f"line {number} of the audit's heads is damaged")
            if heads.setdefault(head.seq, head.hash) != head.hash:
                raise ConfigError(f"line {number} of the audit's heads contradicts another one")
        return heads

    def last(self) -> Head | None:
        """Read the newest head that can be read."""
        with contextlib.suppress(OSError):
            for line in reversed(self.path.read_text(errors="replace").split("\n")):
                head = _read(line)
                if head is not None:
                    return head
        return None

    def _ends_open(self) -> bool:
        with self.path.open("rb") as file:
            if file.seek(0, os.SEEK_END) == 0:
                return False
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"


def _is_torn(line: str) -> bool:
    """Tell a line whose writing a crash cut short from one that was changed."""
    return line.startswith('{"seq"'[: len(line)]) and not line.endswith("}")


def _read(line: str) -> Head | None:
    begins = _BEGINS.match(line)
    if begins is not None:
        return Head(int(begins[1]), begins[2])
    try:
        value = json.loads(line)
        seq, digest = value["seq"], value["hash"]
    except (ValueError, KeyError, TypeError):
        return None
    if not isinstance(seq, int) or not isinstance(digest, str) or not _HASH.fullmatch(digest):
        return None
    return Head(seq, digest)
