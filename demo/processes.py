"""The service and its surroundings as child processes: started, awaited until they answer, stopped whatever happens.

`Stack` is one installation: the sandbox (provider and webhook receiver), the API, any number of workers, all on free
loopback ports and with an environment made here. Leaving its context ends every process that it started: SIGTERM, and
SIGKILL for what is still there `STOP_SECONDS` later. Children have sessions of their own, so a Ctrl-C in the terminal
reaches the parent alone, which then stops them in order. End-to-end tests use it too: `kill()` is kill -9.
"""

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import httpx

ROOT = Path(__file__).resolve().parent.parent
PUNCTUAL = Path(sys.executable).with_name("punctual")
START_SECONDS = 30.0
STOP_SECONDS = 20.0
"""`serve` and `work` promise to stop within this time."""
POLL_SECONDS = 0.02
TAIL_LINES = 12
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LOG_LEVEL", "PUNCTUAL_SECRET_KEYS")
"""Variables that a child gets from our own environment; every other one is named in `Stack.environment`."""

Condition = Callable[[], Awaitable[bool]]


class StackError(Exception):
    """A process did not start, ended by itself, or did not do what was waited for. The text is for people."""


class Process:
    """One child process and the file that has what it said."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.log = log
        self.process = process

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self.process.returncode is None

    @property
    def returncode(self) -> int | None:
        """Its exit status; negative: the signal that ended it; None while it runs."""
        return self.process.returncode

    def said(self) -> str:
        """All that it has written so far."""
        try:
            return self.log.read_text(errors="replace")
        except OSError:
            return ""

    def failure(self, what: str) -> StackError:
        """An error about this process, with the end of its log."""
        tail = "\n".join(f"    {line[:400]}" for line in self.said().splitlines()[-TAIL_LINES:])
        return StackError(
            f"{self.name}: {what}; its log is {_shown(self.log)}" + (f", which ends:\n{tail}" if tail else "")
        )

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it still runs."""
        if self.is_running:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)


