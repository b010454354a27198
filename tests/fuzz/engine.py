"""Schemathesis over the published document: what it is told, and what it found.

It invents requests that the document allows and requests that it forbids, sends examples, walks along the links, and
holds every answer against the document. Two things are ours: that a problem's `code` is documented at its operation,
and values that mean something (credentials that work, a link, a time), which no schema can tell.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any, Final

import schemathesis
from schemathesis import hooks
from schemathesis.config import SchemathesisConfig
from schemathesis.core.transport import Response
from schemathesis.engine import Status, events, from_schema
from schemathesis.engine.recorder import ScenarioRecorder

from tests.fuzz.stage import Stage

Json = dict[str, Any]

PUBLISHED: Final = Path(__file__).resolve().parents[2] / "docs" / "openapi.json"
MEET: Final = "https://meet.google.com/xyz-wvut-srq"
NO_CHECKS: Final = ("positive_data_acceptance",)
"""A body can have the documented shape and still name an event that is over."""
STAY_READABLE: Final = ("/bots/{bot_id}", "/api_keys/{key_id}")
"""DELETE cancels a bot and revokes a key."""


@dataclass(slots=True)
class Report:
    """What was done and found."""

    requests: int = 0
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    """How often each operation answered with each status."""
    findings: dict[str, str] = field(default_factory=dict)
    """The first failure of each kind at each operation, by a line that names both."""
    problems: list[str] = field(default_factory=list)
    """Where the engine itself could not go on."""

    def take(self, event: events.EngineEvent) -> None:
        """Add what an event tells."""
        if isinstance(event, events.ScenarioFinished):
            self._scenario(event.recorder)
        elif isinstance(event, events.NonFatalError):
            self.problems.append(f"{event.label}: {event.value!r}")
        elif isinstance(event, events.FatalError):
            self.problems.append(repr(event.exception))

    def _scenario(self, recorder: ScenarioRecorder) -> None:
        for case_id, interaction in recorder.interactions.items():
            if interaction.response is not None and case_id in recorder.cases:
                self.requests += 1
                label = recorder.cases[case_id].value.operation.label
                self.answers[label, interaction.response.status_code] += 1
        for case_id, checks in recorder.checks.items():
            for check in checks:
                if check.status is Status.FAILURE and check.failure_info is not None:
                    label = recorder.cases[case_id].value.operation.label
                    if _is_meant(label, check.name, check.failure_info.code_sample):
                        continue
                    told = f"{check.failure_info.failure}\n{check.failure_info.code_sample}"
                    response = recorder.interactions[case_id].response
                    told += f"\n{response.status_code} {response.content!r:.2000}" if response else ""
                    self.findings.setdefault(f"{label}: {check.name}: {check.failure_info.failure.title}", told)


def _is_meant(label: str, check: str, calls: str) -> bool:
    """What looks like a fault in a chain of calls and is none: what a replay shows may be deleted since, and some
    objects stay readable once they are over."""
    if check == "ensure_resource_availability":
        return "Idempotency-Key" in calls
    return check == "use_after_free" and label.endswith(STAY_READABLE)


def fuzz(stage: Stage, *, phases: Json, seed: int, seconds: float | None = None) -> Report:
    """Run to the end, in the calling thread. `phases` as in schemathesis.toml."""
    document = json.loads(PUBLISHED.read_bytes())
    config = SchemathesisConfig.from_dict(
        {
            "seed": seed,
            "base-url": stage.url,
            "headers": stage.project.headers,
            "continue-on-failure": True,
            "request-timeout": 120,  # longer than the service takes for any: it answers by then
            "generation": {"database": "none", "deterministic": seconds is None, "no-shrink": seconds is None},
            "phases": phases,
            "checks": {name: {"enabled": False} for name in NO_CHECKS},
            "suppress-health-check": ["all"],
            "cache": {"enabled": False},  # what one run learnt must not change the next
        }
    )
    config.max_time = None if seconds is None else max(1, round(seconds))
    schema = schemathesis.openapi.from_dict(document, config=config)
    report, before_call = Report(), _meaning(stage)
    schemathesis.hook("before_call")(before_call)  # there is only the process's own registry for it
    try:
        for event in from_schema(schema).execute():
            report.take(event)
    finally:
        hooks.unregister(before_call)
    return report


def _meaning(stage: Stage) -> Callable[..., None]:
    """A hook that puts values which mean something into every other body that may hold them."""
    calls = count()

    def before_call(_: object, case: Any, __: object) -> None:
        body = case.body
        if isinstance(body, dict) and next(calls) % 2:
            body |= {name: value for name, value in _values(stage, body) if name in body or name == "client_id"}

    return before_call


def _values(stage: Stage, body: Json) -> Iterator[tuple[str, object]]:
    if {"client_id", "client_secret", "refresh_token", "platform"} <= set(body):
        yield from stage.credentials().items()
        yield "platform_uuid", None
    if "triggers" in body:
        yield "url", "https://hooks.example.com/"
    if "meeting_url" in body:
        yield "meeting_url", MEET
    if "created_at_gte" in body:
        now = stage.rt.clock.now()
        yield "created_at_gte", (now - timedelta(days=1)).isoformat()
        yield "created_at_lte", now.isoformat()
    if "join_at" in body:
        yield "join_at", (stage.rt.clock.now() + timedelta(hours=1)).isoformat()


@schemathesis.check
def documented_code(_: object, response: Response, case: Any) -> None:
    """A problem's code stands in the description of its status, and so does each code of its errors."""
    if response.headers.get("content-type", [""])[0] != "application/problem+json":
        return
    documented = case.operation.definition.raw["responses"].get(str(response.status_code))
    if documented is None:  # another check's matter
        return
    problem = json.loads(response.content)
    for code in {problem["code"], *(error["code"] for error in problem["errors"])}:
        assert f"`{code}`" in documented["description"], f"{code} is not documented for {response.status_code}"
