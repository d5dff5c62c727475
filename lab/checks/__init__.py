"""Is a guest what the table promises? Asked by testinfra, before any test runs in it."""
