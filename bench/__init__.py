"""Pyker and the reference engine, measured side by side in one run: ``nox -s bench``."""
