"""The fast path for senders of images: storage associations served without pynetdicom's threads.

An association that proposes nothing but storage and verification, and no extended negotiation, is
served by one thread with a blocking socket: a megabyte is read at a time, and the fragments go
from that buffer to the disk. Whatever else is asked for is left to pynetdicom, on an untouched
socket. Negotiation and its PDUs are pynetdicom's own either way.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import socket
import struct
import threading
import time
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

from node.dicom import messages
from node.dicom.gulps import Gulps, HungUp
from node.dicom.header import is_uid
from node.dicom.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from node.dicom.reception import Receiver, Reception
from node.errors import InvalidInput

_LOG = logging.getLogger(__name__)

#: The path needs Linux: waiting for a whole request without taking it (MSG_PEEK | MSG_WAITALL).
IS_SUPPORTED = hasattr(socket, "TCP_QUICKACK")

_APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
#: A longer association request is left to pynetdicom; it may not fit the socket's own buffer.
_MAX_REQUEST_BYTES = 65_536
_MAX_COMMAND_BYTES = 16_384
#: How many different association requests are remembered: a practice has a few senders.
_MOST_REQUESTS = 16
#: How long a peer may take to close a connection that is over (ARTIM, PS3.8 9.1.5).
_LINGER_S = 2.0
_ASSOCIATE_RQ, _ASSOCIATE_RJ, _DATA, _RELEASE_RQ, _ABORT = 0x01, 0x03, 0x04, 0x05, 0x07
_RELEASE_RP = b"\6\0\0\0\0\4\0\0\0\0"
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


class _Broken(Exception):
    """The peer broke the protocol; `reason` as in PS3.8 9.3.8, for the service provider."""

    def __init__(self, reason: int) -> None:
        super().__init__(reason)
        self.reason = reason


_UNRECOGNISED, _UNEXPECTED, _INVALID = 1, 2, 6


class StorageReceiver:
    """Serves storage associations; knows which are open, to count them and to end them."""

    def __init__(
        self, terms: Terms, receiver: Receiver, admit: Admit, has_room: Callable[[], bool]
    ) -> None:
        self.terms = terms
        self.receiver = receiver
        self._admit = admit
        self._has_room = has_room
        self._changed = threading.Condition()
        self._open: set[socket.socket] = set()
        self._established = 0
        self._is_stopping = False
        self._agreed: dict[bytes, _Agreed] = {}

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
        except (HungUp, OSError):  # the connection is gone: there is nobody to be told
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
                    sock.send(_abort_pdu(0, 0), socket.MSG_DONTWAIT)
                    sock.shutdown(socket.SHUT_RDWR)
            self._changed.wait_for(lambda: not self._open, wait_s)

    def _peek(self, sock: socket.socket) -> _Request | None:
        """Look at the association request; None when it did not come in time."""
        _set_timeout(sock, self.terms.request_s)
        head = sock.recv(6, socket.MSG_PEEK | socket.MSG_WAITALL)
        if len(head) < 6:
            return None
        kind, _, length = struct.unpack(">BBL", head)
        if kind != _ASSOCIATE_RQ or length > _MAX_REQUEST_BYTES:
            return _Request(head)
        data = sock.recv(length + 6, socket.MSG_PEEK | socket.MSG_WAITALL)
        if len(data) < length + 6:
            return None
        return _read_request(data, self.terms.storage_classes)

    def _associate(self, sock: socket.socket, address: str, request: _Request) -> None:
        _set_timeout(sock, self.terms.silence_s)
        gulps = Gulps(sock)
        gulps.exactly(len(request.data))
        primitive = request.primitive
        assert primitive is not None
        contexts = self._admit(primitive.calling_ae_title, address)
        if contexts is None:  # PS3.8 9.3.4: permanent, calling AE title not recognised
            _end(sock, _reject_pdu(1, 1, 3))
            return
        with self._changed:
            is_free = self._has_room()
            self._established += is_free
        if not is_free:  # transient, by the presentation layer, local limit exceeded
            _end(sock, _reject_pdu(2, 3, 2))
            return
        try:
            self._converse(sock, gulps, request, primitive, contexts)
        finally:
            with self._changed:
                self._established -= 1

    def _converse(
        self,
        sock: socket.socket,
        gulps: Gulps,
        request: _Request,
        primitive: A_ASSOCIATE,
        contexts: list[PresentationContext],
    ) -> None:
        terms = self.terms
        called = primitive.called_ae_title.strip()
        if terms.require_called_aet and called != terms.ae_title.strip():
            _end(sock, _reject_pdu(1, 1, 7))
            return
        agreed = self._negotiate(request, primitive, contexts)
        sock.sendall(agreed.answer)
        association = _Association(
            sock,
            gulps,
            self.receiver,
            agreed.accepted,
            primitive.calling_ae_title.strip()[:16],
            primitive.maximum_length_received or 0,
        )
        try:
            association.run()
        except _Broken as broken:
            _end(sock, _abort_pdu(2, broken.reason))
        finally:
            association.discard()

    def _negotiate(
        self, request: _Request, primitive: A_ASSOCIATE, contexts: list[PresentationContext]
    ) -> _Agreed:
        """Agree on presentation contexts; the same request again costs nothing.

        DCMTK proposes 120 of them, at 25 ms of CPU, and many senders associate for each image.
        """
        known = self._agreed.get(request.data)
        if known is not None and known.offered is contexts:
            return known
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
        if len(self._agreed) >= _MOST_REQUESTS:
            self._agreed.clear()
        agreed = self._agreed[request.data] = _Agreed(contexts, answer, accepted)
        return agreed


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


class _Association:
    """An established association: messages come, answers go, until it is released or broken."""

    def __init__(
        self,
        sock: socket.socket,
        gulps: Gulps,
        receiver: Receiver,
        accepted: dict[int, tuple[str, str]],
        calling_ae: str,
        peer_pdu_bytes: int,
    ) -> None:
        self._socket = sock
        self._gulps = gulps
        self._receiver = receiver
        self._accepted = accepted
        self._calling_ae = calling_ae
        self._peer_pdu_bytes = peer_pdu_bytes
        self._command = bytearray()
        self._context_id = 0
        self._reception: Reception | None = None
        self._answer: dict[int, int | str] = {}

    def run(self) -> None:
        """Serve until the peer releases, aborts or hangs up; raises _Broken and HungUp."""
        while True:
            kind, _, length = struct.unpack(">BBL", self._gulps.exactly(6))
            if kind == _DATA:
                self._take_data(length)
            elif kind == _RELEASE_RQ:
                _end(self._socket, _RELEASE_RP)
                return
            elif kind == _ABORT:
                return
            else:
                raise _Broken(_UNEXPECTED if 1 <= kind <= 7 else _UNRECOGNISED)

    def discard(self) -> None:
        """Leave nothing behind of an object that was cut off."""
        if self._reception is not None:
            self._reception.discard()

    def _take_data(self, length: int) -> None:
        """Take the presentation data values of one P-DATA-TF (PS3.8 9.3.5)."""
        while length:
            if length < 6:
                raise _Broken(_INVALID)
            size, context_id, control = struct.unpack(">LBB", self._gulps.exactly(6))
            if size < 2 or size + 4 > length or context_id not in self._accepted:
                raise _Broken(_INVALID)
            length -= size + 4
            is_last = bool(control & 2)
            if control & 1:
                self._take_command(context_id, size - 2, is_last)
            else:
                self._take_fragment(context_id, size - 2, is_last)

    def _take_command(self, context_id: int, size: int, is_last: bool) -> None:
        if self._reception is not None or len(self._command) + size > _MAX_COMMAND_BYTES:
            raise _Broken(_UNEXPECTED)
        self._command += self._gulps.exactly(size)
        if is_last:
            data, self._command = bytes(self._command), bytearray()
            try:
                self._obey(context_id, messages.read_command(data))
            except InvalidInput:
                raise _Broken(_INVALID) from None

    def _obey(self, context_id: int, command: dict[int, bytes]) -> None:
        field = messages.word(command, messages.FIELD)
        has_data_set = messages.word(command, messages.DATA_SET_TYPE) != messages.NO_DATA_SET
        if field == messages.C_CANCEL_RQ and not has_data_set:
            return  # there is nothing that could be cancelled
        message_id = messages.word(command, messages.MESSAGE_ID)
        abstract_syntax, transfer_syntax = self._accepted[context_id]
        is_storage = abstract_syntax != Verification
        if message_id is None or field not in (messages.C_STORE_RQ, messages.C_ECHO_RQ):
            raise _Broken(_UNEXPECTED)
        if is_storage != (field == messages.C_STORE_RQ):
            raise _Broken(_UNEXPECTED)
        self._context_id = context_id
        self._answer = {
            messages.FIELD: field | messages.RESPONSE,
            messages.RESPONDED_TO: message_id,
            messages.DATA_SET_TYPE: messages.NO_DATA_SET,
        }
        uids = {
            number: messages.text(command, number)
            for number in (messages.CLASS_UID, messages.INSTANCE_UID)
        }
        self._answer |= {number: uid for number, uid in uids.items() if is_uid(uid)}
        if field == messages.C_ECHO_RQ:
            if has_data_set:
                raise _Broken(_UNEXPECTED)
            self._respond(0)
            return
        self._reception = self._receiver.begin(
            uids[messages.CLASS_UID],
            uids[messages.INSTANCE_UID],
            transfer_syntax,
            self._calling_ae,
        )
        if not has_data_set:
            self._reception.fail(InvalidInput("a C-STORE request without a data set"))
            self._finish(self._reception)

    def _take_fragment(self, context_id: int, size: int, is_last: bool) -> None:
        reception = self._reception
        if reception is None or context_id != self._context_id:
            raise _Broken(_UNEXPECTED)
        while size:
            piece = self._gulps.at_most(size)
            reception.write(piece)
            size -= len(piece)
        if is_last:
            self._finish(reception)

    def _finish(self, reception: Reception) -> None:
        status = reception.finish()
        self._reception = None
        self._respond(status)

    def _respond(self, status: int) -> None:
        command = messages.write_command(self._answer | {messages.STATUS: status})
        pdus = messages.cut(command, True, self._context_id, self._peer_pdu_bytes)
        self._socket.sendall(b"".join(pdus))


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


def _abort_pdu(source: int, reason: int) -> bytes:
    return bytes((_ABORT, 0, 0, 0, 0, 4, 0, 0, source, reason))


def _set_timeout(sock: socket.socket, seconds: float) -> None:
    """Let the kernel time out reads and writes, with no call to poll before each of them."""
    whole, part = divmod(seconds, 1)
    value = struct.pack("ll", int(whole), int(part * 1e6))
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        sock.setsockopt(socket.SOL_SOCKET, option, value)


def _end(sock: socket.socket, last_words: bytes) -> None:
    """Say the last thing and let the peer close, so that it is not lost in a reset."""
    sock.sendall(last_words)
    sock.shutdown(socket.SHUT_WR)
    deadline = time.monotonic() + _LINGER_S
    _set_timeout(sock, _LINGER_S)
    while time.monotonic() < deadline and sock.recv(65_536):
        pass
