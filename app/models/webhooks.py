"""Endpoints, the outbox, deliveries and their attempts."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from app.models.base import FALSE, NOW, TIME, ZERO, metadata

webhook_endpoints = Table(
    "webhook_endpoints",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("project_id", ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
    Column("url", Text, nullable=False),
    Column("triggers", ARRAY(Text), nullable=False),
    Column("metadata", JSONB),
    Column("secret_sealed", LargeBinary, nullable=False),
    Column("signature", Text, nullable=False, server_default=text("'v1'")),  # v1 | v1a
    Column("public_key", Text),  # of v1a
    Column("headers_sealed", LargeBinary),  # the customer's own headers: a JSON object
    Column("header_names", ARRAY(Text)),
    Column("retry_seconds", ARRAY(Double)),  # waits between attempts; null: DELIVERY_RETRY_SECONDS
    Column("rate_limit", Integer),  # attempts a second
    Column("is_ordered", Boolean, nullable=False, server_default=FALSE),
    Column("state", Text, nullable=False),  # enabled | failing | disabled
    Column("disabled_reason", Text),
    Column("failure_count", Integer, nullable=False, server_default=ZERO),  # attempts since the last success
    Column("failing_since", TIME),  # the first of them
    Column("paused_until", TIME),  # no attempt before: throttled, or the breaker is open
    Column("pause_count", Integer, nullable=False, server_default=ZERO),  # in a row
    Column("next_slot_at", TIME),  # rate_limit: when a further attempt is in time
    Column("created_at", TIME, nullable=False, server_default=NOW),
    Column("updated_at", TIME, nullable=False, server_default=NOW),
    Column("deleted_at", TIME),
    Index("ix_webhook_endpoints_list", "project_id", "created_at", "id"),  # GET /webhooks, publish
)

webhook_secrets = Table(
    # Secrets that were rotated out and sign still, beside the endpoint's own.
    "webhook_secrets",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("endpoint_id", ForeignKey("webhook_endpoints.id", ondelete="CASCADE"), nullable=False),
    Column("secret_sealed", LargeBinary, nullable=False),
    Column("expires_at", TIME, nullable=False),
    Column("created_at", TIME, nullable=False, server_default=NOW),
    Index("ix_webhook_secrets_endpoint", "endpoint_id", "created_at"),  # claim
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
    Column("from_seq", BigInteger),  # of the calendar's feed, both ends inclusive
    Column("to_seq", BigInteger),
    Column("created_at", TIME, nullable=False, server_default=NOW),
    Index("ix_messages_created", "created_at"),  # retention
    Index("ix_messages_calendar", "calendar_id", "created_at"),  # calendar_id filter of deliveries, wiping a calendar
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
    Column("state", Text, nullable=False),  # pending | succeeded | failed | merged
    Column("seq", BigInteger, server_default=text("nextval('deliveries_seq')")),  # the order of publishing
    Column("lane", Uuid),  # the calendar, where the endpoint wants its messages in order
    Column("priority", SmallInteger, nullable=False, server_default=ZERO),  # -1: a launch, 0: a first attempt, 1: other
    Column(
        "is_claimed", Boolean, nullable=False, server_default=FALSE
    ),  # and under way, while next_attempt_at is ahead
    Column("is_digest", Boolean, nullable=False, server_default=FALSE),
    Column("merged_count", Integer, nullable=False, server_default=ZERO),  # messages in the digest
    Column("attempt_count", Integer, nullable=False, server_default=ZERO),
    Column("next_attempt_at", TIME),
    Column("fence", BigInteger, nullable=False, server_default=ZERO),
    Column("created_at", TIME, nullable=False, server_default=NOW),
    Column("updated_at", TIME, nullable=False, server_default=NOW),
    CheckConstraint("(state = 'pending') = (next_attempt_at IS NOT NULL)", name="due_while_pending"),
    Index("ix_deliveries_due", "priority", "next_attempt_at", postgresql_where=text("state = 'pending'")),  # claim
    Index(  # who is next in a lane
        "ix_deliveries_lane",
        "endpoint_id",
        "lane",
        "seq",
        postgresql_where=text("state = 'pending' AND lane IS NOT NULL"),
    ),
    Index("ix_deliveries_list", "project_id", "created_at", "id"),  # GET /webhook_deliveries
    Index("ix_deliveries_endpoint", "endpoint_id", "created_at"),  # webhook_id filter
    Index(  # state filter, replay: what is rare in a long log
        "ix_deliveries_state",
        "project_id",
        "state",
        "created_at",
        "id",
        postgresql_where=text("state IN ('failed', 'merged')"),
    ),
    Index(  # trigger filter, likewise
        "ix_deliveries_trigger",
        "project_id",
        "trigger",
        "created_at",
        "id",
        postgresql_where=text("trigger <> 'calendar.events_update'"),
    ),
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
    Column("at", TIME, nullable=False),
    Column("status", Integer),
    Column("error", Text),
    Column("phases_ms", JSONB, nullable=False),
    Column("address", Text),
    Column("response_body", Text),
)

delivery_gaps = Table(
    # The changes of a calendar, both ends inclusive, that an endpoint may lack: its next digest begins with the oldest.
    "delivery_gaps",
    metadata,
    Column("endpoint_id", ForeignKey("webhook_endpoints.id", ondelete="CASCADE"), primary_key=True),
    Column("calendar_id", Uuid, primary_key=True),
    Column("from_seq", BigInteger, nullable=False),
    Column("to_seq", BigInteger, nullable=False),
)

replays = Table(
    # A range of the log that is being sent again, batch by batch; `position` is how far it has come.
    "replays",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("project_id", ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
    Column("endpoint_id", ForeignKey("webhook_endpoints.id", ondelete="CASCADE"), nullable=False),
    Column("created_at_gte", TIME, nullable=False),
    Column("created_at_lte", TIME, nullable=False),
    Column("states", ARRAY(Text), nullable=False),
    Column("triggers", ARRAY(Text)),
    Column("count", BigInteger, nullable=False),
    Column("done_count", BigInteger, nullable=False, server_default=ZERO),
    Column("position_at", TIME),
    Column("position_id", Uuid),
    Column("next_batch_at", TIME),
    Column("created_at", TIME, nullable=False, server_default=NOW),
    Column("finished_at", TIME),
    CheckConstraint("(next_batch_at IS NULL) = (finished_at IS NOT NULL)", name="due_until_finished"),
    Index("ix_replays_due", "next_batch_at", postgresql_where=text("next_batch_at IS NOT NULL")),
)
