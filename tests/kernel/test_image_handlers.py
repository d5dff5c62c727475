"""The jobs about images, with the order and the words that clients of the reference engine see."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pyker.container.record import Container, State
from pyker.daemon.images import ImageHandlers
from pyker.engine.job import CancelToken, JobContext
from pyker.errors import Conflict, Corrupt, Forbidden, InvalidParameter, NotFound, PykerError
from pyker.graph.graph import Graph
from pyker.graphdriver.overlay2 import Overlay2Driver
from pyker.jobs.images import (
    ImageHistory,
    ImageView,
    ImportImage,
    InspectImage,
    ListImages,
    RemovedImage,
    RemoveImage,
    TagImage,
)
from pyker.types.config import ContainerConfig, HostConfig
from pyker.types.events import Event
from pyker.types.ids import ChainId, ContainerId, DiffId, ImageId
from pyker.types.reference import parse
from tests.support.layers import file, members

pytestmark = pytest.mark.requires("root", "overlay")

MANIFEST = "sha256:" + "9" * 64


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Desk:
    """The handlers, with containers that the test makes up."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.graph = Graph(str(root), Overlay2Driver(str(root / "overlay2")))
        self.containers: list[Container] = []
        self.events: list[Event] = []
        self.handlers = ImageHandlers(self.graph, lambda: self.containers, self.events.append)

    def ctx(self, body: bytes = b"") -> JobContext:
        context = SimpleNamespace(stdio=SimpleNamespace(stdin=lambda: io.BytesIO(body)), cancel=CancelToken())
        return cast(JobContext, context)

    def image(
        self, *contents: str, label: str = "", created: str = "2024-01-01T00:00:00Z", parent: str = "", **more: Any
    ) -> ImageId:
        """An image with a layer for each of ``contents``."""
        tars = [members(file(text, text.encode())) for text in contents]
        with self.graph.layers.hold():
            below: ChainId | None = None
            for tar in tars:
                blob = self.root / "blob"
                blob.write_bytes(gzip.compress(tar))
                below = self.graph.layers.register(
                    str(blob), "", DiffId(digest(tar)), below, cancel=lambda: False, progress=lambda _: None
                ).chain_id
            config = {
                "config": {"Labels": {"l": label}},
                "created": created,
                "rootfs": {"type": "layers", "diff_ids": [*map(digest, tars)]},
                **more,
            }
            return self.graph.create_image(json.dumps(config).encode(), parent)

    def name(self, image_id: ImageId, *names: str) -> None:
        for name in names:
            self.graph.tag(parse(name), image_id)

    def container(self, image_id: ImageId, *, running: bool) -> str:
        container_id = ContainerId(f"{len(self.containers):02d}" + "c" * 62)
        self.containers.append(
            Container(
                id=container_id, name="c", created="", path="", args=(), config=ContainerConfig(),
                host_config=HostConfig(), image=image_id, driver="overlay2", state=State(running=running),
            )
        )  # fmt: skip
        return container_id[:12]

    def remove(self, image: str, **flags: bool) -> list[str]:
        """The lines that rmi prints."""
        return [_line(entry) for entry in self.handlers.remove(RemoveImage(image=image, **flags), self.ctx())]

    def list(self, *, all: bool = False, **filters: tuple[str, ...]) -> list[ImageView]:
        return [*self.handlers.list(ListImages(all=all, filters=filters), self.ctx())]

    def chain(self, image_id: ImageId) -> tuple[ChainId, ...]:
        return self.graph.images.get(image_id).chain_ids


def _line(entry: RemovedImage) -> str:
    assert bool(entry.untagged) != bool(entry.deleted)
    return f"Untagged: {entry.untagged}" if entry.untagged else f"Deleted: {entry.deleted}"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.graph.close()


def test_rmi_of_the_last_name(desk: Desk) -> None:
    """Tag, digest of the same repository, image, layers from the top."""
    image = desk.image("a", "b")
    desk.name(image, "127.0.0.1:5000/team/bb:1", f"127.0.0.1:5000/team/bb@{MANIFEST}")
    base, top = desk.chain(image)
    assert desk.remove("127.0.0.1:5000/team/bb:1") == [
        "Untagged: 127.0.0.1:5000/team/bb:1",
        f"Untagged: 127.0.0.1:5000/team/bb@{MANIFEST}",
        f"Deleted: {image}",
        f"Deleted: {top}",
        f"Deleted: {base}",
    ]
    assert [event.action for event in desk.events] == ["untag", "delete"]
    assert desk.events[-1].attributes == {"name": image}


