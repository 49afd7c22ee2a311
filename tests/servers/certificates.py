"""Certificates of a test's own, by openssl: each vouches for itself, so it is also what a client must trust."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

PASSWORD = "not a secret"
"""Java keeps no key without one."""


@dataclass(frozen=True)
class Certificate:
    cert: str
    key: str

    def pkcs12(self) -> str:
        """Both in one file, as Java takes them; with PASSWORD."""
        path = str(Path(self.cert).with_suffix(".p12"))
        _openssl(
            "pkcs12", "-export", "-in", self.cert, "-inkey", self.key, "-out", path, "-passout", f"pass:{PASSWORD}"
        )
        return path


def make_certificate(folder: Path, names: str) -> Certificate:
    """`names` as in a subjectAltName: `DNS:localhost,IP:127.0.0.1`. Skips the test where there is no openssl."""
    cert, key = str(folder / "cert.pem"), str(folder / "key.pem")
    _openssl(
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
        "-subj", "/CN=ckptd test", "-addext", f"subjectAltName={names}", "-keyout", key, "-out", cert,
    )  # fmt: skip
    return Certificate(cert, key)


def _openssl(*arguments: str) -> None:
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("no openssl here to make a certificate with")
    subprocess.run([program, *arguments], check=True, capture_output=True)
