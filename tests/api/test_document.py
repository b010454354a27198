"""The published documents are what the server does: docs/openapi.json and docs/errors.md."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from app import errors
from app.api import replays as api_replays
from app.api import webhook_deliveries, webhook_inputs
from app.api.bot_inputs import BotState
from app.api.messages import MESSAGES, Kind
from app.api.problems import CODES
from app.bots.standing import LIVE, Reason
from app.errors import FailureCode, RequestError
from app.webhooks import payloads, replays
from tests.api.openapi_judge import Judge

ROOT = Path(__file__).resolve().parents[2]
UNUSED = {"forbidden", "conflict", "gone"}
"""Codes of classes that nothing raises by their plain name yet."""


@pytest.fixture(scope="module")
def document(judge: Judge) -> Any:
    return judge.document


def test_the_committed_document_is_the_servers(document: Any) -> None:
    committed = json.loads((ROOT / "docs" / "openapi.json").read_text())
    assert committed == document, "run: .venv/bin/punctual openapi > docs/openapi.json"


def test_the_list_of_errors_is_complete() -> None:
    text = (ROOT / "docs" / "errors.md").read_text()
    entries = re.findall(r"^\| `([a-z_]+)` \| (\d{3}) \|", text, re.MULTILINE)
    assert len(entries) == len(dict(entries)), "an entry stands twice"
    assert {code: int(status) for code, status in entries} == dict(CODES)


def test_every_code_that_the_source_raises_is_listed() -> None:
    classes = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, RequestError)]
    raised = {cls.code: cls.status for cls in classes if cls is not RequestError and cls.code not in UNUSED}
    assert raised.items() <= CODES.items()
    assert set(get_args(FailureCode)) <= set(CODES)
    found: set[str] = set()
    for path in (ROOT / "app").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                found |= _codes_of(node)
    assert len(found) > 10
    assert found <= set(CODES)


def test_every_listed_code_can_be_answered(document: Any) -> None:
    """Each stands at some operation, with its status, and in code that raises it."""
    at_operations: set[tuple[str, int]] = set()
    for methods in document["paths"].values():
        for operation in methods.values():
            for status, answer in operation["responses"].items():
                if "application/problem+json" in answer.get("content", {}):
                    at_operations |= {(code, int(status)) for code in re.findall("`([a-z_]+)`", answer["description"])}
    nowhere_at_an_operation = {("method_not_allowed", 405)}
    in_a_body = {("not_found", 422)}
    assert at_operations - in_a_body == set(CODES.items()) - nowhere_at_an_operation
    raised = {text for path in (ROOT / "app").rglob("*.py") for text in _texts(ast.parse(path.read_text()), path.name)}
    assert set(CODES) <= raised


def _texts(node: ast.AST, module: str) -> Iterator[str]:
    """Texts in code, but for the lists of codes themselves."""
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "problems":
        return
    if isinstance(node, ast.AnnAssign) and (module == "operations.py" or getattr(node.target, "id", "") == "CODES"):
        return
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    for child in ast.iter_child_nodes(node):
        yield from _texts(child, module)


def _codes_of(call: ast.Call) -> set[str]:
    """Literal codes in calls that make problems."""
    name = getattr(call.func, "id", None) or getattr(call.func, "attr", "")
    given = [keyword.value for keyword in call.keywords if keyword.arg == "code"]
    if name in {"FieldProblem", "refusal"}:
        given += call.args[1:2]
    if name == "PydanticCustomError":
        given += call.args[:1]
    return {value.value for value in given if isinstance(value, ast.Constant) and isinstance(value.value, str)}


def test_every_end_of_a_bot_is_explained() -> None:
    text = (ROOT / "docs" / "bots.md").read_text()
    entries = re.findall(r"^\| `([a-z_]+)` \| `([a-z]+)` \|", text, re.MULTILINE)
    assert len(entries) == len(dict(entries)), "an entry stands twice"
    assert set(dict(entries)) == set(get_args(Reason))
    assert set(dict(entries).values()) | LIVE == set(get_args(BotState))


def test_every_operation_is_described(document: Any) -> None:
    ids = []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            where = f"{method} {path}"
            ids.append(operation["operationId"])
            assert operation["summary"], where
            assert operation["description"], where
            assert operation["tags"], where
            for status, answer in operation["responses"].items():
                assert answer["description"], (where, status)
            if path.startswith("/api/"):
                assert {"401", "422", "500", "503"} <= set(operation["responses"]), where
            for media in operation.get("requestBody", {}).get("content", {}).values():
                assert media["examples"], where
    assert len(ids) == len(set(ids))
    assert {tag["name"] for tag in document["tags"]} >= {
        "Calendars",
        "Calendar events",
        "Webhooks",
        "Bots",
        "Launchers",
        "Rules",
        "Keys",
        "OAuth apps",
    }


def test_every_message_is_described(document: Any) -> None:
    for trigger, methods in document["webhooks"].items():
        message = methods["post"]
        media = message["requestBody"]["content"]["application/json"]
        assert message["summary"], trigger
        assert message["description"], trigger
        assert media["schema"], trigger
        assert media["example"]["trigger"] == trigger


def test_links_lead_to_every_operation_on_an_object(document: Any) -> None:
    taken: dict[str, set[str]] = {}
    on_objects: set[str] = set()
    links: list[Any] = []
    for path, methods in document["paths"].items():
        for operation in methods.values():
            taken[operation["operationId"]] = {given["name"] for given in operation.get("parameters", ())}
            on_objects |= {operation["operationId"]} if "{" in path else set()
            links += [link for answer in operation["responses"].values() for link in answer.get("links", {}).values()]
    assert all(set(link["parameters"]) <= taken[link["operationId"]] for link in links)
    assert on_objects <= {link["operationId"] for link in links}


def test_headers_that_every_answer_of_a_kind_has(document: Any) -> None:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            for status, answer in operation["responses"].items():
                wanted = {"X-Request-ID"} | {"401": {"WWW-Authenticate"}}.get(status, set())
                wanted |= {"Retry-After"} if status in {"429", "503"} and path != "/readyz" else set()
                is_counted = path.startswith("/api/") and (status == "429" or status.startswith("2"))
                wanted |= {"RateLimit", "RateLimit-Policy"} if is_counted else set()
                assert wanted <= set(answer["headers"]), (method, path, status)


def test_examples_have_the_shape_that_they_explain(document: Any) -> None:
    judge = Judge(document)
    seen = 0
    for operations in [*document["paths"].values(), *document["webhooks"].values()]:
        for operation in operations.values():
            parts = [operation.get("requestBody", {}), *operation["responses"].values()]
            for media in (media for part in parts for media in part.get("content", {}).values()):
                examples = [example["value"] for example in media.get("examples", {}).values()]
                for example in [*examples, *([media["example"]] if "example" in media else [])]:
                    judge.check(example, media["schema"], operation["operationId"])
                    seen += 1
    assert seen > 100


def test_successes_have_examples(document: Any) -> None:
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for status, answer in operation["responses"].items():
                media = answer.get("content", {}).get("application/json")
                if status.startswith("2") and media is not None and path.startswith("/api/"):
                    assert "example" in media, (path, status)


def test_the_messages_are_those_that_are_sent(document: Any) -> None:
    assert set(document["webhooks"]) == set(payloads.TRIGGERS) == {message.trigger for message in MESSAGES}
    assert get_args(webhook_inputs.Trigger) == payloads.SUBSCRIBABLE
    assert get_args(webhook_deliveries.Trigger) == payloads.TRIGGERS
    assert get_args(api_replays.State) == replays.STATES
    assert len(get_args(Kind)) == 12


def test_no_field_of_an_answer_may_be_missing(document: Any) -> None:
    answers = (
        "Calendar",
        "CalendarEvent",
        "Endpoint",
        "Delivery",
        "Attempt",
        "Replay",
        "ReplayAccepted",
        "Problem",
        "CalendarHealth",
        "PushHealth",
        "Bot",
        "BotShape",
        "BotEvent",
        "Launcher",
        "LauncherHealth",
        "LauncherCheck",
        "OAuthApp",
        "OAuthAppSecret",
        "Incident",
        "Rule",
        "RuleBotShown",
        "Trial",
        "TrialResult",
        "Project",
        "Limits",
        "Key",
        "KeyWithText",
        "Entry",
        "ConnectLink",
    )
    for name in answers:
        schema = document["components"]["schemas"][name]
        assert set(schema["required"]) == set(schema["properties"]), name
