"""Route items: method, URL, handler. A handler parses, runs one job, and renders its result."""
