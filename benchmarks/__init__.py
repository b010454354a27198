"""What Punctual costs, as ratios to the best that the machine can do, measured in one run."""
