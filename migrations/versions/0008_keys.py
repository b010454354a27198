"""scopes, expiry and last use of keys, the audit log, limits and retention of a project

Revision: 0008, after 0007
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)
_OF_PROJECTS = ("retention_days", "reads_per_minute", "writes_per_minute")


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for name in _OF_PROJECTS:
        op.add_column("projects", sa.Column(name, sa.Integer()))
    # Until now every key could do everything.
    op.add_column("api_keys", sa.Column("name", sa.Text(), nullable=False, server_default="unnamed"))
    op.add_column("api_keys", sa.Column("scope", sa.Text(), nullable=False, server_default="admin"))
    for name in ("name", "scope"):
        op.alter_column("api_keys", name, server_default=None)
    for name in ("expires_at", "last_used_at"):
        op.add_column("api_keys", sa.Column(name, _TIME))
    op.create_check_constraint(op.f("ck_api_keys_scope"), "api_keys", "scope IN ('read', 'write', 'admin')")
    op.create_index("ix_api_keys_list", "api_keys", ["project_id", "created_at", "id"])
    op.drop_index("ix_api_keys_project_id", "api_keys")
    op.create_table(
        "audit_log",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("key_id", sa.Uuid()),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("object_id", sa.Text()),
        sa.Column("ip", postgresql.INET()),
        sa.Column("changes", sa.ARRAY(sa.Text()), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_audit_log_project_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_audit_log"),
    )
    op.create_index("ix_audit_log_list", "audit_log", ["project_id", "at", "id"])
    op.create_index("ix_audit_log_object", "audit_log", ["project_id", "object_id", "at", "id"])
    op.create_index("ix_audit_log_key", "audit_log", ["project_id", "key_id", "at", "id"])
    op.create_index("ix_audit_log_action", "audit_log", ["project_id", "action", "at", "id"])


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_table("audit_log")
    op.create_index("ix_api_keys_project_id", "api_keys", ["project_id"])
    op.drop_index("ix_api_keys_list", "api_keys")
    op.drop_constraint(op.f("ck_api_keys_scope"), "api_keys")
    # The release before would let these do everything, for ever.
    op.execute(
        "UPDATE api_keys SET revoked_at = app_now()"
        " WHERE revoked_at IS NULL AND (scope <> 'admin' OR expires_at IS NOT NULL)"
    )
    for name in ("name", "scope", "expires_at", "last_used_at"):
        op.drop_column("api_keys", name)
    for name in _OF_PROJECTS:
        op.drop_column("projects", name)
