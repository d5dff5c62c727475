"""Both walkthroughs of the document, step by step, beside the reference engine: words, requests, events."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.conformance.conftest import Client, Shelf
from tests.support import images
from tests.support.compare import Comparison
from tests.support.engines import Engine
from tests.support.recorder import Recorder


def layer(name: str) -> images.Build:
    """A layer that no other image has."""
    return lambda tar: images.add_file(tar, f"srv/{name}", f"walkthrough {name}\n".encode())


def final(text: str) -> list[str]:
    """The lines of a pull without those that come and go while layers are on their way."""
    passing = ("Waiting", "Downloading", "Verifying Checksum", "Download complete", "Extracting", "Pulling fs layer")
    return [line for line in text.splitlines() if not line.endswith(passing)]


@pytest.mark.claim("pull-default-tag", "pull-from-line", "pull-complete", "pull-digest", "pull-status",
                   "pull-full-name", "shape-pull", "pull-step-registry", "pull-step-graph", "registry-pull",
                   "registry-private", "graph-layer-order")  # fmt: skip
def test_pull_without_a_tag(compare: Comparison) -> None:
    compare.pulled()
    layers = (images.busybox_layer, layer("default-2"), layer("default-3"))
    reference = compare.add("walk/default:latest", layers=layers, label="default").removesuffix(":latest")
    said = compare.both(lambda engine: engine.docker("pull", reference, check=True))
    assert final(said[0].out) == final(said[1].out)
    lines = final(said[1].out)
    assert lines[:2] == ["Using default tag: latest", "latest: Pulling from walk/default"]
    assert [line.partition(": ")[2] for line in lines[2:5]] == ["Already exists", "Pull complete", "Pull complete"]
    assert re.fullmatch(r"Digest: sha256:[0-9a-f]{64}", lines[-3])
    assert lines[-2:] == [f"Status: Downloaded newer image for {reference}:latest", f"{reference}:latest"]
    compare("pull", reference)
    compare("rmi", reference)


@pytest.mark.claim("pull-already-exists", "graph-layer-by-layer", "graph-reuses")
def test_layers_that_are_here(compare: Comparison) -> None:
    compare.pulled()
    reference = compare.add("walk/above:1", layers=(images.busybox_layer, layer("above")), label="above")
    said = compare.both(lambda engine: engine.docker("pull", reference, check=True))
    assert final(said[0].out) == final(said[1].out)
    assert [line.partition(": ")[2] for line in final(said[1].out)[1:3]] == ["Already exists", "Pull complete"]
    compare("rmi", reference)


@pytest.mark.claim("shape-pull-quiet", "pull-full-name")
def test_quiet_pull(compare: Comparison) -> None:
    reference = compare.add("walk/quiet:1", label="quiet")
    assert compare("pull", "-q", reference).tested.out == f"{reference}\n"
    compare("pull", "-q", reference)
    compare("rmi", reference)


@pytest.mark.claim("pull-step-client-parses")
@pytest.mark.parametrize("arguments", [["pull"], ["pull", "a", "b"], ["pull", "UPPER"], ["pull", "--nosuch", "a"]])
def test_what_the_client_cannot_parse_never_reaches_the_daemon(
    recorder: Recorder, cli: Client, arguments: list[str]
) -> None:
    done = cli(*arguments, host=recorder.host)
    assert done.code != 0 and done.err
    assert not [each for each in recorder.exchanges if each.path != "/_ping"]


@pytest.mark.claim("pull-step-router", "rule-pull", "POST /images/create")
def test_the_records_of_a_pull(compare: Comparison) -> None:
    reference = compare.add("walk/records:1", layers=(images.busybox_layer, layer("records")), label="records")
    name = reference.removesuffix(":1")

    def finals(engine: Engine) -> list[object]:
        reply = engine.request("POST", f"/v1.41/images/create?fromImage={name}&tag=1")
        assert reply.status == 200 and reply.headers["content-type"] == "application/json"
        assert reply.body.endswith(b"\r\n")
        records = [json.loads(line) for line in reply.body.splitlines()]
        return [each for each in records if each["status"] in ("Pull complete", "Already exists") or "id" not in each]

    told = compare.both(finals)
    assert told[0] == told[1]
    compare("rmi", reference)


@pytest.mark.claim("registry-errors", "rule-pull", "shape-run-missing-image")
@pytest.mark.parametrize(
    "name",
    ["127.0.0.1:5000/walk/nosuch:1", "127.0.0.1:5000/walk/nosuch@sha256:" + "0" * 64, "127.0.0.1:1/x/y:1"],
    ids=["tag", "digest", "registry"],
)
def test_pulls_that_fail(compare: Comparison, name: str) -> None:
    compare("pull", name)


@pytest.mark.claim(
    "registry-push", "shape-push", "rule-push", "registry-push-again", "registry-push-mount", "disk-tar-split"
)
def test_push(compare: Comparison) -> None:
    layers = (images.busybox_layer, layer("push"))
    source = compare.pulled(compare.add("walk/push-source:1", layers=layers, label="push"))
    target = f"{source.partition('/')[0]}/walk/push-target:2"
    compare("tag", source, target)
    for known in (False, True):
        said = compare.both(lambda engine: engine.docker("push", target, check=True))
        lines = [each.out.splitlines() for each in said]
        assert [each[0] for each in lines] == [f"The push refers to repository [{target.partition(':2')[0]}]"] * 2
        assert lines[0][-1] == lines[1][-1]
        for each in lines:
            states = [line.partition(": ")[2] for line in each[1:-1] if not line.endswith(("Preparing", "Waiting"))]
            # What the registry has somewhere is mounted from there; what the repository has is there already.
            assert len(states) == 2 and all(state.startswith(("Mounted from ", "Layer already")) for state in states)
            assert not known or states == ["Layer already exists"] * 2
    compare("rmi", source, target)


@pytest.mark.claim("run-purpose", "run-two-parts", "client-one-life", "container-command", "accept-docker-cli")
@pytest.mark.parametrize(
    ("flags", "command"),
    [
        ([], ["echo", "hello"]),
        ([], ["sh", "-c", "echo out; echo err >&2; exit 5"]),
        ([], ["sh", "-c", "kill -9 $$"]),
        ([], ["sh", "-c", "kill -TERM $$; sleep 1"]),
        ([], ["nosuch"]),
        ([], ["/etc"]),
        ([], ["/nosuch/x"]),
        (["-e", "A=b"], ["env"]),
        (["-w", "/srv/x", "-u", "www"], ["sh", "-c", "pwd; id"]),
        (["--network", "none"], ["ip", "-o", "-4", "addr"]),
        (["--network", "none"], ["sh", "-c", "cat /etc/hosts /etc/hostname"]),
        (["-t"], ["sh", "-c", "tty; echo $TERM"]),
        (["--entrypoint", "/bin/sh"], ["-c", "echo entry"]),
        (["--read-only"], ["touch", "/x"]),
        (["--hostname", "h", "--domainname", "d"], ["sh", "-c", "hostname; hostname -f; cat /etc/hosts | tail -1"]),
        (["-v", "/nosuchvolume"], ["ls", "-lan", "/nosuchvolume"]),
        (["--rm", "--name", "@"], ["true"]),
        (["--nosuchflag"], ["true"]),
        (["--network", "nosuch"], ["true"]),
        (["-m", "1k"], ["true"]),
        (["-p", "99999:80"], ["true"]),
        (["--user", "nosuch"], ["true"]),
        (["--workdir", "x"], ["true"]),
        (["--label", "a=b", "--env", "=x"], ["true"]),
    ],
    ids=lambda value: "_".join(value) or "plain",
)
def test_run_says_what_the_reference_says(compare: Comparison, flags: list[str], command: list[str]) -> None:
    image = compare.pulled()
    given = [compare.name if flag == "@" else flag for flag in flags]
    named = [] if "--name" in given else ["--name", compare.name]
    compare("run", *named, *given, image, *command)


@pytest.mark.claim("run-client-parses")
@pytest.mark.parametrize("arguments", [["run"], ["run", "--memory", "much", "x"], ["run", "-p", "http", "x"]])
def test_what_the_client_cannot_parse_makes_no_container(recorder: Recorder, cli: Client, arguments: list[str]) -> None:
    done = cli(*arguments, host=recorder.host)
    assert done.code in (1, 125) and done.err, done
    assert not [each for each in recorder.exchanges if each.path != "/_ping"]


@pytest.mark.claim("run-two-requests", "run-first-post", "run-second-request", "run-first-status", "run-second-depends",
                   "start-is-another-request", "rule-run-order", "run-first-router", "run-second-router")  # fmt: skip
def test_the_two_requests_of_a_detached_run(recorder: Recorder, cli: Client, busybox: str, name: str) -> None:
    done = cli("run", "-d", "--name", name, busybox, "sleep", "300", host=recorder.host)
    asked = [
        (e.method, e.path, e.status) for e in recorder.exchanges if e.path != "/_ping" and not e.path.endswith("/wait")
    ]
    identifier = done.out.strip()
    assert asked == [("POST", "/containers/create", 201), ("POST", f"/containers/{identifier}/start", 204)]


@pytest.mark.claim(
    "run-second-depends", "rule-create-missing-image", "summary-registry-when-missing", "job-run-is-create-then-start"
)
def test_what_the_client_does_when_the_image_is_missing(
    recorder: Recorder, cli: Client, shelf: Shelf, engine: Engine, name: str
) -> None:
    reference = shelf.add(f"walk/absent-{cli.name}:1", label=f"absent {cli.name}")
    done = cli("run", "--name", name, reference, "echo", "came", host=recorder.host)
    assert (done.code, done.out) == (0, "came\n"), done
    asked = [
        (e.method, re.sub("[0-9a-f]{64}", "ID", e.path), e.status) for e in recorder.exchanges if e.path != "/_ping"
    ]
    assert [each for each in asked if each[1] != "/info"][:3] == [
        ("POST", "/containers/create", 404),
        ("POST", "/images/create", 200),
        ("POST", "/containers/create", 201),
    ]
    engine.request("DELETE", f"/containers/{name}?force=1")
    engine.docker("rmi", reference, check=True)


@pytest.mark.claim("run-second-depends", "run-first-status")
def test_without_a_container_there_is_no_second_request(
    recorder: Recorder, cli: Client, busybox: str, name: str
) -> None:
    assert cli("run", "--name", name, "-m", "1k", busybox, "true", host=recorder.host).code == 125
    asked = [(e.method, e.path, e.status) for e in recorder.exchanges if e.path != "/_ping"]
    assert asked == [("POST", "/containers/create", 400)]


@pytest.mark.claim("run-second-network", "run-second-starts", "rule-events", "GET /events", "network-first-in-start")
def test_the_events_of_a_run(compare: Comparison) -> None:
    image = compare.pulled()

    def run(engine: Engine) -> None:
        engine.docker("run", "--name", compare.name, image, "sh", "-c", "exit 7")
        engine.docker("rm", compare.name, check=True)

    told = compare.events(run)
    assert told == ["container create", "container attach", "network connect", "container start", "container die",
                    "network disconnect", "container destroy"]  # fmt: skip


@pytest.mark.claim("pull-purpose", "rule-events", "GET /events")
def test_the_events_of_a_pull(compare: Comparison) -> None:
    reference = compare.add("walk/events:1", label="events")

    def pull(engine: Engine) -> None:
        engine.docker("pull", "-q", reference, check=True)
        engine.docker("tag", reference, "walk-events:2", check=True)
        engine.docker("rmi", reference, "walk-events:2", check=True)

    told = compare.events(pull)
    assert told[:2] == ["image pull", "image tag"]
    assert told[-1] == "image delete"


@pytest.mark.claim("rule-events", "GET /events")
def test_the_events_of_a_life(compare: Comparison) -> None:
    image = compare.pulled()

    def live(engine: Engine) -> None:
        name = compare.name
        engine.docker("run", "-d", "--name", name, image, "sleep", "300", check=True)
        for verb in (["pause", name], ["unpause", name], ["rename", name, f"{name}x"], ["rename", f"{name}x", name],
                     ["restart", "-t", "0", name], ["stop", "-t", "0", name], ["rm", name]):  # fmt: skip
            engine.docker(*verb, check=True)

    # When the network is told of is a matter of moments.
    compare.events(live, filters={"type": ["container"]})


@pytest.mark.claim("run-second-starts", "run-purpose", "rootfs-private-copy")
def test_each_run_is_a_container_that_is_entirely_new(compare: Comparison) -> None:
    image = compare.pulled()
    for _ in range(2):
        compare("run", "--rm", image, "sh", "-c", "ls /mark 2>/dev/null; touch /mark; ls /mark")


@pytest.mark.claim("shape-tables", "GET /containers/json", "GET /images/json", "GET /networks", "rule-status-text")
def test_tables(compare: Comparison) -> None:
    image = compare.pulled()
    compare("run", "-d", "--name", compare.name, "-p", "127.0.0.1::80", image, "sleep", "300")
    compare("run", "--name", f"{compare.name}x", image, "sh", "-c", "exit 3", only="code")
    compare("ps", "-a", "--filter", f"name={compare.name}")
    compare(
        "ps", "-a", "--no-trunc", "--filter", f"name={compare.name}x", "--format", "{{.Names}} {{.Status}} {{.Command}}"
    )
    compare("images", image.rpartition(":")[0])
    compare("network", "ls")
    compare("port", compare.name)
    compare("top", compare.name, "-o", "pid,args", only="code err")
    compare("history", image)
    compare("inspect", "-f", "{{.State.Status}} {{.Config.Image}} {{json .HostConfig.PortBindings}}", compare.name)


@pytest.mark.claim("shape-rmi", "rule-image-delete", "DELETE /images/{name}")
def test_rmi(compare: Comparison) -> None:
    reference = compare.pulled(compare.add("walk/gone:1", layers=(layer("gone-1"), layer("gone-2")), label="gone"))
    compare("tag", reference, "walk-gone:2")
    compare("rmi", "walk-gone:2")
    compare("rmi", reference)
    compare("rmi", reference)


@pytest.mark.claim("shape-info", "GET /info")
def test_info_has_its_lines_in_order(compare: Comparison) -> None:
    said = compare.both(lambda engine: engine.docker("info", check=True))
    lines = [each.out.partition("\nServer:\n")[2].splitlines() for each in said]
    titles = [[line.partition(":")[0] for line in each if ":" in line] for each in lines]
    wanted = [" Containers", "  Running", "  Paused", "  Stopped", " Images", " Server Version", " Storage Driver",
              " Logging Driver", " Cgroup Driver", " Cgroup Version", " Plugins", "  Volume", "  Network", "  Log",
              " Swarm", " Runtimes", " Default Runtime", " Init Binary", " Security Options", " Kernel Version",
              " Operating System", " OSType", " Architecture", " CPUs", " Total Memory", " Name", " ID",
              " Docker Root Dir", " Debug Mode", " Experimental", " Insecure Registries"]  # fmt: skip
    for each in titles:
        assert [title for title in each if title in wanted] == wanted


@pytest.mark.claim("run-first-job", "run-second-job", "execdriver-exec", "rule-exec-joins", "POST /exec/{id}/start")
@pytest.mark.parametrize(
    "arguments",
    [
        ["@", "sh", "-c", "echo in; echo no >&2; exit 9"],
        ["@", "nosuch"],
        ["-w", "/tmp", "-e", "A=b", "-u", "www", "@", "sh", "-c", "pwd; id -un; echo $A"],
        ["-t", "@", "tty"],
        ["nosuch", "true"],
    ],
    ids=["plain", "unknown", "flags", "terminal", "nobody"],
)
def test_exec_says_what_the_reference_says(compare: Comparison, arguments: list[str]) -> None:
    image = compare.pulled()
    compare("run", "-d", "--name", compare.name, image, "sleep", "300")
    given = [compare.name if each == "@" else each for each in arguments]
    if "nosuch" in given[1:]:
        # Which of both streams an old engine tells it on, and whether 126 or 127, is its runtime's affair.
        said = compare.both(lambda engine: engine.docker("exec", *given))
        assert all(each.code in (126, 127) and "executable file not found" in each.out + each.err for each in said), (
            said
        )
    else:
        compare("exec", *given)


@pytest.mark.claim("break-wait-short-runs", "rule-drain", "rule-wait-header")
def test_short_runs_lose_nothing(engine: Engine, busybox: str) -> None:
    for number in range(40):
        script = f"seq 200; exit {number}"
        done = engine.docker("run", "--rm", "--network", "none", busybox, "sh", "-c", script)
        assert done.code == number and len(done.out.splitlines()) == 200


@pytest.mark.claim("break-attach-half-close", "rule-half-close")
@pytest.mark.parametrize("size", [0, 1, 5_000_000])
def test_input_and_its_end(compare: Comparison, size: int) -> None:
    image = compare.pulled()
    compare("run", "-i", "--rm", image, "sh", "-c", "wc -c", input="x" * size)


@pytest.mark.claim("break-leaks")
def test_many_runs_leave_nothing(engine: Engine, busybox: str) -> None:
    """What they would leave is found by the residue check."""
    before: Any = engine.request("GET", "/info").json()
    for flags in (
        ["-p", "80"],
        ["-v", "/data"],
        ["--tmpfs", "/t"],
        ["--init"],
        ["-m", "32m"],
        ["--network", "host"],
    ) * 3:
        assert engine.docker("run", "--rm", *flags, busybox, "true").code == 0
    after: Any = engine.request("GET", "/info").json()
    assert (after["Containers"], after["Images"]) == (before["Containers"], before["Images"])
