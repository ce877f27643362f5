"""One frozen Config, read from a TOML file and ``BITEWING_*`` environment variables.

A key ``port`` of the section ``[dicom]`` is overridden by ``BITEWING_DICOM_PORT``; a secret ``x``
may be given as ``x_file``, a file that nobody else may read. An unknown key or variable is a
:class:`~node.errors.ConfigError` that names the nearest known one. The commented manual of every
key is ``docs/bitewing.example.toml``.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import tomllib
from collections.abc import Mapping
from datetime import time
from enum import StrEnum
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from node.domain.destinations import Network, Reach, is_near
from node.domain.rights import Role
from node.errors import ConfigError
from node.private_file import read_private

Party = Literal[
    "pms",
    "payers",
    "labs",
    "messengers",
    "gateway",
    "webhooks",
    "oidc",
    "kms",
    "fleet",
    "audit",
    "objects",
]
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]

#: Keys whose values in the environment are lists with commas.
_LISTS = (
    "disabled_models",
    "prep_codes",
    "archive_senders",
    "may_reject",
    "dicomweb_origins",
    "declared_archives",
    "allowed_hosts",
    "send_weekdays",
    "hygienists",
    "clinics",
    "second_factor_roles",
    "scopes",
)


class Mode(StrEnum):
    """How far the roll-out may go: ``silent`` nowhere, ``assist`` as its rules say."""

    SILENT = "silent"
    ASSIST = "assist"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _read_secret_files(cls, given: object) -> object:
        """Let every secret ``x`` be given as ``x_file``, a file that nobody else may read."""
        if not isinstance(given, dict):
            return given
        values = dict(given)
        for name in secret_names(cls):
            path = values.pop(f"{name}_file", None)
            if not path:
                continue
            if values.get(name):
                raise ConfigError(f"{name} and {name}_file are both given; keep one")
            values[name] = read_private(Path(str(path)), f"{name}_file").decode().strip()
        return values


def secret_names(section: type[BaseModel]) -> list[str]:
    """List the keys of a section whose values are never shown."""
    return [name for name, field in section.model_fields.items() if field.annotation is SecretStr]


class NodeSection(_Section):
    """``[node]``: who and where this node is."""

    location_id: str = Field("main", pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")
    practice_name: str = "Dental practice"
    time_zone: str = "UTC"
    data_dir: Path = Path("bitewing-data")
    mode: Mode = Mode.ASSIST  # a limit; what is shown, the roll-out's rules say
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    low_disk_mb: int = Field(5_000, ge=0)
    reserve_mb: int = Field(64, ge=0)

    @field_validator("time_zone")
    @classmethod
    def _zone_exists(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError(f"unknown IANA time zone {value!r}") from None
        return value


class DatabaseSection(_Section):
    """``[database]``: empty url = SQLite in the data folder."""

    url: SecretStr = SecretStr("")
    executor_id: str = Field("node-1", pattern=r"^[A-Za-z0-9_.-]{1,64}$")


class StationSection(_Section):
    """``[[dicom.stations]]``: which sensor stands in which operatory."""

    operatory: str
    ae_title: str = Field(min_length=1, max_length=16)
    modality: str = "IO"
    charset: str = ""


class PeerSection(_Section):
    """``[[dicom.peers]]``: a configured peer that receives results."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,32}$")
    ae_title: str = Field(min_length=1, max_length=16)
    host: str
    port: int = Field(ge=1, le=65535)
    preliminary: bool = False
    objects: tuple[Literal["SR", "SC", "PR", "SEG", "KO"], ...] = ("SR", "SC")
    archive: bool = False
    availability: bool = False
    external: bool | None = None  # None: as the host says; False: declared to be the office itself
    when: str = ""
    priors: bool = False
    username: str = Field("", max_length=64)
    passcode: SecretStr = SecretStr("")
    tls: bool = False
    tls_ca: str = ""
    tls_certificate: str = ""
    tls_key: str = ""
    tls_crl: str = ""

    @property
    def is_outside(self) -> bool:
        """Whether it is another party than the office; unless declared, its host tells."""
        return not is_near(self.host) if self.external is None else self.external


