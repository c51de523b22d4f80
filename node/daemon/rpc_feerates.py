"""Feerates as our user writes them, and what the chain asks for now."""

from typing import Annotated, Any, TypeAlias

import msgspec

from node.chain.interface import MIN_FEERATE_PER_KW, Chain
from node.daemon.fees import MOST_WITH_ANCHORS_PER_KW
from node.daemon.node import Node
from node.daemon.rpc_parameters import INVALID_PARAMETERS, MOST_U32, CommandFailed, Kind, Text

TARGETS = (2, 6, 12, 100)
BLOCKS_OF_WORD = {
    "urgent": 6,
    "normal": 12,
    "slow": 100,
    "opening": 12,
    "mutual_close": 100,
    "unilateral_close": 6,
}
MINIMUM = "minimum"
PER_KB = 4
# what the transactions of a channel weigh, as BOLT 3 counts them
_OPENING_WEIGHT, _CLOSE_WEIGHT, _COMMITMENT_WEIGHT = 702, 673, 1124
_TIMEOUT_WEIGHT, _SUCCESS_WEIGHT = 666, 706


class FeerateWish(msgspec.Struct, frozen=True):
    """A feerate, or in how many blocks a transaction should be in."""

    fixed_per_kw: int | None = None
    blocks: int | None = None  # None, too: the least that is relayed

    async def per_kw(self, chain: Chain) -> int:
        """In satoshi for 1000 units of weight, never less than is relayed."""
        if self.fixed_per_kw is not None:
            return max(self.fixed_per_kw, MIN_FEERATE_PER_KW)
        return MIN_FEERATE_PER_KW if self.blocks is None else await chain.feerate_per_kw(self.blocks)


def _feerate(value: object) -> FeerateWish:
    text = str(value)
    if text == MINIMUM:
        return FeerateWish()
    if text in BLOCKS_OF_WORD:
        return FeerateWish(blocks=BLOCKS_OF_WORD[text])
    number, unit = text, "perkb"
    for unit_name in ("perkw", "perkb", "blocks"):
        if text.endswith(unit_name):
            number, unit = text.removesuffix(unit_name), unit_name
    if not number.isascii() or not number.isdigit() or int(number) > MOST_U32:
        raise ValueError
    if unit == "blocks":
        return FeerateWish(blocks=int(number))
    return FeerateWish(int(number) if unit == "perkw" else int(number) // PER_KB)


_KIND = Kind("a feerate", _feerate)
Feerate: TypeAlias = Annotated[FeerateWish, _KIND]
NORMAL = FeerateWish(blocks=BLOCKS_OF_WORD["normal"])
OPENING = FeerateWish(blocks=6)


def read_feerate(name: str, value: object) -> FeerateWish:
    """A feerate in a parameter that holds more than one.

    Raises:
        CommandFailed: it is none.
    """
    wish: FeerateWish = _KIND.of(name, value)
    return wish


class FeerateCommands:
    """What confirmations cost."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def feerates(self, style: Text) -> dict[str, Any]:
        """What the chain asks for, in satoshi for 1000 bytes (perkb) or for 1000 weight (perkw)."""
        if style not in ("perkb", "perkw"):
            why = f"style: should be 'perkb' or 'perkw': invalid token '{style}'"
            raise CommandFailed(INVALID_PARAMETERS, why)
        factor = PER_KB if style == "perkb" else 1
        chain, house = self._node.chain, self._node.switch.house
        rates = {blocks: await chain.feerate_per_kw(blocks) for blocks in TARGETS}
        anchored = min(rates[2], MOST_WITH_ANCHORS_PER_KW)
        told = {
            "min_acceptable": house.lowest_feerate_per_kw,
            "max_acceptable": house.highest_feerate_per_kw,
            "floor": MIN_FEERATE_PER_KW,
            "opening": rates[12],
            "mutual_close": rates[100],
            "unilateral_close": rates[6],
            "unilateral_anchor_close": anchored,
            "penalty": rates[12],
        }
        shown: dict[str, Any] = {name: factor * rate for name, rate in told.items()}
        shown["estimates"] = [
            {"blockcount": blocks, "feerate": factor * rate, "smoothed_feerate": factor * rate}
            for blocks, rate in rates.items()
        ]
        return {style: shown, "onchain_fee_estimates": _estimates(told)}

    async def parsefeerate(self, feerate_str: Feerate) -> dict[str, Any]:
        """What a feerate, however it is written, is now in satoshi for 1000 weight."""
        return {"perkw": await feerate_str.per_kw(self._node.chain)}


def _estimates(rates: dict[str, int]) -> dict[str, int]:
    """What whole transactions cost, in satoshi."""
    weights = {
        "opening_channel_satoshis": (_OPENING_WEIGHT, "opening"),
        "mutual_close_satoshis": (_CLOSE_WEIGHT, "mutual_close"),
        "unilateral_close_satoshis": (_COMMITMENT_WEIGHT, "unilateral_anchor_close"),
        "unilateral_close_nonanchor_satoshis": (_COMMITMENT_WEIGHT, "unilateral_close"),
        "htlc_timeout_satoshis": (_TIMEOUT_WEIGHT, "unilateral_close"),
        "htlc_success_satoshis": (_SUCCESS_WEIGHT, "unilateral_close"),
    }
    return {name: weight * rates[rate] // 1000 for name, (weight, rate) in weights.items()}
