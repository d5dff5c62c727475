"""What the daemon and the client have in common: frozen values, no I/O."""
