"""Keys against published vectors of their algorithms, and what they are for."""

import hmac

import numpy as np
import pytest

from fedsciml.secure import keys


def test_a_stream_is_aes_256_in_counter_mode() -> None:
    """AES-256 of the zero block under the zero key: NIST's known answer."""
    found = keys.stream(bytes(32), 3)
    assert found[0].tobytes().hex() == "dc95c078a2408989ad48a21492842087"
    assert not (found[0] == found[1]).any()
    assert (keys.stream(bytes(32), 5)[:3] == found).all()


def test_a_secret_of_two_is_that_of_x25519() -> None:
    """RFC 7748, section 5.2: the first iteration from the base point."""
    nine = b"\x09" + bytes(31)
    expected = "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079"
    assert keys.agreed(nine, {7: nine})[7].hex() == expected
    (a, of_a), (b, of_b) = keys.session(), keys.session()
    assert keys.agreed(a, {1: of_b})[1] == keys.agreed(b, {0: of_a})[0]
    assert keys.public(a) == of_a


def test_a_public_key_of_a_few_values_is_none() -> None:
    """The server would know the secret, whatever the other one is."""
    private, _ = keys.session()
    for low in (bytes(32), b"\x01" + bytes(31)):
        with pytest.raises(ValueError, match=r"."):
            keys.agreed(private, {0: low})


def test_a_derived_key_is_hkdf_of_the_purpose() -> None:
    """RFC 5869 with SHA-256, no salt, and one block."""
    secret = bytes(range(32))
    extracted = hmac.digest(bytes(32), secret, "sha256")
    info = keys.digest(b"pair", b"sum") + b"\x01"
    expected = hmac.digest(extracted, info, "sha256")
    assert keys.derived(secret, b"pair", b"sum") == expected


def test_no_two_lists_of_parts_have_one_digest() -> None:
    lists = ([b"ab", b"c"], [b"a", b"bc"], [b"abc"], [b"abc", b""], [b"", b"abc"], [])
    assert len({keys.digest(*parts) for parts in lists}) == len(lists)


def test_a_seal_opens_with_its_key_alone_and_is_not_changed() -> None:
    key, text = keys.derived(b"x" * 32), b"a share of it all"
    letter = keys.sealed(key, text)
    assert len(letter) == len(text) + keys.TAG
    assert keys.unsealed(key, letter) == text
    assert keys.unsealed(keys.derived(b"y" * 32), letter) is None
    for i in range(len(letter)):
        spoilt = bytearray(letter)
        spoilt[i] ^= 1
        assert keys.unsealed(key, bytes(spoilt)) is None
    assert keys.unsealed(key, letter[:-1]) is None
    assert keys.unsealed(key, b"") is None


def test_a_signature_is_of_one_text_by_one_identity() -> None:
    (private, public), (_, other) = keys.identity(), keys.identity()
    proof = keys.signed(private, b"text")
    assert len(proof) == keys.SIGNATURE
    assert keys.verified(public, b"text", proof)
    assert not keys.verified(public, b"texts", proof)
    assert not keys.verified(other, b"text", proof)
    assert not keys.verified(public, b"text", bytes(64))
    assert not keys.verified(b"short", b"text", proof)


def test_streams_of_two_keys_have_nothing_in_common() -> None:
    a, b = (keys.stream(keys.derived(bytes([i]) * 32), 1000) for i in (1, 2))
    bits = np.unpackbits(np.ascontiguousarray(a ^ b).view(np.uint8))
    # 128 000 fair bits: five standard deviations.
    assert abs(bits.mean() - 0.5) < 5 * 0.5 / len(bits) ** 0.5
