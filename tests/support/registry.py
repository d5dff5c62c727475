"""Debian's docker-registry as a peer, inside an engine's network namespace or one of its own."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.sandbox import Sandbox, terminate, wait_until

_CONFIG = """version: 0.1
log: {{level: warn}}
storage:
  filesystem: {{rootdirectory: {data}}}
  delete: {{enabled: true}}
http: {{addr: 127.0.0.1:{port}}}
{auth}"""


class Registry:
    """A registry that listens on ``address`` inside ``sandbox``."""

    def __init__(self, root: Path, sandbox: Sandbox, *, port: int = 5000, htpasswd: str = "") -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.sandbox = sandbox
        self.address = f"127.0.0.1:{port}"
        auth = f"auth: {{htpasswd: {{realm: test, path: {htpasswd}}}}}\n" if htpasswd else ""
        config = root / "registry.yml"
        config.write_text(_CONFIG.format(data=root / "registry", port=port, auth=auth))
        self._log = open(root / "registry.log", "ab")  # noqa: SIM115 (closed by close)
        self._process = sandbox.popen(
            ["docker-registry", "serve", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        listens = f"(echo >/dev/tcp/127.0.0.1/{port}) 2>/dev/null"
        wait_until(
            lambda: sandbox.run(["bash", "-c", listens], check=False).returncode == 0,
            what="the registry's port",
            every=0.03,
        )

    def push(self, layout: Path, name: str, *, form: str = "oci") -> str:
        """Copy an OCI layout to ``name`` (such as ``team/app:1``); returns the reference. ``form`` is skopeo's word."""
        reference = f"{self.address}/{name}"
        self.sandbox.run(
            [
                "skopeo",
                "--insecure-policy",
                "copy",
                "-q",
                f"--format={form}",
                "--dest-tls-verify=false",
                f"oci:{layout}:latest",
                f"docker://{reference}",
            ]
        )
        return reference

    def close(self) -> None:
        """End the registry."""
        terminate(self._process)
        self._log.close()

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
