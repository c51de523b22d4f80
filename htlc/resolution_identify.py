"""What spent a funding output, and which of its outputs concern us (BOLT 5).

The transaction is told by what it contains, not by what we remember of having sent: a commitment
hides its number, and its scripts follow from that number's point. So whatever the peer publishes,
today or after a reorganisation, is read afresh from the chain and the channel alone.
"""

from collections.abc import Callable, Iterator, Sequence
from enum import Enum

import msgspec

from htlc.channel import Channel, commitment_params
from htlc.keys import ChannelSecrets, CommitmentKeys, commitment_keys
from htlc.ladder import LOCAL, REMOTE, Htlc, Side
from htlc.scripts import htlc_scripts, to_local, to_remote_anchors
from htlc.transactions import ChannelFormat, number_of_commitment, to_remote_output
from wire.bitcoin.script import p2wsh
from wire.bitcoin.tx import OutPoint, Transaction
from wire.crypto.secp256k1 import point_of
from wire.units import Sat

Past = Callable[[int], Sequence[Htlc]]
"""The settled HTLCs that their commitment of a number contained."""


class Ending(Enum):
    """By what a funding output was spent."""

    COOPERATIVE = "a transaction that both agreed on"
    OURS = "our commitment"
    THEIRS = "a commitment of theirs"
    REVOKED = "a commitment that they had revoked"
    FUTURE = "a commitment of theirs that we have forgotten"
    UNKNOWN = "a transaction that we cannot explain"


class Spent(msgspec.Struct, frozen=True):
    """The transaction that spent the funding output, in a block of the best chain."""

    ending: Ending
    transaction: Transaction
    height: int
    number: int = 0
    point: bytes = b""  # per_commitment_point, of a commitment that we can read


class Kind(Enum):
    """What an output is, and so what it takes to spend it."""

    TO_LOCAL = "to_local"  # of our commitment; also what our HTLC transactions pay
    TO_REMOTE = "to_remote"  # our balance in a commitment of theirs
    OFFERED = "an HTLC that we offered, in our commitment"
    RECEIVED = "an HTLC that we received, in our commitment"
    OFFERED_IN_THEIRS = "an HTLC that we offered, in their commitment"
    RECEIVED_IN_THEIRS = "an HTLC that we received, in their commitment"
    REVOKED_TO_LOCAL = "a revoked to_local"  # also what their revoked HTLC transactions pay
    REVOKED_HTLC = "an HTLC in a revoked commitment"
    OPAQUE = "an output that we cannot read"


class Spending(msgspec.Struct, frozen=True, gc=False):
    """The confirmed transaction that spends an output."""

    txid: bytes
    height: int
    is_ours: bool


class Output(msgspec.Struct, frozen=True, gc=False):
    """An output that we may have to spend, or whose spending we must see."""

    outpoint: OutPoint
    value_sat: Sat
    kind: Kind
    witness_script: bytes  # empty for a P2WPKH to_remote
    height: int  # of its transaction
    proposer: Side = LOCAL  # of its HTLC, like all that follows
    htlc_id: int = -1
    payment_hash: bytes = b""
    cltv_expiry: int = 0
    spending: Spending | None = None

    @property
    def is_htlc(self) -> bool:
        return self.htlc_id >= 0


def identify(
    channel: Channel, secrets: ChannelSecrets, spender: Transaction, height: int, past: Past
) -> Spent:
    """Say what spent the funding output."""
    if channel.is_restored:
        return _identify_blindly(channel, secrets, spender, height)
    point = secrets.per_commitment_point(channel.number.local)
    if channel.commitment(LOCAL, point).txid == spender.txid:
        return Spent(Ending.OURS, spender, height, channel.number.local, point)
    number = number_of_commitment(spender, commitment_params(channel.charter, LOCAL).obscuring_factor)
    if number is None:
        ending = Ending.COOPERATIVE if _is_agreed(channel, spender) else Ending.UNKNOWN
        return Spent(ending, spender, height)
    if number > channel.number.remote:
        # nobody but us could have signed it, so it is of a time that we have lost
        return Spent(Ending.FUTURE, spender, height, number)
    ending, point = _read(channel, number)
    theirs = Spent(ending, spender, height, number, point)
    return theirs if _is_theirs(channel, theirs, past) else Spent(Ending.UNKNOWN, spender, height, number)


