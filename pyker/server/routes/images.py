"""``/images/...``: pull, import, push, lists, tags; ``/distribution/...``."""

from __future__ import annotations

from pyker.api import filters
from pyker.api.codec import Decoder
from pyker.errors import InvalidParameter, NotSupported
from pyker.jobs.images import (
    CommitContainer,
    ImageHistory,
    ImportImage,
    InspectDistribution,
    InspectImage,
    ListImages,
    LoadImages,
    PruneImages,
    Pull,
    Push,
    RemoveImage,
    SaveImages,
    SearchImages,
    TagImage,
)
from pyker.server.call import Call
from pyker.server.render import images as render
from pyker.server.reply import STREAMED, Reply, json_reply
from pyker.server.router import Route
from pyker.types.config import ContainerConfig
from pyker.types.events import Progress

_META = "x-meta-"
_config = Decoder(ContainerConfig, name="container.Config", lists=("Cmd", "Entrypoint", "Shell"))
_NOTHING = ContainerConfig()


def create(call: Call) -> Reply:
    """``POST /images/create``: with ``fromImage`` a pull, with ``fromSrc`` an import."""
    platform = call.text("platform") if call.version >= (1, 32) else ""
    image = call.text("fromImage")
    if image:
        headers = call.request.headers
        return call.stream_progress(
            Pull(
                image=image,
                tag=call.text("tag"),
                platform=platform,
                auth=call.registry_auth(),
                meta_headers={name: value for name, value in headers.items() if name.startswith(_META)},
            )
        )
    source = call.text("fromSrc")
    if not source:
        raise InvalidParameter("fromImage or fromSrc must be given")
    if source != "-":
        raise NotSupported("import from a URL is not there yet", hint="download it, and import the file")
    job = ImportImage(
        repo=call.text("repo"),
        tag=call.text("tag"),
        message=call.text("message"),
        changes=tuple(call.query.get("changes", ())),
        platform=platform,
    )
    return call.stream_progress(job, lambda image_id: Progress(status=str(image_id)))


def commit(call: Call) -> Reply:
    """``POST /commit``: an image of a container; the body may be a configuration of its own."""
    config = call.json(_config, empty=_NOTHING)
    job = CommitContainer(
        container=call.text("container"),
        repo=call.text("repo"),
        tag=call.text("tag"),
        comment=call.text("comment"),
        author=call.text("author"),
        pause=call.flag("pause") if "pause" in call.query else True,
        changes=tuple(call.query.get("changes", ())),
        config=None if config == _NOTHING else config,
    )
    return json_reply({"Id": call.run(job)}, 201)


def push(call: Call) -> Reply:
    if "x-registry-auth" not in call.request.headers and not call.read_body().strip():
        raise InvalidParameter("Bad parameters and missing X-Registry-Auth: EOF")
    return call.stream_progress(Push(image=call["name"], tag=call.text("tag"), auth=call.registry_auth()))


def list_all(call: Call) -> Reply:
    chosen = call.filters(filters.IMAGES)
    views = call.run(ListImages(all=call.flag("all"), filters=chosen))
    return json_reply([render.image_row(view, call.version) for view in views])


def inspect(call: Call) -> Reply:
    return json_reply(render.image_inspect(call.run(InspectImage(image=call["name"])), call.version))


def history(call: Call) -> Reply:
    return json_reply([render.history_entry(entry) for entry in call.run(ImageHistory(image=call["name"]))])


def tag(call: Call) -> Reply:
    call.run(TagImage(image=call["name"], repo=call.text("repo"), tag=call.text("tag")))
    return Reply(201)


def remove(call: Call) -> Reply:
    if not call["name"].strip():
        raise InvalidParameter("image name cannot be blank")
    removed = call.run(RemoveImage(image=call["name"], force=call.flag("force"), noprune=call.flag("noprune")))
    return json_reply([render.removed_image(entry) for entry in removed])


def prune(call: Call) -> Reply:
    done = call.run(PruneImages(filters=call.filters(filters.IMAGE_PRUNE)))
    removed = [render.removed_image(entry) for entry in done.removed]
    return json_reply({"ImagesDeleted": removed or None, "SpaceReclaimed": done.reclaimed})


def search(call: Call) -> Reply:
    """``GET /images/search``: what a registry has, Docker Hub unless the term names another."""
    job = SearchImages(
        term=call.text("term"), limit=call.number("limit"), filters=call.filters(None), auth=call.registry_auth()
    )
    return json_reply([render.search_result(found) for found in call.run(job)])


def save(call: Call) -> Reply:
    """``GET /images/get``, and for one image ``GET /images/{name}/get``."""
    call.run(SaveImages(images=(call["name"],)))
    return STREAMED


def save_several(call: Call) -> Reply:
    call.run(SaveImages(images=tuple(call.query.get("names", ()))))
    return STREAMED


def load(call: Call) -> Reply:
    job = LoadImages(quiet=call.flag("quiet", True), platform=call.text("platform"))
    return call.stream_progress(job, fails_in_stream=True)


def distribution(call: Call) -> Reply:
    """``GET /distribution/{name}/json``: what a registry has, without a pull."""
    return json_reply(render.distribution(call.run(InspectDistribution(image=call["name"], auth=call.registry_auth()))))


ROUTES = [
    Route("GET", "/images/json", list_all),
    Route("GET", "/images/search", search, ends_with_client=True),
    Route("POST", "/images/create", create, ends_with_client=True),
    Route("POST", "/commit", commit),
    Route("POST", "/images/prune", prune),
    Route("GET", "/images/get", save_several, ends_with_client=True),
    Route("POST", "/images/load", load, ends_with_client=True),
    Route("GET", "/images/{name:.*}/get", save, ends_with_client=True),
    Route("GET", "/images/{name:.*}/json", inspect),
    Route("GET", "/images/{name:.*}/history", history),
    Route("POST", "/images/{name:.*}/push", push, ends_with_client=True),
    Route("POST", "/images/{name:.*}/tag", tag),
    Route("DELETE", "/images/{name:.*}", remove),
    Route("GET", "/distribution/{name:.*}/json", distribution, ends_with_client=True),
]
