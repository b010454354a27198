"""Every table, read as the schema. Each index names the query that it serves.

Times are timestamptz; `*_sealed` columns hold ciphertext of `app.crypto`; what an event shows is JSON text
in the API's own shape, never parsed on the way out.

Lock order for everyone: calendars (by id), then sync_state (last, by calendar id); endpoints before deliveries.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

_Time = DateTime(timezone=True)
_now = text("clock_timestamp()")
_false = text("false")
_zero = text("0")


projects = Table(
    "projects",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    Column("created_at", _Time, nullable=False, server_default=_now),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("project_id", ForeignKey("projects.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("secret_hash", LargeBinary, nullable=False),
    Column("created_at", _Time, nullable=False, server_default=_now),
    Column("revoked_at", _Time),
)

oauth_apps = Table(
    "oauth_apps",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("project_id", ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
    Column("platform", Text, nullable=False),
    Column("client_id", Text, nullable=False),
    # An incident: the provider refuses the app itself. Told once, over with the first success.
    Column("failing_since", _Time),
    Column("failing_told_at", _Time),
    Column("failing_code", Text),
    Column("failing_detail", Text),
    Column("created_at", _Time, nullable=False, server_default=_now),
    UniqueConstraint("project_id", "platform", "client_id"),
)

oauth_app_secrets = Table(
    # A secret is a candidate until its first success; a working one is never replaced by one that failed.
    "oauth_app_secrets",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("oauth_app_id", ForeignKey("oauth_apps.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("secret_sealed", LargeBinary, nullable=False),
    Column("created_at", _Time, nullable=False, server_default=_now),
    Column("last_worked_at", _Time),
    Column("refused_at", _Time),
)

calendars = Table(
    "calendars",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("project_id", ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
    Column("oauth_app_id", ForeignKey("oauth_apps.id"), nullable=False, index=True),
    Column("platform", Text, nullable=False),
    Column("platform_uuid", Text),  # as the customer sent it; null = the account's primary calendar
    Column("metadata", JSONB),
    Column("deduplication_key", Text),
    Column("state", Text, nullable=False),  # connected | disconnected
    Column("failure", JSONB),  # connection_failure_data, as the API shows it
    # What the provider says it is; null until the first sync.
    Column("remote_calendar_id", Text),
    Column("account_subject", Text),
    Column("channel_key", LargeBinary),  # SHA-256 of (platform, client id, subject, remote calendar)
    Column("email", Text),
    Column("name", Text),
    Column("time_zone", Text),
    # The change feed: both only grow, under this row's lock.
    Column("last_change_seq", BigInteger, nullable=False, server_default=_zero),
    Column("last_event_updated_at", _Time),
    Column("feed_floor", BigInteger, nullable=False, server_default=_zero),
    Column("is_greeting_due", Boolean, nullable=False, server_default=text("true")),  # first message of a connection
    Column("created_at", _Time, nullable=False, server_default=_now),
    Column("updated_at", _Time, nullable=False, server_default=_now),
    Column("deleted_at", _Time),
    Column("wipe_not_before", _Time),
    Index("ix_calendars_list", "project_id", "created_at", "id"),  # GET /calendars
    Index(
        "uq_calendars_deduplication_key",
        "project_id",
        "deduplication_key",
        unique=True,
        postgresql_where=text("deleted_at IS NULL AND deduplication_key IS NOT NULL"),
    ),
    Index("ix_calendars_channel_key", "channel_key"),  # push: rows served by a channel
    Index("ix_calendars_deleted", "deleted_at", postgresql_where=text("deleted_at IS NOT NULL")),  # clean-up sweep
)

grants = Table(
    # The user's grant. The lease lets one worker at a time refresh; no transaction is held over the call.
    "grants",
    metadata,
    Column("calendar_id", ForeignKey("calendars.id", ondelete="CASCADE"), primary_key=True),
    Column("refresh_token_sealed", LargeBinary, nullable=False),
    Column("version", BigInteger, nullable=False, server_default=text("1")),  # grows with each new refresh token
    Column("is_identity_due", Boolean, nullable=False, server_default=text("true")),  # a grant not yet seen at work
    Column("access_token_sealed", LargeBinary),
    Column("access_token_expires_at", _Time),
    Column("lease_until", _Time),
    Column("lease_fence", BigInteger, nullable=False, server_default=_zero),
)

sync_state = Table(
    # The queue of syncs: a row is due while requested_seq > synced_seq. Narrow and hot; nothing else locks it.
    "sync_state",
    metadata,
    Column("calendar_id", ForeignKey("calendars.id", ondelete="CASCADE"), primary_key=True),
    # The calendar's: due rows are shared out between apps.
    Column("oauth_app_id", Uuid, nullable=False, server_default=text("'00000000-0000-0000-0000-000000000000'")),
    Column("requested_seq", BigInteger, nullable=False, server_default=_zero),
    Column("asked_seq", BigInteger, nullable=False, server_default=_zero),  # last request that was not the clock's
    Column("pushed_seq", BigInteger, nullable=False, server_default=_zero),  # last request that was a push
    Column("synced_seq", BigInteger, nullable=False, server_default=_zero),
    Column("full_requested_seq", BigInteger, nullable=False, server_default=_zero),  # list anew while > synced_seq
    Column("first_requested_at", _Time),  # opens the coalescing window; null = none open
    Column("due_at", _Time, nullable=False, server_default=text("'-infinity'")),
    Column("is_priority", Boolean, nullable=False, server_default=_false),
    Column("not_before", _Time, nullable=False, server_default=text("'-infinity'")),  # set by failed runs only
    Column("is_deferral", Boolean, nullable=False, server_default=_false),  # not_before is the provider's Retry-After
    Column("lease_until", _Time),
    Column("fence", BigInteger, nullable=False, server_default=_zero),
    Column("cursor", Text),
    Column("cursor_version", BigInteger, nullable=False, server_default=_zero),
    Column("window_start", _Time),
    Column("window_end", _Time),
    Column("anchor_due_at", _Time, nullable=False, server_default=text("'-infinity'")),  # when the window rolls
    Column("poll_due_at", _Time, nullable=False, server_default=text("'infinity'")),
    Column("lag_step", SmallInteger, nullable=False, server_default=_zero),  # a push found nothing: look 1, look 2
    Column("audit_found_count", BigInteger, nullable=False, server_default=_zero),  # changes that no push told of
    Column("last_attempted_sync_at", _Time),
    Column("last_successful_sync_at", _Time),
    Column("last_notification_at", _Time),
    Column("failure_count", Integer, nullable=False, server_default=_zero),
    Column("failure_code", Text),
    Column("failing_since", _Time),
    Column("suspect_code", Text),  # first sighting of calendar_gone or access_lost, to be confirmed
    Column("health_status", Text, nullable=False, server_default=text("'healthy'")),  # as last told
    Column("health_changed_at", _Time),
    Column("watch_not_before", _Time, nullable=False, server_default=text("'-infinity'")),
    Column("watch_failure_count", Integer, nullable=False, server_default=_zero),
    Index(  # due rows of an app that somebody asked for
        "ix_sync_state_asked",
        "oauth_app_id",
        text("greatest(due_at, not_before)"),
        postgresql_where=text("asked_seq > synced_seq"),
    ),
    Index(  # and those that the clock asked for
        "ix_sync_state_backstop",
        "oauth_app_id",
        text("greatest(due_at, not_before)"),
        postgresql_where=text("requested_seq > synced_seq AND asked_seq <= synced_seq"),
    ),
    Index("ix_sync_state_poll", "poll_due_at"),  # backstop sweep
    Index("ix_sync_state_anchor", "anchor_due_at"),  # window sweep
    postgresql_with={"fillfactor": "70"},
)

push_channels = Table(
    # A registration at the provider, for every calendar row with the same channel_key.
    "push_channels",
    metadata,
    Column("id", Uuid, primary_key=True),  # our channel id at the provider
    Column("channel_key", LargeBinary, nullable=False),
    Column("calendar_id", ForeignKey("calendars.id", ondelete="SET NULL"), index=True),  # whose grant opened it
    Column("token_hash", LargeBinary, nullable=False),
    Column("resource_id", Text),
    Column("state", Text, nullable=False),  # creating | active | retiring | closed
    Column("expires_at", _Time),
    Column("renew_at", _Time),
    Column("stop_not_before", _Time),
    Column("created_at", _Time, nullable=False, server_default=_now),
    Index(  # one opening at a time
        "uq_push_channels_creating",
        "channel_key",
        unique=True,
        postgresql_where=text("state = 'creating'"),
    ),
    Index(  # one that is current
        "uq_push_channels_active",
        "channel_key",
        unique=True,
        postgresql_where=text("state = 'active'"),
    ),
    Index("ix_push_channels_renew", "renew_at", postgresql_where=text("state = 'active'")),  # renewal sweep
    Index("ix_push_channels_open", "created_at", postgresql_where=text("state IN ('creating', 'retiring')")),
)

calendar_events = Table(
    "calendar_events",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("project_id", Uuid, nullable=False),
    Column("calendar_id", Uuid, nullable=False),  # no foreign key: checked per row, it cost a tenth of a first sync
    Column("platform_uuid", Text, nullable=False),
    Column("ical_uid", Text),
    Column("start_time", _Time, nullable=False),
    Column("end_time", _Time, nullable=False),
    Column("status", Text, nullable=False),
    Column("is_deleted", Boolean, nullable=False, server_default=_false),
    Column("deletion_kind", Text),  # left_window, or null for deleted at the provider
    Column("series_id", Text),
    Column("meeting_url", Text),
    Column("meeting_platform", Text),
    Column("change_seq", BigInteger, nullable=False),
    Column("raw", Text),
    Column("is_raw_truncated", Boolean, nullable=False, server_default=_false),
    # What the API shows of the provider's event, as JSON text. The columns above repeat what filters and bots look for.
    Column("content", Text, nullable=False),
    Column("content_hash", LargeBinary, nullable=False),
    Column("created_at", _Time, nullable=False),
    Column("updated_at", _Time, nullable=False),
    UniqueConstraint("calendar_id", "platform_uuid"),  # the diff: rows of a round
    Index("ix_calendar_events_calendar_feed", "calendar_id", "updated_at", "id"),  # calendar_id & updated_after
    Index("uq_calendar_events_change_seq", "calendar_id", "change_seq", unique=True),  # after_seq
    Index("ix_calendar_events_project_feed", "project_id", "updated_at", "id"),  # updated_after over all calendars
    Index("ix_calendar_events_start", "project_id", "start_time", "id"),  # start_time and end_time limits
    Index("ix_calendar_events_ical_uid", "project_id", "ical_uid"),  # ical_uid
    Index(  # the diff: a master's tombstone takes its occurrences along
        "ix_calendar_events_series",
        "calendar_id",
        "series_id",
        postgresql_where=text("series_id IS NOT NULL AND NOT is_deleted"),
    ),
    Index("ix_calendar_events_window", "calendar_id", "end_time", postgresql_where=text("NOT is_deleted")),  # reconcile
)

parked_items = Table(
    # An item of a page that could not be parsed, with the reason. Its row, if there is one, stays as it was.
    "parked_items",
    metadata,
    Column("calendar_id", ForeignKey("calendars.id", ondelete="CASCADE"), primary_key=True),
    Column("platform_uuid", Text, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("raw", Text),
    Column("seen_at", _Time, nullable=False, server_default=_now),
)

absent_events = Table(
    # What a listing lacked that would have deleted most of a calendar. The next listing decides.
    "absent_events",
    metadata,
    Column("calendar_id", ForeignKey("calendars.id", ondelete="CASCADE"), primary_key=True),
    Column("event_id", Uuid, primary_key=True),
)

webhook_endpoints = Table(
    "webhook_endpoints",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("project_id", ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
    Column("url", Text, nullable=False),
    Column("triggers", ARRAY(Text), nullable=False),
    Column("metadata", JSONB),
    Column("secret_sealed", LargeBinary, nullable=False),
    Column("state", Text, nullable=False),  # enabled | disabled
    Column("disabled_reason", Text),
    Column("created_at", _Time, nullable=False, server_default=_now),
    Column("updated_at", _Time, nullable=False, server_default=_now),
    Column("deleted_at", _Time),
    Index("ix_webhook_endpoints_list", "project_id", "created_at", "id"),  # GET /webhooks, publish
)

messages = Table(
    # The outbox: one row, one webhook-id. The payload is the very bytes that are signed and sent.
    "messages",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("project_id", ForeignKey("projects.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("calendar_id", Uuid),
    Column("trigger", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("created_at", _Time, nullable=False, server_default=_now),
    Index("ix_messages_created", "created_at"),  # retention
)

deliveries = Table(
    # One message for one endpoint. A claim moves next_attempt_at forward: what is still pending has failed.
    "deliveries",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("project_id", Uuid, nullable=False),
    Column("message_id", ForeignKey("messages.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("endpoint_id", ForeignKey("webhook_endpoints.id", ondelete="CASCADE"), nullable=False),
    Column("calendar_id", Uuid),
    Column("trigger", Text, nullable=False),
    Column("state", Text, nullable=False),  # pending | succeeded | failed
    Column("attempt_count", Integer, nullable=False, server_default=_zero),
    Column("next_attempt_at", _Time),
    Column("fence", BigInteger, nullable=False, server_default=_zero),
    Column("created_at", _Time, nullable=False, server_default=_now),
    Column("updated_at", _Time, nullable=False, server_default=_now),
    CheckConstraint("(state = 'pending') = (next_attempt_at IS NOT NULL)", name="due_while_pending"),
    Index("ix_deliveries_due", "next_attempt_at", postgresql_where=text("state = 'pending'")),  # claim
    Index("ix_deliveries_list", "project_id", "created_at", "id"),  # GET /webhook_deliveries
    Index("ix_deliveries_endpoint", "endpoint_id", "created_at"),  # webhook_id filter
    Index(  # deleting a calendar drops what was not yet sent
        "ix_deliveries_calendar",
        "calendar_id",
        postgresql_where=text("state = 'pending'"),
    ),
    postgresql_with={"fillfactor": "70"},
)

delivery_attempts = Table(
    "delivery_attempts",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("delivery_id", ForeignKey("deliveries.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("at", _Time, nullable=False),
    Column("status", Integer),
    Column("error", Text),
    Column("phases_ms", JSONB, nullable=False),
    Column("address", Text),
    Column("response_body", Text),
)

idempotency_keys = Table(
    # The first answer to a POST with an Idempotency-Key, sealed; written in the request's own transaction.
    "idempotency_keys",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("project_id", ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
    Column("scope_hash", LargeBinary, nullable=False),  # method, path and key
    Column("body_hash", LargeBinary, nullable=False),
    Column("status", Integer, nullable=False),
    Column("response_sealed", LargeBinary, nullable=False),
    Column("created_at", _Time, nullable=False, server_default=_now),
    UniqueConstraint("project_id", "scope_hash"),
    Index("ix_idempotency_keys_created", "created_at"),  # retention
)
