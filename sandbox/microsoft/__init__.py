"""Microsoft's face of the world: the v2.0 token endpoint, the calendar part of Graph v1.0, and its subscriptions."""
