"""What ``pyker create`` posts is what the stock docker CLI posts, flag by flag; what one refuses, the other refuses."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.fake_daemon import FakeDaemon, lay_down_container, refusal

pytestmark = [pytest.mark.requires("docker-cli-28"), pytest.mark.slow]

ACCEPTED = """
img
img cmd a -b --c
img -- cmd
-i img
-it img
-t img sh
-ti -e A=1 -eB=2 --env C=3 --env=D=4 -e HOME -e NOT_SET_ANYWHERE img
-a stdin -a STDOUT img
-a stderr img
-ia stdout img
-h name --domainname dom img
-u 1000:1000 -w /tmp img
-l a=b -l c --label d=e=f img
--entrypoint /bin/sh img -c true
--entrypoint= img
-p 80 img
-p 8080:80 -p 8081:81/udp img
-p8080:80 img
-p 127.0.0.1:8080:80 -p 127.0.0.1::81 img
-p [::1]:8080:80 img
-p ::1:8080:80 img
-p 8000-8002:80-82 img
-p 8000-8010:80 img
-p 80/sctp img
-p 80:80/TCP img
-p published=8080,target=80,protocol=udp img
-p target=80 img
-P --expose 90 --expose 91-93/udp img
-p 80:80 --expose 80 img
-v /a:/b img
-v /a:/b:ro -v vol:/c -v /anon img
-v vol:/c:nocopy,ro img
-v ./rel:/x -v ../up:/y img
-v /a:/b -v /a:/b img
-v x:/y img
--mount type=bind,src=/a,dst=/b img
--mount type=bind,source=/a,target=/b,readonly,bind-propagation=rslave img
--mount type=volume,dst=/b img
--mount src=vol,dst=/b,volume-nocopy,volume-label=a=b,volume-driver=local,volume-opt=o=x img
--mount type=volume,src=v,dst=/b,volume-subpath=x/y img
--mount type=tmpfs,dst=/b,tmpfs-size=64m,tmpfs-mode=1770 img
--mount type=bind,src=/a,dst=/b,ro=true,bind-recursive=readonly,bind-propagation=rprivate img
--mount type=bind,src=/a,dst=/b,bind-recursive=disabled img
--mount type=bind,src=.,dst=/b img
--mount type=bind,src=./a,dst=/b,consistency=cached img
--tmpfs /run --tmpfs /tmp:rw,size=1m img
--volumes-from a --volumes-from b:ro --volume-driver drv img
--network host img
--network none img
--network bridge img
--net container:abc img
--network mynet img
--network mynet --network-alias a --network-alias b img
--network name=mynet,alias=x,alias=Y,driver-opt=k=v,ip=10.0.0.5,ip6=fd00::5,mac-address=02:42:00:00:00:05 img
--network n1 --network n2 img
--network name=n1,gw-priority=5 --network name=n2,alias=q img
--network mynet --ip 10.0.0.9 --ip6 fd00::9 --link-local-ip 169.254.1.1 img
--network mynet --mac-address 02:42:ac:11:00:02 img
--mac-address 02:42:ac:11:00:02 img
--link a --link b:c img
--dns 1.1.1.1 --dns fd00::1 --dns-search example.com --dns-search . --dns-option ndots:1 img
--add-host a:1.2.3.4 --add-host b=1.2.3.5 --add-host c:host-gateway --add-host d:[fd00::1] img
-m 64m --memory-swap -1 --memory-reservation 32m --memory-swappiness 10 img
-m 1.5g --shm-size 128M --memory-swap 2GB img
--memory 67108864 img
--cpus 1.5 -c 512 --cpu-period 50000 --cpu-quota 25000 --cpuset-cpus 0-1 --cpuset-mems 0 img
--cpus .5 --cpu-rt-period 1000 --cpu-rt-runtime 500 img
--pids-limit 100 img
--pids-limit -1 --oom-kill-disable --oom-score-adj -500 img
--blkio-weight 300 --blkio-weight-device /dev/sda:200 img
--device-read-bps /dev/sda:1mb --device-write-bps /dev/sda:2m --device-read-iops /dev/sda:10 img
--device-write-iops /dev/sda:20 img
--ulimit nofile=100:200 --ulimit core=0 --ulimit nproc=-1 img
--ulimit nofile=100 --ulimit nofile=300 img
--device /dev/null --device /dev/zero:/dev/z --device /dev/full:/dev/f:r --device /dev/tty:rw img
--device vendor.com/class=name img
--device-cgroup-rule 'c 1:3 rwm' --device-cgroup-rule 'b *:* m' img
--cap-add NET_ADMIN --cap-add sys_time --cap-drop CAP_MKNOD --cap-drop all img
--cap-add net_admin --cap-add CAP_NET_ADMIN img
--privileged --read-only --init img
--init=false img
--pid host --ipc host --uts host --userns host --cgroupns private img
--pid container:x --ipc container:x --cgroupns host img
--cgroup-parent /x --group-add 10 --group-add wheel img
--restart always img
--restart on-failure:5 img
--restart unless-stopped img
--restart on-failure img
--rm img
--rm=true img
--rm=false --restart no img
--security-opt no-new-privileges --security-opt seccomp=unconfined --security-opt label=disable img
--security-opt apparmor:x img
--security-opt seccomp=profile.json img
--security-opt systempaths=unconfined img
--log-driver json-file --log-opt max-size=10m --log-opt max-file=3 img
--log-driver none img
--storage-opt size=10G img
--sysctl net.core.somaxconn=1024 --sysctl kernel.msgmax=1 img
--annotation a=b --annotation c=d img
--runtime runc --stop-signal SIGINT --stop-timeout 7 img
--stop-timeout 0 img
--health-cmd 'curl x' --health-interval 5s --health-timeout 1m30s --health-retries 3 --health-start-period 500ms img
--health-interval 3s --health-start-interval 1s img
--no-healthcheck img
--mount type=foo,dst=/b img
--network name= img
--name n1 --platform linux/amd64 img
--gpus all img
--gpus 2 img
--gpus device=0 img
--gpus 'count=1,driver=nvidia,"capabilities=compute,utility"' img
--env-file env.txt -e Z=last img
--label-file labels.txt -l z=last img
--isolation default --kernel-memory 16m img
-dit img
--hostname=h --hostname h2 img
--detach-keys ctrl-a img
--sig-proxy=false img
"""

RUN_ONLY = {"-dit", "--sig-proxy=false", "--detach-keys"}

# The CLI refuses these before it asks the daemon for anything; so must we, in the same words.
REFUSED = """
-e= img
--nosuch img
-Z img
-itZ img
-m
--memory
--memory=x img
-m -1 img
--rm=maybe img
--cpus x img
--cpus 0.0000000001 img
--pids-limit x img
--blkio-weight 99999 img
--blkio-weight -1 img
-p abc img
-p 80:abc img
-p 70000 img
-p 1-2:3-5 img
-p 80/xyz img
-p 1.2.3.4.5:80:80 img
-p 80: img
-p 9-8 img
--expose 80:80 img
--expose x img
-a foo img
--ulimit x img
--ulimit nofile=5:3 img
--ulimit bogus=5 img
--memory-swappiness 101 img
--restart foo:x img
--rm --restart always img
--pid bogus img
--uts bogus img
--userns bogus img
--cgroupns bogus img
--dns x img
--mac-address zz img
--security-opt foo img
--security-opt seccomp=/nosuch img
--storage-opt x img
--env-file /nosuch img
--label-file /nosuch img
--env-file bad.txt img
--log-driver none --log-opt a=b img
--no-healthcheck --health-cmd x img
--health-interval x img
--health-interval=-1s img
--device x img
--device /a:/b:z img
--device a:b:c:d img
--network a=b,c=d img
--network host --network mynet img
--network n1 --network n1 img
--network bridge --network-alias x img
--mount type=bind,src=/a img
--mount nonsense img
--mount type=bind,src=/a,dst=/b,foo=bar img
--mount type=bind,src=/a,dst=/b,volume-nocopy img
--mount type=tmpfs,dst=/b,tmpfs-size=x img
--env =x img
--add-host x img
--add-host x:y img
--device-read-bps /dev/sda:x img
--device-read-iops /dev/sda:1k img
--device-cgroup-rule x img
--blkio-weight-device /dev/sda:5 img
--dns-search -x- img
--stop-timeout x img
--pull sometimes img
--=x img
---x img
"""


class Posted(NamedTuple):
    """What a client made of a command line."""

    code: int
    out: str
    err: str
    query: dict[str, str]
    body: Any


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli")
    (path / "env.txt").write_text("\ufeff# note\nA=1\n  B=two words \n\nHOME\nNOT_SET_ANYWHERE\nC=\n", encoding="utf-8")
    (path / "bad.txt").write_text("A B=1\n")
    (path / "labels.txt").write_text("a=1\nb\n# c\nHOME\n")
    (path / "profile.json").write_text('{\n  "defaultAction": "SCMP_ACT_ALLOW",\n  "syscalls": [ ]\n}\n')
    (path / "config").mkdir()
    return path


@pytest.fixture(scope="module", params=["1.50", "1.41"])
def daemon(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeDaemon]:
    path = tmp_path_factory.mktemp("daemon") / "s"
    with FakeDaemon(str(path), api_version=request.param) as fake:
        lay_down_container(fake)
        yield fake


CLIENTS = {"docker": ["docker"], "pyker": [sys.executable, "-m", "pyker"]}


def post(client: str, daemon: FakeDaemon, folder: Path, arguments: Sequence[str], verb: str = "create") -> Posted:
    """Run a client; what it posted, None if nothing."""
    before = len(daemon.requests)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DOCKER_", "PYKER_"))}
    done = subprocess.run(
        [*CLIENTS[client], verb, *arguments],
        cwd=folder,
        env={**environment, "DOCKER_HOST": daemon.host, "DOCKER_CONFIG": str(folder / "config"), "HOME": "/root"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    posts = [item for item in daemon.requests[before:] if item.path == "/containers/create"]
    query, body = (posts[0].query, posts[0].json) if posts else ({}, None)
    return Posted(done.returncode, done.stdout, done.stderr, query, body)


def normal(body: Any) -> Any:
    """Binds and variables in no particular order: the stock CLI takes them from Go maps."""
    if isinstance(body, dict):
        body = json.loads(json.dumps(body))
        body["HostConfig"]["Binds"] = sorted(body["HostConfig"]["Binds"] or [])
        body["Env"] = sorted(body["Env"] or [])
    return body


@pytest.mark.parametrize("line", ACCEPTED.strip().split("\n"))
def test_the_body_is_the_stock_cli_s(daemon: FakeDaemon, folder: Path, line: str) -> None:
    arguments = shlex.split(line)
    verb = (
        "run"
        if any(arg.startswith(("--detach", "--sig-proxy", "-d")) for arg in arguments if arg != "--device")
        and ("-dit" in arguments or "--sig-proxy=false" in arguments or "--detach-keys" in arguments)
        else "create"
    )
    stock = post("docker", daemon, folder, arguments, verb)
    ours = post("pyker", daemon, folder, arguments, verb)
    if stock.body is None and daemon.api_version != "1.50":
        # Some flags are refused for daemons that would drop what they say.
        assert (ours.code, ours.err) == (stock.code, in_our_name(stock.err))
        return
    assert stock.body is not None, stock.err
    assert ours.body is not None, ours.err
    assert normal(ours.body) == normal(stock.body)
    assert ours.query == stock.query
    assert (ours.code, ours.out) == (stock.code, stock.out)


def in_our_name(text: str) -> str:
    return text.replace("docker", "pyker").replace("Docker", "Pyker")


@pytest.mark.parametrize("line", REFUSED.strip().split("\n"))
def test_what_the_stock_cli_refuses_is_refused_in_its_words(daemon: FakeDaemon, folder: Path, line: str) -> None:
    arguments = shlex.split(line)
    stock = post("docker", daemon, folder, arguments, "run")
    ours = post("pyker", daemon, folder, arguments, "run")
    assert stock.code != 0 and stock.body is None
    assert ours.body is None
    assert ours.code == stock.code, (ours.err, stock.err)
    assert ours.err == in_our_name(stock.err)


def test_a_refusal_of_the_daemon_is_told_as_docker_tells_it(tmp_path: Path, folder: Path) -> None:
    with FakeDaemon(str(tmp_path / "s")) as fake:
        fake.on("POST", "/containers/create", refusal(409, 'Conflict. The container name "/c1" is already in use'))
        stock = post("docker", fake, folder, ["img"], "run")
        ours = post("pyker", fake, folder, ["img"], "run")
    assert (ours.code, ours.err) == (stock.code, in_our_name(stock.err)) and ours.code == 125
