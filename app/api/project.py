"""The project that the key belongs to, and what it prefers."""

from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter
from pydantic import BeforeValidator, Field, WithJsonSchema
from starlette.responses import Response

from app import projects
from app.api import queries
from app.api.callers import NEEDS_ADMIN
from app.api.deps import ProjectId, Reading, Rt, Writing
from app.api.inputs import Input, at_most
from app.api.operations import RETURN_URLS, body_examples, example, problems
from app.api.outputs import Output, ProjectRef
from app.api.problems import escape
from app.api.render import answer
from app.api.route import ApiRoute
from app.api.rule_inputs import Domain
from app.bots.rules import evaluations
from app.connect import return_urls
from app.db import ReadTx
from app.errors import FieldProblem, NotFound, refusal, refusals
from app.ids import PROJECT, public
from app.meetings import HOSTS, NAMES, SELF_HOSTED_NAMES, WRAPPER_HOSTS, is_public_name
from app.runtime import Runtime

PLATFORMS_MOST = 20
HOSTS_MOST = 50
"""Of all platforms together."""
DOMAINS_MOST = 100
RETURN_URLS_MOST = 20

_Platforms = Annotated[
    list[str],
    BeforeValidator(at_most(PLATFORMS_MOST)),
    WithJsonSchema(
        {
            "type": "array",
            "maxItems": PLATFORMS_MOST,
            "uniqueItems": True,
            "items": {"type": "string", "enum": sorted(NAMES)},
            "description": "Platforms whose links go before all others, the most wanted first",
        }
    ),
]
_HOSTS_SHAPE: Final = {"type": "array", "uniqueItems": True, "items": {"type": "string", "maxLength": 253}}
_ExtraHosts = Annotated[
    dict[str, Annotated[list[str], BeforeValidator(at_most(HOSTS_MOST))]],
    BeforeValidator(at_most(len(SELF_HOSTED_NAMES))),
    WithJsonSchema(
        {
            "type": "object",
            "properties": dict.fromkeys(sorted(SELF_HOSTED_NAMES), _HOSTS_SHAPE),
            "additionalProperties": False,
            "description": f"Hosts of your own by platform, {HOSTS_MOST} in all: plain public names in lower case",
        }
    ),
]


class MeetingPreferences(Input):
    """Which links of an event go first, and which hosts of your own hold meetings."""

    platforms: Annotated[_Platforms, Field(default_factory=list)]
    extra_hosts: Annotated[_ExtraHosts, Field(default_factory=dict)]


class ProjectUpdate(Input):
    """What may change; fields that are left out stay as they are."""

    meeting_preferences: Annotated[
        MeetingPreferences | None, Field(description="Takes the place of all that was set; null: none")
    ] = None
    internal_domains: Annotated[
        Annotated[list[Domain], BeforeValidator(at_most(DOMAINS_MOST))] | None,
        Field(
            description=f"Whose people are no guests to rules, subdomains included; at most {DOMAINS_MOST}."
            " Takes the place of all that was set; null: none"
        ),
    ] = None
    retention_days: Annotated[
        int | None,
        Field(ge=1, description="Days for which past events, messages and bots are kept; null: the server's, the most"),
    ] = None

    return_urls: Annotated[
        Annotated[list[str], BeforeValidator(at_most(RETURN_URLS_MOST))] | None,
        Field(
            description="Where hosted connect may lead back to: https, or http on a loopback address; no query."
            f" At most {RETURN_URLS_MOST}. Takes the place of all that was set; null: none"
        ),
    ] = None


class PreferencesShown(Output):
    """Which links of an event go first, and which hosts of your own hold meetings."""

    platforms: list[str]
    extra_hosts: dict[str, list[str]]


class Limits(Output):
    """Requests in a minute, over all keys of the project; null: as many as it likes."""

    reads_per_minute: int | None
    writes_per_minute: int | None


class Project(Output):
    """A project."""

    id: ProjectRef
    name: str
    meeting_preferences: PreferencesShown
    internal_domains: list[str] = Field(description="None: the domain of each calendar's owner is internal")
    retention_days: int | None = Field(description="Null: the server's")
    limits: Limits = Field(description="Set by the operator")
    return_urls: list[str] = Field(description="Where hosted connect may lead back to")


_EXAMPLE: Final = {
    "id": "proj_01JD4Q7M2N4P6R8T0V2X4Z6B8D",
    "name": "production",
    "meeting_preferences": {"platforms": ["zoom", "google_meet"], "extra_hosts": {"jitsi": ["meet.example.com"]}},
    "internal_domains": ["example.com"],
    "retention_days": None,
    "limits": {"reads_per_minute": 6000, "writes_per_minute": 3000},
    "return_urls": ["https://app.example.com/calendars/connected"],
}
_PATCH: Final = body_examples(
    order={"meeting_preferences": {"platforms": ["zoom"]}},
    own_hosts={"meeting_preferences": {"extra_hosts": {"jitsi": ["meet.example.com"], "bigbluebutton": ["b.example"]}}},
    own_people={"internal_domains": ["example.com", "example.org"]},
    short_memory={"retention_days": 7},
    way_back={"return_urls": ["https://app.example.com/calendars/connected"]},
    nothing={"meeting_preferences": {}},
)

