"""[execdriver] How a container process is run, watched and entered."""
