"""Every table of the product, on one page.

Rules: every table carries ``location_id``; identifying fields stand in ``*_identity`` tables apart
from operational ones; ids that leave the process are opaque hex; times are aware UTC. What names or
describes a person is sealed (`Sealed…`, docs/encryption.md); only columns `for_lookup` can be
compared.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Protocol

import sqlalchemy as sa

from node.db.sealed import SealedBytes, SealedDate, SealedJson, SealedText
from node.domain.study import name_start


class UtcDateTime(sa.types.TypeDecorator[datetime]):
    """An aware UTC datetime, kept to the microsecond on both databases."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Refuse naive datetimes; store UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise TypeError("naive datetime in the database layer")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Give back an aware UTC datetime."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)


def _id() -> sa.Column[str]:
    return sa.Column("id", sa.String(32), primary_key=True)


def _location() -> sa.Column[str]:
    return sa.Column("location_id", sa.String(32), nullable=False)


def _ref(name: str, target: str, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(32), sa.ForeignKey(f"{target}.id"), nullable=nullable)


def _at(name: str, nullable: bool = False) -> sa.Column[datetime]:
    return sa.Column(name, UtcDateTime, nullable=nullable)


class _Inserting(Protocol):
    def get_current_parameters(self) -> dict[str, str]: ...


def _start_of_name(context: _Inserting) -> str:
    return name_start(context.get_current_parameters()["name_key"])


# --- people who work here ------------------------------------------------------------------------