def test_rmi_of_one_of_several_names(desk: Desk) -> None:
    image = desk.image("a")
    desk.name(image, "bb:1", f"bb@{MANIFEST}", "other:2")
    assert desk.remove("bb:1") == ["Untagged: bb:1", f"Untagged: bb@{MANIFEST}"]
    assert desk.graph.lookup("other:2") == image


def test_rmi_by_id(desk: Desk) -> None:
    image = desk.image("a")
    desk.name(image, "bb:1", f"bb@{MANIFEST}")
    desk.name(image, "other:2")
    with pytest.raises(
        Conflict,
        match=rf"^conflict: unable to delete {image[7:19]} \(must be forced\) - image is referenced in multiple repos",
    ):
        desk.remove(image)
    desk.remove("other:2")
    assert desk.remove(image[7:19]) == [
        "Untagged: bb:1", f"Untagged: bb@{MANIFEST}", f"Deleted: {image}", f"Deleted: {desk_chain(image)}",
    ]  # fmt: skip


def desk_chain(_: ImageId) -> str:
    """The layer of ``image("a")``."""
    return digest(members(file("a", b"a")))


def test_rmi_force_by_id(desk: Desk) -> None:
    image = desk.image("a")
    desk.name(image, "bb:1", "other:2")
    assert desk.remove(image, force=True) == [
        "Untagged: bb:1", "Untagged: other:2", f"Deleted: {image}", f"Deleted: {desk_chain(image)}",
    ]  # fmt: skip


def test_rmi_of_an_image_in_use(desk: Desk) -> None:
    image = desk.image("a")
    desk.name(image, "bb:1")
    user = desk.container(image, running=False)
    said = (
        f'conflict: unable to remove repository reference "bb:1" (must force) - container {user} '
        f"is using its referenced image {image[7:19]}"
    )
    with pytest.raises(Conflict, match=f"^{re.escape(said)}$"):
        desk.remove("bb:1")
    with pytest.raises(Conflict, match=r"\(must be forced\) - image is being used by stopped container " + user):
        desk.remove(image)
    assert desk.graph.lookup("bb:1") == image
    desk.containers.clear()
    user = desk.container(image, running=True)
    for force in (False, True):
        with pytest.raises(Conflict, match=r"\(cannot be forced\) - image is being used by running container " + user):
            desk.remove(image, force=force)
    assert desk.remove("bb:1", force=True) == ["Untagged: bb:1"]
    assert image in desk.graph.images


def test_rmi_prunes_untagged_parents(desk: Desk) -> None:
    parent = desk.image("a", label="parent")
    child = desk.image("a", "b", label="child", parent=parent)
    desk.name(child, "bb:1")
    with pytest.raises(Conflict, match=r"\(cannot be forced\) - image has dependent child images"):
        desk.remove(parent, force=True)
    base, top = desk.chain(child)
    assert desk.remove("bb:1") == [
        "Untagged: bb:1", f"Deleted: {child}", f"Deleted: {top}", f"Deleted: {parent}", f"Deleted: {base}",
    ]  # fmt: skip


def test_rmi_leaves_parents_that_have_names_or_are_to_stay(desk: Desk) -> None:
    parent = desk.image("a", label="parent")
    child = desk.image("a", "b", label="child", parent=parent)
    desk.name(child, "bb:1")
    assert desk.remove("bb:1", noprune=True)[-1].startswith("Deleted")
    assert parent in desk.graph.images


@pytest.mark.parametrize("name", ["nosuch", "bb:2", "f" * 64, f"bb@{'sha256:' + '1' * 64}"])
def test_rmi_of_nothing(desk: Desk, name: str) -> None:
    desk.name(desk.image("a"), "bb:1")
    with pytest.raises(NotFound, match=r"^No such image: "):
        desk.remove(name)


