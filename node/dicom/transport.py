"""pynetdicom's upper layer with the waits taken out of it.

As installed, pynetdicom 3.0 reads 4 kB at a time, sends every C-FIND answer into Nagle's delay and
wakes two threads a thousand times a second per open association. Here a PDU is read in one go into
one buffer, TCP_NODELAY is set on accept, TCP_QUICKACK after each read (so that a sender with Nagle
on need not wait for a delayed acknowledgement), and both threads sleep until something happens.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import select
import socket
import ssl
import threading
from datetime import UTC, datetime
from typing import Any, Protocol

from pynetdicom import evt
from pynetdicom.acse import ACSE
from pynetdicom.association import MODE_ACCEPTOR, Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_primitives import C_FIND
from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu_primitives import UserIdentityNegotiation
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from node.dicom import messages
from node.dicom.access import User
from node.dicom.streaming import StorageReceiver

_LOG = logging.getLogger(__name__)

#: A longer PDU is an attack or a fault: we announce 128 KiB, command PDUs are far shorter.
_MAX_PDU_BYTES = 4 << 20
#: C-FIND answers that more will follow (PS3.4 K.4.1.1.4), and how much of them goes in one send.
_PENDING = (0xFF00, 0xFF01)
_HELD_BYTES = 16_384
#: The longest sleep; timers (ARTIM, network timeout) are looked at this often.
_TICK_S = 0.5
#: A peer that stops in the middle of a PDU, or stops reading our answers, is hung up on after this.
_STALL_S = 60.0
#: A client that is silent in a TLS handshake is hung up on after this.
_HANDSHAKE_S = 10.0
#: Connections beyond the associations that are allowed: enough for refusals, bounded in a flood.
_SPARE = 64
_QUICKACK = getattr(socket, "TCP_QUICKACK", None)
#: User name, user name and passcode (PS3.7 Table D.3-14); Kerberos, SAML and JWT are refused.
_READABLE_IDENTITIES = (1, 2)
#: Rejected for good, by the association control, without a reason: it would help to guess.
_NOT_THIS_USER = (0x01, 0x02, 0x01)


class AdmitUser(Protocol):
    """Says what an AE title at an address, and its user, may use; None when not admitted."""

    def __call__(
        self, ae_title: str, address: str, user: User | None = None
    ) -> list[PresentationContext] | None:
        """List the presentation contexts."""


class _WakingQueue(queue.Queue[Any]):
    """A queue that also wakes a thread that sleeps on something else."""

    def __init__(self, wake: Any) -> None:
        super().__init__()
        self._wake = wake

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        super().put(item, block, timeout)
        self._wake()


class _Socket(AssociationSocket):  # type: ignore[misc]  # untyped
    """The accepted socket of one association."""

    def __init__(self, assoc: Association, client_socket: socket.socket) -> None:
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_write.setblocking(False)
        self._wake_read.setblocking(False)
        client_socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client_socket.settimeout(_STALL_S)
        # OpenSSL lets one thread at a time read or write
        is_tls = isinstance(client_socket, ssl.SSLSocket)
        self._turn = threading.Lock() if is_tls else contextlib.nullcontext()
        super().__init__(assoc, client_socket=client_socket)

    def wake(self) -> None:
        """Make a thread that waits in :meth:`ready` look at its queues."""
        try:
            self._wake_write.send(b"\0")
        except (BlockingIOError, OSError):  # already awake, or closed
            return

    def wait(self) -> None:
        """Sleep until data arrives, somebody calls :meth:`wake`, or a tick has passed."""
        sock = self.socket
        if sock is None or (isinstance(sock, ssl.SSLSocket) and sock.pending()):
            return
        try:
            ready, _, _ = select.select([sock, self._wake_read], [], [], _TICK_S)
            if self._wake_read in ready:
                self._wake_read.recv(4096)
        except (OSError, ValueError):  # closed meanwhile; the loop finds out
            return

    def recv(self, nr_bytes: int) -> bytearray:
        """Read exactly `nr_bytes`, or what came before the peer closed."""
        if nr_bytes > _MAX_PDU_BYTES:
            raise OSError("the PDU is longer than any that was agreed on")
        assert self.socket is not None
        data = bytearray(nr_bytes)
        view, got = memoryview(data), 0
        while got < nr_bytes:
            with self._turn:
                count = self.socket.recv_into(view[got:])
            if count == 0:
                view.release()
                del data[got:]
                return data
            got += count
        if _QUICKACK is not None:  # not sticky: Linux clears it again by itself
            self.socket.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
        return data

    def send(self, bytestream: bytes) -> None:
        """Send from the upper layer's thread."""
        with self._turn:
            super().send(bytestream)

    def send_now(self, data: bytes) -> None:
        """Send from the caller's thread; a broken connection ends the association."""
        try:
            assert self.socket is not None
            with self._turn:
                self.socket.sendall(data)
        except (OSError, AssertionError):
            self.event_queue.put("Evt17")
            self.wake()

    def close(self) -> None:
        """Close the connection and what wakes its thread."""
        super().close()
        self._wake_read.close()
        self._wake_write.close()


