"""One program: ``pyker daemon`` is the engine, everything else is its client. Seed: "Docker Daemon"."""

from __future__ import annotations

import sys


def main() -> int:
    """Be what the arguments say; returns the exit status."""
    if sys.argv[1:2] == ["daemon"] or sys.argv[1:3] == ["help", "daemon"]:
        from pyker.daemon.main import main as daemon_main

        return daemon_main(sys.argv[2:] if sys.argv[1] == "daemon" else ["--help"])
    from pyker.client.main import main as client_main

    return client_main()


if __name__ == "__main__":
    sys.exit(main())
