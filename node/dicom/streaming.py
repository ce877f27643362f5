"""The fast path for senders of images: storage associations served without pynetdicom's threads.

An association that proposes nothing but storage and verification, and no extended negotiation, is
negotiated here and handed to the receiving process (:mod:`node.dicom.intake`), which reports each
object for its rows to be written. Whatever else is asked for is left to pynetdicom, on an untouched
socket. Negotiation and its PDUs are pynetdicom's own either way.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass

from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
)
from pynetdicom.presentation import PresentationContext, negotiate_as_acceptor
from pynetdicom.sop_class import Verification

from node.dicom.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from node.dicom.intake_process import IntakeProcess
from node.dicom.receiver import Receiver
from node.dicom.storage_association import abort_pdu, end, set_timeout
from node.errors import Retryable

_LOG = logging.getLogger(__name__)

#: The path needs Linux: waiting for a whole request without taking it (MSG_PEEK | MSG_WAITALL).
IS_SUPPORTED = hasattr(socket, "TCP_QUICKACK")

_APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
#: A longer association request is left to pynetdicom; it may not fit the socket's own buffer.
_MAX_REQUEST_BYTES = 65_536
#: How many different association requests are remembered: a practice has a few senders.
_MOST_REQUESTS = 16
_ASSOCIATE_RQ, _ASSOCIATE_RJ = 0x01, 0x03
#: User information that needs no answer beyond our own of the same kind (PS3.7 D.3.3).
_PLAIN_ITEMS = (
    MaximumLengthNotification,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
)

#: What an AE title at an address may use; None when it is not admitted.
Admit = Callable[[str, str], list[PresentationContext] | None]


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms associations are accepted."""

    ae_title: str
    require_called_aet: bool
    max_pdu_bytes: int
    request_s: float
    silence_s: float
    storage_classes: frozenset[str]


class StorageReceiver:
    """Serves storage associations; knows which are open, to count them and to end them."""

    def __init__(
        self,
        terms: Terms,
        receiver: Receiver,
        intake: IntakeProcess,
        admit: Admit,
        has_room: Callable[[], bool],
    ) -> None:
        self.terms = terms
        self.receiver = receiver
        self.intake = intake
        self._admit = admit
        self._has_room = has_room
        self._changed = threading.Condition()
        self._open: set[socket.socket] = set()
        self._established = 0
        self._is_stopping = False
        self._negotiating = threading.Lock()
        self._agreed: dict[bytes, _Agreed] = {}

    def start(self) -> None:
        """Start the receiving process and make its folders: the first sender need not wait."""
        with contextlib.suppress(OSError):  # the disk is away: each sender will be told
            self.receiver.place.store.prepare(self.receiver.place.location_id)
        self.intake.start()

    @property
    def established(self) -> int:
        """How many associations are established here now."""
        return self._established

    def serve(self, sock: socket.socket, address: str) -> bool:
        """Serve a connection until it is over; False, with nothing read, when it is not for us."""
        with self._changed:
            if self._is_stopping:
                sock.close()
                return True
            self._open.add(sock)
        is_ours = True
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            request = self._peek(sock)
            is_ours = request is None or request.is_plain
            if request is not None and is_ours:
                self._associate(sock, address, request)
        except OSError:  # the connection is gone: there is nobody to be told
            is_ours = True
        except Exception as error:  # noqa: BLE001 - the edge: one connection, not the node
            _LOG.warning("a storage association was ended (%s)", type(error).__name__)
            is_ours = True
        finally:
            with self._changed:
                self._open.discard(sock)
                if is_ours:
                    sock.close()
                self._changed.notify_all()
        return is_ours

    def stop(self, wait_s: float = 5.0) -> None:
        """End every connection; what was answered Success is kept."""
        with self._changed:
            self._is_stopping = True
            for sock in self._open:
                with contextlib.suppress(OSError):
                    sock.send(abort_pdu(0, 0), socket.MSG_DONTWAIT)
                    sock.shutdown(socket.SHUT_RDWR)
            self._changed.wait_for(lambda: not self._open, wait_s)
        self.intake.stop()

    def _peek(self, sock: socket.socket) -> _Request | None:
        """Look at the association request; None when it did not come in time."""
        set_timeout(sock, self.terms.request_s)
        head = sock.recv(6, socket.MSG_PEEK | socket.MSG_WAITALL)
        if len(head) < 6:
            return None
        kind, _, length = struct.unpack(">BBL", head)
        if kind != _ASSOCIATE_RQ or length > _MAX_REQUEST_BYTES:
            return _Request(head)
        data = sock.recv(length + 6, socket.MSG_PEEK | socket.MSG_WAITALL)
        if len(data) < length + 6:
            return None
        with self._negotiating:
            return _read_request(data, self.terms.storage_classes)

    def _associate(self, sock: socket.socket, address: str, request: _Request) -> None:
        set_timeout(sock, self.terms.silence_s)
        sock.recv(len(request.data), socket.MSG_WAITALL)  # it has been looked at: all is there
        primitive = request.primitive
        assert primitive is not None
        contexts = self._admit(primitive.calling_ae_title, address)
        if contexts is None:  # PS3.8 9.3.4: permanent, calling AE title not recognised
            end(sock, _reject_pdu(1, 1, 3))
            return
        with self._changed:
            is_free = self._has_room()
            self._established += is_free
        if not is_free:  # transient, by the presentation layer, local limit exceeded
            end(sock, _reject_pdu(2, 3, 2))
            return
        try:
            self._converse(sock, request, primitive, contexts)
        finally:
            with self._changed:
                self._established -= 1

    def _converse(
        self,
        sock: socket.socket,
        request: _Request,
        primitive: A_ASSOCIATE,
        contexts: list[PresentationContext],
    ) -> None:
        terms = self.terms
        called = primitive.called_ae_title.strip()
        if terms.require_called_aet and called != terms.ae_title.strip():
            end(sock, _reject_pdu(1, 1, 7))
            return
        agreed = self._negotiate(request, primitive, contexts)
        sock.sendall(agreed.answer)
        calling_ae = primitive.calling_ae_title.strip()[:16]
        place = self.receiver.place
        handed_over = {
            "store": place.store.settings(),
            "location_id": place.location_id,
            "accepted": agreed.accepted,
            "calling_ae": calling_ae,
            "peer_pdu_bytes": primitive.maximum_length_received or 0,
        }
        try:
            self.intake.converse(
                sock, handed_over, lambda report: self.receiver.take(report, calling_ae)
            )
        except Retryable as error:
            _LOG.warning("a storage association was aborted: %s", error)
            end(sock, abort_pdu(2, 0))

    def _negotiate(
        self, request: _Request, primitive: A_ASSOCIATE, contexts: list[PresentationContext]
    ) -> _Agreed:
        """Agree on presentation contexts; the same request again costs nothing.

        DCMTK proposes 120 of them, at 25 ms of CPU, and many senders associate for each image.
        """
        with self._negotiating:  # eight that come at once agree once
            known = self._agreed.get(request.data)
            if known is None or known.offered is not contexts:
                known = self._agree(primitive, contexts)
                if len(self._agreed) >= _MOST_REQUESTS:
                    self._agreed.clear()
                self._agreed[request.data] = known
        return known

    def _agree(self, primitive: A_ASSOCIATE, contexts: list[PresentationContext]) -> _Agreed:
        results, _ = negotiate_as_acceptor(
            primitive.presentation_context_definition_list, contexts, {}
        )
        accepted = {
            int(context.context_id): (
                str(context.abstract_syntax),
                str(context.transfer_syntax[0]),
            )
            for context in results
            if context.result == 0 and context.as_scp
        }
        answer = _accept_pdu(primitive, results, self.terms.max_pdu_bytes)
        return _Agreed(contexts, answer, accepted)


