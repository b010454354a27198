"""Punctual: calendars kept in sync, every change told once, bots that are where the meeting is."""

__version__ = "0.1.0"