user_account = sa.Table(
    "user_account",
    metadata,
    _id(),
    _location(),
    sa.Column("username", sa.String(64), nullable=False),
    sa.Column("display_name", sa.String(128), nullable=False),
    sa.Column("role", sa.String(32), nullable=False),
    sa.Column("password_hash", sa.String(255), nullable=False),
    sa.Column("pin_hash", sa.String(255), nullable=False, server_default=""),  # empty: no PIN
    sa.Column("pin_failures", sa.Integer, nullable=False, server_default="0"),  # since a password
    sa.Column("failed_attempts", sa.Integer, nullable=False, server_default="0"),
    _at("locked_until", nullable=True),
    sa.Column("is_active", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Column("lockouts", sa.Integer, nullable=False, server_default="0"),  # since a password
    sa.Column("must_change_password", sa.Boolean, nullable=False, server_default=sa.false()),
    # The shared secret of the authenticator, sealed (node.web.second_factor); empty: none.
    sa.Column("totp_secret", sa.String(255), nullable=False, server_default=""),
    _at("totp_at", nullable=True),  # when the person proved that theirs works
    sa.Column("totp_step", sa.BigInteger, nullable=False, server_default="0"),  # last one taken
    sa.Column("pms_user_key", sa.String(64), nullable=False, server_default=""),  # who it is there
    sa.Column("provider_key", sa.String(64), nullable=False, server_default=""),
    sa.UniqueConstraint("location_id", "username"),
)

web_session = sa.Table(
    "web_session",
    metadata,
    sa.Column("token_hash", sa.String(64), primary_key=True),
    _location(),
    _ref("user_id", "user_account"),
    sa.Column("csrf_token", sa.String(64), nullable=False),
    _at("created_at"),
    _at("last_seen_at"),
    _at("proved_at"),  # last time the password was entered; signing wants a fresh one
    _at("ended_at", nullable=True),
    sa.Column("method", sa.String(16), nullable=False, server_default="password"),  # how it began
    sa.Column("address", sa.String(64), nullable=False, server_default=""),
    sa.Column("agent", sa.String(128), nullable=False, server_default=""),  # the browser's words
)

recovery_code = sa.Table(  # instead of a code of the authenticator, once each
    "recovery_code",
    metadata,
    sa.Column("digest", sa.String(64), primary_key=True),
    _location(),
    _ref("user_id", "user_account"),
    _at("created_at"),
    _at("used_at", nullable=True),
)

#: Who a person is at the practice's sign-in service (OpenID Connect).
external_login = sa.Table(
    "external_login",
    metadata,
    sa.Column("location_id", sa.String(32), primary_key=True),
    sa.Column("issuer", sa.String(255), primary_key=True),
    sa.Column("subject", sa.String(255), primary_key=True),
    _ref("user_id", "user_account"),
    _at("created_at"),
)

sign_in_flow = sa.Table(  # on the way to the sign-in service and back, once
    "sign_in_flow",
    metadata,
    sa.Column("state_digest", sa.String(64), primary_key=True),
    _location(),
    sa.Column("browser_digest", sa.String(64), nullable=False),
    sa.Column("nonce", sa.String(64), nullable=False),
    sa.Column("verifier", sa.String(128), nullable=False),
    sa.Column("next_path", sa.String(255), nullable=False),
    _at("created_at"),
    _at("used_at", nullable=True),
)

api_token = sa.Table(  # of programs; only the digest of the secret is kept
    "api_token",
    metadata,
    _id(),
    _location(),
    _ref("user_id", "user_account"),
    sa.Column("name", sa.String(64), nullable=False),
    sa.Column("digest", sa.String(64), nullable=False, unique=True),
    sa.Column("rights", sa.JSON, nullable=False),  # of the account's own, no more
    sa.Column("created_by", sa.String(32), nullable=False),
    _at("created_at"),
    _at("expires_at"),
    _at("last_used_at", nullable=True),
    _at("revoked_at", nullable=True),
)

#: A study opened in an emergency by somebody who else may not see it.
emergency_access = sa.Table(
    "emergency_access",
    metadata,
    _id(),
    _location(),
    _ref("user_id", "user_account"),
    sa.Column("study_id", sa.String(32), nullable=False),
    sa.Column("reason", SealedText("emergency_access.reason"), nullable=False),
    _at("at"),
    _at("expires_at"),
    sa.Column("reviewed_by", sa.String(32), nullable=True),
    _at("reviewed_at", nullable=True),
    sa.Index("ix_emergency_access_user", "location_id", "user_id", "study_id"),
)

#: What each person chose for their own screen (node.web.preferences).
user_preference = sa.Table(
    "user_preference",
    metadata,
    sa.Column("user_id", sa.String(32), sa.ForeignKey("user_account.id"), primary_key=True),
    _location(),
    sa.Column("content", sa.JSON, nullable=False),
    _at("changed_at"),
)

# --- the warehouse: what the PMS says ------------------------------------------------------------

patient = sa.Table(
    "patient",
    metadata,
    _id(),
    _location(),
    sa.Column("pms_key", SealedText("patient_number", for_lookup=True), nullable=False),
    sa.Column("status", sa.String(32), nullable=False, server_default="Patient"),
    # Id of the patient this one was merged into there; its links have moved (merging).
    sa.Column("merged_into", sa.String(32), nullable=True),
    sa.Column("raw", SealedJson("patient.raw"), nullable=True),  # what was not understood
    _at("synced_at"),
    _at("tombstoned_at", nullable=True),
    sa.UniqueConstraint("location_id", "pms_key"),
)

patient_identity = sa.Table(
    "patient_identity",
    metadata,
    sa.Column("patient_id", sa.String(32), sa.ForeignKey("patient.id"), primary_key=True),
    _location(),
    sa.Column("family_name", SealedText("patient_identity.family_name"), nullable=False),
    sa.Column("given_name", SealedText("patient_identity.given_name"), nullable=False),
    sa.Column(
        "middle_name", SealedText("patient_identity.middle_name"), nullable=False, server_default=""
    ),
    sa.Column("birth_date", SealedDate("birth_date", for_lookup=True), nullable=True),
    sa.Column("sex", sa.String(1), nullable=False, server_default=""),
    # node.domain.study.name_key, and name_start of it
    sa.Column("name_key", SealedText("name_key", for_lookup=True), nullable=False),
    sa.Column(
        "name_start",
        SealedText("name_start", for_lookup=True),
        nullable=False,
        server_default="",
        default=_start_of_name,
    ),
    sa.Index("ix_patient_identity_name", "location_id", "name_key", "birth_date"),
    sa.Index("ix_patient_identity_start", "location_id", "name_start"),
)

provider = sa.Table(
    "provider",
    metadata,
    _id(),
    _location(),
    sa.Column("pms_key", sa.String(64), nullable=False),
    sa.Column("abbreviation", sa.String(64), nullable=False),
    sa.Column("name", sa.String(255), nullable=False, server_default=""),
    sa.Column("is_hidden", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.UniqueConstraint("location_id", "pms_key"),
)

operatory = sa.Table(
    "operatory",
    metadata,
    _id(),
    _location(),
    sa.Column("pms_key", sa.String(64), nullable=False),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("abbreviation", sa.String(64), nullable=False, server_default=""),
    sa.Column("is_hidden", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.UniqueConstraint("location_id", "pms_key"),
)

appointment = sa.Table(
    "appointment",
    metadata,
    _id(),
    _location(),
    sa.Column("pms_key", sa.String(64), nullable=False),
    _ref("patient_id", "patient"),
    _at("start_at"),
    sa.Column("duration_min", sa.Integer, nullable=False),
    sa.Column("operatory_key", sa.String(64), nullable=False, server_default=""),
    sa.Column("provider_key", sa.String(64), nullable=False, server_default=""),
    sa.Column("status", sa.String(32), nullable=False),
    sa.Column(
        "description", SealedText("appointment.description"), nullable=False, server_default=""
    ),
    sa.Column("accession_number", sa.String(16), nullable=False),
    sa.Column("study_instance_uid", sa.String(64), nullable=False),
    sa.Column("raw", SealedJson("appointment.raw"), nullable=True),  # what was not understood
    _at("synced_at"),
    _at("tombstoned_at", nullable=True),
    sa.UniqueConstraint("location_id", "pms_key"),
    sa.UniqueConstraint("location_id", "accession_number"),
    sa.UniqueConstraint("location_id", "study_instance_uid"),
    sa.Index("ix_appointment_start", "location_id", "start_at"),
    sa.Index("ix_appointment_patient", "location_id", "patient_id"),
)

procedure = sa.Table(
    "procedure",
    metadata,
    _id(),
    _location(),
    sa.Column("pms_key", sa.String(64), nullable=False),
    _ref("patient_id", "patient"),
    sa.Column("appointment_key", sa.String(64), nullable=False, server_default=""),
    sa.Column("cdt_code", sa.String(16), nullable=False),
    sa.Column("status", sa.String(32), nullable=False),
    sa.Column("tooth", sa.String(4), nullable=False, server_default=""),
    sa.Column("procedure_date", sa.Date, nullable=True),
    sa.Column("raw", SealedJson("procedure.raw"), nullable=True),  # what was not understood
    _at("synced_at"),
    _at("tombstoned_at", nullable=True),
    sa.UniqueConstraint("location_id", "pms_key"),
    sa.Index("ix_procedure_appointment", "location_id", "appointment_key"),
    sa.Index("ix_procedure_patient", "location_id", "patient_id"),
)

#: One Scheduled Procedure Step per appointment and modality; what the worklist answers from.
worklist_item = sa.Table(
    "worklist_item",
    metadata,
    _id(),
    _location(),
    _ref("appointment_id", "appointment"),
    _ref("patient_id", "patient"),
    sa.Column("modality", sa.String(16), nullable=False),
    sa.Column("station_ae_title", sa.String(16), nullable=False),
    sa.Column("start_date", sa.String(8), nullable=False),  # practice's local day, YYYYMMDD
    sa.Column("start_time", sa.String(6), nullable=False),  # practice's local time, HHMMSS
    sa.Column("scheduled_procedure_step_id", sa.String(16), nullable=False),
    sa.Column("requested_procedure_id", sa.String(16), nullable=False),
    sa.Column("description", SealedText("worklist_item.description"), nullable=False),
    sa.Column("cdt_code", sa.String(16), nullable=False, server_default=""),
    sa.Column("expected_images", sa.Integer, nullable=True),
    sa.Column("is_open", sa.Boolean, nullable=False, server_default=sa.true()),
    # what a modality said by MPPS: "", started, completed, discontinued; the sync leaves it alone
    sa.Column("performed", sa.String(16), nullable=False, server_default=""),
    sa.UniqueConstraint("location_id", "scheduled_procedure_step_id"),
    sa.UniqueConstraint("appointment_id", "modality"),
    sa.Index("ix_worklist_item_day", "location_id", "start_date", "start_time"),
    sa.Index("ix_worklist_item_patient", "location_id", "patient_id"),
)

#: Everything else the PMS says, one row a record (pms_writeback.records); never deleted.
pms_record = sa.Table(
    "pms_record",
    metadata,
    _id(),
    _location(),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("pms_key", SealedText("pms_record.pms_key", for_lookup=True), nullable=False),
    sa.Column(
        "patient_key",
        SealedText("patient_number", for_lookup=True),
        nullable=False,
        server_default="",
    ),
    sa.Column("clinic_key", sa.String(64), nullable=False, server_default=""),
    sa.Column("record", SealedJson("pms_record.record"), nullable=False),  # under neutral names
    sa.Column("raw", SealedJson("pms_record.raw"), nullable=False),  # what came beyond them
    sa.Column("digest", SealedText("pms_record.digest"), nullable=False),  # of all of the above
    _at("changed_at", nullable=True),
    _at("synced_at"),
    _at("tombstoned_at", nullable=True),
    sa.UniqueConstraint("location_id", "kind", "pms_key"),
    sa.Index("ix_pms_record_patient", "location_id", "patient_key", "kind"),
)

#: Whom and what the PMS's keys of providers and rooms stand for here, and when; never deleted.
pms_map = sa.Table(
    "pms_map",
    metadata,
    _id(),
    _location(),
    sa.Column("kind", sa.String(16), nullable=False),  # pms_writeback.records.MapKind
    sa.Column("pms_key", sa.String(64), nullable=False),
    sa.Column("meaning", sa.String(128), nullable=False, server_default=""),
    sa.Column("valid_from", sa.Date, nullable=False),  # the practice's days, both included
    sa.Column("valid_to", sa.Date, nullable=True),
    sa.UniqueConstraint("location_id", "kind", "pms_key", "valid_from"),
)

sync_state = sa.Table(
    "sync_state",
    metadata,
    sa.Column("location_id", sa.String(32), primary_key=True),
    sa.Column("resource", sa.String(64), primary_key=True),
    _at("watermark", nullable=True),
    _at("last_ok_at", nullable=True),
    _at("last_try_at", nullable=True),
    sa.Column("error", sa.String(255), nullable=False, server_default=""),
    sa.Column("clock_offset_s", sa.Float, nullable=True),
)

#: The last report of every location that reports to this node.
fleet_report = sa.Table(
    "fleet_report",
    metadata,
    sa.Column("location_id", sa.String(32), primary_key=True),  # ours
    sa.Column("sender", sa.String(64), primary_key=True),  # the account whose token it came with
    sa.Column("reported_location", sa.String(32), primary_key=True),
    sa.Column("report", sa.JSON, nullable=False),  # node.fleet.report.LocationReport
    _at("received_at"),
)

# --- bridges to systems on the clinic's own machine ----------------------------------------------

bridge_token = sa.Table(  # enrolment, once each; only the digest of the secret is kept
    "bridge_token",
    metadata,
    sa.Column("digest", sa.String(64), primary_key=True),
    _location(),
    _at("created_at"),
    _at("expires_at"),
    _at("used_at", nullable=True),
)

bridge_certificate = sa.Table(  # every certificate issued; a revoked one is refused at once
    "bridge_certificate",
    metadata,
    sa.Column("serial", sa.String(40), primary_key=True),  # hex
    _location(),
    _at("issued_at"),
    _at("expires_at"),
    _at("revoked_at", nullable=True),
    sa.Column("reason", sa.String(255), nullable=False, server_default=""),
)

bridge_state = sa.Table(  # what was last heard of a location's bridge, and what it is told
    "bridge_state",
    metadata,
    sa.Column("location_id", sa.String(32), primary_key=True),
    sa.Column("is_stopped", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("offer", sa.JSON, nullable=True),
    _at("last_seen_at", nullable=True),
    sa.Column("about", sa.JSON, nullable=True),
    sa.Column("heartbeat", sa.JSON, nullable=True),
)

# --- certificates of the practice's own authority ------------------------------------------------

tls_certificate = sa.Table(  # every certificate that the local authority issued (node.local_ca)
    "tls_certificate",
    metadata,
    sa.Column("serial", sa.String(40), primary_key=True),  # hex
    _location(),
    sa.Column("kind", sa.String(8), nullable=False),  # node.local_ca.Kind
    sa.Column("name", sa.String(64), nullable=False),
    sa.Column("hosts", sa.JSON, nullable=False),
    _at("issued_at"),
    _at("expires_at"),
    _at("revoked_at", nullable=True),
    sa.Column("reason", sa.String(255), nullable=False, server_default=""),
)

# --- what arrived --------------------------------------------------------------------------------

study = sa.Table(
    "study",
    metadata,
    _id(),
    _location(),
    sa.Column("study_instance_uid", sa.String(64), nullable=False),
    sa.Column("accession_number", sa.String(16), nullable=False, server_default=""),
    sa.Column("study_date", sa.String(8), nullable=False, server_default=""),
    sa.Column("state", sa.String(16), nullable=False),  # node.domain.study.StudyState
    sa.Column("match_state", sa.String(16), nullable=False),  # node.domain.study.MatchState
    sa.Column("match_reason", sa.String(255), nullable=False, server_default=""),
    _ref("patient_id", "patient", nullable=True),
    _ref("appointment_id", "appointment", nullable=True),
    sa.Column("sender_ae_title", sa.String(16), nullable=False, server_default=""),
    sa.Column("generation", sa.Integer, nullable=False, server_default="0"),  # reopened n times
    sa.Column("review_version", sa.Integer, nullable=False, server_default="0"),
    sa.Column("is_prior", sa.Boolean, nullable=False, server_default=sa.false()),  # fetched
    sa.Column("routed_generation", sa.Integer, nullable=True),  # node.dicom.forwarding
    _at("received_at"),
    _at("last_image_at"),
    _at("completed_at", nullable=True),
    sa.UniqueConstraint("location_id", "study_instance_uid"),
    sa.Index("ix_study_state", "location_id", "state", "last_image_at"),
    sa.Index("ix_study_patient", "location_id", "patient_id"),
)

#: Who the sender said this is, verbatim from the first image.
study_identity = sa.Table(
    "study_identity",
    metadata,
    sa.Column("study_id", sa.String(32), sa.ForeignKey("study.id"), primary_key=True),
    _location(),
    sa.Column(
        "patient_name", SealedText("study_identity.patient_name"), nullable=False, server_default=""
    ),
    sa.Column(
        "patient_id_text",
        SealedText("study_identity.patient_id_text", for_lookup=True),
        nullable=False,
        server_default="",
    ),
    sa.Column("issuer_of_patient_id", sa.String(64), nullable=False, server_default=""),
    sa.Column(
        "birth_date", SealedText("study_identity.birth_date"), nullable=False, server_default=""
    ),
    sa.Column("sex", sa.String(1), nullable=False, server_default=""),
)

instance = sa.Table(
    "instance",
    metadata,
    _id(),
    _location(),
    _ref("study_id", "study"),
    sa.Column("sop_instance_uid", sa.String(64), nullable=False),
    sa.Column("sop_class_uid", sa.String(64), nullable=False),
    sa.Column("series_instance_uid", sa.String(64), nullable=False, server_default=""),
    sa.Column("transfer_syntax_uid", sa.String(64), nullable=False),
    sa.Column("modality", sa.String(16), nullable=False, server_default=""),
    sa.Column("instance_number", sa.Integer, nullable=True),
    sa.Column("rows", sa.Integer, nullable=True),
    sa.Column("columns", sa.Integer, nullable=True),
    sa.Column("spacing_mm_row", sa.Float, nullable=True),
    sa.Column("spacing_mm_col", sa.Float, nullable=True),
    sa.Column("spacing_kind", sa.String(16), nullable=False, server_default="unknown"),
    sa.Column("sha256", sa.String(64), nullable=False),  # of the data set as received
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("storage_key", sa.String(255), nullable=False),
    sa.Column("sender_ae_title", sa.String(16), nullable=False, server_default=""),
    sa.Column("state", sa.String(16), nullable=False),  # node.domain.study.InstanceState
    sa.Column("failure", sa.String(255), nullable=False, server_default=""),
    _at("received_at"),
    sa.UniqueConstraint("location_id", "sop_instance_uid"),
    sa.Index("ix_instance_study", "study_id"),
    sa.Index("ix_instance_state", "location_id", "state"),
)

#: Other bytes that came under a known SOP Instance UID: kept beside the first, flagged.
instance_duplicate = sa.Table(
    "instance_duplicate",
    metadata,
    _id(),
    _location(),
    _ref("instance_id", "instance"),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("storage_key", sa.String(255), nullable=False),
    sa.Column("sender_ae_title", sa.String(16), nullable=False, server_default=""),
    _at("received_at"),
    sa.UniqueConstraint("instance_id", "sha256"),
)

#: Copies of stored objects in the bucket of ``[objects]`` (node.objects.copies); one each.
object_copy = sa.Table(
    "object_copy",
    metadata,
    sa.Column("storage_key", sa.String(255), primary_key=True),
    sa.Column("sha256", sa.String(64), primary_key=True),  # of the bytes as they lie on the disk
    _location(),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("mtime_ns", sa.BigInteger, nullable=False),  # of the file it was made from
    sa.Column("key_id", sa.String(16), nullable=False),  # of the data key that sealed it
    sa.Column("state", sa.String(16), nullable=False),  # node.objects.copies.CopyState
    sa.Column("folder_id", sa.String(32), nullable=False),  # the data folder that has the file
    _at("created_at"),
    _at("changed_at"),
    sa.Index("ix_object_copy_state", "location_id", "state", "changed_at"),
)

#: Lettering in an image's pixels, seen or declared: it may name the patient (node.dicom.burned_in).
burned_in = sa.Table(
    "burned_in",
    metadata,
    sa.Column("instance_id", sa.String(32), sa.ForeignKey("instance.id"), primary_key=True),
    _location(),
    sa.Column("words", sa.String(255), nullable=False),  # how it is known, for a person
    _at("found_at"),
    sa.Column("released_by", sa.String(64), nullable=False, server_default=""),  # who let it leave
    sa.Column("released_reason", sa.String(255), nullable=False, server_default=""),
    _at("released_at", nullable=True),
)

#: Objects that their sender has withdrawn by a rejection note (node.dicom.withdrawal).
rejected_object = sa.Table(
    "rejected_object",
    metadata,
    _id(),
    _location(),
    sa.Column("sop_instance_uid", sa.String(64), nullable=False),
    _ref("note_id", "instance"),  # the key object that says so
    sa.Column("code", sa.String(16), nullable=False),  # DCM code of the note's title
    _at("at"),
    sa.UniqueConstraint("location_id", "sop_instance_uid"),
)

#: Telling peers which images of a study are here (Instance Availability Notification).
availability_notice = sa.Table(
    "availability_notice",
    metadata,
    _id(),
    _location(),
    _ref("study_id", "study"),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("peer", sa.String(32), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),  # queued done failed
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("error", sa.String(255), nullable=False, server_default=""),
    _at("updated_at"),
    sa.UniqueConstraint("study_id", "generation", "peer"),
    sa.Index("ix_availability_notice_state", "location_id", "state"),
)

#: A Modality Performed Procedure Step; all that was said of it is in its `messages`.
performed_step = sa.Table(
    "performed_step",
    metadata,
    _id(),
    _location(),
    sa.Column("sop_instance_uid", sa.String(64), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),  # node.domain.performed.PerformedState
    sa.Column("study_instance_uid", sa.String(64), nullable=False, server_default=""),
    sa.Column("modality", sa.String(16), nullable=False, server_default=""),
    sa.Column("station_ae_title", sa.String(16), nullable=False, server_default=""),
    sa.Column("image_uids", sa.JSON, nullable=False),
    sa.Column("reason", sa.String(64), nullable=False, server_default=""),  # code of discontinuing
    sa.Column("match_state", sa.String(16), nullable=False),
    sa.Column("match_reason", sa.String(255), nullable=False, server_default=""),
    _ref("patient_id", "patient", nullable=True),
    _ref("appointment_id", "appointment", nullable=True),
    _ref("worklist_item_id", "worklist_item", nullable=True),
    sa.Column("messages", sa.JSON, nullable=False),  # storage keys, one a message
    sa.Column("sender_ae_title", sa.String(16), nullable=False, server_default=""),
    _at("started_at"),
    _at("ended_at", nullable=True),
    sa.UniqueConstraint("location_id", "sop_instance_uid"),
    sa.Index("ix_performed_step_study", "location_id", "study_instance_uid"),
)

#: Storage commitment: what senders asked of us (`answer`) and what we asked of an archive (`ask`).
commitment = sa.Table(
    "commitment",
    metadata,
    _id(),
    _location(),
    sa.Column("role", sa.String(8), nullable=False),  # answer | ask
    sa.Column("peer", sa.String(32), nullable=False),  # AE title that asked, or name of the archive
    sa.Column("transaction_uid", sa.String(64), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),  # node.dicom.commitment.CommitmentState
    sa.Column("objects", sa.JSON, nullable=False),  # [[SOP class, SOP instance], ...]
    sa.Column("failures", sa.JSON, nullable=False),  # [[SOP class, SOP instance, reason], ...]
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("error", sa.String(255), nullable=False, server_default=""),
    _at("created_at"),
    _at("updated_at"),
    sa.UniqueConstraint("location_id", "role", "peer", "transaction_uid"),
    sa.Index("ix_commitment_state", "location_id", "role", "state"),
)

#: Received images on their way to other systems; an archive's copy counts once it is committed.
image_delivery = sa.Table(
    "image_delivery",
    metadata,
    _id(),
    _location(),
    _ref("instance_id", "instance"),
    sa.Column("peer", sa.String(32), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),  # queued sent committed failed
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("error", sa.String(255), nullable=False, server_default=""),
    _at("updated_at"),
    sa.UniqueConstraint("instance_id", "peer"),
    sa.Index("ix_image_delivery_state", "location_id", "peer", "state"),
)

#: Fetching a patient's earlier studies from the office's archive before a visit.
prior_fetch = sa.Table(
    "prior_fetch",
    metadata,
    _id(),
    _location(),
    _ref("appointment_id", "appointment"),
    _ref("patient_id", "patient"),
    sa.Column("peer", sa.String(32), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),  # queued done failed
    sa.Column("found", sa.Integer, nullable=False, server_default="0"),  # studies surely theirs
    sa.Column("fetched", sa.Integer, nullable=False, server_default="0"),  # images now here
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("error", sa.String(255), nullable=False, server_default=""),
    _at("created_at"),
    _at("updated_at"),
    sa.UniqueConstraint("appointment_id", "peer"),
)

#: Pixels that this node gave up because somebody else holds them (node.dicom.retention); the row
#: comes before the file goes, and stays when the pixels are fetched again.
pixel_purge = sa.Table(
    "pixel_purge",
    metadata,
    sa.Column("instance_id", sa.String(32), sa.ForeignKey("instance.id"), primary_key=True),
    _location(),
    sa.Column("state", sa.String(16), nullable=False),  # purging purged restored
    sa.Column("holder", sa.String(32), nullable=False),  # name of the archive, or its AE title
    sa.Column("basis", sa.String(16), nullable=False),  # committed | declared
    sa.Column("transaction_uid", sa.String(64), nullable=False, server_default=""),
    sa.Column("pixel_sha256", sa.String(64), nullable=False),  # of all frames, decoded
    _at("purged_at"),
    _at("removed_at", nullable=True),  # when the file was gone
    _at("restored_at", nullable=True),
    sa.Index("ix_pixel_purge_state", "location_id", "state"),
)

#: Studies whose purged pixels somebody wants to see again.
pixel_fetch = sa.Table(
    "pixel_fetch",
    metadata,
    _id(),
    _location(),
    _ref("study_id", "study"),
    sa.Column("state", sa.String(16), nullable=False),  # queued done failed
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("error", sa.String(255), nullable=False, server_default=""),
    _at("created_at"),
    _at("updated_at"),
    sa.UniqueConstraint("study_id"),
    sa.Index("ix_pixel_fetch_state", "location_id", "state"),
)

#: Who or what must not lose anything, because a court, an insurer or a person said so.
legal_hold = sa.Table(
    "legal_hold",
    metadata,
    _id(),
    _location(),
    _ref("patient_id", "patient", nullable=True),  # one of the two
    _ref("study_id", "study", nullable=True),
    sa.Column("reason", sa.String(255), nullable=False),
    sa.Column("placed_by", sa.String(64), nullable=False),
    _at("placed_at"),
    sa.Column("released_by", sa.String(64), nullable=False, server_default=""),
    sa.Column("release_reason", sa.String(255), nullable=False, server_default=""),
    _at("released_at", nullable=True),
    sa.Index("ix_legal_hold_patient", "location_id", "patient_id"),
    sa.Index("ix_legal_hold_study", "location_id", "study_id"),
)

#: Files of a watched folder: what became of each, by its bytes; names of files are not kept.
import_file = sa.Table(
    "import_file",
    metadata,
    _id(),
    _location(),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),  # dicom picture scan unknown
    sa.Column("state", sa.String(16), nullable=False),  # imported quarantined
    sa.Column("reason", sa.String(255), nullable=False, server_default=""),
    _ref("instance_id", "instance", nullable=True),
    _at("at"),
    sa.UniqueConstraint("location_id", "sha256"),
)

# --- what the models and people say --------------------------------------------------------------

analysis_run = sa.Table(
    "analysis_run",
    metadata,
    _id(),
    _location(),
    _ref("instance_id", "instance"),
    sa.Column("pipeline", sa.String(64), nullable=False),  # digest of the models that ran
    sa.Column("view", sa.String(16), nullable=True),  # node.domain.findings.View
    sa.Column("view_probability", sa.Float, nullable=True),
    sa.Column("models", sa.JSON, nullable=False),
    sa.Column("absent", sa.JSON, nullable=False),
    sa.Column("notes", sa.JSON, nullable=False),
    sa.Column("side", sa.String(1), nullable=False, server_default=""),
    sa.Column("region", sa.String(32), nullable=False, server_default=""),
    # The parts of node.domain.findings.ImageAnalysis of the same names, as node.domain.image_json
    # writes them; null in rows of release 0.1.
    sa.Column("orientation", sa.JSON, nullable=True),
    sa.Column("quality", sa.JSON, nullable=True),
    sa.Column("sites", sa.JSON, nullable=True),
    sa.Column("operating_points", sa.JSON, nullable=True),
    sa.Column("calibration", sa.Integer, nullable=True),  # calibration_version.version; null: none
    _at("started_at"),
    _at("finished_at"),
    sa.UniqueConstraint("instance_id", "pipeline"),
)

#: What a network in trial said of an image; never shown, never sent (node.analysis.shadow).
shadow_run = sa.Table(
    "shadow_run",
    metadata,
    _id(),
    _location(),
    _ref("instance_id", "instance"),
    sa.Column("task", sa.String(32), nullable=False),
    sa.Column("version", sa.String(32), nullable=False),
    sa.Column("model_digest", sa.String(64), nullable=False),  # of the weights in trial
    sa.Column("pipeline", sa.String(64), nullable=False),  # digest of all models that ran
    sa.Column("view", sa.String(16), nullable=True),
    sa.Column("findings", sa.JSON, nullable=True),  # null when it failed
    sa.Column("teeth", sa.JSON, nullable=True),
    sa.Column("sites", sa.JSON, nullable=True),
    sa.Column("failure", sa.String(255), nullable=False, server_default=""),
    sa.Column("duration_ms", sa.Integer, nullable=False),
    _at("finished_at"),
    sa.UniqueConstraint("instance_id", "model_digest"),
    sa.Index("ix_shadow_run_task", "location_id", "task", "finished_at"),
)

tooth_mark = sa.Table(
    "tooth_mark",
    metadata,
    _id(),
    _location(),
    _ref("run_id", "analysis_run"),
    _ref("instance_id", "instance"),
    sa.Column("tooth", sa.String(3), nullable=False),
    sa.Column("original_tooth", sa.String(3), nullable=True),  # the model's, once renumbered
    sa.Column("box", sa.JSON, nullable=False),
    sa.Column("outline", sa.JSON, nullable=True),  # [[x, y], ...] or null
    sa.Column("probability", sa.Float, nullable=False),
    sa.Index("ix_tooth_mark_instance", "instance_id"),
)

finding = sa.Table(
    "finding",
    metadata,
    _id(),
    _location(),
    _ref("study_id", "study"),
    _ref("instance_id", "instance"),
    _ref("run_id", "analysis_run", nullable=True),
    sa.Column("origin", sa.String(8), nullable=False),  # ai | human
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("tooth", sa.String(3), nullable=True),
    sa.Column("original_tooth", sa.String(3), nullable=True),  # the model's, once renumbered
    sa.Column("surfaces", sa.String(8), nullable=False, server_default=""),
    sa.Column("depth", sa.String(2), nullable=True),
    sa.Column("value_mm", sa.Float, nullable=True),
    sa.Column("value_percent", sa.Float, nullable=True),
    sa.Column("probability", sa.Float, nullable=True),
    sa.Column("geometry", sa.JSON, nullable=False),  # {"type": ..., "points": [[x, y], ...]}
    sa.Column("model", sa.JSON, nullable=True),
    sa.Column("calibration", sa.Integer, nullable=True),  # calibration_version.version; null: none
    sa.Column("original", sa.JSON, nullable=True),  # the suggestion before a person edited it
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("disposition", sa.String(16), nullable=True),
    sa.Column("reason", sa.String(64), nullable=False, server_default=""),
    sa.Column("comment", SealedText("finding.comment"), nullable=False, server_default=""),
    _ref("decided_by", "user_account", nullable=True),
    _at("decided_at", nullable=True),
    sa.Column("is_removed", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("rev", sa.Integer, nullable=False, server_default="1"),
    _at("created_at"),
    sa.Index("ix_finding_study", "study_id"),
    sa.Index("ix_finding_instance", "instance_id"),
)

#: What is said of a study as a whole (node.domain.reading), the last time it was finished.
study_reading = sa.Table(
    "study_reading",
    metadata,
    sa.Column("study_id", sa.String(32), sa.ForeignKey("study.id"), primary_key=True),
    _location(),
    sa.Column("generation", sa.Integer, nullable=False),
    _ref("patient_id", "patient", nullable=True),  # whose priors were compared; none in doubt
    sa.Column("inputs", sa.String(64), nullable=False),  # digest of what it rests on
    sa.Column("content", sa.JSON, nullable=False),
    _at("computed_at"),
)

#: Every change on the review page, applied once each.
operation = sa.Table(
    "operation",
    metadata,
    sa.Column("op_id", sa.String(36), primary_key=True),
    _location(),
    _ref("study_id", "study"),
    _ref("user_id", "user_account"),
    sa.Column("finding_id", sa.String(32), nullable=True),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("base_rev", sa.Integer, nullable=True),
    sa.Column("data", SealedJson("operation.data"), nullable=False),
    sa.Column("before", SealedJson("operation.before"), nullable=True),
    sa.Column("outcome", sa.JSON, nullable=False),
    _at("at"),
    sa.Index("ix_operation_study", "study_id", "at"),
)

#: Which images a reviewer has seen, and whether bare (without the overlay).
image_view = sa.Table(
    "image_view",
    metadata,
    sa.Column("instance_id", sa.String(32), sa.ForeignKey("instance.id"), primary_key=True),
    sa.Column("user_id", sa.String(32), sa.ForeignKey("user_account.id"), primary_key=True),
    _location(),
    _at("seen_at"),
    _at("bare_at", nullable=True),
)

#: Where a person put an image on the mount, and how it hangs; over what the models say.
image_place = sa.Table(
    "image_place",
    metadata,
    sa.Column("instance_id", sa.String(32), sa.ForeignKey("instance.id"), primary_key=True),
    _location(),
    _ref("study_id", "study"),
    sa.Column("slot", sa.String(24), nullable=False),  # models.slots code; empty: on no place
    sa.Column("quarter_turns", sa.Integer, nullable=False, server_default="0"),  # clockwise
    sa.Column("is_mirrored", sa.Boolean, nullable=False, server_default=sa.false()),
    _ref("placed_by", "user_account"),
    _at("placed_at"),
    sa.Index("ix_image_place_study", "study_id"),
)

#: A length that a person knew on an image; what is measured there afterwards rests on it.
image_calibration = sa.Table(
    "image_calibration",
    metadata,
    sa.Column("instance_id", sa.String(32), sa.ForeignKey("instance.id"), primary_key=True),
    _location(),
    sa.Column("points", sa.JSON, nullable=False),  # [[x, y], [x, y]] in pixels
    sa.Column("known_mm", sa.Float, nullable=False),
    _ref("calibrated_by", "user_account"),
    _at("calibrated_at"),
)

#: Who has a study open, and which image; forgotten a minute after the last sign of life.
study_presence = sa.Table(
    "study_presence",
    metadata,
    sa.Column("study_id", sa.String(32), sa.ForeignKey("study.id"), primary_key=True),
    sa.Column("user_id", sa.String(32), sa.ForeignKey("user_account.id"), primary_key=True),
    _location(),
    _ref("instance_id", "instance", nullable=True),
    _at("seen_at"),
)

#: One-time links from a patient's chart to a study; only the digest of the token is kept.
study_link = sa.Table(
    "study_link",
    metadata,
    sa.Column("token_hash", sa.String(64), primary_key=True),
    _location(),
    _ref("study_id", "study"),
    _at("created_at"),
    _at("expires_at"),
    _at("used_at", nullable=True),
)

#: What a person took back after the signature, and what was done about it.
retraction = sa.Table(
    "retraction",
    metadata,
    _id(),
    _location(),
    _ref("study_id", "study"),
    sa.Column("kind", sa.String(16), nullable=False),  # patient | findings
    sa.Column("version", sa.Integer, nullable=False),  # the last signed one it takes back
    sa.Column("reason", SealedText("retraction.reason"), nullable=False),
    sa.Column("finding_ids", sa.JSON, nullable=False),
    _ref("patient_id", "patient", nullable=True),  # whose chart held it
    _ref("new_patient_id", "patient", nullable=True),
    sa.Column(
        "steps", SealedJson("retraction.steps"), nullable=False
    ),  # what was done where, in words
    _ref("retracted_by", "user_account"),
    _at("at"),
    sa.Index("ix_retraction_study", "study_id"),
)

review = sa.Table(
    "review",
    metadata,
    _id(),
    _location(),
    _ref("study_id", "study"),
    sa.Column("version", sa.Integer, nullable=False),
    _ref("signed_by", "user_account"),
    sa.Column("signer_name", sa.String(128), nullable=False),
    sa.Column("signer_role", sa.String(32), nullable=False),
    sa.Column("statement", sa.String(255), nullable=False),
    sa.Column(
        "reason", SealedText("review.reason"), nullable=False, server_default=""
    ),  # of an amendment
    sa.Column("content_hash", sa.String(64), nullable=False),
    sa.Column(
        "content", SealedJson("review.content"), nullable=False
    ),  # the findings as signed; no names
    sa.Column("software_version", sa.String(32), nullable=False),
    _at("signed_at"),
    sa.UniqueConstraint("study_id", "version"),
)

# --- what goes out -------------------------------------------------------------------------------

#: Commands to the PMS: our rows; the queue `pms`, partitioned by location, is their only worker.
pms_command = sa.Table(
    "pms_command",
    metadata,
    _id(),
    _location(),
    sa.Column("key", sa.String(128), nullable=False),
    sa.Column("ref", sa.String(32), nullable=False),  # token carried in the PMS record
    _ref("study_id", "study", nullable=True),
    _ref("patient_id", "patient"),
    sa.Column("review_version", sa.Integer, nullable=True),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("payload", SealedJson("pms_command.payload"), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),  # queued sending unknown done failed held
    sa.Column("lane", sa.Integer, nullable=False, server_default="0"),  # 0 goes first
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("error", SealedText("pms_command.error"), nullable=False, server_default=""),
    sa.Column("receipt", SealedJson("pms_command.receipt"), nullable=True),
    _at("created_at"),
    _at("updated_at"),
    _at("reduced_at", nullable=True),  # node.db.settled
    sa.UniqueConstraint("location_id", "key"),
    sa.Index("ix_pms_command_study", "study_id"),
    sa.Index("ix_pms_command_state", "location_id", "state"),
)

#: An office's system that is away: nothing is sent before `until`; gone once it answers.
pms_pause = sa.Table(
    "pms_pause",
    metadata,
    sa.Column("location_id", sa.String(32), primary_key=True),
    sa.Column("command_id", sa.String(32), nullable=False),  # which met it
    _at("until"),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("reason", sa.String(255), nullable=False),
)

dicom_result = sa.Table(
    "dicom_result",
    metadata,
    _id(),
    _location(),
    _ref("study_id", "study"),
    sa.Column("review_version", sa.Integer, nullable=False),  # 0 = preliminary
    sa.Column("generation", sa.Integer, nullable=False, server_default="0"),
    sa.Column("kind", sa.String(8), nullable=False),  # SR | SC | PR | SEG | KO
    _ref("instance_id", "instance", nullable=True),  # the annotated image's source
    sa.Column("sop_instance_uid", sa.String(64), nullable=False, unique=True),
    sa.Column("sop_class_uid", sa.String(64), nullable=False),
    # Empty in rows made before these were kept, until node.dicom.older_results reads the file.
    sa.Column("series_instance_uid", sa.String(64), nullable=False, server_default=""),
    sa.Column("modality", sa.String(16), nullable=False, server_default=""),
    sa.Column("instance_number", sa.Integer, nullable=True),
    sa.Column("storage_key", sa.String(255), nullable=False),
    _at("created_at"),
    sa.Index("ix_dicom_result_study", "study_id"),
)

dicom_delivery = sa.Table(
    "dicom_delivery",
    metadata,
    _id(),
    _location(),
    _ref("result_id", "dicom_result"),
    sa.Column("peer", sa.String(32), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),  # queued done failed withdrawn
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("error", sa.String(255), nullable=False, server_default=""),
    _at("updated_at"),
    sa.UniqueConstraint("result_id", "peer"),
)

#: Every workflow case, restartable from its state.
# --- workflows -----------------------------------------------------------------------------------

#: Every case of every workflow; whatever is needed to go on from here (docs/workflows.md).
workflow_case = sa.Table(
    "workflow_case",
    metadata,
    _id(),
    _location(),
    sa.Column("workflow", sa.String(64), nullable=False),
    sa.Column("key", sa.String(128), nullable=False),
    _ref("patient_id", "patient", nullable=True),
    sa.Column("state", sa.String(32), nullable=False),
    sa.Column("stage", sa.String(64), nullable=False, server_default=""),  # that comes next
    sa.Column("leg", sa.Integer, nullable=False, server_default="0"),  # fences off older runs
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),  # of this stage
    sa.Column("waits", sa.JSON, nullable=True),  # topic -> stage
    sa.Column(
        "woken_by", SealedJson("workflow_case.woken_by"), nullable=True
    ),  # the signal that started this leg
    _at("wake_at", nullable=True),
    sa.Column("executor", sa.String(64), nullable=False, server_default=""),
    sa.Column("data", SealedJson("workflow_case.data"), nullable=False),
    sa.Column("error", sa.String(255), nullable=False, server_default=""),
    _at("created_at"),
    _at("updated_at"),
    sa.UniqueConstraint("location_id", "workflow", "key"),
    sa.Index("ix_workflow_case_wake", "location_id", "wake_at"),
    sa.Index("ix_workflow_case_state", "location_id", "state", "workflow"),
    sa.Index("ix_workflow_case_patient", "patient_id"),
)

case_step = sa.Table(  # what a case has done outside, once each
    "case_step",
    metadata,
    sa.Column("case_id", sa.String(32), sa.ForeignKey("workflow_case.id"), primary_key=True),
    sa.Column("name", sa.String(64), primary_key=True),
    _location(),
    sa.Column("state", sa.String(16), nullable=False),  # started done undone
    sa.Column("result", SealedJson("case_step.result"), nullable=True),
    _at("started_at"),
    _at("done_at", nullable=True),
)

case_entry = sa.Table(  # the timeline: stages, waits, decisions, errors; words of ours, no names
    "case_entry",
    metadata,
    _id(),
    _location(),
    _ref("case_id", "workflow_case"),
    _at("at"),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("stage", sa.String(64), nullable=False, server_default=""),
    sa.Column("detail", sa.JSON, nullable=False),
    sa.Index("ix_case_entry_case", "case_id", "at"),
)

case_signal = sa.Table(  # kept until the case listens for its topic
    "case_signal",
    metadata,
    _id(),
    _location(),
    _ref("case_id", "workflow_case"),
    sa.Column("topic", sa.String(64), nullable=False),
    sa.Column("delivery_id", sa.String(128), nullable=False),
    sa.Column("payload", SealedJson("case_signal.payload"), nullable=False),
    _at("at"),
    _at("taken_at", nullable=True),
    sa.UniqueConstraint("case_id", "delivery_id"),
)

approval = sa.Table(  # a draft that waits for a person, and what the person said
    "approval",
    metadata,
    _id(),
    _location(),
    _ref("case_id", "workflow_case"),
    sa.Column("kind", sa.String(48), nullable=False),
    sa.Column("title", SealedText("approval.title"), nullable=False),
    sa.Column("right", sa.String(48), nullable=False),  # node.domain.rights
    sa.Column("draft", SealedJson("approval.draft"), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),  # waiting approved edited refused withdrawn
    sa.Column("decided_draft", SealedJson("approval.decided_draft"), nullable=True),
    sa.Column("decided_by", sa.String(64), nullable=False, server_default=""),
    _at("decided_at", nullable=True),
    sa.Column("reason", SealedText("approval.reason"), nullable=False, server_default=""),
    _at("due_at", nullable=True),
    sa.Column("escalate_to", sa.String(32), nullable=False, server_default=""),
    _at("escalated_at", nullable=True),
    _at("created_at"),
    sa.Index("ix_approval_state", "location_id", "state", "created_at"),
    sa.Index("ix_approval_case", "case_id"),
)

workflow_switch = sa.Table(  # what a person has paused
    "workflow_switch",
    metadata,
    sa.Column("location_id", sa.String(32), primary_key=True),
    sa.Column("scope", sa.String(96), primary_key=True),  # outbound, workflow:<name>, case:<id>
    sa.Column("is_paused", sa.Boolean, nullable=False),
    sa.Column("reason", sa.String(255), nullable=False, server_default=""),
    sa.Column("changed_by", sa.String(64), nullable=False),
    _at("changed_at"),
)

partner_pace = sa.Table(  # when the next call to an outside party may be made
    "partner_pace",
    metadata,
    sa.Column("location_id", sa.String(32), primary_key=True),
    sa.Column("partner", sa.String(64), primary_key=True),
    _at("next_at"),
)

partner_agreement = sa.Table(  # without one in force an outside party is not called
    "partner_agreement",
    metadata,
    _id(),
    _location(),
    sa.Column("party", sa.String(64), nullable=False),  # node.db.agreements.parties
    sa.Column("counterparty", sa.String(128), nullable=False),
    sa.Column("signed_by", sa.String(128), nullable=False),
    sa.Column("signed_on", sa.Date, nullable=False),
    sa.Column("valid_until", sa.Date, nullable=False),
    sa.Column("document_sha256", sa.String(64), nullable=False),
    sa.Column("recorded_by", sa.String(64), nullable=False),
    _at("recorded_at"),
    _at("revoked_at", nullable=True),
    sa.Column("revoked_by", sa.String(64), nullable=False, server_default=""),
    sa.Column("reason", sa.String(255), nullable=False, server_default=""),
    sa.Index("ix_partner_agreement_party", "location_id", "party"),
)

model_exchange = sa.Table(  # what a language model was asked and said, sealed; digests are audited
    "model_exchange",
    metadata,
    _id(),
    _location(),
    sa.Column("purpose", sa.String(64), nullable=False),
    sa.Column("model", sa.String(128), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),  # asked, answered, refused, failed
    sa.Column("prompt", SealedJson("model_exchange.prompt"), nullable=False),
    sa.Column("answer", SealedText("model_exchange.answer"), nullable=False, server_default=""),
    sa.Column("tokens", sa.Integer, nullable=False, server_default="0"),
    sa.Column("cost", sa.Float, nullable=False, server_default="0"),
    _at("at"),
    sa.Index("ix_model_exchange_at", "location_id", "at"),
)

webhook_delivery = sa.Table(  # what partners have sent us, once each
    "webhook_delivery",
    metadata,
    _id(),
    _location(),
    sa.Column("source", sa.String(64), nullable=False),
    sa.Column("delivery_id", sa.String(128), nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
    _at("at"),
    sa.UniqueConstraint("location_id", "source", "delivery_id"),
)

payer_mail = sa.Table(  # every answer of a payer, as it came; case_id null: a person finds its case
    "payer_mail",
    metadata,
    _id(),
    _location(),
    sa.Column("delivery_id", sa.String(128), nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),  # 999 277CA 835 EOB, or the sender's word
    sa.Column("submission_id", sa.String(128), nullable=False, server_default=""),
    sa.Column("media_type", sa.String(64), nullable=False),
    sa.Column("content", SealedBytes("payer_mail.content"), nullable=False),
    _ref("case_id", "workflow_case", nullable=True),
    sa.Column("state", sa.String(16), nullable=False),  # given, late, unknown
    _at("at"),
    _at("reduced_at", nullable=True),  # node.db.settled
    sa.UniqueConstraint("location_id", "delivery_id"),
)

payer_inbox = sa.Table(  # how far a clearinghouse's inbox was read
    "payer_inbox",
    metadata,
    sa.Column("location_id", sa.String(32), primary_key=True),
    sa.Column("cursor", sa.String(128), nullable=False),
)

hook_cursor = sa.Table(  # up to which event the workflows have been told
    "hook_cursor",
    metadata,
    sa.Column("location_id", sa.String(32), primary_key=True),
    sa.Column("seq", sa.BigInteger, nullable=False),
)

executor_beat = sa.Table(  # which processes run workflows, and when each was last heard of
    "executor_beat",
    metadata,
    sa.Column("location_id", sa.String(32), primary_key=True),
    sa.Column("executor", sa.String(64), primary_key=True),
    _at("beat_at"),
)

# --- messages and recall -------------------------------------------------------------------------

patient_contact = sa.Table(  # how the PMS says that a person is reached
    "patient_contact",
    metadata,
    sa.Column("patient_id", sa.String(32), sa.ForeignKey("patient.id"), primary_key=True),
    _location(),
    sa.Column("email", SealedText("patient_contact.email"), nullable=False, server_default=""),
    sa.Column("mobile", SealedText("patient_contact.mobile"), nullable=False, server_default=""),
    sa.Column("text_allowed", sa.String(8), nullable=False, server_default=""),  # yes no "" unknown
    sa.Column("contact_method", sa.String(32), nullable=False, server_default=""),
    sa.Column("recall_method", sa.String(32), nullable=False, server_default=""),
    sa.Column("language", sa.String(32), nullable=False, server_default=""),
    sa.Column(
        "guarantor_key",
        SealedText("patient_number", for_lookup=True),
        nullable=False,
        server_default="",
    ),
)

contact_choice = sa.Table(  # who wants messages and who does not; the newest of a scope counts
    "contact_choice",
    metadata,
    _id(),
    _location(),
    sa.Column("key", sa.String(128), nullable=False),
    _ref("patient_id", "patient", nullable=True),
    sa.Column(
        "address_digest",
        SealedText("address_digest", for_lookup=True),
        nullable=False,
        server_default="",
    ),
    sa.Column("scope", sa.String(8), nullable=False),  # all, email, sms
    sa.Column("choice", sa.String(8), nullable=False),  # stop, start
    sa.Column("source", sa.String(32), nullable=False),
    _at("at"),
    sa.UniqueConstraint("location_id", "key"),
    sa.Index("ix_contact_choice_patient", "location_id", "patient_id"),
    sa.Index("ix_contact_choice_address", "location_id", "address_digest"),
)

message = sa.Table(  # every message that was to go out, once per key; the text is with its case
    "message",
    metadata,
    _id(),
    _location(),
    sa.Column("key", sa.String(128), nullable=False),
    sa.Column("channel", sa.String(8), nullable=False),
    sa.Column("purpose", sa.String(32), nullable=False),
    _ref("patient_id", "patient", nullable=True),
    _ref("case_id", "workflow_case", nullable=True),
    sa.Column("template", sa.String(64), nullable=False, server_default=""),
    sa.Column("address_digest", SealedText("address_digest", for_lookup=True), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),  # orchestration.messengers.log
    sa.Column("provider_id", sa.String(128), nullable=False, server_default=""),
    sa.Column("error", sa.String(255), nullable=False, server_default=""),
    _at("created_at"),
    _at("updated_at"),
    sa.UniqueConstraint("location_id", "key"),
    sa.Index("ix_message_patient", "location_id", "patient_id", "created_at"),
    sa.Index("ix_message_provider", "location_id", "provider_id"),
)

message_reply = sa.Table(  # what people answered, as they wrote it
    "message_reply",
    metadata,
    _id(),
    _location(),
    sa.Column("key", sa.String(128), nullable=False),  # the provider's delivery id
    sa.Column("channel", sa.String(8), nullable=False),
    sa.Column("address_digest", SealedText("address_digest", for_lookup=True), nullable=False),
    _ref("patient_id", "patient", nullable=True),
    sa.Column("meaning", sa.String(16), nullable=False),  # orchestration.recall.replies
    sa.Column("text", SealedText("message_reply.text"), nullable=False),
    _at("at"),
    _at("reduced_at", nullable=True),  # node.db.settled
    sa.UniqueConstraint("location_id", "key"),
    sa.Index("ix_message_reply_patient", "location_id", "patient_id", "at"),
)

link_use = sa.Table(  # one-time links that were used
    "link_use",
    metadata,
    sa.Column("digest", sa.String(64), primary_key=True),
    _location(),
    sa.Column("purpose", sa.String(16), nullable=False),
    sa.Column("subject", sa.String(64), nullable=False),
    _at("used_at"),
)

recall_policy = sa.Table(  # a person let one version of a template go to one segment unasked
    "recall_policy",
    metadata,
    _id(),
    _location(),
    sa.Column("segment", sa.String(32), nullable=False),
    sa.Column("template", sa.String(64), nullable=False),  # name, language and version
    sa.Column("digest", sa.String(64), nullable=False),  # of the text that was read
    _ref("approved_by", "user_account"),
    sa.Column("reason", sa.String(255), nullable=False),
    _at("approved_at"),
    _at("ends_at"),
    _at("revoked_at", nullable=True),
    sa.Column("revoked_by", sa.String(64), nullable=False, server_default=""),
    sa.Index("ix_recall_policy_segment", "location_id", "segment", "template"),
)

recall_trial = sa.Table(  # which reminders were delayed by chance, and who booked when
    "recall_trial",
    metadata,
    sa.Column("location_id", sa.String(32), primary_key=True),
    sa.Column("case_key", sa.String(128), primary_key=True),
    sa.Column("arm", sa.String(8), nullable=False),  # prompt, delayed
    sa.Column("seed", sa.String(64), nullable=False),
    sa.Column("share", sa.Float, nullable=False),
    sa.Column("delay_days", sa.Integer, nullable=False),
    _at("assigned_at"),
    _at("booked_at", nullable=True),
)

# --- roll-out ------------------------------------------------------------------------------------

rollout_rule = sa.Table(  # which mode a person gave to what, where; never deleted (node.rollout)
    "rollout_rule",
    metadata,
    _id(),
    _location(),
    sa.Column("subject", sa.String(96), nullable=False),  # node.domain.rollout.Subject
    sa.Column("operatory", sa.String(64), nullable=False, server_default=""),  # empty: any
    sa.Column("provider", sa.String(64), nullable=False, server_default=""),
    sa.Column("view", sa.String(16), nullable=False, server_default=""),
    sa.Column("lab", sa.String(64), nullable=False, server_default=""),
    sa.Column("mode", sa.String(8), nullable=False),
    sa.Column("is_ceiling", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("reason", sa.String(255), nullable=False, server_default=""),
    sa.Column("set_by", sa.String(64), nullable=False),
    _at("set_at"),
    _at("ended_at", nullable=True),
    sa.Column("ended_by", sa.String(64), nullable=False, server_default=""),
    sa.Index("ix_rollout_rule_standing", "location_id", "ended_at"),
)

installed_model = sa.Table(  # the networks that read here, with their cards as they were
    "installed_model",
    metadata,
    sa.Column("location_id", sa.String(32), primary_key=True),
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("version", sa.String(32), primary_key=True),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("card_digest", sa.String(64), nullable=False),
    sa.Column("card", sa.Text, nullable=False),
    sa.Column("is_live", sa.Boolean, nullable=False),
    _at("seen_at"),
)

rollout_report = sa.Table(  # silent readings set against what dentists did by themselves
    "rollout_report",
    metadata,
    _id(),
    _location(),
    sa.Column("source", sa.String(8), nullable=False),  # silent | pilot
    sa.Column("studies", sa.Integer, nullable=False),
    sa.Column("content", sa.JSON, nullable=False),  # node.rollout.report.Report; no names
    sa.Column("made_by", sa.String(64), nullable=False),
    _at("made_at"),
    sa.Index("ix_rollout_report_made", "location_id", "made_at"),
)

rollout_acknowledgement = sa.Table(  # what the clinical lead read and took upon themselves
    "rollout_acknowledgement",
    metadata,
    _id(),
    _location(),
    _ref("report_id", "rollout_report"),
    sa.Column("text", sa.Text, nullable=False),
    _ref("given_by", "user_account"),
    sa.Column("name", sa.String(128), nullable=False),
    _at("given_at"),
    _at("withdrawn_at", nullable=True),
    sa.Column("withdrawn_by", sa.String(64), nullable=False, server_default=""),
    sa.Index("ix_rollout_acknowledgement_given", "location_id", "given_at"),
)

acknowledged_model = sa.Table(  # which networks an acknowledgement speaks of
    "acknowledged_model",
    metadata,
    sa.Column(
        "acknowledgement_id",
        sa.String(32),
        sa.ForeignKey("rollout_acknowledgement.id"),
        primary_key=True,
    ),
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("version", sa.String(32), primary_key=True),
    _location(),
    sa.Column("card_digest", sa.String(64), nullable=False),
    sa.Column("is_carried", sa.Boolean, nullable=False),  # a later version under the same card
)

silent_reading = sa.Table(  # what was hidden from the signer, as it stood at the signature
    "silent_reading",
    metadata,
    sa.Column("study_id", sa.String(32), sa.ForeignKey("study.id"), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    _location(),
    sa.Column("content", sa.JSON, nullable=False),  # node.rollout.silent
    _at("at"),
)

auto_entry = sa.Table(  # what was entered without a person, until one has looked
    "auto_entry",
    metadata,
    _id(),
    _location(),
    _ref("study_id", "study"),
    _ref("instance_id", "instance", nullable=True),
    sa.Column("tag", sa.String(16), nullable=False),
    sa.Column("value", sa.String(255), nullable=False),
    sa.Column("models", sa.JSON, nullable=False),
    sa.Column("is_sampled", sa.Boolean, nullable=False),  # drawn for the error rate
    sa.Column("state", sa.String(16), nullable=False),  # entered right wrong withdrawn
    sa.Column("decided_by", sa.String(64), nullable=False, server_default=""),
    _at("decided_at", nullable=True),
    _at("entered_at"),
    sa.Index("ix_auto_entry_state", "location_id", "state", "entered_at"),
    sa.Index("ix_auto_entry_study", "study_id"),
)

calibration_version = sa.Table(  # proposals from the practice's own decisions, never self-applied
    "calibration_version",
    metadata,
    _id(),
    _location(),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),  # proposed refused approved ended
    sa.Column("content", sa.JSON, nullable=False),  # node.domain.recalibration
    sa.Column("made_by", sa.String(64), nullable=False),
    _at("made_at"),
    sa.Column("decided_by", sa.String(64), nullable=False, server_default=""),
    _at("decided_at", nullable=True),
    sa.Column("reason", sa.String(255), nullable=False, server_default=""),
    sa.UniqueConstraint("location_id", "version"),
)

# --- encryption at rest --------------------------------------------------------------------------

data_key = sa.Table(  # wrapped by the master key; never deleted while anything is sealed with one
    "data_key",
    metadata,
    sa.Column("key_id", sa.String(16), primary_key=True),
    _location(),
    sa.Column("purpose", sa.String(16), nullable=False),  # node.db.keyring.Purpose
    sa.Column("state", sa.String(16), nullable=False),  # current, old, unused (node.db.keys)
    sa.Column("wrapped", sa.Text, nullable=False),
    sa.Column("proof", sa.String(32), nullable=False),  # known value: shows a wrong key
    sa.Column("master", sa.String(255), nullable=False),  # where the master key was, in words
    _at("created_at"),
    _at("replaced_at", nullable=True),
    sa.Index("ix_data_key_location", "location_id", "purpose", "state"),
)

sealing = sa.Table(  # how far a location's data is sealed; no row: all of it is plain
    "sealing",
    metadata,
    sa.Column("location_id", sa.String(32), primary_key=True),
    sa.Column("state", sa.String(16), nullable=False),  # partly, wholly
    _at("changed_at"),
)

# --- what happened -------------------------------------------------------------------------------

event = sa.Table(
    "event",
    metadata,
    sa.Column(
        "seq",
        sa.BigInteger().with_variant(sa.Integer, "sqlite"),
        primary_key=True,
        autoincrement=True,
    ),
    _location(),
    sa.Column("kind", sa.String(48), nullable=False),  # node.domain.events
    sa.Column("key", sa.String(128), nullable=False),
    sa.Column("subject", sa.String(64), nullable=False),
    sa.Column("data", sa.JSON, nullable=False),
    _at("at"),
    sa.UniqueConstraint("location_id", "key"),
)

audit = sa.Table(
    "audit",
    metadata,
    sa.Column(
        "seq",
        sa.BigInteger().with_variant(sa.Integer, "sqlite"),
        primary_key=True,
        autoincrement=False,
    ),
    _location(),
    _at("at"),
    sa.Column("actor", sa.String(64), nullable=False),
    sa.Column("action", sa.String(64), nullable=False),
    sa.Column("subject", sa.String(128), nullable=False),
    sa.Column("detail", sa.JSON, nullable=False),
    sa.Column("previous_hash", sa.String(64), nullable=False),
    sa.Column("hash", sa.String(64), nullable=False, unique=True),
    sa.Index("ix_audit_at", "at"),
    sa.Index("ix_audit_subject", "subject"),
)

audit_checkpoint = sa.Table(  # where a part of the audit was closed; its rows are in a file
    "audit_checkpoint",
    metadata,
    sa.Column(
        "last_seq",
        sa.BigInteger().with_variant(sa.Integer, "sqlite"),
        primary_key=True,
        autoincrement=False,
    ),
    _location(),
    sa.Column("first_seq", sa.BigInteger, nullable=False),
    sa.Column("last_hash", sa.String(64), nullable=False),
    sa.Column("file", sa.String(128), nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),  # of the file
    _at("at"),
)

audit_forward = sa.Table(  # up to which row the audit was told to a syslog collector
    "audit_forward",
    metadata,
    sa.Column("location_id", sa.String(32), primary_key=True),
    sa.Column("last_seq", sa.BigInteger, nullable=False),
    sa.Column("sent", sa.BigInteger, nullable=False, server_default="0"),  # messages, in all
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),  # since one succeeded
    sa.Column("error", sa.String(255), nullable=False, server_default=""),
    _at("updated_at"),
)
