"""``config.json``: registry credentials, helpers that hold them, output formats, headers.

Source: docker CLI's documented ``~/.docker/config.json``.
"""

from __future__ import annotations

import os

from pyker.client.failure import Failure
from pyker.client.wirejson import dumps, dumps_indented, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_CONFIG = 16 * 1024 * 1024
MAX_HELPER_OUTPUT = 1024 * 1024


def config_dir(environ: os._Environ[str] | dict[str, str]) -> str:
    """``DOCKER_CONFIG``, else ``~/.docker``."""
    return environ.get("DOCKER_CONFIG") or os.path.join(environ.get("HOME") or os.path.expanduser("~"), ".docker")


class ConfigFile:
    """The file's content, kept whole so that what we do not know survives a save."""

    def __init__(self, path: str, values: dict[str, Any]) -> None:
        self.path = path
        self.values = values

    @classmethod
    def load(cls, folder: str) -> ConfigFile:
        """Read the file in ``folder``; a missing one is empty. Raises Failure if it cannot be read."""
        path = f"{folder}/config.json"
        try:
            with open(path, "rb") as stream:
                data = stream.read(MAX_CONFIG)
        except FileNotFoundError:
            return cls(path, {})
        except OSError as error:
            raise Failure(f"loading config file: {path}: {error.strerror}") from error
        try:
            values = loads(data) if data.strip() else {}
        except ValueError as error:
            raise Failure(f"parsing config file ({path}): {error}") from None
        return cls(path, values if isinstance(values, dict) else {})

    def _mapping(self, name: str) -> dict[str, Any]:
        value = self.values.get(name)
        return value if isinstance(value, dict) else {}

    @property
    def http_headers(self) -> dict[str, str]:
        """``HttpHeaders``, without the one that is ours to send, and without line breaks."""
        return {
            str(name): str(value)
            for name, value in self._mapping("HttpHeaders").items()
            if name.lower() != "user-agent" and "\n" not in f"{name}{value}" and "\r" not in f"{name}{value}"
        }

    def text(self, name: str) -> str:
        """A setting that is a string, such as ``psFormat`` or ``detachKeys``."""
        value = self.values.get(name)
        return value if isinstance(value, str) else ""

    def proxies(self, host: str) -> dict[str, str]:
        """The proxy variables that containers of the daemon at ``host`` get, upper and lower case."""
        proxies = self._mapping("proxies")
        chosen = proxies.get(host) or proxies.get("default")
        if not isinstance(chosen, dict):
            return {}
        found: dict[str, str] = {}
        for key, name in (
            ("httpProxy", "HTTP_PROXY"),
            ("httpsProxy", "HTTPS_PROXY"),
            ("noProxy", "NO_PROXY"),
            ("ftpProxy", "FTP_PROXY"),
            ("allProxy", "ALL_PROXY"),
        ):
            if chosen.get(key):
                found[name] = found[name.lower()] = str(chosen[key])
        return found

    def _helper_for(self, server: str) -> str:
        helpers = self._mapping("credHelpers")
        return str(helpers.get(server) or self.text("credsStore") or "")

    def credentials(self, server: str) -> dict[str, str]:
        """What to log in with at ``server``, in the shape of X-Registry-Auth; empty when nothing is kept."""
        if helper := self._helper_for(server):
            return _ask_helper(helper, server)
        auths = self._mapping("auths")
        entry = auths.get(server)
        if entry is None:
            entry = next((auths[key] for key in auths if _host_of(key) == server), None)
        if not isinstance(entry, dict):
            return {}
        found = {"serveraddress": server}
        if isinstance(auth := entry.get("auth"), str) and auth:
            user, password = _decode_auth(auth)
            found.update(username=user, password=password)
        for name in ("username", "password", "identitytoken", "registrytoken"):
            if isinstance(entry.get(name), str) and entry[name]:
                found[name] = entry[name]
        return found

    def store_credentials(self, server: str, credentials: dict[str, str]) -> str:
        """Keep ``credentials``; returns where they went, for the user to read."""
        if helper := self._helper_for(server):
            secret = credentials.get("identitytoken")
            body = {
                "ServerURL": server,
                "Username": "<token>" if secret else credentials.get("username", ""),
                "Secret": secret or credentials.get("password", ""),
            }
            _run_helper(helper, "store", dumps(body))
            self.values.setdefault("auths", {})[server] = {}
            self.save()
            return f"docker-credential-{helper}"
        import base64

        pair = f"{credentials.get('username', '')}:{credentials.get('password', '')}".encode()
        entry: dict[str, str] = {"auth": base64.b64encode(pair).decode("ascii")}
        if credentials.get("identitytoken"):
            entry = {
                "auth": base64.b64encode(f"{credentials.get('username', '')}:".encode()).decode("ascii"),
                "identitytoken": credentials["identitytoken"],
            }
        self.values.setdefault("auths", {})[server] = entry
        self.save()
        return self.path

    def erase_credentials(self, server: str) -> bool:
        """Forget ``server``; False if it was not known."""
        known = server in self._mapping("auths")
        if helper := self._helper_for(server):
            _run_helper(helper, "erase", server)
        if known:
            del self.values["auths"][server]
            self.save()
        return known

    def save(self) -> None:
        """Write the file anew, readable by its owner alone."""
        folder = os.path.dirname(self.path)
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
            temporary = f"{self.path}.{os.getpid()}"
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                stream.write(dumps_indented(self.values))
            os.replace(temporary, os.path.realpath(self.path))
        except OSError as error:
            raise Failure(f"error saving credentials: {self.path}: {error.strerror}") from error


def _host_of(key: str) -> str:
    return key.partition("://")[2].partition("/")[0] if "://" in key else key.partition("/")[0]


def _decode_auth(auth: str) -> tuple[str, str]:
    import base64

    try:
        user, colon, password = base64.b64decode(auth, validate=True).decode("utf-8").partition(":")
    except ValueError:
        raise Failure("invalid auth configuration file: auth is not base64") from None
    if not colon:
        raise Failure("invalid auth configuration file")
    return user, password.strip("\x00")


def _ask_helper(helper: str, server: str) -> dict[str, str]:
    code, output = _start_helper(helper, "get", server)
    if code != 0:
        if "credentials not found" in output:
            return {}
        raise Failure(f"error getting credentials - err: exit status {code}, out: `{output.strip()}`")
    try:
        answer = loads(output)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise Failure(f"error getting credentials: docker-credential-{helper} did not answer with JSON")
    user, secret = str(answer.get("Username", "")), str(answer.get("Secret", ""))
    if user == "<token>":
        return {"identitytoken": secret, "serveraddress": server}
    return {"username": user, "password": secret, "serveraddress": server}


def _run_helper(helper: str, verb: str, text: str) -> None:
    code, output = _start_helper(helper, verb, text)
    if code != 0 and "credentials not found" not in output:
        raise Failure(f"error storing credentials - err: exit status {code}, out: `{output.strip()}`")


def _start_helper(helper: str, verb: str, text: str) -> tuple[int, str]:
    import subprocess

    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run([program, verb], input=text.encode(), stdout=subprocess.PIPE, check=False)
    except FileNotFoundError:
        raise Failure(
            f'error getting credentials - err: exec: "{program}": executable file not found in $PATH, out: ``'
        ) from None
    return done.returncode, done.stdout[:MAX_HELPER_OUTPUT].decode("utf-8", "replace")
