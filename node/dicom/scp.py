"""The DICOM listener: which services are offered, and the thin edge in front of each.

C-STORE for every storage SOP class and transfer syntax pydicom knows, Verification, Modality
Worklist, performed steps, storage commitment, and query and retrieve of what is stored here; who
may ask for what is said by :mod:`node.dicom.access`. Nothing that peers send is logged.
"""

from __future__ import annotations

import logging
import ssl
import threading
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import sqlalchemy as sa
from pydicom._uid_dict import UID_dictionary
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE, AllStoragePresentationContexts, _config, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext
from pynetdicom.service_class import ServiceClass, StorageServiceClass
from pynetdicom.sop_class import (
    ModalityPerformedProcedureStep,
    ModalityWorklistInformationFind,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
    register_uid,
    uid_to_service_class,
)

from node.config import Config, StationSection
from node.dicom import charset
from node.dicom.access import Access, Service, User
from node.dicom.commitment import COMMITMENT_CLASS, on_n_action, on_n_event_report
from node.dicom.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from node.dicom.instances import InstanceStore
from node.dicom.intake_process import IntakeProcess
from node.dicom.mpps import on_n_create, on_n_set
from node.dicom.place import Place
from node.dicom.receiver import Receiver
from node.dicom.retrieve import on_c_get, on_c_move, on_study_find
from node.dicom.store import on_c_store
from node.dicom.streaming import IS_SUPPORTED, StorageReceiver, Terms
from node.dicom.tls import server_tls
from node.dicom.transport import AdmitUser, AssociationListener
from node.dicom.worklist import on_c_find
from node.engine import DurableEngine
from node.errors import ConfigError
from node.tls import ServerTls

_LOG = logging.getLogger(__name__)
_MAX_PDU_BYTES = 131_072
_NETWORK_TIMEOUT_S = 60.0
#: How long the destination of a C-MOVE may take to accept a connection: who asked waits.
_DESTINATION_S = 10.0
_ANY_NUMBER = 100_000

#: When a peer leaves us the choice, the first of these that it offers: uncompressed, then lossless.
#: Source: PS3.8 7.1.1.13 leaves the choice to the acceptor.
_PREFERRED_SYNTAXES = (
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.4.57",
    "1.2.840.10008.1.2.4.80",
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.5",
)
_CLASSES: dict[Service, tuple[str, ...]] = {
    Service.WORKLIST: (ModalityWorklistInformationFind,),
    Service.STEPS: (ModalityPerformedProcedureStep,),
    Service.COMMITMENT: (COMMITMENT_CLASS,),
    Service.QUERY: (StudyRootQueryRetrieveInformationModelFind,),
    Service.RETRIEVE: (
        StudyRootQueryRetrieveInformationModelMove,
        StudyRootQueryRetrieveInformationModelGet,
    ),
}
_LAST_SYNTAXES = ("1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2")
_PLAIN = ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2", *_LAST_SYNTAXES]


def storage_classes() -> tuple[str, ...]:
    """List every storage SOP class that pydicom or pynetdicom knows, retired ones included."""
    known = {
        uid
        for uid, (name, kind, *_rest) in UID_dictionary.items()
        if kind == "SOP Class" and _is_storage(name)
    }
    return tuple(sorted(known | {str(c.abstract_syntax) for c in AllStoragePresentationContexts}))


def transfer_syntaxes() -> tuple[str, ...]:
    """List every transfer syntax that pydicom knows, those that we prefer first."""
    known = [uid for uid, (_, kind, *_rest) in UID_dictionary.items() if kind == "Transfer Syntax"]
    middle = [uid for uid in known if uid not in (*_PREFERRED_SYNTAXES, *_LAST_SYNTAXES)]
    return (*_PREFERRED_SYNTAXES, *middle, *_LAST_SYNTAXES)


@dataclass(frozen=True, slots=True)
class _Running:
    """A listening port and the thread that accepts there."""

    server: AssociationListener
    thread: threading.Thread

    @property
    def port(self) -> int:
        return int(self.server.server_address[1])


