"""What is forgotten, and when: the outbox and what belongs to it."""

import asyncio
from collections.abc import Sequence
from contextvars import Context
from datetime import timedelta
from uuid import UUID

import pytest

from app.ids import new_id
from app.runtime import Runtime
from app.sync import cleanup
from tests.harness import Actor, Project
from tests.integration.delivering import Endpoint, deliveries, new_endpoint, rows
from tests.integration.test_races import until_it_waits
from workers import sweeps

OLD, YOUNG = timedelta(days=91), timedelta(days=89)


async def _message(
    rt: Runtime, project: Project, endpoint: Endpoint, *, age: timedelta, states: Sequence[str] = ("succeeded",)
) -> UUID:
    """A message with a delivery for each state, and an attempt for each delivery."""
    message_id = new_id()
    params = {"id": message_id, "project": project.id, "endpoint": endpoint.id, "states": list(states), "age": age}
    async with rt.db.transaction() as tx:
        await tx.execute(
            "INSERT INTO messages (id, project_id, trigger, payload, created_at)"
            " VALUES (:id, :project, 'webhook.test', CAST('{}' AS bytea), app_now() - CAST(:age AS interval))",
            params,
        )
        await tx.execute(
            "WITH made AS (INSERT INTO deliveries (id, project_id, message_id, endpoint_id, trigger, state,"
            "                                      next_attempt_at, created_at)"
            " SELECT gen_random_uuid(), :project, :id, :endpoint, 'webhook.test', s,"
            "        CASE WHEN s = 'pending' THEN app_now() END, app_now() - CAST(:age AS interval)"
            "   FROM unnest(CAST(:states AS text[])) s RETURNING id)"
            " INSERT INTO delivery_attempts (delivery_id, at, phases_ms)"
            " SELECT id, app_now(), CAST('{}' AS jsonb) FROM made",
            params,
        )
    return message_id


async def _count(rt: Runtime, table: str) -> int:
    [found] = await rows(rt, f"SELECT count(*) AS n FROM {table}")
    count: int = found["n"]
    return count


async def _purge(rt: Runtime) -> int:
    """Until nothing is left to purge; how many batches."""
    batches = 1
    while await cleanup.purge(rt):
        batches += 1
    return batches


async def test_a_message_goes_with_all_that_belongs_to_it(rt: Runtime, project: Project) -> None:
    endpoint = await new_endpoint(rt, project, "http://127.0.0.1:9/")
    await _message(rt, project, endpoint, age=OLD, states=("succeeded", "failed", "merged"))
    await _message(rt, project, endpoint, age=OLD, states=())
    pending = await _message(rt, project, endpoint, age=OLD, states=("failed", "pending"))
    young = await _message(rt, project, endpoint, age=YOUNG)
    await _purge(rt)
    assert {row["id"] for row in await rows(rt, "SELECT id FROM messages")} == {pending, young}
    assert sorted(d["state"] for d in await deliveries(rt)) == ["failed", "pending", "succeeded"]
    assert await _count(rt, "delivery_attempts") == 3


async def test_batches_are_small_however_many_deliveries_a_message_has(rt: Runtime, project: Project) -> None:
    endpoint = await new_endpoint(rt, project, "http://127.0.0.1:9/")
    await _message(rt, project, endpoint, age=OLD, states=["succeeded"] * 2_500)
    assert await cleanup.purge(rt)
    assert (await _count(rt, "deliveries"), await _count(rt, "messages")) == (1_500, 1)
    assert await _purge(rt) == 2
    assert (await _count(rt, "deliveries"), await _count(rt, "messages")) == (0, 0)


async def test_many_that_are_still_pending_hide_none_that_is_over(rt: Runtime, project: Project) -> None:
    endpoint = await new_endpoint(rt, project, "http://127.0.0.1:9/")
    await _message(rt, project, endpoint, age=2 * OLD, states=["pending"] * 1_100)
    await _message(rt, project, endpoint, age=OLD)
    await _purge(rt)
    assert {d["state"] for d in await deliveries(rt)} == {"pending"}


async def test_what_is_sent_again_meanwhile_is_spared(rt: Runtime, project: Project) -> None:
    endpoint = await new_endpoint(rt, project, "http://127.0.0.1:9/")
    kept, _ = [await _message(rt, project, endpoint, age=OLD, states=("failed", "succeeded")) for _ in range(2)]
    async with rt.db.transaction() as tx:
        await tx.execute(
            "UPDATE deliveries SET state = 'pending', next_attempt_at = app_now()"
            " WHERE message_id = :id AND state = 'failed'",
            {"id": kept},
        )
        purging = asyncio.create_task(cleanup.purge(rt), context=Context())
        await until_it_waits(tx)
    await purging
    assert [(d["message_id"], d["state"]) for d in await deliveries(rt)] == [(kept, "pending")]
    assert [row["id"] for row in await rows(rt, "SELECT id FROM messages")] == [kept]


