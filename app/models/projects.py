"""Projects, their keys, and the answers that they may ask for twice."""

from sqlalchemy import (
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from app.models.base import NOW, TIME, metadata

projects = Table(
    "projects",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    Column("meeting_preferences", JSONB),  # {platforms, extra_hosts}; null: none
    Column("internal_domains", ARRAY(Text), nullable=False, server_default=text("'{}'")),  # whose people are not guests
    Column("created_at", TIME, nullable=False, server_default=NOW),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("project_id", ForeignKey("projects.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("secret_hash", LargeBinary, nullable=False),
    Column("created_at", TIME, nullable=False, server_default=NOW),
    Column("revoked_at", TIME),
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
    Column("created_at", TIME, nullable=False, server_default=NOW),
    UniqueConstraint("project_id", "scope_hash"),
    Index("ix_idempotency_keys_created", "created_at"),  # retention
)
