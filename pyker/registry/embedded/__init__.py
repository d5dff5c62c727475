"""A small OCI registry server, for images that ship with Pyker and for tests."""
