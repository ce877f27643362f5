"""How the audit's rows are bound to each other; a reader of an export needs this file alone.

``python audit_chain.py EXPORT [HEAD]`` verifies an export (JSON or CSV) without a database and
without Bitewing, with nothing but Python. HEAD is the hash, or its first 16 digits or more, that
was anchored outside for the export's last row.

A row's hash is ``SHA-256(previous hash + content digest)``, both as 64 hex digits; the content
digest is SHA-256 over the canonical JSON (keys sorted, no blanks, ASCII) of
``[seq, location, time, actor, action, subject, detail]``. An export holds the rows asked for whole
and of the rows between them the digests only: they prove that nothing is missing, and say nothing.
"""

from __future__ import annotations

import csv
import hashlib
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

FORMAT = "bitewing-audit-1"
#: The columns of an export; of a row left out only the number and the digest are filled.
COLUMNS = (
    "seq", "location_id", "at", "actor", "action", "subject", "detail", "previous_hash", "hash",
    "content_digest",
)  # fmt: skip
_LEAST_HEAD = 16


@dataclass(frozen=True, slots=True)
class Proof:
    """What an export proves: rows shown, rows left out, its head, and the first problem."""

    shown: int
    left_out: int
    head: str
    problem: str = ""


def chained(previous: str, digest: str) -> str:
    """Make a row's hash of the hash before it and the digest of its content."""
    return hashlib.sha256(f"{previous}{digest}".encode()).hexdigest()


def canonical(content: Sequence[object]) -> bytes:
    """Write a value as JSON in the one way that digests are taken over."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return text.encode()


def verify_links(links: Iterable[Mapping[str, object]], head: str = "") -> Proof:
    """Walk the rows of an export in their order, whole ones and digests.

    `head` is what was anchored outside for the last row; the whole hash or its beginning.
    """
    shown = left_out = 0
    previous, expected = "", 0
    for link in links:
        seq = int(str(link["seq"]))
        if previous and seq != expected:
            return Proof(shown, left_out, previous, f"row {expected} is missing")
        if link.get("hash"):
            problem, previous = problem_of(link, previous), str(link["hash"])
            shown += 1
        else:
            problem = "" if previous else "begins with a row that is left out"
            previous = chained(previous, str(link["content_digest"]))
            left_out += 1
        if problem:
            return Proof(shown, left_out, previous, f"row {seq}: {problem}")
        expected = seq + 1
    if head and (len(head) < _LEAST_HEAD or not previous.startswith(head.lower())):
        return Proof(shown, left_out, previous, "the end is not what was anchored")
    return Proof(shown, left_out, previous)


def problem_of(link: Mapping[str, object], previous: str) -> str:
    """Say what is wrong with a whole row behind the hash `previous` ("" when that is not known)."""
    before = str(link["previous_hash"])
    if previous and before != previous:
        return "does not follow the row before it"
    written = link["detail"]
    detail = json.loads(written) if isinstance(written, str) else written
    texts = [str(link[name]) for name in ("location_id", "at", "actor", "action", "subject")]
    content = [int(str(link["seq"])), *texts, detail]
    made = chained(before, hashlib.sha256(canonical(content)).hexdigest())
    # the first release hashed the content and the hash before it in one
    first = hashlib.sha256(canonical([*content, before])).hexdigest()
    return "" if link["hash"] in (made, first) else "its content was changed"


def read_export(path: Path) -> list[Mapping[str, object]]:
    """Read the rows of an export, by the form of its content. Raises ValueError for another."""
    text = path.read_text(encoding="utf-8")
    if text.lstrip().startswith("{"):
        document = json.loads(text)
        if document.get("format") != FORMAT:
            raise ValueError("this is no export of the audit")
        return list(document["rows"])
    rows = list(csv.DictReader(text.splitlines()))
    if not rows or set(rows[0]) != set(COLUMNS):
        raise ValueError("this is no export of the audit")
    return [dict(row) for row in rows]


def verify_export(path: Path, head: str = "") -> Proof:
    """Verify an export's file; what cannot be read is its problem."""
    try:
        return verify_links(read_export(path), head)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return Proof(0, 0, "", f"cannot be read ({type(error).__name__})")


def main(arguments: Sequence[str]) -> int:
    """Verify the export that is named; 0 when it holds."""
    if len(arguments) not in (1, 2):
        sys.stderr.write("python audit_chain.py EXPORT [HEAD]\n")
        return 2
    proof = verify_export(Path(arguments[0]), *arguments[1:])
    if proof.problem:
        sys.stderr.write(f"{proof.problem}\n")
        return 1
    sys.stdout.write(
        f"{proof.shown} rows hold, {proof.left_out} left out; compare the head: {proof.head}\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