class ClientSection(_Section):
    """``[[dicom.clients]]``: who may associate with this node, and for what.

    With ``username`` the services are granted to that user only (User Identity Negotiation).
    """

    ae_title: str = Field(min_length=1, max_length=16)
    hosts: tuple[str, ...] = ()
    username: str = Field("", max_length=64)
    passcode: SecretStr = SecretStr("")
    services: tuple[
        Literal["store", "worklist", "steps", "commitment", "query", "retrieve", "results"], ...
    ] = ("store", "worklist", "steps", "commitment")


class DicomSection(_Section):
    """``[dicom]``: the listener, the worklist and the peers."""

    host: str = "0.0.0.0"
    port: int = Field(11112, ge=0, le=65535)
    ae_title: str = Field("BITEWING", min_length=1, max_length=16)
    require_called_aet: bool = False
    max_associations: int = Field(32, ge=1)
    fast_store: bool = True
    study_quiet_s: float = Field(30.0, gt=0)
    step_wait_s: float = Field(900.0, gt=0)
    min_free_mb: int = Field(64, ge=0)
    issuer_of_patient_id: str = ""
    default_station_ae_title: str = "SENSOR"
    fallback_charset: str = "ISO_IR 100"
    worklist_days_before: int = Field(1, ge=0)
    worklist_days_after: int = Field(1, ge=0)
    worklist_by_station: bool = False
    archive_senders: tuple[str, ...] = ()
    may_reject: tuple[str, ...] = ()
    import_dir: str = ""
    import_every_s: float = Field(5.0, ge=1)
    import_sidecar_s: float = Field(600.0, ge=0)
    tls_port: int = Field(0, ge=0, le=65535)
    tls_only: bool = False
    tls_certificate: str = ""
    tls_key: str = ""
    tls_ca: str = ""
    tls_crl: str = ""
    priors_days: int = Field(2, ge=1, le=14)
    priors_most: int = Field(6, ge=1, le=100)
    stations: tuple[StationSection, ...] = ()
    peers: tuple[PeerSection, ...] = ()
    clients: tuple[ClientSection, ...] = ()


class WebSection(_Section):
    """``[web]``: the review page."""

    host: str = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65535)
    idle_lock_min: int = Field(5, ge=2, le=15)
    session_hours: int = Field(12, ge=1, le=24)
    secure_cookies: bool = False
    second_factor_roles: tuple[Role, ...] = ()
    sign_ins_per_min: int = Field(60, ge=0)
    requests_per_min: int = Field(6000, ge=0)
    emergency_min: int = Field(30, ge=0, le=240)  # 0 switches emergency access off
    tls_certificate: str = ""
    tls_key: str = ""
    redirect_port: int = Field(0, ge=0, le=65535)  # 0: nothing listens without TLS
    dicomweb_origins: tuple[str, ...] = ()  # of viewers in a browser
    patient_ai_words: str = Field("", max_length=600)  # empty: our own sentence
    link_key: SecretStr = SecretStr("")  # who may ask for links from a chart; empty: nobody

    @field_validator("dicomweb_origins")
    @classmethod
    def _are_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if not re.fullmatch(r"https?://[a-z0-9.-]+(:\d{1,5})?", origin):
                raise ValueError("an origin is written https://viewer.example, without a path")
        return value

    @property
    def cookies_are_secure(self) -> bool:
        """Whether browsers may send the session over TLS only."""
        return self.secure_cookies or bool(self.tls_certificate)


class GroupSection(_Section):
    """``[[oidc.groups]]``: which role a group of the sign-in service means, and where."""

    group: str = Field(min_length=1)
    role: Role
    locations: tuple[str, ...] = ()  # none: at every location


class OidcSection(_Section):
    """``[oidc]``: the practice's sign-in service (OpenID Connect); no issuer switches it off."""

    issuer: str = Field(
        "", pattern=r"^(https://[^\s?#]+|http://(127\.0\.0\.1|localhost)[^\s?#]*)?$"
    )
    client_id: str = ""
    client_secret: SecretStr = SecretStr("")
    public_url: str = Field("", pattern=r"^(https?://[^\s/?#]+)?$")  # this node's pages
    label: str = "Sign in with the practice's account"
    scopes: tuple[str, ...] = ("openid", "profile", "email")
    groups_claim: str = "groups"
    groups: tuple[GroupSection, ...] = ()

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.issuer and not (self.client_id and self.public_url and self.groups):
            raise ValueError("an issuer needs client_id, public_url and at least one of groups")
        if any(each.role is Role.SERVICE for each in self.groups):
            raise ValueError("a group cannot have the role service, which is for programs")
        return self


