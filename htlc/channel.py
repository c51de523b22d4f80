"""A channel as a value (BOLT 2, BOLT 3).

`Charter` is what opening settled for good. `Channel` is everything that changes: who owns
what, the updates on their ladder, whose commitment has which number, and what is needed to
publish ours and to punish theirs. Nothing here is assigned twice; a step makes a new value.
The commitments are not in it: `spec` recomputes either from the ladder whenever one is signed,
verified or published.
"""

from collections.abc import Iterator
from enum import Enum
from functools import lru_cache

import msgspec

from htlc.keys import Basepoints, commitment_keys
from htlc.ladder import LOCAL, REMOTE, SIGNED_NOW, Dual, FeeChange, Floor, Fulfilled, Htlc, Rung, Side, Signal
from htlc.shachain import Shachain
from htlc.transactions import (
    ChannelFormat,
    Commitment,
    CommitmentParams,
    CommitmentSpec,
    HtlcOut,
    build_commitment,
    obscuring_factor,
)
from wire.bitcoin.script import funding_script
from wire.bitcoin.tx import OutPoint, Transaction
from wire.features import SCID_ALIAS, Features
from wire.units import Msat, Sat, msat

NO_ALIASES: Dual[int | None] = Dual(None, None)
NO_HTLCS: Dual[dict[int, Htlc]] = Dual({}, {})


class Phase(Enum):
    """Where in its life a channel is. The order is the order of life."""

    AWAITING_FUNDING = "awaiting its funding transaction"
    NORMAL = "open"
    SHUTTING_DOWN = "shutting down"
    NEGOTIATING = "agreeing on a closing fee"
    CLOSING = "closing"
    BEHIND = "behind its peer, which alone can close it"
    FAILED = "failed"
    CLOSED = "closed"


class Terms(msgspec.Struct, frozen=True, gc=False):
    """What one side announced in open_channel or accept_channel, binding the other."""

    dust_limit_sat: Sat
    max_htlc_value_in_flight_msat: Msat
    channel_reserve_sat: Sat  # that the other side must keep
    htlc_minimum_msat: Msat
    to_self_delay_blocks: int  # that the other side must wait
    max_accepted_htlcs: int


class Charter(msgspec.Struct, frozen=True, gc=False, cache_hash=True):
    """What both sides agreed on at opening and never change."""

    channel_id: bytes
    peer_id: bytes
    key_index: int  # from which our signer derives the channel's secrets
    format: ChannelFormat
    channel_type: bytes
    opener: Side
    is_announced: bool
    funding_outpoint: OutPoint
    funding_sat: Sat
    minimum_depth_blocks: int
    terms: Dual[Terms]
    basepoints: Dual[Basepoints]
    upfront_shutdown_scripts: Dual[bytes] = Dual(b"", b"")

    def reserve_msat(self, side: Side) -> Msat:
        """What that side must keep for itself: the other one decided it."""
        return msat(self.terms[side.other].channel_reserve_sat)

    @property
    def is_place_hidden(self) -> bool:
        """Whether nobody else may learn where its funding output is (option_scid_alias)."""
        return not self.is_announced and Features.from_bytes(self.channel_type).has(SCID_ALIAS)

    @property
    def funding_script(self) -> bytes:
        """The 2-of-2 witness script of the funding output."""
        return funding_script(self.basepoints.local.funding_pubkey, self.basepoints.remote.funding_pubkey)


class ClosingOffer(msgspec.Struct, frozen=True, gc=False):
    """A closing transaction as a closing_complete describes it; the closer pays its fee."""

    closer_script: bytes
    closee_script: bytes
    fee_sat: Sat
    locktime: int


class Closing(msgspec.Struct, frozen=True, gc=False):
    """What has been settled since the first shutdown (BOLT 2, closing).

    `transaction` is the last one that both have signed. There may be others: each signature of
    ours lets the peer publish one.
    """

    # the last that each side named; empty before its shutdown on this connection
    scripts: Dual[bytes] = Dual(b"", b"")
    has_peer_shut_down: bool = False  # on this connection or one before: it adds nothing any more
    our_range_sat: tuple[int, int] = (0, 0)
    our_last_fee_sat: int | None = None
    their_last_fee_sat: int | None = None
    offer: ClosingOffer | None = None  # in our closing_complete that awaits its closing_sig
    transaction: Transaction | None = None