class _Dul(DULServiceProvider):  # type: ignore[misc]  # untyped
    """The upper layer thread: it sleeps until there is something to send or to read."""

    def __init__(self, assoc: Association) -> None:
        super().__init__(assoc)
        self._run_loop_delay = 0
        self.to_provider_queue = _WakingQueue(self._wake)
        self.daemon = True

    def run_reactor(self) -> None:
        """Run until the connection ends; what pynetdicom's state machine has no answer to ends it.

        PS3.8 Table 9-10 leaves cells empty; a hostile peer reaches them.
        """
        try:
            super().run_reactor()
        except Exception as error:  # noqa: BLE001 - the edge: one connection, not the node
            _LOG.warning(
                "a connection was closed: the protocol was broken (%s)", type(error).__name__
            )
            self.assoc.is_aborted, self.assoc.is_established = True, False
            self.assoc._kill = self._kill_thread = True  # as pynetdicom itself ends it
            self.state_machine.current_state = "Sta1"
            if self.socket is not None:
                self.socket.close()
            self.assoc._reactor_checkpoint.wake()

    def kill_dul(self) -> None:
        """Stop the thread."""
        super().kill_dul()
        self._wake()

    def _wake(self) -> None:
        if isinstance(self.socket, _Socket):
            self.socket.wake()

    def _is_transport_event(self) -> bool:
        # Sta13: pynetdicom closes the socket as soon as nothing more can be read (PS3.8 9.2.3)
        if self.state_machine.current_state != "Sta13" and self.event_queue.empty():
            assert isinstance(self.socket, _Socket)
            self.socket.wait()
            if not self.to_provider_queue.empty() and not self.socket.ready:
                return False
        return bool(super()._is_transport_event())


class _Dimse(DIMSEServiceProvider):  # type: ignore[misc]  # untyped
    """Sends C-FIND answers straight to the socket, many at a time: a day's list is a hundred.

    pynetdicom hands each one over to the upper layer thread as two PDUs, at 0.5 ms apiece.
    """

    def __init__(self, assoc: Association) -> None:
        super().__init__(assoc)
        self._held = bytearray()

    def send_msg(self, primitive: Any, context_id: int) -> None:
        """Send a DIMSE message."""
        dul = self.dul
        is_plain = (
            isinstance(primitive, C_FIND)
            and primitive.MessageIDBeingRespondedTo is not None
            and not primitive.OffendingElement
            and not primitive.ErrorComment
            and dul.state_machine.current_state == "Sta6"  # PS3.8 Table 9-10: data transfer
            and dul.to_provider_queue.empty()
        )
        if not is_plain:
            self._flush()
            super().send_msg(primitive, context_id)
            return
        identifier = primitive.Identifier.getvalue() if primitive.Identifier else b""
        size = self.maximum_pdu_size or 0
        command = _find_response(primitive, bool(identifier))
        pdus = [
            *messages.cut(command, True, context_id, size),
            *messages.cut(identifier, False, context_id, size),
        ]
        self._held += b"".join(pdus)
        if primitive.Status in _PENDING and len(self._held) < _HELD_BYTES:
            return  # the answer that ends the list comes at once and sends it all
        self._flush()

    def _flush(self) -> None:
        held, self._held = bytes(self._held), bytearray()
        if held:
            assert isinstance(self.dul.socket, _Socket)
            self.dul.socket.send_now(held)