class WindowSection(_Section):
    """``[[pms.windows]]``: when, and how often a day, a type of visit may be booked."""

    appointment_type: str
    provider: str = ""
    weekdays: tuple[Weekday, ...] = (
        "mon",
        "tue",
        "wed",
        "thu",
        "fri",
    )
    start: time
    stop: time
    at_most: int = Field(100, ge=0)


class EndpointSection(_Section):
    """``[[pms.endpoints]]``: one way to an Open Dental office; they are tried in their order."""

    mode: Literal["service", "local", "remote"]
    url: str = ""


class PmsSection(_Section):
    """``[pms]``: the practice management system; ``kind = "none"`` switches it off."""

    kind: Literal["none", "open_dental", "dentrix", "eaglesoft", "curve"] = "none"
    base_url: str = ""
    developer_key: SecretStr = SecretStr("")
    customer_key: SecretStr = SecretStr("")
    poll_s: float = Field(60.0, ge=1)
    days_before: int = Field(1, ge=0)
    days_after: int = Field(7, ge=0)
    document_category: str = "AI Imaging"
    task_list: str = "AI Imaging Review"
    task_user: str = "bitewing"
    min_interval_s: float = Field(0.0, ge=0)
    burst: int = Field(1, ge=1, le=60)
    sftp_host: str = ""
    sftp_port: int = Field(22, ge=1, le=65535)
    sftp_user: str = ""
    sftp_password: SecretStr = SecretStr("")
    sftp_host_key: str = ""
    sftp_folder: str = "bitewing"
    sftp_office_host: str = ""
    events_url: str = ""
    events_workstation: str = ""
    events_poll_s: int = Field(3, ge=1, le=3600)
    subdomain: str = ""
    partner_location: str = ""
    page_size: int = Field(100, ge=1, le=10_000)
    records_s: float = Field(300.0, ge=10)
    reconcile_hour: int = Field(2, ge=0, le=23)
    clinics: tuple[str, ...] = ()
    windows: tuple[WindowSection, ...] = ()
    endpoints: tuple[EndpointSection, ...] = ()


class BridgeSection(_Section):
    """``[bridge]``: the listener that a clinic's bridge dials (Dentrix, Eaglesoft)."""

    host: str = "0.0.0.0"
    port: int = Field(11443, ge=0, le=65535)
    public_name: str = Field("", pattern=r"^[A-Za-z0-9.:-]{0,253}$")
    certificate_days: float = Field(90.0, gt=0, le=825)
    stale_s: float = Field(900.0, ge=10)


class WebhookSection(_Section):
    """``[[workflows.webhooks]]``: whom the node tells what happened, signed, until it is taken.

    ``identifiers`` says whether ``patient_id`` is our opaque id or the PMS's key.
    """

    name: str = Field(pattern=r"^[a-z0-9_-]{1,32}$")
    url: str
    secret: SecretStr = Field(min_length=16)
    is_sandbox: bool = False  # on this machine: needs no agreement
    events: tuple[Literal["imaging_study_analyzed", "workflow_state", "lab_order"], ...] = (
        "imaging_study_analyzed",
    )
    identifiers: Literal["opaque", "pms"] = "opaque"

    @field_validator("url")
    @classmethod
    def _is_safe(cls, value: str) -> str:
        if not re.match(
            r"https://[^/@]+(/|$)|http://(127\.0\.0\.1|localhost|\[::1\])(:|/|$)", value
        ):
            raise ValueError("an address outside this machine must begin with https://")
        return value


class RolloutSection(_Section):
    """``[rollout]``: what is asked for before suggestions are shown, and how much is checked."""

    min_studies: int = Field(30, ge=0)  # compared in silence before a finding is let in
    auto_sample: float = Field(0.2, gt=0, le=1)  # of automatic entries, to estimate their errors


class WorkflowsSection(_Section):
    """``[workflows]``: which workflows run, and how; one that is not named runs silently.

    ``per_minute`` limits the calls to a partner, such as ``{payer = 30, sms = 60}``.
    """

    modes: dict[str, Literal["off", "silent", "assist"]] = Field(default_factory=dict)
    per_minute: dict[str, float] = Field(default_factory=dict)
    webhooks: tuple[WebhookSection, ...] = ()

    def mode(self, workflow: str) -> Mode | None:
        """Give the mode of a workflow; None when it is off."""
        word = self.modes.get(workflow, "silent")
        return None if word == "off" else Mode(word)


