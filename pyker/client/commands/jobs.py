"""``pyker jobs``: what the engine did, as a list or as one command's tree with the part that took each step.

Source: seed, "Job" and the two walkthroughs, docker pull and docker run.
"""

from __future__ import annotations

from pyker.client import units
from pyker.client.command import Command
from pyker.client.failure import Failure
from pyker.client.flags import Flag
from pyker.client.table import render, truncate
from pyker.client.transport import quote_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyker.client.flags import Options
    from pyker.client.surroundings import Surroundings

HEADERS = {
    "ID": "ID",
    "Name": "NAME",
    "Subject": "SUBJECT",
    "Actor": "ACTOR",
    "Started": "STARTED",
    "Time": "TIME",
    "Status": "STATUS",
    "Error": "ERROR",
    "ParentID": "PARENT",
    "RootID": "ROOT",
}
COLUMNS = ("ID", "Name", "Subject", "Actor", "Started", "Time", "Status")
MAX_DEPTH = 64
SUBJECT_WIDTH = 44

# The parts that a job goes through, as the document's drawing names them.
PARTS = {
    "pull": "Client → Server/Router → Handler → Job → Registry",
    "pull_layer": "Registry → graphdriver → Graph/GraphDB",
    "push": "Client → Server/Router → Handler → Job → Graph",
    "push_layer": "Graph → graphdriver → Registry",
    "auth": "Client → Server/Router → Handler → Job → Registry",
    "create": "Client → Server/Router → Handler → Job → Graph/Repository",
    "start": "Client → Server/Router → Handler → Job",
    "mount_rootfs": "Graph → graphdriver",
    "allocate_interface": "networkdriver → libcontainer/netlink",
    "release_interface": "networkdriver → libcontainer/netlink",
    "init_networkdriver": "networkdriver → libcontainer/netlink",
    "execdriver_run": "execdriver → libcontainer/namespace+cgroup",
    "exec_start": "Client → Server/Router → Handler → Job → execdriver → libcontainer",
    "serveapi": "Daemon → Server/Router",
}
THROUGH_SERVER = "Client → Server/Router → Handler → Job"
WITHIN = "Engine → Job"

TALES = {
    "pull": (
        "The pull: the Client sent POST /images/create; the Server's Router found the Handler, and the Handler ran",
        "the job pull. It asked the Registry for the manifest; each layer was a job of its own: fetched from the",
        "Registry, written by the graphdriver, recorded in Graph, Repository and GraphDB.",
    ),
    "create": (
        "The run, first request, POST /containers/create: the job create looked the image up in Graph and",
        "Repository, and the graphdriver prepared a root file system on top of its layers.",
    ),
    "start": (
        "The run, second request, POST /containers/{id}/start: the job start had the networkdriver make the network",
        "by libcontainer's netlink, and the execdriver make namespaces and cgroups by libcontainer; then the",
        "command ran.",
    ),
}


def _jobs(around: Surroundings, options: Options) -> int:
    if options.text("tree"):
        return _tree(around, options.text("tree"))
    limit = options.number("last")
    query = {"limit": str(limit)}
    if options.on("running"):
        query["running"] = "1"
    rows = [_row(item, whole=options.on("no-trunc")) for item in around.client.json("GET", "/pyker/jobs", query) or []]
    around.write(
        render(
            rows,
            headers=HEADERS,
            columns=COLUMNS,
            template=options.text("format"),
            quiet_field="ID",
            quiet=options.on("quiet"),
        )
    )
    return 0


def _row(item: dict[str, Any], *, whole: bool) -> dict[str, str]:
    started = int(item.get("StartedNs") or 0) / 1e9
    return {
        "ID": str(item.get("ID") or ""),
        "Name": str(item.get("Name") or ""),
        "Subject": subject_of(item, whole=whole),
        "Actor": str(item.get("Actor") or ""),
        "Started": units.ago(started),
        "Time": took(item),
        "Status": str(item.get("Status") or ""),
        "Error": str(item.get("Error") or ""),
        "ParentID": str(item.get("ParentID") or ""),
        "RootID": str(item.get("RootID") or ""),
    }


