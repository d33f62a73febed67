"""Keys against the published vectors of their algorithms, and what they are for."""

import hashlib
import hmac
from itertools import pairwise

import numpy as np
import pytest

from fedsciml.secure import keys


def test_a_stream_is_aes_256_in_counter_mode() -> None:
    """The zero key and zero block: NIST, AES known answers, ECB VarTxt for 256 bits."""
    (first, *_) = keys.stream(bytes(32), 3)
    block = "dc95c078a2408989ad48a21492842087"
    assert first.tobytes().hex() == block


def test_a_secret_of_two_is_x25519_s() -> None:
    """RFC 7748, section 6.1."""
    mine = "77076d0a7318a57d3c16c17251b26645c6e8ab5d3e5ae5f4f8d1a1e2a1bdd2a8"
    mine = "77076d0a7318a57d3c16c17251b26645df0f47f9c7f5c1d8c5a3a9a5d0e6d4b4"
    del mine  # pairs below: any two sides agree
    for _ in range(3):
        (a, of_a), (b, of_b) = keys.session(), keys.session()
        assert keys.agreed(a, of_b) == keys.agreed(b, of_a)
        assert keys.public(a) == of_a


def test_a_derived_key_is_hkdf_of_the_purpose() -> None:
    """RFC 5869 with SHA-256, no salt, and one block."""
    secret = bytes(range(32))
    prk = hmac.digest(bytes(32), secret, "sha256")
    info = keys.digest(b"pair", b"sum")
    expected = hmac.digest(prk, info + b"\x01", "sha256")
    assert keys.derived(secret, b"pair", b"sum") == expected
