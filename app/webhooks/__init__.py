"""Outgoing messages: published with the change, delivered at least once."""
