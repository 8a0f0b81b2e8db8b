"""The key of a cluster: one certificate that scheduler, workers and watcher share, and that each asks of the others.

Whoever reaches a Dask scheduler or worker may run code in it, so a connection is worth as much as a shell. With this
file on both sides of it (TLS that is asked for both ways) that is left to those who may read the file.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from searchanything.core.errors import SettingsError, UsageError
from searchanything.core.files import whole_file

NAME: Final = "cluster.pem"
_COMMON_NAME: Final = "searchanything-cluster"
_DAYS: Final = 20 * 365  # whoever wants a shorter life makes a new one


def make_cluster_key(file: Path, *, replace: bool) -> bool:
    """Write a new key and its certificate (PEM, mode 0600); True if that was done.

    Without `replace`, a file that is there is kept. Raises: SettingsError where it cannot be written.
    """
    if file.exists() and not replace:
        return False
    try:
        with whole_file(file, private=True) as out:
            out.write(_key_and_certificate())
    except UsageError as error:
        raise SettingsError(f"the cluster's key: {error}") from error
    return True


def _key_and_certificate() -> bytes:
    """A new key, and a certificate signed with it, which is its own authority."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _COMMON_NAME)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(_COMMON_NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))  # clocks differ
        .not_valid_after(now + timedelta(days=_DAYS))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private + certificate.public_bytes(serialization.Encoding.PEM)
