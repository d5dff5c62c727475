"""Disposable Linux VMs of several kernel generations, and the suites that run inside them."""
