"""The walking skeleton: connect, sync, push, webhook."""

from tests.harness import BOTH, Actor

pytestmark = BOTH


async def test_connect_edit_and_hear_of_it(actor: Actor) -> None:
    await actor.subscribe()
    account = actor.new_account()
    calendar = await actor.connect(account)
    first = actor.add_event(calendar, "Planning")
    await actor.quiesce()
    assert [e["name"] for e in await actor.events(calendar)] == ["Planning"]
    greeting = actor.messages()
    assert len(greeting) == 1
    assert greeting[0].valid

    actor.sandbox.world.update_event(calendar.remote_id, first.id, title="Planning, moved to the garden")
    await actor.quiesce()
    entry = actor.entries()[-1]
    assert entry["change"] == "updated"
    assert entry["kinds"] == ["renamed"]
    assert entry["fields"]["name"] == {"from": "Planning", "to": "Planning, moved to the garden"}
    await actor.assert_equal(calendar)
