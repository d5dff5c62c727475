"""Where the daemon listens: ``unix://path``, ``tcp://host:port``, ``fd://number``; and the TLS settings.

Source: seed, "Docker Client"; the docker CLI's environment variables.
"""

from __future__ import annotations

from pyker.client.failure import Failure

DEFAULT_HOST = "unix:///run/pyker.sock"
PLAIN_PORT = 2375
TLS_PORT = 2376


class Endpoint:
    """One address of a daemon. ``explicit`` says that somebody asked for it, so nothing is started on its behalf."""

    __slots__ = ("address", "ca", "cert", "explicit", "key", "port", "scheme", "text", "tls", "verify")

    def __init__(self, text: str, scheme: str, address: str, port: int = 0, *, explicit: bool = True) -> None:
        self.text = text
        self.scheme = scheme
        self.address = address
        self.port = port
        self.explicit = explicit
        self.tls = False
        self.verify = False
        self.ca = self.cert = self.key = ""


def parse_host(text: str, *, tls: bool = False) -> Endpoint:
    """Read one ``-H`` value. Raises Failure for a form that no daemon can have."""
    text = text.strip()
    if "://" not in text:
        text = f"tcp://{text}"
    scheme, _, rest = text.partition("://")
    if scheme == "unix":
        path = rest or DEFAULT_HOST.partition("://")[2]
        return Endpoint(f"unix://{path}", "unix", path)
    if scheme == "fd":
        number = rest or "3"
        if not number.isdigit():
            raise Failure(f"Failed to initialize: unable to resolve pyker endpoint: no socket's number: {text}")
        return Endpoint(f"fd://{number}", "fd", number)
    if scheme in ("tcp", "http", "https"):
        return _parse_tcp(rest, scheme, tls=tls or scheme == "https")
    if scheme == "ssh":
        raise Failure("Failed to initialize: unable to resolve pyker endpoint: ssh:// is not there yet")
    raise Failure(f"Failed to initialize: unable to resolve pyker endpoint: invalid bind address format: {text}")


def _parse_tcp(rest: str, scheme: str, *, tls: bool) -> Endpoint:
    authority = rest.partition("/")[0]
    default = TLS_PORT if tls else PLAIN_PORT
    if authority.startswith("["):
        host, _, tail = authority[1:].partition("]")
        port_text = tail[1:] if tail.startswith(":") else ""
    else:
        host, _, port_text = authority.partition(":")
    if port_text and not (port_text.isdigit() and int(port_text) < 65536):
        raise Failure(
            f"Failed to initialize: unable to resolve pyker endpoint: invalid bind address format: {scheme}://{rest}"
        )
    host = host or "localhost"
    port = int(port_text) if port_text else default
    shown = f"[{host}]" if ":" in host else host
    endpoint = Endpoint(f"tcp://{shown}:{port}", "tcp", host, port)
    endpoint.tls = scheme == "https"
    return endpoint


def resolve(hosts: list[str], tls: dict[str, str | bool | None], environ: dict[str, str], config_dir: str) -> Endpoint:
    """Choose the daemon: ``-H``, else PYKER_HOST, else DOCKER_HOST, else the default socket.

    ``tls`` holds what the flags said: ``tls``, ``tlsverify`` (None: not given), ``tlscacert``, ``tlscert``, ``tlskey``.
    """
    if len(hosts) > 1:
        raise Failure("Failed to initialize: unable to resolve pyker endpoint: Specify only one -H")
    verify_given = tls["tlsverify"]
    verify = bool(environ.get("DOCKER_TLS_VERIFY")) if verify_given is None else bool(verify_given)
    use_tls = bool(tls["tls"]) or verify or bool(environ.get("DOCKER_TLS"))
    text = hosts[0] if hosts else environ.get("PYKER_HOST") or environ.get("DOCKER_HOST") or ""
    endpoint = parse_host(text or DEFAULT_HOST, tls=use_tls)
    endpoint.explicit = bool(text)
    if endpoint.scheme == "tcp" and (use_tls or endpoint.tls):
        folder = environ.get("DOCKER_CERT_PATH") or config_dir
        endpoint.tls = True
        endpoint.verify = verify
        endpoint.ca = str(tls["tlscacert"] or f"{folder}/ca.pem")
        endpoint.cert = str(tls["tlscert"] or f"{folder}/cert.pem")
        endpoint.key = str(tls["tlskey"] or f"{folder}/key.pem")
    return endpoint
