"""A WebAuthn authenticator in software: a key pair, a counter, and the bytes that a browser would send."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256
from secrets import token_bytes
from typing import Any

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

_PRESENT, _VERIFIED, _ATTESTED = 1, 4, 64


class Authenticator:
    """One security key; `origin` is the page that it believes to be on."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.credential_id = token_bytes(32)
        self.sign_count = 0
        self._key = ec.generate_private_key(ec.SECP256R1())

    def create(self, options: dict[str, Any]) -> dict[str, Any]:
        """What `navigator.credentials.create` gives for these options, as JSON."""
        point = self._key.public_key().public_numbers()
        cose = {1: 2, 3: -7, -1: 1, -2: point.x.to_bytes(32, "big"), -3: point.y.to_bytes(32, "big")}
        credential = (
            bytes(16) + len(self.credential_id).to_bytes(2, "big") + self.credential_id + cbor2.dumps(cose)
        )
        data = self._data(options["rp"]["id"], _PRESENT | _VERIFIED | _ATTESTED) + credential
        attestation = {"fmt": "none", "attStmt": {}, "authData": data}
        return self._credential(
            {
                "clientDataJSON": text(self._client("webauthn.create", options)),
                "attestationObject": text(cbor2.dumps(attestation)),
                "transports": ["usb"],
            }
        )

    def get(self, options: dict[str, Any]) -> dict[str, Any]:
        """What `navigator.credentials.get` gives for these options, as JSON; counts up."""
        self.sign_count += 1
        client = self._client("webauthn.get", options)
        data = self._data(options["rpId"], _PRESENT | _VERIFIED)
        signature = self._key.sign(data + sha256(client).digest(), ec.ECDSA(SHA256()))
        return self._credential(
            {
                "clientDataJSON": text(client),
                "authenticatorData": text(data),
                "signature": text(signature),
                "userHandle": None,
            }
        )

    def _client(self, kind: str, options: dict[str, Any]) -> bytes:
        return json.dumps({"type": kind, "challenge": options["challenge"], "origin": self.origin}).encode()

    def _data(self, party: str, flags: int) -> bytes:
        return sha256(party.encode()).digest() + bytes([flags]) + self.sign_count.to_bytes(4, "big")

    def _credential(self, response: dict[str, Any]) -> dict[str, Any]:
        identifier = text(self.credential_id)
        return {"id": identifier, "rawId": identifier, "type": "public-key", "response": response}


def text(raw: bytes) -> str:
    """Base64url without padding, as WebAuthn writes bytes in JSON."""
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def raw(encoded: str) -> bytes:
    """The bytes again."""
    return urlsafe_b64decode(encoded + "==")
