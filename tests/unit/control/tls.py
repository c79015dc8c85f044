"""A certificate authority for one test run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Authority:
    """Files `ca`, `cert` and `key`: an authority, and a server's certificate for the name redis.test.

    Args:
        directory: for the files; made if need be.
        address: for which the certificate is, too.
    """

    def __init__(self, directory: Path, address: str | None = None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.ca = directory / "ca.pem"
        self.cert = directory / "cert.pem"
        self.key = directory / "key.pem"
        ca_key = ec.generate_private_key(ec.SECP256R1())
        ca_name = _name("test authority")
        basic = x509.BasicConstraints(ca=True, path_length=None)
        ca = _builder(ca_name, ca_name, ca_key).add_extension(basic, critical=True).sign(ca_key, hashes.SHA256())
        key = ec.generate_private_key(ec.SECP256R1())
        addresses = [x509.IPAddress(ip_address(address))] if address else []
        names = x509.SubjectAlternativeName([x509.DNSName("redis.test"), *addresses])
        cert = _builder(_name("redis.test"), ca_name, key).add_extension(names, critical=False)
        self.ca.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
        self.cert.write_bytes(cert.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        self.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )

    def config(self, clients: bool = False) -> dict[str, str]:
        """Of a server that shows the certificate. `clients`: it wants to see theirs."""
        return {
            "tls-ca-cert-file": str(self.ca),
            "tls-cert-file": str(self.cert),
            "tls-key-file": str(self.key),
            "tls-auth-clients": "yes" if clients else "no",
        }


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
    )
