"""Serve the sandbox over HTTP, or over TLS with a certificate."""

import asyncio
import datetime as dt
import ipaddress
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from app.sandbox import create_sandbox
from app.sandbox.protocol import DroppingProtocol, droppable

GRACE_SECONDS = 0.5
IDLE_SECONDS = 120  # as IIS, behind which Dataverse is


def serve(
    host: str = "127.0.0.1",
    port: int = 8080,
    certfile: str | Path | None = None,
    keyfile: str | Path | None = None,
    **kwargs: Any,
) -> None:
    """Serve an organization until interrupted.

    Args:
        host: address to listen on.
        port: port to listen on.
        certfile: PEM certificate for TLS; Microsoft's client insists on it.
        keyfile: its PEM key.
        kwargs: as for `create_sandbox`.
    """
    server(create_sandbox(**kwargs), host, port, certfile, keyfile).run()


def server(
    app: Any,
    host: str = "127.0.0.1",
    port: int = 0,
    certfile: str | Path | None = None,
    keyfile: str | Path | None = None,
) -> uvicorn.Server:
    """A uvicorn server of any ASGI application; the sandbox can make it drop connections."""
    config = uvicorn.Config(
        droppable(app),
        host=host,
        port=port,
        ssl_certfile=str(certfile) if certfile else None,
        ssl_keyfile=str(keyfile) if keyfile else None,
        http=DroppingProtocol,
        ws="none",
        log_level="warning",
        timeout_keep_alive=IDLE_SECONDS,
        date_header=False,  # the sandbox has a clock of its own
    )
    return SandboxServer(config)


class SandboxServer(uvicorn.Server):
    """A server that, once told to stop, soon hangs up on clients that do not close their end of a connection."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop; called by uvicorn itself."""
        asyncio.get_running_loop().call_later(GRACE_SECONDS, self._hang_up)
        await super().shutdown(sockets)

    def _hang_up(self) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()


def self_signed(folder: Path, names: Sequence[str] = ("localhost", "127.0.0.1")) -> tuple[Path, Path]:
    """Make a certificate for these host names or addresses.

    Args:
        folder: where to put sandbox.pem and sandbox.key.
        names: host names and IP addresses.
    Returns:
        The paths of the certificate, which is its own authority, and of its key.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=365))
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(parents=True, exist_ok=True)
    cert_path, key_path = folder / "sandbox.pem", folder / "sandbox.key"
    cert_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_path.touch(mode=0o600)
    key_path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return cert_path, key_path


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
