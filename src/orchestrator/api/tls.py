"""TLS files, read again when they change, so that certificates are renewed without a restart."""

from __future__ import annotations

import logging
import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """PEM files. With `client_ca`, only clients with a certificate of that authority are let in (mTLS)."""

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def read(self) -> TlsContents:
        """What the files hold now. Raises OSError, also when they do not fit together."""
        _context(self)
        return TlsContents(
            certificate=self.certificate.read_bytes(),
            key=self.key.read_bytes(),
            client_ca=self.client_ca.read_bytes() if self.client_ca else None,
        )

    def changed_at(self) -> tuple[int, ...]:
        """Differs after every replacement of a file. Raises OSError."""
        files = [self.certificate, self.key, *([self.client_ca] if self.client_ca else [])]
        return tuple(stamp for file in files for stamp in (file.stat().st_mtime_ns, file.stat().st_ino))


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsContents:
    certificate: bytes
    key: bytes
    client_ca: bytes | None


def grpc_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Credentials that look at the files at each handshake. Raises OSError when they cannot be read at first."""
    seen = files.changed_at()

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal seen
        try:
            changed_at = files.changed_at()
            if changed_at == seen:
                return None
            configuration = _configuration(files.read())
        except OSError as error:
            # Replaced by half: the connection gets the certificate there was.
            logger.warning("TLS files cannot be read", extra={"error": type(error).__name__})
            return None
        seen = changed_at
        return configuration

    return grpc.dynamic_ssl_server_credentials(
        _configuration(files.read()),
        fetch,  # type: ignore[arg-type]  # the stubs do not know that None means: the same as before
        require_client_authentication=files.client_ca is not None,
    )


def _configuration(contents: TlsContents) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(contents.key, contents.certificate)], contents.client_ca)


def http_context(files: TlsFiles) -> ssl.SSLContext:
    """A context that looks at the files at each handshake. Raises OSError (and ssl.SSLError, which is one)."""
    seen, current = files.changed_at(), _context(files)

    def refresh(connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        nonlocal seen, current
        try:
            changed_at = files.changed_at()
            if changed_at != seen:
                current, seen = _context(files), changed_at
        except OSError as error:
            logger.warning("TLS files cannot be read", extra={"error": type(error).__name__})
        connection.context = current

    entrance = _context(files)
    entrance.sni_callback = refresh
    return entrance


def _context(files: TlsFiles) -> ssl.SSLContext:
    files.changed_at()  # tells a missing file by its name, which ssl does not
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(files.certificate, files.key)
    if files.client_ca is not None:
        context.load_verify_locations(files.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context
