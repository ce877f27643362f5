"""DICOMweb (PS3.18): search, retrieve and store what this node holds, for viewers and archives.

Answers are what was received: files and compressed frames go out in the transfer syntax they came
in; only frames asked for as ``application/octet-stream`` and rendered pictures are decoded.
"""

from __future__ import annotations

import io
import json
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Annotated, cast

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response, StreamingResponse
from PIL import Image as Raster
from pydicom.datadict import dictionary_has_tag, tag_for_keyword

from node.db.session import read
from node.dicom import archive
from node.dicom.frames import MEDIA_TYPES, compressed_of, is_compressed, samples_of
from node.dicom.greyscale import Colour
from node.dicom.held import Held, find_held
from node.dicom.pixels import decode, render8
from node.dicom.purged import demand_present
from node.dicom.query import Keys, Query, vr_of
from node.dicom.reads import note_retrieval, note_search
from node.dicom.web_json import bulk_of, metadata_of
from node.domain.rights import Right
from node.errors import InvalidInput, NotFound
from node.web.accounts import Session
from node.web.auth import Web, WebDep, allow

router = APIRouter(prefix="/dicomweb")

JSON = "application/dicom+json"
_MOST = 5_000
_RETRIEVE_URL = 0x00081190
_PLAIN = "1.2.840.10008.1.2.1"
#: What each level answers unless more is asked for (PS3.18 Tables 10.6.3-3 to 10.6.3-5).
_DEFAULTS = {
    archive.Level.STUDY: (
        "StudyDate StudyTime AccessionNumber InstanceAvailability ModalitiesInStudy"
        " ReferringPhysicianName PatientName PatientID PatientBirthDate PatientSex"
        " StudyInstanceUID StudyID NumberOfStudyRelatedSeries NumberOfStudyRelatedInstances"
    ),
    archive.Level.SERIES: (
        "Modality SeriesDescription SeriesInstanceUID SeriesNumber StudyInstanceUID"
        " NumberOfSeriesRelatedInstances"
    ),
    archive.Level.IMAGE: (
        "SOPClassUID SOPInstanceUID InstanceAvailability StudyInstanceUID SeriesInstanceUID"
        " InstanceNumber Rows Columns"
    ),
}

Finder = Annotated[Session, Depends(allow(Right.PATIENTS_SEE, Right.IMAGES_SEE))]
Taker = Annotated[
    Session, Depends(allow(Right.PATIENTS_SEE, Right.IMAGES_SEE, Right.IMAGES_DOWNLOAD))
]


# --- search (QIDO-RS) ----------------------------------------------------------------------------


@router.get("/studies")
def search_studies(request: Request, web: WebDep, session: Finder) -> Response:
    """Search for studies."""
    return _search(request, web, session, archive.Level.STUDY)


@router.get("/series")
def search_all_series(request: Request, web: WebDep, session: Finder) -> Response:
    """Search for series of any study."""
    return _search(request, web, session, archive.Level.SERIES)


@router.get("/instances")
def search_all_instances(request: Request, web: WebDep, session: Finder) -> Response:
    """Search for instances of any study."""
    return _search(request, web, session, archive.Level.IMAGE)


@router.get("/studies/{study}/series")
def search_series(request: Request, web: WebDep, session: Finder, study: str) -> Response:
    """Search for the series of a study."""
    return _search(request, web, session, archive.Level.SERIES, study)


@router.get("/studies/{study}/instances")
def search_instances(request: Request, web: WebDep, session: Finder, study: str) -> Response:
    """Search for the instances of a study."""
    return _search(request, web, session, archive.Level.IMAGE, study)


@router.get("/studies/{study}/series/{series}/instances")
def search_series_instances(
    request: Request, web: WebDep, session: Finder, study: str, series: str
) -> Response:
    """Search for the instances of a series."""
    return _search(request, web, session, archive.Level.IMAGE, study, series)


def _search(
    request: Request,
    web: Web,
    session: Session,
    level: archive.Level,
    study: str = "",
    series: str = "",
) -> Response:
    within = {archive.STUDY_UID: study, archive.SERIES_UID: series}
    query, first, most = _query(request, level, {t: v for t, v in within.items() if v})
    dicom = web.config.dicom
    with read(web.db) as conn:
        place = archive.Archive(
            conn,
            web.store,
            web.location_id,
            dicom.ae_title,
            dicom.fallback_charset,
            session.may(Right.FINDINGS_SEARCH),
        )
        found = list(_slice(place.find(query, level), first, most))
        answers = [_answer(request, query, each) for each in found]
    uids = [each.values[archive.STUDY_UID] for each in found]
    note_search(web.db, session.actor, "archive.searched", level.value, uids)
    if not answers:
        return Response(status_code=204)
    headers = {"Warning": '299 bitewing "fuzzymatching is not supported"'}
    is_fuzzy = request.query_params.get("fuzzymatching") == "true"
    return Response(json.dumps(answers), media_type=JSON, headers=headers if is_fuzzy else None)


