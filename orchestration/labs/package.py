"""The package that a laboratory gets: a ZIP of prescription, slip, scans and photographs.

The same prescription and files give the same bytes: entries are stored, in a fixed order, with a
fixed time. ``SHA256SUMS`` lists every other entry. Reading a package refuses path tricks, links,
bombs and whatever does not match its sums.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from pathlib import PurePosixPath
from typing import BinaryIO, cast

from node.errors import InvalidInput, Rejected
from orchestration.labs.prescription import FileKind, FileRef, LabRx, rx_from_json, rx_to_json
from orchestration.labs.rulebook import LabPack, Rulebook
from orchestration.labs.scans import check_file
from orchestration.labs.slip import compose_slip

RX_JSON, RX_PDF, SUMS = "Rx.json", "Rx.pdf", "SHA256SUMS"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first moment that ZIP can say
_MODE = 0o100600 << 16
_CHUNK = 1 << 20
_MOST_ENTRIES = 200
_MOST_RATIO = 200
_FOLDERS = {
    FileKind.SCAN: "scans",
    FileKind.OPPOSING_SCAN: "scans",
    FileKind.BITE_SCAN: "scans",
    FileKind.SCAN_BODY: "scans",
    FileKind.PHOTO: "photos",
    FileKind.RADIOGRAPH: "radiographs",
    FileKind.OTHER: "other",
}
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._()-]{0,99}")

#: Opens an attached file, seekable.
Open = Callable[[], BinaryIO]


@dataclass(frozen=True, slots=True)
class Package:
    """What stood in a package that was read: its prescription and the sums of its entries."""

    rx: LabRx
    sums: Mapping[str, str]


def check_name(name: str) -> None:
    """Refuse a file name that is a path, or that some system reads as something else."""
    if not _SAFE.fullmatch(name) or _RESERVED.fullmatch(name) or name.endswith((".", " ")):
        raise InvalidInput(
            "a file name has letters, digits, spaces, hyphens, underscores and dots only"
        )


def describe_file(name: str, kind: FileKind, file: BinaryIO) -> FileRef:
    """Check an attached file and give its entry for the prescription.

    Raises InvalidInput when its name or its content is not acceptable.
    """
    check_name(name)
    check_file(name, kind, file)
    sha256, size = _digest(file)
    return FileRef(name, kind, sha256, size)


def package_name(rx: LabRx, pack: LabPack, zone: tzinfo) -> str:
    """Name the package as the laboratory's pattern says, ``.zip`` included."""
    day = rx.signature.signed_at.astimezone(zone).date() if rx.signature else rx.written_on
    teeth = "-".join(tooth.universal for tooth in rx.teeth) or (rx.arch.value if rx.arch else "all")
    text = pack.package_name.format(
        case=rx.case_number,
        restoration=rx.restoration.value,
        teeth=teeth,
        date=day.strftime("%Y%m%d"),
        office=re.sub(r"[^A-Za-z0-9]+", "-", rx.office.name).strip("-"),
    )
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text)[:100] + ".zip"


def entry_name(ref: FileRef) -> str:
    """Where a file lies in the package."""
    return f"{_FOLDERS[ref.kind]}/{ref.name}"