def _identify_blindly(channel: Channel, secrets: ChannelSecrets, spender: Transaction, height: int) -> Spent:
    """Say what spent the funding output of a channel of which we know no commitment at all."""
    number = number_of_commitment(spender, commitment_params(channel.charter, LOCAL).obscuring_factor)
    if number is None:
        # nobody could make it without our signature, and of a commitment we would know its form
        return Spent(Ending.COOPERATIVE, spender, height)
    ours = Spent(Ending.OURS, spender, height, number, secrets.per_commitment_point(number))
    to_local_script = p2wsh(delayed_script(channel, ours))
    if any(output.script == to_local_script for output in spender.outputs):
        # we had gone to chain before we lost everything
        return ours
    return Spent(Ending.FUTURE, spender, height, number)


def _is_theirs(channel: Channel, theirs: Spent, past: Past) -> bool:
    """Whether any output has a script that their commitment of this number has, and ours has not."""
    to_local_script = p2wsh(delayed_script(channel, theirs))
    is_found = any(output.script == to_local_script for output in theirs.transaction.outputs)
    return is_found or any(True for _ in outputs_of_theirs(channel, theirs, past(theirs.number)))


def _is_agreed(channel: Channel, spender: Transaction) -> bool:
    """Whether we have agreed to close, so that we may have signed this."""
    agreed, script = channel.closing.transaction, channel.closing.scripts.local
    return bool(script) or (agreed is not None and agreed.txid == spender.txid)


def _read(channel: Channel, number: int) -> tuple[Ending, bytes]:
    """Whether that commitment of theirs is revoked, and its point."""
    if number == channel.number.remote:
        return Ending.THEIRS, channel.remote_point
    if number == channel.number.remote - 1 and channel.remote_revoking_point is not None:
        return Ending.THEIRS, channel.remote_revoking_point
    secret = channel.shachain.secret_of_commitment(number)
    assert secret is not None, "all commitments before the last two are revoked"
    return Ending.REVOKED, point_of(secret)


def keys_of(channel: Channel, spent: Spent) -> CommitmentKeys:
    """The keys of the commitment that was published."""
    owner = LOCAL if spent.ending is Ending.OURS else REMOTE
    basepoints = channel.charter.basepoints
    return commitment_keys(basepoints[owner], basepoints[owner.other], spent.point)


def delayed_script(channel: Channel, spent: Spent) -> bytes:
    """The witness script of its to_local, to which its HTLC transactions pay too."""
    keys = keys_of(channel, spent)
    owner = LOCAL if spent.ending is Ending.OURS else REMOTE
    delay = commitment_params(channel.charter, owner).to_self_delay
    return to_local(keys.revocation, delay, keys.local_delayed)


def outputs_of(channel: Channel, spent: Spent, past: Past) -> tuple[Output, ...]:
    """The outputs of the spender that we may have to spend or to watch."""
    match spent.ending:
        case Ending.COOPERATIVE:
            return ()
        case Ending.OURS:
            return tuple(_outputs_of_ours(channel, spent))
        case Ending.THEIRS:
            return tuple(outputs_of_theirs(channel, spent, ()))
        case Ending.REVOKED:
            return tuple(outputs_of_theirs(channel, spent, past(spent.number)))
        case Ending.FUTURE | Ending.UNKNOWN:
            return (*_balances(channel, spent), *_opaque(channel, spent))


def _outputs_of_ours(channel: Channel, spent: Spent) -> Iterator[Output]:
    tx, script = spent.transaction, delayed_script(channel, spent)
    for index, output in enumerate(tx.outputs):
        if output.script == p2wsh(script):
            yield Output(tx.outpoint(index), output.value_sat, Kind.TO_LOCAL, script, spent.height)
    if channel.is_restored:
        # nobody remembers which HTLCs it contains
        return
    for second in channel.commitment(LOCAL, spent.point).htlcs:
        htlc = second.htlc
        yield Output(
            tx.outpoint(second.output_index),
            second.value_sat,
            Kind.OFFERED if htlc.is_offered else Kind.RECEIVED,
            second.witness_script,
            spent.height,
            proposer=LOCAL if htlc.is_offered else REMOTE,
            htlc_id=htlc.id,
            payment_hash=htlc.payment_hash,
            cltv_expiry=htlc.cltv_expiry,
        )


