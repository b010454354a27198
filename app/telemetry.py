"""What operators see: JSON logs with ids, Prometheus metrics without.

A log line is a constant dotted name plus ids, numbers and codes, an exception its types and frames. Never a token, a
title, an attendee, an address or a body. Metrics carry no ids as labels.
"""

import logging
import sys
import traceback
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from app.settings import Settings

REGISTRY = CollectorRegistry()

REQUESTS = Histogram(
    "punctual_http_request_seconds",
    "Time to answer an API request, by route template",
    ["method", "route", "status"],
    registry=REGISTRY,
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
PUSHES = Counter("punctual_pushes_total", "Inbound notifications", ["platform", "outcome"], registry=REGISTRY)
CONSENTS = Counter("punctual_consents_total", "Ends of hosted connect", ["platform", "outcome"], registry=REGISTRY)
RUNS = Counter("punctual_sync_runs_total", "Finished sync runs", ["platform", "kind", "outcome"], registry=REGISTRY)
RUN_SECONDS = Histogram(
    "punctual_sync_run_seconds",
    "Duration of sync runs",
    ["platform", "kind"],
    registry=REGISTRY,
    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
)
SYNC_LAG = Histogram(
    "punctual_sync_lag_seconds",
    "From the moment a sync was due to its commit",
    ["platform"],
    registry=REGISTRY,
    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600),
)
CHANGES = Counter("punctual_event_changes_total", "Changes committed", ["platform", "change"], registry=REGISTRY)
AUDIT_FOUND = Counter(
    "punctual_audit_found_changes_total",
    "Changes of watched calendars that no push had told of",
    ["platform", "change"],
    registry=REGISTRY,
)
PARKED = Counter("punctual_parked_items_total", "Items that could not be parsed", ["platform"], registry=REGISTRY)
PROVIDER_REQUESTS = Counter(
    "punctual_provider_requests_total",
    "Requests to providers",
    ["platform", "operation", "outcome"],
    registry=REGISTRY,
)
CHANNELS = Counter(
    "punctual_push_channels_total", "Push channel operations", ["platform", "outcome"], registry=REGISTRY
)
DELIVERIES = Counter("punctual_delivery_attempts_total", "Webhook attempts", ["trigger", "outcome"], registry=REGISTRY)
ENDPOINT_CHANGES = Counter(
    "punctual_endpoint_state_changes_total", "Webhook endpoints that came into a state", ["state"], registry=REGISTRY
)
PROXY_FAILURES = Counter(
    "punctual_egress_proxy_failures_total", "Exchanges that the egress proxy failed", registry=REGISTRY
)
DELIVERY_LAG = Histogram(
    "punctual_delivery_lag_seconds",
    "From commit to the first successful answer",
    ["trigger"],
    registry=REGISTRY,
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 300, 3600),
)
BOT_STEPS = Counter("punctual_bot_steps_total", "What happened to bots", ["type"], registry=REGISTRY)
LAUNCHER_CALLS = Counter(
    "punctual_launcher_calls_total", "Calls of bot back ends", ["kind", "call", "outcome"], registry=REGISTRY
)
BACKLOG = Gauge("punctual_backlog", "Rows that are due now", ["kind"], registry=REGISTRY)
OLDEST_DUE = Gauge("punctual_oldest_due_seconds", "Age of the oldest due row", ["kind"], registry=REGISTRY)
REDIS_FAILURES = Counter(
    "punctual_redis_failures_total", "Redis was needed and did not answer", ["use"], registry=REGISTRY
)
RATE_LIMITS = Counter(
    "punctual_rate_limits_total",
    "API requests that were refused, or let through unchecked while Redis was away",
    ["kind", "outcome"],
    registry=REGISTRY,
)

log: structlog.stdlib.BoundLogger = structlog.get_logger("punctual")


def _drop_colours(_: object, __: str, fields: "structlog.typing.EventDict") -> "structlog.typing.EventDict":
    fields.pop("color_message", None)  # uvicorn says some lines twice, once for terminals
    return fields


_SECRETS = (
    "token",
    "secret",
    "authorization",
    "password",
    "body",
    "payload",
    "email",
    "name",
    "title",
    "url",
)


def _drop_secrets(_: object, __: str, fields: "structlog.typing.EventDict") -> "structlog.typing.EventDict":
    for key in fields:
        if key.startswith(_SECRETS) or key.endswith(_SECRETS):
            fields[key] = "[removed]"
    return fields


def _without_messages(_: object, __: str, fields: "structlog.typing.EventDict") -> "structlog.typing.EventDict":
    """An exception as types, SQL states and frames: its message may quote a title, an address or a row."""
    info = fields.pop("exc_info", None)
    exc = info[1] if isinstance(info, tuple) else info if isinstance(info, BaseException) else None
    if info is True:
        exc = sys.exc_info()[1]
    chain: list[str] = []
    while exc is not None and len(chain) < _CAUSES_SHOWN:
        state = getattr(exc, "sqlstate", None)
        frames = [f"{f.filename}:{f.lineno} {f.name}" for f in traceback.extract_tb(exc.__traceback__)[-_FRAMES_SHOWN:]]
        chain.append("\n  ".join([type(exc).__qualname__ + (f" [{state}]" if state else ""), *frames]))
        exc = exc.__cause__ or (None if exc.__suppress_context__ else exc.__context__)
    if chain:
        fields["exception"] = "\ncaused by ".join(chain)
    return fields


_CAUSES_SHOWN = 5
_FRAMES_SHOWN = 15


def configure_logging(settings: Settings) -> None:
    """JSON lines on stderr; libraries that would print addresses or tokens are held at WARNING."""
    timestamper = structlog.processors.TimeStamper(fmt="iso", utc=True)
    shared: list[Any] = [structlog.contextvars.merge_contextvars, structlog.stdlib.add_log_level, timestamper]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            _drop_secrets,
            _without_messages,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder(), _drop_colours, _without_messages],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    for name in ("httpx", "httpcore", "aiohttp", "asyncio", "arq", "uvicorn.access", "sqlalchemy.engine"):
        logging.getLogger(name).setLevel(logging.WARNING)


def serve_metrics(settings: Settings) -> None:
    """Answer Prometheus on METRICS_BIND (`host:port`) from a thread of its own; nothing where it is unset."""
    if settings.metrics_bind:
        host, _, port = settings.metrics_bind.rpartition(":")
        start_http_server(int(port), addr=host or "127.0.0.1", registry=REGISTRY)