def _query(
    request: Request, level: archive.Level, within: dict[int, str]
) -> tuple[Query, int, int]:
    texts = dict.fromkeys((_tag(keyword) for keyword in _DEFAULTS[level].split()), "")
    for name, value in request.query_params.multi_items():
        if name in ("limit", "offset", "fuzzymatching"):
            continue
        if name == "includefield":
            known = archive.READERS[level]
            for field in value.split(","):
                texts |= dict.fromkeys(known, "") if field == "all" else {_tag(field): ""}
            continue
        tag = _tag(name)
        texts[tag] = value.replace(",", "\\") if vr_of(tag) == "UI" else value
    texts |= within
    keys = Keys(texts=texts, vrs={tag: vr_of(tag) for tag in texts})
    first = _count(request, "offset", 0)
    return Query(keys), first, min(_count(request, "limit", _MOST), _MOST)


def _tag(name: str) -> int:
    """Read an attribute's keyword or eight hex digits; of a path, only one level is known."""
    if re.fullmatch(r"[0-9A-Fa-f]{8}", name):
        return int(name, 16)
    tag = tag_for_keyword(name)
    if tag is None or not dictionary_has_tag(tag):
        raise InvalidInput("A search parameter is no attribute of DICOM.")
    return int(tag)


def _count(request: Request, name: str, otherwise: int) -> int:
    text = request.query_params.get(name, "")
    if not text:
        return otherwise
    if not re.fullmatch(r"\d{1,9}", text):
        raise InvalidInput(f"{name} is no number.")
    return int(text)


def _slice(found: Iterator[archive.Found], first: int, most: int) -> Iterator[archive.Found]:
    for number, each in enumerate(found):
        if number >= first + most:
            return
        if number >= first:
            yield each


def _answer(request: Request, query: Query, found: archive.Found) -> dict[str, object]:
    answer = cast(dict[str, object], archive.answer(query, found).to_json_dict())
    path = f"studies/{found.values[archive.STUDY_UID]}"
    if found.level is not archive.Level.STUDY:
        path += f"/series/{found.values[archive.SERIES_UID]}"
    if found.level is archive.Level.IMAGE:
        path += f"/instances/{found.values[archive.IMAGE_UID]}"
    answer[f"{_RETRIEVE_URL:08X}"] = {"vr": "UR", "Value": [f"{_base(request)}/{path}"]}
    return dict(sorted(answer.items()))


def _base(request: Request) -> str:
    return str(request.url_for("search_studies")).removesuffix("/studies")


# --- retrieve (WADO-RS) --------------------------------------------------------------------------


def _held(
    web: Web, session: Session, study: str, series: str = "", instance: str = ""
) -> list[Held]:
    with read(web.db) as conn:
        held = find_held(
            conn,
            web.store,
            web.location_id,
            studies=[study],
            series=[series] if series else (),
            instances=[instance] if instance else (),
            with_results=session.may(Right.FINDINGS_SEARCH),
        )
    if not held:
        raise NotFound("There is no such object.")
    demand_present(web.db, session.actor, held)
    note_retrieval(web.db, session.actor, "archive.opened", held)
    return held


@router.get("/studies/{study}")
@router.get("/studies/{study}/series/{series}")
@router.get("/studies/{study}/series/{series}/instances/{instance}")
def retrieve(
    request: Request,
    web: WebDep,
    session: Taker,
    study: str,
    series: str = "",
    instance: str = "",
) -> Response:
    """Give the files as they were received."""
    accept = request.headers.get("accept", "*/*")
    held = _held(web, session, study, series, instance)
    if instance and accept.strip().startswith("application/dicom") and "json" not in accept:
        return Response(held[0].path.read_bytes(), media_type="application/dicom")
    if not _accepts(accept, "application/dicom"):
        return _not_acceptable()
    return _multipart(
        ("application/dicom; transfer-syntax=" + each.transfer_syntax_uid, each.path.read_bytes)
        for each in held
    )