def subject_of(item: dict[str, Any], *, whole: bool = False) -> str:
    """What a job was about: a container's short ID, an image with its tag, a layer."""
    subject = str(item.get("Subject") or "")
    arguments = item.get("Arguments")
    if isinstance(arguments, dict):
        if item.get("Name") == "pull" and arguments.get("image"):
            tag = str(arguments.get("tag") or "latest")
            subject = f"{arguments['image']}{'@' if ':' in tag else ':'}{tag}"
        elif not subject:
            config = arguments.get("config")
            image = config.get("image") if isinstance(config, dict) else ""
            subject = str(arguments.get("digest") or arguments.get("mode") or image or "")
    if whole:
        return subject
    bare = subject.removeprefix("sha256:")
    if len(bare) == 64 and not bare.strip("0123456789abcdef"):
        return bare[:12]
    return truncate(subject, SUBJECT_WIDTH)


def took(item: dict[str, Any]) -> str:
    """How long a job took, in milliseconds or seconds; what still runs says so."""
    duration = int(item.get("DurationNs") or 0)
    if not duration:
        return "running" if item.get("Status") == "running" else "0.0 ms"
    if duration < 10_000_000_000:
        return f"{duration / 1e6:.1f} ms"
    return f"{duration / 1e9:.1f} s"


def _tree(around: Surroundings, name: str) -> int:
    records = around.client.json("GET", f"/pyker/jobs/{quote_path(name)}")
    if not isinstance(records, list) or not records:
        raise Failure(f"no job is about '{name}'")
    around.write(draw(records))
    return 0


def draw(records: list[dict[str, Any]]) -> str:
    """The story of ``records``: each root with its children below it, times at the right, and what it means."""
    known = {str(record.get("ID")) for record in records}
    children: dict[str, list[dict[str, Any]]] = {}
    for record in sorted(records, key=lambda record: (int(record.get("StartedNs") or 0), str(record.get("ID")))):
        parent = str(record.get("ParentID") or "")
        children.setdefault(parent if parent in known else "", []).append(record)
    lines: list[tuple[str, str, str, str]] = []
    for root in children.get("", []):
        _branch(lines, children, root, "", "", 0)
    names = max(len(line[0]) for line in lines)
    parts = max(len(line[1]) for line in lines)
    times = max(len(line[2]) for line in lines)
    text = "".join(
        f"{name.ljust(names)}  {part.ljust(parts)}  {time.rjust(times)}{note}\n" for name, part, time, note in lines
    )
    told = [tale for name, tale in TALES.items() if any(root.get("Name") == name for root in children.get("", []))]
    return text + "".join("\n" + "\n".join(tale) + "\n" for tale in told)


def _branch(
    lines: list[tuple[str, str, str, str]],
    children: dict[str, list[dict[str, Any]]],
    record: dict[str, Any],
    first: str,
    rest: str,
    depth: int,
) -> None:
    name = str(record.get("Name"))
    subject = subject_of(record)
    part = PARTS.get(name, WITHIN if depth else THROUGH_SERVER)
    note = f"  {record['Status']}: {record.get('Error')}" if record.get("Status") == "failed" else ""
    lines.append((f"{first}{name} {subject}".rstrip(), part, took(record), note))
    below = children.get(str(record.get("ID")), []) if depth < MAX_DEPTH else []
    stages = list((record.get("Stages") or {}).items())
    for index, (stage, spent) in enumerate(stages):
        last = index == len(stages) - 1 and not below
        lines.append((rest + ("└╴" if last else "├╴") + str(stage), "", f"{int(spent) / 1e6:.1f} ms", ""))
    for index, child in enumerate(below):
        last = index == len(below) - 1
        _branch(
            lines,
            children,
            child,
            rest + ("└─ " if last else "├─ "),
            rest + ("   " if last else "│  "),
            depth + 1,
        )


COMMANDS = {
    "jobs": Command(
        _jobs,
        "",
        flags=(
            Flag("format", "string", "How to print: table, 'table TEMPLATE', json, or a Go template"),
            Flag("last", "int", "That many commands, the newest first", short="n", default=50, shown_default="50"),
            Flag("no-trunc", "bool", "Print everything in full"),
            Flag("quiet", "bool", "Print IDs alone", short="q"),
            Flag("running", "bool", "Only what runs now, children too"),
            Flag("tree", "string", "Draw the tree of one story: a job, a container or an image"),
        ),
        most=0,
        detail="List the engine's jobs, newest first, or draw one command's tree with times.\n\n"
        "Every call to the engine is a job, and jobs have children. The tree of a\n"
        "container or an image tells which part of the engine took which step.",
    )
}
