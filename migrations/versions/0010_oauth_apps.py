"""OAuth apps as objects of their own: name, tenant, secrets that expire

Revision: 0010, after 0009
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)
_APP_COLUMNS = ("name", "tenant", "is_implicit", "retry_since", "updated_at", "deleted_at")


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.add_column("oauth_apps", sa.Column("name", sa.Text()))
    op.add_column("oauth_apps", sa.Column("tenant", sa.Text()))
    op.add_column("oauth_apps", sa.Column("is_implicit", sa.Boolean(), nullable=False, server_default=sa.text("true")))
    op.add_column("oauth_apps", sa.Column("retry_since", _TIME))
    op.add_column(
        "oauth_apps",
        sa.Column("updated_at", _TIME, nullable=False, server_default=sa.text("clock_timestamp()")),
    )
    op.add_column("oauth_apps", sa.Column("deleted_at", _TIME))
    op.execute("UPDATE oauth_apps SET updated_at = created_at")
    op.create_index("ix_oauth_apps_list", "oauth_apps", ["project_id", "created_at", "id"])
    op.create_index("ix_oauth_apps_retry", "oauth_apps", ["id"], postgresql_where=sa.text("retry_since IS NOT NULL"))
    op.add_column(
        "oauth_app_secrets",
        sa.Column("offered_at", _TIME, nullable=False, server_default=sa.text("clock_timestamp()")),
    )
    # As what they were: candidates that nobody has judged, or not.
    op.execute("UPDATE oauth_app_secrets SET offered_at = least(created_at, last_worked_at, refused_at)")
    op.add_column("oauth_app_secrets", sa.Column("expires_at", _TIME))
    op.add_column("oauth_app_secrets", sa.Column("warn_at", _TIME))
    op.create_index(
        "ix_oauth_app_secrets_warn",
        "oauth_app_secrets",
        ["warn_at"],
        postgresql_where=sa.text("warn_at IS NOT NULL"),
    )
    op.create_index("ix_calendars_oauth_app", "calendars", ["oauth_app_id", "created_at", "id"])
    op.drop_index("ix_calendars_oauth_app_id", "calendars")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_index("ix_calendars_oauth_app_id", "calendars", ["oauth_app_id"])
    op.drop_index("ix_calendars_oauth_app", "calendars")
    op.drop_column("oauth_app_secrets", "warn_at")
    op.drop_column("oauth_app_secrets", "expires_at")
    op.drop_column("oauth_app_secrets", "offered_at")
    op.drop_index("ix_oauth_apps_retry", "oauth_apps")
    op.drop_index("ix_oauth_apps_list", "oauth_apps")
    for column in _APP_COLUMNS:
        op.drop_column("oauth_apps", column)