@router.get("/studies/{study}/metadata")
@router.get("/studies/{study}/series/{series}/metadata")
@router.get("/studies/{study}/series/{series}/instances/{instance}/metadata")
def retrieve_metadata(
    request: Request,
    web: WebDep,
    session: Finder,
    study: str,
    series: str = "",
    instance: str = "",
) -> Response:
    """Give the attributes as DICOM JSON, bulk data by reference."""
    accept = request.headers.get("accept", "*/*")
    if not any(kind in accept for kind in ("json", "*/*", "application/*")):
        return _not_acceptable()
    held = _held(web, session, study, series, instance)
    base = _base(request)
    found = [metadata_of(each.path, f"{base}/{each.url_path}") for each in held]
    return Response(json.dumps(found), media_type=JSON)


@router.get("/studies/{study}/series/{series}/instances/{instance}/frames/{frames}")
def retrieve_frames(
    request: Request,
    web: WebDep,
    session: Finder,
    study: str,
    series: str,
    instance: str,
    frames: str,
) -> Response:
    """Give frames: compressed as received where that is accepted, else as samples."""
    (held, *_) = _held(web, session, study, series, instance)
    if not re.fullmatch(r"\d{1,6}(,\d{1,6})*", frames):
        raise InvalidInput("Frames are numbers from 1, with commas.")
    numbers = [int(part) for part in frames.split(",")]
    syntax = held.transfer_syntax_uid
    accept = request.headers.get("accept", "*/*")
    wants_stored = "transfer-syntax=*" in accept or MEDIA_TYPES.get(syntax, "-") in accept
    if is_compressed(syntax) and wants_stored:
        kind = MEDIA_TYPES.get(syntax, "application/octet-stream")
        parts = [
            (f"{kind}; transfer-syntax={syntax}", compressed_of(held.path, number))
            for number in numbers
        ]
    elif _accepts(accept, "application/octet-stream"):
        kind = f"application/octet-stream; transfer-syntax={_PLAIN}"
        parts = [(kind, samples_of(held.path, number)) for number in numbers]
    else:
        return _not_acceptable()
    return _multipart((kind, partial(bytes, data)) for kind, data in parts)


@router.get("/studies/{study}/series/{series}/instances/{instance}/rendered")
def retrieve_rendered(
    request: Request, web: WebDep, session: Finder, study: str, series: str, instance: str
) -> Response:
    """Draw the image by the grey of the reference, as JPEG, PNG or WebP."""
    (held, *_) = _held(web, session, study, series, instance)
    accept = request.headers.get("accept", "*/*")
    formats = {"image/jpeg": "JPEG", "image/png": "PNG", "image/webp": "WEBP"}
    kind = next((each for each in formats if each in accept), "")
    if not kind and any(each in accept for each in ("*/*", "image/*")):
        kind = "image/jpeg"
    if not kind:
        return _not_acceptable()
    frame = decode(held.path)
    drawn = Raster.fromarray(frame.rgb if isinstance(frame, Colour) else render8(frame))
    viewport = re.match(r"(\d{1,5}),(\d{1,5})$", request.query_params.get("viewport", ""))
    if viewport:
        drawn.thumbnail((max(1, int(viewport[1])), max(1, int(viewport[2]))))
    out = io.BytesIO()
    drawn.save(out, formats[kind])
    return Response(out.getvalue(), media_type=kind)


@router.get("/studies/{study}/series/{series}/instances/{instance}/bulkdata/{tag}")
def retrieve_bulk_data(
    web: WebDep, session: Taker, study: str, series: str, instance: str, tag: str
) -> Response:
    """Give the value of one element that the metadata refer to."""
    (held, *_) = _held(web, session, study, series, instance)
    value = bulk_of(held.path, tag)
    return _multipart([("application/octet-stream", lambda: value)])


def _accepts(accept: str, kind: str) -> bool:
    if "*/*" in accept or kind in accept:
        return True
    return "multipart/related" in accept and "type=" not in accept


def _not_acceptable() -> Response:
    return Response(status_code=406)


def _multipart(parts: Iterable[tuple[str, Callable[[], bytes]]]) -> Response:
    """Write parts one after another, each read only when its turn comes (RFC 2387)."""
    boundary = secrets.token_hex(16)
    first, *rest = list(parts)

    def write() -> Iterator[bytes]:
        for kind, load in (first, *rest):
            yield f"--{boundary}\r\nContent-Type: {kind}\r\n\r\n".encode() + load() + b"\r\n"
        yield f"--{boundary}--\r\n".encode()

    root = first[0].partition(";")[0]
    media_type = f'multipart/related; type="{root}"; boundary={boundary}'
    return StreamingResponse(write(), media_type=media_type)
