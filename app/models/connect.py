"""Hosted connect: links that an application made, and the browsers that followed them to a provider."""

from sqlalchemy import Column, ForeignKey, Index, LargeBinary, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from app.models.base import NOW, TIME, metadata

connect_links = Table(
    # Good for one calendar, until it expires. The token in its address is stored as a hash alone.
    "connect_links",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("project_id", ForeignKey("projects.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("oauth_app_id", ForeignKey("oauth_apps.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("token_hash", LargeBinary, nullable=False, unique=True),
    Column("return_url", Text, nullable=False),
    Column("state", Text),
    Column("login_hint", Text),
    Column("calendar_id", ForeignKey("calendars.id", ondelete="CASCADE"), index=True),  # to reconnect; null: a new one
    Column("platform_uuid", Text),
    Column("metadata", JSONB),
    Column("deduplication_key", Text),
    Column("last_error", Text),  # why the latest consent came to nothing: the page says so when it is opened again
    Column("connected_id", Uuid),  # the calendar that used the link up
    Column("used_at", TIME),
    Column("expires_at", TIME, nullable=False),
    Column("created_at", TIME, nullable=False, server_default=NOW),
    Index("ix_connect_links_expires", "expires_at"),  # retention
)

consents = Table(
    # One browser's way to the provider and back. `state` and the cookie are stored as hashes, the verifier sealed.
    "consents",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("link_id", ForeignKey("connect_links.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("state_hash", LargeBinary, nullable=False, unique=True),
    Column("cookie_hash", LargeBinary, nullable=False),
    Column("verifier_sealed", LargeBinary, nullable=False),
    Column("redeeming_until", TIME),  # a lease: its code has been sent to the provider, which takes it once
    Column("outcome", Text),  # connected, or the error that the application was told
    Column("created_at", TIME, nullable=False, server_default=NOW),
)
