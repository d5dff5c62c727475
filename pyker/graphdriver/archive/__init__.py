"""Layers as tars: read, write, extract, and keep what it takes to get the same bytes out again."""
