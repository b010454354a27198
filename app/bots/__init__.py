"""Bots: attendances of meetings, and the back ends that carry them out."""
