"""The embedded pair, started for real in a directory of the test's own."""

import os
import signal
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg
import pytest
from redis import Redis

from app import embedded


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A clone's root: a closed directory, with a space in its name."""
    path = tmp_path / "my clone"
    path.mkdir(mode=0o700)
    yield path
    embedded.discard(path)


def _modes(path: Path) -> dict[Path, int]:
    return {above: stat.S_IMODE(above.stat().st_mode) for above in [path, *path.parents]}


async def _query(addresses: embedded.Addresses, sql: str) -> object:
    connection = await asyncpg.connect(addresses.database_url)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


def _postmaster(root: Path) -> int:
    pid_file = root / ".punctual" / "postgres" / "data" / "postmaster.pid"
    return int(pid_file.read_text().split("\n", 1)[0])


async def test_both_answer_at_their_addresses_until_stopped(root: Path) -> None:
    assert embedded.status(root) is None

    addresses = embedded.start(root, durable=False)

    assert embedded.status(root) == addresses
    assert await _query(addresses, "SELECT current_database()") == "punctual"
    with Redis.from_url(addresses.redis_url) as redis:
        assert redis.ping()
    embedded.stop(root)
    assert embedded.status(root) is None
    embedded.stop(root)  # again: nothing to do


async def test_data_and_addresses_survive_a_restart(root: Path) -> None:
    before = embedded.start(root)
    assert await _query(before, "SELECT current_setting('fsync')") == "on"
    assert embedded.MEMORY not in (root / ".punctual" / "postgres").resolve().parents
    await _query(before, "CREATE TABLE kept AS SELECT 42 AS answer")
    embedded.stop(root)

    after = embedded.start(root)

    assert after == before
    assert await _query(after, "SELECT answer FROM kept") == 42


async def test_killed_servers_start_again(root: Path) -> None:
    before = embedded.start(root, durable=False)
    await _query(before, "CREATE TABLE kept AS SELECT 42 AS answer")
    os.kill(_postmaster(root), signal.SIGKILL)
    os.kill(int((root / ".punctual" / "valkey" / "pid").read_text()), signal.SIGKILL)
    assert embedded.status(root) is None

    after = embedded.start(root, durable=False)

    assert await _query(after, "SELECT answer FROM kept") == 42


def test_callers_at_once_get_the_same_pair(root: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda _: embedded.start(root, durable=False), range(3)))

    assert len(set(answers)) == 1


def test_a_remembered_pid_is_nobodys_until_it_answers(root: Path) -> None:
    """Files of a former life name this very process; it must neither be signalled nor taken for a server."""
    embedded.start(root, durable=False)
    postmaster = root / ".punctual" / "postgres" / "data" / "postmaster.pid"
    after_the_pid = postmaster.read_text().split("\n", 1)[1]
    embedded.stop(root)
    postmaster.write_text(f"{os.getpid()}\n{after_the_pid}")
    (root / ".punctual" / "valkey" / "pid").write_text(str(os.getpid()))

    embedded.stop(root)
    assert embedded.status(root) is None
    addresses = embedded.start(root, durable=False)

    assert embedded.status(root) == addresses


def test_it_stays_within_its_own_directories(root: Path) -> None:
    """No directory above the clone changes its mode, the socket's is closed to others, `discard` leaves nothing."""
    before = _modes(root)

    addresses = embedded.start(root, durable=False)

    assert _modes(root) == before
    sockets = Path(unquote(parse_qs(urlsplit(addresses.database_url).query)["host"][0]))
    assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
    places = [(root / ".punctual" / name).resolve() for name in ("postgres", "valkey")]
    assert all(place.exists() for place in places)
    embedded.discard(root)
    assert not any(place.exists() for place in places)
    assert embedded.status(root) is None
