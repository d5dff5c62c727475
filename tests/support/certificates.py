"""A certificate authority for one test, made with openssl(1)."""

from __future__ import annotations

import subprocess
from pathlib import Path


class Authority:
    """``ca`` signs what ``issue`` makes. Keys are elliptic: RSA would take the test a second."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.ca = folder / "ca.pem"
        self._key = folder / "ca-key.pem"
        self._new("-x509", "-days", "2", "-subj", "/CN=test CA", "-keyout", str(self._key), "-out", str(self.ca))

    def _new(self, *arguments: str) -> None:
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        _openssl("req", *curve, *arguments)

    def issue(self, name: str, *, server: bool) -> tuple[Path, Path]:
        """A certificate and its key; a server's is for 127.0.0.1 and localhost."""
        stem = self._folder / name.replace(" ", "-")
        request, certificate, key = (stem.with_suffix(suffix) for suffix in (".csr", ".pem", ".key"))
        self._new("-subj", f"/CN={name}", "-keyout", str(key), "-out", str(request))
        extensions = stem.with_suffix(".ext")
        usage = "serverAuth" if server else "clientAuth"
        names = "subjectAltName=IP:127.0.0.1,DNS:localhost\n" if server else ""
        extensions.write_text(f"extendedKeyUsage={usage}\n{names}")
        signed_by = ("-CA", str(self.ca), "-CAkey", str(self._key), "-CAcreateserial")
        files = ("-in", str(request), "-out", str(certificate), "-extfile", str(extensions))
        _openssl("x509", "-req", "-days", "2", *signed_by, *files)
        return certificate, key


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)
