"""Commands about images that the engine has: images, rmi, tag, history, import. Source: Docker API, Image."""

from __future__ import annotations

from pyker.client import units
from pyker.client.command import Command
from pyker.client.failure import DaemonFailure, Failure, Unreachable
from pyker.client.filters import encode_filters
from pyker.client.flags import Flag
from pyker.client.table import render, truncate
from pyker.client.transport import quote_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyker.client.flags import Options
    from pyker.client.surroundings import Surroundings

NONE = "<none>"
HEADERS = {
    "Containers": "CONTAINERS",
    "CreatedAt": "CREATED AT",
    "CreatedSince": "CREATED",
    "Digest": "DIGEST",
    "ID": "IMAGE ID",
    "Repository": "REPOSITORY",
    "SharedSize": "SHARED SIZE",
    "Size": "SIZE",
    "Tag": "TAG",
    "UniqueSize": "UNIQUE SIZE",
    "VirtualSize": "SIZE",
}
HISTORY_HEADERS = {
    "Comment": "COMMENT",
    "CreatedAt": "CREATED AT",
    "CreatedBy": "CREATED BY",
    "CreatedSince": "CREATED",
    "ID": "IMAGE",
    "Size": "SIZE",
}


def _images(around: Surroundings, options: Options) -> int:
    filters = list(options.items("filter"))
    if options.arguments:
        filters.append(f"reference={options.arguments[0]}")
    query: dict[str, str] = {}
    if options.on("all"):
        query["all"] = "1"
    if encoded := encode_filters(filters):
        query["filters"] = encoded
    if options.on("tree"):
        raise Failure("--tree is not there yet")
    template = options.text("format") or ("" if options.on("quiet") else around.config.text("imagesFormat"))
    digests = options.on("digests")
    rows: list[dict[str, str]] = []
    for item in around.client.json("GET", "/images/json", query) or []:
        rows += image_rows(item, whole=options.on("no-trunc"), digests=digests, by_tag=digests or ".Digest" in template)
    columns = ["Repository", "Tag", *(["Digest"] if digests else []), "ID", "CreatedSince", "Size"]
    around.write(
        render(rows, headers=HEADERS, columns=columns, template=template, quiet_field="ID", quiet=options.on("quiet"))
    )
    return 0


def _split(name: str) -> tuple[str, str]:
    """``host:5000/a/b:1`` as (host:5000/a/b, 1)."""
    head, slash, tail = name.rpartition("/")
    repository, _, tag = tail.partition(":")
    return f"{head}{slash}{repository}", tag


def image_rows(item: dict[str, Any], *, whole: bool, digests: bool, by_tag: bool) -> list[dict[str, str]]:
    """One row a tag, or with ``by_tag`` one a tag and digest; an image without names has one row.

    What has digests and no tag has a row a repository, or with ``digests`` one a digest.
    """
    tags: dict[str, list[str]] = {}
    hashes: dict[str, list[str]] = {}
    for name in item.get("RepoTags") or []:
        repository, tag = _split(name)
        if repository != NONE:
            tags.setdefault(repository, []).append(tag)
    for name in item.get("RepoDigests") or []:
        repository, _, digest = name.partition("@")
        if repository != NONE:
            hashes.setdefault(repository, []).append(digest)
    names: list[tuple[str, str, str]] = []
    for repository, known in tags.items():
        here = hashes.pop(repository, [])
        for tag in known:
            names += [(repository, tag, digest) for digest in (here if by_tag and here else [NONE])]
    if digests or not names:
        names += [
            (repository, NONE, digest if digests else "") for repository, known in hashes.items() for digest in known
        ]
    names = list(dict.fromkeys(names))
    identifier = item.get("Id") or ""
    created = item.get("Created") or 0
    size = item.get("Size") or 0
    shared = item.get("SharedSize", -1)
    fields = {
        "Containers": str(item["Containers"]) if item.get("Containers", -1) >= 0 else "N/A",
        "CreatedAt": units.go_time(created),
        "CreatedSince": units.ago(created) if created > 0 else "N/A",
        "ID": identifier if whole else identifier.rpartition(":")[2][:12],
        "SharedSize": units.human_size(shared) if shared is not None and shared >= 0 else "N/A",
        "Size": units.short_size(size),
        "UniqueSize": units.human_size(size - shared) if shared is not None and shared >= 0 else "N/A",
        "VirtualSize": units.human_size(size),
    }
    return [
        {**fields, "Repository": repository, "Tag": tag, "Digest": digest}
        for repository, tag, digest in names or [(NONE, NONE, NONE)]
    ]


