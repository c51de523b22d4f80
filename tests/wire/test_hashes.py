"""The hashes that are written out here agree with the standard library's."""

import hmac

from hypothesis import given
from hypothesis import strategies as st

from wire.crypto.hashes import hmac_sha256


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_hmac_is_that_of_rfc_2104(key: bytes, message: bytes) -> None:
    assert hmac_sha256(key, message) == hmac.digest(key, message, "sha256")