class DicomListener:
    """The DICOM ports of one location, plain and TLS: start them, read their numbers, stop them."""

    def __init__(
        self, config: Config, db: sa.Engine, store: InstanceStore, engine: DurableEngine
    ) -> None:
        self._config = config
        self._db = db
        self._store = store
        self._engine = engine
        self._plain: _Running | None = None
        self._tls: _Running | None = None
        self._certificates: ServerTls | None = None

    @property
    def port(self) -> int:
        """The port listened on without TLS, else that with it; the real one when it is set to 0."""
        running = self._plain or self._tls
        if running is None:
            raise ConfigError("the DICOM listener is not running")
        return running.port

    @property
    def tls_port(self) -> int | None:
        """The port listened on with TLS; None when there is none."""
        return self._tls.port if self._tls else None

    @property
    def is_listening(self) -> bool:
        """Whether connections are accepted now."""
        running = [each for each in (self._plain, self._tls) if each is not None]
        return bool(running) and all(each.thread.is_alive() for each in running)

    def start(self) -> None:
        """Listen; return once connections are accepted.

        Raises ConfigError when an address cannot be had or a certificate cannot be used.
        """
        _quieten()
        dicom = self._config.dicom
        require_charsets(dicom.stations)
        if dicom.tls_only and not dicom.tls_certificate:
            raise ConfigError("dicom.tls_only needs dicom.tls_certificate")
        entity = _entity(self._config)
        admit = _admission(Access(dicom.clients))
        tls = server_tls(dicom) if dicom.tls_certificate else None
        try:
            if not dicom.tls_only:
                self._plain = self._listen(entity, dicom.port, admit, None)
                _LOG.info("listening for DICOM as %s on port %d", dicom.ae_title, self.port)
            if tls is not None:
                self._tls = self._listen(entity, dicom.tls_port, admit, tls.context)
                self._certificates = tls
                _LOG.info("listening for DICOM over TLS on port %d", self._tls.port)
        except ConfigError:
            self.stop()
            raise

    def refresh_certificates(self) -> bool:
        """Take over certificates that were replaced; tells whether there were any."""
        if self._certificates is None or self._tls is None or not self._certificates.refresh():
            return False
        self._tls.server.tls = self._certificates.context
        return True

    def stop(self) -> None:
        """Stop accepting and end open associations; what was answered Success is kept."""
        for running in (self._plain, self._tls):
            if running is None:
                continue
            open_associations = list(running.server.active_associations)
            running.server.shutdown()
            for assoc in open_associations:
                assoc.abort()
            if running.server.fast is not None:
                running.server.fast.stop()
            running.thread.join(timeout=5)
        self._plain = self._tls = None

    def _listen(
        self, entity: AE, port: int, admit: AdmitUser, tls: ssl.SSLContext | None
    ) -> _Running:
        host = self._config.dicom.host
        try:
            server = entity.make_server(
                (host, port),
                contexts=contexts_of(()),  # each peer gets its own at admission
                evt_handlers=self._handlers(),
                server_class=AssociationListener,
            )
        except OSError as error:
            raise ConfigError(
                f"cannot listen for DICOM on {host}:{port} ({error.strerror}); "
                "choose another port with --dicom-port"
            ) from None
        server.admit, server.tls = admit, tls
        server.max_associations = self._config.dicom.max_associations
        if self._plain is not None:  # its storage associations count here too
            server.fast = self._plain.server.fast
        elif tls is None and self._config.dicom.fast_store and IS_SUPPORTED:
            server.fast = self._fast_path(server, entity, admit)
        entity._servers.append(server)
        name = "dicom-listener" if tls is None else "dicom-tls-listener"
        thread = threading.Thread(target=server.serve_forever, name=name, daemon=True)
        thread.start()
        return _Running(server, thread)

    def _fast_path(
        self, server: AssociationListener, entity: AE, admit: AdmitUser
    ) -> StorageReceiver:
        terms = Terms(
            entity.ae_title,
            entity.require_called_aet,
            entity.maximum_pdu_size,
            entity.acse_timeout,
            _NETWORK_TIMEOUT_S,
            frozenset(storage_classes()),
        )
        admit(entity.ae_title, "127.0.0.1")  # builds what everybody may use before anybody waits
        location_id = self._config.node.location_id
        fallback = self._config.dicom.fallback_charset
        place = Place(self._db, self._store, self._engine, location_id, fallback)
        receiver = StorageReceiver(terms, Receiver(place), IntakeProcess(), admit, server.has_room)
        receiver.start()
        return receiver

    def find_open(self, ae_title: str) -> Association | None:
        """Find an association in which `ae_title` may be sent a commitment report."""
        running = [each for each in (self._plain, self._tls) if each is not None]
        for assoc in [assoc for each in running for assoc in each.server.active_associations]:
            if assoc.is_established and assoc.requestor.ae_title.strip() == ae_title:
                for context in assoc.accepted_contexts:
                    if context.abstract_syntax == COMMITMENT_CLASS and context.as_scp:
                        return assoc
        return None

    def _handlers(self) -> list[tuple[object, ...]]:
        location_id = self._config.node.location_id
        fallback = self._config.dicom.fallback_charset
        return [
            (
                evt.EVT_C_STORE,
                on_c_store,
                [self._db, self._store, self._engine, location_id, fallback],
            ),
            (evt.EVT_C_FIND, _find, [self._db, self._store, self._config]),
            (evt.EVT_C_MOVE, on_c_move, [self._db, self._store, self._config]),
            (evt.EVT_C_GET, on_c_get, [self._db, self._store, self._config]),
            (evt.EVT_N_CREATE, on_n_create, [self._db, self._store, self._config]),
            (evt.EVT_N_SET, on_n_set, [self._db, self._store, self._config]),
            (evt.EVT_N_ACTION, on_n_action, [self._db, self._config]),
            (evt.EVT_N_EVENT_REPORT, on_n_event_report, [self._db, self._config]),
            (evt.EVT_C_ECHO, _echo),
        ]


