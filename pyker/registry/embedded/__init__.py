"""A small OCI registry server, for the images that ship with Pyker: pyker.local/hello, busybox, web."""

from pyker.registry.embedded.server import EmbeddedRegistry

__all__ = ["EmbeddedRegistry"]
