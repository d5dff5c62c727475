"""``import``: a tar becomes an image of one layer, with changes in the words of a Dockerfile."""

from __future__ import annotations

import gzip
import tarfile
from urllib.parse import quote

import pytest

from tests.support import images
from tests.support.asking import get, image_id, import_image, message, records
from tests.support.engines import Engine

pytestmark = pytest.mark.claim("POST /images/create", "rule-import")


def _one(tar: tarfile.TarFile) -> None:
    images.add_file(tar, "one", b"1\n")


def test_the_answer_is_the_id(engine: Engine, repository: str) -> None:
    reply = engine.request("POST", f"/images/create?fromSrc=-&repo={repository}&tag=1", images.tar_of(_one))
    assert reply.status == 200 and reply.headers["content-type"] == "application/json"
    assert records(reply) == [{"status": image_id(engine, f"{repository}:1")}]
    value = get(engine, f"/images/{repository}:1/json")
    assert value["Comment"] in ("", "Imported from -")
    assert value["RootFS"]["Layers"] == [images.digest(images.tar_of(_one))]


def test_repo_may_hold_the_tag(engine: Engine, repository: str) -> None:
    reply = engine.request("POST", f"/images/create?fromSrc=-&repo={repository}:5", images.tar_of(_one))
    assert records(reply) == [{"status": image_id(engine, f"{repository}:5")}]


def test_a_message(engine: Engine, repository: str) -> None:
    engine.request("POST", f"/images/create?fromSrc=-&repo={repository}&message=why%20not", images.tar_of(_one))
    assert get(engine, f"/images/{repository}/json")["Comment"] == "why not"


def test_a_compressed_tar(engine: Engine, repository: str) -> None:
    packed = gzip.compress(images.tar_of(_one))
    assert engine.request("POST", f"/images/create?fromSrc=-&repo={repository}", packed).status == 200
    layers = get(engine, f"/images/{repository}/json")["RootFS"]["Layers"]
    assert layers == [images.digest(images.tar_of(_one))]


def test_without_a_name(engine: Engine) -> None:
    reply = engine.request("POST", "/images/create?fromSrc=-", images.tar_of(_one))
    wanted = records(reply)[-1]["status"]
    assert get(engine, f"/images/{wanted}/json")["RepoTags"] == []
    engine.docker("rmi", wanted, check=True)


@pytest.mark.parametrize(
    ("change", "field", "value"),
    [
        ('CMD ["a", "b"]', "Cmd", ["a", "b"]),
        ("CMD a b", "Cmd", ["/bin/sh", "-c", "a b"]),
        ('ENTRYPOINT ["x"]', "Entrypoint", ["x"]),
        ("ENV A=1 B=2", "Env", ["A=1", "B=2"]),
        ("EXPOSE 80 90/udp", "ExposedPorts", {"80/tcp": {}, "90/udp": {}}),
        ("LABEL a=b", "Labels", {"a": "b"}),
        ("USER 7:8", "User", "7:8"),
        ("VOLUME /v", "Volumes", {"/v": {}}),
        ("WORKDIR /w", "WorkingDir", "/w"),
        ("ONBUILD RUN true", "OnBuild", ["RUN true"]),
        ("HEALTHCHECK CMD true", "Healthcheck", {"Test": ["CMD-SHELL", "true"]}),
    ],
    ids=(
        "cmd-exec",
        "cmd-shell",
        "entrypoint",
        "env",
        "expose",
        "label",
        "user",
        "volume",
        "workdir",
        "onbuild",
        "health",
    ),
)
def test_changes(engine: Engine, repository: str, change: str, field: str, value: object) -> None:
    import_image(engine, f"{repository}:1", _one, change)
    assert get(engine, f"/images/{repository}:1/json")["Config"][field] == value


@pytest.mark.parametrize("change", ["RUN true", "COPY a b", "FROM x", "BOGUS y"])
def test_changes_that_may_not_be(engine: Engine, repository: str, change: str) -> None:
    query = f"fromSrc=-&repo={repository}&changes={quote(change)}"
    reply = engine.request("POST", f"/images/create?{query}", images.tar_of(_one))
    word = change.split()[0].lower()
    assert (reply.status, message(reply)) == (400, f"{word} is not a valid change command")
    assert engine.request("GET", f"/images/{repository}/json").status == 404


def test_what_is_no_tar(engine: Engine, repository: str) -> None:
    reply = engine.request("POST", f"/images/create?fromSrc=-&repo={repository}", b"no tar at all")
    assert reply.status == 500 and message(reply)
    assert engine.request("GET", f"/images/{repository}/json").status == 404


def test_a_bad_name(engine: Engine) -> None:
    reply = engine.request("POST", "/images/create?fromSrc=-&repo=UPPER", images.tar_of(_one))
    assert reply.status == 400 and "must be lowercase" in message(reply)


def test_docker_import(engine: Engine, repository: str) -> None:
    done = engine.docker("import", "-c", "CMD true", "-", f"{repository}:1", input=images.tar_of(_one), check=True)
    assert done.out.strip() == image_id(engine, f"{repository}:1")
    value = get(engine, f"/images/{repository}:1/json")
    assert value["Comment"] == "Imported from -"
    assert value["Config"]["Cmd"] == ["/bin/sh", "-c", "true"]


def test_import_of_a_url_that_does_not_answer(engine: Engine, repository: str) -> None:
    reply = engine.request("POST", f"/images/create?fromSrc=http://127.0.0.1:1/x&repo={repository}")
    assert reply.status == 500 and "connection refused" in message(reply)
