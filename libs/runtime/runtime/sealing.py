"""AES-256-GCM, pure: what is sealed opens only with its key and only in the place that it was sealed for."""

import binascii
from base64 import b64decode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from hashlib import sha256
from secrets import token_bytes

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from msgspec import Struct

from runtime.errors import StartError
from runtime.settings import ServiceSettings

DEFAULT_JWT_SECRET = "dev-secret-change-me"  # noqa: S105  # refused in production and where others reach us
KEY_BYTES = 32
_NONCE_BYTES = 12  # NIST SP 800-38D, 8.2.2: a random nonce, so at most 2^32 values per key


class SealError(Exception):
    """What was to be opened was changed, moved, or sealed with a key that is not at hand."""


class Place(Struct, frozen=True):
    """Where a sealed value is kept; authenticated with it, so that it opens nowhere else."""

    table: str
    row: str
    column: str

    def encoded(self) -> bytes:
        """As bytes that no other place has."""
        parts = (self.table.encode(), self.row.encode(), self.column.encode())
        return b"".join(b"%d:%b" % (len(part), part) for part in parts)


class SealingKey(Struct, frozen=True):
    """32 bytes that seal and open; never printed."""

    secret: bytes

    def __post_init__(self) -> None:
        if len(self.secret) != KEY_BYTES:
            raise ValueError(f"a key has {KEY_BYTES} bytes, not {len(self.secret)}")

    def __repr__(self) -> str:
        return f"SealingKey({self.key_id})"

    @property
    def key_id(self) -> str:
        """16 hex digits that name the key and tell nothing of it."""
        return sha256(b"causeloop key id:" + self.secret).hexdigest()[:16]

    @classmethod
    def made(cls) -> "SealingKey":
        """A new one."""
        return cls(token_bytes(KEY_BYTES))

    @classmethod
    def derived(cls, text: str, *, purpose: str) -> "SealingKey":
        """The one that follows from a secret text, for one purpose (HKDF, RFC 5869)."""
        return cls(HKDF(SHA256(), KEY_BYTES, salt=None, info=purpose.encode()).derive(text.encode()))

    def for_purpose(self, purpose: str) -> "SealingKey":
        """Another that follows from this one and tells nothing of it (HKDF, RFC 5869)."""
        return SealingKey(HKDF(SHA256(), KEY_BYTES, salt=None, info=purpose.encode()).derive(self.secret))

    def seal(self, plain: bytes, place: Place) -> str:
        """The plain bytes as printable text: the key's id, then nonce, ciphertext and tag."""
        nonce = token_bytes(_NONCE_BYTES)
        body = nonce + AESGCM(self.secret).encrypt(nonce, plain, place.encoded())
        return f"{self.key_id}.{urlsafe_b64encode(body).rstrip(b'=').decode()}"

    def open(self, sealed: str, place: Place) -> bytes:
        """The plain bytes again. Raises SealError."""
        key_id, _, text = sealed.partition(".")
        if key_id != self.key_id:
            raise SealError(f"sealed with the key {key_id!r}, which is not {self.key_id}")
        try:
            body = urlsafe_b64decode(f"{text}==")
            return AESGCM(self.secret).decrypt(body[:_NONCE_BYTES], body[_NONCE_BYTES:], place.encoded())
        except (InvalidTag, ValueError) as error:
            raise SealError("changed, or sealed for another place") from error


class MasterKeys(Struct, frozen=True):
    """The key that seals, and those before it, which still open."""

    current: SealingKey
    previous: tuple[SealingKey, ...] = ()

    def seal(self, plain: bytes, place: Place) -> str:
        """Sealed with the current key."""
        return self.current.seal(plain, place)

    def open(self, sealed: str, place: Place) -> bytes:
        """The plain bytes, whichever of the keys sealed them. Raises SealError."""
        key_id = sealed.partition(".")[0]
        for key in (self.current, *self.previous):
            if key.key_id == key_id:
                return key.open(sealed, place)
        raise SealError(f"sealed with the master key {key_id!r}, which is not at hand")

    @property
    def bus(self) -> "BusSeal":
        """What seals secrets on their way from one service to another."""
        ours, *before = (key.for_purpose("bus") for key in (self.current, *self.previous))
        return BusSeal(MasterKeys(ours, tuple(before)))


class BusSeal(Struct, frozen=True):
    """Seals secrets for their way over the broker, where requests may be seen by its operator; never stored."""

    keys: MasterKeys

    def seal(self, plain: str, *, workspace_id: str, what: str) -> str:
        """As it may travel. what: "credentials", "code" or "webhook_secret"."""
        return self.keys.seal(plain.encode(), Place("bus", workspace_id, what))

    def open(self, sealed: str, *, workspace_id: str, what: str) -> str:
        """The text again. Raises SealError when it was meant for another workspace or for something else."""
        return self.keys.open(sealed, Place("bus", workspace_id, what)).decode()


def read_key(text: str) -> SealingKey:
    """A key that is written in base64, as `openssl rand -base64 32` does. Raises ValueError."""
    try:
        return SealingKey(b64decode(text, validate=True))
    except binascii.Error as error:
        raise ValueError("a key is written in base64") from error


def read_master_keys(current: str, previous: Sequence[str]) -> MasterKeys:
    """The master keys as the settings write them. Raises ValueError."""
    return MasterKeys(read_key(current), tuple(read_key(text) for text in previous))


class SealingSettings(ServiceSettings, frozen=True, kw_only=True):
    """The environment of a service that stores secrets, which all of them have to be given alike.

    jwt_secret: signs access tokens, cursors and job ids; outside production also what an absent master key follows from.
    causeloop_master_key: 32 bytes in base64, wraps the keys of stored secrets, and what secrets travel under; empty:
        derived from jwt_secret, not in production.
    causeloop_master_key_previous: those before it, which still open.
    """

    jwt_secret: str = DEFAULT_JWT_SECRET
    causeloop_master_key: str = ""
    causeloop_master_key_previous: tuple[str, ...] = ()

    @property
    def is_production(self) -> bool:
        """Whether the development fall-backs are off."""
        return self.environment == "production"

    def master_keys(self) -> MasterKeys:
        """The master keys. Raises StartError where one is wrong, or missing in production."""
        if not self.causeloop_master_key and self.is_production:
            raise StartError(
                "ENVIRONMENT=production needs a CAUSELOOP_MASTER_KEY. Make one with `openssl rand -base64 32`."
            )
        try:
            previous = tuple(read_key(text) for text in self.causeloop_master_key_previous)
            if not self.causeloop_master_key:
                return MasterKeys(SealingKey.derived(self.jwt_secret, purpose="master key"), previous)
            return MasterKeys(read_key(self.causeloop_master_key), previous)
        except ValueError as error:
            raise StartError(
                f"CAUSELOOP_MASTER_KEY and CAUSELOOP_MASTER_KEY_PREVIOUS are {KEY_BYTES} bytes in base64."
                " Make one with `openssl rand -base64 32`."
            ) from error