class ModelSection(_Section):
    """``[[analysis.models]]``: a network of another folder, live, in the shadow or off."""

    task: str
    dir: Path
    version: str = ""
    role: Literal["live", "shadow", "off"] = "live"


class MessengersSection(_Section):
    """``[messengers]``: how people are reached; an empty address switches a way off."""

    public_url: str = Field("", pattern=r"^(https?://[^\s/?#]+(/[^\s?#]*)?)?$")
    link_hours: int = Field(48, ge=1, le=720)
    allowed_hosts: tuple[str, ...] = ()
    is_sandbox: bool = False
    smtp_host: str = ""
    smtp_port: int = Field(587, ge=1, le=65535)
    smtp_security: Literal["starttls", "tls", "none"] = "starttls"
    smtp_user: str = ""
    smtp_password: SecretStr = SecretStr("")
    smtp_ca_file: str = ""
    mail_from: str = ""
    mail_reply_to: str = ""
    sms_url: str = ""
    sms_key: SecretStr = SecretStr("")
    sms_secret: SecretStr = SecretStr("")
    sms_from: str = ""
    chat_url: SecretStr = SecretStr("")
    staff_mail: dict[str, str] = Field(default_factory=dict)  # user name -> address
    staff_every_min: int = Field(15, ge=1, le=1440)


class RecallSection(_Section):
    """``[recall]``: when and how often patients are reminded, and how many a day."""

    phone: str = ""
    booking_url: str = Field("", pattern=r"^(https://\S+)?$")
    template_dir: str = ""
    use_first_name: bool = False
    days_ahead: int = Field(21, ge=0, le=120)
    given_up_days: int = Field(540, ge=30)
    send_from: time = time(9)
    send_until: time = time(19)
    send_weekdays: tuple[Weekday, ...] = ("mon", "tue", "wed", "thu", "fri", "sat")
    texts_need_consent: bool = True
    most_per_week: int = Field(2, ge=1, le=7)
    days_between: int = Field(3, ge=1, le=60)
    hygienists: tuple[str, ...] = ()
    appointment_type: str = ""
    visit_min: int = Field(60, ge=5, le=540, multiple_of=5)
    fill_days: int = Field(14, ge=1, le=60)
    booking_rate: float = Field(0.2, gt=0, le=1)
    most_a_day: int = Field(50, ge=0)
    status_texted: str = ""
    status_emailed: str = ""
    lift_share: float = Field(0.0, ge=0, le=0.5)
    lift_delay_days: int = Field(14, ge=7, le=28)
    lift_seed: str = ""


class DentistSection(_Section):
    """``[[payers.dentists]]``: a treating dentist as payers know them."""

    provider: str
    family_name: str
    given_name: str
    npi: str = Field(pattern=r"^\d{10}$")
    taxonomy: str = Field("1223G0001X", pattern=r"^[A-Z0-9]{9}X$")


class PayersSection(_Section):
    """``[payers]``: the clearinghouse, and the practice as payers know it; no url = off."""

    url: str = ""
    allowed_hosts: tuple[str, ...] = ()
    is_sandbox: bool = False
    api_key: SecretStr = SecretStr("")
    sender: str = Field("", pattern=r"^[A-Za-z0-9 .-]{0,15}$")
    receiver: str = Field("", pattern=r"^[A-Za-z0-9 .-]{0,15}$")
    is_test: bool = True
    npi: str = Field("", pattern=r"^(\d{10})?$")
    tax_id: str = Field("", pattern=r"^(\d{9})?$")
    taxonomy: str = Field("1223G0001X", pattern=r"^[A-Z0-9]{9}X$")
    phone: str = Field("", pattern=r"^(\d{10})?$")
    street: str = ""
    city: str = ""
    state: str = Field("", pattern=r"^([A-Z]{2})?$")
    postal_code: str = Field("", pattern=r"^(\d{9})?$")
    dentists: tuple[DentistSection, ...] = ()
    rules_dir: str = ""
    denials: str = ""
    preauth_amount: float = Field(1000.0, ge=0)
    poll_s: float = Field(300.0, ge=1)
    acknowledge_hours: float = Field(48.0, gt=0)
    answer_days: float = Field(21.0, gt=0)
    attachment_mb: float = Field(5.0, gt=0, le=50)


