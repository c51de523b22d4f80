"""What to publish for a channel that ends on the chain, and at which feerate (BOLT 5).

Uncontested outputs are swept together when a confirmation is cheap. Contested ones are claimed
at once, HTLCs of one kind and expiry together; blocks that pass a claim over raise its fee by a
quarter, every one of them when its time runs out, and never above what the claim saves. A batch
that was broken, because somebody took one of its outputs, or that is stuck, is never tried again:
from then on each output goes alone.
"""

from collections.abc import Iterator, Sequence

import msgspec

from htlc.channel import Channel
from htlc.effects import SAVE, Alert, Broadcast, Forget, Fund, ResolutionEffect
from htlc.keys import ChannelSecrets
from htlc.ladder import LOCAL
from htlc.market import LOWEST_FEERATE_PER_KW, Market
from htlc.resolution import Resolution, ResolutionStep
from htlc.resolution_claims import (
    Claim,
    Scene,
    child_of,
    fixed_stage,
    funded_stage,
    is_contested,
    is_ripe,
    locktime_of,
    our_commitment,
    signed_child,
    signed_stage,
    sweep,
)
from htlc.resolution_identify import Ending, Kind, Output
from wire.bitcoin.tx import OutPoint, Transaction
from wire.units import Sat

_with = msgspec.structs.replace

MOST_INPUTS = 100
STUCK_BLOCKS = 6
SECURITY_BLOCKS = 18  # before a deadline, as BOLT 5 recommends
PATIENT_BLOCKS = 3
_INPUT_WEIGHT = 413  # of the largest input: a revoked HTLC


def pursue(
    resolution: Resolution, channel: Channel, secrets: ChannelSecrets, market: Market
) -> ResolutionStep:
    """Publish what can be published now: at every block, and whenever something was learned.

    What waits already is given to the chain again, since nobody promises to remember it, and
    replaced by a version that pays more if a block has passed it over.
    """
    if resolution.is_done:
        return ResolutionStep(resolution)
    if resolution.spent is None:
        return _publish(resolution, channel, secrets, market)
    scene = Scene(channel, secrets, resolution.spent, resolution.script, resolution.height)
    return _Pursuit(resolution, scene, market).step()


