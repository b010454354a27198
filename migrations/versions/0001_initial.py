"""initial

Revision: 0001, after None
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


# The one clock that decides what is due. Only ENVIRONMENT=test sets the offset; after one SET LOCAL the setting is
# empty rather than null, hence nullif.
_APP_NOW = """
CREATE FUNCTION app_now() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT clock_timestamp()
         + make_interval(secs => coalesce(nullif(current_setting('punctual.clock_offset', true), ''), '0')::float8)
$$
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(_APP_NOW)
    op.create_table(
        "projects",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_projects")),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_api_keys_project_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
    )
    op.create_index(op.f("ix_api_keys_project_id"), "api_keys", ["project_id"], unique=False)
    op.create_table(
        "idempotency_keys",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("scope_hash", sa.LargeBinary(), nullable=False),
        sa.Column("body_hash", sa.LargeBinary(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("response_sealed", sa.LargeBinary(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_idempotency_keys_project_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_idempotency_keys")),
        sa.UniqueConstraint("project_id", "scope_hash", name=op.f("uq_idempotency_keys_project_id_scope_hash")),
    )
    op.create_index("ix_idempotency_keys_created", "idempotency_keys", ["created_at"], unique=False)
    op.create_table(
        "messages",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("calendar_id", sa.Uuid(), nullable=True),
        sa.Column("trigger", sa.Text(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_messages_project_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_messages")),
    )
    op.create_index("ix_messages_created", "messages", ["created_at"], unique=False)
    op.create_index(op.f("ix_messages_project_id"), "messages", ["project_id"], unique=False)
    op.create_table(
        "oauth_apps",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("platform", sa.Text(), nullable=False),
        sa.Column("client_id", sa.Text(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_oauth_apps_project_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_oauth_apps")),
        sa.UniqueConstraint(
            "project_id", "platform", "client_id", name=op.f("uq_oauth_apps_project_id_platform_client_id")
        ),
    )
    op.create_table(
        "webhook_endpoints",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("triggers", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("metadata", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("secret_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("disabled_reason", sa.Text(), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_webhook_endpoints_project_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_endpoints")),
    )
    op.create_index("ix_webhook_endpoints_list", "webhook_endpoints", ["project_id", "created_at", "id"], unique=False)
    op.create_table(
        "calendars",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("oauth_app_id", sa.Uuid(), nullable=False),
        sa.Column("platform", sa.Text(), nullable=False),
        sa.Column("platform_uuid", sa.Text(), nullable=True),
        sa.Column("metadata", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("deduplication_key", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("failure", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("remote_calendar_id", sa.Text(), nullable=True),
        sa.Column("account_subject", sa.Text(), nullable=True),
        sa.Column("channel_key", sa.LargeBinary(), nullable=True),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("time_zone", sa.Text(), nullable=True),
        sa.Column("last_change_seq", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("last_event_updated_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("feed_floor", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("is_greeting_due", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("wipe_not_before", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["oauth_app_id"], ["oauth_apps.id"], name=op.f("fk_calendars_oauth_app_id")),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_calendars_project_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_calendars")),
    )
    op.create_index("ix_calendars_channel_key", "calendars", ["channel_key"], unique=False)
    op.create_index(
        "ix_calendars_deleted",
        "calendars",
        ["deleted_at"],
        unique=False,
        postgresql_where=sa.text("deleted_at IS NOT NULL"),
    )
    op.create_index("ix_calendars_list", "calendars", ["project_id", "created_at", "id"], unique=False)
    op.create_index(op.f("ix_calendars_oauth_app_id"), "calendars", ["oauth_app_id"], unique=False)
    op.create_index(
        "uq_calendars_deduplication_key",
        "calendars",
        ["project_id", "deduplication_key"],
        unique=True,
        postgresql_where=sa.text("deleted_at IS NULL AND deduplication_key IS NOT NULL"),
    )
    op.create_table(
        "deliveries",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("message_id", sa.Uuid(), nullable=False),
        sa.Column("endpoint_id", sa.Uuid(), nullable=False),
        sa.Column("calendar_id", sa.Uuid(), nullable=True),
        sa.Column("trigger", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempt_count", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("fence", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.CheckConstraint(
            "(state = 'pending') = (next_attempt_at IS NOT NULL)", name=op.f("ck_deliveries_due_while_pending")
        ),
        sa.ForeignKeyConstraint(
            ["endpoint_id"],
            ["webhook_endpoints.id"],
            name=op.f("fk_deliveries_endpoint_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["message_id"], ["messages.id"], name=op.f("fk_deliveries_message_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deliveries")),
        postgresql_with={"fillfactor": "70"},
    )
    op.create_index(
        "ix_deliveries_calendar",
        "deliveries",
        ["calendar_id"],
        unique=False,
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_index(
        "ix_deliveries_due",
        "deliveries",
        ["next_attempt_at"],
        unique=False,
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_index("ix_deliveries_endpoint", "deliveries", ["endpoint_id", "created_at"], unique=False)
    op.create_index("ix_deliveries_list", "deliveries", ["project_id", "created_at", "id"], unique=False)
    op.create_index(op.f("ix_deliveries_message_id"), "deliveries", ["message_id"], unique=False)
    op.create_table(
        "oauth_app_secrets",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("oauth_app_id", sa.Uuid(), nullable=False),
        sa.Column("secret_sealed", sa.LargeBinary(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("last_worked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("refused_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["oauth_app_id"],
            ["oauth_apps.id"],
            name=op.f("fk_oauth_app_secrets_oauth_app_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_oauth_app_secrets")),
    )
    op.create_index(op.f("ix_oauth_app_secrets_oauth_app_id"), "oauth_app_secrets", ["oauth_app_id"], unique=False)
    op.create_table(
        "calendar_events",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("calendar_id", sa.Uuid(), nullable=False),
        sa.Column("platform_uuid", sa.Text(), nullable=False),
        sa.Column("ical_uid", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("location", sa.Text(), nullable=True),
        sa.Column("start_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("end_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("is_all_day", sa.Boolean(), nullable=False),
        sa.Column("start_date", sa.Date(), nullable=True),
        sa.Column("end_date", sa.Date(), nullable=True),
        sa.Column("time_zone", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("is_deleted", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("deletion_kind", sa.Text(), nullable=True),
        sa.Column("visibility", sa.Text(), nullable=True),
        sa.Column("transparency", sa.Text(), nullable=True),
        sa.Column("event_type", sa.Text(), nullable=True),
        sa.Column("organizer", postgresql.JSON(astext_type=sa.Text()), nullable=True),
        sa.Column("creator", postgresql.JSON(astext_type=sa.Text()), nullable=True),
        sa.Column("attendees", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.Column("own_response_status", sa.Text(), nullable=True),
        sa.Column("series_id", sa.Text(), nullable=True),
        sa.Column("original_start_time", sa.DateTime(timezone=True), nullable=True),
        sa.Column("is_exception", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("meeting_url", sa.Text(), nullable=True),
        sa.Column("meeting_platform", sa.Text(), nullable=True),
        sa.Column("meeting_candidates", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.Column("html_link", sa.Text(), nullable=True),
        sa.Column("change_seq", sa.BigInteger(), nullable=False),
        sa.Column("raw", sa.Text(), nullable=True),
        sa.Column("is_raw_truncated", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("content_hash", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_calendar_events")),
        sa.UniqueConstraint("calendar_id", "platform_uuid", name=op.f("uq_calendar_events_calendar_id_platform_uuid")),
    )
    op.create_index(
        "ix_calendar_events_calendar_feed",
        "calendar_events",
        ["calendar_id", "updated_at", "id"],
        unique=False,
    )
    op.create_index("ix_calendar_events_ical_uid", "calendar_events", ["project_id", "ical_uid"], unique=False)
    op.create_index(
        "ix_calendar_events_project_feed", "calendar_events", ["project_id", "updated_at", "id"], unique=False
    )
    op.create_index(
        "ix_calendar_events_series",
        "calendar_events",
        ["calendar_id", "series_id"],
        unique=False,
        postgresql_where=sa.text("series_id IS NOT NULL AND NOT is_deleted"),
    )
    op.create_index("ix_calendar_events_start", "calendar_events", ["project_id", "start_time", "id"], unique=False)
    op.create_index(
        "ix_calendar_events_window",
        "calendar_events",
        ["calendar_id", "end_time"],
        unique=False,
        postgresql_where=sa.text("NOT is_deleted"),
    )
    op.create_index("uq_calendar_events_change_seq", "calendar_events", ["calendar_id", "change_seq"], unique=True)
    op.create_table(
        "delivery_attempts",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("delivery_id", sa.Uuid(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("phases_ms", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("address", sa.Text(), nullable=True),
        sa.Column("response_body", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["delivery_id"],
            ["deliveries.id"],
            name=op.f("fk_delivery_attempts_delivery_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_delivery_attempts")),
    )
    op.create_index(op.f("ix_delivery_attempts_delivery_id"), "delivery_attempts", ["delivery_id"], unique=False)
    op.create_table(
        "grants",
        sa.Column("calendar_id", sa.Uuid(), nullable=False),
        sa.Column("refresh_token_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("version", sa.BigInteger(), server_default=sa.text("1"), nullable=False),
        sa.Column("is_identity_due", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("access_token_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("access_token_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_fence", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.ForeignKeyConstraint(
            ["calendar_id"], ["calendars.id"], name=op.f("fk_grants_calendar_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("calendar_id", name=op.f("pk_grants")),
    )
    op.create_table(
        "parked_items",
        sa.Column("calendar_id", sa.Uuid(), nullable=False),
        sa.Column("platform_uuid", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("raw", sa.Text(), nullable=True),
        sa.Column("seen_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["calendar_id"], ["calendars.id"], name=op.f("fk_parked_items_calendar_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("calendar_id", "platform_uuid", name=op.f("pk_parked_items")),
    )
    op.create_table(
        "push_channels",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("channel_key", sa.LargeBinary(), nullable=False),
        sa.Column("calendar_id", sa.Uuid(), nullable=True),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("resource_id", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("renew_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("stop_not_before", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["calendar_id"], ["calendars.id"], name=op.f("fk_push_channels_calendar_id"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_push_channels")),
    )
    op.create_index(op.f("ix_push_channels_calendar_id"), "push_channels", ["calendar_id"], unique=False)
    op.create_index(
        "ix_push_channels_open",
        "push_channels",
        ["created_at"],
        unique=False,
        postgresql_where=sa.text("state IN ('creating', 'retiring')"),
    )
    op.create_index(
        "ix_push_channels_renew",
        "push_channels",
        ["renew_at"],
        unique=False,
        postgresql_where=sa.text("state = 'active'"),
    )
    op.create_index(
        "uq_push_channels_active",
        "push_channels",
        ["channel_key"],
        unique=True,
        postgresql_where=sa.text("state = 'active'"),
    )
    op.create_index(
        "uq_push_channels_creating",
        "push_channels",
        ["channel_key"],
        unique=True,
        postgresql_where=sa.text("state = 'creating'"),
    )
    op.create_table(
        "sync_state",
        sa.Column("calendar_id", sa.Uuid(), nullable=False),
        sa.Column("requested_seq", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("synced_seq", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("full_requested_seq", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("first_requested_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("due_at", sa.DateTime(timezone=True), server_default=sa.text("'-infinity'"), nullable=False),
        sa.Column("is_priority", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), server_default=sa.text("'-infinity'"), nullable=False),
        sa.Column("is_deferral", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("fence", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("cursor", sa.Text(), nullable=True),
        sa.Column("cursor_version", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("window_start", sa.DateTime(timezone=True), nullable=True),
        sa.Column("window_end", sa.DateTime(timezone=True), nullable=True),
        sa.Column("anchor_due_at", sa.DateTime(timezone=True), server_default=sa.text("'-infinity'"), nullable=False),
        sa.Column("poll_due_at", sa.DateTime(timezone=True), server_default=sa.text("'infinity'"), nullable=False),
        sa.Column("last_attempted_sync_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_successful_sync_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_notification_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failure_count", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("failure_code", sa.Text(), nullable=True),
        sa.Column("failing_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("suspect_code", sa.Text(), nullable=True),
        sa.Column(
            "watch_not_before",
            sa.DateTime(timezone=True),
            server_default=sa.text("'-infinity'"),
            nullable=False,
        ),
        sa.Column("watch_failure_count", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.ForeignKeyConstraint(
            ["calendar_id"], ["calendars.id"], name=op.f("fk_sync_state_calendar_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("calendar_id", name=op.f("pk_sync_state")),
        postgresql_with={"fillfactor": "70"},
    )
    op.create_index("ix_sync_state_anchor", "sync_state", ["anchor_due_at"], unique=False)
    op.create_index(
        "ix_sync_state_due",
        "sync_state",
        ["due_at"],
        unique=False,
        postgresql_where=sa.text("requested_seq > synced_seq"),
    )
    op.create_index("ix_sync_state_poll", "sync_state", ["poll_due_at"], unique=False)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_index("ix_sync_state_poll", table_name="sync_state")
    op.drop_index("ix_sync_state_due", table_name="sync_state", postgresql_where=sa.text("requested_seq > synced_seq"))
    op.drop_index("ix_sync_state_anchor", table_name="sync_state")
    op.drop_table("sync_state")
    op.drop_index(
        "uq_push_channels_creating",
        table_name="push_channels",
        postgresql_where=sa.text("state = 'creating'"),
    )
    op.drop_index("uq_push_channels_active", table_name="push_channels", postgresql_where=sa.text("state = 'active'"))
    op.drop_index("ix_push_channels_renew", table_name="push_channels", postgresql_where=sa.text("state = 'active'"))
    op.drop_index(
        "ix_push_channels_open",
        table_name="push_channels",
        postgresql_where=sa.text("state IN ('creating', 'retiring')"),
    )
    op.drop_index(op.f("ix_push_channels_calendar_id"), table_name="push_channels")
    op.drop_table("push_channels")
    op.drop_table("parked_items")
    op.drop_table("grants")
    op.drop_index(op.f("ix_delivery_attempts_delivery_id"), table_name="delivery_attempts")
    op.drop_table("delivery_attempts")
    op.drop_index("uq_calendar_events_change_seq", table_name="calendar_events")
    op.drop_index("ix_calendar_events_window", table_name="calendar_events", postgresql_where=sa.text("NOT is_deleted"))
    op.drop_index("ix_calendar_events_start", table_name="calendar_events")
    op.drop_index(
        "ix_calendar_events_series",
        table_name="calendar_events",
        postgresql_where=sa.text("series_id IS NOT NULL AND NOT is_deleted"),
    )
    op.drop_index("ix_calendar_events_project_feed", table_name="calendar_events")
    op.drop_index("ix_calendar_events_ical_uid", table_name="calendar_events")
    op.drop_index("ix_calendar_events_calendar_feed", table_name="calendar_events")
    op.drop_table("calendar_events")
    op.drop_index(op.f("ix_oauth_app_secrets_oauth_app_id"), table_name="oauth_app_secrets")
    op.drop_table("oauth_app_secrets")
    op.drop_index(op.f("ix_deliveries_message_id"), table_name="deliveries")
    op.drop_index("ix_deliveries_list", table_name="deliveries")
    op.drop_index("ix_deliveries_endpoint", table_name="deliveries")
    op.drop_index("ix_deliveries_due", table_name="deliveries", postgresql_where=sa.text("state = 'pending'"))
    op.drop_index("ix_deliveries_calendar", table_name="deliveries", postgresql_where=sa.text("state = 'pending'"))
    op.drop_table("deliveries")
    op.drop_index(
        "uq_calendars_deduplication_key",
        table_name="calendars",
        postgresql_where=sa.text("deleted_at IS NULL AND deduplication_key IS NOT NULL"),
    )
    op.drop_index(op.f("ix_calendars_oauth_app_id"), table_name="calendars")
    op.drop_index("ix_calendars_list", table_name="calendars")
    op.drop_index("ix_calendars_deleted", table_name="calendars", postgresql_where=sa.text("deleted_at IS NOT NULL"))
    op.drop_index("ix_calendars_channel_key", table_name="calendars")
    op.drop_table("calendars")
    op.drop_index("ix_webhook_endpoints_list", table_name="webhook_endpoints")
    op.drop_table("webhook_endpoints")
    op.drop_table("oauth_apps")
    op.drop_index(op.f("ix_messages_project_id"), table_name="messages")
    op.drop_index("ix_messages_created", table_name="messages")
    op.drop_table("messages")
    op.drop_index("ix_idempotency_keys_created", table_name="idempotency_keys")
    op.drop_table("idempotency_keys")
    op.drop_index(op.f("ix_api_keys_project_id"), table_name="api_keys")
    op.drop_table("api_keys")
    op.drop_table("projects")
    op.execute("DROP FUNCTION app_now()")
