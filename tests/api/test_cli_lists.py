"""What lists, inspect, version, events and errors print, compared with the stock CLI over the same answers."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyker.client import catalogue
from tests.support.cli import environment, in_our_name, run_client
from tests.support.fake_daemon import FakeDaemon, Reply, Request, answer, refusal

stock_cli = pytest.mark.requires("docker-cli-28")
pytestmark = pytest.mark.slow

CREATED = 1_700_000_000
LONG = "sha256:" + "ab" * 32


def _container(number: int, **more: Any) -> dict[str, Any]:
    return {
        "Id": f"{number:02d}" + "c" * 62,
        "Names": [f"/name{number}"],
        "Image": "bb:1",
        "ImageID": LONG,
        "Command": "sh -c 'echo a very long command; exit 1'",
        "Created": CREATED,
        "Ports": [],
        "Labels": {"b": "2", "a": "1"},
        "State": "running",
        "Status": "Up 3 hours",
        "HostConfig": {"NetworkMode": "default"},
        "NetworkSettings": {"Networks": {"bridge": {}}},
        "Mounts": [],
        **more,
    }


def _port(private: int, public: int = 0, ip: str = "", kind: str = "tcp") -> dict[str, Any]:
    found: dict[str, Any] = {"PrivatePort": private, "Type": kind}
    return {**found, "PublicPort": public, "IP": ip} if public else found


CONTAINERS = [
    _container(1),
    _container(
        2, Names=["/two", "/one/alias"], Command='"q" <&>', Ports=[_port(80, 8080, "0.0.0.0"), _port(80, 8080, "::")]
    ),
    _container(3, Image="docker.io/library/bb:1", Ports=[_port(n) for n in (82, 80, 81)] + [_port(53, kind="udp")]),
    _container(4, Image=LONG, Command="", Labels=None, Ports=[_port(n, n, "0.0.0.0") for n in (90, 91, 92)]),
    _container(5, Image="h:5000/a/b@sha256:" + "cd" * 32, SizeRw=1234567, SizeRootFs=98765432),
    _container(6, Image="", State="exited", Status="Exited (1) 2 weeks ago", SizeRw=5),
    _container(
        7, Mounts=[{"Name": "vol" * 10, "Driver": "local"}, {"Source": "/a/b"}], Command="unicodé ümlauts and more"
    ),
    _container(8, NetworkSettings={"Networks": {"solo": {}}}, Created=CREATED - 400 * 86400),
]
IMAGES = [
    {
        "Id": LONG,
        "RepoTags": ["bb:1", "bb:2"],
        "RepoDigests": [f"bb@{LONG}"],
        "Created": CREATED,
        "Size": 1984206,
        "SharedSize": -1,
        "Containers": -1,
        "Labels": None,
        "ParentId": "",
    },
    {
        "Id": "sha256:" + "01" * 32,
        "RepoTags": ["<none>:<none>"],
        "RepoDigests": ["<none>@<none>"],
        "Created": CREATED,
        "Size": 0,
        "SharedSize": -1,
        "Containers": -1,
    },
    {
        "Id": "sha256:" + "02" * 32,
        "RepoTags": [],
        "RepoDigests": [f"only/digest@{LONG}"],
        "Created": CREATED,
        "Size": 123456789012,
        "SharedSize": -1,
        "Containers": -1,
    },
    {
        "Id": "sha256:" + "03" * 32,
        "RepoTags": None,
        "RepoDigests": None,
        "Created": CREATED,
        "Size": 999,
        "SharedSize": 500,
        "Containers": 2,
    },
]
NETWORKS = [
    {
        "Name": "n10",
        "Id": "e" * 64,
        "Created": "2026-11-23T17:07:15.567423124Z",
        "Scope": "local",
        "Driver": "bridge",
        "EnableIPv6": True,
        "EnableIPv4": True,
        "Internal": True,
        "Labels": {"x": "y"},
    },
    {
        "Name": "n2",
        "Id": "d" * 64,
        "Created": "2026-11-23T17:07:15Z",
        "Scope": "local",
        "Driver": "bridge",
        "EnableIPv6": False,
        "Internal": False,
        "Labels": {},
    },
    {
        "Name": "host",
        "Id": "f" * 64,
        "Created": "2026-11-23T17:07:15.5Z",
        "Scope": "local",
        "Driver": "host",
        "EnableIPv6": False,
        "Internal": False,
        "Labels": None,
    },
]
HISTORY = [
    {
        "Id": LONG,
        "Created": CREATED,
        "CreatedBy": '/bin/sh -c #(nop)  CMD ["sh"] and a rather long line\tindeed',
        "Size": 0,
        "Comment": "",
        "Tags": ["bb:1"],
    },
    {"Id": "<missing>", "Created": CREATED, "CreatedBy": "ADD x", "Size": 1984206, "Comment": "imported", "Tags": None},
]
VIEW = {
    "Id": "1" * 64,
    "Name": "/c1",
    "Created": "2026-11-23T17:07:15.567423124Z",
    "State": {"Status": "running", "Running": True, "Pid": 7},
    "Config": {"Labels": {"a": "<b>"}, "Env": [], "Cmd": None, "Volumes": {}},
    "NetworkSettings": {
        "Ports": {
            "100/tcp": [{"HostIp": "", "HostPort": "1"}],
            "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": "8080"}],
            "9/udp": None,
        }
    },
    "Mounts": [],
}
EVENTS = [
    {
        "status": "start",
        "id": "c" * 64,
        "from": "bb:1",
        "Type": "container",
        "Action": "start",
        "Actor": {"ID": "c" * 64, "Attributes": {"image": "bb:1", "name": "n"}},
        "scope": "local",
        "time": CREATED,
        "timeNano": CREATED * 10**9 + 120,
    },
    {
        "Type": "network",
        "Action": "connect",
        "Actor": {"ID": "e", "Attributes": {}},
        "scope": "local",
        "time": CREATED,
        "timeNano": CREATED * 10**9,
    },
]


VOLUMES = [
    {
        "CreatedAt": "2026-11-23T20:23:08Z",
        "Driver": "local",
        "Labels": {"a": "b"},
        "Mountpoint": "/data/volumes/v1/_data",
        "Name": "v1",
        "Options": None,
        "Scope": "local",
    },
    {"Driver": "local", "Labels": None, "Mountpoint": "/data/volumes/v0/_data", "Name": "v0", "Scope": "local"},
]


USAGE = {
    "LayersSize": 5_000_000,
    "Images": [
        {**IMAGES[0], "SharedSize": 1_000_000, "Containers": 2},
        {**IMAGES[1], "SharedSize": 0, "Containers": 0},
        {**IMAGES[3], "Containers": 0},
    ],
    "Containers": [CONTAINERS[4], CONTAINERS[5], CONTAINERS[6]],
    "Volumes": [
        {**VOLUMES[0], "UsageData": {"RefCount": 1, "Size": 123456}},
        {**VOLUMES[1], "UsageData": {"RefCount": 0, "Size": 7}},
    ],
    "BuildCache": [
        {
            "ID": "x" * 25,
            "Type": "regular",
            "Description": "d",
            "InUse": True,
            "Shared": False,
            "Size": 1000,
            "CreatedAt": "2026-11-23T17:07:15.5Z",
            "LastUsedAt": "2026-11-23T17:08:15.5Z",
            "UsageCount": 3,
        },
        {
            "ID": "y" * 25,
            "Type": "source.local",
            "Description": "d",
            "InUse": False,
            "Shared": True,
            "Size": 20,
            "CreatedAt": "2026-11-23T17:07:15.5Z",
            "LastUsedAt": None,
            "UsageCount": 1,
        },
    ],
    "BuilderSize": 1000,
}


def archive(request: Request) -> Reply:
    """What save gets."""
    if "nosuch" in str(request.query):
        return refusal(404, "No such image: nosuch")
    return Reply(200, b"archive")


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeDaemon]:
    with FakeDaemon(str(tmp_path_factory.mktemp("d") / "s"), api_version="1.45") as fake:
        fake.on("GET", "/containers/json", answer(CONTAINERS))
        fake.on("GET", "/images/json", answer(IMAGES))
        fake.on("GET", "/networks", answer(NETWORKS))
        fake.on("GET", "/images/get", archive)
        fake.on("GET", "/volumes", answer({"Volumes": VOLUMES, "Warnings": None}))
        fake.on("GET", "/volumes/v1", answer(VOLUMES[0]))
        fake.on("POST", "/volumes/create", answer(VOLUMES[0], status=201))
        fake.on("POST", "/volumes/prune", answer({"VolumesDeleted": ["v1", "v2"], "SpaceReclaimed": 12345}))
        fake.on("DELETE", "/volumes/v1", answer(None, status=204))
        fake.on("DELETE", "/volumes/nosuch", refusal(404, "get nosuch: no such volume"))
        fake.on("POST", "/networks/create", answer({"Id": "f" * 64, "Warning": ""}, status=201))
        fake.on("POST", "/networks/(a|b)/(dis)?connect", Reply(200))
        fake.on("GET", "/networks/(a|b)", answer({"Name": "a", "Id": "a" * 64}))
        fake.on("DELETE", "/networks/(a|b)", Reply(204))
        fake.on("DELETE", "/networks/nosuch", refusal(404, "network nosuch not found"))
        fake.on("POST", "/networks/prune", answer({"NetworksDeleted": ["n1", "n2"]}))
        fake.on("POST", "/containers/prune", answer({"ContainersDeleted": ["c1", "c2"], "SpaceReclaimed": 12345}))
        fake.on(
            "POST",
            "/images/prune",
            answer({"ImagesDeleted": [{"Untagged": "a:1"}, {"Deleted": LONG}], "SpaceReclaimed": 12345}),
        )
        fake.on("GET", "/system/df", answer(USAGE))
        fake.on("POST", "/build/prune", answer({"CachesDeleted": ["k1"], "SpaceReclaimed": 55}))
        fake.on("GET", "/containers/c1/changes", answer([{"Kind": k, "Path": f"/{k}"} for k in (0, 1, 2)]))
        fake.on("GET", "/containers/c1/export", archive)
        fake.on("POST", "/commit", answer({"Id": LONG}, status=201))
        fake.on("GET", "/images/bb:1/history", answer(HISTORY))
        fake.on("GET", "/(containers|images|networks|volumes)/nosuch(/json)?", refusal(404, "No such thing: nosuch"))
        fake.on("GET", "/containers/c1/json", answer(VIEW))
        fake.on("GET", "/images/bb:1/json", answer({"Id": LONG, "RepoTags": ["bb:1"], "Config": {"Env": ["A=1"]}}))
        fake.on("GET", "/networks/bridge", answer({"Name": "bridge", "Id": "f" * 64}))
        fake.on("GET", "/info", answer({"ID": "x"}))
        fake.on(
            "GET", "/containers/c1/top", answer({"Titles": ["PID", "CMD"], "Processes": [["1", "sh"], ["22", "a b"]]})
        )
        fake.on("GET", "/events", Reply(chunks=[json.dumps(event).encode() + b"\n" for event in EVENTS]))
        fake.on("POST", "/containers/(a|b)/.*", Reply(204))
        fake.on("POST", "/containers/(a|b)/update", answer({"Warnings": ["swap is not limited"]}))
        fake.on("POST", "/containers/(a|b)/wait", answer({"StatusCode": 3}))
        fake.on("POST", "/containers/nosuch/.*", refusal(404, "No such container: nosuch"))
        fake.on("DELETE", "/containers/(a|b)", Reply(204))
        fake.on("DELETE", "/containers/nosuch", refusal(404, "No such container: nosuch"))
        fake.on("DELETE", "/images/a", answer([{"Untagged": "a:latest"}, {"Deleted": LONG}]))
        fake.on("DELETE", "/images/nosuch", refusal(404, "No such image: nosuch:latest"))
        fake.on("POST", "/images/.*/tag", Reply(201))
        fake.on(
            "POST",
            "/images/.*/push",
            Reply(
                chunks=[
                    b'{"status":"The push refers to repository [h:1/x]"}\r\n',
                    b'{"status":"Pushed","progressDetail":{},"id":"b37185a62e92"}\r\n',
                    b'{"progressDetail":{},"aux":{"Tag":"1","Digest":"x","Size":5}}\r\n',
                ]
            ),
        )
        yield fake


SAME = """
ps
ps -a --no-trunc
ps -q
ps -aq --no-trunc
ps -s
ps -n 2
ps -l
ps -f status=exited -f label=a=b -f label=c --filter name=x
ps --format json
ps --no-trunc --format json
ps --format '{{.ID}} {{.Names}} {{.Ports}}'
ps --format '{{json .}}'
ps --format 'table {{.ID}}\\t{{.Image}}\\t{{.Size}}'
ps --format 'table {{.Names}}\\t{{.RunningFor}}'
ps --format '{{.Names}}: {{.Label "a"}}'
ps --format 'table {{.Label "com.example.some-label"}}\\t{{.ID}}'
ps --format '{{.CreatedAt}}|{{.Command}}|{{.Mounts}}|{{.LocalVolumes}}|{{.Networks}}|{{.Labels}}|{{.State}}|{{.Status}}'
ps --format '{{upper .Names}}{{if eq .State "exited"}}!{{end}}'
ps --format '{{truncate .ID 4}} {{len .Names}} {{pad .State 2 1}}|'
container ls -a
images
images -a --no-trunc
images --digests
images -q
images -q --no-trunc
images --format json
images --digests --format json
images --format '{{.Repository}}:{{.Tag}} {{.Size}} {{.Digest}} {{.ID}}'
images --format 'table {{.ID}}\\t{{.CreatedSince}}\\t{{.CreatedAt}}'
images bb:1
images -f dangling=true
image ls
network ls
network ls -q
network ls --no-trunc
network ls --format json
network ls --format '{{.Name}} {{.Driver}} {{.Labels}} {{.IPv6}} {{.Internal}} {{.CreatedAt}}'
network ls -f driver=bridge
save
save bb:1
save bb:1 other
save -o /nonexistent/x bb:1
save -o /tmp bb:1
save nosuch
image save bb:1
load -i /nonexistent/x
load x
volume ls
volume list -q
volume ls --format json
volume ls --format '{{.Name}} {{.Driver}} {{.Labels}} {{.Scope}} {{.Mountpoint}}'
volume ls -f dangling=true
volume inspect v1
volume inspect -f '{{.Name}} {{.Labels.a}}' v1 nosuch
volume create
volume create v1
volume create --label a=b --label c -o type=none -o device=/x --opt o=bind v1
volume create v1 v2
volume rm v1
volume rm v1 nosuch
volume rm -f v1 nosuch
volume rm
volume prune
volume prune -f
volume prune --all --force
volume prune --force --filter label=a
volume
history bb:1
history --no-trunc bb:1
history -q bb:1
history --human=false bb:1
history --format json bb:1
history --format '{{.ID}}: {{.CreatedBy}}' bb:1
inspect c1
inspect -f '{{.State.Pid}}' c1
inspect -f '{{json .NetworkSettings.Ports}}' c1
inspect -f '{{range $p, $c := .NetworkSettings.Ports}}{{$p}}={{range $c}}{{.HostPort}},{{end}} {{end}}' c1
inspect --type container c1
inspect bb:1
inspect bridge
inspect c1 nosuch
inspect nosuch
inspect -f '{{.Id}}' nosuch
container inspect c1 nosuch
image inspect bb:1
image inspect -f '{{.Id}}' bb:1
network inspect bridge
port c1
port c1 80
port c1 80/tcp
port c1 9/udp
top c1
top c1 -o pid,cmd
events
events --format json
events --format '{{.Type}} {{.Action}} {{.Actor.ID}}'
stop a b
stop -t 3 -s INT a nosuch b
restart -t 0 a
kill a nosuch
kill -s HUP a
pause a
unpause a b
start a b
start a nosuch b
wait a b nosuch
rm a
rm -fv nosuch a
rename a newname
rmi a
rmi -f nosuch
rmi nosuch a
rmi -f --no-prune a
tag a h:5000/x/y:z
tag a b
tag a UPPER
tag a b@sha256:abababababababababababababababababababababababababababababababab
push h:1/x:1
push x
push -q x
push -a x:1
pull -a x:1
pull UPPER
pull x:
pull a/b/c@sha256:123
images a b
network create a
network create -d macvlan --subnet 10.1.0.0/16 --gateway 10.1.0.1 --ip-range 10.1.1.0/24 --aux-address x=10.1.0.9 a
network create --label a=b --label c -o parent=eth0 --opt x=y --internal --attachable --ipv6 --ipam-opt q=r a
network create --ipv4=false --scope local --ipam-driver other a
network create --config-only --config-from x a
network create --subnet bad a
network create --gateway 10.1.0.1 a
network create --subnet 10.1.0.0/16 --subnet 10.1.2.0/24 a
network create --subnet 10.1.0.0/16 --subnet fd00::/64 --gateway 10.3.0.1 a
network create --subnet 10.1.0.0/16 --ip-range 10.3.0.0/24 a
network create --subnet 10.1.0.0/16 --aux-address x=10.3.0.9 a
network create --subnet 10.1.0.0/16 --subnet 10.2.0.0/16 --gateway 10.1.0.1 --gateway 10.1.0.2 a
network create --subnet 10.1.0.0/16 --subnet 10.2.0.0/16 --ip-range 10.1.0.0/24 --ip-range 10.1.1.0/24 a
network create
network create a b
network connect a c1
network connect --alias x --alias y --ip 10.1.0.5 --link l:m --driver-opt k=v --gw-priority 3 a c1
network connect --ip6 fd00::5 --link-local-ip 169.254.1.1 a c1
network connect --driver-opt k a c1
network connect a
network disconnect a c1
network disconnect -f a c1
network disconnect a
network rm a b
network remove nosuch a
network rm -f nosuch a
network rm
network prune -f
network prune -f --filter until=1h
network prune
container prune -f
container prune -f --filter label=a
container prune
image prune -f
image prune -fa --filter label=a
image prune
image prune -a
system df
system df -v
system df --format json
system df -v --format json
system df --format '{{.Type}}|{{.TotalCount}}|{{.Active}}|{{.Size}}|{{.Reclaimable}}'
system df --format 'table {{.Type}}\\t{{.Size}}'
system df -v --format '{{range .Images}}{{.Repository}} {{.UniqueSize}} {{end}}{{json .Volumes}}'
system df -v --format '{{range .Containers}}{{.Names}} {{.Size}} {{end}}{{len .BuildCache}}'
system df --format table
system df x
system prune
system prune -a --volumes
system prune -f
system prune -f --volumes --filter label=a
system prune -af --filter until=1s --filter label=b
system prune -f --volumes --filter until=1s
system prune --filter label=x
system prune x
diff c1
diff nosuch
diff
container diff c1
export c1
export nosuch
container export -o /nosuch/x c1
update -m 100m --memory-swap 200m a b
update --cpus 1.5 --pids-limit 7 --restart always a
update --restart on-failure:3 --cpuset-cpus 0 a
update --cpu-shares 3 --blkio-weight 5 --memory-reservation 5m nosuch a
update --cpu-period 7 --cpu-quota 8 --cpuset-mems 0 a
update a
update
commit c1
commit -a me -m why -c 'ENV A=1' -c 'CMD x' -p=false c1 h:5000/x:y
commit c1 x
commit c1 UPPER
commit
ps extra
rm
stop
logs
logs a b
tag a
rename a
inspect
exec a
port
top
history
login a b
version x
info x
network ls x
network inspect
image inspect
container inspect
image
container
network nosuch
container nosuch
image nosuch x
nosuchcommand
ps --nosuch
ps -Z
images -f x
images --format
logs --tail
stop -t x a
ps -n x
--nosuch
-H unix:///a -H unix:///b ps
"""


def _requests(daemon: FakeDaemon, begin: int) -> list[tuple[str, str, dict[str, str], bytes]]:
    return [
        (item.method, item.path, item.query, item.body.strip())
        for item in daemon.requests[begin:]
        if item.path not in ("/_ping",)
    ]


# Groups' own help is in our words.
OWN_WORDS = {"image", "container", "volume"}


@stock_cli
@pytest.mark.parametrize("line", SAME.strip().split("\n"))
def test_the_output_is_the_stock_cli_s(daemon: FakeDaemon, line: str) -> None:
    arguments = shlex.split(line)
    seen = {}
    for client in ("docker", "pyker"):
        begin = len(daemon.requests)
        told = run_client(client, daemon.host, arguments)
        seen[client] = told, _requests(daemon, begin)
    stock, ours = seen["docker"][0], seen["pyker"][0]
    assert ours.code == stock.code, (stock, ours)
    if line in OWN_WORDS:
        assert [text.split()[0] for text in ours.out.splitlines() if text.startswith("  ")]
        return
    assert ours.out == in_our_name(stock.out).replace("pyker.io", "docker.io")
    assert ours.err == in_our_name(stock.err).replace("\nSRun", "\nRun")
    asked = [item for item in seen["docker"][1] if not item[1].startswith(("/plugins", "/info", "/swarm"))]
    # Several containers are asked about at once, in no order.
    assert sorted(seen["pyker"][1], key=str) == sorted(asked, key=str)


def _flags_of(text: str) -> dict[str, tuple[str, str]]:
    found = {}
    for match in re.finditer(r"^ {2}(?:-(\w),| {3}) --([a-z0-9-]+)(?: (\S+))?(?:  |$)", text, re.MULTILINE):
        found[match[2]] = (match[1] or "", match[3] or "")
    return found


# What docker's help lists that ours does not: content trust, checkpoints, Windows, and what is said to be missing.
NOT_LISTED = {"disable-content-trust", "checkpoint", "checkpoint-dir", "use-api-socket", "tree", "platform"}
NOT_LISTED |= {"cluster", "availability", "group", "limit-bytes", "required-bytes", "scope", "secret", "sharing"}
NOT_LISTED |= {"topology-preferred", "topology-required", "type"}
NOT_LISTED |= {"cpu-count", "cpu-percent", "io-maxbandwidth", "io-maxiops", "isolation"}


@stock_cli
@pytest.mark.parametrize("path", sorted(set(catalogue.PATHS) - {"jobs"}))
def test_help_lists_the_flags_that_the_stock_cli_lists(path: str) -> None:
    words = path.split(" ")
    stock = subprocess.run(["docker", *words, "--help"], capture_output=True, text=True, check=True, env=environment())
    ours = subprocess.run(
        [sys.executable, "-m", "pyker", *words, "--help"], capture_output=True, text=True, check=True, env=environment()
    )
    known = _flags_of(ours.stdout)
    for name, form in _flags_of(stock.stdout).items():
        if name not in NOT_LISTED:
            assert known.get(name) == form, name
    assert set(known) <= set(_flags_of(stock.stdout))
    assert ours.stdout.splitlines()[0] == in_our_name(stock.stdout.splitlines()[0])
    aliases = [line for line in stock.stdout.splitlines() if line.startswith("  docker ")]
    assert in_our_name("\n".join(aliases)) in ours.stdout


def test_what_is_not_there_says_so(daemon: FakeDaemon) -> None:
    for line in (
        "build .",
        "compose up",
        "cp a:b c",
        "stats",
        "swarm init",
        "system dial-stdio",
        "trust sign x",
    ):
        told = run_client("pyker", daemon.host, line.split())
        assert told.code == 1 and "is not there yet" in told.err and told.out == ""


def test_nobody_listens(tmp_path: Path) -> None:
    host = f"unix://{tmp_path}/none"
    text = f"Cannot connect to the Pyker daemon at {host}. Is the pyker daemon running?"
    assert run_client("pyker", host, ["ps"]) == (1, "", text + "\n")
    told = run_client("pyker", host, ["run", "img"])
    assert told == (125, "", f"pyker: {text}\n\nRun 'pyker run --help' for more information\n")
    told = run_client("pyker", host, ["version"])
    assert told.code == 1 and told.out.startswith("Client: Pyker\n") and told.err == text + "\n"


HOSTILE = [
    b"",
    b"\x00" * 100,
    b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    b"HTTP/1.1 abc\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000,
    b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nshort",
    b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nabc",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}}",
    b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"[" * 100_000,
    b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n[1,2,3]",
    b'HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n[{"Id": 1 }]',
    b'HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{"a":"b"}    ',
    b"HTTP/1.1 500 X\r\nContent-Length: 5\r\n\r\n<htm>",
    b'HTTP/1.1 500 X\r\nContent-Length: 15\r\n\r\n{"message":[1]}',
    b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n",
]


@pytest.mark.parametrize("wire", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize(
    "command", ["ps", "images", "version", "info", "network ls", "inspect x", "pull x", "jobs", "run x"]
)
def test_a_hostile_answer_is_an_error_and_never_a_traceback(tmp_path: Path, wire: bytes, command: str) -> None:
    def spoil(stream: Any) -> None:
        stream.raw(wire)

    with FakeDaemon(str(tmp_path / "s")) as fake:
        fake.raw("GET|POST", "(?!/_ping).*", spoil)
        told = run_client("pyker", fake.host, command.split(), timeout=30)
    assert "Traceback" not in told.err and len(told.err) < 4000
    # Objects that merely lack every field are shown as they are.
    lacking = wire.endswith((b"}]", b"}    "))
    assert (told.code in (1, 125) and told.err) or (lacking and told.code == 0)


@pytest.mark.parametrize("installed", ["path file", "finder", "copy"])
def test_the_script_starts_python_without_site(daemon: FakeDaemon, tmp_path: Path, installed: str) -> None:
    source = Path(__file__).parents[2]
    packages = tmp_path / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    packages.mkdir(parents=True)
    match installed:
        case "path file":
            (packages / "__editable__.pyker-0.1.0.pth").write_text(f"{source}\n")
        case "finder":
            text = f"MAPPING: dict[str, str] = {{'pyker': '{source}/pyker'}}\n"
            (packages / "__editable___pyker_0_1_0_finder.py").write_text(text)
        case _:
            (packages / "pyker").symlink_to(source / "pyker")
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "pyker"
    shutil.copy(source / "bin" / "pyker", script)
    os.symlink(sys.executable, tmp_path / "bin" / "python3")
    link = tmp_path / "elsewhere"
    link.symlink_to(script)
    for command in (script, link):
        done = subprocess.run(
            [str(command), "ps", "-q"], env=environment(daemon.host), capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines()[0] == "01cccccccccc"


@pytest.mark.parametrize("redirection", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_closed_standard_streams_are_no_traceback(daemon: FakeDaemon, redirection: str) -> None:
    begin = len(daemon.requests)
    done = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m pyker ps -q {redirection}"],
        env=environment(daemon.host),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert _requests(daemon, begin) == [("GET", "/containers/json", {}, b"")]
    assert (done.stdout == "") == (redirection.startswith(">&-"))


def test_text_is_utf8_in_every_locale(daemon: FakeDaemon) -> None:
    for locale in ("C", "POSIX", "en_US.ISO-8859-1", "C.UTF-8"):
        told = run_client("pyker", daemon.host, ["ps", "--format", "{{.Command}}"], env={"LC_ALL": locale})
        assert told.code == 0 and "unicodé ümlauts" in told.out, locale


def test_output_into_a_closed_pipe_is_no_traceback(daemon: FakeDaemon) -> None:
    done = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m pyker ps --no-trunc | true; {sys.executable} -m pyker ps >/dev/full"],
        env=environment(daemon.host),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr
    assert done.stderr == "pyker: No space left on device\n" and done.returncode == 1
