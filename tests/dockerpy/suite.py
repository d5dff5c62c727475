"""The suite as it was published: fetched from the package registry, its hash checked, kept in the cache, never here."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support import cache

LOCK = Path(__file__).parents[2] / "requirements" / "dockerpy.txt"

# What belongs to a swarm or to plugins from the Internet, and credential helpers, which are no engine's matter.
LEFT_OUT = (
    "api_config_test.py",
    "api_plugin_test.py",
    "api_secret_test.py",
    "api_service_test.py",
    "api_swarm_test.py",
    "models_nodes_test.py",
    "models_services_test.py",
    "models_swarm_test.py",
    "credentials",
)
LEFT_OUT_TESTS = (
    "api_network_test.py::TestNetworks::test_create_network_attachable",
    "api_network_test.py::TestNetworks::test_create_network_ingress",
    "api_network_test.py::TestNetworks::test_create_inspect_network_with_scope",
)


def source() -> Path:
    """docker-py's source distribution, unpacked; its tests import the library from there."""
    python = environment()
    entry = next(entry for entry in cache.requirements(LOCK.read_text()) if entry.startswith("docker=="))
    version = entry.split()[0].partition("==")[2]

    def fill(folder: Path) -> None:
        wanted = folder / "docker.txt"
        wanted.write_text(entry + "\n")
        cache.say(f"dockerpy: fetching the source distribution of docker {version}")
        cache.pip(
            python, "download", "--no-deps", "--no-build-isolation", "--no-binary", "docker", "--require-hashes",
            "-d", str(folder), "-r", str(wanted),
        )  # fmt: skip
        archive = folder / f"docker-{version}.tar.gz"
        subprocess.run(["tar", "-x", "-z", "--no-same-owner", "-f", str(archive), "-C", str(folder)], check=True)

    return cache.filled(f"dockerpy/{version}-{python.parents[1].name}", fill) / f"docker-{version}"


def environment() -> Path:
    """The Python that runs the suite: the pytest and the requests of its day."""
    return cache.locked_environment(LOCK, apart=("docker",))
