"""[Docker container] Record, state machine, store, names, logs."""