class GatewaySection(_Section):
    """``[gateway]``: an optional language model for drafts; no base_url switches it off."""

    base_url: str = ""
    allowed_hosts: tuple[str, ...] = ()
    is_sandbox: bool = False
    purposes: tuple[str, ...] = ("narrative",)
    api_key: SecretStr = SecretStr("")
    model: str = ""
    timeout_s: float = Field(60.0, gt=0)
    prompt_chars: int = Field(8000, ge=200)
    answer_tokens: int = Field(600, ge=16)
    requests_a_day: int = Field(200, ge=1)
    tokens_a_day: int = Field(200_000, ge=100)
    requests_a_minute: int = Field(20, ge=1)
    price_per_1000_tokens: float = Field(0.0, ge=0)
    cost_a_day: float = Field(0.0, ge=0)  # 0: no limit of its own


class OutgoingSection(_Section):
    """``[outgoing]``: inside which private networks an outside party may stand, by its adapter.

    ``private_networks = {labs = ["192.168.7.0/24"]}``; without an entry only public addresses,
    this machine where an address names it, and for ``[pms]`` hosts named near.
    """

    private_networks: dict[Party, tuple[str, ...]] = Field(default_factory=dict)

    @field_validator("private_networks")
    @classmethod
    def _are_networks(cls, value: dict[Party, tuple[str, ...]]) -> dict[Party, tuple[str, ...]]:
        for party, networks in value.items():
            for each in networks:
                try:
                    ipaddress.ip_network(each)
                except ValueError:
                    raise ValueError(f"{party}: {each!r} is no address or network") from None
        return value

    def reach(self, party: Party, *, takes_near: bool = False) -> Reach:
        """Say at which addresses a party may be reached; see :class:`Reach`."""
        named: tuple[Network, ...] = tuple(
            ipaddress.ip_network(each) for each in self.private_networks.get(party, ())
        )
        return Reach(party, named, takes_near)


class RetentionSection(_Section):
    """``[retention]``: how long what is kept; findings, reviews and the audit always stay.

    ``processor`` gives up signed pixels that an archive has promised to keep; see
    :mod:`node.dicom.retention`.
    """

    mode: Literal["keep", "processor"] = "keep"
    pixels_days: float = Field(30.0, ge=0)  # after the signature, and after they were fetched again
    declared_archives: tuple[str, ...] = ()  # AE titles of senders that are the archive
    webhook_days: float = Field(180.0, ge=31)  # what partners sent to cases that are closed
    settled_days: float = Field(2200.0, ge=90)  # words of writes, payers' answers, replies
    prompt_days: float = Field(365.0, ge=2)  # what a language model was asked and said
    session_days: float = Field(90.0, ge=31)  # after the last word; used links and codes as well


class LabSection(_Section):
    """``[[labs.partners]]``: one laboratory and how it is reached."""

    key: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")
    name: str = Field(min_length=1)
    pms_key: str = ""
    transport: Literal["api", "sftp", "email"]
    is_sandbox: bool = False
    rules: str = ""
    url: str = ""
    api_key: SecretStr = SecretStr("")
    webhook_secret: SecretStr = SecretStr("")
    host: str = ""
    port: int = Field(22, ge=1, le=65535)
    user: str = ""
    password: SecretStr = SecretStr("")
    key_file: str = ""
    host_key: str = ""
    folder: str = "incoming"
    status_folder: str = "status"
    invoice_folder: str = "invoices"
    email: str = ""
    email_form: Literal["link", "attachment"] = "attachment"
    prices: dict[str, float] = Field(default_factory=dict)


class PrescriberSection(_Section):
    """``[[labs.prescribers]]``: a licensed dentist, by the name of the account that signs."""

    user: str
    provider: str = ""
    name: str = Field(min_length=1)
    licence_number: str = Field(min_length=1)
    licence_state: str = ""