def _find_response(primitive: Any, has_identifier: bool) -> bytes:
    """Encode the command set of a C-FIND-RSP (PS3.7 9.3.2.2)."""
    return messages.write_command(
        {
            messages.CLASS_UID: str(primitive.AffectedSOPClassUID),
            messages.FIELD: messages.C_FIND_RQ | messages.RESPONSE,
            messages.RESPONDED_TO: primitive.MessageIDBeingRespondedTo,
            messages.DATA_SET_TYPE: 0x0001 if has_identifier else messages.NO_DATA_SET,
            messages.STATUS: primitive.Status,
        }
    )


class _Checkpoint(threading.Event):
    """pynetdicom's gate before each turn of the association's loop; it also waits for work."""

    def __init__(self, assoc: _Association) -> None:
        super().__init__()
        self._assoc = assoc
        self._work = threading.Event()
        self.set()

    def wake(self) -> None:
        """Say that there is something to do."""
        self._work.set()

    def set(self) -> None:
        """Open the gate."""
        super().set()
        if hasattr(self, "_work"):
            self._work.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Sleep until there is work or a tick has passed, then until the gate is open."""
        self._work.clear()
        if not self._assoc.has_work():
            self._work.wait(_TICK_S)
        return super().wait(timeout)


def user_of(told: UserIdentityNegotiation | None) -> User | None:
    """Read whom a requestor names; None where it names nobody or in a way we cannot read."""
    if told is None or told.user_identity_type not in _READABLE_IDENTITIES:
        return None
    passcode = told.secondary_field if told.user_identity_type == 2 else None
    return User(
        (told.primary_field or b"").decode("utf-8", "replace"),
        None if passcode is None else passcode.decode("utf-8", "replace"),
    )


class _Acse(ACSE):  # type: ignore[misc]  # untyped
    """Negotiation that first asks who is there: a stranger is refused, others get their own."""

    def _negotiate_as_acceptor(self) -> None:
        server = self.assoc._server
        peer = self.requestor.primitive.calling_ae_title
        told = self.requestor.user_identity
        if told is not None and told.user_identity_type not in _READABLE_IDENTITIES:
            _LOG.warning("an association was refused: its user identity is of a kind not supported")
            self._refuse(*_NOT_THIS_USER)
            return
        contexts = server.admit(peer, self.requestor.address or "", user_of(told))
        # PS3.8 9.3.4: permanent, by the service user, calling AE title not recognised
        if contexts is None:
            self._refuse(*(_NOT_THIS_USER if told is not None else (0x01, 0x01, 0x03)))
        # transient, by the presentation layer, local limit exceeded; pynetdicom would count those
        # that never said who they are, and a flood of them would keep everybody out
        elif not server.has_room():
            self._refuse(0x02, 0x03, 0x02)
        else:
            self.acceptor.supported_contexts = contexts
            super()._negotiate_as_acceptor()

    def _check_user_identity(self) -> tuple[bool, UserIdentityNegotiation | None]:
        """Answer that the user was accepted where an answer is asked for (PS3.7 D.3.3.7.2)."""
        told = self.requestor.user_identity
        if told is None or not told.positive_response_requested:
            return True, None
        answer = UserIdentityNegotiation()
        answer.server_response = b""
        return True, answer

    def _refuse(self, result: int, source: int, reason: int) -> None:
        self.send_reject(result, source, reason)
        evt.trigger(self.assoc, evt.EVT_REJECTED, {})
        self.assoc.kill()


class _Association(Association):  # type: ignore[misc]  # untyped
    """An accepted association whose two threads sleep while it is idle."""

    def __init__(self, server: AssociationListener, sock: socket.socket) -> None:
        super().__init__(server.ae, MODE_ACCEPTOR)
        self._server = server
        self.dul = _Dul(self)
        self.dimse = _Dimse(self)
        self.acse = _Acse(self)
        self.acse_timeout = self.ae.acse_timeout  # again: the setter reaches into the new DUL
        self.network_timeout = self.ae.network_timeout
        self.name = f"AcceptorThread@{datetime.now(UTC):%Y%m%d%H%M%S}"
        self._reactor_checkpoint = _Checkpoint(self)
        self.dul.to_user_queue = _WakingQueue(self._reactor_checkpoint.wake)
        self.dimse.msg_queue = _WakingQueue(self._reactor_checkpoint.wake)
        self.set_socket(_Socket(self, sock))

    def run(self) -> None:
        """Serve the association, then give its place back."""
        try:
            super().run()
        finally:
            self._server.hung_up(self.requestor.address or "")

    def has_work(self) -> bool:
        """Whether the association's thread should take another turn now."""
        return (
            self._kill
            or not self.dimse.msg_queue.empty()
            or not self.dul.to_user_queue.empty()
            or not self.dul.is_alive()
        )

    def kill(self) -> None:
        """End the association's loop."""
        super().kill()
        if isinstance(self._reactor_checkpoint, _Checkpoint):
            self._reactor_checkpoint.wake()


