"""Projects, their keys, what was done with these, and the answers that they may ask for twice."""

from sqlalchemy import (
    CheckConstraint,
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
from sqlalchemy.dialects.postgresql import ARRAY, INET, JSONB

from app.models.base import NOW, TIME, metadata

projects = Table(
    "projects",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    Column("meeting_preferences", JSONB),  # {platforms, extra_hosts}; null: none
    Column("internal_domains", ARRAY(Text), nullable=False, server_default=text("'{}'")),  # whose people are not guests
    Column("retention_days", Integer),  # null: the server's
    Column("reads_per_minute", Integer),  # set by the operator; null: the server's, 0: no limit
    Column("writes_per_minute", Integer),
    Column("return_urls", ARRAY(Text), nullable=False, server_default=text("'{}'")),  # where hosted connect leads back
    Column("created_at", TIME, nullable=False, server_default=NOW),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("project_id", ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
    Column("name", Text, nullable=False),
    Column("scope", Text, nullable=False),  # read, write, admin: each holds those before it
    Column("secret_hash", LargeBinary, nullable=False),
    Column("created_at", TIME, nullable=False, server_default=NOW),
    Column("expires_at", TIME),
    Column("revoked_at", TIME),
    Column("last_used_at", TIME),  # to the minute
    CheckConstraint("scope IN ('read', 'write', 'admin')", name="scope"),
    Index("ix_api_keys_list", "project_id", "created_at", "id"),  # GET /api_keys
)

audit_log = Table(
    # What was done, by which key. An entry stands in the transaction of what it tells.
    "audit_log",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("project_id", ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
    Column("at", TIME, nullable=False),
    Column("key_id", Uuid),  # null: by the command line. No reference: an entry outlives its key
    Column("action", Text, nullable=False),
    Column("object_id", Text),  # as the API shows it
    Column("ip", INET),
    Column("changes", ARRAY(Text), nullable=False),  # names of fields, never values
    Index("ix_audit_log_list", "project_id", "at", "id"),  # GET /audit_log, retention
    Index("ix_audit_log_object", "project_id", "object_id", "at", "id"),  # object_id filter
    Index("ix_audit_log_key", "project_id", "key_id", "at", "id"),  # key_id filter
    Index("ix_audit_log_action", "project_id", "action", "at", "id"),  # action filter
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