class Channel(msgspec.Struct, frozen=True, gc=False):
    """The changing part of a channel, between two messages."""

    charter: Charter
    phase: Phase
    settled_msat: Dual[Msat]  # balances without anything that is still on the ladder
    feerate_per_kw: int
    number: Dual[int]  # of the newest signed commitment of each side
    remote_point: bytes  # per-commitment point of their newest commitment
    remote_next_point: bytes | None  # of the one after: unknown until they reveal it
    remote_revoking_point: bytes | None = None  # of the one that they still owe the secret for
    has_revoked_last: bool = False  # whether our last revoke_and_ack left after our last commitment_signed
    remote_signature: bytes = b""  # theirs, on our newest commitment
    remote_htlc_signatures: tuple[bytes, ...] = ()
    shachain: Shachain = Shachain()
    htlcs: Dual[dict[int, Htlc]] = NO_HTLCS
    next_htlc_id: Dual[int] = Dual(0, 0)
    fee_changes: tuple[FeeChange, ...] = ()
    is_ready: Dual[bool] = Dual(False, False)  # who sent channel_ready
    short_channel_id: int | None = None  # of its place in the chain
    aliases: Dual[int | None] = NO_ALIASES  # what each side called it in its channel_ready
    closing: Closing = Closing()
    known_since: int = 0  # the height at which both had signed its first commitments
    is_restored: bool = False  # from a backup: nothing is known of what happened on it

    @property
    def id(self) -> bytes:
        return self.charter.channel_id

    @property
    def is_awaiting_revocation(self) -> bool:
        """Whether our last commitment_signed is still unanswered."""
        return self.remote_revoking_point is not None

    @property
    def is_usable(self) -> bool:
        """Whether new HTLCs may be offered."""
        return self.phase is Phase.NORMAL and self.is_ready.local and self.is_ready.remote

    @property
    def graph_id(self) -> int | None:
        """The short_channel_id that it has in our own graph, and in routes of ours that begin with it.

        One that is not announced goes by our alias: that is never reorganised, and tells nothing to
        whoever sees our graph. So does one that is used unconfirmed, until it has a place.
        """
        place, alias = self.short_channel_id, self.aliases.local
        if self.charter.is_announced and (place or self.charter.minimum_depth_blocks):
            return place
        return place if alias is None else alias

    @property
    def hint_id(self) -> int | None:
        """The short_channel_id that a payer shall use to reach us over it, when it is not announced."""
        # channel_ready.3: with option_scid_alias the real one is never used
        place = None if self.charter.is_place_hidden else self.short_channel_id
        return place if self.aliases.remote is None else self.aliases.remote

    def exit_ids(self) -> list[int]:
        """Every short_channel_id by which an onion may name it as the way on from us."""
        # channel_ready.3: our alias is always honoured, the real one unless it is to be kept secret
        place = None if self.charter.is_place_hidden else self.short_channel_id
        return [name for name in (place, self.aliases.local) if name is not None]

    def all_htlcs(self) -> Iterator[Htlc]:
        yield from self.htlcs.local.values()
        yield from self.htlcs.remote.values()

    def feerate_in(self, owner: Side, floor: Floor = SIGNED_NOW) -> int:
        """The feerate of that side's commitment, in sat per 1000 weight."""
        lowest = floor.rung(self.charter.opener, owner)
        reached = [change.feerate_per_kw for change in self.fee_changes if change.rung >= lowest]
        return reached[-1] if reached else self.feerate_per_kw

    def after(self, signal: Signal) -> "Channel":
        """The channel with every update lifted that the signal lifts; what is done is settled."""
        number = self.number.remote + 1
        htlcs = Dual(
            {i: htlc.after(signal, number) for i, htlc in self.htlcs.local.items()},
            {i: htlc.after(signal, number) for i, htlc in self.htlcs.remote.items()},
        )
        fees = tuple(change.after(signal, self.charter.opener) for change in self.fee_changes)
        return _settled(msgspec.structs.replace(self, htlcs=htlcs, fee_changes=fees))

    def spec(self, owner: Side, number: int, floor: Floor = SIGNED_NOW) -> CommitmentSpec:
        """What that side's commitment contains, reduced from the ladder."""
        balance = [int(self.settled_msat.local), int(self.settled_msat.remote)]
        outputs: list[HtlcOut] = []
        for proposer in (LOCAL, REMOTE):
            lowest_add, lowest_removal = floor.rung(proposer, owner), floor.rung(proposer.other, owner)
            is_offered = proposer is owner
            for htlc in self.htlcs[proposer].values():
                if htlc.rung < lowest_add:
                    continue
                if htlc.outcome is None or htlc.outcome_rung < lowest_removal:
                    balance[proposer] -= htlc.amount_msat
                    outputs.append(
                        HtlcOut(is_offered, htlc.amount_msat, htlc.payment_hash, htlc.cltv_expiry, htlc.id)
                    )
                elif isinstance(htlc.outcome, Fulfilled):
                    balance[proposer] -= htlc.amount_msat
                    balance[proposer.other] += htlc.amount_msat
        return CommitmentSpec(
            number=number,
            feerate_per_kw=self.feerate_in(owner, floor),
            to_owner_msat=Msat(balance[owner]),
            to_other_msat=Msat(balance[owner.other]),
            htlcs=tuple(outputs),
        )

    def commitment(self, owner: Side, per_commitment_point: bytes) -> Commitment:
        """That side's newest commitment transaction, rebuilt."""
        basepoints = self.charter.basepoints
        keys = commitment_keys(basepoints[owner], basepoints[owner.other], per_commitment_point)
        spec = self.spec(owner, self.number[owner])
        return build_commitment(commitment_params(self.charter, owner), keys, spec)


