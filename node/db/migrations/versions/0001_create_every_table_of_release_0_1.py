"""Create every table of release 0.1."""

import sqlalchemy as sa
from alembic import op

import node.db.tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column(
            "seq",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("location_id", sa.String(length=32), nullable=False),
        sa.Column("at", node.db.tables.UtcDateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.String(length=64), nullable=False),
        sa.Column("action", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.String(length=128), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.Column("previous_hash", sa.String(length=64), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_audit")),
        sa.UniqueConstraint("hash", name=op.f("uq_audit_hash")),
    )
    op.create_table(
        "event",
        sa.Column(
            "seq",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("location_id", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=48), nullable=False),
        sa.Column("key", sa.String(length=128), nullable=False),
        sa.Column("subject", sa.String(length=64), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("at", node.db.tables.UtcDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_event")),
        sa.UniqueConstraint("location_id", "key", name=op.f("uq_event_location_id_key")),
    )
    op.create_table(
        "operatory",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("location_id", sa.String(length=32), nullable=False),
        sa.Column("pms_key", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("abbreviation", sa.String(length=64), server_default="", nullable=False),
        sa.Column("is_hidden", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_operatory")),
        sa.UniqueConstraint(
            "location_id", "pms_key", name=op.f("uq_operatory_location_id_pms_key")
        ),
    )
    op.create_table(
        "patient",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("location_id", sa.String(length=32), nullable=False),
        sa.Column("pms_key", sa.String(length=64), nullable=False),
        sa.Column("status", sa.String(length=32), server_default="Patient", nullable=False),
        sa.Column("synced_at", node.db.tables.UtcDateTime(timezone=True), nullable=False),
        sa.Column("tombstoned_at", node.db.tables.UtcDateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_patient")),
        sa.UniqueConstraint("location_id", "pms_key", name=op.f("uq_patient_location_id_pms_key")),
    )
    op.create_table(
        "provider",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("location_id", sa.String(length=32), nullable=False),
        sa.Column("pms_key", sa.String(length=64), nullable=False),
        sa.Column("abbreviation", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), server_default="", nullable=False),
        sa.Column("is_hidden", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_provider")),
        sa.UniqueConstraint("location_id", "pms_key", name=op.f("uq_provider_location_id_pms_key")),
    )
    op.create_table(
        "sync_state",
        sa.Column("location_id", sa.String(length=32), nullable=False),
        sa.Column("resource", sa.String(length=64), nullable=False),
        sa.Column("watermark", node.db.tables.UtcDateTime(timezone=True), nullable=True),
        sa.Column("last_ok_at", node.db.tables.UtcDateTime(timezone=True), nullable=True),
        sa.Column("last_try_at", node.db.tables.UtcDateTime(timezone=True), nullable=True),
        sa.Column("error", sa.String(length=255), server_default="", nullable=False),
        sa.Column("clock_offset_s", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("location_id", "resource", name=op.f("pk_sync_state")),
    )
    op.create_table(
        "user_account",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("location_id", sa.String(length=32), nullable=False),
        sa.Column("username", sa.String(length=64), nullable=False),
        sa.Column("display_name", sa.String(length=128), nullable=False),
        sa.Column("role", sa.String(length=32), nullable=False),
        sa.Column("password_hash", sa.String(length=255), nullable=False),
        sa.Column("failed_attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("locked_until", node.db.tables.UtcDateTime(timezone=True), nullable=True),
        sa.Column("is_active", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_user_account")),
        sa.UniqueConstraint(
            "location_id", "username", name=op.f("uq_user_account_location_id_username")
        ),
    )
    op.create_table(
        "workflow_case",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("location_id", sa.String(length=32), nullable=False),
        sa.Column("workflow", sa.String(length=64), nullable=False),
        sa.Column("key", sa.String(length=128), nullable=False),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("error", sa.String(length=255), server_default="", nullable=False),
        sa.Column("created_at", node.db.tables.UtcDateTime(timezone=True), nullable=False),
        sa.Column("updated_at", node.db.tables.UtcDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workflow_case")),
        sa.UniqueConstraint(
            "location_id", "workflow", "key", name=op.f("uq_workflow_case_location_id_workflow_key")
        ),
    )
    op.create_table(
        "appointment",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("location_id", sa.String(length=32), nullable=False),
        sa.Column("pms_key", sa.String(length=64), nullable=False),
        sa.Column("patient_id", sa.String(length=32), nullable=False),
        sa.Column("start_at", node.db.tables.UtcDateTime(timezone=True), nullable=False),
        sa.Column("duration_min", sa.Integer(), nullable=False),
        sa.Column("operatory_key", sa.String(length=64), server_default="", nullable=False),
        sa.Column("provider_key", sa.String(length=64), server_default="", nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("description", sa.String(length=255), server_default="", nullable=False),
        sa.Column("accession_number", sa.String(length=16), nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("synced_at", node.db.tables.UtcDateTime(timezone=True), nullable=False),
        sa.Column("tombstoned_at", node.db.tables.UtcDateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["patient_id"], ["patient.id"], name=op.f("fk_appointment_patient_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_appointment")),
        sa.UniqueConstraint(
            "location_id",
            "accession_number",
            name=op.f("uq_appointment_location_id_accession_number"),
        ),
        sa.UniqueConstraint(
            "location_id", "pms_key", name=op.f("uq_appointment_location_id_pms_key")
        ),
        sa.UniqueConstraint(
            "location_id",
            "study_instance_uid",
            name=op.f("uq_appointment_location_id_study_instance_uid"),
        ),
    )
    with op.batch_alter_table("appointment", schema=None) as batch_op:
        batch_op.create_index("ix_appointment_patient", ["location_id", "patient_id"], unique=False)
        batch_op.create_index("ix_appointment_start", ["location_id", "start_at"], unique=False)

    op.create_table(
        "patient_identity",
        sa.Column("patient_id", sa.String(length=32), nullable=False),
        sa.Column("location_id", sa.String(length=32), nullable=False),
        sa.Column("family_name", sa.String(length=128), nullable=False),
        sa.Column("given_name", sa.String(length=128), nullable=False),
        sa.Column("middle_name", sa.String(length=128), server_default="", nullable=False),
        sa.Column("birth_date", sa.Date(), nullable=True),
        sa.Column("sex", sa.String(length=1), server_default="", nullable=False),
        sa.Column("name_key", sa.String(length=255), nullable=False),
        sa.ForeignKeyConstraint(
            ["patient_id"], ["patient.id"], name=op.f("fk_patient_identity_patient_id")
        ),
        sa.PrimaryKeyConstraint("patient_id", name=op.f("pk_patient_identity")),
    )
    with op.batch_alter_table("patient_identity", schema=None) as batch_op:
        batch_op.create_index(
            "ix_patient_identity_name", ["location_id", "name_key", "birth_date"], unique=False
        )

    op.create_table(
        "procedure",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("location_id", sa.String(length=32), nullable=False),
        sa.Column("pms_key", sa.String(length=64), nullable=False),
        sa.Column("patient_id", sa.String(length=32), nullable=False),
        sa.Column("appointment_key", sa.String(length=64), server_default="", nullable=False),
        sa.Column("cdt_code", sa.String(length=16), nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("tooth", sa.String(length=4), server_default="", nullable=False),
        sa.Column("procedure_date", sa.Date(), nullable=True),
        sa.Column("synced_at", node.db.tables.UtcDateTime(timezone=True), nullable=False),
        sa.Column("tombstoned_at", node.db.tables.UtcDateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["patient_id"], ["patient.id"], name=op.f("fk_procedure_patient_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_procedure")),
        sa.UniqueConstraint(
            "location_id", "pms_key", name=op.f("uq_procedure_location_id_pms_key")
        ),
    )
    with op.batch_alter_table("procedure", schema=None) as batch_op:
        batch_op.create_index(
            "ix_procedure_appointment", ["location_id", "appointment_key"], unique=False
        )
        batch_op.create_index("ix_procedure_patient", ["location_id", "patient_id"], unique=False)

    op.create_table(
        "web_session",
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("location_id", sa.String(length=32), nullable=False),
        sa.Column("user_id", sa.String(length=32), nullable=False),
        sa.Column("csrf_token", sa.String(length=64), nullable=False),
        sa.Column("created_at", node.db.tables.UtcDateTime(timezone=True), nullable=False),
        sa.Column("last_seen_at", node.db.tables.UtcDateTime(timezone=True), nullable=False),
        sa.Column("proved_at", node.db.tables.UtcDateTime(timezone=True), nullable=False),
        sa.Column("ended_at", node.db.tables.UtcDateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["user_id"], ["user_account.id"], name=op.f("fk_web_session_user_id")
        ),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_web_session")),
    )
    op.create_table(
        "study",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("location_id", sa.String(length=32), nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("accession_number", sa.String(length=16), server_default="", nullable=False),
        sa.Column("study_date", sa.String(length=8), server_default="", nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("match_state", sa.String(length=16), nullable=False),
        sa.Column("match_reason", sa.String(length=255), server_default="", nullable=False),
        sa.Column("patient_id", sa.String(length=32), nullable=True),
        sa.Column("appointment_id", sa.String(length=32), nullable=True),
        sa.Column("sender_ae_title", sa.String(length=16), server_default="", nullable=False),
        sa.Column("generation", sa.Integer(), server_default="0", nullable=False),
        sa.Column("review_version", sa.Integer(), server_default="0", nullable=False),
        sa.Column("received_at", node.db.tables.UtcDateTime(timezone=True), nullable=False),
        sa.Column("last_image_at", node.db.tables.UtcDateTime(timezone=True), nullable=False),
        sa.Column("completed_at", node.db.tables.UtcDateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["appointment_id"], ["appointment.id"], name=op.f("fk_study_appointment_id")
        ),
        sa.ForeignKeyConstraint(["patient_id"], ["patient.id"], name=op.f("fk_study_patient_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_study")),
        sa.UniqueConstraint(
            "location_id",
            "study_instance_uid",
            name=op.f("uq_study_location_id_study_instance_uid"),
        ),
    )
    with op.batch_alter_table("study", schema=None) as batch_op:
        batch_op.create_index("ix_study_patient", ["location_id", "patient_id"], unique=False)
        batch_op.create_index(
            "ix_study_state", ["location_id", "state", "last_image_at"], unique=False
        )

    op.create_table(
        "worklist_item",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("location_id", sa.String(length=32), nullable=False),
        sa.Column("appointment_id", sa.String(length=32), nullable=False),
        sa.Column("patient_id", sa.String(length=32), nullable=False),
        sa.Column("modality", sa.String(length=16), nullable=False),
        sa.Column("station_ae_title", sa.String(length=16), nullable=False),
        sa.Column("start_date", sa.String(length=8), nullable=False),
        sa.Column("start_time", sa.String(length=6), nullable=False),
        sa.Column("scheduled_procedure_step_id", sa.String(length=16), nullable=False),
        sa.Column("requested_procedure_id", sa.String(length=16), nullable=False),
        sa.Column("description", sa.String(length=64), nullable=False),
        sa.Column("cdt_code", sa.String(length=16), server_default="", nullable=False),
        sa.Column("expected_images", sa.Integer(), nullable=True),
        sa.Column("is_open", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.ForeignKeyConstraint(
            ["appointment_id"], ["appointment.id"], name=op.f("fk_worklist_item_appointment_id")
        ),
        sa.ForeignKeyConstraint(
            ["patient_id"], ["patient.id"], name=op.f("fk_worklist_item_patient_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_worklist_item")),
        sa.UniqueConstraint(
            "appointment_id", "modality", name=op.f("uq_worklist_item_appointment_id_modality")
        ),
        sa.UniqueConstraint(
            "location_id",
            "scheduled_procedure_step_id",
            name=op.f("uq_worklist_item_location_id_scheduled_procedure_step_id"),
        ),
    )
    with op.batch_alter_table("worklist_item", schema=None) as batch_op:
        batch_op.create_index(
            "ix_worklist_item_day", ["location_id", "start_date", "start_time"], unique=False
        )
        batch_op.create_index(
            "ix_worklist_item_patient", ["location_id", "patient_id"], unique=False
        )

    op.create_table(
        "instance",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("location_id", sa.String(length=32), nullable=False),
        sa.Column("study_id", sa.String(length=32), nullable=False),
        sa.Column("sop_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("sop_class_uid", sa.String(length=64), nullable=False),
        sa.Column("series_instance_uid", sa.String(length=64), server_default="", nullable=False),
        sa.Column("transfer_syntax_uid", sa.String(length=64), nullable=False),
        sa.Column("modality", sa.String(length=16), server_default="", nullable=False),
        sa.Column("instance_number", sa.Integer(), nullable=True),
        sa.Column("rows", sa.Integer(), nullable=True),
        sa.Column("columns", sa.Integer(), nullable=True),
        sa.Column("spacing_mm_row", sa.Float(), nullable=True),
        sa.Column("spacing_mm_col", sa.Float(), nullable=True),
        sa.Column("spacing_kind", sa.String(length=16), server_default="unknown", nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("storage_key", sa.String(length=255), nullable=False),
        sa.Column("sender_ae_title", sa.String(length=16), server_default="", nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("failure", sa.String(length=255), server_default="", nullable=False),
        sa.Column("received_at", node.db.tables.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_instance_study_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instance")),
        sa.UniqueConstraint(
            "location_id", "sop_instance_uid", name=op.f("uq_instance_location_id_sop_instance_uid")
        ),
    )
    with op.batch_alter_table("instance", schema=None) as batch_op:
        batch_op.create_index("ix_instance_state", ["location_id", "state"], unique=False)
        batch_op.create_index("ix_instance_study", ["study_id"], unique=False)

    op.create_table(
        "operation",
        sa.Column("op_id", sa.String(length=36), nullable=False),
        sa.Column("location_id", sa.String(length=32), nullable=False),
        sa.Column("study_id", sa.String(length=32), nullable=False),
        sa.Column("user_id", sa.String(length=32), nullable=False),
        sa.Column("finding_id", sa.String(length=32), nullable=True),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("base_rev", sa.Integer(), nullable=True),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("before", sa.JSON(), nullable=True),
        sa.Column("outcome", sa.JSON(), nullable=False),
        sa.Column("at", node.db.tables.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_operation_study_id")),
        sa.ForeignKeyConstraint(
            ["user_id"], ["user_account.id"], name=op.f("fk_operation_user_id")
        ),
        sa.PrimaryKeyConstraint("op_id", name=op.f("pk_operation")),
    )
    with op.batch_alter_table("operation", schema=None) as batch_op:
        batch_op.create_index("ix_operation_study", ["study_id", "at"], unique=False)

    op.create_table(
        "pms_command",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("location_id", sa.String(length=32), nullable=False),
        sa.Column("key", sa.String(length=128), nullable=False),
        sa.Column("ref", sa.String(length=32), nullable=False),
        sa.Column("study_id", sa.String(length=32), nullable=True),
        sa.Column("patient_id", sa.String(length=32), nullable=False),
        sa.Column("review_version", sa.Integer(), nullable=True),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("error", sa.String(length=512), server_default="", nullable=False),
        sa.Column("receipt", sa.JSON(), nullable=True),
        sa.Column("created_at", node.db.tables.UtcDateTime(timezone=True), nullable=False),
        sa.Column("updated_at", node.db.tables.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["patient_id"], ["patient.id"], name=op.f("fk_pms_command_patient_id")
        ),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_pms_command_study_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pms_command")),
        sa.UniqueConstraint("location_id", "key", name=op.f("uq_pms_command_location_id_key")),
    )
    with op.batch_alter_table("pms_command", schema=None) as batch_op:
        batch_op.create_index("ix_pms_command_state", ["location_id", "state"], unique=False)
        batch_op.create_index("ix_pms_command_study", ["study_id"], unique=False)

    op.create_table(
        "review",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("location_id", sa.String(length=32), nullable=False),
        sa.Column("study_id", sa.String(length=32), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("signed_by", sa.String(length=32), nullable=False),
        sa.Column("signer_name", sa.String(length=128), nullable=False),
        sa.Column("signer_role", sa.String(length=32), nullable=False),
        sa.Column("statement", sa.String(length=255), nullable=False),
        sa.Column("reason", sa.String(length=255), server_default="", nullable=False),
        sa.Column("content_hash", sa.String(length=64), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.Column("software_version", sa.String(length=32), nullable=False),
        sa.Column("signed_at", node.db.tables.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["signed_by"], ["user_account.id"], name=op.f("fk_review_signed_by")
        ),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_review_study_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_review")),
        sa.UniqueConstraint("study_id", "version", name=op.f("uq_review_study_id_version")),
    )
    op.create_table(
        "study_identity",
        sa.Column("study_id", sa.String(length=32), nullable=False),
        sa.Column("location_id", sa.String(length=32), nullable=False),
        sa.Column("patient_name", sa.String(length=324), server_default="", nullable=False),
        sa.Column("patient_id_text", sa.String(length=64), server_default="", nullable=False),
        sa.Column("issuer_of_patient_id", sa.String(length=64), server_default="", nullable=False),
        sa.Column("birth_date", sa.String(length=8), server_default="", nullable=False),
        sa.Column("sex", sa.String(length=1), server_default="", nullable=False),
        sa.ForeignKeyConstraint(
            ["study_id"], ["study.id"], name=op.f("fk_study_identity_study_id")
        ),
        sa.PrimaryKeyConstraint("study_id", name=op.f("pk_study_identity")),
    )
    op.create_table(
        "analysis_run",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("location_id", sa.String(length=32), nullable=False),
        sa.Column("instance_id", sa.String(length=32), nullable=False),
        sa.Column("pipeline", sa.String(length=64), nullable=False),
        sa.Column("view", sa.String(length=16), nullable=True),
        sa.Column("view_probability", sa.Float(), nullable=True),
        sa.Column("models", sa.JSON(), nullable=False),
        sa.Column("absent", sa.JSON(), nullable=False),
        sa.Column("notes", sa.JSON(), nullable=False),
        sa.Column("started_at", node.db.tables.UtcDateTime(timezone=True), nullable=False),
        sa.Column("finished_at", node.db.tables.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["instance_id"], ["instance.id"], name=op.f("fk_analysis_run_instance_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_analysis_run")),
        sa.UniqueConstraint(
            "instance_id", "pipeline", name=op.f("uq_analysis_run_instance_id_pipeline")
        ),
    )
    op.create_table(
        "dicom_result",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("location_id", sa.String(length=32), nullable=False),
        sa.Column("study_id", sa.String(length=32), nullable=False),
        sa.Column("review_version", sa.Integer(), nullable=False),
        sa.Column("generation", sa.Integer(), server_default="0", nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("instance_id", sa.String(length=32), nullable=True),
        sa.Column("sop_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("sop_class_uid", sa.String(length=64), nullable=False),
        sa.Column("storage_key", sa.String(length=255), nullable=False),
        sa.Column("created_at", node.db.tables.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["instance_id"], ["instance.id"], name=op.f("fk_dicom_result_instance_id")
        ),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_dicom_result_study_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dicom_result")),
        sa.UniqueConstraint("sop_instance_uid", name=op.f("uq_dicom_result_sop_instance_uid")),
    )
    with op.batch_alter_table("dicom_result", schema=None) as batch_op:
        batch_op.create_index("ix_dicom_result_study", ["study_id"], unique=False)

    op.create_table(
        "image_view",
        sa.Column("instance_id", sa.String(length=32), nullable=False),
        sa.Column("user_id", sa.String(length=32), nullable=False),
        sa.Column("location_id", sa.String(length=32), nullable=False),
        sa.Column("seen_at", node.db.tables.UtcDateTime(timezone=True), nullable=False),
        sa.Column("bare_at", node.db.tables.UtcDateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["instance_id"], ["instance.id"], name=op.f("fk_image_view_instance_id")
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["user_account.id"], name=op.f("fk_image_view_user_id")
        ),
        sa.PrimaryKeyConstraint("instance_id", "user_id", name=op.f("pk_image_view")),
    )
    op.create_table(
        "instance_duplicate",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("location_id", sa.String(length=32), nullable=False),
        sa.Column("instance_id", sa.String(length=32), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("storage_key", sa.String(length=255), nullable=False),
        sa.Column("sender_ae_title", sa.String(length=16), server_default="", nullable=False),
        sa.Column("received_at", node.db.tables.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["instance_id"], ["instance.id"], name=op.f("fk_instance_duplicate_instance_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instance_duplicate")),
        sa.UniqueConstraint(
            "instance_id", "sha256", name=op.f("uq_instance_duplicate_instance_id_sha256")
        ),
    )
    op.create_table(
        "dicom_delivery",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("location_id", sa.String(length=32), nullable=False),
        sa.Column("result_id", sa.String(length=32), nullable=False),
        sa.Column("peer", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("error", sa.String(length=255), server_default="", nullable=False),
        sa.Column("updated_at", node.db.tables.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["result_id"], ["dicom_result.id"], name=op.f("fk_dicom_delivery_result_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dicom_delivery")),
        sa.UniqueConstraint("result_id", "peer", name=op.f("uq_dicom_delivery_result_id_peer")),
    )
    op.create_table(
        "finding",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("location_id", sa.String(length=32), nullable=False),
        sa.Column("study_id", sa.String(length=32), nullable=False),
        sa.Column("instance_id", sa.String(length=32), nullable=False),
        sa.Column("run_id", sa.String(length=32), nullable=True),
        sa.Column("origin", sa.String(length=8), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("tooth", sa.String(length=3), nullable=True),
        sa.Column("surfaces", sa.String(length=8), server_default="", nullable=False),
        sa.Column("depth", sa.String(length=2), nullable=True),
        sa.Column("value_mm", sa.Float(), nullable=True),
        sa.Column("value_percent", sa.Float(), nullable=True),
        sa.Column("probability", sa.Float(), nullable=True),
        sa.Column("geometry", sa.JSON(), nullable=False),
        sa.Column("model", sa.JSON(), nullable=True),
        sa.Column("original", sa.JSON(), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("disposition", sa.String(length=16), nullable=True),
        sa.Column("reason", sa.String(length=64), server_default="", nullable=False),
        sa.Column("comment", sa.Text(), server_default="", nullable=False),
        sa.Column("decided_by", sa.String(length=32), nullable=True),
        sa.Column("decided_at", node.db.tables.UtcDateTime(timezone=True), nullable=True),
        sa.Column("is_removed", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("rev", sa.Integer(), server_default="1", nullable=False),
        sa.Column("created_at", node.db.tables.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["decided_by"], ["user_account.id"], name=op.f("fk_finding_decided_by")
        ),
        sa.ForeignKeyConstraint(
            ["instance_id"], ["instance.id"], name=op.f("fk_finding_instance_id")
        ),
        sa.ForeignKeyConstraint(["run_id"], ["analysis_run.id"], name=op.f("fk_finding_run_id")),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_finding_study_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_finding")),
    )
    with op.batch_alter_table("finding", schema=None) as batch_op:
        batch_op.create_index("ix_finding_instance", ["instance_id"], unique=False)
        batch_op.create_index("ix_finding_study", ["study_id"], unique=False)

    op.create_table(
        "tooth_mark",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("location_id", sa.String(length=32), nullable=False),
        sa.Column("run_id", sa.String(length=32), nullable=False),
        sa.Column("instance_id", sa.String(length=32), nullable=False),
        sa.Column("tooth", sa.String(length=3), nullable=False),
        sa.Column("box", sa.JSON(), nullable=False),
        sa.Column("probability", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["instance_id"], ["instance.id"], name=op.f("fk_tooth_mark_instance_id")
        ),
        sa.ForeignKeyConstraint(["run_id"], ["analysis_run.id"], name=op.f("fk_tooth_mark_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tooth_mark")),
    )
    with op.batch_alter_table("tooth_mark", schema=None) as batch_op:
        batch_op.create_index("ix_tooth_mark_instance", ["instance_id"], unique=False)

    _protect_audit()


def _protect_audit() -> None:
    """Make the audit append-only for everyone who reaches it through SQL."""
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER audit_no_{verb.lower()} BEFORE {verb} ON audit "
                "BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END"
            )
        return
    op.execute(
        "CREATE FUNCTION audit_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'the audit is append-only'; END $$"
    )
    op.execute(
        "CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only()"
    )


def downgrade() -> None:
    with op.batch_alter_table("tooth_mark", schema=None) as batch_op:
        batch_op.drop_index("ix_tooth_mark_instance")

    op.drop_table("tooth_mark")
    with op.batch_alter_table("finding", schema=None) as batch_op:
        batch_op.drop_index("ix_finding_study")
        batch_op.drop_index("ix_finding_instance")

    op.drop_table("finding")
    op.drop_table("dicom_delivery")
    op.drop_table("instance_duplicate")
    op.drop_table("image_view")
    with op.batch_alter_table("dicom_result", schema=None) as batch_op:
        batch_op.drop_index("ix_dicom_result_study")

    op.drop_table("dicom_result")
    op.drop_table("analysis_run")
    op.drop_table("study_identity")
    op.drop_table("review")
    with op.batch_alter_table("pms_command", schema=None) as batch_op:
        batch_op.drop_index("ix_pms_command_study")
        batch_op.drop_index("ix_pms_command_state")

    op.drop_table("pms_command")
    with op.batch_alter_table("operation", schema=None) as batch_op:
        batch_op.drop_index("ix_operation_study")

    op.drop_table("operation")
    with op.batch_alter_table("instance", schema=None) as batch_op:
        batch_op.drop_index("ix_instance_study")
        batch_op.drop_index("ix_instance_state")

    op.drop_table("instance")
    with op.batch_alter_table("worklist_item", schema=None) as batch_op:
        batch_op.drop_index("ix_worklist_item_patient")
        batch_op.drop_index("ix_worklist_item_day")

    op.drop_table("worklist_item")
    with op.batch_alter_table("study", schema=None) as batch_op:
        batch_op.drop_index("ix_study_state")
        batch_op.drop_index("ix_study_patient")

    op.drop_table("study")
    op.drop_table("web_session")
    with op.batch_alter_table("procedure", schema=None) as batch_op:
        batch_op.drop_index("ix_procedure_patient")
        batch_op.drop_index("ix_procedure_appointment")

    op.drop_table("procedure")
    with op.batch_alter_table("patient_identity", schema=None) as batch_op:
        batch_op.drop_index("ix_patient_identity_name")

    op.drop_table("patient_identity")
    with op.batch_alter_table("appointment", schema=None) as batch_op:
        batch_op.drop_index("ix_appointment_start")
        batch_op.drop_index("ix_appointment_patient")

    op.drop_table("appointment")
    op.drop_table("workflow_case")
    op.drop_table("user_account")
    op.drop_table("sync_state")
    op.drop_table("provider")
    op.drop_table("patient")
    op.drop_table("operatory")
    op.drop_table("event")
    op.drop_table("audit")
