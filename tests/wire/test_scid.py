"""BOLT 7: short channel ids."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.scid import NotAShortChannelId, parse, parts, scid, text_of

ids = st.integers(0, 2**64 - 1)


def test_an_id_is_block_transaction_output() -> None:
    one = scid(539268, 845, 1)
    assert one == 0x83A8400034D0001
    assert parts(one) == (539268, 845, 1)
    assert text_of(one) == "539268x845x1"


@given(ids)
def test_an_id_comes_back_from_its_parts_and_its_text(one: int) -> None:
    assert scid(*parts(one)) == parse(text_of(one)) == one


@pytest.mark.parametrize(
    "text", ["", "1x2", "1x2x3x4", "1x2x-3", "1x2xa", "16777216x0x0", "0x0x65536", "１x1x1"]
)
def test_what_is_no_id(text: str) -> None:
    with pytest.raises(NotAShortChannelId):
        parse(text)