class LabsSection(_Section):
    """``[labs]``: the laboratories, who may prescribe to them, and when a case begins."""

    practice_address: str = ""
    telephone: str = ""
    contact: str = ""
    infection_control: str = ""
    shipping: Literal["laboratory_pickup", "courier", "digital_only"] = "courier"
    send_patient_name: bool = False
    ready_priority: str = "Lab"
    prep_codes: tuple[str, ...] = ()
    prep_within_days: int = Field(14, ge=1, le=90)
    scans_dir: str = ""
    implant_library: str = ""
    poll_hours: float = Field(4.0, ge=0.1, le=48)
    alert_hours: float = Field(48.0, ge=24, le=240)
    sign_within_hours: float = Field(48.0, ge=1, le=720)
    invoice_days: int = Field(45, ge=1, le=180)
    tell_patients: bool = False
    partners: tuple[LabSection, ...] = ()
    prescribers: tuple[PrescriberSection, ...] = ()


class EncryptionSection(_Section):
    """``[encryption]``: what lies in the database and the store is sealed; where the master key is.

    Without any of the places the master key is a file beside the data folder.
    """

    enabled: bool = True
    key_file: str = ""
    master_key: SecretStr = SecretStr("")  # 32 bytes in base 64; for the environment
    kms_command: str = ""
    kms_url: str = Field("", pattern=r"^(https://[^\s@]+|http://(127\.0\.0\.1|localhost)[^\s@]*)?$")
    kms_token: SecretStr = SecretStr("")


class AuditSection(_Section):
    """``[audit]``: where the audit's heads are anchored, and how long it is kept at hand."""

    heads_file: str = ""  # empty: in the data folder; better on another disk
    anchor_every_s: float = Field(300.0, ge=1)
    archive_dir: str = ""
    keep_days: int = Field(2200, ge=365)
    syslog_host: str = ""
    syslog_port: int = Field(6514, ge=1, le=65535)
    syslog_transport: Literal["udp", "tcp", "tls"] = "tls"
    syslog_ca: str = ""
    syslog_certificate: str = ""
    syslog_key: str = ""
    syslog_dicom: bool = False  # also DICOM audit messages (PS3.15 A.5)


class FleetSection(_Section):
    """``[fleet]``: the node that shows all locations, and the token with which we report there."""

    report_to: str = Field(
        "", pattern=r"^(https://[^\s?#]+|http://(127\.0\.0\.1|localhost)[^\s?#]*)?$"
    )
    token: SecretStr = SecretStr("")
    every_s: float = Field(60.0, ge=5)
    ca_file: str = ""


class BackupSection(_Section):
    """``[backup]``: the nightly backup; no folder switches it off."""

    folder: str = ""
    at: time = time(2, 0)
    keep: int = Field(30, ge=1, le=3650)


class ObjectsSection(_Section):
    """``[objects]``: a bucket (S3) to which stored objects go, sealed; no endpoint switches it off.

    Local files are a cache then; without ``cache_mb`` and ``cache_days`` they stay until the disk
    is low.
    """

    endpoint: str = Field("", pattern=r"^(https?://[^\s/?#@]+)?$")
    bucket: str = Field("", pattern=r"^([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])?$")
    region: str = Field("us-east-1", pattern=r"^[a-z0-9-]{1,64}$")
    prefix: str = Field("", pattern=r"^([A-Za-z0-9_-]+/)*$")
    path_style: bool = True
    access_key: SecretStr = SecretStr("")
    secret_key: SecretStr = SecretStr("")
    ca_file: str = ""
    cache_mb: int = Field(0, ge=0)
    cache_days: float = Field(0.0, ge=0)

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if not self.endpoint:
            return self
        keys = (self.access_key.get_secret_value(), self.secret_key.get_secret_value())
        if not self.bucket or not all(keys):
            raise ValueError("an endpoint needs bucket, access_key and secret_key")
        if self.endpoint.startswith("http:") and not is_near(self.host):
            raise ValueError("an endpoint outside this network must begin with https://")
        return self

    @property
    def host(self) -> str:
        """The endpoint's host; empty while it is off."""
        return urlsplit(self.endpoint).hostname or ""