class TestASpanOfItsOwn:
    """DELIVERY_RETENTION_DAYS is set."""

    @pytest.fixture
    def overrides(self) -> dict[str, object]:
        return {"delivery_retention_days": 7}

    async def test_it_decides_about_deliveries_alone(self, rt: Runtime, project: Project) -> None:
        endpoint = await new_endpoint(rt, project, "http://127.0.0.1:9/")
        await _message(rt, project, endpoint, age=timedelta(days=8))
        kept = await _message(rt, project, endpoint, age=timedelta(days=6))
        await _purge(rt)
        assert [row["id"] for row in await rows(rt, "SELECT id FROM messages")] == [kept]


async def test_secrets_replays_and_gaps_that_are_over(rt: Runtime, project: Project) -> None:
    endpoint, deleted = [await new_endpoint(rt, project, "http://127.0.0.1:9/") for _ in range(2)]
    async with rt.db.transaction() as tx:
        await tx.execute("UPDATE webhook_endpoints SET deleted_at = app_now() WHERE id = :id", {"id": deleted.id})
        await tx.execute(
            "INSERT INTO webhook_secrets (id, endpoint_id, secret_sealed, expires_at)"
            " SELECT gen_random_uuid(), :id, CAST('x' AS bytea), app_now() + make_interval(mins => n)"
            "   FROM unnest(ARRAY[-1, 1]) n",
            {"id": endpoint.id},
        )
        await tx.execute(
            "INSERT INTO replays (id, project_id, endpoint_id, created_at_gte, created_at_lte, states, count,"
            "                     next_batch_at, finished_at, created_at)"
            " SELECT gen_random_uuid(), :project, :id, app_now(), app_now(), '{failed}', n,"
            "        CASE WHEN n = 0 THEN app_now() + interval '1 day' END,"
            "        CASE WHEN n > 0 THEN app_now() - make_interval(days => n) END,"
            "        app_now() - interval '100 days' FROM unnest(ARRAY[0, 89, 91]) n",
            {"id": endpoint.id, "project": project.id},
        )
        calendar, app = new_id(), new_id()
        await tx.execute(
            "INSERT INTO oauth_apps (id, project_id, platform, client_id) VALUES (:app, :project, 'google', 'c')",
            {"app": app, "project": project.id},
        )
        await tx.execute(
            "INSERT INTO calendars (id, project_id, oauth_app_id, platform, state)"
            " VALUES (:id, :project, :app, 'google', 'connected')",
            {"id": calendar, "project": project.id, "app": app},
        )
        await tx.execute(
            "INSERT INTO delivery_gaps (endpoint_id, calendar_id, from_seq, to_seq)"
            " VALUES (:one, :calendar, 1, 1), (:two, :calendar, 2, 2), (:one, gen_random_uuid(), 3, 3)",
            {"one": endpoint.id, "two": deleted.id, "calendar": calendar},
        )
    await _purge(rt)
    assert await rows(rt, "SELECT expires_at > app_now() AS lives FROM webhook_secrets") == [{"lives": True}]
    assert {row["count"] for row in await rows(rt, "SELECT count FROM replays")} == {0, 89}
    assert [row["from_seq"] for row in await rows(rt, "SELECT from_seq FROM delivery_gaps")] == [1]


async def test_what_slipped_by_a_deletion_goes_with_the_calendar(actor: Actor) -> None:
    """Sent again in the very moment of the deletion: the request did not see it pending, nor the retry the deletion."""
    await actor.subscribe()
    calendar = await actor.connected()
    await actor.call("DELETE", f"/calendars/{calendar.id}", expect=204)
    async with actor.rt.db.transaction() as tx:
        await tx.execute("UPDATE deliveries SET state = 'pending', next_attempt_at = app_now() + interval '1 hour'")
    assert await _count(actor.rt, "messages") > 0
    await sweeps.finish_deletions(actor.rt)
    assert await _count(actor.rt, "deliveries") == 0
    assert await _count(actor.rt, "messages") == 0


