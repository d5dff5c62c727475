"""What cannot be done is refused with docker's words and status, and nothing is left of it."""

from __future__ import annotations

import pytest

from tests.conformance.conftest import Client
from tests.support.compare import Alike
from tests.support.engines import Engine

pytestmark = pytest.mark.requires("root", "overlay", "busybox", "docker-cli")


@pytest.mark.claim("rule-create-validation", "rule-start-failure", "accept-docker-cli")
@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (["--memory=1k"], 125, "Minimum memory limit allowed is"),
        (["--device=/dev/no-such"], 125 + 2, "no such file or directory"),
        (["--network=no-such"], 125, "network no-such not found"),
        (["-v", "/a:/b:bad"], 125, "invalid mode: bad"),
        (["--security-opt=seccomp=/no-such.json"], 125, "/no-such.json"),
        (["--ipc=container:no-such"], 125, "No such container: no-such"),
        (["--cpus=1000"], 125, "CPUs available"),
        (["--workdir=relative"], 125, "needs to be an absolute path"),
        (["--ulimit=nofile=20:10"], 125, "soft limit"),
    ],
)
def test_a_run_that_cannot_be_leaves_nothing(
    alike: Alike, engine: Engine, cli: Client, flags: list[str], code: int, words: str
) -> None:
    before = engine.docker("ps", "-aq").out
    # The rest of the words is the client's, and Pyker's own has others than the stock one.
    only = "code out err" if cli.name == "docker" else "code out"
    done = alike("run", "--rm", *flags, alike.pulled(), "true", only=only, cli=cli.argv)
    assert words in done.err, done
    assert done.code == code, done
    assert engine.docker("ps", "-aq").out == before


@pytest.mark.claim("rule-start-failure")
def test_a_detached_start_that_fails_tells_the_id_too(engine: Engine, cli: Client, busybox: str, name: str) -> None:
    done = cli("run", "-d", "--name", name, busybox, "/no/such/command")
    assert done.code == 127, done
    assert done.out.strip() == engine.inspect(name)["Id"]
    assert engine.state(name)["Status"] == "created"