def test_tag(desk: Desk) -> None:
    image = desk.image("a")
    desk.name(image, "bb:1")
    desk.handlers.tag(TagImage(image="bb:1", repo="docker.io/library/cc", tag="2"), desk.ctx())
    desk.handlers.tag(TagImage(image=image, repo="127.0.0.1:5000/x/y"), desk.ctx())
    view = desk.handlers.inspect(InspectImage(image="cc:2"), desk.ctx())
    assert view.repo_tags == ("127.0.0.1:5000/x/y:latest", "bb:1", "cc:2")
    assert view.last_tag_time.endswith("Z")
    assert [(event.action, event.attributes["name"]) for event in desk.events] == [
        ("tag", "cc:2"), ("tag", "127.0.0.1:5000/x/y:latest"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("repo", "tag", "error", "text"),
    [
        ("Upper", "", InvalidParameter, "must be lowercase"),
        ("a", "b/c", InvalidParameter, "invalid tag format"),
        ("sha256", "1", InvalidParameter, "refusing to create an ambiguous tag using digest algorithm as name"),
        (f"a@{MANIFEST}", "", InvalidParameter, "refusing to create a tag with a digest reference"),
        ("scratch", "", Forbidden, "'scratch' is a reserved name"),
        ("host", "", Forbidden, "'host' is a reserved name"),
    ],
)
def test_names_that_cannot_be_given(desk: Desk, repo: str, tag: str, error: type[PykerError], text: str) -> None:
    desk.name(desk.image("a"), "bb:1")
    with pytest.raises(error, match=text):
        desk.handlers.tag(TagImage(image="bb:1", repo=repo, tag=tag), desk.ctx())
    assert desk.events == []


def test_list_and_filters(desk: Desk) -> None:
    old = desk.image("a", label="old", created="2020-01-01T00:00:00Z")
    middle = desk.image("b", label="middle", created="2021-01-01T00:00:00.5Z")
    dangling = desk.image("c", label="dangling", created="2022-01-01T00:00:00Z")
    parent = desk.image("d", label="parent", created="2019-01-01T00:00:00Z")
    child = desk.image("d", "e", label="child", created="2023-01-01T00:00:00Z", parent=parent)
    desk.name(old, "old:1", f"old@{MANIFEST}")
    desk.name(middle, "127.0.0.1:5000/team/mid:2", "mid:2")
    desk.name(child, "child")

    def ids(**filters: tuple[str, ...]) -> list[ImageId]:
        return [view.id for view in desk.list(**filters)]

    assert ids() == [child, dangling, middle, old]
    assert [view.id for view in desk.list(all=True)] == [child, dangling, middle, old, parent]
    assert ids(dangling=("true",)) == [dangling]
    assert ids(dangling=("false",)) == [child, middle, old]
    assert ids(label=("l=old",)) == [old]
    assert ids(label=("l",)) == ids()
    assert ids(before=("mid:2",)) == [old]
    assert ids(since=("mid:2",)) == [child, dangling]
    assert ids(until=("2021-06-01T00:00:00Z",)) == [middle, old]
    assert ids(reference=("*:2",)) == [middle]
    assert [view.repo_tags for view in desk.list(reference=("*:2",))] == [("mid:2",)]
    assert [view.repo_tags for view in desk.list(reference=("127.0.0.1:5000/*/*",))] == [("127.0.0.1:5000/team/mid:2",)]
    assert ids(reference=("mid", "o?d")) == [middle, old]
    with pytest.raises(InvalidParameter, match=r"^Invalid filter 'dangling=\[maybe\]'$"):
        ids(dangling=("maybe",))
    with pytest.raises(NotFound, match="No such image: nosuch:latest"):
        ids(before=("nosuch",))
    view = desk.list(label=("l=old",))[0]
    assert (view.repo_tags, view.repo_digests, view.size) == (("old:1",), (f"old@{MANIFEST}",), 1)


def test_inspect_shows_where_layers_are(desk: Desk) -> None:
    image = desk.image("a", "b", label="x")
    view = desk.handlers.inspect(InspectImage(image=image), desk.ctx())
    data = view.graphdriver_data
    assert list(data) == ["LowerDir", "MergedDir", "UpperDir", "WorkDir"]
    assert (Path(data["UpperDir"]) / "b").read_text() == "b"
    assert (Path(data["LowerDir"]) / "a").read_text() == "a"
    assert view.graphdriver_name == "overlay2"
    assert view.size == 2 and len(view.diff_ids) == 2


def test_history(desk: Desk) -> None:
    image = desk.image(
        "a", "bbb",
        history=[
            {"created": "2020-01-01T00:00:00Z", "created_by": "ADD a"},
            {"created": "2020-01-02T00:00:00Z", "created_by": "ENV x", "empty_layer": True},
            {"created_by": "ADD b", "comment": "the last"},
        ],
    )  # fmt: skip
    desk.name(image, "bb:1", f"bb@{MANIFEST}")
    rows = desk.handlers.history(ImageHistory(image="bb:1"), desk.ctx())
    assert [(row.id, row.created_by, row.size, row.tags, row.comment) for row in rows] == [
        (image, "ADD b", 3, ("bb:1",), "the last"),
        ("<missing>", "ENV x", 0, (), ""),
        ("<missing>", "ADD a", 1, (), ""),
    ]  # fmt: skip
    assert rows[1].created == 1577923200 and rows[0].created == -62135596800


def test_import(desk: Desk) -> None:
    tar = members(file("etc/hello", b"hello"))
    job = ImportImage(
        repo="imp", tag="1", message="from a test",
        changes=(
            'CMD ["a", "b"]', "ENTRYPOINT run it", 'ENV A=1 B="x y"', "ENV C all of this", "EXPOSE 80 53/udp 8000-8001",
            "LABEL k=v\nUSER 5:6", "VOLUME /data /more", "WORKDIR /w", "WORKDIR sub", "STOPSIGNAL SIGINT",
            "HEALTHCHECK --interval=5s --retries=2 CMD curl x", "ONBUILD RUN x",
        ),
    )  # fmt: skip
    image = desk.graph.images.get(desk.handlers.import_image(job, desk.ctx(gzip.compress(tar))))
    assert desk.graph.lookup("imp:1") == image.id
    assert image.diff_ids == (digest(tar),)
    config = image.config["config"]
    assert config["Cmd"] == ["a", "b"] and config["Entrypoint"] == ["/bin/sh", "-c", "run it"]
    assert config["Env"] == ["A=1", "B=x y", "C=all of this"]
    assert sorted(config["ExposedPorts"]) == ["53/udp", "80/tcp", "8000/tcp", "8001/tcp"]
    assert config["Labels"] == {"k": "v"} and config["User"] == "5:6" and config["WorkingDir"] == "/w/sub"
    assert config["Volumes"] == {"/data": {}, "/more": {}} and config["OnBuild"] == ["RUN x"]
    assert config["Healthcheck"] == {"Interval": 5_000_000_000, "Retries": 2, "Test": ["CMD-SHELL", "curl x"]}
    assert image.config["comment"] == "from a test"
    assert [event.action for event in desk.events] == ["tag", "import"]
    nameless = desk.graph.images.get(desk.handlers.import_image(ImportImage(), desk.ctx(tar)))
    assert nameless.config["comment"] == "Imported from -"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ("FROM x", "from is not a valid change command"), ("EXPOSE foo", "Invalid containerPort: foo"),
        ("ENV", "ENV requires"), ("ENV a", "ENV must have two arguments"), ("HEALTHCHECK MAYBE x", "Unknown type"),
    ],
)  # fmt: skip
def test_import_with_a_bad_change(desk: Desk, change: str, text: str) -> None:
    body = io.BytesIO(members(file("x")))
    context = SimpleNamespace(stdio=SimpleNamespace(stdin=lambda: body), cancel=CancelToken())
    with pytest.raises(InvalidParameter, match=text):
        desk.handlers.import_image(ImportImage(changes=(change,)), cast(JobContext, context))
    assert body.read() == b""
    assert desk.graph.images.ids() == [] and desk.graph.layers.all() == []


def test_import_of_what_is_no_tar(desk: Desk) -> None:
    with pytest.raises(Corrupt):
        desk.handlers.import_image(ImportImage(repo="x"), desk.ctx(b"no tar" * 1000))
    assert desk.graph.images.ids() == [] and desk.events == []
    left = [path for path in (desk.root / "image").rglob("*") if ".import-" in path.name]
    assert left == []


def test_the_machine_itself(desk: Desk) -> None:
    """The reserved image can be looked at, and neither named, removed nor listed."""
    view = desk.handlers.inspect(InspectImage(image="host"), desk.ctx())
    assert view.id == "host"
    assert desk.list() == []
    with pytest.raises(Conflict):
        desk.remove("host", force=True)
    with pytest.raises(Forbidden):
        desk.handlers.tag(TagImage(image="host", repo="mine"), desk.ctx())
