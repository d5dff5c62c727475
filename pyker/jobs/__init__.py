"""The vocabulary: typed requests and results of every job. No logic."""