def _rmi(around: Surroundings, options: Options) -> int:
    query: dict[str, str] = {}
    if options.on("force"):
        query["force"] = "1"
    if options.on("no-prune"):
        query["noprune"] = "1"
    failed = False
    for name in options.arguments:
        try:
            for step in around.client.json("DELETE", f"/images/{quote_path(name)}", query) or []:
                if step.get("Deleted"):
                    around.out(f"Deleted: {step['Deleted']}")
                else:
                    around.out(f"Untagged: {step.get('Untagged')}")
        except Unreachable:
            raise
        except Failure as failure:
            gone = isinstance(failure, DaemonFailure) and failure.status == 404
            failed = failed or not (gone and options.on("force"))
            around.err(failure.message)
    return 1 if failed else 0


def _tag(around: Surroundings, options: Options) -> int:
    from pyker.client.names import parse_name

    source, target = options.arguments
    try:
        reference = parse_name(target)
    except Failure as failure:
        text = f'Error parsing reference: "{target}" is not a valid repository/tag: {failure.message}'
        raise Failure(text) from None
    if reference.digest:
        raise Failure("refusing to create a tag with a digest reference")
    reference = reference.default_tag()
    query = {"repo": reference.name, "tag": reference.tag}
    around.client.call("POST", f"/images/{quote_path(source)}/tag", query)
    return 0


def _history(around: Surroundings, options: Options) -> int:
    whole, human = options.on("no-trunc"), options.on("human")
    rows = []
    for item in around.client.json("GET", f"/images/{quote_path(options.arguments[0])}/history") or []:
        identifier = item.get("Id") or ""
        created = item.get("Created") or 0
        by = (item.get("CreatedBy") or "").replace("\t", " ")
        comment = item.get("Comment") or ""
        rows.append(
            {
                "Comment": comment,
                "CreatedAt": rfc3339(created),
                "CreatedBy": by if whole else truncate(by, 45),
                "CreatedSince": units.ago(created) if human else rfc3339(created),
                "ID": identifier if whole else identifier.rpartition(":")[2][:12],
                "Size": units.short_size(item.get("Size") or 0) if human else str(item.get("Size") or 0),
            }
        )
    headers = dict(HISTORY_HEADERS) if human else {**HISTORY_HEADERS, "CreatedSince": "CREATED AT"}
    columns = ("ID", "CreatedSince", "CreatedBy", "Size", "Comment")
    around.write(
        render(
            rows,
            headers=headers,
            columns=columns,
            template=options.text("format"),
            quiet_field="ID",
            quiet=options.on("quiet"),
        )
    )
    return 0


def rfc3339(moment: float) -> str:
    """In our own time zone, as Go's time.RFC3339 writes it."""
    import time

    offset, _ = units.local_offset(moment)
    zone = "Z" if offset in ("+0000", "") else f"{offset[:3]}:{offset[3:]}"
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(moment)) + zone


