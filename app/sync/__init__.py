"""The heart: one use case, `engine.sync_calendar`, and the parts it is made of."""
