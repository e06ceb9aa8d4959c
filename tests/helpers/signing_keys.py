"""Keys for the signatures of model versions."""

from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec


def write_keys(folder: Path, key: Any = None, password: bytes = b"") -> tuple[Path, Path]:
    """Write a private key, by default a new one on the curve P-256, and its public key; return their files."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    folder.mkdir()
    private, public = folder / "private.pem", folder / "public.pem"
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    private.write_bytes(key.private_bytes(pem, pkcs8, encryption))
    public.write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    return private, public