async def _bot(
    rt: Runtime, project: Project, *, age: timedelta, launcher: UUID | None, state: str, is_due: bool
) -> None:
    """A bot whose meeting ended so long ago, with an entry of its history."""
    bot_id = new_id()
    params = {"id": bot_id, "project": project.id, "age": age, "launcher": launcher, "state": state, "is_due": is_due}
    async with rt.db.transaction() as tx:
        await tx.execute(
            "INSERT INTO bots (id, project_id, state, bot_name, meeting_url, join_at, ends_at, launcher_id, due_at)"
            " VALUES (:id, :project, :state, 'Notes', 'https://meet.google.com/abc-defg-hij',"
            "         app_now() - CAST(:age AS interval), app_now() - CAST(:age AS interval), :launcher,"
            "         CASE WHEN :is_due THEN app_now() END)",
            params,
        )
        await tx.execute("INSERT INTO bot_events (bot_id, type) VALUES (:id, 'created')", {"id": bot_id})


async def test_a_bot_goes_with_its_history_and_then_its_deleted_launcher(rt: Runtime, project: Project) -> None:
    used, unused, young, alive = launchers = [new_id() for _ in range(4)]
    ages = {used: OLD, unused: OLD, young: YOUNG, alive: None}
    async with rt.db.transaction() as tx:
        for launcher in launchers:
            await tx.execute(
                "INSERT INTO launchers (id, project_id, kind, name, hand_over_seconds, deleted_at)"
                " VALUES (:id, :project, 'webhook', 'Ours', 60, app_now() - CAST(:age AS interval))",
                {"id": launcher, "project": project.id, "age": ages[launcher]},
            )
    for state in ("launched", "cancelled", "missed", "failed"):
        await _bot(rt, project, age=OLD, launcher=unused, state=state, is_due=False)
    await _bot(rt, project, age=YOUNG, launcher=used, state="launched", is_due=False)
    await _bot(rt, project, age=OLD, launcher=alive, state="cancelled", is_due=True)
    await _purge(rt)
    left = {(row["launcher_id"], row["state"]) for row in await rows(rt, "SELECT launcher_id, state FROM bots")}
    assert left == {(used, "launched"), (alive, "cancelled")}
    assert await _count(rt, "bot_events") == 2
    assert {row["id"] for row in await rows(rt, "SELECT id FROM launchers")} == {used, young, alive}


async def test_a_deleted_rule_goes_after_its_bots_and_before_its_launcher(rt: Runtime, project: Project) -> None:
    launcher = new_id()
    used, unused, young, alive = [new_id() for _ in range(4)]
    async with rt.db.transaction() as tx:
        await tx.execute(
            "INSERT INTO launchers (id, project_id, kind, name, hand_over_seconds, deleted_at)"
            " VALUES (:id, :project, 'webhook', 'Ours', 60, app_now() - interval '91 days')",
            {"id": launcher, "project": project.id},
        )
        for rule, age in ((used, OLD), (unused, OLD), (young, YOUNG), (alive, None)):
            await tx.execute(
                "INSERT INTO rules (id, project_id, name, match, dedup_scope, bot_name, launcher_id, deleted_at)"
                " VALUES (:id, :project, 'r', '{}', 'event', 'Notes', :launcher, app_now() - CAST(:age AS interval))",
                {"id": rule, "project": project.id, "age": age, "launcher": launcher if rule == unused else None},
            )
    await _bot(rt, project, age=YOUNG, launcher=None, state="launched", is_due=False)
    async with rt.db.transaction() as tx:
        await tx.execute("UPDATE bots SET rule_id = :rule", {"rule": used})
    await _purge(rt)
    assert {row["id"] for row in await rows(rt, "SELECT id FROM rules")} == {used, young, alive}
    assert await _count(rt, "launchers") == 0
    rt.clock.advance(timedelta(days=5))
    await _purge(rt)
    assert (await _count(rt, "bots"), {row["id"] for row in await rows(rt, "SELECT id FROM rules")}) == (0, {alive})


async def test_bots_go_in_batches(rt: Runtime, project: Project) -> None:
    async with rt.db.transaction() as tx:
        await tx.execute(
            "INSERT INTO bots (id, project_id, state, bot_name, meeting_url, join_at, ends_at)"
            " SELECT gen_random_uuid(), :project, 'launched', 'Notes', 'https://meet.google.com/abc-defg-hij',"
            "        app_now() - interval '100 days', app_now() - interval '100 days' FROM generate_series(1, 1500)",
            {"project": project.id},
        )
    assert await cleanup.purge(rt)
    assert await _count(rt, "bots") == 500
    assert await _purge(rt) == 1
    assert await _count(rt, "bots") == 0
