"""Certificates of erasure: what was deleted where, signed so that anybody with the public key can check it. Pure."""

from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import Annotated, Literal

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Meta, Struct
from runtime.sealing import SealingKey

Moment = Annotated[datetime, Meta(tz=True)]


class Statement(Struct, frozen=True, kw_only=True):
    """What a certificate says.

    kind: person or workspace. subject_id: whose data it was; nothing else is said of them.
    erased: store → table or stream → how many rows, messages or files. kept: what is still there, and why.
    """

    certificate_id: str
    kind: str
    workspace_id: str
    subject_id: str
    requested_at: Moment
    erased_at: Moment
    decided_by: str | None
    erased: Mapping[str, Mapping[str, int]]
    kept: tuple[str, ...]


class Certificate(Struct, frozen=True, kw_only=True):
    """A statement with what proves it.

    sha256: of the statement as compact JSON with sorted keys, in hex. signature: Ed25519 over those same bytes;
    signature and public_key: in base64.
    """

    statement: Statement
    sha256: str
    signature: str
    public_key: str
    algorithm: Literal["Ed25519"]


def canonical(statement: Statement) -> bytes:
    """The bytes that are hashed and signed."""
    return msgspec.json.encode(statement, order="sorted")


class Signer:
    """Makes certificates with a key that follows from the master key.

    Another master key gives another public key; certificates made before stay valid under the one they name.
    """

    def __init__(self, master: SealingKey) -> None:
        seed = SealingKey.derived(master.secret.hex(), purpose="certificates of erasure")
        self._key = Ed25519PrivateKey.from_private_bytes(seed.secret)

    @property
    def public_key(self) -> str:
        """What certificates are checked with, 32 bytes in base64."""
        return b64encode(self._key.public_key().public_bytes_raw()).decode()

    def certify(self, statement: Statement) -> Certificate:
        """The statement, signed."""
        said = canonical(statement)
        return Certificate(
            statement=statement,
            sha256=sha256(said).hexdigest(),
            signature=b64encode(self._key.sign(said)).decode(),
            public_key=self.public_key,
            algorithm="Ed25519",
        )


def is_genuine(certificate: Certificate, *, public_key: str) -> bool:
    """Whether the holder of the key behind `public_key` (base64) made this certificate as it is."""
    said = canonical(certificate.statement)
    if certificate.sha256 != sha256(said).hexdigest():
        return False
    try:
        key = Ed25519PublicKey.from_public_bytes(b64decode(public_key, validate=True))
        key.verify(b64decode(certificate.signature, validate=True), said)
    except (InvalidSignature, Base64Error, ValueError):
        return False
    return True
