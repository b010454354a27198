"""Judges answers by the document that we publish: is this status documented, does the body have that shape?

Knows exactly the JSON Schema keywords that our document uses and fails on any other, so that nothing passes unread.
"""

import operator
import re
from typing import Any

import httpx

Json = Any

_IGNORED = {"title", "description", "examples", "example", "default", "format"}
_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
_BOUNDS = {"minimum": operator.ge, "maximum": operator.le}


class Judge:
    """An httpx response hook: raises AssertionError where an answer is not what the document says."""

    def __init__(self, document: Json) -> None:
        self.document = document
        self.judged: set[tuple[str, str, str]] = set()
        self._paths = {
            re.compile(re.sub(r"\{[^}]+\}", "[^/]+", path)): (path, operations)
            for path, operations in sorted(document["paths"].items(), key=lambda item: "{" in item[0])
        }

    async def __call__(self, response: httpx.Response) -> None:
        """Judge one answer; addresses and methods that the document lacks get problems, nothing else."""
        await response.aread()
        no_operations: Json = {}
        path, operations = next(
            (found for pattern, found in self._paths.items() if pattern.fullmatch(response.request.url.path)),
            ("", no_operations),
        )
        operation = operations.get(response.request.method.lower())
        if operation is None:
            if response.status_code in {404, 405}:
                self.check(response.json(), {"$ref": "#/components/schemas/Problem"}, "problem")
            return
        where = f"{response.request.method} {path} {response.status_code}"
        documented = operation["responses"].get(str(response.status_code))
        assert documented is not None, f"{where} is not documented: {response.text[:300]}"
        self.judged.add((response.request.method, path, str(response.status_code)))
        self._check_body(response, documented, where)

    def _check_body(self, response: httpx.Response, documented: Json, where: str) -> None:
        content = documented.get("content")
        if content is None:
            assert not response.content, f"{where}: no body is documented"
            return
        media_type = response.headers["content-type"].partition(";")[0]
        assert media_type in content, f"{where}: {media_type} is not documented"
        if media_type == "text/plain":
            return
        self.check(response.json(), content[media_type]["schema"], where)
        if media_type == "application/problem+json":
            problem = response.json()
            for code in {problem["code"], *(error["code"] for error in problem["errors"])}:
                assert f"`{code}`" in documented["description"], f"{where}: code {code} is not documented"

    def check(self, value: Json, schema: Json, where: str) -> None:
        """Assert that a value has this shape."""
        if "$ref" in schema:
            self.check(value, self._resolve(schema["$ref"]), where)
            return
        if "anyOf" in schema:
            assert any(self.fits(value, choice) for choice in schema["anyOf"]), f"{where}: {value!r}"
        if "type" in schema:
            # A bool is an int in Python only.
            kind = schema["type"] if not isinstance(value, bool) or schema["type"] == "boolean" else "null"
            assert isinstance(value, _TYPES[kind]), f"{where}: {value!r} is no {schema['type']}"
        for keyword, wanted in schema.items():
            if keyword not in _IGNORED and keyword not in {"anyOf", "type"}:
                self._keyword(value, keyword, wanted, schema, where)

    def fits(self, value: Json, schema: Json) -> bool:
        """Whether a value has this shape."""
        try:
            self.check(value, schema, "")
        except AssertionError:
            return False
        return True

    def _resolve(self, ref: str) -> Json:
        return self.document["components"]["schemas"][ref.rpartition("/")[2]]

    def _keyword(self, value: Json, keyword: str, wanted: Json, schema: Json, where: str) -> None:
        match keyword:
            case "properties":
                for name in set(wanted) & set(value):
                    self.check(value[name], wanted[name], f"{where}/{name}")
            case "additionalProperties" if wanted is not True:
                unknown = set(value) - set(schema.get("properties", ()))
                assert wanted or not unknown, f"{where}: has {unknown}"
                for name in unknown:
                    self.check(value[name], wanted, f"{where}/{name}")
            case "items":
                for index, item in enumerate(value):
                    self.check(item, wanted, f"{where}/{index}")
            case _:
                _check_value(value, keyword, wanted, where)


def _check_value(value: Json, keyword: str, wanted: Json, where: str) -> None:
    match keyword:
        case "required":
            is_right = set(wanted) <= set(value)
        case "enum":
            is_right = value in wanted
        case "const":
            is_right = value == wanted
        case "pattern":
            is_right = re.search(wanted, value) is not None
        case "maxLength" | "maxItems" | "maxProperties":
            is_right = len(value) <= wanted
        case "minLength" | "minItems":
            is_right = len(value) >= wanted
        case "minimum" | "maximum":
            is_right = _BOUNDS[keyword](value, wanted)
        case "uniqueItems":
            is_right = len(set(value)) == len(value)
        case "additionalProperties":
            is_right = True
        case _:
            raise AssertionError(f"{where}: the judge does not know {keyword}")
    assert is_right, f"{where}: {keyword} is {wanted}, this is {value!r}"
