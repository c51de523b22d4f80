"""The certificates that clnrest's clients know: a root of the node's own, and what it has signed.

They have Core Lightning's names, ca.pem, server.pem and client.pem, each with its secret key beside it,
and are made once. Who wants others puts their own server.pem and server-key.pem in the place. This module
is imported where something is served over TLS, since what makes certificates is large.
"""

import secrets
import ssl
from datetime import UTC, datetime
from pathlib import Path

from node.daemon.files import replace_file
from node.daemon.web import BadCertificates, Tls
from wire.crypto.x509 import SECRET_BYTES, SERIAL_BYTES, Identity, certify

_NAMES = {"ca": "cln Root REST CA", "server": "cln rest server", "client": "cln rest client"}
_HOSTS = ("cln", "localhost", "127.0.0.1")
_VALID = datetime(1975, 1, 1, tzinfo=UTC), datetime(4096, 1, 1, tzinfo=UTC)  # as Core Lightning's


def certificates_in(directory: Path, host: str) -> Tls:
    """The server's certificate and key in a directory, made with all others if one of them is missing.

    Raises:
        BadCertificates: they cannot be made, or do not belong together.
    """
    served = Tls(directory / "server.pem", directory / "server-key.pem")
    try:
        if not (_is_there(served.certificate) and _is_there(served.key)):
            _make(directory, host)
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(served.certificate, served.key)
    except (OSError, ssl.SSLError) as error:
        raise BadCertificates(directory, error.strerror or str(error)) from None
    return served


def _is_there(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _make(directory: Path, host: str) -> None:
    """All three, the first of which signs itself and the others."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    identities = {file: Identity(name, secrets.token_bytes(SECRET_BYTES)) for file, name in _NAMES.items()}
    for file, whom in identities.items():
        serial = secrets.token_bytes(SERIAL_BYTES)
        certificate = certify(whom, identities["ca"], serial, tuple(dict.fromkeys((*_HOSTS, host))), _VALID)
        replace_file(directory / f"{file}-key.pem", whom.pem)
        replace_file(directory / f"{file}.pem", certificate)
