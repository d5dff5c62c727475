"""update and prune of containers, and their stats."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.asking import filters, get, message, post
from tests.support.cgroups import cgroup
from tests.support.containers import Waiting, create, events, finished, run, start
from tests.support.engines import Engine
from tests.support.sandbox import wait_until

MIB = 1 << 20


def _host(engine: Engine, name: str) -> dict[str, Any]:
    value: Any = engine.inspect(name)["HostConfig"]
    assert isinstance(value, dict)
    return value


@pytest.mark.claim("POST /containers/{id}/update", "rule-update")
class TestUpdate:
    @pytest.mark.requires("cgroup-v1")
    @pytest.mark.parametrize(
        ("changes", "controller", "files"),
        [
            (
                {"Memory": 128 * MIB, "MemorySwap": -1},
                "memory",
                {"memory.limit_in_bytes": str(128 * MIB)},
            ),
            ({"Memory": 32 * MIB}, "memory", {"memory.limit_in_bytes": str(32 * MIB)}),
            ({"MemoryReservation": 16 * MIB}, "memory", {"memory.soft_limit_in_bytes": str(16 * MIB)}),
            ({"NanoCpus": 500_000_000}, "cpu", {"cpu.cfs_quota_us": "50000", "cpu.cfs_period_us": "100000"}),
            ({"CpuShares": 512}, "cpu", {"cpu.shares": "512"}),
            ({"CpuPeriod": 50000, "CpuQuota": 20000}, "cpu", {"cpu.cfs_quota_us": "20000"}),
            ({"CpusetCpus": "0"}, "cpuset", {"cpuset.cpus": "0"}),
            ({"PidsLimit": 33}, "pids", {"pids.max": "33"}),
        ],
        ids=["memory-and-swap", "memory", "reservation", "cpus", "shares", "quota", "cpuset", "pids"],
    )
    def test_of_a_running_one(
        self, engine: Engine, busybox: str, name: str, changes: dict[str, Any], controller: str, files: dict[str, str]
    ) -> None:
        folder = cgroup(run(engine, busybox, name, HostConfig={"Memory": 64 * MIB}), controller)
        assert post(engine, f"/containers/{name}/update", changes) == {"Warnings": None}
        assert {file: (folder / file).read_text().strip() for file in files} == files
        shown = _host(engine, name)
        assert {key: shown[key] for key in changes} == changes

    def test_of_one_that_does_not_run(self, engine: Engine, busybox: str, name: str) -> None:
        """It has its new limits when it starts."""
        create(engine, busybox, name, Cmd=["sleep", "300"])
        post(engine, f"/containers/{name}/update", {"PidsLimit": 21})
        folder = cgroup(start(engine, name), "pids")
        assert (folder / "pids.max").read_text() == "21\n"

    def test_it_is_kept_over_a_restart(self, engine: Engine, busybox: str, name: str) -> None:
        run(engine, busybox, name)
        post(engine, f"/containers/{name}/update", {"PidsLimit": 22})
        engine.request("POST", f"/containers/{name}/restart?t=0")
        folder = cgroup(int(str(engine.state(name)["Pid"])), "pids")
        assert (folder / "pids.max").read_text() == "22\n"

    def test_what_is_not_named_stays(self, engine: Engine, busybox: str, name: str) -> None:
        run(engine, busybox, name, HostConfig={"Memory": 64 * MIB, "PidsLimit": 50, "CpuShares": 100})
        before = _host(engine, name)
        post(engine, f"/containers/{name}/update", {"CpuShares": 200})
        assert _host(engine, name) == {**before, "CpuShares": 200}

    @pytest.mark.claim("rule-restart-policies")
    def test_the_restart_policy(self, engine: Engine, busybox: str, name: str) -> None:
        run(engine, busybox, name, ["sh", "-c", "sleep 300"])
        post(engine, f"/containers/{name}/update", {"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 4}})
        assert _host(engine, name)["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 4}

    @pytest.mark.claim("rule-restart-policies")
    def test_a_policy_holds_at_once(self, engine: Engine, busybox: str, name: str) -> None:
        import os

        pid = run(engine, busybox, name)
        post(engine, f"/containers/{name}/update", {"RestartPolicy": {"Name": "always"}})
        os.kill(pid, 9)
        wait_until(lambda: engine.state(name)["Pid"] not in (0, pid), timeout=30, what="another process")
        post(engine, f"/containers/{name}/update", {"RestartPolicy": {"Name": "no"}})
        os.kill(int(str(engine.state(name)["Pid"])), 9)
        wait_until(lambda: engine.state(name)["Status"] == "exited", what="the end")

    @pytest.mark.parametrize(
        ("host", "changes", "status", "words"),
        [
            ({}, {"Memory": 1000}, 400, "Minimum memory limit allowed is 6MB"),
            ({}, {"RestartPolicy": {"Name": "zz"}}, 400, "invalid restart policy 'zz'"),
            (
                {"Memory": 64 * MIB},
                {"Memory": 256 * MIB},
                409,
                "Cannot update container {}: Memory limit should be smaller than already set memoryswap limit, "
                "update the memoryswap at the same time",
            ),
            (
                {"CpuQuota": 50000},
                {"NanoCpus": 500_000_000},
                409,
                "Cannot update container {}: Conflicting options: Nano CPUs cannot be updated as CPU Quota has already "
                "been set",
            ),
            (
                {"AutoRemove": True},
                {"RestartPolicy": {"Name": "always"}},
                409,
                "Cannot update container {}: Restart policy cannot be updated because AutoRemove is enabled for the "
                "container",
            ),
        ],
        ids=["small", "policy", "swap", "cpus", "auto-remove"],
    )
    def test_what_cannot_be(
        self,
        engine: Engine,
        busybox: str,
        name: str,
        host: dict[str, Any],
        changes: dict[str, Any],
        status: int,
        words: str,
    ) -> None:
        container = create(engine, busybox, name, Cmd=["sleep", "300"], HostConfig=host)
        start(engine, name)
        before = _host(engine, name)
        reply = engine.request("POST", f"/containers/{name}/update", changes)
        assert (reply.status, message(reply)) == (status, words.format(container))
        assert _host(engine, name) == before

    def test_nothing_at_all(self, engine: Engine, busybox: str, name: str) -> None:
        create(engine, busybox, name)
        assert post(engine, f"/containers/{name}/update", {}) == {"Warnings": None}

    def test_of_an_unknown_one(self, engine: Engine) -> None:
        reply = engine.request("POST", "/containers/no-such/update", {})
        assert (reply.status, message(reply)) == (404, "No such container: no-such")

    @pytest.mark.claim("rule-events")
    def test_it_is_told(self, engine: Engine, busybox: str, name: str) -> None:
        create(engine, busybox, name)
        with events(engine, container=[name]) as stream:
            post(engine, f"/containers/{name}/update", {"CpuShares": 200})
            wait_until(lambda: len(stream.lines()) == 1, what="the event")
        assert stream.lines()[0]["Action"] == "update"

    def test_docker_update(self, engine: Engine, busybox: str, name: str) -> None:
        run(engine, busybox, name)
        done = engine.docker("update", "--memory", "64m", "--memory-swap", "-1", "--cpus", "0.5", name, check=True)
        assert done.out == f"{name}\n"
        shown = _host(engine, name)
        assert (shown["Memory"], shown["MemorySwap"], shown["NanoCpus"]) == (64 * MIB, -1, 500_000_000)


@pytest.mark.claim("POST /containers/prune")
class TestPrune:
    """Only of what a label names: the others belong to other tests."""

    def test_those_that_do_not_run(self, engine: Engine, busybox: str, names: Callable[[], str]) -> None:
        made, runs, ended = names(), names(), names()
        labels = {"prune": made}
        ids = {create(engine, busybox, made, Labels=labels)}
        run(engine, busybox, runs, Labels=labels)
        finished(engine, busybox, ended, ["sh", "-c", "head -c 12345 /dev/zero > /f"], Labels=labels)
        ids.add(str(engine.inspect(ended)["Id"]))
        query = filters(label=[f"prune={made}"])
        value = post(engine, f"/containers/prune?{query}")
        assert (set(value["ContainersDeleted"]), value["SpaceReclaimed"]) == (ids, 12345)
        assert engine.state(runs)["Running"] is True
        assert post(engine, f"/containers/prune?{query}") == {"ContainersDeleted": None, "SpaceReclaimed": 0}

    def test_not_those_with_a_label(self, engine: Engine, busybox: str, names: Callable[[], str]) -> None:
        goes, stays = names(), names()
        create(engine, busybox, goes, Labels={"prune": goes})
        create(engine, busybox, stays, Labels={"prune": goes, "keep": "me"})
        post(engine, f"/containers/prune?{filters(label=[f'prune={goes}'], label_=['keep'])}")
        assert engine.request("GET", f"/containers/{goes}/json").status == 404
        assert engine.request("GET", f"/containers/{stays}/json").status == 200

    @pytest.mark.parametrize(
        ("until", "kept"), [("1h", True), ("1", True), ("2020-01-01T00:00:00Z", True), ("99999999999", False)]
    )
    def test_older_ones_only(self, engine: Engine, busybox: str, name: str, until: str, kept: bool) -> None:
        create(engine, busybox, name, Labels={"prune": name})
        post(engine, f"/containers/prune?{filters(label=[f'prune={name}'], until=[until])}")
        assert (engine.request("GET", f"/containers/{name}/json").status == 200) is kept

    def test_filters_that_cannot_be(self, engine: Engine) -> None:
        reply = engine.request("POST", f"/containers/prune?{filters(foo=['x'])}")
        assert (reply.status, message(reply)) == (400, "Invalid filter 'foo'")
        reply = engine.request("POST", f"/containers/prune?{filters(until=['soon'])}")
        assert reply.status in {400, 500}
        assert message(reply) == 'failed to parse value as time or duration: "soon"'

    def test_docker_container_prune(self, engine: Engine, busybox: str, name: str) -> None:
        container = create(engine, busybox, name, Labels={"prune": name})
        done = engine.docker("container", "prune", "-f", "--filter", f"label=prune={name}", check=True)
        assert done.out == f"Deleted Containers:\n{container}\n\nTotal reclaimed space: 0B\n"


@pytest.mark.claim("GET /containers/{id}/stats", "rule-stats")
class TestStats:
    def test_of_a_running_one(self, engine: Engine, busybox: str, name: str) -> None:
        pid = run(engine, busybox, name, ["sh", "-c", "sleep 300 & sleep 300 & wait"], HostConfig={"Memory": 64 * MIB})
        folder = cgroup(pid, "pids")
        wait_until(lambda: len((folder / "cgroup.procs").read_text().split()) == 3, what="three processes")
        value = get(engine, f"/containers/{name}/stats?stream=false")
        assert (value["name"], value["id"]) == (f"/{name}", engine.inspect(name)["Id"])
        assert value["pids_stats"]["current"] == 3
        assert value["memory_stats"]["limit"] == 64 * MIB and 0 < value["memory_stats"]["usage"] < 64 * MIB
        assert value["cpu_stats"]["cpu_usage"]["total_usage"] > 0
        assert value["cpu_stats"]["online_cpus"] >= 1
        assert value["cpu_stats"]["system_cpu_usage"] > value["precpu_stats"]["system_cpu_usage"] > 0
        assert value["read"] > value["preread"] > "2020"
        network = value["networks"]["eth0"]
        assert set(network) == {
            "rx_bytes", "rx_packets", "rx_errors", "rx_dropped", "tx_bytes", "tx_packets", "tx_errors", "tx_dropped",
        }  # fmt: skip
        assert "io_service_bytes_recursive" in value["blkio_stats"]

    def test_what_a_busy_one_uses(self, engine: Engine, busybox: str, name: str) -> None:
        run(engine, busybox, name, ["sh", "-c", "while :; do :; done"])
        value = get(engine, f"/containers/{name}/stats?stream=0")
        used = value["cpu_stats"]["cpu_usage"]["total_usage"] - value["precpu_stats"]["cpu_usage"]["total_usage"]
        assert used > 1_000_000

    def test_one_shot(self, engine: Engine, busybox: str, name: str) -> None:
        run(engine, busybox, name)
        value = get(engine, f"/containers/{name}/stats?stream=0&one-shot=1")
        assert value["preread"] == "0001-01-01T00:00:00Z" and value["read"] > "2020"
        assert value["precpu_stats"]["cpu_usage"]["total_usage"] == 0
        assert value["cpu_stats"]["cpu_usage"]["total_usage"] > 0

    @pytest.mark.parametrize("query", ["", "?stream=1"])
    def test_as_a_stream(self, engine: Engine, busybox: str, name: str, query: str) -> None:
        run(engine, busybox, name)
        with Waiting(engine, "GET", f"/containers/{name}/stats{query}") as stream:
            wait_until(lambda: len(stream.lines()) >= 2, timeout=30, what="two objects")
            first, second = stream.lines()[:2]
        assert second["preread"] == first["read"] and second["read"] > first["read"]

    def test_the_stream_ends_with_the_container(self, engine: Engine, busybox: str, name: str) -> None:
        run(engine, busybox, name)
        with Waiting(engine, "GET", f"/containers/{name}/stats") as stream:
            wait_until(lambda: len(stream.lines()) >= 1, timeout=30, what="an object")
            engine.request("DELETE", f"/containers/{name}?force=1")
            stream.result()

    @pytest.mark.parametrize("ran", [True, False])
    def test_of_one_that_does_not_run(self, engine: Engine, busybox: str, name: str, ran: bool) -> None:
        if ran:
            finished(engine, busybox, name, ["true"])
        else:
            create(engine, busybox, name)
        value = get(engine, f"/containers/{name}/stats?stream=0")
        assert value["read"] == value["preread"] == "0001-01-01T00:00:00Z"
        assert value["pids_stats"] == {} and value["memory_stats"] == {}
        assert value["cpu_stats"]["cpu_usage"]["total_usage"] == 0

    def test_without_a_network(self, engine: Engine, busybox: str, name: str) -> None:
        run(engine, busybox, name, HostConfig={"NetworkMode": "none"})
        assert not get(engine, f"/containers/{name}/stats?stream=0&one-shot=1").get("networks")

    def test_of_an_unknown_one(self, engine: Engine) -> None:
        reply = engine.request("GET", "/containers/no-such/stats?stream=0")
        assert (reply.status, message(reply)) == (404, "No such container: no-such")

    def test_docker_stats(self, engine: Engine, busybox: str, name: str) -> None:
        run(engine, busybox, name, HostConfig={"Memory": 64 * MIB})
        done = engine.docker("stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}} {{.MemUsage}}", name, check=True)
        assert done.out.startswith(f"{name} 1 ") and done.out.endswith(" / 64MiB\n")
