"""What every command gets: the daemon, the configuration file, the streams and the environment."""

from __future__ import annotations

import os
import sys

from pyker.client.failure import Failure
from pyker.client.session import Client

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyker.client.configfile import ConfigFile
    from pyker.client.hosts import Endpoint

AT_ONCE = 50


class Surroundings:
    """The world around one command."""

    def __init__(self, endpoint: Endpoint, config_dir: str, *, debug: bool = False) -> None:
        self.endpoint = endpoint
        self.config_dir = config_dir
        self.debug = debug
        self.environ = os.environ
        self._client: Client | None = None
        self._config: ConfigFile | None = None

    @property
    def client(self) -> Client:
        """The conversation with the daemon; nothing is sent before the first request."""
        if self._client is None:
            pinned = self.environ.get("DOCKER_API_VERSION", "").lstrip("v")
            self._client = Client(self.endpoint, headers=self.config.http_headers, pinned=pinned)
        return self._client

    @property
    def config(self) -> ConfigFile:
        """``config.json``, read when first asked for."""
        if self._config is None:
            from pyker.client.configfile import ConfigFile

            self._config = ConfigFile.load(self.config_dir)
        return self._config

    def out(self, text: str) -> None:
        """Write a line to stdout."""
        sys.stdout.write(text + "\n")

    def write(self, text: str) -> None:
        """Write to stdout as it is."""
        sys.stdout.write(text)

    def flush(self) -> None:
        """Let what was written be seen."""
        sys.stdout.flush()

    def err(self, text: str) -> None:
        """Write a line to stderr, after all that was written to stdout."""
        sys.stdout.flush()
        sys.stderr.write(text + "\n")
        sys.stderr.flush()

    def for_each(
        self,
        names: list[str],
        act: Callable[[Client, str], object],
        *,
        forgive: Callable[[Failure], bool] | None = None,
    ) -> int:
        """Run ``act(client, name)`` for every name, several at once, and print the names in order.

        Errors are told and the rest goes on; ``forgive`` says which do not count. Returns 0 or 1.
        """
        self.client.negotiate()
        failed = False
        for name, failure in zip(names, self._outcomes(names, act), strict=True):
            if failure is None:
                self.out(name)
            else:
                self.err(failure.message)
                failed = failed or forgive is None or not forgive(failure)
        return 1 if failed else 0

    def _outcomes(self, names: list[str], act: Callable[[Client, str], object]) -> list[Failure | None]:
        def attempt(client: Client, name: str) -> Failure | None:
            try:
                act(client, name)
            except Failure as failure:
                return failure
            return None

        if len(names) == 1:
            return [attempt(self.client, names[0])]
        from concurrent.futures import ThreadPoolExecutor

        def alone(name: str) -> Failure | None:
            client = self.client.twin()
            try:
                return attempt(client, name)
            finally:
                client.close()

        with ThreadPoolExecutor(min(len(names), AT_ONCE)) as pool:
            return list(pool.map(alone, names))