def _next_rate(
    claim: Claim | None, market: Market, height: int, *, is_urgent: bool, patience_blocks: int = 1
) -> int | None:
    """The feerate of the next version of a claim, or None while the last one will do."""
    target = market.soon_per_kw if is_urgent else market.later_per_kw
    if claim is None:
        return target
    if claim.is_fixed or height <= claim.height:
        return None
    higher = max(claim.feerate_per_kw * 5 // 4, claim.feerate_per_kw + LOWEST_FEERATE_PER_KW)
    if is_urgent and height >= claim.height + patience_blocks:
        return max(target, higher)
    return target if target >= higher else None


def _patience_blocks(scene: Scene, output: Output) -> int:
    """How many blocks a claim may wait before it pays more."""
    match output.kind:
        case Kind.RECEIVED | Kind.RECEIVED_IN_THEIRS:
            deadline = output.cltv_expiry
        case Kind.REVOKED_TO_LOCAL:
            deadline = output.height + scene.channel.charter.terms.local.to_self_delay_blocks
        case _:
            # whoever we compete with may spend it now
            return 1
    return 1 if deadline - scene.height <= SECURITY_BLOCKS else PATIENT_BLOCKS


# Until the funding output is spent


def _publish(
    resolution: Resolution, channel: Channel, secrets: ChannelSecrets, market: Market
) -> ResolutionStep:
    if not resolution.is_publishing:
        undone = resolution.undone
        return ResolutionStep(resolution, (Broadcast(undone),) if undone is not None else ())
    commitment, child = our_commitment(channel, secrets), resolution.child
    stake_sat, is_urgent = _stake(channel, commitment)
    rate = _next_rate(child, market, resolution.height, is_urgent=is_urgent)
    fund = child_of(channel, commitment, rate, stake_sat) if rate is not None else None
    published = Broadcast(commitment, child.transaction if child else None)
    if fund is None:
        return ResolutionStep(resolution, (published,))
    replaces = child.transaction.txid if child else None
    return ResolutionStep(resolution, (published, _with(fund, replaces=replaces)))


def _stake(channel: Channel, commitment: Transaction) -> tuple[int, bool]:
    """What we can get out of our commitment, and whether HTLCs make it urgent."""
    spec = channel.spec(LOCAL, channel.number.local)
    ours_sat = (spec.to_owner_msat + sum(htlc.amount_msat for htlc in spec.htlcs)) // 1000
    return min(ours_sat, sum(output.value_sat for output in commitment.outputs)), bool(spec.htlcs)


def funded(
    resolution: Resolution,
    channel: Channel,
    secrets: ChannelSecrets,
    fund: Fund,
    transaction: Transaction,
    fee_sat: Sat,
) -> ResolutionStep:
    """The wallet has funded a claim: sign our part of it and publish."""
    outpoints = tuple([each.txin.outpoint for each in fund.inputs])
    height, spent = resolution.height, resolution.spent
    if spent is None:
        signed = signed_child(channel, secrets, fund.inputs[0].spent.value_sat, transaction)
        since = resolution.child.since if resolution.child else height
        child = Claim(outpoints, signed, fee_sat, fund.feerate_per_kw, since, height, is_funded=True)
        published = Broadcast(our_commitment(channel, secrets), signed)
        return ResolutionStep(_with(resolution, child=child), (SAVE, published))
    scene = Scene(channel, secrets, spent, resolution.script, height)
    by_outpoint = {output.outpoint: output for output in resolution.outputs}
    signed = signed_stage(scene, [by_outpoint[outpoint] for outpoint in outpoints], transaction)
    before = [claim for claim in resolution.claims if claim.outpoints == outpoints]
    since = before[0].since if before else height
    claim = Claim(outpoints, signed, fee_sat, fund.feerate_per_kw, since, height, is_funded=True)
    others = [claim for claim in resolution.claims if claim.outpoints != outpoints]
    return ResolutionStep(_with(resolution, claims=(*others, claim)), (SAVE, Broadcast(signed)))


# Once a commitment is in a block


class _Pursuit:
    """One look at everything that stands unspent."""

    def __init__(self, resolution: Resolution, scene: Scene, market: Market) -> None:
        self.before, self.scene, self.market = resolution, scene, market
        self.known = {output.outpoint for output in resolution.outputs}
        self.standing = {o.outpoint: o for o in resolution.outputs if o.spending is None}
        self.claims: list[Claim] = []
        self.left = set(resolution.left)
        self.is_split = resolution.is_split
        self.effects: list[ResolutionEffect] = []

    def step(self) -> ResolutionStep:
        before = self.before
        child = self._child()
        claimed: set[OutPoint] = set()
        # the newest first: of two that want the same output, it is the one that counts
        for claim in reversed(before.claims):
            if claimed.isdisjoint(claim.outpoints) and self._is_live(claim):
                claimed.update(claim.outpoints)
                self._again(claim)
            elif self.known.issuperset(claim.outpoints):
                # it counts again should the block be undone that ended it
                self.claims.append(claim)
            else:
                self.effects.append(Forget(claim.transaction.txid))
        self.claims.reverse()
        free = [o for o in self.standing.values() if o.outpoint not in claimed and is_ripe(self.scene, o)]
        for group in self._groups(free):
            self._take(group, self._first_rate(group))
        after = _with(
            before,
            child=child,
            claims=tuple(self.claims),
            left=frozenset(self.left),
            is_split=self.is_split,
        )
        return ResolutionStep(after, (SAVE, *self.effects) if after != before else tuple(self.effects))

    def _child(self) -> Claim | None:
        """The child of our commitment, unless another transaction spent the funding output."""
        child = self.before.child
        if child is not None and self.scene.spent.ending is not Ending.OURS:
            self.effects.append(Forget(child.transaction.txid))
            return None
        return child

    # --- claims that wait

    def _is_live(self, claim: Claim) -> bool:
        """Whether the claim can still confirm. One that broke, or is stuck, breaks up its kind."""
        standing = [outpoint for outpoint in claim.outpoints if outpoint in self.standing]
        if len(claim.outpoints) == 1 or not standing or not is_contested(self.standing[standing[0]]):
            return len(standing) == len(claim.outpoints)
        is_broken = len(standing) < len(claim.outpoints)
        is_stuck = self.scene.height - claim.since >= STUCK_BLOCKS
        self.is_split = self.is_split or is_broken or is_stuck
        return not (is_broken or is_stuck)

    def _again(self, claim: Claim) -> None:
        outputs = [self.standing[outpoint] for outpoint in claim.outpoints]
        rate = _next_rate(
            claim,
            self.market,
            self.scene.height,
            is_urgent=is_contested(outputs[0]),
            patience_blocks=min(_patience_blocks(self.scene, output) for output in outputs),
        )
        if rate is None or not self._take(outputs, rate, claim):
            self.claims.append(claim)
            self.effects.append(Broadcast(claim.transaction))

    # --- claims that are made

    def _groups(self, outputs: Sequence[Output]) -> Iterator[Sequence[Output]]:
        together: dict[tuple[object, int], list[Output]] = {}
        for output in outputs:
            if self._goes_alone(output):
                yield (output,)
            else:
                kind = output.kind if is_contested(output) else None
                together.setdefault((kind, locktime_of(output)), []).append(output)
        for group in together.values():
            for start in range(0, len(group), MOST_INPUTS):
                yield group[start : start + MOST_INPUTS]

    def _goes_alone(self, output: Output) -> bool:
        if output.kind is Kind.REVOKED_TO_LOCAL:
            # whoever can spend the HTLCs of a batch could hold it up until the delay is over
            return True
        rate = self.market.soon_per_kw if is_contested(output) else self.market.later_per_kw
        is_small = output.value_sat * 1000 < rate * _INPUT_WEIGHT
        if is_contested(output):
            is_fixed = output.kind in (Kind.OFFERED, Kind.RECEIVED) and not self.scene.is_anchors
            return is_fixed or (self.is_split and not is_small)
        return is_small

    def _take(self, outputs: Sequence[Output], rate: int, before: Claim | None = None) -> bool:
        """Claim the outputs, in the place of an earlier version if there is one; whether it was done."""
        if outputs[0].kind in (Kind.OFFERED, Kind.RECEIVED):
            return self._take_staged(outputs, rate, before)
        claim = sweep(self.scene, outputs, rate)
        if claim is None:
            self._leave(outputs)
            return False
        if before is not None:
            if claim.fee_sat < before.fee_sat + claim.transaction.vsize:
                return False
            claim = _with(claim, since=before.since)
        self.claims.append(claim)
        self.left.difference_update(claim.outpoints)
        self.effects.append(Broadcast(claim.transaction))
        return True

    def _first_rate(self, outputs: Sequence[Output]) -> int:
        """The feerate of a new claim: not below that of a batch which it leaves."""
        wanted = {output.outpoint for output in outputs}
        left = [c.feerate_per_kw for c in self.before.claims if not wanted.isdisjoint(c.outpoints)]
        market = self.market
        return max(
            market.soon_per_kw if is_contested(outputs[0]) else market.later_per_kw,
            *left,
            LOWEST_FEERATE_PER_KW,
        )

    def _take_staged(self, outputs: Sequence[Output], rate: int, before: Claim | None) -> bool:
        if not self.scene.is_anchors:
            claim = fixed_stage(self.scene, outputs[0])
            self.claims.append(claim)
            self.effects.append(Broadcast(claim.transaction))
            return True
        fund = funded_stage(self.scene, outputs, rate)
        if fund is None:
            self._leave(outputs)
            return False
        if before is not None:
            if fund.feerate_per_kw <= before.feerate_per_kw:
                return False
            # until the wallet has funded the next version this one stands
            self.claims.append(before)
            fund = _with(fund, replaces=before.transaction.txid)
        self.left.difference_update([output.outpoint for output in outputs])
        self.effects.append(fund)
        return True

    def _leave(self, outputs: Sequence[Output]) -> None:
        for output in outputs:
            if output.outpoint not in self.left:
                self.left.add(output.outpoint)
                why = f"{output.value_sat} sat of {output.outpoint} are not worth the fee of taking them"
                self.effects.append(Alert(why))
