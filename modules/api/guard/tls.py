"""The certificate to serve https with: given files, or one made here that people recognise by its fingerprint."""

from __future__ import annotations

import hashlib
import ipaddress
import os
import secrets
import ssl
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from modules.api.guard.addresses import own_addresses, own_names
from modules.errors import SettingsError
from modules.settings import Settings

DAYS = 397
"""How long a certificate made here is good for: browsers take none that is good for longer."""
RENEW_DAYS = 30


@dataclass(frozen=True)
class Certificate:
    """PEM files.  `fingerprint` is the certificate's SHA-256 as browsers show it: AB:CD:…"""

    cert: Path
    key: Path
    fingerprint: str


def certificate(settings: Settings) -> Certificate | None:
    """What the settings ask for; None for plain http.  Makes one where they ask for one of our own.

    Raises:
        SettingsError: a file is missing, the two do not belong together, or the settings ask for two things at once.
    """
    if settings.tls_self_signed and (settings.tls_cert or settings.tls_key):
        raise SettingsError("--tls-self-signed makes its own certificate; leave it out, or leave out --tls-cert and --tls-key")
    if settings.tls_self_signed:
        names = ["localhost", *own_names(), *settings.allowed_hosts]
        return self_signed(settings.data_dir / "tls", [*names, "127.0.0.1", "::1", *own_addresses()])
    if (settings.tls_cert is None) != (settings.tls_key is None):
        raise SettingsError("https needs both --tls-cert and --tls-key, or --tls-self-signed")
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return _checked(settings.tls_cert, settings.tls_key)


def self_signed(folder: Path, names: Sequence[str]) -> Certificate:
    """The certificate in this folder, made anew when there is none, it ends soon, or it lacks one of these names.

    Raises:
        SettingsError: the folder cannot be written.
    """
    cert, key = folder / "cert.pem", folder / "key.pem"
    try:
        if not _serves(cert, key, names):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _make(cert, key, names)
    except OSError as error:
        raise SettingsError(f"no certificate can be made in {folder}: {error.strerror}") from None
    return _checked(cert, key)


def _checked(cert: Path, key: Path) -> Certificate:
    """Found out now, with words, and not by the first browser that comes."""
    for file, flag in ((cert, "--tls-cert"), (key, "--tls-key")):
        try:
            file.read_bytes()
        except OSError as error:
            raise SettingsError(f"{flag} {file} cannot be read: {error.strerror}") from None
    try:
        # An encrypted key would make OpenSSL ask on the terminal; an empty password makes it fail instead.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password="")
        first = x509.load_pem_x509_certificates(cert.read_bytes())[0]
    except (ssl.SSLError, ValueError) as error:
        why = getattr(error, "reason", None) or error
        raise SettingsError(
            f"{cert} and {key} are no certificate and key that belong together ({why}); both must be PEM, and the key without "
            "a password"
        ) from None
    digest = hashlib.sha256(first.public_bytes(serialization.Encoding.DER)).hexdigest().upper()
    return Certificate(cert, key, ":".join(digest[i : i + 2] for i in range(0, len(digest), 2)))


def _serves(cert: Path, key: Path, names: Sequence[str]) -> bool:
    """Whether the certificate is for these names, will last, and has the key: they are two files, and a start may be killed
    between the two."""
    try:
        found = x509.load_pem_x509_certificate(cert.read_bytes())
        private = serialization.load_pem_private_key(key.read_bytes(), password=None)
        if found.public_key() != private.public_key():
            return False
        there = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (FileNotFoundError, ValueError, TypeError, x509.ExtensionNotFound):
        return False
    has = {str(name.value) for name in there}
    return set(names) <= has and found.not_valid_after_utc - _now() > timedelta(days=RENEW_DAYS)


def _make(cert: Path, key: Path, names: Sequence[str]) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Atelier")])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_now() - timedelta(days=1))
        .not_valid_after(_now() + timedelta(days=DAYS - 1))
        .add_extension(x509.SubjectAlternativeName([_alternative(name) for name in dict.fromkeys(names)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(private, hashes.SHA256())
    )
    form = serialization.PrivateFormat.PKCS8
    _write(key, private.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    _write(cert, made.public_bytes(serialization.Encoding.PEM))


def _alternative(name: str) -> x509.GeneralName:
    with suppress(ValueError):
        return x509.IPAddress(ipaddress.ip_address(name))
    return x509.DNSName(name)


def _write(file: Path, data: bytes) -> None:
    """Whole or not at all, and for its owner alone."""
    part = file.with_name(f".{file.name}.{secrets.token_hex(8)}.part")
    with os.fdopen(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as out:
        out.write(data)
    part.replace(file)


def _now() -> datetime:
    return datetime.now(timezone.utc)
