"""The HTTP face: one file per resource, its schemas first, then its routes."""
