"""The DICOM listener: which services are offered, and the thin edge in front of each.

C-STORE for every storage SOP class and transfer syntax pydicom knows, Verification, Modality
Worklist, performed steps, storage commitment, and query and retrieve of what is stored here; who
may ask for what is said by :mod:`node.dicom.access`. Nothing that peers send is logged.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator

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
from node.dicom.access import Access, Service
from node.dicom.commitment import COMMITMENT_CLASS, on_n_action, on_n_event_report
from node.dicom.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from node.dicom.instances import InstanceStore
from node.dicom.mpps import on_n_create, on_n_set
from node.dicom.retrieve import on_c_get, on_c_move, on_study_find
from node.dicom.store import on_c_store
from node.dicom.transport import Admit, AssociationListener
from node.dicom.worklist import on_c_find
from node.engine import DurableEngine
from node.errors import ConfigError

_LOG = logging.getLogger(__name__)
_MAX_PDU_BYTES = 131_072
_NETWORK_TIMEOUT_S = 60.0

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


class DicomListener:
    """One DICOM port of one location: start it, read its port, stop it."""

    def __init__(
        self, config: Config, db: sa.Engine, store: InstanceStore, engine: DurableEngine
    ) -> None:
        self._config = config
        self._db = db
        self._store = store
        self._engine = engine
        self._server: AssociationListener | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port that is listened on; the real one when the configuration says 0."""
        if self._server is None:
            raise ConfigError("the DICOM listener is not running")
        return int(self._server.server_address[1])

    @property
    def is_listening(self) -> bool:
        """Whether connections are accepted now."""
        return self._server is not None and self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Listen; return once connections are accepted.

        Raises ConfigError when the address cannot be had.
        """
        _quieten()
        dicom = self._config.dicom
        require_charsets(dicom.stations)
        entity = _entity(self._config)
        try:
            self._server = entity.make_server(
                (dicom.host, dicom.port),
                contexts=contexts_of(Service),
                evt_handlers=self._handlers(),
                server_class=AssociationListener,
            )
        except OSError as error:
            raise ConfigError(
                f"cannot listen for DICOM on {dicom.host}:{dicom.port} ({error.strerror}); "
                "choose another port with --dicom-port"
            ) from None
        self._server.admit = _admission(Access(dicom.clients))
        entity._servers.append(self._server)
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="dicom-listener", daemon=True
        )
        self._thread.start()
        _LOG.info("listening for DICOM as %s on port %d", dicom.ae_title, self.port)

    def stop(self) -> None:
        """Stop accepting and end open associations; what was answered Success is kept."""
        if self._server is None:
            return
        server, self._server = self._server, None
        open_associations = list(server.active_associations)
        server.shutdown()
        for assoc in open_associations:
            assoc.abort()
        if self._thread is not None:
            self._thread.join(timeout=5)

    def find_open(self, ae_title: str) -> Association | None:
        """Find an association in which `ae_title` may be sent a commitment report."""
        for assoc in list(self._server.active_associations) if self._server else ():
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


def _admission(access: Access) -> Admit:
    """Give each peer the presentation contexts of what it may ask for."""
    by_services: dict[frozenset[Service], list[PresentationContext]] = {}

    def admit(ae_title: str, address: str) -> list[PresentationContext] | None:
        services = access.services(ae_title, address)
        if not services:
            return None
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
    entity.maximum_associations = dicom.max_associations
    entity.require_called_aet = dicom.require_called_aet
    entity.network_timeout = _NETWORK_TIMEOUT_S
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
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
