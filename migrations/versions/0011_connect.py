"""hosted connect: links, consents, return addresses

Revision: 0011, after 0010
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)
_NOW = sa.text("clock_timestamp()")


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.add_column(
        "projects", sa.Column("return_urls", sa.ARRAY(sa.Text()), nullable=False, server_default=sa.text("'{}'"))
    )
    op.create_table(
        "connect_links",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("oauth_app_id", sa.Uuid(), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("return_url", sa.Text(), nullable=False),
        sa.Column("state", sa.Text()),
        sa.Column("login_hint", sa.Text()),
        sa.Column("calendar_id", sa.Uuid()),
        sa.Column("platform_uuid", sa.Text()),
        sa.Column("metadata", sa.dialects.postgresql.JSONB()),
        sa.Column("deduplication_key", sa.Text()),
        sa.Column("last_error", sa.Text()),
        sa.Column("connected_id", sa.Uuid()),
        sa.Column("used_at", _TIME),
        sa.Column("expires_at", _TIME, nullable=False),
        sa.Column("created_at", _TIME, nullable=False, server_default=_NOW),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name="fk_connect_links_project_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["oauth_app_id"], ["oauth_apps.id"], name="fk_connect_links_oauth_app_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["calendar_id"], ["calendars.id"], name="fk_connect_links_calendar_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_connect_links"),
        sa.UniqueConstraint("token_hash", name="uq_connect_links_token_hash"),
    )
    op.create_index("ix_connect_links_project_id", "connect_links", ["project_id"])
    op.create_index("ix_connect_links_oauth_app_id", "connect_links", ["oauth_app_id"])
    op.create_index("ix_connect_links_calendar_id", "connect_links", ["calendar_id"])
    op.create_index("ix_connect_links_expires", "connect_links", ["expires_at"])
    op.create_table(
        "consents",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("link_id", sa.Uuid(), nullable=False),
        sa.Column("state_hash", sa.LargeBinary(), nullable=False),
        sa.Column("cookie_hash", sa.LargeBinary(), nullable=False),
        sa.Column("verifier_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("redeeming_until", _TIME),
        sa.Column("outcome", sa.Text()),
        sa.Column("created_at", _TIME, nullable=False, server_default=_NOW),
        sa.ForeignKeyConstraint(["link_id"], ["connect_links.id"], name="fk_consents_link_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_consents"),
        sa.UniqueConstraint("state_hash", name="uq_consents_state_hash"),
    )
    op.create_index("ix_consents_link_id", "consents", ["link_id"])


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_table("consents")
    op.drop_table("connect_links")
    op.drop_column("projects", "return_urls")
