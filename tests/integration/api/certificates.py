"""Certificates for tests: an authority, and what it signs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Authority:
    """Signs certificates, for 127.0.0.1 unless another place is named."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        self.certificate = _pem(
            _builder(self._name, self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def issue(
        self, name: str, *, expired: bool = False, place: str = "127.0.0.1", names: Sequence[x509.GeneralName] = ()
    ) -> tuple[bytes, bytes]:
        """A certificate and its key. `names` are alternative ones, beside the place."""
        key = ec.generate_private_key(ec.SECP256R1())
        alternatives = [x509.IPAddress(ip_address(place)), *names]
        certificate = (
            _builder(_name(name), self._name, key.public_key(), expired=expired)
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .add_extension(_usage(signs=False), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return _pem(certificate), private

    def write(self, directory: Path, name: str, *, place: str = "127.0.0.1") -> tuple[Path, Path]:
        """Issue a certificate into files, over those that are there."""
        certificate, key = directory / "certificate.pem", directory / "key.pem"
        issued = self.issue(name, place=place)
        for file, content in zip((key, certificate), reversed(issued), strict=True):
            # In one step, as tools that renew certificates do.
            draft = file.with_suffix(".new")
            draft.write_bytes(content)
            draft.rename(file)
        return certificate, key


def common_name(der: bytes) -> str:
    """Whom a certificate names."""
    [attribute] = x509.load_der_x509_certificate(der).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(attribute.value)


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, *, expired: bool = False
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    ends = now - timedelta(hours=1) if expired else now + timedelta(days=1)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(ends)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
