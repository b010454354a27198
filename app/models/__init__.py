"""Every table, read as the schema. Each index names the query that it serves.

Times are timestamptz; `*_sealed` columns hold ciphertext of `app.crypto`; what an event shows is JSON text
in the API's own shape, never parsed on the way out.

Lock order for everyone: projects, calendars (by id), connect links, bots (by id), the keys of meetings (sorted), then
sync_state (last, by calendar id); endpoints before deliveries.
"""

from app.models import bots, calendars, connect, events, projects, rules, webhooks
from app.models.base import metadata

__all__ = ["bots", "calendars", "connect", "events", "metadata", "projects", "rules", "webhooks"]