class Stack:
    """One installation of the service beside its sandbox. Use as an async context manager."""

    def __init__(
        self,
        *,
        database_url: str,
        redis_url: str,
        logs: Path,
        settings: Mapping[str, str] | None = None,
        ports: Mapping[str, int] | None = None,
    ) -> None:
        """`settings`: variables of `app.settings` for the API and every worker, over those made here.

        `ports` by name (`api`, `sandbox`, `sink`) are taken if they are free, else any others are.
        """
        self.api_url, self.sandbox_url, self.sink_url = (
            f"http://127.0.0.1:{free_port((ports or {}).get(name))}" for name in ("api", "sandbox", "sink")
        )
        self._database_url = database_url
        self._redis_url = redis_url
        self._logs = logs
        self._settings = dict(settings or {})
        self._expected_to_run: list[Process] = []
        self._started: list[Process] = []
        self._apis = 0
        self.api: Process | None = None
        self.sandbox: Process | None = None
        self.workers: list[Process] = []

    async def __aenter__(self) -> Self:
        for directory in (*reversed(self._logs.parents), self._logs):
            directory.mkdir(mode=0o700, exist_ok=True)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop(*self._started)

    # --- starting ---

    async def start(self, *, workers: int = 1, is_migrated: bool = False) -> None:
        """Everything: sandbox and schema, unless the database has it, then API and workers."""
        await asyncio.gather(self.start_sandbox(), *([] if is_migrated else [self.migrate()]))
        await asyncio.gather(self.start_api(), *(self.start_worker() for _ in range(workers)))

    async def start_sandbox(self) -> Process:
        """The provider and the webhook receiver."""
        ports = [str(httpx.URL(url).port) for url in (self.sandbox_url, self.sink_url)]
        command = [sys.executable, "-m", "sandbox", "--port", ports[0], "--sink-port", ports[1]]
        self.sandbox = process = await self._spawn("sandbox", command, _inherited(), stdout=asyncio.subprocess.PIPE)
        ready = b""
        if process.process.stdout is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(START_SECONDS):
                    ready = await process.process.stdout.readline()
        if not ready:
            raise process.failure("did not start")
        return process

    async def migrate(self) -> None:
        """Bring the schema up to date."""
        await self.punctual("migrate")

    async def start_api(self) -> Process:
        """`punctual serve`, ready when it returns. Start the sandbox first: the service has to know where it is."""
        arguments = ["serve", "--host", "127.0.0.1", "--port", str(httpx.URL(self.api_url).port)]
        self._apis += 1
        name = "api" if self._apis == 1 else f"api-{self._apis}"  # each has a log of its own
        self.api = process = await self._spawn(name, [str(PUNCTUAL), *arguments], self.environment())
        async with http() as client:

            async def is_ready() -> bool:
                try:
                    return (await client.get(f"{self.api_url}/readyz")).status_code == httpx.codes.OK
                except httpx.TransportError:
                    return False

            await self.until(is_ready, seconds=START_SECONDS, what="the API to answer /readyz")
        return process

    async def start_worker(self, settings: Mapping[str, str] | None = None) -> Process:
        """One more `punctual work`, working when it returns."""
        name = f"worker-{len(self.workers) + 1}"
        process = await self._spawn(name, [str(PUNCTUAL), "work"], {**self.environment(), **(settings or {})})
        self.workers.append(process)

        async def has_started() -> bool:
            return "work.started" in process.said()

        await self.until(has_started, seconds=START_SECONDS, what=f"{name} to start working")
        return process

    async def start_module(self, name: str, *arguments: str) -> Process:
        """`python -m` one of this project's modules, configured as the service is; waits for nothing."""
        return await self._spawn(name, [sys.executable, "-m", *arguments], self.environment())

    def forget(self, process: Process) -> None:
        """From now on its end is no surprise."""
        if process in self._expected_to_run:
            self._expected_to_run.remove(process)

    async def punctual(self, *arguments: str) -> str:
        """Run a command of the service's command line to its end; what it printed."""
        name = f"punctual-{arguments[0]}"
        pipe = asyncio.subprocess.PIPE
        process = await self._spawn(name, [str(PUNCTUAL), *arguments], self.environment(), stdout=pipe)
        self.forget(process)
        try:
            async with asyncio.timeout(START_SECONDS):
                printed, _ = await process.process.communicate()
        except TimeoutError:
            raise process.failure(f"`punctual {' '.join(arguments)}` did not end") from None
        if process.returncode != 0:
            raise process.failure(f"`punctual {' '.join(arguments)}` ended with status {process.returncode}")
        return printed.decode()

    def environment(self) -> dict[str, str]:
        """What the service's processes are configured by."""
        made = {
            "ENVIRONMENT": "development",
            "DATABASE_URL": self._database_url,
            "REDIS_URL": self._redis_url,
            "PUBLIC_URL": self.api_url,
            "GOOGLE_API_URL": self.sandbox_url,
            "GOOGLE_TOKEN_URL": f"{self.sandbox_url}/token",
            "GOOGLE_AUTHORIZE_URL": f"{self.sandbox_url}/o/oauth2/v2/auth",
            "MICROSOFT_GRAPH_URL": self.sandbox_url,
            "MICROSOFT_LOGIN_URL": self.sandbox_url,
            "EGRESS_ALLOW": "127.0.0.0/8",
            "WEBHOOK_ALLOW_HTTP": "1",
        }
        return {**_inherited(), **made, **self._settings}

    # --- waiting ---

    async def until(self, condition: Condition, *, seconds: float, what: str) -> None:
        """Poll until the condition holds; StackError after so long, or as soon as a process has ended by itself."""
        deadline = time.monotonic() + seconds
        while not await condition():
            self.check()
            if time.monotonic() > deadline:
                raise StackError(f"waited {seconds:.0f} s for {what}, in vain; logs are in {_shown(self._logs)}")
            await asyncio.sleep(POLL_SECONDS)

    def check(self) -> None:
        """StackError if a process has ended that nobody ended."""
        for process in self._expected_to_run:
            if not process.is_running:
                raise process.failure(f"ended by itself with status {process.returncode}")

    async def watch(self) -> None:
        """Until cancelled, or until a process has ended that nobody ended: StackError."""
        await asyncio.wait(
            [asyncio.create_task(process.process.wait()) for process in self._expected_to_run],
            return_when=asyncio.FIRST_COMPLETED,
        )
        self.check()

    # --- stopping ---

    async def stop(self, *processes: Process, seconds: float = STOP_SECONDS) -> None:
        """SIGTERM, and SIGKILL for what still runs so many seconds later, or at once where this is cancelled."""
        for process in processes:
            self.forget(process)
            process.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(seconds):
                await asyncio.gather(*(process.process.wait() for process in processes))
        except TimeoutError:
            for process in processes:
                process.signal(signal.SIGKILL)
            await asyncio.gather(*(process.process.wait() for process in processes))
        finally:
            for process in processes:
                process.signal(signal.SIGKILL)

    async def kill(self, process: Process) -> None:
        """kill -9, and wait until it is gone."""
        self.forget(process)
        process.signal(signal.SIGKILL)
        await process.process.wait()

    # --- inside ---

    async def _spawn(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], *, stdout: int | None = None
    ) -> Process:
        log = self._logs / f"{name}.log"
        with _fresh(log) as file:
            child = await asyncio.create_subprocess_exec(
                *command,
                cwd=ROOT,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=file if stdout is None else stdout,
                stderr=file,
                start_new_session=True,
            )
        process = Process(name, child, log)
        self._started.append(process)
        self._expected_to_run.append(process)
        return process


@contextlib.asynccontextmanager
async def running(
    *,
    database_url: str,
    redis_url: str,
    logs: Path,
    settings: Mapping[str, str] | None = None,
    workers: int = 1,
    is_migrated: bool = False,
) -> AsyncIterator[Stack]:
    """A stack with everything started; `is_migrated`: the database has its schema."""
    async with Stack(database_url=database_url, redis_url=redis_url, logs=logs, settings=settings) as stack:
        await stack.start(workers=workers, is_migrated=is_migrated)
        yield stack


def http(**options: Any) -> httpx.AsyncClient:
    """A client for loopback: no proxy of the caller's environment comes between.

    It drops an idle connection before the server does: both take five seconds by default, and one of them loses.
    """
    limits = httpx.Limits(keepalive_expiry=2.0)
    return httpx.AsyncClient(trust_env=False, timeout=httpx.Timeout(10, read=40), limits=limits, **options)


def free_port(preferred: int | None = None) -> int:
    """A loopback port that nobody listens on right now: the preferred one if that is free.

    Others lie below the range from which systems take the near end of a connection, which could be faster.
    """
    for port in (preferred, *secrets.SystemRandom().sample(range(20_000, 32_000), 50)):
        if port is not None and _is_free(port):
            return port
    raise StackError("there is no free loopback port")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _inherited() -> dict[str, str]:
    return {name: os.environ[name] for name in INHERITED if name in os.environ}


def _fresh(log: Path) -> IO[bytes]:
    """A new file; whoever still writes to the old one keeps it."""
    log.unlink(missing_ok=True)
    return log.open("wb")


def _shown(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
