"""The closed set of what a channel may ask of the shell (DESIGN §3)."""

from typing import TypeAlias

import msgspec

from htlc.channel import Channel
from htlc.ladder import Htlc
from wire.bitcoin.tx import Transaction, TxIn, TxOut
from wire.codec import Message


class Save(msgspec.Struct, frozen=True, gc=False):
    """The new value must be durable before any message of this step leaves.

    `gone` are HTLCs that have left the ladder for good; what a revoked commitment needs to be
    punished is kept of them.
    """

    gone: tuple[Htlc, ...] = ()


class Send(msgspec.Struct, frozen=True, gc=False):
    """A message for the channel's peer."""

    message: Message


class Offer(msgspec.Struct, frozen=True, gc=False):
    """An HTLC of the peer is irrevocable: decide whether to pass it on, take it or fail it."""

    htlc: Htlc


class Settle(msgspec.Struct, frozen=True, gc=False):
    """An HTLC that we offered has its outcome: carry it to where the HTLC came from."""

    htlc: Htlc


class Lapse(msgspec.Struct, frozen=True, gc=False):
    """An HTLC that we offered can no longer be claimed on the chain: fail it where it came from."""

    htlc: Htlc


class Withdraw(msgspec.Struct, frozen=True, gc=False):
    """An HTLC that we offered and never signed will not be signed any more: fail it where it came from."""

    htlc: Htlc


class Broadcast(msgspec.Struct, frozen=True, gc=False):
    """A transaction for the chain, perhaps with the child that pays for it."""

    transaction: Transaction
    child: Transaction | None = None


class Watch(msgspec.Struct, frozen=True, gc=False):
    """Tell the channel when its funding output is confirmed, and when it is spent."""


class FundInput(msgspec.Struct, frozen=True, gc=False):
    """An input that we shall sign ourselves once the wallet has added its own."""

    txin: TxIn
    spent: TxOut
    witness_weight: int


class Fund(msgspec.Struct, frozen=True, gc=False):
    """The wallet shall add inputs that pay the fee of a claim, and give it back for our signatures.

    `inputs` and `outputs` come first and in this order. `also_pay_sat` is fee beyond the claim's
    own, for a parent that pays too little. A fee above `most_fee_sat` is not worth it.
    """

    inputs: tuple[FundInput, ...]
    outputs: tuple[TxOut, ...]
    locktime: int
    feerate_per_kw: int
    also_pay_sat: int
    most_fee_sat: int
    replaces: bytes | None = None  # the txid of the claim whose place it takes


class Forget(msgspec.Struct, frozen=True, gc=False):
    """A transaction that the wallet paid for will never confirm."""

    txid: bytes


class Alert(msgspec.Struct, frozen=True, gc=False):
    """Something that the user must know, because money may be lost."""

    why: str


Effect: TypeAlias = Save | Send | Offer | Settle | Withdraw | Broadcast | Watch
ResolutionEffect: TypeAlias = Save | Settle | Lapse | Broadcast | Fund | Forget | Alert


class Step(msgspec.Struct, frozen=True, gc=False):
    """The new value and what follows from it, in order."""

    channel: Channel
    effects: tuple[Effect, ...] = ()


SAVE = Save()
