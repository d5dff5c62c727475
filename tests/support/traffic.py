"""Real packets: small servers in containers, and what reaches them from where."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tests.support.engines import Engine
from tests.support.sandbox import wait_until


def inside(engine: Engine, container: str, command: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
    """Run a program of the machine in a container's network namespace: the image needs none of its own."""
    pid = engine.state(container)["Pid"]
    assert isinstance(pid, int) and pid > 0
    return engine.sandbox.run(["nsenter", "-t", str(pid), "-n", "--", *command], check=False)


def fetch(engine: Engine, host: str, port: int | str = 80, *, source: str = "", patience_s: int = 5) -> str | None:
    """What a server answers over HTTP to the container ``source``, or to the host without one; None if it does not."""
    ask = f"exec 3<>/dev/tcp/{host}/{port} && printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3 && exec cat <&3"
    command = ["timeout", str(patience_s), "bash", "-c", f"({ask}) 2>/dev/null"]
    done = inside(engine, source, command) if source else engine.sandbox.run(command, check=False)
    head, found, body = done.stdout.decode().partition("\r\n\r\n")
    return body if found and head.startswith("HTTP/1") else None


def serve(engine: Engine, name: str, image: str, *flags: str, port: int = 80) -> str:
    """Start a container that answers its own name over HTTP; returns its first address, once it answers there."""
    script = f"mkdir -p /w; echo {name} >/w/index.html; exec httpd -f -p {port} -h /w"
    engine.docker("run", "-d", "--name", name, *flags, image, "sh", "-c", script, check=True)
    found = addresses(engine, name)
    address = next((each for each in found.values() if each), "127.0.0.1")
    probe = f"(exec 3<>/dev/tcp/{address}/{port}) 2>/dev/null"
    wait_until(lambda: inside(engine, name, ["bash", "-c", probe]).returncode == 0, what=f"an answer of {name}")
    return address


def addresses(engine: Engine, container: str) -> dict[str, str]:
    """The address on each network, by the network's name, as inspect says."""
    settings: Any = engine.inspect(container)["NetworkSettings"]
    return {network: endpoint["IPAddress"] for network, endpoint in settings["Networks"].items()}


def links(engine: Engine, container: str = "") -> dict[str, dict[str, Any]]:
    """``ip -j address`` of a container, or of the engine's host, by the interface's name."""
    command = ["ip", "-j", "-d", "address"]
    done = inside(engine, container, command) if container else engine.sandbox.run(command)
    return {row["ifname"]: row for row in json.loads(done.stdout)}


def ipv4(engine: Engine, container: str, interface: str = "eth0") -> str:
    """``address/prefix`` of an interface, as the kernel says."""
    found = links(engine, container)[interface]["addr_info"]
    return next(f"{row['local']}/{row['prefixlen']}" for row in found if row["family"] == "inet")


def routes(engine: Engine, container: str) -> list[dict[str, Any]]:
    """``ip -j route`` of a container."""
    found = json.loads(inside(engine, container, ["ip", "-j", "route"]).stdout)
    assert isinstance(found, list)
    return found


# Runs as a program of its own, in the container's namespace: asks the resolver one question and prints the answer.
_QUESTION = """
import json, secrets, socket, struct, sys
server, name, kind = sys.argv[1], sys.argv[2], int(sys.argv[3])
labels = b"".join(bytes([len(part)]) + part.encode() for part in name.rstrip(".").split(".")) + b"\\0"
number = secrets.randbelow(65536)
link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
link.settimeout(8)
link.sendto(struct.pack(">6H", number, 0x0100, 1, 0, 0, 0) + labels + struct.pack(">2H", kind, 1), (server, 53))
reply = link.recv(4096)
got, flags, questions, count = struct.unpack(">4H", reply[:8])
assert got == number
def read(at):
    parts = []
    while reply[at]:
        if reply[at] >= 0xC0:
            parts.append(read(struct.unpack(">H", reply[at:at + 2])[0] & 0x3FFF)[0])
            return ".".join(parts), at + 2
        parts.append(reply[at + 1:at + 1 + reply[at]].decode())
        at += 1 + reply[at]
    return ".".join(parts), at + 1
at = 12
for _ in range(questions):
    at = read(at)[1] + 4
answers = []
for _ in range(count):
    _, at = read(at)
    kind, _, ttl, length = struct.unpack(">2HIH", reply[at:at + 10])
    at += 10
    data = reply[at:at + length]
    value = {1: lambda: socket.inet_ntop(socket.AF_INET, data), 28: lambda: socket.inet_ntop(socket.AF_INET6, data),
             12: lambda: read(at)[0]}.get(kind, data.hex)()
    answers.append([kind, value, ttl])
    at += length
print(json.dumps({"code": flags & 15, "answers": answers}))
"""
A, PTR, AAAA = 1, 12, 28

# A name server on the host that knows one name, and that there are no others.
_UPSTREAM = """
import socket, struct, sys
link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
link.bind((sys.argv[1], 53))
print("ready", flush=True)
known = b"".join(bytes([len(part)]) + part.encode() for part in sys.argv[2].split(".")) + b"\\0"
while True:
    data, peer = link.recvfrom(4096)
    end = data.index(b"\\0", 12) + 5
    mine = data[12:end - 4].lower() == known
    answer = struct.pack(">3HIH", 0xC00C, 1, 1, 60, 4) + socket.inet_aton(sys.argv[3])
    found = mine and data[end - 4:end - 2] == b"\\0\\1"
    head = data[:2] + struct.pack(">5H", 0x8180 | (0 if mine else 3), 1, int(found), 0, 0)
    link.sendto(head + data[12:end] + (answer if found else b""), peer)
"""


@contextmanager
def upstream(engine: Engine, listen: str, name: str, address: str) -> Iterator[None]:
    """A name server on the engine's host at ``listen`` that knows ``name``."""
    command = [sys.executable, "-IS", "-c", _UPSTREAM, listen, name, address]
    server = engine.sandbox.popen(command, stdout=subprocess.PIPE)
    try:
        assert server.stdout is not None and server.stdout.readline() == b"ready\n"
        yield
    finally:
        server.kill()
        server.communicate()


def resolve(engine: Engine, container: str, name: str, kind: int = A, *, server: str = "127.0.0.11") -> dict[str, Any]:
    """Ask the container's resolver: ``{"code": rcode, "answers": [[kind, value, ttl], ...]}``."""
    done = inside(engine, container, [sys.executable, "-IS", "-c", _QUESTION, server, name, str(kind)])
    assert done.returncode == 0, done.stderr.decode()
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found
