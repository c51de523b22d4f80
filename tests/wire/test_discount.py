"""bLIP 18: what a channel_update gives back for what comes in over its channel."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.discount import NO_DISCOUNT, Discount, discount_in, discount_record


def test_the_record_is_the_one_that_others_read() -> None:
    # type 55555, eight bytes: -1000 and -250 as signed integers of four bytes
    record = bytes.fromhex("fdd90308" + "fffffc18" + "ffffff06")
    assert discount_record(Discount(1000, 250)) == record
    assert discount_in(record) == Discount(1000, 250)
    assert discount_record(NO_DISCOUNT) == b""


@given(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1))
def test_what_is_written_is_read(base_msat: int, millionths: int) -> None:
    discount = Discount(base_msat, millionths)
    assert discount_in(discount_record(discount)) == discount


@pytest.mark.parametrize(
    "extension",
    [
        bytes.fromhex("fdd90308" + "000003e8" + "000000fa"),  # a surcharge
        bytes.fromhex("fdd90307" + "fffffc18" + "ffffff"),
        bytes.fromhex("fdd90308" + "fffffc18"),
        bytes.fromhex("0300"),
        b"\xff",
    ],
)
def test_what_is_no_discount_gives_nothing(extension: bytes) -> None:
    assert discount_in(extension) == NO_DISCOUNT


@given(st.binary(max_size=40))
def test_any_end_of_an_update_is_read_without_harm(extension: bytes) -> None:
    found = discount_in(extension)
    assert found.base_msat >= 0
    assert found.millionths >= 0


def test_a_discount_counts_what_goes_out_and_the_fee_and_rounds_towards_nothing() -> None:
    # 40 of the 1,040,000 that come in, and 7
    assert Discount(7, 40).off(1_000_000, 40_000) == 48
    assert Discount(0, 1).off(999_998, 1) == 0
    assert Discount(0, 1).off(999_999, 1) == 1


def test_never_more_than_the_fee_is_given_back() -> None:
    assert Discount(10**9, 2**31 - 1).off(5_000_000, 1234) == 1234
