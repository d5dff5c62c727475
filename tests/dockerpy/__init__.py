"""docker-py's own integration tests, run against an engine of ours: ``python -m tests.dockerpy --engine pyker``."""
