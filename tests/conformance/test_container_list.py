"""``GET /containers/json`` and ``GET /containers/{id}/json``: rows, filters, fields, and which of them are empty."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.asking import filters, get, message
from tests.support.compare import Comparison
from tests.support.containers import create, finished, run, start
from tests.support.engines import Engine
from tests.support.sandbox import wait_until


def _names(rows: list[dict[str, Any]]) -> set[str]:
    return {name.removeprefix("/") for row in rows for name in row["Names"]}


def _found(engine: Engine, query: str, all_: bool = True) -> set[str]:
    return _names(get(engine, f"/containers/json?all={int(all_)}&{query}"))


@pytest.fixture
def trio(engine: Engine, busybox: str, names: Callable[[], str]) -> tuple[str, str, str]:
    """One that was made, one that runs, one that has ended with 3; in this order."""
    made, runs, ended = names(), names(), names()
    create(engine, busybox, made, Labels={"role": "made", "group": made})
    run(engine, busybox, runs, Labels={"role": "runs", "group": made}, ExposedPorts={"81/tcp": {}})
    finished(engine, busybox, ended, ["sh", "-c", "exit 3"], Labels={"group": made})
    return made, runs, ended


@pytest.mark.claim("GET /containers/json", "rule-filters-logic", "rule-filters-dialects", "rule-filters-names")
class TestFilters:
    """One trio answers many questions."""

    def test_by_what_they_are(self, engine: Engine, trio: tuple[str, str, str], busybox: str) -> None:
        made, runs, ended = trio
        mine = set(trio)

        def found(**wanted: list[str]) -> set[str]:
            return _found(engine, filters(**wanted)) & mine

        assert found(status=["created"]) == {made}
        assert found(status=["running"]) == {runs}
        assert found(status=["exited", "created"]) == {made, ended}
        assert found(exited=["3"]) == {ended}
        assert found(exited=["0"]) <= {made}
        assert found(label=["role"]) == {made, runs}
        assert found(label=["role=runs"]) == {runs}
        assert found(label=["role=runs", f"group={made}"]) == {runs}
        assert found(label=["role=runs", "role=made"]) == set()
        assert found(label=[f"group={made}"], status=["exited"]) == {ended}
        assert found(name=[runs]) == {runs}
        assert found(name=[f"^/{runs}$", f"^{ended}$"]) == {runs, ended}
        assert found(id=[str(engine.inspect(ended)["Id"])[:12]]) == {ended}
        assert found(before=[ended]) == {made, runs}
        assert found(since=[made]) == {runs, ended}
        assert found(ancestor=[busybox]) == mine
        assert found(ancestor=[busybox], status=["running"]) == {runs}
        assert found(network=["bridge"]) == mine
        assert found(expose=["81"]) == {runs}
        assert found(expose=["81/udp"]) == set()
        assert found(health=["none"]) == mine
        assert found(is_task=["false"]) == mine
        assert found(is_task=["true"]) == set()

    def test_in_the_other_dialect(self, engine: Engine, trio: tuple[str, str, str]) -> None:
        wanted = quote(json.dumps({"label": {f"group={trio[0]}": True}, "status": {"running": True, "exited": True}}))
        assert _found(engine, f"filters={wanted}") == set(trio[1:])

    def test_all_and_limits(self, engine: Engine, trio: tuple[str, str, str]) -> None:
        made, runs, ended = trio
        mine = filters(label=[f"group={made}"])
        assert _found(engine, mine, all_=False) == {runs}
        rows = get(engine, f"/containers/json?all=1&{mine}")
        assert [row["Names"] for row in rows] == [[f"/{ended}"], [f"/{runs}"], [f"/{made}"]]
        assert [row["Names"] for row in get(engine, f"/containers/json?limit=2&{mine}")] == [
            [f"/{ended}"],
            [f"/{runs}"],
        ]
        assert _found(engine, f"{mine}&limit=-1", all_=False) == {runs}
        assert _names(get(engine, f"/containers/json?all=True&{mine}")) == set(trio)
        assert _names(get(engine, f"/containers/json?all=False&{mine}")) == {runs}

    def test_by_volume(self, engine: Engine, busybox: str, names: Callable[[], str], volume: str) -> None:
        with_it, without = names(), names()
        create(engine, busybox, with_it, HostConfig={"Binds": [f"{volume}:/data"]})
        create(engine, busybox, without)
        assert _found(engine, filters(volume=[volume])) == {with_it}
        assert with_it in _found(engine, filters(volume=["/data"]))
        assert without not in _found(engine, filters(volume=["/data"]))

    def test_by_published_port(self, engine: Engine, busybox: str, name: str) -> None:
        host = {"PortBindings": {"82/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}}
        run(engine, busybox, name, ExposedPorts={"82/tcp": {}}, HostConfig=host)
        value: Any = engine.inspect(name)
        taken = value["NetworkSettings"]["Ports"]["82/tcp"][0]["HostPort"]
        assert name in _found(engine, filters(publish=["82"])) | _found(engine, filters(publish=[taken]))
        assert name not in _found(engine, filters(publish=["83"]))

    def test_a_status_that_is_none(self, engine: Engine) -> None:
        reply = engine.request("GET", f"/containers/json?{filters(status=['bogus'])}")
        assert (reply.status, message(reply)) == (400, "Invalid filter 'status=bogus'")

    def test_before_one_that_is_unknown(self, engine: Engine) -> None:
        reply = engine.request("GET", f"/containers/json?{filters(before=['no-such'])}")
        assert reply.status in {404, 500} and message(reply).lower().startswith("no such container")


@pytest.mark.claim("GET /containers/json")
class TestRows:
    def test_the_command_as_it_was_given(self, engine: Engine, busybox: str, name: str) -> None:
        create(engine, busybox, name, Entrypoint=["sh", "-c"], Cmd=["echo 'a  b'", "x y"])
        row = get(engine, f"/containers/json?all=1&{filters(name=[name])}")[0]
        assert (
            row["Command"] == """sh -c 'echo '"'"'a  b'"'"'' 'x y'""" or row["Command"] == "sh -c 'echo 'a  b'' 'x y'"
        )

    def test_ports(self, engine: Engine, busybox: str, name: str) -> None:
        host = {"PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}}
        run(engine, busybox, name, ExposedPorts={"80/tcp": {}, "90/udp": {}}, HostConfig=host)
        rows = get(engine, f"/containers/json?{filters(name=[name])}")[0]["Ports"]
        published = next(row for row in rows if row["PrivatePort"] == 80)
        assert (published["IP"], published["Type"]) == ("127.0.0.1", "tcp") and published["PublicPort"] > 0
        assert next(row for row in rows if row["PrivatePort"] == 90) == {"PrivatePort": 90, "Type": "udp"}

    @pytest.mark.claim("rule-status-text")
    def test_the_status_in_words(self, engine: Engine, trio: tuple[str, str, str]) -> None:
        def status(name: str) -> tuple[str, str]:
            row = get(engine, f"/containers/json?all=1&{filters(name=[f'^/{name}$'])}")[0]
            return row["State"], row["Status"]

        made, runs, ended = trio
        assert status(made) == ("created", "Created")
        state, text = status(runs)
        assert state == "running" and re.fullmatch(r"Up (Less than a second|\d+ seconds?)", text)
        state, text = status(ended)
        assert state == "exited" and re.fullmatch(r"Exited \(3\) (Less than a second|\d+ seconds?) ago", text)
        engine.request("POST", f"/containers/{runs}/pause")
        state, text = status(runs)
        assert state == "paused" and re.fullmatch(r"Up (Less than a second|\d+ seconds?) \(Paused\)", text)

    def test_sizes_on_request(self, engine: Engine, busybox: str, name: str) -> None:
        finished(engine, busybox, name, ["sh", "-c", "head -c 12345 /dev/zero > /file"])
        query = filters(name=[name])
        plain, sized = (get(engine, f"/containers/json?all=1&{extra}{query}")[0] for extra in ("", "size=1&"))
        assert not {"SizeRw", "SizeRootFs"} & set(plain)
        assert sized["SizeRw"] == 12345 and sized["SizeRootFs"] > 12345

    def test_fields_and_shapes(self, compare: Comparison, busybox: str) -> None:
        compare.pulled()
        for engine in (compare.reference.engine, compare.tested.engine):
            run(engine, compare.busybox, compare.name)
        compare.api("GET", f"/containers/json?{filters(name=[compare.name])}")
        compare.api("GET", f"/containers/json?size=1&{filters(name=[compare.name])}")


@pytest.mark.claim("GET /containers/{id}/json", "rule-null-and-empty")
class TestInspect:
    """The same container on both engines has the same fields, and the same of them are null, [] or absent."""

    @pytest.mark.parametrize("state", ["created", "running", "exited", "paused"])
    def test_shape_in_every_state(self, compare: Comparison, state: str) -> None:
        compare.pulled()

        def work(engine: Engine) -> None:
            create(engine, compare.busybox, compare.name, Cmd=["true"] if state == "exited" else ["sleep", "300"])
            if state != "created":
                engine.request("POST", f"/containers/{compare.name}/start")
            if state == "exited":
                engine.request("POST", f"/containers/{compare.name}/wait")
            if state == "paused":
                engine.request("POST", f"/containers/{compare.name}/pause")

        compare.both(work)
        compare.api(
            "GET",
            f"/containers/{compare.name}/json",
            ignoring=["HostConfig.KernelMemory", "HostConfig.KernelMemoryTCP", "HostConfig.Runtime"],
        )

    def test_shape_of_a_rich_one(self, compare: Comparison) -> None:
        compare.pulled()
        body = {
            "Image": compare.busybox,
            "Cmd": ["sleep", "300"],
            "Hostname": "box",
            "Domainname": "example.test",
            "User": "www",
            "Tty": True,
            "OpenStdin": True,
            "StdinOnce": True,
            "Env": ["A=1"],
            "Labels": {"a": "b"},
            "ExposedPorts": {"80/tcp": {}},
            "StopSignal": "SIGINT",
            "StopTimeout": 5,
            "HostConfig": {
                "Memory": 67108864,
                "NanoCpus": 500000000,
                "PidsLimit": 50,
                "CapAdd": ["NET_ADMIN"],
                "CapDrop": ["CHOWN"],
                "Dns": ["10.0.0.1"],
                "ExtraHosts": ["db:10.1.2.3"],
                "GroupAdd": ["10"],
                "Ulimits": [{"Name": "nofile", "Soft": 10, "Hard": 20}],
                "Sysctls": {"net.ipv4.ip_forward": "1"},
                "Tmpfs": {"/t": ""},
                "SecurityOpt": ["no-new-privileges"],
                "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 2},
                "PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]},
                "Init": True,
                "ReadonlyRootfs": True,
                "OomScoreAdj": 100,
                "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m"}},
            },
        }
        path = f"/v1.41/containers/create?name={compare.name}"
        compare.both(lambda engine: engine.request("POST", path, body))
        compare.api(
            "GET",
            f"/containers/{compare.name}/json",
            values=True,
            ignoring=[
                "HostConfig.KernelMemory", "HostConfig.KernelMemoryTCP", "HostConfig.Runtime", "HostConfig.MaskedPaths",
                "GraphDriver",
            ],
        )  # fmt: skip

    def test_sizes_on_request(self, engine: Engine, busybox: str, name: str) -> None:
        finished(engine, busybox, name, ["sh", "-c", "head -c 12345 /dev/zero > /file"])
        assert not {"SizeRw", "SizeRootFs"} & set(engine.inspect(name))
        value = get(engine, f"/containers/{name}/json?size=1")
        assert value["SizeRw"] == 12345 and value["SizeRootFs"] > 12345

    @pytest.mark.claim("rule-ids")
    def test_ambiguous_prefixes(self, engine: Engine, busybox: str, names: Callable[[], str]) -> None:
        """With seventeen containers two begin alike."""
        ids = [create(engine, busybox, names()) for _ in range(17)]
        first = next(each[0] for each in ids if [other[0] for other in ids].count(each[0]) > 1)
        reply = engine.request("GET", f"/containers/{first}/json")
        assert reply.status in {400, 404, 500}
        assert message(reply) in {
            f"Multiple IDs found with provided prefix: {first}", f"No such container: {first}",
        }  # fmt: skip

    @pytest.mark.claim("rule-ids")
    def test_a_name_comes_before_a_prefix(self, engine: Engine, busybox: str, names: Callable[[], str]) -> None:
        first = create(engine, busybox, names())
        named = create(engine, busybox, first[:12])
        try:
            assert engine.inspect(first[:12])["Id"] == named and engine.inspect(first[:13])["Id"] == first
        finally:
            engine.request("DELETE", f"/containers/{named}")

    @pytest.mark.claim("rule-times")
    def test_times(self, engine: Engine, busybox: str, name: str) -> None:
        create(engine, busybox, name, Cmd=["sleep", "300"])
        shape = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z")
        assert shape.fullmatch(str(engine.inspect(name)["Created"]))
        state = engine.state(name)
        assert state["StartedAt"] == state["FinishedAt"] == "0001-01-01T00:00:00Z"
        start(engine, name)
        state = engine.state(name)
        assert shape.fullmatch(str(state["StartedAt"])) and state["FinishedAt"] == "0001-01-01T00:00:00Z"
        engine.request("POST", f"/containers/{name}/kill")
        wait_until(lambda: engine.state(name)["Running"] is False, what="the end")
        assert shape.fullmatch(str(engine.state(name)["FinishedAt"]))
