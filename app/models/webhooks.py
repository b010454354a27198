"""Endpoints, the outbox, deliveries and their attempts."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from app.models.base import NOW, TIME, ZERO, metadata

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
    Column("created_at", TIME, nullable=False, server_default=NOW),
    Column("updated_at", TIME, nullable=False, server_default=NOW),
    Column("deleted_at", TIME),
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
    Column("created_at", TIME, nullable=False, server_default=NOW),
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
    Column("attempt_count", Integer, nullable=False, server_default=ZERO),
    Column("next_attempt_at", TIME),
    Column("fence", BigInteger, nullable=False, server_default=ZERO),
    Column("created_at", TIME, nullable=False, server_default=NOW),
    Column("updated_at", TIME, nullable=False, server_default=NOW),
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
    Column("at", TIME, nullable=False),
    Column("status", Integer),
    Column("error", Text),
    Column("phases_ms", JSONB, nullable=False),
    Column("address", Text),
    Column("response_body", Text),
)
