"""What the tables share: names of constraints, the type of times, server defaults."""

from sqlalchemy import DateTime, MetaData, text

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

TIME = DateTime(timezone=True)
NOW = text("clock_timestamp()")
FALSE = text("false")
ZERO = text("0")
