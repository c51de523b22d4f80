"""A channel that ends on the chain, until every output is resolved (BOLT 5).

`Resolution` is what the blocks have said so far and what we have published. Blocks go in, with
the channel as it was when it failed; claims, and the outcomes of HTLCs that we offered, come out.
Every fact carries the height of its block, so a block is undone by forgetting its height, and
`pursue` then makes again whatever is missing. Rejected: one small machine for each output, as
lnd's resolvers are; a reorganisation must then wind each of them back through its own states.
"""

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from htlc.channel import Channel
from htlc.effects import SAVE, Alert, Lapse, ResolutionEffect, Settle
from htlc.keys import ChannelSecrets
from htlc.ladder import LOCAL, Fulfilled, Htlc, Rung
from htlc.resolution_claims import RECEIVED, Claim, preimage_for
from htlc.resolution_identify import (
    Ending,
    Kind,
    Output,
    Past,
    Spending,
    Spent,
    delayed_script,
    identify,
    outputs_of,
)
from wire.bitcoin.script import p2wsh
from wire.bitcoin.tx import OutPoint, Transaction, TxIn
from wire.crypto.hashes import sha256
from wire.units import msat

_with = msgspec.structs.replace

BURIED_BLOCKS = 6
FORGOTTEN_BLOCKS = 100


class Resolution(msgspec.Struct, frozen=True):
    """Where the end of one channel stands."""

    channel_id: bytes
    script: bytes  # of our wallet, where what we take goes
    height: int  # of the last block that it knows
    is_publishing: bool = False  # whether we go to chain with our own commitment
    child: Claim | None = None  # that pays for our commitment
    spent: Spent | None = None
    undone: Transaction | None = None  # another's, that had closed the channel until its block was undone
    outputs: tuple[Output, ...] = ()
    claims: tuple[Claim, ...] = ()
    left: frozenset[OutPoint] = frozenset()  # not worth their fee
    is_split: bool = False  # contested outputs are claimed one by one
    settled: frozenset[int] = frozenset()  # HTLCs that we offered whose outcome went upstream
    is_done: bool = False

    def is_buried(self, height: int) -> bool:
        """Whether a block of that height is so deep that we rely on it."""
        return self.height - height + 1 >= BURIED_BLOCKS

    @property
    def is_forgettable(self) -> bool:
        """Whether no reorganisation can matter any more: 100 blocks are irrevocable."""
        heights = [output.spending.height for output in self.outputs if output.spending is not None]
        if not self.is_done or self.spent is None:
            return False
        return self.height - max([self.spent.height, *heights]) >= FORGOTTEN_BLOCKS

    @property
    def watched(self) -> tuple[OutPoint, ...]:
        """What this must be told of when a block spends it, besides the funding output."""
        return tuple([output.outpoint for output in self.outputs if output.spending is None])


class ResolutionStep(msgspec.Struct, frozen=True):
    """The new value and what follows from it, in order."""

    resolution: Resolution
    effects: tuple[ResolutionEffect, ...] = ()


def went_to_chain(resolution: Resolution) -> ResolutionStep:
    """We fail the channel: `pursue` will publish our commitment while nothing else has closed it."""
    # b5-on-chain.2
    return ResolutionStep(_with(resolution, is_publishing=True), (SAVE,))


# Blocks


def connected(
    resolution: Resolution,
    channel: Channel,
    secrets: ChannelSecrets,
    height: int,
    transactions: Iterable[Transaction],
    past: Past,
) -> ResolutionStep:
    """A block: what it spends, which preimages it shows, and what has become deep by it."""
    reading = _Reading(_with(resolution, height=height), channel, secrets, past)
    for transaction in transactions:
        reading.read(transaction)
    read = _with(reading.resolution, outputs=tuple(reading.outputs.values()))
    fulfilled = _fulfilled(read, channel, reading.preimages)
    read = _with(read, settled=read.settled | {settle.htlc.id for settle in fulfilled})
    failed = _failed(read, channel)
    read = _with(read, settled=read.settled | {settle.htlc.id for settle in failed})
    read = _with(read, is_done=_is_done(read, channel))
    return ResolutionStep(read, (SAVE, *reading.effects, *fulfilled, *failed))


