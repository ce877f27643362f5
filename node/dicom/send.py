"""Sending objects to a peer by C-STORE, byte for byte as they are (PS3.4 B, as SCU).

Every pair of SOP class and transfer syntax is proposed in a presentation context of its own, so a
peer cannot choose a syntax that would need a conversion; what it does not accept is refused, never
decoded. An association has at most 128 contexts; more are spread over several associations.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from pydicom.uid import UID
from pynetdicom import _config, build_context
from pynetdicom.association import Association
from pynetdicom.dsutils import split_dataset

from node.dicom.files import FoundObject, Skipped, find_objects
from node.dicom.object_file import ObjectFile, size_of
from node.dicom.peers import MAX_CONTEXTS, Receiver, associate, require_ae_title
from node.errors import InvalidInput, Rejected, Retryable

#: A larger copy goes through a file that is removed at once.
_IN_MEMORY_BYTES = 256 << 20

Progress = Callable[[int, int], None]


class Sent(Enum):
    """What became of one file."""

    STORED = "stored"
    WARNED = "warned"  # stored, and the peer had something to say about it
    LATER = "later"  # the peer went away or has no room now
    REFUSED = "refused"  # understood and refused: a person must look
    SKIPPED = "skipped"  # not an object that can be sent


@dataclass(frozen=True, slots=True)
class FileOutcome:
    """What became of one file; ``status`` is the C-STORE status, if there was an answer."""

    path: ObjectFile
    sent: Sent
    reason: str = ""
    status: int | None = None


@dataclass(frozen=True, slots=True)
class SendReport:
    """What became of every file."""

    outcomes: tuple[FileOutcome, ...]

    @property
    def sent(self) -> tuple[ObjectFile, ...]:
        """The files the peer has."""
        return tuple(o.path for o in self.outcomes if o.sent in (Sent.STORED, Sent.WARNED))

    @property
    def failed(self) -> tuple[tuple[ObjectFile, str], ...]:
        """The files the peer does not have, and why."""
        return tuple(
            (o.path, o.reason) for o in self.outcomes if o.sent in (Sent.LATER, Sent.REFUSED)
        )

    @property
    def skipped(self) -> tuple[tuple[ObjectFile, str], ...]:
        """The files that hold nothing to send, and why."""
        return tuple((o.path, o.reason) for o in self.outcomes if o.sent is Sent.SKIPPED)


def send_paths(
    paths: Iterable[ObjectFile],
    peer: Receiver,
    *,
    calling_ae: str,
    progress: Progress | None = None,
) -> SendReport:
    """Send files, and every file in folders and below them.

    ``progress`` is told how many of how many files are done. A connection lost on the way is
    opened again once for each file.

    Raises
    ------
    Retryable
        The peer is away or takes no association now, and nothing was sent.
    Rejected
        The peer refuses associations with us, and nothing was sent.
    """
    require_ae_title(calling_ae)
    require_ae_title(peer.ae_title)
    found = list(find_objects(paths))
    objects = [item for item in found if isinstance(item, FoundObject)]
    outcomes = [
        FileOutcome(item.path, Sent.SKIPPED, item.reason)
        for item in found
        if isinstance(item, Skipped)
    ]
    told = progress or _tell_nobody
    told(len(outcomes), len(found))
    for batch in _batches(objects):
        for outcome in _send_batch(batch, peer, calling_ae, _any_sent(outcomes)):
            outcomes.append(outcome)
            told(len(outcomes), len(found))
    return SendReport(tuple(outcomes))


def send_object(path: ObjectFile, peer: Receiver, *, calling_ae: str) -> None:
    """Send one file; returns when the peer has it.

    Raises
    ------
    Retryable
        The peer is away, takes no association now or is out of resources (A7xx).
    Rejected
        The peer refuses us, the kind of object or the object; the message names the status.
    InvalidInput
        The file holds no object.
    """
    (outcome,) = send_paths([path], peer, calling_ae=calling_ae).outcomes
    match outcome.sent:
        case Sent.LATER:
            raise Retryable(outcome.reason)
        case Sent.REFUSED:
            raise Rejected(outcome.reason)
        case Sent.SKIPPED:
            raise InvalidInput(outcome.reason)
        case _:
            return


def _tell_nobody(done: int, total: int) -> None:
    del done, total


def _any_sent(outcomes: Sequence[FileOutcome]) -> bool:
    return any(outcome.sent is not Sent.SKIPPED for outcome in outcomes)


def _batches(objects: Sequence[FoundObject]) -> Iterator[list[FoundObject]]:
    batch: list[FoundObject] = []
    contexts: set[tuple[str, str]] = set()
    for item in objects:
        pair = (item.sop_class_uid, item.transfer_syntax_uid)
        if pair not in contexts and len(contexts) == MAX_CONTEXTS:
            yield batch
            batch, contexts = [], set()
        batch.append(item)
        contexts.add(pair)
    if batch:
        yield batch


def _send_batch(
    batch: Sequence[FoundObject], peer: Receiver, calling_ae: str, has_begun: bool
) -> Iterator[FileOutcome]:
    remaining = list(batch)
    lost_at: FoundObject | None = None
    while remaining:
        try:
            assoc = _associate(remaining, peer, calling_ae)
        except (Retryable, Rejected) as error:
            if not has_begun:
                raise
            sent = Sent.LATER if isinstance(error, Retryable) else Sent.REFUSED
            yield from (FileOutcome(item.path, sent, str(error)) for item in remaining)
            return
        try:
            while remaining:
                outcome = _store(assoc, remaining[0])
                has_begun = True
                if outcome.sent is Sent.LATER and outcome.status is None:
                    if lost_at is not remaining[0]:  # once more, on a new association
                        lost_at = remaining[0]
                        break
                    remaining.pop(0)
                    yield outcome
                    break
                remaining.pop(0)
                yield outcome
        finally:
            if assoc.is_established:
                assoc.release()


def _associate(objects: Iterable[FoundObject], peer: Receiver, calling_ae: str) -> Association:
    pairs = dict.fromkeys((item.sop_class_uid, item.transfer_syntax_uid) for item in objects)
    return associate(peer, calling_ae, [build_context(*pair) for pair in pairs])


def _store(assoc: Association, item: FoundObject) -> FileOutcome:
    if not any(
        context.abstract_syntax == item.sop_class_uid
        and context.transfer_syntax == [item.transfer_syntax_uid]
        for context in assoc.accepted_contexts
    ):
        kind = f"{UID(item.sop_class_uid).name} as {UID(item.transfer_syntax_uid).name}"
        return FileOutcome(item.path, Sent.REFUSED, f"the peer does not take {kind}")
    if not assoc.is_established:
        return FileOutcome(item.path, Sent.LATER, "the peer closed the association")
    try:
        with _well_formed(item) as path:
            # The switch of pynetdicom that sends a file's bytes instead of decoding and encoding.
            _config.STORE_SEND_CHUNKED_DATASET = True
            answer = assoc.send_c_store(path)
    except OSError as error:
        reason = f"the file cannot be read ({type(error).__name__})"
        return FileOutcome(item.path, Sent.SKIPPED, reason)
    except InvalidInput as error:  # sealed, and changed since it was looked at
        return FileOutcome(item.path, Sent.SKIPPED, str(error))
    if "Status" not in answer:
        return FileOutcome(item.path, Sent.LATER, "the peer closed the association")
    return _judge(item.path, int(answer.Status))


@contextlib.contextmanager
def _well_formed(item: FoundObject) -> Iterator[Path]:
    """Give a plain file whose meta information says what its data set says; a copy if need be.

    The copy of what is sealed is kept in memory where the system can (Linux), up to 256 MiB.
    """
    if isinstance(item.path, Path) and _is_well_formed(item, item.path):
        yield item.path
    elif hasattr(os, "memfd_create") and size_of(item.path) <= _IN_MEMORY_BYTES:
        with os.fdopen(os.memfd_create("bitewing-send"), "wb") as file:
            item.write(file)
            file.flush()
            yield Path(f"/proc/self/fd/{file.fileno()}")
    else:
        with tempfile.TemporaryDirectory(prefix="bitewing-send-") as folder:
            copy = Path(folder) / "object.dcm"
            with copy.open("wb") as file:
                item.write(file)
            yield copy


def _is_well_formed(item: FoundObject, path: Path) -> bool:
    if not item.has_preamble:
        return False
    meta, _ = split_dataset(path)
    return (
        str(meta.get("MediaStorageSOPClassUID", "")),
        str(meta.get("MediaStorageSOPInstanceUID", "")),
        str(meta.get("TransferSyntaxUID", "")),
    ) == (item.sop_class_uid, item.sop_instance_uid, item.transfer_syntax_uid)


def _judge(path: ObjectFile, status: int) -> FileOutcome:
    # PS3.4 B.2.3 and PS3.7 Annex C
    if status == 0x0000:
        return FileOutcome(path, Sent.STORED, status=status)
    if status >> 12 == 0xB or status in (0x0001, 0x0107, 0x0116):
        return FileOutcome(path, Sent.WARNED, f"stored with warning {status:04X}", status)
    if status == 0x0111:  # some archives answer this when they have the object already
        return FileOutcome(path, Sent.WARNED, "the peer has this object already (0111)", status)
    if status >> 8 == 0xA7:
        reason = f"the peer is out of resources (status {status:04X})"
        return FileOutcome(path, Sent.LATER, reason, status)
    return FileOutcome(path, Sent.REFUSED, _why(status), status)


def _why(status: int) -> str:
    known = {
        0x0110: "a processing failure",
        0x0117: "an invalid instance UID",
        0x0122: "an unsupported SOP class",
        0x0124: "not being authorised",
    }
    reason = known.get(status)
    if status >> 8 == 0xA9:
        reason = "a data set that does not match its SOP class"
    elif status >> 12 == 0xC:
        reason = "a data set it cannot understand"
    told = f" for {reason}" if reason else ""
    return f"the peer refused the object{told} (status {status:04X})"
