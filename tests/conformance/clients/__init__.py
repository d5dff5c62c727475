"""Real clients against the engine under test: each does what its users do."""
