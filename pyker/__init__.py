"""Pyker: a container engine in Python, compatible with Docker."""

__version__ = "0.1.0"
