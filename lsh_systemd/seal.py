"""Seals what is kept where others can read it, so that they cannot. The only module that knows cryptography.

A seal is base64 of FORMAT, salt (16 bytes), check (16), nonce (12), and what AES-256-GCM makes of the text. scrypt
makes its key, and the check, of the team's key and the salt; the check tells a wrong key from a seal that was changed.
It is bound to its place, a text of its own, so that seals cannot be put in each other's stead.
"""

import base64
import binascii
import os
from typing import TYPE_CHECKING

from lsh_systemd.errors import BadInput, LshError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

# A seal of another making (other parameters, another cipher) gets another one.
FORMAT = b"LSH1"
# scrypt's parameters as OWASP recommends them: 64 MiB, a quarter of a second. A passphrase needs it, a key of 32 random
# bytes does not; there is one way for both.
_N, _R, _P = 2**16, 8, 2
_SALT, _CHECK, _NONCE, _TAG = 16, 16, 12, 16
_HEAD = len(FORMAT) + _SALT + _CHECK + _NONCE
# Fewer bytes than these are guessed, whatever scrypt takes.
SHORTEST_KEY = 12
INSTALL = "pip install 'lsh-systemd[supabase]', or apt install python3-cryptography"


class WrongKey(LshError):
    """The seal was made with another key."""


class Broken(LshError):
    """The seal is not as it was made, or not in its place."""


def seal(key: bytes, text: bytes, place: str) -> str:
    """The text, sealed. Raises BadInput for a key that is too short to be one."""
    if len(key) < SHORTEST_KEY:
        raise BadInput(
            f"the team's key is shorter than {SHORTEST_KEY} characters", hint="openssl rand -base64 32 makes a good one"
        )
    salt, nonce = os.urandom(_SALT), os.urandom(_NONCE)
    made, check = _derived(key, salt)
    head = FORMAT + salt + check + nonce
    return base64.b64encode(head + _cipher(made).encrypt(nonce, text, head + place.encode())).decode()


def unseal(key: bytes, sealed: str, place: str) -> bytes:
    """The text that was sealed in this place. Raises WrongKey or Broken."""
    try:
        data = base64.b64decode(sealed, validate=True)
    except (ValueError, binascii.Error):
        raise Broken("it is no seal") from None
    if len(data) < _HEAD + _TAG or not data.startswith(FORMAT):
        raise Broken("it is no seal, or one of a newer lshctl")
    head, rest = data[:_HEAD], data[_HEAD:]
    made, check = _derived(key, head[len(FORMAT) :][:_SALT])
    if check != head[len(FORMAT) + _SALT :][:_CHECK]:
        raise WrongKey("the key is another one")
    from cryptography.exceptions import InvalidTag

    try:
        return _cipher(made).decrypt(head[-_NONCE:], rest, head + place.encode())
    except InvalidTag:
        raise Broken("it was changed, or is another's") from None


def _derived(key: bytes, salt: bytes) -> tuple[bytes, bytes]:
    """The cipher's key and the check."""
    try:
        from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
    except ImportError:
        raise LshError("the Python package cryptography is missing", hint=INSTALL) from None
    try:
        made = Scrypt(salt=salt, length=32 + _CHECK, n=_N, r=_R, p=_P).derive(key)
    except MemoryError:
        raise LshError("there is too little memory for scrypt", hint="it takes 64 MiB: see --memory-max") from None
    return made[:32], made[32:]


def _cipher(key: bytes) -> "AESGCM":
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key)
