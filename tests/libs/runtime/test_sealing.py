"""Sealed values open with their key and in their place only; master keys rotate."""

from base64 import b64encode, urlsafe_b64decode, urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime.errors import StartError
from runtime.sealing import MasterKeys, Place, SealError, SealingKey, SealingSettings, read_key

keys = st.binary(min_size=32, max_size=32).map(SealingKey)
places = st.builds(Place, st.text(max_size=20), st.text(max_size=20), st.text(max_size=20))


@given(key=keys, plain=st.binary(max_size=500), place=places)
def test_what_is_sealed_opens_again_and_is_never_sealed_alike(
    key: SealingKey, plain: bytes, place: Place
) -> None:
    """Whatever the bytes and the place are."""
    sealed = key.seal(plain, place)
    assert key.open(sealed, place) == plain
    assert key.seal(plain, place) != sealed


@given(key=keys, plain=st.binary(max_size=50), here=places, there=places)
def test_a_sealed_value_cannot_be_moved(key: SealingKey, plain: bytes, here: Place, there: Place) -> None:
    """Not to another table, row or column; also when the parts run together to the same text."""
    sealed = key.seal(plain, here)
    if here != there:
        with pytest.raises(SealError):
            key.open(sealed, there)


@given(plain=st.binary(max_size=50), position=st.integers(min_value=0), flip=st.integers(1, 255))
def test_a_changed_byte_is_noticed(plain: bytes, position: int, flip: int) -> None:
    """Anywhere: nonce, ciphertext or tag."""
    key, place = SealingKey(b"k" * 32), Place("t", "r", "c")
    key_id, _, text = key.seal(plain, place).partition(".")
    body = bytearray(urlsafe_b64decode(f"{text}=="))
    body[position % len(body)] ^= flip
    with pytest.raises(SealError):
        key.open(f"{key_id}.{urlsafe_b64encode(body).decode()}", place)


@given(text=st.text(max_size=60))
def test_what_is_not_sealed_is_refused(text: str) -> None:
    """Nonsense is no bug of ours, also behind the right key's id."""
    key = SealingKey(b"k" * 32)
    for sealed in (text, f"{key.key_id}.{text}"):
        with pytest.raises(SealError):
            key.open(sealed, Place("t", "r", "c"))


@given(old=keys, new=keys, other=keys, plain=st.binary(max_size=50), place=places)
def test_a_previous_master_key_still_opens(
    old: SealingKey, new: SealingKey, other: SealingKey, plain: bytes, place: Place
) -> None:
    """After a rotation; without it, what it sealed is lost."""
    sealed = MasterKeys(old).seal(plain, place)
    rotated = MasterKeys(new, (other, old))
    assert rotated.open(sealed, place) == plain
    assert rotated.seal(plain, place).startswith(new.key_id)
    if old not in (new, other):
        with pytest.raises(SealError, match="not at hand"):
            MasterKeys(new, (other,)).open(sealed, place)


def test_a_key_is_read_from_base64_and_never_shown() -> None:
    """As `openssl rand -base64 32` writes it."""
    secret = bytes(range(32))
    assert read_key(b64encode(secret).decode()) == SealingKey(secret)
    assert b64encode(secret).decode() not in repr(SealingKey(secret))
    for wrong in ("", "short", b64encode(secret[:31]).decode(), "!" * 44):
        with pytest.raises(ValueError, match="key"):
            read_key(wrong)


def settings(**fields: str | tuple[str, ...]) -> SealingSettings:
    return SealingSettings(port=4000, nats_url="n", database_url="d", database_projector_url="p", **fields)


def test_a_service_without_a_master_key_has_one_that_follows_from_the_jwt_secret() -> None:
    """On a laptop; every service has the same, and previous ones open beside it."""
    previous = b64encode(b"p" * 32).decode()
    made = settings(jwt_secret="j", causeloop_master_key_previous=(previous,)).master_keys()
    assert made == MasterKeys(SealingKey.derived("j", purpose="master key"), (SealingKey(b"p" * 32),))
    own = b64encode(b"m" * 32).decode()
    assert settings(causeloop_master_key=own).master_keys() == MasterKeys(SealingKey(b"m" * 32))
    with pytest.raises(StartError, match="needs a CAUSELOOP_MASTER_KEY"):
        settings(environment="production").master_keys()
    for wrong in ({"causeloop_master_key": "short"}, {"causeloop_master_key_previous": (own, "!")}):
        with pytest.raises(StartError, match="32 bytes in base64"):
            settings(**wrong).master_keys()
