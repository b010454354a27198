"""Google's face of the world: OAuth, the Calendar API v3 as a reader uses it, and push channels."""