router = APIRouter(prefix="/api/v1/project", tags=["Project"], route_class=ApiRoute)


async def _shown(rt: Runtime, tx: ReadTx, project_id: UUID) -> Response:
    row = await queries.project(tx, project_id)
    if row is None:
        raise NotFound
    preferences = projects.preferences_of(row.meeting_preferences)
    hosts: dict[str, list[str]] = {}
    for host, platform in preferences.extra_hosts:
        hosts.setdefault(platform, []).append(host)
    shown = {"platforms": preferences.platforms, "extra_hosts": hosts}
    limits = projects.limits(rt.settings, reads=row.reads_per_minute, writes=row.writes_per_minute)
    return answer(
        {
            "id": public(PROJECT, row.id),
            "name": row.name,
            "meeting_preferences": shown,
            "internal_domains": row.internal_domains,
            "retention_days": row.retention_days,
            "limits": {f"{kind}_per_minute": most or None for kind, most in limits.items()},
            "return_urls": row.return_urls,
        }
    )


@router.get("", response_model=Project, summary="Get the project", responses=problems() | {200: example(_EXAMPLE)})
async def get_project(rt: Rt, tx: Reading, project_id: ProjectId) -> Response:
    """The project that the key belongs to."""
    return await _shown(rt, tx, project_id)


@router.patch(
    "",
    response_model=Project,
    summary="Change the project",
    dependencies=[NEEDS_ADMIN],
    responses=problems("not_unique", "host_not_allowed", "invalid_domain", "out_of_range", *RETURN_URLS, takes="body")
    | {200: example(_EXAMPLE)},
    openapi_extra=_PATCH,
)
async def update_project(body: ProjectUpdate, rt: Rt, tx: Writing, project_id: ProjectId) -> Response:
    """Preferences count from each event's next change on, at the latest from the calendar's daily listing;
    `POST /calendars/{id}/sync` with `full` lists at once. Events whose link changes by it are announced as updated.
    Rules judge all events ahead anew, within seconds, where `internal_domains` change. A shorter `retention_days` takes
    effect within the hour, and what it takes is gone. Connect links that would lead back to none of the new
    `return_urls` end.
    """
    if "meeting_preferences" in body.model_fields_set:
        given = body.meeting_preferences or MeetingPreferences.model_validate({})
        _check(given)
        await projects.prefer(tx, project_id, platforms=given.platforms, extra_hosts=given.extra_hosts)
    if "internal_domains" in body.model_fields_set:
        domains = body.internal_domains or []
        if len(set(domains)) < len(domains):
            raise refusal("/internal_domains", "not_unique", message="must name each domain once")
        if await projects.set_internal_domains(tx, project_id, domains):
            await evaluations.request_project(tx, project_id)
    if "retention_days" in body.model_fields_set:
        if (body.retention_days or 1) > rt.settings.retention_days:
            most = f"must be at most {rt.settings.retention_days}, which is the server's"
            raise refusal("/retention_days", "out_of_range", message=most)
        await projects.retain(tx, project_id, days=body.retention_days)
    if "return_urls" in body.model_fields_set:
        await projects.set_return_urls(tx, project_id, _addresses(body.return_urls or []))
    return await _shown(rt, tx, project_id)


def _addresses(given: list[str]) -> list[str]:
    """Return addresses in one spelling. Invalid (422) where one could not be led back to."""
    found = [(index, return_urls.problem_of(url, may_have_query=False)) for index, url in enumerate(given)]
    wrong = [FieldProblem(f"/return_urls/{index}", *problem) for index, problem in found if problem is not None]
    if wrong:
        raise refusals(wrong)
    bases = [return_urls.read(url).base for url in given]
    if len(set(bases)) < len(bases):
        raise refusal("/return_urls", "not_unique", message="must name each address once")
    return bases


def _check(given: MeetingPreferences) -> None:
    """Invalid (422) unless every name is a platform's and every host could be the project's own."""
    found = [
        FieldProblem(f"/meeting_preferences/platforms/{index}", "not_allowed", "is no platform that links are known of")
        for index, name in enumerate(given.platforms)
        if name not in NAMES
    ]
    if len(set(given.platforms)) < len(given.platforms):
        found.append(FieldProblem("/meeting_preferences/platforms", "not_unique", "must name each platform once"))
    place = "/meeting_preferences/extra_hosts"
    found += [
        FieldProblem(f"{place}/{escape(name)[:60]}", "not_allowed", "is no platform that runs on hosts of one's own")
        for name in given.extra_hosts
        if name not in SELF_HOSTED_NAMES
    ]
    hosts = [host for named in given.extra_hosts.values() for host in named]
    if len(hosts) > HOSTS_MOST:
        found.append(FieldProblem(place, "too_long", f"at most {HOSTS_MOST} hosts in all"))
    elif len(set(hosts)) < len(hosts):
        found.append(FieldProblem(place, "not_unique", "must name each host once"))
    found += [
        FieldProblem(f"{place}/{escape(name)[:60]}/{index}", "host_not_allowed", "is no plain public name, or taken")
        for name, named in given.extra_hosts.items()
        for index, host in enumerate(named)
        if not is_public_name(host) or HOSTS.of(host) or WRAPPER_HOSTS.of(host)
    ]
    if found:
        raise refusals(found)
