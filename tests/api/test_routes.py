"""Routes: which job each request becomes, and which answer each result."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from pyker.container.record import Container, State
from pyker.engine.job import JobContext
from pyker.errors import Corrupt, NotFound
from pyker.jobs.containers import (
    AttachContainer,
    ContainerCreated,
    ContainerLogs,
    ContainerRow,
    ContainerView,
    CreateContainer,
    CreateExec,
    ExecView,
    InspectContainer,
    InspectExec,
    KillContainer,
    ListContainers,
    PauseContainer,
    ProcessTable,
    RemoveContainer,
    RenameContainer,
    ResizeContainer,
    ResizeExec,
    RestartContainer,
    StartContainer,
    StartExec,
    StopContainer,
    TopContainer,
    UnpauseContainer,
    WaitContainer,
    WaitResult,
)
from pyker.jobs.images import (
    CommitContainer,
    DistributionView,
    HistoryEntry,
    ImageHistory,
    ImagePlatform,
    ImageView,
    InspectDistribution,
    InspectImage,
    ListImages,
    LoadImages,
    Pull,
    Push,
    RegistryAuth,
    RemovedImage,
    RemoveImage,
    SaveImages,
    TagImage,
)
from pyker.jobs.networks import CreateNetwork, InspectNetwork, ListNetworks, NetworkView, RemoveNetwork
from pyker.jobs.system import Auth, AuthResult, Info, ListJobs, StreamEvents, SystemInfo
from pyker.jobs.volumes import InspectVolume
from pyker.networkdriver.base import IpamPool, Network
from pyker.types.config import ContainerConfig, HostConfig
from pyker.types.events import Progress
from tests.support.api import Api

ID = "ab" * 32
PAST = "2026-01-01T00:00:00Z"
IMAGE = "sha256:" + "cd" * 32


def _container(**changes: Any) -> Container:
    values: dict[str, Any] = {
        "id": ID,
        "name": "web",
        "created": "2026-11-23T20:22:31.153836561Z",
        "path": "sh",
        "args": ("-c", "echo o; exit 3"),
        "config": ContainerConfig(image="bb:1"),
        "host_config": HostConfig(network_mode="default"),
        "image": IMAGE,
        "driver": "overlay2",
    }
    return Container(**values | changes)


@pytest.mark.claim("summary-handler-makes-job", "server-calls-handler")
@pytest.mark.parametrize(
    ("request_line", "job"),
    [
        ("POST /containers/web/start", StartContainer(container="web")),
        ("POST /containers/web/stop", StopContainer(container="web")),
        ("POST /containers/web/stop?t=3&signal=HUP", StopContainer(container="web", timeout_s=3, signal="HUP")),
        ("POST /v1.41/containers/web/stop?t=-1&signal=HUP", StopContainer(container="web", timeout_s=-1)),
        ("POST /containers/web/restart?t=1", RestartContainer(container="web", timeout_s=1)),
        ("POST /containers/web/kill", KillContainer(container="web", signal="KILL")),
        ("POST /containers/web/kill?signal=SIGHUP", KillContainer(container="web", signal="SIGHUP")),
        ("POST /containers/web/pause", PauseContainer(container="web")),
        ("POST /containers/web/unpause", UnpauseContainer(container="web")),
        ("POST /containers/web/rename?name=b", RenameContainer(container="web", new_name="b")),
        ("DELETE /containers/web", RemoveContainer(container="web")),
        ("DELETE /containers/web?force=1&v=True", RemoveContainer(container="web", force=True, volumes=True)),
        ("DELETE /containers/web?force=False&v=none", RemoveContainer(container="web")),
    ],
)
def test_life_cycle_requests_become_jobs_and_answer_204(api: Api, request_line: str, job: Any) -> None:
    seen = api.record(type(job))
    method, path = request_line.split(" ")
    answer = api.request(method, path)
    assert (answer.status, answer.body, answer.headers.get("content-length")) == (204, b"", None)
    assert seen == [job]


def test_resize_answers_200_without_a_body(api: Api) -> None:
    seen = api.record(ResizeContainer)
    answer = api.request("POST", "/containers/web/resize?h=24&w=80")
    assert (answer.status, answer.headers["content-length"]) == (200, "0")
    assert seen == [ResizeContainer(container="web", height=24, width=80)]
    assert api.request("POST", "/containers/web/resize?h=a&w=2").message == 'strconv.Atoi: parsing "a": invalid syntax'
    assert api.request("POST", "/containers/web/resize?w=2").status == 400


def test_create_takes_the_body_apart(api: Api) -> None:
    seen = api.record(CreateContainer, ContainerCreated(id=ID))  # type: ignore[arg-type]
    answer = api.request(
        "POST",
        "/v1.44/containers/create?name=web&platform=linux/amd64",
        {
            "Image": "bb:1",
            "Cmd": "one word",
            "Env": ["A=1"],
            "HostConfig": {"Memory": 7_000_000, "PortBindings": {"80/tcp": [{"HostPort": "8080"}], "81/tcp": None}},
            "NetworkingConfig": {"EndpointsConfig": {"default": {}, "n1": None}},
            "Unknown": {"x": 1},
        },
    )
    assert (answer.status, answer.json()) == (201, {"Id": ID, "Warnings": []})
    assert b'"Warnings":[]' in answer.body
    (job,) = seen
    assert (job.container_name, job.platform, job.config.image, job.config.cmd) == (
        "web",
        "linux/amd64",
        "bb:1",
        ("one word",),
    )
    assert job.host_config.memory == 7_000_000
    assert job.host_config.network_mode == "default"
    assert job.host_config.port_bindings["80/tcp"][0].host_port == "8080"
    assert job.host_config.port_bindings["81/tcp"] is None
    assert set(job.networking.endpoints_config) == {"default", "n1"}


def test_create_reads_names_in_any_case_and_null_as_zero(api: Api) -> None:
    seen = api.record(CreateContainer, ContainerCreated(id=ID))  # type: ignore[arg-type]
    body = b'{"image":"bb:1","ENV":null,"hostconfig":{"memory":7000000,"ShmSize":null,"consolesize":[1]}} trailing'
    assert api.request("POST", "/containers/create", body).status == 201
    assert (seen[0].config.image, seen[0].config.env) == ("bb:1", None)
    assert (seen[0].host_config.memory, seen[0].host_config.shm_size) == (7_000_000, 0)
    assert seen[0].host_config.console_size == (1, 0)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "got EOF while reading request body"),
        (b"xyz", "invalid character 'x' looking for beginning of value"),
        (b"[" * 100_000, "exceeded max depth"),
        (b'{"a":' * 100_000, "exceeded max depth"),
        (b"{", "unexpected EOF"),
        (b'{"Image": "bb', "unexpected EOF"),
        (b"{}", "Config cannot be empty in order to create a container"),
        (b"null", "Config cannot be empty in order to create a container"),
        (b"[]", "json: cannot unmarshal array into Go value of type runconfig.ContainerConfigWrapper"),
        (
            b'{"Image":5}',
            "json: cannot unmarshal number into Go struct field ContainerConfigWrapper.Image of type string",
        ),
        (
            b'{"Image":"bb:1","Cmd":5}',
            "json: cannot unmarshal number into Go struct field ContainerConfigWrapper.Cmd of type string",
        ),
        (
            b'{"Image":"bb:1","HostConfig":{"Memory":"x"}}',
            "json: cannot unmarshal string into Go struct field HostConfig.HostConfig.Memory of type int64",
        ),
    ],
)
def test_bad_bodies_get_the_reference_engines_words(api: Api, body: bytes, message: str) -> None:
    seen = api.record(CreateContainer)
    answer = api.request("POST", "/containers/create", body)
    assert (answer.status, answer.message) == (400, message)
    assert seen == []


def test_the_content_type_must_be_json(api: Api) -> None:
    seen = api.record(CreateContainer, ContainerCreated(id=ID))  # type: ignore[arg-type]
    answer = api.request("POST", "/containers/create", b'{"Image":"x"}', content_type="text/plain")
    assert (answer.status, answer.message) == (
        400,
        "Content-Type specified (text/plain) must be 'application/json'",
    )
    with api.connect() as wire:
        wire.send(b'POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 13\r\n\r\n{"Image":"x"}')
        assert wire.answer().message == "Content-Type specified () must be 'application/json'"
    assert seen == []
    charset = "application/json; charset=utf-8"
    assert api.request("POST", "/containers/create", b'{"Image":"x"}', content_type=charset).status == 201


def test_start_refuses_a_body_that_means_something(api: Api) -> None:
    seen = api.record(StartContainer)
    assert api.request("POST", "/containers/web/start", b"{}").status == 204
    answer = api.request("POST", "/containers/web/start", {"Binds": ["/:/host"]})
    assert answer.status == 400
    assert answer.message.startswith("starting container with non-empty request body was deprecated")
    assert len(seen) == 1


def test_wait_conditions(api: Api) -> None:
    seen = api.record(WaitContainer, WaitResult(exit_code=3))
    assert api.request("POST", "/containers/web/wait").json() == {"StatusCode": 3}
    assert api.request("POST", "/v1.41/containers/web/wait?condition=removed").json() == {
        "StatusCode": 3,
        "Error": None,
    }
    assert api.request("POST", "/v1.41/containers/web/wait?condition=bogus").status == 200
    refused = api.request("POST", "/v1.42/containers/web/wait?condition=bogus")
    assert (refused.status, refused.message) == (400, 'invalid condition: "bogus"')
    assert [job.condition for job in seen] == ["not-running", "removed", "not-running"]


def test_logs_parameters(api: Api) -> None:
    seen = api.record(ContainerLogs)
    answer = api.request(
        "GET", "/containers/web/logs?stdout=1&stderr=true&follow=0&timestamps=1&tail=5&since=12.5&until=13"
    )
    assert (answer.status, answer.body) == (200, b"")
    assert seen == [
        ContainerLogs(
            container="web",
            stdout=True,
            stderr=True,
            timestamps=True,
            tail=5,
            since_ns=12_500_000_000,
            until_ns=13_000_000_000,
        )
    ]
    for query, message in (
        ("", "Bad parameters: you must choose at least one stream"),
        ("?stdout=0&stderr=no", "Bad parameters: you must choose at least one stream"),
        ("?stdout=1&since=abc", 'strconv.ParseInt: parsing "abc": invalid syntax'),
    ):
        refused = api.request("GET", f"/containers/web/logs{query}")
        assert (refused.status, refused.message) == (400, message)
    api.request("GET", "/containers/web/logs?stdout=1&tail=all")
    assert seen[-1].tail == -1


def test_attach_parameters(api: Api) -> None:
    seen = api.record(AttachContainer)
    api.request("POST", "/containers/web/attach?stream=1&stdin=1&stdout=1&stderr=1&detachKeys=ctrl-x")
    assert seen == [
        AttachContainer(container="web", stream=True, stdin=True, stdout=True, stderr=True, detach_keys="ctrl-x")
    ]


def test_lists_take_filters_in_both_dialects(api: Api) -> None:
    seen = api.record(ListContainers, ())
    for text in ('{"label":{"a=b":true,"no":false},"status":{"exited":true}}', '{"label":["a=b"],"status":["exited"]}'):
        answer = api.request("GET", f"/containers/json?all=1&limit=-1&size=0&trunc_cmd=0&filters={_quoted(text)}")
        assert (answer.status, answer.body) == (200, b"[]\n")
        assert seen.pop() == ListContainers(all=True, limit=-1, filters={"label": ("a=b",), "status": ("exited",)})
    for text, message in (
        ('{"foo":["a"]}', "Invalid filter 'foo'"),
        ('{"status":["bogus"]}', "Invalid filter 'status=bogus'"),
        ("xx", "invalid character 'x' looking for beginning of value"),
        ("[1]", "json: cannot unmarshal array into Go value of type map[string]map[string]bool"),
        ('{"label":"x"}', "json: cannot unmarshal string into Go value of type map[string]bool"),
    ):
        refused = api.request("GET", f"/containers/json?filters={_quoted(text)}")
        assert (refused.status, refused.message) == (400, message)
    assert api.request("GET", "/containers/json?limit=abc").status == 400


def _quoted(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode())


def test_container_rows(api: Api) -> None:
    record = _container(state=State(status="exited", exit_code=3, started_at=PAST, finished_at=PAST))
    api.record(ListContainers, (ContainerRow(container=record, image_name="bb:1"),))
    (row,) = api.request("GET", "/v1.41/containers/json?all=1").json()
    assert row["Names"] == ["/web"]
    assert row["Command"] == "sh -c 'echo o; exit 3'"
    assert row["Created"] == 1795465351
    assert row["Status"].startswith("Exited (3) ")
    assert (row["Ports"], row["Labels"], row["Mounts"]) == ([], {}, [])
    assert "SizeRw" not in row


def test_inspect_container(api: Api) -> None:
    seen = api.record(InspectContainer, ContainerView(container=_container(), graphdriver_name="overlay2"))
    answer = api.request("GET", "/v1.41/containers/web/json")
    assert seen == [InspectContainer(container="web")]
    shown = answer.json()
    assert (shown["Name"], shown["ExecIDs"], shown["Mounts"]) == ("/web", None, [])
    api.request("GET", "/containers/web/json?size=1")
    assert seen[-1].size is True


def test_top(api: Api) -> None:
    seen = api.record(TopContainer, ProcessTable(titles=("PID", "CMD"), processes=(("1", "sh"),)))
    assert api.request("GET", "/containers/web/top?ps_args=-o+pid%2Ccmd").json() == {
        "Titles": ["PID", "CMD"],
        "Processes": [["1", "sh"]],
    }
    assert seen == [TopContainer(container="web", ps_args="-o pid,cmd")]


# Execs.


def test_exec(api: Api) -> None:
    created = api.record(CreateExec, ID)
    body = {"Cmd": ["sh", "-c", "x"], "AttachStdout": True, "Tty": False, "Env": ["A=1"], "User": "1000"}
    answer = api.request("POST", "/containers/web/exec", body)
    assert (answer.status, answer.json()) == (201, {"Id": ID})
    assert created == [
        CreateExec(container="web", command=("sh", "-c", "x"), attach_stdout=True, env=("A=1",), user="1000")
    ]
    assert api.request("POST", "/containers/web/exec", b"{}").message == "No exec command specified"
    assert api.request("POST", "/containers/web/exec").message == "got EOF while reading request body"

    started = api.record(StartExec)
    answer = api.request("POST", f"/exec/{ID}/start", {"Detach": True})
    assert (answer.status, answer.headers["content-length"]) == (200, "0")
    assert started == [StartExec(exec_id=ID, detach=True)]

    resized = api.record(ResizeExec)
    assert api.request("POST", f"/exec/{ID}/resize?h=1&w=2").status == 200
    assert resized == [ResizeExec(exec_id=ID, height=1, width=2)]

    view = ExecView(id=ID, container_id=ID, running=False, exit_code=None, pid=0, request=created[0])  # type: ignore[arg-type]
    api.record(InspectExec, view)
    assert api.request("GET", f"/exec/{ID}/json").json() == {
        "ID": ID,
        "Running": False,
        "ExitCode": None,
        "ProcessConfig": {
            "tty": False,
            "entrypoint": "sh",
            "arguments": ["-c", "x"],
            "privileged": False,
            "user": "1000",
        },
        "OpenStdin": False,
        "OpenStderr": False,
        "OpenStdout": True,
        "CanRemove": False,
        "ContainerID": ID,
        "DetachKeys": "",
        "Pid": 0,
    }


# Images.


def _image(**changes: Any) -> ImageView:
    values: dict[str, Any] = {
        "id": IMAGE,
        "parent": "",
        "repo_tags": ("bb:1",),
        "repo_digests": (),
        "created": "2026-11-23T20:22:31.130677737Z",
        "size": 1_982_256,
        "config": {"architecture": "amd64", "os": "linux", "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"]}},
        "diff_ids": ("sha256:" + "ef" * 32,),
        "graphdriver_name": "overlay2",
    }
    return ImageView(**values | changes)


def _auth_header(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


def test_names_with_slashes_and_ports_are_routed(api: Api) -> None:
    inspected = api.record(InspectImage, _image())
    pushed = api.record(Push)
    tagged = api.record(TagImage)
    assert api.request("GET", "/images/127.0.0.1:5000/team/json/json").status == 200
    assert inspected == [InspectImage(image="127.0.0.1:5000/team/json")]
    assert api.request("POST", "/v1.41/images/127.0.0.1:5000/team/bb/push?tag=1", x_registry_auth="e30=").status == 200
    assert pushed == [Push(image="127.0.0.1:5000/team/bb", tag="1")]
    answer = api.request("POST", "/images/127.0.0.1:5000/team/bb:1/tag?repo=docker.io%2Flibrary%2Fbb&tag=2")
    assert (answer.status, answer.headers["content-length"]) == (201, "0")
    assert tagged == [TagImage(image="127.0.0.1:5000/team/bb:1", repo="docker.io/library/bb", tag="2")]


@pytest.mark.parametrize(
    ("header", "auth"),
    [
        ("e30=", RegistryAuth()),
        ("", RegistryAuth()),
        ("no base64!", RegistryAuth()),
        (_auth_header("[1]"), RegistryAuth()),
        (
            _auth_header('{"username":"me","password":"p","serveraddress":"r.example"}'),
            RegistryAuth(username="me", password="p", server_address="r.example"),
        ),
        (_auth_header('{"username":"me","password":"p"}').rstrip("="), RegistryAuth(username="me", password="p")),
        (_auth_header('{"identitytoken":"t"}'), RegistryAuth(identity_token="t")),
        (
            _auth_header(json.dumps({"auth": base64.b64encode(b"me:p").decode()})),
            RegistryAuth(username="me", password="p"),
        ),
    ],
)
def test_pull_reads_credentials_and_ignores_what_is_none(api: Api, header: str, auth: RegistryAuth) -> None:
    seen = api.record(Pull)
    answer = api.request(
        "POST", "/images/create?fromImage=docker.io%2Flibrary%2Fbb&tag=1&platform=linux/arm64", x_registry_auth=header
    )
    assert answer.status == 200
    assert seen == [Pull(image="docker.io/library/bb", tag="1", platform="linux/arm64", auth=auth)]


def test_push_needs_the_header_or_a_body(api: Api) -> None:
    seen = api.record(Push)
    answer = api.request("POST", "/images/bb/push")
    assert (answer.status, answer.message) == (400, "Bad parameters and missing X-Registry-Auth: EOF")
    assert api.request("POST", "/images/bb/push", {}).status == 200
    assert len(seen) == 1


def test_image_rows_by_version(api: Api) -> None:
    dangling = _image(repo_tags=())
    api.record(ListImages, (_image(), dangling))
    old = api.request("GET", "/v1.41/images/json").json()
    assert old[0] == {
        "Containers": -1,
        "Created": 1795465351,
        "Id": IMAGE,
        "Labels": None,
        "ParentId": "",
        "RepoDigests": None,
        "RepoTags": ["bb:1"],
        "SharedSize": -1,
        "Size": 1_982_256,
        "VirtualSize": 1_982_256,
    }
    assert (old[1]["RepoTags"], old[1]["RepoDigests"]) == (["<none>:<none>"], ["<none>@<none>"])
    new = api.request("GET", "/v1.45/images/json").json()
    assert "VirtualSize" not in new[0]
    assert (new[1]["RepoTags"], new[1]["RepoDigests"]) == ([], [])


def test_image_inspect_by_version(api: Api) -> None:
    api.record(InspectImage, _image())
    old = api.request("GET", "/v1.41/images/bb:1/json").json()
    assert (old["RepoDigests"], old["Container"], old["VirtualSize"]) == ([], "", 1_982_256)
    assert old["ContainerConfig"]["Cmd"] is None
    assert old["Config"]["Cmd"] == ["sh"]
    assert old["Config"]["Volumes"] is None
    assert old["RootFS"] == {"Type": "layers", "Layers": ["sha256:" + "ef" * 32]}
    assert old["Metadata"] == {"LastTagTime": "0001-01-01T00:00:00Z"}
    new = api.request("GET", "/v1.45/images/bb:1/json").json()
    assert not {"Container", "ContainerConfig", "VirtualSize"} & set(new)


def test_history_and_removal(api: Api) -> None:
    entry = HistoryEntry(id="<missing>", created=5, created_by="sh")
    api.record(ImageHistory, (entry,))
    assert api.request("GET", "/images/bb:1/history").json() == [
        {"Id": "<missing>", "Created": 5, "CreatedBy": "sh", "Tags": None, "Size": 0, "Comment": ""}
    ]
    seen = api.record(RemoveImage, (RemovedImage(untagged="bb:1"), RemovedImage(deleted=IMAGE)))
    assert api.request("DELETE", "/images/bb:1?force=1&noprune=1").json() == [
        {"Untagged": "bb:1"},
        {"Deleted": IMAGE},
    ]
    assert seen == [RemoveImage(image="bb:1", force=True, noprune=True)]


# Networks, system, jobs, and what isn't there.


def test_save_and_load(api: Api) -> None:
    seen: list[SaveImages | LoadImages] = []

    def save(job: SaveImages, ctx: JobContext) -> None:
        seen.append(job)
        if job.images == ("nosuch",):
            raise NotFound("No such image: nosuch")
        ctx.stdio.stdout("application/x-tar")(b"archive")

    def load(job: LoadImages, ctx: JobContext) -> None:
        seen.append(job)
        if ctx.stdio.stdin().read(100) != b"archive":
            raise Corrupt("no archive")
        ctx.emit(Progress(stream="Loaded image: a:1\n"))

    api.on(SaveImages, save)
    api.on(LoadImages, load)
    for path in ("/images/get?names=a:1&names=b", "/images/127.0.0.1:5000/a:1/get"):
        answer = api.request("GET", path)
        assert (answer.status, answer.body, answer.headers["content-type"]) == (200, b"archive", "application/x-tar")
    assert api.request("GET", "/images/nosuch/get").status == 404
    tar = {"Content_Type": "application/x-tar"}
    answer = api.request("POST", "/images/load?quiet=0", b"archive", **tar)
    assert (answer.status, answer.body) == (200, b'{"stream":"Loaded image: a:1\\n"}\r\n')
    answer = api.request("POST", "/images/load", b"other", **tar)
    assert (answer.status, json.loads(answer.body)["error"]) == (200, "no archive")
    assert seen == [
        SaveImages(images=("a:1", "b")),
        SaveImages(images=("127.0.0.1:5000/a:1",)),
        SaveImages(images=("nosuch",)),
        LoadImages(quiet=False),
        LoadImages(quiet=True),
    ]


def test_distribution(api: Api) -> None:
    platforms = (ImagePlatform(os="linux", architecture="arm64", variant="v8"), ImagePlatform(os="linux"))
    view = DistributionView(media_type="a/b", digest="sha256:1", size=7, platforms=platforms)  # type: ignore[arg-type]
    asked = api.record(InspectDistribution, view)
    auth = base64.urlsafe_b64encode(b'{"username":"u"}').decode()
    answer = api.request("GET", "/v1.41/distribution/127.0.0.1:5000/a/b:1/json", X_Registry_Auth=auth)
    assert answer.json() == {
        "Descriptor": {"mediaType": "a/b", "digest": "sha256:1", "size": 7},
        "Platforms": [{"architecture": "arm64", "os": "linux", "variant": "v8"}, {"architecture": "", "os": "linux"}],
    }
    assert asked == [InspectDistribution(image="127.0.0.1:5000/a/b:1", auth=RegistryAuth(username="u"))]


def test_networks(api: Api) -> None:
    net = Network(id="11" * 32, name="n1", driver="bridge", created="2026-11-23T20:23:08.961820000Z")  # type: ignore[arg-type]
    api.record(ListNetworks, (NetworkView(network=net),))
    api.record(InspectNetwork, NetworkView(network=net))
    (row,) = api.request("GET", "/networks").json()
    assert row == api.request("GET", "/networks/n1").json()
    assert row["Created"] == "2026-11-23T20:23:08.96182Z"
    assert row["IPAM"] == {"Driver": "default", "Options": None, "Config": []}
    assert (row["ConfigFrom"], row["Containers"]) == ({"Network": ""}, {})
    assert api.request("GET", f"/networks?filters={_quoted(json.dumps({'foo': ['a']}))}").status == 400


def test_network_create_and_remove(api: Api) -> None:
    created = api.record(CreateNetwork, "11" * 32)
    body = {
        "Name": "n1",
        "CheckDuplicate": True,
        "Driver": "",
        "IPAM": {"Config": [{"Subnet": "10.99.0.0/24", "AuxiliaryAddresses": {"a": "10.99.0.9"}}], "Options": None},
        "ConfigFrom": None,
        "Labels": {"a": "b"},
        "enableipv6": None,
    }
    answer = api.request("POST", "/v1.41/networks/create", body)
    assert (answer.status, answer.json()) == (201, {"Id": "11" * 32, "Warning": ""})
    pool = IpamPool(subnet="10.99.0.0/24", aux_addresses={"a": "10.99.0.9"})
    assert created == [CreateNetwork(network_name="n1", pools=(pool,), labels={"a": "b"})]
    assert api.request("POST", "/networks/create", {}).message == "invalid name: "
    assert api.request("POST", "/networks/create", {"Name": "n", "Ingress": True}).status == 501
    removed = api.record(RemoveNetwork)
    assert api.request("DELETE", "/networks/n1").status == 204
    assert removed == [RemoveNetwork(network="n1")]


def test_info_drops_what_a_version_does_not_know(api: Api) -> None:
    api.record(Info, SystemInfo(fields={"ID": "x", "KernelMemory": True, "FirewallBackend": {"Driver": "none"}}))
    assert api.request("GET", "/v1.41/info").json() == {"ID": "x", "KernelMemory": True}
    assert api.request("GET", "/v1.45/info").json() == {"ID": "x"}


def test_events_parameters(api: Api) -> None:
    seen = api.record(StreamEvents)
    assert api.request("GET", '/events?since=1&until=2.5&filters={"type":["container"]}').status == 200
    assert seen == [StreamEvents(since_ns=1_000_000_000, until_ns=2_500_000_000, filters={"type": ("container",)})]
    answer = api.request("GET", "/events?since=5&until=1")
    assert (answer.status, answer.message) == (400, "`since` time (5) cannot be after `until` time (1)")


def test_auth(api: Api) -> None:
    seen = api.record(Auth, AuthResult(status="Login Succeeded"))
    answer = api.request("POST", "/auth", {"username": "me", "password": "p", "serveraddress": "r.example"})
    assert answer.json() == {"Status": "Login Succeeded", "IdentityToken": ""}
    assert seen == [Auth(username="me", password="p", server_address="r.example")]


@pytest.mark.claim("engine-runs-jobs", "job-name", "job-arguments", "job-status")
def test_jobs(api: Api) -> None:
    def list_jobs(job: ListJobs, ctx: JobContext) -> Any:
        return () if job.tree == "nosuch" else api.engine.running()

    api.on(ListJobs, list_jobs)
    (serveapi, jobs) = api.request("GET", "/pyker/jobs?limit=5").json()
    assert (serveapi["Name"], jobs["Name"]) == ("serveapi", "jobs")
    assert (serveapi["Status"], serveapi["EndedAt"], serveapi["ParentID"]) == ("running", "0001-01-01T00:00:00Z", "")
    assert jobs["Arguments"] == {"limit": 5}
    assert api.request("GET", f"/pyker/jobs/{serveapi['ID']}").status == 200
    assert api.request("GET", "/pyker/jobs/nosuch").status == 404


@pytest.mark.parametrize("path", ["/swarm", "/nodes", "/services", "/tasks", "/secrets", "/configs", "/nodes/x"])
def test_there_is_no_swarm(api: Api, path: str) -> None:
    answer = api.request("GET", path)
    assert answer.status == 503
    assert answer.message.startswith("This node is not a swarm manager.")


def test_inspect_of_an_unknown_name_falls_through_every_kind(api: Api) -> None:
    for job_type in (InspectContainer, InspectImage, InspectNetwork, InspectVolume):

        def missing(job: Any, ctx: JobContext) -> Any:
            raise NotFound("none")

        api.on(job_type, missing)
    for path in ("containers/x/json", "images/x/json", "networks/x", "volumes/x", "plugins/x/json"):
        assert api.request("GET", f"/v1.41/{path}").status == 404
    assert api.request("GET", "/plugins").body == b"[]\n"


def test_commit(api: Api) -> None:
    seen = api.record(CommitContainer, "sha256:1")
    answer = api.request(
        "POST", "/commit?container=c&repo=a&tag=1&comment=why&author=me&pause=0&changes=ENV+A%3D1&changes=USER+u"
    )
    assert (answer.status, answer.json()) == (201, {"Id": "sha256:1"})
    assert api.request("POST", "/commit?container=c", b"null").status == 201
    assert api.request("POST", "/commit?container=c", b'{"Cmd": "ls"}').status == 201
    changes = ("ENV A=1", "USER u")
    assert seen == [
        CommitContainer(container="c", repo="a", tag="1", comment="why", author="me", pause=False, changes=changes),
        CommitContainer(container="c"),
        CommitContainer(container="c", config=ContainerConfig(cmd=("ls",))),
    ]
    assert api.request("POST", "/commit?container=c", b"{").status == 400


@pytest.mark.parametrize(
    "request_line",
    [
        "POST /build",
    ],
)
def test_what_is_not_there_yet_says_so(api: Api, request_line: str) -> None:
    method, path = request_line.split(" ")
    answer = api.request(method, path)
    assert answer.status == 501
    if method != "HEAD":
        assert answer.message.endswith("is not there yet in Pyker")
