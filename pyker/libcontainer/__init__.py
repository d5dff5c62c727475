"""[libcontainer] The kernel and nothing else."""