class _Reading:
    """One block while it is read: an output and what spends it may be in the same block."""

    def __init__(self, resolution: Resolution, channel: Channel, secrets: ChannelSecrets, past: Past) -> None:
        self.resolution, self.channel, self.secrets, self.past = resolution, channel, secrets, past
        self.outputs = {output.outpoint: output for output in resolution.outputs}
        self.preimages: dict[bytes, bytes] = {}
        self.effects: list[ResolutionEffect] = []

    def read(self, transaction: Transaction) -> None:
        for position, txin in enumerate(transaction.inputs):
            if txin.outpoint == self.channel.charter.funding_outpoint:
                self._close(transaction)
            output = self.outputs.get(txin.outpoint)
            if output is not None and output.spending is None:
                self._spend(output, transaction, position)

    def _close(self, spender: Transaction) -> None:
        resolution = self.resolution
        spent = identify(self.channel, self.secrets, spender, resolution.height, self.past)
        for output in outputs_of(self.channel, spent, self.past):
            self.outputs[output.outpoint] = output
        self.resolution = _with(resolution, spent=spent, undone=None)
        if spent.ending in _ALARMING and not self.channel.is_restored:
            # b5-on-chain.8
            self.effects.append(Alert(f"the channel was closed by {spent.ending.value}"))

    def _spend(self, output: Output, spender: Transaction, position: int) -> None:
        txin = spender.inputs[position]
        is_ours = _is_ours(output, txin)
        spending = Spending(spender.txid, self.resolution.height, is_ours)
        self.outputs[output.outpoint] = _with(output, spending=spending)
        if not is_ours and preimage_for(self.channel, output) is not None:
            why = f"{output.value_sat} sat of HTLC {output.htlc_id} were taken before our claim confirmed"
            self.effects.append(Alert(why))
        # b5-on-chain.4: whoever takes an HTLC by its preimage shows it to us
        self.preimages.update({sha256(item): item for item in txin.witness if len(item) == 32})
        second = self._second_stage(output, spender, position)
        if second is not None:
            self.outputs[second.outpoint] = second

    def _second_stage(self, output: Output, spender: Transaction, position: int) -> Output | None:
        """The delayed output of an HTLC transaction: ours to wait for, or theirs to take."""
        spent = self.resolution.spent
        if output.kind not in _STAGED or spent is None or position >= len(spender.outputs):
            return None
        script, paid = delayed_script(self.channel, spent), spender.outputs[position]
        if paid.script != p2wsh(script):
            return None
        # b5-on-chain.6: what a revoked HTLC transaction pays is revoked too
        kind = Kind.REVOKED_TO_LOCAL if spent.ending is Ending.REVOKED else Kind.TO_LOCAL
        outpoint = spender.outpoint(position)
        return Output(outpoint, paid.value_sat, kind, script, self.resolution.height)


_ALARMING = (Ending.UNKNOWN, Ending.FUTURE)
_STAGED = (Kind.OFFERED, Kind.RECEIVED, Kind.REVOKED_HTLC)
_ITEMS_OF_OWNER = 5  # an HTLC transaction carries both signatures, a direct claim one


def _is_ours(output: Output, txin: TxIn) -> bool:
    """Whether it was us who spent the output: each path of a script belongs to one side."""
    match output.kind:
        case Kind.OFFERED | Kind.RECEIVED:
            return len(txin.witness) == _ITEMS_OF_OWNER
        case Kind.OFFERED_IN_THEIRS | Kind.RECEIVED_IN_THEIRS | Kind.REVOKED_HTLC:
            return len(txin.witness) != _ITEMS_OF_OWNER
        case Kind.REVOKED_TO_LOCAL:
            return txin.witness[1:2] == (b"\x01",)
        case Kind.OPAQUE:
            return False
    return True


