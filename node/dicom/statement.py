"""The tables of the conformance statement, from what is really negotiated.

``docs/conformance.md`` holds them between markers; a test compares. Run as a program it writes them
again: ``python -m node.dicom.statement docs/conformance.md``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from pydicom.datadict import dictionary_description, dictionary_has_tag
from pydicom.uid import UID
from pynetdicom.presentation import PresentationContext

from node.dicom import archive
from node.dicom.access import Service
from node.dicom.query import vr_of
from node.dicom.scp import contexts_of, storage_classes
from node.dicom.steps import ROOT_READERS, STEP_READERS

_NAMES = {
    Service.STORE: "Storage",
    Service.WORKLIST: "Modality Worklist",
    Service.STEPS: "Modality Performed Procedure Step",
    Service.COMMITMENT: "Storage Commitment",
    Service.QUERY: "Query",
    Service.RETRIEVE: "Retrieve",
}


def tables() -> dict[str, str]:
    """Compose every generated part, by the name of its marker."""
    storage = [c for c in contexts_of([Service.STORE]) if c.abstract_syntax != "1.2.840.10008.1.1"]
    return {
        "services": _services(),
        "storage-classes": _rows(storage, "SOP Class"),
        "transfer-syntaxes": _syntaxes(storage[0]),
        "worklist-keys": _keys({**ROOT_READERS, **STEP_READERS}),
        "query-keys": _levels(),
    }


def filled(document: str) -> str:
    """Put the generated parts between their markers."""
    for name, text in tables().items():
        head, begin, rest = document.partition(f"<!-- {name} -->\n")
        _, end, tail = rest.partition(f"<!-- /{name} -->")
        document = f"{head}{begin}{text}\n{end}{tail}"
    return document


def _services() -> str:
    lines = ["| Service | SOP Class | UID | Role | Transfer syntaxes |", "|---|---|---|---|--:|"]
    stored = set(storage_classes())
    for service in Service:
        if service is Service.STORE:
            continue
        for context in contexts_of([service]):
            uid = UID(str(context.abstract_syntax))
            if uid in stored:
                continue
            if uid == "1.2.840.10008.1.1" and service is not Service.WORKLIST:
                continue
            name = "Verification" if uid == "1.2.840.10008.1.1" else _NAMES[service]
            count = len(context.transfer_syntax or ())
            lines.append(f"| {name} | {uid.name} | `{uid}` | SCP | {count} |")
    return "\n".join(lines)


def _rows(contexts: Iterable[PresentationContext], title: str) -> str:
    lines = [f"| {title} | UID |", "|---|---|"]
    lines += [f"| {UID(str(c.abstract_syntax)).name} | `{c.abstract_syntax}` |" for c in contexts]
    return "\n".join(lines)


def _syntaxes(context: PresentationContext) -> str:
    lines = ["| Transfer Syntax | UID |", "|---|---|"]
    lines += [f"| {uid.name} | `{uid}` |" for uid in context.transfer_syntax or ()]
    return "\n".join(lines)


def _keys(tags: Iterable[int]) -> str:
    lines = ["| Attribute | Tag | VR |", "|---|---|---|"]
    for tag in sorted(tags):
        vr = vr_of(tag)
        lines.append(f"| {_name(tag)} | ({tag >> 16:04X},{tag & 0xFFFF:04X}) | {vr} |")
    return "\n".join(lines)


def _levels() -> str:
    lines = ["| Attribute | Tag | Levels |", "|---|---|---|"]
    for tag in sorted(archive.READERS[archive.Level.IMAGE]):
        levels = ", ".join(level.value for level in archive.Level if tag in archive.READERS[level])
        lines.append(f"| {_name(tag)} | ({tag >> 16:04X},{tag & 0xFFFF:04X}) | {levels} |")
    return "\n".join(lines)


def _name(tag: int) -> str:
    return dictionary_description(tag) if dictionary_has_tag(tag) else "?"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(filled(path.read_text(encoding="utf-8")), encoding="utf-8")
