"""What is sealed opens with its key, in its place and as it was made; not otherwise."""

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lsh_systemd import seal
from lsh_systemd.errors import BadInput

KEY = b"correct horse battery staple"
# scrypt is meant to take its time.
few = settings(max_examples=5, deadline=None)


@pytest.fixture(scope="module")
def sealed() -> str:
    return seal.seal(KEY, b"A=1\n", "prod\n7")


@few
@given(st.binary(min_size=seal.SHORTEST_KEY, max_size=100), st.binary(max_size=2000), st.text(max_size=80))
def test_what_is_sealed_opens(key: bytes, text: bytes, place: str) -> None:
    place = place.encode(errors="ignore").decode()
    assert seal.unseal(key, seal.seal(key, text, place), place) == text


@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_any_flipped_bit_is_noticed(data: st.DataObject, sealed: str) -> None:
    raw = bytearray(base64.b64decode(sealed))
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[bit // 8] ^= 1 << bit % 8
    with pytest.raises((seal.Broken, seal.WrongKey)):
        seal.unseal(KEY, base64.b64encode(raw).decode(), "prod\n7")


@few
@given(data=st.data())
def test_a_part_of_a_seal_is_none(data: st.DataObject, sealed: str) -> None:
    with pytest.raises(seal.Broken):
        seal.unseal(KEY, sealed[: data.draw(st.integers(0, len(sealed) - 1))], "prod\n7")


@pytest.mark.parametrize("place", ["prod\n6", "prod\n77", "test\n7", ""])
def test_a_seal_is_bound_to_its_place(sealed: str, place: str) -> None:
    with pytest.raises(seal.Broken):
        seal.unseal(KEY, sealed, place)


@pytest.mark.parametrize("key", [b"correct horse battery stapl", KEY + b" ", b""])
def test_another_key_is_told_from_a_changed_seal(sealed: str, key: bytes) -> None:
    with pytest.raises(seal.WrongKey):
        seal.unseal(key, sealed, "prod\n7")


@pytest.mark.parametrize("text", ["", "A=1", "not base64 …", "TFNIMQ==", "TFNIMg==" * 20])
def test_what_is_no_seal_is_refused(text: str) -> None:
    with pytest.raises(seal.Broken):
        seal.unseal(KEY, text, "prod\n7")


def test_the_same_text_is_never_sealed_the_same_way(sealed: str) -> None:
    assert seal.seal(KEY, b"A=1\n", "prod\n7") != sealed


def test_a_seal_of_today_opens_for_ever() -> None:
    kept = "TFNIMfhmowF3ZcktZxIdlcbttTcQDvpQyvMXwCQglVQSv9BSwL3Dq09zQaRAhFm3ZLZ/ONQt9VF/h3tkVfeNslVFyMY="
    assert seal.unseal(KEY, kept, "prod\n7") == b"A=1\n"


def test_a_short_key_seals_nothing() -> None:
    with pytest.raises(BadInput, match="shorter than 12"):
        seal.seal(b"hunter2", b"A=1\n", "prod\n7")