def _import(around: Surroundings, options: Options) -> int:
    import os
    import sys

    from pyker.client.names import parse_name
    from pyker.client.progress import show_progress

    source = options.arguments[0]
    query = {"fromSrc": source if source.startswith(("http://", "https://")) else "-"}
    if len(options.arguments) > 1:
        query["repo"] = options.arguments[1]
        parse_name(options.arguments[1])
    if options.text("message"):
        query["message"] = options.text("message")
    if options.text("platform"):
        query["platform"] = options.text("platform").lower()
    if query["fromSrc"] != "-":
        response = around.client.open("POST", "/images/create", query)
    elif source == "-":
        response = around.client.upload("/images/create", query, sys.stdin.buffer, changes=options.items("change"))
    else:
        try:
            stream = open(os.path.expanduser(source), "rb")  # noqa: SIM115
        except OSError as error:
            raise Failure(f"open {source}: {(error.strerror or '').lower()}") from error
        with stream:
            response = around.client.upload("/images/create", query, stream, changes=options.items("change"))
    show_progress(response, quiet=False, descriptor=1)
    return 0


def _commit(around: Surroundings, options: Options) -> int:
    from pyker.client.names import parse_name
    from pyker.client.transport import encode_query, encode_repeated

    query = {"container": options.arguments[0], "repo": "", "tag": ""}
    if len(options.arguments) > 1:
        name = parse_name(options.arguments[1]).default_tag()
        query |= {"repo": name.name, "tag": name.tag}
    query |= {"comment": options.text("message"), "author": options.text("author")}
    if not options.on("pause"):
        query["pause"] = "0"
    changes = encode_repeated("changes", options.items("change"))
    made = around.client.json("POST", f"/commit?{encode_query(query)}{changes}")
    around.out(made["Id"])
    return 0


FORMAT = Flag("format", "string", "How to print: table, 'table TEMPLATE', json, or a Go template")

COMMANDS = {
    "images": Command(
        _images,
        "[REPOSITORY[:TAG]]",
        flags=(
            Flag("all", "bool", "Layers between images too", short="a"),
            Flag("digests", "bool", "Print digests too"),
            Flag("filter", "filter", "Only what matches, such as dangling=true or label=a=b", short="f"),
            FORMAT,
            Flag("no-trunc", "bool", "Print everything in full"),
            Flag("quiet", "bool", "Print IDs alone", short="q"),
            Flag("tree", "bool", "Not there yet", hidden=True),
        ),
        most=1,
        aliases=("image ls", "image list", "images"),
    ),
    "rmi": Command(
        _rmi,
        "IMAGE [IMAGE...]",
        flags=(
            Flag("force", "bool", "Remove it even if stopped containers use it", short="f"),
            Flag("no-prune", "bool", "Keep parents that have no name"),
            Flag("platform", "strings", "Not there yet", hidden=True),
        ),
        least=1,
        aliases=("image rm", "image remove", "rmi"),
    ),
    "tag": Command(_tag, "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]", least=2, most=2, aliases=("image tag", "tag")),
    "history": Command(
        _history,
        "IMAGE",
        flags=(
            FORMAT,
            Flag("human", "bool", "Print sizes and dates for people", short="H", default=True, shown_default="true"),
            Flag("no-trunc", "bool", "Print everything in full"),
            Flag("platform", "string", "Not there yet", hidden=True),
            Flag("quiet", "bool", "Print IDs alone", short="q"),
        ),
        least=1,
        most=1,
        aliases=("image history", "history"),
    ),
    "commit": Command(
        _commit,
        "CONTAINER [REPOSITORY[:TAG]]",
        flags=(
            Flag("author", "string", 'Who made it, such as "Ada <ada@example.org>"', short="a"),
            Flag("change", "list", "Dockerfile instruction to apply to the image", short="c"),
            Flag("message", "string", "What to note in the image's history", short="m"),
            Flag("pause", "bool", "Freeze the container meanwhile", short="p", default=True, shown_default="true"),
        ),
        least=1,
        most=2,
        aliases=("container commit", "commit"),
    ),
    "import": Command(
        _import,
        "file|URL|- [REPOSITORY[:TAG]]",
        flags=(
            Flag("change", "list", "Dockerfile instruction to apply to the image", short="c"),
            Flag("message", "string", "What to note in the image's history", short="m"),
            Flag("platform", "string", "Platform that the image is for (os/arch/variant)"),
        ),
        least=1,
        most=2,
        aliases=("image import", "import"),
    ),
}