class AnalysisSection(_Section):
    """``[analysis]``: the inference process."""

    weights_dir: str = ""
    disabled_models: tuple[str, ...] = ()
    threads: int = Field(2, ge=1)
    timeout_s: float = Field(120.0, gt=0)
    runtime: Literal["auto", "torch", "onnxruntime", "openvino"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    models: tuple[ModelSection, ...] = ()
    training_export: bool = False
    cdt_table: str = ""


class Config(_Section):
    """The whole effective configuration."""

    node: NodeSection = NodeSection()
    database: DatabaseSection = DatabaseSection()
    dicom: DicomSection = DicomSection()
    web: WebSection = WebSection()
    oidc: OidcSection = OidcSection()
    pms: PmsSection = PmsSection()
    bridge: BridgeSection = BridgeSection()
    messengers: MessengersSection = MessengersSection()
    recall: RecallSection = RecallSection()
    payers: PayersSection = PayersSection()
    gateway: GatewaySection = GatewaySection()
    outgoing: OutgoingSection = OutgoingSection()
    retention: RetentionSection = RetentionSection()
    encryption: EncryptionSection = EncryptionSection()
    labs: LabsSection = LabsSection()
    audit: AuditSection = AuditSection()
    backup: BackupSection = BackupSection()
    objects: ObjectsSection = ObjectsSection()
    fleet: FleetSection = FleetSection()
    analysis: AnalysisSection = AnalysisSection()
    workflows: WorkflowsSection = WorkflowsSection()
    rollout: RolloutSection = RolloutSection()

    @property
    def database_url(self) -> str:
        """SQLAlchemy URL; a SQLite file in the data folder unless one is configured."""
        url = self.database.url.get_secret_value()
        if not url:
            return f"sqlite:///{(self.node.data_dir / 'bitewing.sqlite').absolute()}"
        if url.startswith("postgresql://"):
            return url.replace("postgresql://", "postgresql+psycopg://", 1)
        return url

    @property
    def zone(self) -> ZoneInfo:
        """The practice's time zone."""
        return ZoneInfo(self.node.time_zone)


def read_config(
    path: Path | None = None,
    environment: Mapping[str, str] | None = None,
    overrides: Mapping[str, Mapping[str, object]] | None = None,
) -> Config:
    """Read the TOML file, then the environment, then `overrides` (command line); later wins.

    Raises
    ------
    ConfigError
        The file is missing or not TOML, a key is unknown or a value is wrong; the message names
        the key, never the value of a secret.
    """
    raw = _read_toml(path)
    _merge_environment(raw, os.environ if environment is None else environment)
    for section, values in (overrides or {}).items():
        raw.setdefault(section, {}).update(values)
    try:
        return Config.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(_explain(error)) from None


def _read_toml(path: Path | None) -> dict[str, dict[str, object]]:
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"no configuration file at {path}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None


def _merge_environment(raw: dict[str, dict[str, object]], environment: Mapping[str, str]) -> None:
    known = {
        f"BITEWING_{section.upper()}_{key.upper()}": (section, key)
        for section, field in Config.model_fields.items()
        for key in _section_model(section).model_fields
        if field.annotation is not None
        and key
        not in (
            "stations",
            "peers",
            "models",
            "windows",
            "dentists",
            "endpoints",
            "clients",
            "partners",
            "prescribers",
            "groups",
        )
    }
    known |= {
        f"BITEWING_{section.upper()}_{key.upper()}_FILE": (section, f"{key}_file")
        for section in Config.model_fields
        for key in secret_names(_section_model(section))
    }
    for name in sorted(environment):
        if not name.startswith("BITEWING_"):
            continue
        if name not in known:
            raise ConfigError(f"unknown environment variable {name}{_suggest(name, known)}")
        section, key = known[name]
        value: object = environment[name]
        if not key.endswith("_file"):
            raw.setdefault(section, {}).pop(f"{key}_file", None)  # the environment wins
        if key in _LISTS:
            value = [part for part in environment[name].split(",") if part]
        raw.setdefault(section, {})[key] = value


def _section_model(section: str) -> type[_Section]:
    model = Config.model_fields[section].annotation
    assert isinstance(model, type)
    assert issubclass(model, _Section)
    return model


def _explain(error: ValidationError) -> str:
    lines = []
    for problem in error.errors(include_input=False, include_url=False):
        where = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            lines.append(f"unknown key {where}{_suggest_key(problem['loc'])}")
        else:
            lines.append(f"{where}: {problem['msg']}")
    return "; ".join(lines)


def _suggest_key(loc: tuple[int | str, ...]) -> str:
    if len(loc) == 1:
        return _suggest(str(loc[0]), Config.model_fields)
    if len(loc) == 2:
        return _suggest(str(loc[1]), _section_model(str(loc[0])).model_fields)
    return ""


def _suggest(name: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean {near[0]}?)" if near else ""
