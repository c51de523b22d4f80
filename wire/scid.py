"""Short channel ids: a funding output by its place in the chain (BOLT 7).

An id is the u64 of the wire everywhere: 3 bytes of block height, 3 of the transaction's place
in its block, 2 of the output's. Only people see the text form.
"""


class NotAShortChannelId(ValueError):
    """The text is not three numbers in range joined by `x`."""

    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__(f"{text!r} is not a short channel id such as 539268x845x1")


def scid(block_height: int, transaction_index: int, output_index: int) -> int:
    """The id of an output; each part must fit its bytes."""
    return block_height << 40 | transaction_index << 16 | output_index


def parts(short_channel_id: int) -> tuple[int, int, int]:
    """Block height, place of the transaction in the block, place of the output in it."""
    return short_channel_id >> 40, short_channel_id >> 16 & 0xFFFFFF, short_channel_id & 0xFFFF


def text_of(short_channel_id: int) -> str:
    """The form for people, such as 539268x845x1."""
    return "x".join(map(str, parts(short_channel_id)))


def parse(text: str) -> int:
    """The id that a person wrote.

    Raises:
        NotAShortChannelId: it is something else.
    """
    numbers = text.split("x")
    if len(numbers) != 3 or not all(number.isascii() and number.isdigit() for number in numbers):
        raise NotAShortChannelId(text)
    height, transaction, output = map(int, numbers)
    if height >= 1 << 24 or transaction >= 1 << 24 or output >= 1 << 16:
        raise NotAShortChannelId(text)
    return scid(height, transaction, output)
