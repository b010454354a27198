"""PostgreSQL, Redis and a template for processes that play examples without pytest."""

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from app import embedded
from tests.databases import make_template


def silence() -> None:
    """The examples provoke every warning there is: say none of them."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.disable(logging.CRITICAL)


@contextmanager
def services() -> Iterator[None]:
    """As given by DATABASE_URL and REDIS_URL, else embedded ones that go with the block. Children find them too."""
    if "PUNCTUAL_TEST_TEMPLATE" in os.environ:
        yield
        return
    home = None
    if "DATABASE_URL" not in os.environ or "REDIS_URL" not in os.environ:
        home = Path(tempfile.mkdtemp(prefix="punctual-properties-"))
        addresses = embedded.start(home, durable=False)
        os.environ["DATABASE_URL"], os.environ["REDIS_URL"] = addresses.database_url, addresses.redis_url
    try:
        os.environ["PUNCTUAL_TEST_TEMPLATE"] = make_template(os.environ["DATABASE_URL"])
        yield
    finally:
        if home is not None:
            embedded.discard(home)
            shutil.rmtree(home, ignore_errors=True)
