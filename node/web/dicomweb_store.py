"""STOW-RS (PS3.18 10.5): objects brought by HTTP are kept like those of a C-STORE."""

from __future__ import annotations

import io
import json
import mmap
import re
import tempfile
from collections.abc import Iterator
from itertools import islice
from typing import Annotated, BinaryIO

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response
from pydicom.dataset import Dataset

from node.dicom.header import parse_data_set, read_transfer_syntax
from node.dicom.store import DOES_NOT_MATCH, Incoming, receive
from node.dicom.uid import is_uid
from node.domain.rights import Right
from node.errors import InvalidInput, Retryable
from node.web.accounts import Session
from node.web.auth import Web, WebDep, allow

router = APIRouter(prefix="/dicomweb")

_HEAD_BYTES = 65_536
_MOST_PARTS = 10_000
_PREAMBLE = bytes(128) + b"DICM"
#: PS3.18 Table 10.5.3-2: as in C-STORE.
_CANNOT_UNDERSTAND = 0xC000
_OUT_OF_RESOURCES = 0xA700
_OTHER_STUDY = 0xA900

Storer = Annotated[Session, Depends(allow(Right.IMAGES_STORE))]


@router.post("/studies")
@router.post("/studies/{study}")
async def store(request: Request, web: WebDep, session: Storer, study: str = "") -> Response:
    """Keep every object of a request; say of each what became of it."""
    content_type = request.headers.get("content-type", "")
    boundary = re.search(r'boundary="?([^";]{1,70})"?', content_type)
    if not content_type.startswith("multipart/related") or boundary is None:
        return Response(status_code=415)
    if "application/dicom" not in content_type.replace("application/dicom+", ""):
        return Response(status_code=415)
    if study and not is_uid(study):
        raise InvalidInput("The study in the address is no UID.")
    with tempfile.TemporaryFile() as file:
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            await run_in_threadpool(file.write, chunk)
        if not size:
            raise InvalidInput("The request holds nothing.")
        file.flush()
        return await run_in_threadpool(_keep_all, web, session, file, boundary[1], study)


def _keep_all(web: Web, session: Session, file: BinaryIO, boundary: str, study: str) -> Response:
    kept: list[Dataset] = []
    failed: list[Dataset] = []
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data, memoryview(data) as whole:
        parts = list(islice(_parts(data, boundary.encode()), _MOST_PARTS + 1))
        if len(parts) > _MOST_PARTS:  # an item is kept of each, however small
            raise InvalidInput(f"The request holds more than {_MOST_PARTS} objects.")
        for start, end in parts:
            with whole[start:end] as part:
                item, is_kept = _keep(web, session, part, study)
            (kept if is_kept else failed).append(item)
    if not kept and not failed:
        raise InvalidInput("The request holds no part.")
    answer = Dataset()
    if kept:
        answer.ReferencedSOPSequence = kept
    if failed:
        answer.FailedSOPSequence = failed
    status = 200 if not failed else 202 if kept else 409
    body = json.dumps(answer.to_json_dict())
    return Response(body, status_code=status, media_type="application/dicom+json")


def _parts(data: mmap.mmap, boundary: bytes) -> Iterator[tuple[int, int]]:
    """Find where the content of each part begins and ends (RFC 2046 5.1.1)."""
    mark = b"--" + boundary
    at = data.find(mark)
    while at >= 0:
        begin = data.find(b"\r\n\r\n", at)
        following = data.find(b"\r\n" + mark, at + len(mark))
        if begin < 0 or following < 0 or data[at + len(mark) : at + len(mark) + 2] == b"--":
            return
        yield begin + 4, following
        at = following + 2


def _keep(web: Web, session: Session, part: memoryview, study: str) -> tuple[Dataset, bool]:
    item = Dataset()
    try:
        incoming = _read(part, web.config.dicom.fallback_charset, study, session.username)
    except (InvalidInput, _OtherStudy) as error:
        item.FailureReason = _OTHER_STUDY if isinstance(error, _OtherStudy) else _CANNOT_UNDERSTAND
        return item, False
    item.ReferencedSOPClassUID = incoming.sop_class_uid
    item.ReferencedSOPInstanceUID = incoming.sop_instance_uid
    try:
        outcome = receive(
            web.db,
            web.store,
            web.engine,
            incoming,
            location_id=web.location_id,
            fallback_charset=web.config.dicom.fallback_charset,
        )
    except Retryable:
        item.FailureReason = _OUT_OF_RESOURCES
        return item, False
    finally:
        incoming.data.release()
    if outcome.status == DOES_NOT_MATCH:
        item.WarningReason = DOES_NOT_MATCH
    return item, True


class _OtherStudy(Exception):
    """The object is not of the study that the address names."""


def _read(part: memoryview, fallback: str, study: str, username: str) -> Incoming:
    """Read what the file says of itself. Raises InvalidInput when it is no DICOM file."""
    start = bytes(part[:_HEAD_BYTES])
    # dicomweb-client writes data sets made by a program without the preamble
    missing = _PREAMBLE if start.startswith(b"\x02\0") else b""
    head = io.BytesIO(missing + start)
    syntax = read_transfer_syntax(head)
    data = part[head.tell() - len(missing) :]
    header = parse_data_set(data, syntax, fallback)
    if not header.sop_class_uid or not header.sop_instance_uid:
        raise InvalidInput("the object has no UIDs")
    if study and header.study_instance_uid != study:
        raise _OtherStudy
    caller = re.sub(r"[^ -\[\]-~]", "", username)[:16]
    return Incoming(data, header.sop_class_uid, header.sop_instance_uid, syntax, caller)
