"""`punctual work`: the arq worker under a loop that outlives Redis, beside the loops that find work by rows."""

import asyncio
import contextlib
import signal
from typing import Any

import orjson
from arq import Worker
from arq.connections import ArqRedis
from arq.worker import func
from redis.asyncio import ConnectionPool
from redis.exceptions import RedisError

from app.queue import CLEAN_UP_JOB, QUEUE_NAME, SYNC_JOB
from app.runtime import Runtime, calm_collector, open_runtime
from app.settings import Settings
from app.telemetry import configure_logging, log, serve_metrics
from workers import jobs, loops, sweeps
from workers.dispatch import Dispatcher

STOP_SECONDS = 15.0
"""What is held is finished or released within this time after SIGTERM."""
_JOB_SECONDS = 330
_JOBS_MOST = 50


async def work(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT."""
    calm_collector()
    configure_logging(settings)
    serve_metrics(settings)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with open_runtime(settings, application="punctual work") as rt:
        await run(rt, stop)


async def run(rt: Runtime, stop: asyncio.Event) -> None:
    """All loops of one worker process until `stop` is set; then each finishes or releases what it holds."""
    log.info("work.started")
    dispatcher = Dispatcher(rt)
    tasks = [
        asyncio.create_task(loops.delivery_loop(rt, stop), name="delivery"),
        asyncio.create_task(loops.launching_loop(rt, stop), name="launching"),
        asyncio.create_task(dispatcher.run(stop), name="dispatch"),
        asyncio.create_task(sweeps.clock_loop(rt, stop), name="clock"),
        asyncio.create_task(sweeps.channels_loop(rt, stop), name="channels"),
        asyncio.create_task(sweeps.deletions_loop(rt, stop), name="deletions"),
        asyncio.create_task(sweeps.replays_loop(rt, stop), name="replays"),
        asyncio.create_task(sweeps.checks_loop(rt, stop), name="checks"),
        asyncio.create_task(sweeps.rules_loop(rt, stop), name="rules"),
        asyncio.create_task(sweeps.retention_loop(rt, stop), name="retention"),
        asyncio.create_task(_arq_loop(rt, dispatcher, stop), name="arq"),
    ]
    stopping = asyncio.create_task(stop.wait(), name="stop")
    waited: list[asyncio.Task[Any]] = [*tasks, stopping]
    done, _ = await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
    stop.set()
    stopping.cancel()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(STOP_SECONDS):
            await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    log.info("work.stopped")
    for task in done - {stopping}:
        task.result()


async def _arq_loop(rt: Runtime, dispatcher: Dispatcher, stop: asyncio.Event) -> None:
    """arq's worker exits when Redis goes away: start it again, with a pause that grows to ten seconds."""
    pause = 0.5
    while not stop.is_set():
        worker = make_worker(rt, dispatcher)
        running = asyncio.create_task(worker.async_run())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait([running, stopping], return_when=asyncio.FIRST_COMPLETED)
        was_asked = stop.is_set()
        stopping.cancel()
        running.cancel()
        outcome = (await asyncio.gather(running, return_exceptions=True))[0]
        await end(worker)
        if was_asked:
            return
        log.warning("work.redis_away", error=type(outcome).__name__, pause_seconds=pause)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await stop.wait()
        pause = min(10.0, pause * 2)


async def end(worker: Worker) -> None:
    """Cancel the jobs that still run (each gives its claim back) and drop the worker's connections."""
    for task in worker.tasks.values():
        task.cancel()
    await asyncio.gather(*worker.tasks.values(), return_exceptions=True)
    with contextlib.suppress(RedisError, OSError):
        await worker.pool.aclose(close_connection_pool=True)


def make_worker(rt: Runtime, dispatcher: Dispatcher, *, burst: bool = False) -> Worker:
    """arq's worker on this runtime: random job ids, no kept results, JSON, a poll that costs 25 ms on average."""
    context: dict[str, Any] = {"runtime": rt, "offer": dispatcher.offer}
    return Worker(
        functions=[func(jobs.sync_calendar, name=SYNC_JOB), func(jobs.clean_up_calendar, name=CLEAN_UP_JOB)],
        redis_pool=ArqRedis(
            ConnectionPool.from_url(rt.settings.redis_url, socket_connect_timeout=2),
            job_serializer=orjson.dumps,
            job_deserializer=orjson.loads,
            default_queue_name=QUEUE_NAME,
        ),
        queue_name=QUEUE_NAME,
        ctx=context,
        burst=burst,
        poll_delay=0.05,
        keep_result=0,
        max_tries=1,
        max_jobs=_JOBS_MOST,
        job_timeout=_JOB_SECONDS,
        health_check_interval=30,
        handle_signals=False,
        job_serializer=orjson.dumps,
        job_deserializer=orjson.loads,
    )
