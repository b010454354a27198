"""Calendars, the access to them, and when each is asked."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from app.models.base import FALSE, NOW, TIME, ZERO, metadata

oauth_apps = Table(
    "oauth_apps",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("project_id", ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
    Column("platform", Text, nullable=False),
    Column("client_id", Text, nullable=False),
    Column("name", Text),
    Column("tenant", Text),  # of Microsoft; null = the setting's
    Column("is_implicit", Boolean, nullable=False, server_default=text("true")),  # made by calendars that brought it
    Column("retry_since", TIME),  # calendars that it failed until then are to be tried now; null = none are
    # An incident: the provider refuses the app itself. Told once, over with the first success.
    Column("failing_since", TIME),
    Column("failing_told_at", TIME),
    Column("failing_code", Text),
    Column("failing_detail", Text),
    Column("created_at", TIME, nullable=False, server_default=NOW),
    Column("updated_at", TIME, nullable=False, server_default=NOW),
    Column("deleted_at", TIME),  # stays until the last of its calendars, deleted too, is wiped
    UniqueConstraint("project_id", "platform", "client_id"),
    Index("ix_oauth_apps_list", "project_id", "created_at", "id"),  # GET /oauth_apps
    Index("ix_oauth_apps_retry", "id", postgresql_where=text("retry_since IS NOT NULL")),  # retry sweep
)

oauth_app_secrets = Table(
    # A secret is a candidate until it is judged; a working one is never replaced by one that failed.
    "oauth_app_secrets",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("oauth_app_id", ForeignKey("oauth_apps.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("secret_sealed", LargeBinary, nullable=False),
    Column("created_at", TIME, nullable=False, server_default=NOW),
    Column("offered_at", TIME, nullable=False, server_default=NOW),  # when it was last sent as the one to use
    Column("last_worked_at", TIME),
    Column("refused_at", TIME),
    Column("expires_at", TIME),  # as its owner says
    Column("warn_at", TIME),  # the next warning of that; null = none is left
    Index("ix_oauth_app_secrets_warn", "warn_at", postgresql_where=text("warn_at IS NOT NULL")),  # warning sweep
)

calendars = Table(
    "calendars",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("project_id", ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
    Column("oauth_app_id", ForeignKey("oauth_apps.id"), nullable=False),
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
    Column("last_change_seq", BigInteger, nullable=False, server_default=ZERO),
    Column("last_event_updated_at", TIME),
    Column("feed_floor", BigInteger, nullable=False, server_default=ZERO),
    Column("is_greeting_due", Boolean, nullable=False, server_default=text("true")),  # first message of a connection
    Column("created_at", TIME, nullable=False, server_default=NOW),
    Column("updated_at", TIME, nullable=False, server_default=NOW),
    Column("deleted_at", TIME),
    Column("wipe_not_before", TIME),
    Index("ix_calendars_list", "project_id", "created_at", "id"),  # GET /calendars
    Index("ix_calendars_email", "project_id", text("lower(email)")),  # email filter
    Index("ix_calendars_oauth_app", "oauth_app_id", "created_at", "id"),  # … of one app; is an app used?
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
    Column("access_token_expires_at", TIME),
    Column("lease_until", TIME),
    Column("lease_fence", BigInteger, nullable=False, server_default=ZERO),
)

sync_state = Table(
    # The queue of syncs: a row is due while requested_seq > synced_seq. Narrow and hot; nothing else locks it.
    "sync_state",
    metadata,
    Column("calendar_id", ForeignKey("calendars.id", ondelete="CASCADE"), primary_key=True),
    # The calendar's: due rows are shared out between apps.
    Column("oauth_app_id", Uuid, nullable=False, server_default=text("'00000000-0000-0000-0000-000000000000'")),
    Column("requested_seq", BigInteger, nullable=False, server_default=ZERO),
    Column("asked_seq", BigInteger, nullable=False, server_default=ZERO),  # last request that was not the clock's
    Column("pushed_seq", BigInteger, nullable=False, server_default=ZERO),  # last request that was a push
    Column("synced_seq", BigInteger, nullable=False, server_default=ZERO),
    Column("full_requested_seq", BigInteger, nullable=False, server_default=ZERO),  # list anew while > synced_seq
    Column("first_requested_at", TIME),  # opens the coalescing window; null = none open
    Column("due_at", TIME, nullable=False, server_default=text("'-infinity'")),
    Column("is_priority", Boolean, nullable=False, server_default=FALSE),
    Column("not_before", TIME, nullable=False, server_default=text("'-infinity'")),  # set by failed runs only
    Column("is_deferral", Boolean, nullable=False, server_default=FALSE),  # not_before is the provider's Retry-After
    Column("lease_until", TIME),
    Column("fence", BigInteger, nullable=False, server_default=ZERO),
    Column("cursor", Text),
    Column("cursor_version", BigInteger, nullable=False, server_default=ZERO),
    Column("window_start", TIME),
    Column("window_end", TIME),
    Column("anchor_due_at", TIME, nullable=False, server_default=text("'-infinity'")),  # when the window rolls
    Column("poll_due_at", TIME, nullable=False, server_default=text("'infinity'")),
    Column("lag_step", SmallInteger, nullable=False, server_default=ZERO),  # a push found nothing: look 1, look 2
    Column("audit_found_count", BigInteger, nullable=False, server_default=ZERO),  # changes that no push told of
    Column("last_attempted_sync_at", TIME),
    Column("last_successful_sync_at", TIME),
    Column("last_notification_at", TIME),
    Column("failure_count", Integer, nullable=False, server_default=ZERO),
    Column("failure_code", Text),
    Column("failing_since", TIME),
    Column("suspect_code", Text),  # first sighting of calendar_gone or access_lost, to be confirmed
    Column("health_status", Text, nullable=False, server_default=text("'healthy'")),  # as last told
    Column("health_changed_at", TIME),
    Column("watch_not_before", TIME, nullable=False, server_default=text("'-infinity'")),
    Column("watch_failure_count", Integer, nullable=False, server_default=ZERO),
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
    Column("expires_at", TIME),
    Column("renew_at", TIME),
    Column("stop_not_before", TIME),
    Column("created_at", TIME, nullable=False, server_default=NOW),
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
