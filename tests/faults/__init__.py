"""Planted faults: what the suite must notice. ``python -m tests.faults`` plants each in a copy and runs its tests."""
