"""Other archives: asking which images of a study one holds, and fetching them from there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

from pydicom.dataset import Dataset
from pynetdicom import build_context, build_role, evt

from node.config import PeerSection
from node.dicom.peers import associate
from node.errors import Rejected, Retryable

_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
_GET = "1.2.840.10008.5.1.4.1.2.2.3"
#: What is fetched: intraoral, DX, CR, secondary capture, photograph; for C-GET each is proposed.
_IMAGES = tuple(
    f"1.2.840.10008.5.1.4.1.1.{part}"
    for part in (
        *("1.3", "1.3.1", "1.1", "1.1.1", "1", "7", "7.1", "7.2", "7.3", "7.4"),
        *("77.1.4", "2"),
    )
)
_SYNTAXES = [
    f"1.2.840.10008.1.2{part}"
    for part in (".1", "", ".4.70", ".4.57", ".4.80", ".4.90", ".4.91", ".4.50", ".4.51", ".5")
]
_MOST = 10_000

Answers = Iterator[tuple[Dataset, Dataset | None]]


def find_images(peer: PeerSection, our_ae: str, study_instance_uid: str) -> set[str]:
    """Ask which images of a study an archive holds, by their SOP Instance UIDs.

    Raises Retryable when the archive is away, Rejected when it refuses.
    """
    query = Dataset()
    query.QueryRetrieveLevel = "IMAGE"
    query.StudyInstanceUID = study_instance_uid
    query.SeriesInstanceUID = query.SOPInstanceUID = ""
    assoc = associate(peer, our_ae, [build_context(_FIND)])
    if not assoc.is_established:
        raise Rejected(f"{peer.ae_title} answers no queries")
    try:
        found = matches(assoc.send_c_find(query, _FIND), peer.ae_title)
        return {str(ds.get("SOPInstanceUID", "")) for ds in islice(found, _MOST)}
    finally:
        if assoc.is_established:
            assoc.release()


def matches(answers: Answers, name: str) -> Iterator[Dataset]:
    """Give the data sets of a C-FIND; raises Retryable or Rejected when it does not end well."""
    for status, ds in answers:
        code = status.Status if "Status" in status else None
        if code in (0xFF00, 0xFF01) and ds is not None:
            yield ds
        elif code is None:
            raise Retryable(f"{name} closed the association")
        elif code != 0x0000:
            raise Rejected(f"{name} ended the query with status {code:04X}")


def fetch_study(
    peer: PeerSection, our_ae: str, study_instance_uid: str, keep: Callable[[evt.Event], int]
) -> int:
    """Fetch a study's images by C-GET, else by C-MOVE to this node; returns how many came.

    `keep` stores an object of a C-GET and gives its status. Raises Retryable when not all came,
    Rejected when the archive lets nothing be fetched.
    """
    query = Dataset()
    query.QueryRetrieveLevel, query.StudyInstanceUID = "STUDY", study_instance_uid
    contexts = [build_context(_GET), build_context(_MOVE)]
    contexts += [build_context(image, _SYNTAXES) for image in _IMAGES]
    assoc = associate(
        peer,
        our_ae,
        contexts,
        roles=[build_role(image, scp_role=True) for image in _IMAGES],
        handlers=[(evt.EVT_C_STORE, keep)],
    )
    offered = {context.abstract_syntax for context in assoc.accepted_contexts}
    try:
        if _GET in offered and offered & set(_IMAGES):
            return _completed(assoc.send_c_get(query, _GET))
        if _MOVE in offered:
            return _completed(assoc.send_c_move(query, our_ae, _MOVE))
        raise Rejected(f"{peer.ae_title} lets nothing be fetched")
    finally:
        if assoc.is_established:
            assoc.release()


def _completed(answers: Answers) -> int:
    """Count the objects that came; raise Retryable when not all of them did."""
    last = Dataset()
    for status, _ in answers:
        last = status
    if "Status" not in last:
        raise Retryable("the archive closed the association")
    if last.Status not in (0x0000, 0xB000):
        raise Retryable(f"the archive ended the retrieval with status {last.Status:04X}")
    return int(last.get("NumberOfCompletedSuboperations", 0) or 0)