@dataclass(frozen=True, slots=True)
class _Agreed:
    """What was agreed on for one request: the offer, the answer, the contexts by their ids."""

    offered: list[PresentationContext]
    answer: bytes
    accepted: dict[int, tuple[str, str]]


@dataclass(frozen=True, slots=True)
class _Request:
    """An association request as it came, and what it says where this path serves it."""

    data: bytes
    primitive: A_ASSOCIATE | None = None

    @property
    def is_plain(self) -> bool:
        """Whether it asks for nothing but storage and verification."""
        return self.primitive is not None


@functools.lru_cache(maxsize=_MOST_REQUESTS)
def _read_request(data: bytes, storage_classes: frozenset[str]) -> _Request:
    """Read a request; one that is damaged or asks for more is not plain."""
    try:
        pdu = A_ASSOCIATE_RQ()
        pdu.decode(data)
        primitive = pdu.to_primitive()
        is_plain = (
            pdu.protocol_version == 1
            and primitive.application_context_name == _APPLICATION_CONTEXT
            and bool(primitive.presentation_context_definition_list)
            and all(isinstance(item, _PLAIN_ITEMS) for item in primitive.user_information)
            and all(
                context.transfer_syntax
                and (
                    context.abstract_syntax in storage_classes
                    or context.abstract_syntax == Verification
                )
                for context in primitive.presentation_context_definition_list
            )
        )
    except Exception:  # noqa: BLE001 - pynetdicom decides what to answer to a damaged one
        is_plain = False
    return _Request(data, primitive if is_plain else None)


def _accept_pdu(
    primitive: A_ASSOCIATE, results: list[PresentationContext], max_pdu_bytes: int
) -> bytes:
    answer = A_ASSOCIATE()
    answer.application_context_name = _APPLICATION_CONTEXT
    answer.calling_ae_title = primitive.calling_ae_title
    answer.called_ae_title = primitive.called_ae_title
    answer.result, answer.result_source = 0, 1
    answer.presentation_context_definition_results_list = results
    length = MaximumLengthNotification()
    length.maximum_length_received = max_pdu_bytes
    implementation = ImplementationClassUIDNotification()
    implementation.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    version = ImplementationVersionNameNotification()
    version.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    answer.user_information = [length, implementation, version]
    pdu = A_ASSOCIATE_AC()
    pdu.from_primitive(answer)
    return bytes(pdu.encode())


def _reject_pdu(result: int, source: int, reason: int) -> bytes:
    return bytes((_ASSOCIATE_RJ, 0, 0, 0, 0, 4, 0, result, source, reason))