def require_charsets(stations: Iterable[StationSection]) -> None:
    """Raise ConfigError when a station is to be answered in a charset that nobody knows."""
    for station in stations:
        for term in charset.parse_terms(station.charset.encode("ascii", "ignore")):
            if term not in charset.WRITABLE:
                raise ConfigError(
                    f"dicom.stations: {station.ae_title} has the charset {term!r}, which is no "
                    "defined term of Specific Character Set (e.g. ISO_IR 100)"
                )


def _find(
    event: evt.Event, db: sa.Engine, store: InstanceStore, config: Config
) -> Iterator[tuple[int, Dataset | None]]:
    if event.context.abstract_syntax == ModalityWorklistInformationFind:
        yield from on_c_find(event, db, config)
    else:
        yield from on_study_find(event, db, store, config)


def _admission(access: Access) -> AdmitUser:
    """Give each peer the presentation contexts of what it, or its user, may ask for."""
    building = threading.Lock()
    by_services: dict[frozenset[Service], list[PresentationContext]] = {}

    def admit(
        ae_title: str, address: str, user: User | None = None
    ) -> list[PresentationContext] | None:
        services = access.services(ae_title, address, user)
        if not services:
            return None
        with building:  # it takes a while; those that come at once wait for one
            if services not in by_services:
                by_services[services] = contexts_of(services)
            return by_services[services]

    return admit


def _echo(event: evt.Event) -> int:
    return 0x0000


def _entity(config: Config) -> AE:
    dicom = config.dicom
    entity = AE(ae_title=dicom.ae_title)
    entity.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    entity.maximum_pdu_size = _MAX_PDU_BYTES
    entity.maximum_associations = _ANY_NUMBER  # counted by the listener: established ones only
    entity.require_called_aet = dicom.require_called_aet
    entity.network_timeout = _NETWORK_TIMEOUT_S
    entity.connection_timeout = _DESTINATION_S
    return entity


def contexts_of(services: Iterable[Service]) -> list[PresentationContext]:
    """List the presentation contexts of some services; Verification is always among them."""
    granted = frozenset(services)
    contexts = [_context(Verification, _PLAIN)]
    for service, classes in _CLASSES.items():
        if service in granted:
            contexts += [_context(uid, _PLAIN) for uid in classes]
    if granted & {Service.STORE, Service.RETRIEVE}:  # C-GET stores the other way round
        syntaxes = list(transfer_syntaxes())
        for uid in storage_classes():
            _register(uid)
            contexts.append(_context(uid, syntaxes, is_scp=Service.STORE in granted))
    return contexts


def _context(
    abstract_syntax: str, syntaxes: list[str], *, is_scp: bool = True
) -> PresentationContext:
    context = PresentationContext()
    # the requestor's roles: SCU, or SCP for commitment reports (PS3.4 J.3.3) and C-GET (C.5.3)
    context.scu_role, context.scp_role = is_scp, True
    context.abstract_syntax = UID(abstract_syntax)
    context.transfer_syntax = [UID(syntax) for syntax in syntaxes]
    return context


def _register(uid: str) -> None:
    """Tell pynetdicom 3.0 which service a retired storage class belongs to."""
    if uid_to_service_class(uid) is ServiceClass:
        register_uid(uid, UID_dictionary[uid][4], StorageServiceClass)


def _is_storage(name: str) -> bool:
    words = name.split()
    return "Storage" in words and "Commitment" not in words and "Media" not in words


def _quieten() -> None:
    """Keep what peers send out of every log."""
    _config.LOG_HANDLER_LEVEL = "none"
    _config.LOG_REQUEST_IDENTIFIERS = False
    _config.LOG_RESPONSE_IDENTIFIERS = False
    for name in ("pynetdicom", "pydicom"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # pydicom warns of wrong values and quotes them
    for words in ("Invalid value for VR", "The value length", "A value of type"):
        warnings.filterwarnings("ignore", message=words, category=UserWarning)