def write_package(
    out: BinaryIO, rx: LabRx, book: Rulebook, files: Mapping[str, Open], zone: tzinfo
) -> None:
    """Write the package of a signed prescription; `files` opens each attachment by its name.

    Raises
    ------
    Rejected
        The prescription is not signed.
    InvalidInput
        A file is missing, is not the one prescribed, or two have one name.
    """
    if rx.signature is None:
        raise Rejected("a laboratory gets no unsigned prescription")
    _check_entries([entry_name(ref) for ref in rx.attachments])
    sums: list[tuple[str, str]] = []
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        rx_json = json.dumps(rx_to_json(rx), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        for name, content in (
            (RX_JSON, rx_json.encode()),
            (RX_PDF, compose_slip(rx, book, zone)),
        ):
            archive.writestr(_info(name, len(content)), content)
            sums.append((hashlib.sha256(content).hexdigest(), name))
        for ref in sorted(rx.attachments, key=entry_name):
            _add(archive, ref, files)
            sums.append((ref.sha256, entry_name(ref)))
        text = "".join(f"{digest}  {name}\n" for digest, name in sums).encode()
        archive.writestr(_info(SUMS, len(text)), text)


#: What a damaged or hostile archive raises while it is read.
_BROKEN = (
    zipfile.BadZipFile,
    KeyError,
    ValueError,
    EOFError,
    NotImplementedError,
    RecursionError,
    zlib.error,
    RuntimeError,
)


def read_package(file: BinaryIO, largest_bytes: int = 2_000_000_000) -> Package:
    """Read a package and verify every entry.

    Raises
    ------
    InvalidInput
        It is no package, holds a path trick, a link or a bomb, or does not match its sums.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            _check_archive(archive, largest_bytes)
            sums = _read_sums(archive)
            for name, wanted in sums.items():
                with archive.open(name) as entry:
                    if _digest(cast("BinaryIO", entry))[0] != wanted:
                        raise InvalidInput("an entry of the package does not match its sum")
            rx = rx_from_json(json.loads(archive.read(RX_JSON)))
    except _BROKEN as error:
        raise InvalidInput(f"not a package for a laboratory ({type(error).__name__})") from None
    for ref in rx.attachments:
        if sums.get(entry_name(ref)) != ref.sha256:
            raise InvalidInput("the package lacks a file of its prescription")
    return Package(rx, sums)


def _add(archive: zipfile.ZipFile, ref: FileRef, files: Mapping[str, Open]) -> None:
    if ref.name not in files:
        raise InvalidInput("a file of the prescription is not there; attach it again")
    with files[ref.name]() as source:
        check_file(ref.name, ref.kind, source)
        if _digest(source) != (ref.sha256, ref.size_bytes):
            raise InvalidInput("a file changed since the prescription was signed; sign again")
        with archive.open(_info(entry_name(ref), ref.size_bytes), "w") as entry:
            shutil.copyfileobj(source, entry, _CHUNK)


def _digest(file: BinaryIO) -> tuple[str, int]:
    file.seek(0)
    digest, size = hashlib.sha256(), 0
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
        size += len(chunk)
    file.seek(0)
    return digest.hexdigest(), size


def _info(name: str, size_bytes: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.create_system = 3  # as UNIX writes it, wherever this runs
    info.external_attr = _MODE
    info.file_size = size_bytes
    return info


def _check_entries(names: Sequence[str]) -> None:
    lowered = [name.lower() for name in names]
    if len(set(lowered)) != len(lowered):
        raise InvalidInput("two files of the package have one name; rename one")
    if len(names) > _MOST_ENTRIES:
        raise InvalidInput(f"a package has at most {_MOST_ENTRIES} files")
    for name in names:
        parts = PurePosixPath(name).parts
        if name.startswith("/") or "\\" in name or len(parts) > 2:
            raise InvalidInput("a package holds no paths out of itself")
        for part in parts:
            check_name(part)


def _check_archive(archive: zipfile.ZipFile, largest_bytes: int) -> None:
    entries = archive.infolist()
    _check_entries([entry.filename for entry in entries])
    if sum(entry.file_size for entry in entries) > largest_bytes:
        raise InvalidInput("the package is too large")
    for entry in entries:
        kind = (entry.external_attr >> 16) & 0o170000
        if kind not in (0, 0o100000) or entry.is_dir():
            raise InvalidInput("a package holds plain files only")
        if entry.flag_bits & 0x1:
            raise InvalidInput("a package is not encrypted")
        if entry.file_size > _MOST_RATIO * max(entry.compress_size, 1):
            raise InvalidInput("an entry of the package unpacks to far too much")


def _read_sums(archive: zipfile.ZipFile) -> dict[str, str]:
    lines = archive.read(SUMS).decode("ascii").splitlines()
    sums: dict[str, str] = {}
    for line in lines:
        digest, _, name = line.partition("  ")
        sums[name] = digest
    others = {entry.filename for entry in archive.infolist()} - {SUMS}
    if set(sums) != others or not {RX_JSON, RX_PDF} <= others:
        raise InvalidInput("the package's list of files is not that of its files")
    return sums
