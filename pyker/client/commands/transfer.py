"""``pyker pull`` and ``pyker push``.

Source: seed, "docker pull"; Docker API POST /images/create, POST /images/{name}/push.
"""

from __future__ import annotations

from pyker.client.command import Command
from pyker.client.failure import Failure
from pyker.client.flags import Flag
from pyker.client.names import auth_header, credentials_key, parse_name
from pyker.client.transport import quote_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyker.client.flags import Options
    from pyker.client.surroundings import Surroundings
    from pyker.types.reference import Reference


def pull_image(
    around: Surroundings,
    name: str,
    *,
    platform: str = "",
    quiet: bool = False,
    to_stderr: bool = False,
    every_tag: bool = False,
) -> Reference:
    """Have the daemon pull ``name``, telling how it goes. Returns what was pulled, in full."""
    from pyker.client.progress import show_progress

    reference = parse_name(name)
    if not every_tag:
        reference = reference.default_tag()
    query = {"fromImage": reference.name}
    if not every_tag:
        query["tag"] = reference.digest or reference.tag
    if platform:
        query["platform"] = platform
    headers = {"X-Registry-Auth": auth_header(around.config.credentials(credentials_key(reference)))}
    response = around.client.open("POST", "/images/create", query, headers=headers)
    show_progress(response, quiet=quiet, descriptor=2 if to_stderr else 1)
    response.connection.close()
    return reference


def _pull(around: Surroundings, options: Options) -> int:
    from pyker.client.commands.run import with_daemon

    name = options.arguments[0]
    reference = parse_name(name)
    every_tag = options.on("all-tags")
    quiet = options.on("quiet")
    if every_tag and not reference.name_only:
        raise Failure("tag can't be used with --all-tags/-a")
    if not every_tag and reference.name_only and not quiet:
        around.out("Using default tag: latest")
    try:
        with_daemon(around)
    except Failure as failure:
        raise Failure(failure.message) from None
    platform = options.text("platform") or around.environ.get("DOCKER_DEFAULT_PLATFORM", "")
    pulled = pull_image(around, name, platform=platform, quiet=quiet, every_tag=every_tag)
    around.out(pulled.canonical)
    return 0


def _push(around: Surroundings, options: Options) -> int:
    from pyker.client.progress import show_progress

    reference = parse_name(options.arguments[0])
    every_tag = options.on("all-tags")
    quiet = options.on("quiet")
    if every_tag and not reference.name_only:
        raise Failure("tag can't be used with --all-tags/-a")
    if not every_tag and reference.name_only:
        reference = reference.default_tag()
        if not quiet:
            around.out(f"Using default tag: {reference.tag}")
    query = {} if every_tag else {"tag": reference.tag}
    if options.text("platform"):
        from pyker.client.wirejson import dumps

        system, _, rest = options.text("platform").partition("/")
        architecture, _, variant = rest.partition("/")
        wanted = {"os": system, "architecture": architecture, "variant": variant}
        query["platform"] = dumps({name: value for name, value in wanted.items() if value})
    headers = {"X-Registry-Auth": auth_header(around.config.credentials(credentials_key(reference)))}
    path = f"/images/{quote_path(reference.name)}/push"
    response = around.client.open("POST", path, query, headers=headers)
    show_progress(response, quiet=quiet, descriptor=1)
    if quiet:
        around.out(reference.canonical)
    return 0


PLATFORM = Flag("platform", "string", "Platform to choose, where there are several (os/arch/variant)")
TRUST = Flag("disable-content-trust", "bool", "Accepted; there is no content trust", default=True, hidden=True)

COMMANDS = {
    "pull": Command(
        _pull,
        "NAME[:TAG|@DIGEST]",
        flags=(
            Flag("all-tags", "bool", "Every tag of the repository", short="a"),
            TRUST,
            PLATFORM,
            Flag("quiet", "bool", "Print the name alone", short="q"),
        ),
        least=1,
        most=1,
        aliases=("image pull", "pull"),
    ),
    "push": Command(
        _push,
        "NAME[:TAG]",
        flags=(
            Flag("all-tags", "bool", "Every tag of the repository", short="a"),
            TRUST,
            Flag("platform", "string", "Push the image of one platform only (os/arch/variant)"),
            Flag("quiet", "bool", "Print the name alone", short="q"),
        ),
        least=1,
        most=1,
        aliases=("image push", "push"),
    ),
}
