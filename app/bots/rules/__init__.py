"""Which events get a bot by rule: what a rule asks, which bot serves it, and what its owner says of it."""