@lru_cache(maxsize=8192)
def commitment_params(charter: Charter, owner: Side) -> CommitmentParams:
    """The part of that side's commitments that never changes."""
    opener, accepter = charter.basepoints[charter.opener], charter.basepoints[charter.opener.other]
    return CommitmentParams(
        format=charter.format,
        funding_outpoint=charter.funding_outpoint,
        funding_sat=charter.funding_sat,
        funding_script=charter.funding_script,
        obscuring_factor=obscuring_factor(opener.payment_basepoint, accepter.payment_basepoint),
        dust_limit_sat=charter.terms[owner].dust_limit_sat,
        to_self_delay=charter.terms[owner.other].to_self_delay_blocks,
        is_owner_opener=charter.opener is owner,
        owner_funding_pubkey=charter.basepoints[owner].funding_pubkey,
        other_funding_pubkey=charter.basepoints[owner.other].funding_pubkey,
    )


def _settled(channel: Channel) -> Channel:
    """The channel with irrevocable removals and fees taken off the ladder."""
    gone = [htlc for htlc in channel.all_htlcs() if htlc.is_gone]
    locked = [change for change in channel.fee_changes if change.rung is Rung.LOCKED_IN]
    if not gone and not locked:
        return channel
    balance = [int(channel.settled_msat.local), int(channel.settled_msat.remote)]
    for htlc in gone:
        if isinstance(htlc.outcome, Fulfilled):
            balance[htlc.proposer] -= htlc.amount_msat
            balance[htlc.proposer.other] += htlc.amount_msat
    return msgspec.structs.replace(
        channel,
        settled_msat=Dual(Msat(balance[0]), Msat(balance[1])),
        htlcs=Dual(_standing(channel.htlcs.local), _standing(channel.htlcs.remote)),
        feerate_per_kw=locked[-1].feerate_per_kw if locked else channel.feerate_per_kw,
        fee_changes=tuple(change for change in channel.fee_changes if change.rung is not Rung.LOCKED_IN),
    )


def _standing(htlcs: dict[int, Htlc]) -> dict[int, Htlc]:
    return {i: htlc for i, htlc in htlcs.items() if not htlc.is_gone}
