"""The client's TLS context: ``--tls``, ``--tlsverify`` and the three files."""

from __future__ import annotations

import os
import ssl

from pyker.client.failure import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyker.client.hosts import Endpoint


def make_context(endpoint: Endpoint) -> ssl.SSLContext:
    """TLS 1.2 or newer; the daemon's certificate is checked only with ``--tlsverify``, as docker does.

    A client certificate is shown if both of its files exist; with verification asked for, they and the CA must.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if endpoint.verify:
        if not os.path.exists(endpoint.ca):
            raise Failure(f"unable to resolve pyker endpoint: open {endpoint.ca}: no such file or directory")
        context.load_verify_locations(endpoint.ca)
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    have = [os.path.exists(path) for path in (endpoint.cert, endpoint.key)]
    if all(have):
        try:
            context.load_cert_chain(endpoint.cert, endpoint.key)
        except (ssl.SSLError, OSError) as error:
            raise Failure(f"could not load X509 key pair from {endpoint.cert} and {endpoint.key}: {error}") from error
    elif any(have) or endpoint.verify:
        missing = endpoint.key if have[0] else endpoint.cert
        raise Failure(f"could not load X509 key pair: open {missing}: no such file or directory")
    return context
