"""``pyker login`` and ``pyker logout``. Source: Docker API POST /auth; docker CLI's config.json."""

from __future__ import annotations

import sys

from pyker.client.command import Command
from pyker.client.failure import Failure
from pyker.client.flags import Flag
from pyker.client.names import HUB_KEY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyker.client.flags import Options
    from pyker.client.surroundings import Surroundings

MAX_PASSWORD = 64 * 1024


def _server(options: Options) -> str:
    given = options.arguments[0] if options.arguments else ""
    if given in ("", "docker.io", "index.docker.io", "registry-1.docker.io"):
        return HUB_KEY
    return given.partition("://")[2].partition("/")[0] if "://" in given else given.partition("/")[0]


def _login(around: Surroundings, options: Options) -> int:
    server = _server(options)
    user, password = options.text("username"), options.text("password")
    if options.on("password-stdin"):
        if options.given("password"):
            raise Failure("conflicting options: cannot specify both --password and --password-stdin")
        if not user:
            raise Failure("the --password-stdin option requires --username to be set")
        password = sys.stdin.read(MAX_PASSWORD).rstrip("\r\n")
    elif options.given("password"):
        around.err("WARNING! A password on the command line can be seen by others; --password-stdin cannot.")
    if not user or not password:
        user, password = _ask(around, server, user, password)
    request = {"username": user, "password": password, "serveraddress": server}
    answer = around.client.json("POST", "/auth", None, request)
    credentials = {"username": user, "password": password}
    if isinstance(answer, dict) and answer.get("IdentityToken"):
        credentials = {"username": user, "identitytoken": str(answer["IdentityToken"])}
    where = around.config.store_credentials(server, credentials)
    if where == around.config.path:
        around.err(
            f"The credentials are kept unencrypted in {where}; a credential helper (credsStore) would hide them."
        )
    around.out(str(answer.get("Status") if isinstance(answer, dict) else "") or "Login Succeeded")
    return 0


def _ask(around: Surroundings, server: str, user: str, password: str) -> tuple[str, str]:
    """From the terminal; there must be one."""
    if not sys.stdin.isatty():
        raise Failure("cannot perform an interactive login from a non-TTY device")
    import getpass

    known = around.config.credentials(server).get("username", "")
    if not user:
        around.write(f"Username{f' ({known})' if known else ''}: ")
        around.flush()
        user = sys.stdin.readline(MAX_PASSWORD).strip() or known
    if not password:
        password = getpass.getpass("Password: ")
    if not user or not password:
        raise Failure("username and password are both required")
    return user, password


def _logout(around: Surroundings, options: Options) -> int:
    server = _server(options)
    if around.config.erase_credentials(server):
        around.out(f"Removing login credentials for {server}")
    else:
        around.out(f"Not logged in to {server}")
    return 0


COMMANDS = {
    "login": Command(
        _login,
        "[SERVER]",
        flags=(
            Flag("password", "string", "Password or access token", short="p"),
            Flag("password-stdin", "bool", "Read the password from stdin"),
            Flag("username", "string", "User name", short="u"),
        ),
        most=1,
        detail="Log in to a registry; to Docker Hub if none is named.",
    ),
    "logout": Command(_logout, "[SERVER]", most=1, detail="Log out of a registry; of Docker Hub if none is named."),
}