def outputs_of_theirs(channel: Channel, spent: Spent, past: Sequence[Htlc]) -> Iterator[Output]:
    """What a commitment of theirs, whose point is known, holds for us."""
    tx, is_revoked = spent.transaction, spent.ending is Ending.REVOKED
    yield from _balances(channel, spent)
    if is_revoked:
        script = delayed_script(channel, spent)
        for index, output in enumerate(tx.outputs):
            if output.script == p2wsh(script):
                yield Output(
                    tx.outpoint(index), output.value_sat, Kind.REVOKED_TO_LOCAL, script, spent.height
                )
    for index, htlc, script in _matched(channel, spent, past):
        kind = Kind.OFFERED_IN_THEIRS if htlc.proposer is LOCAL else Kind.RECEIVED_IN_THEIRS
        yield Output(
            tx.outpoint(index),
            tx.outputs[index].value_sat,
            Kind.REVOKED_HTLC if is_revoked else kind,
            script,
            spent.height,
            proposer=htlc.proposer,
            htlc_id=htlc.id,
            payment_hash=htlc.payment_hash,
            cltv_expiry=htlc.cltv_expiry,
        )


def _balances(channel: Channel, spent: Spent) -> Iterator[Output]:
    """Our balance: its key is the same in every commitment of theirs, even one that we forgot."""
    charter = channel.charter
    payment = charter.basepoints.local.payment_basepoint
    script = to_remote_anchors(payment) if charter.format is ChannelFormat.ANCHORS else b""
    for index, output in enumerate(spent.transaction.outputs):
        if output.script == to_remote_output(charter.format, payment):
            outpoint = spent.transaction.outpoint(index)
            yield Output(outpoint, output.value_sat, Kind.TO_REMOTE, script, spent.height)


def _opaque(channel: Channel, spent: Spent) -> Iterator[Output]:
    """Outputs that may be HTLCs: whoever spends them may show us a preimage."""
    known = {output.outpoint for output in _balances(channel, spent)}
    for index, output in enumerate(spent.transaction.outputs):
        outpoint = spent.transaction.outpoint(index)
        if outpoint not in known:
            yield Output(outpoint, output.value_sat, Kind.OPAQUE, b"", spent.height)


def _matched(channel: Channel, spent: Spent, past: Sequence[Htlc]) -> Iterator[tuple[int, Htlc, bytes]]:
    """The HTLCs of a commitment of theirs, each with its output's index and witness script.

    Outputs of equal value and script stand in the order of their HTLCs' expiries (BOLT 3), so
    taking them in turn gives each its own.
    """
    keys = keys_of(channel, spent)
    is_anchors = channel.charter.format is ChannelFormat.ANCHORS
    scripts = htlc_scripts(keys.revocation, keys.owner_htlc, keys.other_htlc, is_anchors=is_anchors)
    waiting: dict[tuple[int, bytes], list[tuple[Htlc, bytes]]] = {}
    for htlc in sorted(htlcs_in(channel, spent.number, past), key=_order):
        if htlc.proposer is REMOTE:
            script = scripts.offered(htlc.payment_hash)
        else:
            script = scripts.received(htlc.payment_hash, htlc.cltv_expiry)
        waiting.setdefault((htlc.amount_msat // 1000, p2wsh(script)), []).append((htlc, script))
    for index, output in enumerate(spent.transaction.outputs):
        fitting = waiting.get((output.value_sat, output.script))
        if fitting:
            yield index, *fitting.pop(0)


def _order(htlc: Htlc) -> tuple[int, int]:
    # b3-transactions.1
    return htlc.cltv_expiry, htlc.id


def htlcs_in(channel: Channel, number: int, past: Sequence[Htlc] = ()) -> Iterator[Htlc]:
    """The HTLCs that their commitment of this number contains, trimmed or not."""
    for htlc in channel.all_htlcs():
        if 0 < htlc.entered <= number and not 0 < htlc.left <= number:
            yield htlc
    yield from past
