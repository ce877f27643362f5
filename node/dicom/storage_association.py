"""An established storage association: messages come, answers go, fragments go to the disk."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable

from node.dicom import messages
from node.dicom.gulps import Gulps
from node.dicom.reception import Reception
from node.dicom.uid import is_uid
from node.errors import InvalidInput

VERIFICATION = "1.2.840.10008.1.1"
_MAX_COMMAND_BYTES = 16_384
#: How long a peer may take to close a connection that is over (ARTIM, PS3.8 9.1.5).
_LINGER_S = 2.0
_DATA, _RELEASE_RQ, _ABORT = 0x04, 0x05, 0x07
_RELEASE_RP = b"\6\0\0\0\0\4\0\0\0\0"


#: Begins to receive an object of a class, instance, transfer syntax and calling AE title.
Begin = Callable[[str, str, str, str], Reception]


class Broken(Exception):
    """The peer broke the protocol; `reason` as in PS3.8 9.3.8, for the service provider."""

    def __init__(self, reason: int) -> None:
        super().__init__(reason)
        self.reason = reason


_UNRECOGNISED, _UNEXPECTED, _INVALID = 1, 2, 6


class StorageAssociation:
    """An established association: messages come, answers go, until it is released or broken."""

    def __init__(
        self,
        sock: socket.socket,
        gulps: Gulps,
        begin: Begin,
        accepted: dict[int, tuple[str, str]],
        calling_ae: str,
        peer_pdu_bytes: int,
    ) -> None:
        self._socket = sock
        self._gulps = gulps
        gulps.before_reuse = self._flush
        self._begin = begin
        self._accepted = accepted
        self._calling_ae = calling_ae
        self._peer_pdu_bytes = peer_pdu_bytes
        self._command = bytearray()
        self._context_id = 0
        self._reception: Reception | None = None
        self._answer: dict[int, int | str] = {}

    def run(self) -> None:
        """Serve until the peer releases, aborts or hangs up; raises Broken and HungUp."""
        while True:
            kind, _, length = struct.unpack(">BBL", self._gulps.exactly(6))
            if kind == _DATA:
                self._take_data(length)
            elif kind == _RELEASE_RQ:
                end(self._socket, _RELEASE_RP)
                return
            elif kind == _ABORT:
                return
            else:
                raise Broken(_UNEXPECTED if 1 <= kind <= 7 else _UNRECOGNISED)

    def _flush(self) -> None:
        if self._reception is not None:
            self._reception.flush()

    def discard(self) -> None:
        """Leave nothing behind of an object that was cut off."""
        if self._reception is not None:
            self._reception.discard()

    def _take_data(self, length: int) -> None:
        """Take the presentation data values of one P-DATA-TF (PS3.8 9.3.5)."""
        while length:
            if length < 6:
                raise Broken(_INVALID)
            size, context_id, control = struct.unpack(">LBB", self._gulps.exactly(6))
            if size < 2 or size + 4 > length or context_id not in self._accepted:
                raise Broken(_INVALID)
            length -= size + 4
            is_last = bool(control & 2)
            if control & 1:
                self._take_command(context_id, size - 2, is_last)
            else:
                self._take_fragment(context_id, size - 2, is_last)

    def _take_command(self, context_id: int, size: int, is_last: bool) -> None:
        if self._reception is not None or len(self._command) + size > _MAX_COMMAND_BYTES:
            raise Broken(_UNEXPECTED)
        self._command += self._gulps.exactly(size)
        if is_last:
            data, self._command = bytes(self._command), bytearray()
            try:
                self._obey(context_id, messages.read_command(data))
            except InvalidInput:
                raise Broken(_INVALID) from None

    def _obey(self, context_id: int, command: dict[int, bytes]) -> None:
        field = messages.word(command, messages.FIELD)
        has_data_set = messages.word(command, messages.DATA_SET_TYPE) != messages.NO_DATA_SET
        if field == messages.C_CANCEL_RQ and not has_data_set:
            return  # there is nothing that could be cancelled
        message_id = messages.word(command, messages.MESSAGE_ID)
        abstract_syntax, transfer_syntax = self._accepted[context_id]
        is_storage = abstract_syntax != VERIFICATION
        if message_id is None or field not in (messages.C_STORE_RQ, messages.C_ECHO_RQ):
            raise Broken(_UNEXPECTED)
        if is_storage != (field == messages.C_STORE_RQ):
            raise Broken(_UNEXPECTED)
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
                raise Broken(_UNEXPECTED)
            self._respond(0)
            return
        self._reception = self._begin(
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
            raise Broken(_UNEXPECTED)
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


def abort_pdu(source: int, reason: int) -> bytes:
    """Write an A-ABORT (PS3.8 9.3.8)."""
    return bytes((_ABORT, 0, 0, 0, 0, 4, 0, 0, source, reason))


def set_timeout(sock: socket.socket, seconds: float) -> None:
    """Let the kernel time out reads and writes, with no call to poll before each of them."""
    whole, part = divmod(seconds, 1)
    value = struct.pack("ll", int(whole), int(part * 1e6))
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        sock.setsockopt(socket.SOL_SOCKET, option, value)


def end(sock: socket.socket, last_words: bytes) -> None:
    """Say the last thing and let the peer close, so that it is not lost in a reset."""
    sock.sendall(last_words)
    sock.shutdown(socket.SHUT_WR)
    deadline = time.monotonic() + _LINGER_S
    set_timeout(sock, _LINGER_S)
    while time.monotonic() < deadline and sock.recv(65_536):
        pass
