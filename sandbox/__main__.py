"""`python -m sandbox`: both providers and a webhook receiver on loopback ports, until SIGTERM or Ctrl-C."""

import argparse
import asyncio
import contextlib
import json
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from sandbox import Sandbox
from sandbox.seed import seed
from sandbox.sink import Sink


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m sandbox", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (loopback by default)")
    parser.add_argument("--port", type=int, default=0, help="port of the providers; 0 takes a free one")
    parser.add_argument("--sink-port", type=int, default=0, help="port of the webhook receiver; 0 takes a free one")
    parser.add_argument("--seed", action="store_true", help="begin with two calendars at each provider")
    parser.add_argument("--ready-file", type=Path, help="also write the ready line to this file")
    asyncio.run(run(parser.parse_args()))


async def run(options: argparse.Namespace) -> None:
    """Serve both; one line of JSON on stdout says where, once they answer."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with httpx.AsyncClient(trust_env=False) as client:
        box = Sandbox.create(push_client=client, on_socket=True)
        ready: dict[str, Any] = seed(box.world, providers=("google", "microsoft")) if options.seed else {}
        sink = Sink()
        servers = [_Server(box.app, options.host, options.port), _Server(sink.app, options.host, options.sink_port)]
        tasks = [asyncio.create_task(server.serve(sockets=[server.listener])) for server in servers]
        await asyncio.gather(*(server.ready.wait() for server in servers))
        line = json.dumps({"url": servers[0].url, "sink_url": servers[1].url, **ready})
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
        if options.ready_file is not None:
            options.ready_file.write_text(line)
        await stop.wait()
        await box.close()
        for server in servers:
            server.should_exit = True
        await asyncio.gather(*tasks)


class _Server(uvicorn.Server):
    """uvicorn on a socket of ours, without handlers of its own for signals."""

    def __init__(self, app: Any, host: str, port: int) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                lifespan="off",
                timeout_graceful_shutdown=1,
                date_header=False,  # the answers bring the sandbox's own
            )
        )
        self.ready = asyncio.Event()
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind((host, port))
        self.url = f"http://{host}:{self.listener.getsockname()[1]}"

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Say when it answers."""
        await super().startup(sockets=sockets)
        self.ready.set()

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]
        """Signals belong to `run`."""
        yield


main()