def disconnected(resolution: Resolution, height: int) -> ResolutionStep:
    """The last block, of this height, is no longer in the best chain: what it did is undone."""
    # b5-on-chain.1: all is resolved again
    undone = _with(resolution, height=height - 1, is_done=False)
    if resolution.spent is not None and resolution.spent.height == height:
        undone = _with(undone, spent=None, outputs=())
        if resolution.spent.ending is not Ending.OURS:
            undone = _with(undone, undone=resolution.spent.transaction)
    else:
        undone = _with(undone, outputs=tuple(_before(resolution.outputs, height)))
    return ResolutionStep(undone, (SAVE,))


def _before(outputs: Sequence[Output], height: int) -> Iterator[Output]:
    for output in outputs:
        if output.height < height:
            is_spent_there = output.spending is not None and output.spending.height == height
            yield _with(output, spending=None) if is_spent_there else output


# What goes upstream


def _fulfilled(resolution: Resolution, channel: Channel, preimages: dict[bytes, bytes]) -> list[Settle]:
    """HTLCs that we offered and whose preimage the chain has shown."""
    # forwarding-safety.2: at once, not when it is deep
    return [
        Settle(_with(htlc, outcome=Fulfilled(preimages[htlc.payment_hash])))
        for htlc in _unsettled(resolution, channel)
        if htlc.payment_hash in preimages
    ]


def _failed(resolution: Resolution, channel: Channel) -> list[Settle | Lapse]:
    """HTLCs that we offered and that nobody can claim any more."""
    return [
        # the peer may have told why before the channel failed
        Settle(htlc) if htlc.outcome is not None else Lapse(htlc)
        for htlc in _unsettled(resolution, channel)
        if _is_lost(resolution, channel, htlc)
    ]


def _unsettled(resolution: Resolution, channel: Channel) -> Iterator[Htlc]:
    for htlc in channel.htlcs.local.values():
        if htlc.id not in resolution.settled and not isinstance(htlc.outcome, Fulfilled):
            yield htlc


def _is_lost(resolution: Resolution, channel: Channel, htlc: Htlc) -> bool:
    """Whether the HTLC can be failed upstream."""
    spent = resolution.spent
    if spent is None:
        return False
    if spent.ending in _ALARMING:
        # its output, if any, is none that we can read: wait until we could have taken it back
        return resolution.is_buried(spent.height) and resolution.is_buried(htlc.cltv_expiry)
    outputs = [o for o in resolution.outputs if o.proposer is LOCAL and o.htlc_id == htlc.id]
    if not outputs:
        # b5-on-chain.5
        return resolution.is_buried(spent.height) or _is_in_no_commitment(channel, htlc)
    # forwarding-safety.1
    return all(_is_over(resolution, output) for output in outputs)


def _is_over(resolution: Resolution, output: Output) -> bool:
    """Whether an HTLC that we offered is ours again for good, or too small for anybody to take."""
    if output.outpoint in resolution.left and output.spending is None:
        return resolution.is_buried(output.cltv_expiry)
    return output.spending is not None and resolution.is_buried(output.spending.height)


def _is_in_no_commitment(channel: Channel, htlc: Htlc) -> bool:
    """Whether no reorganisation can bring a commitment with an output for this HTLC of ours."""
    terms = channel.charter.terms
    lowest_sat = min(terms.local.dust_limit_sat, terms.remote.dust_limit_sat)
    return htlc.rung is Rung.PROPOSED or htlc.amount_msat < msat(lowest_sat)


# The end


def _is_done(resolution: Resolution, channel: Channel) -> bool:
    spent = resolution.spent
    if spent is None or not resolution.is_buried(spent.height):
        return False
    are_settled = not any(True for _ in _unsettled(resolution, channel))
    return are_settled and all(_is_resolved(resolution, channel, output) for output in resolution.outputs)


def _is_resolved(resolution: Resolution, channel: Channel, output: Output) -> bool:
    if output.spending is not None:
        return resolution.is_buried(output.spending.height)
    if output.kind in RECEIVED and preimage_for(channel, output) is None:
        # theirs again, and nobody who could show us the preimage is left
        return resolution.is_buried(output.cltv_expiry)
    return output.kind is Kind.OPAQUE or output.outpoint in resolution.left