class _Handler(RequestHandler):  # type: ignore[misc]  # untyped
    """Makes our kind of association for each accepted connection."""

    server: AssociationListener
    request: socket.socket

    def handle(self) -> None:
        """Shake hands where TLS is on, in this connection's own thread; then associate."""
        if self.server.tls is not None:
            self.request.settimeout(_HANDSHAKE_S)
            try:
                self.request = self.server.tls.wrap_socket(self.request, server_side=True)
            except (OSError, ValueError):  # no TLS, no certificate, silence: nobody else waits
                self.server.hung_up(self.client_address[0])
                self.request.close()
                return
        elif self.server.fast is not None and self.server.fast.serve(
            self.request, self.client_address[0]
        ):
            self.server.hung_up(self.client_address[0])
            return
        try:
            super().handle()
        except Exception:  # the peer hung up already, before there was an association
            self.server.hung_up(self.client_address[0])
            raise

    def _create_association(self) -> Association:
        assoc = _Association(self.server, self.request)
        acceptor = assoc.acceptor
        acceptor.maximum_length = self.ae.maximum_pdu_size
        acceptor.ae_title = self.server.ae_title
        acceptor.address_info = self.local
        acceptor.implementation_class_uid = self.ae.implementation_class_uid
        acceptor.implementation_version_name = self.ae.implementation_version_name
        assoc.requestor.address_info = self.remote
        for event, handlers in self.server._handlers.items():
            if event.is_intervention and handlers:
                assoc.bind(event, *handlers)
            elif isinstance(event, evt.NotificationEvent):
                for handler, arguments in handlers:
                    assoc.bind(event, handler, arguments)
        self.server.has_garbage = True
        return assoc


class AssociationListener(ThreadedAssociationServer):  # type: ignore[misc]  # untyped
    """pynetdicom's server, accepting associations that cost nothing while they are idle."""

    request_queue_size = 64
    daemon_threads = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.has_garbage = False
        #: TLS of this listener, None for none; set before the first connection.
        self.tls: ssl.SSLContext | None = None
        #: How many associations may be established at one time; set before the first connection.
        self.max_associations = 10
        #: Serves plain storage associations without this module; set before the first connection.
        self.fast: StorageReceiver | None = None
        self._connections: dict[str, int] = {}
        self._guard = threading.Lock()
        #: What an AE title at an address may use, None when it is not admitted. pynetdicom copies
        #: 200 contexts for each connection; negotiation only reads them, so they are shared.
        self.admit: AdmitUser = lambda ae_title, address, user=None: self.contexts
        super().__init__(*args, **kwargs, request_handler=_Handler)

    def verify_request(self, request: socket.socket, client_address: tuple[str, int]) -> bool:
        """Take a connection unless there are too many, in all or from one address."""
        address = client_address[0]
        with self._guard:
            limit = self.max_associations
            is_free = bool(
                sum(self._connections.values()) < 2 * limit + _SPARE
                and self._connections.get(address, 0) < limit + _SPARE
            )
            if is_free:
                self._connections[address] = self._connections.get(address, 0) + 1
        return is_free

    def has_room(self) -> bool:
        """Whether one more association may be established, counting those of both paths."""
        others = self.ae.active_associations
        count = sum(assoc.is_acceptor and assoc.is_established for assoc in others)
        if self.fast is not None:
            count += self.fast.established
        return bool(count < self.max_associations)

    def hung_up(self, address: str) -> None:
        """Count a connection of this address as over."""
        with self._guard:
            left = self._connections.get(address, 0) - 1
            if left > 0:
                self._connections[address] = left
            else:
                self._connections.pop(address, None)

    def service_actions(self) -> None:
        """Collect finished associations, but only where there were any."""
        if self.has_garbage:
            super().service_actions()
            self.has_garbage = self._gc[0] != 0
