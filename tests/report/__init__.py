"""The conformance report: what was tested, on which kernels and engines, and what came of it, on one page."""
