"""BOLT 5, revoked commitments: what a watchtower is given takes them as well as we could."""

from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace as replaced

from htlc.channel import Channel
from htlc.effects import Step
from htlc.justice import (
    FEERATES_PER_KW,
    Balances,
    Justice,
    Prize,
    Role,
    balances_now,
    commitment_again,
    justice_for,
    penalties,
)
from htlc.keys import commitment_keys
from htlc.ladder import Htlc
from htlc.transactions import ChannelFormat
from htlc.watchtower import (
    GIVEN_UP_BLOCKS,
    HINT_BYTES,
    IRREVOCABLE_BLOCKS,
    MOST_BLOB_BYTES,
    PATIENCE_BLOCKS,
    SECURITY_BLOCKS,
    STEP_BYTES,
    Breach,
    Unreadable,
    blobs_of,
    connected,
    disconnected,
    found,
    hint_of,
    published,
    unsealed,
)
from node.chain.interface import BlockConnected, Rejected
from tests.bolt import bolt
from tests.htlc.onchain_stage import Player, Stage
from tests.htlc.parties import ANCHORS, STATIC, Party, drain, opened_channel
from tests.htlc.test_resolution_revoked import STATES, both_formats, sides, states_of, total_sat
from wire.bitcoin.script import p2wpkh
from wire.bitcoin.tx import Transaction
from wire.crypto.aead import xchacha_seal
from wire.crypto.hashes import tagged_hash
from wire.crypto.secp256k1 import point_of

LOW_PER_KW = 253
SCRIPT = p2wpkh(point_of(b"\x07" * 32))


class Client:
    """A party that notes what each commitment of its peer holds, as a node does when it signs one."""

    def __init__(self, party: Party) -> None:
        self.party, self.notes = party, {0: balances_now(party.channel)}
        take = party.take

        def noting(step: Step) -> Party:
            take(step)
            balances = balances_now(party.channel)
            assert self.notes.setdefault(balances.number, balances) == balances
            return party

        party.take = noting  # type: ignore[method-assign]

    def past(self, number: int) -> Sequence[Htlc]:
        return [htlc for htlc in self.party.gone if htlc.entered <= number < htlc.left]

    def justice(self, number: int, script: bytes) -> tuple[bytes, Justice | None]:
        """The justice for a commitment of this number."""
        party = self.party
        return justice_for(party.channel, party.secrets, self.notes[number], self.past(number), script)


class Tower:
    """Keeps blobs by their hints, reads every block, and publishes."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.blobs = stage, dict[bytes, list[bytes]]()
        self.breaches: list[Breach] = []
        self.follower = stage.chain.follow(stage.height + 1)
        self.feerate_per_kw = LOW_PER_KW
        self.refused: list[str] = []

    def watch_for(self, client: Client, script: bytes) -> None:
        """Take the justice for all that was revoked so far."""
        for number in range(client.party.channel.shachain.revealed):
            txid, justice = client.justice(number, script)
            if justice is not None:
                self.blobs[hint_of(txid)] = blobs_of(txid, justice)

    def follow(self) -> None:
        while (event := self.follower.step()) is not None:
            if isinstance(event, BlockConnected):
                self._connect(event)
            else:
                self.breaches = [disconnected(breach, event.height) for breach in self.breaches]
        self.publish()

    def _connect(self, block: BlockConnected) -> None:
        known = {breach.transaction.txid for breach in self.breaches}
        for transaction in block.transactions:
            for blob in self.blobs.get(hint_of(transaction.txid), ()):
                if transaction.txid not in known:
                    justice = unsealed(transaction.txid, blob)
                    self.breaches.append(found(justice, transaction, block.height))
        self.breaches = [connected(breach, block.height, block.transactions) for breach in self.breaches]

    def publish(self) -> None:
        for place, breach in enumerate(self.breaches):
            self.breaches[place], transactions = published(breach, self.stage.height, self.feerate_per_kw)
            for transaction in transactions:
                try:
                    self.stage.submit(transaction)
                except Rejected as rejected:
                    self.refused.append(rejected.reason)

    def mine(self, count: int = 1) -> None:
        """Mine blocks, each read by everybody who is there."""
        for _ in range(count):
            self.stage.mine()
            self.follow()


def cheated(stage: Stage, channel_type: bytes, cheat: str, age: int) -> tuple[Player, Player, Client, Tower]:
    """A channel that has lived; the victim is away, and the cheat publishes one of its past states."""
    stage.open(channel_type)
    cheater, victim = sides(stage, cheat)
    client, tower = Client(victim.party), Tower(stage)
    state = states_of(cheater, victim, stage)[age]
    tower.watch_for(client, victim.wallet.new_script())
    victim.is_away = True
    cheater.party.channel = state
    cheater.force_close()
    return cheater, victim, client, tower


def fees_sat(tower: Tower) -> int:
    """What the penalties that confirmed have cost."""
    targets = [target for breach in tower.breaches for target in breach.targets]
    made = {version.txid for target in targets for version in target.versions}
    return sum(tower.stage.fee_sat(tower.stage.mined[txid]) for txid in made if txid in tower.stage.mined)


@both_formats
@pytest.mark.parametrize("age", range(STATES))
@bolt("b5-on-chain.6", "commitment_signed-revoke_and_ack.5")
def test_the_tower_takes_every_output_of_every_past_state(
    stage: Stage, channel_type: bytes, age: int
) -> None:
    cheater, victim, _, tower = cheated(stage, channel_type, ("alice", "bob")[age % 2], age)
    tower.mine(2)
    (breach,) = tower.breaches
    assert not tower.refused, tower.refused
    assert breach.is_resolved
    assert all(target.is_ours for target in breach.targets)
    # the victim returns, and finds what was won beside its own balance, which nobody else can take
    victim.is_away = False
    stage.follow()
    stage.mine(2)
    assert victim.gained_sat == total_sat(cheater) - victim.fees_sat - fees_sat(tower)
    assert cheater.gained_sat <= 0


@both_formats
@pytest.mark.parametrize("version", range(len(FEERATES_PER_KW)))
def test_every_penalty_of_every_feerate_is_valid_and_pays_that_feerate(
    stage: Stage, channel_type: bytes, version: int
) -> None:
    cheater, _, client, _ = cheated(stage, channel_type, "alice", 7)
    stage.mine()
    _, justice = client.justice(cheater.channel.number.local, SCRIPT)
    assert justice is not None
    assert {prize.role for prize in justice.prizes} == set(Role)
    for prize in justice.prizes:
        penalty = penalties(justice, cheater.commitment, prize)[version]
        stage.submit(penalty)
        rate = stage.fee_sat(penalty) * 1000 / penalty.weight
        worth_sat = cheater.commitment.outputs[prize.index].value_sat
        if penalty.outputs[0].value_sat > 294 or worth_sat > 50_000:
            assert FEERATES_PER_KW[version] <= rate < FEERATES_PER_KW[version] * 1.02


@both_formats
def test_a_penalty_that_blocks_pass_over_becomes_dearer(stage: Stage, channel_type: bytes) -> None:
    *_, tower = cheated(stage, channel_type, "bob", 5)
    tower.mine()
    for version in range(1, len(FEERATES_PER_KW) + 1):
        for _ in range(PATIENCE_BLOCKS):
            stage.pass_over()
            tower.follow()
        assert tower.breaches[0].version == min(version, len(FEERATES_PER_KW) - 1)
    assert not tower.refused, tower.refused
    tower.mine()
    assert tower.breaches[0].is_resolved


def test_a_chain_that_is_dear_gets_the_dear_version_at_once(stage: Stage) -> None:
    *_, tower = cheated(stage, ANCHORS, "alice", 5)
    tower.feerate_per_kw = FEERATES_PER_KW[1] + 1
    tower.mine()
    assert tower.breaches[0].version == 2


def test_when_the_delay_runs_out_nothing_is_too_dear(stage: Stage) -> None:
    *_, tower = cheated(stage, ANCHORS, "alice", 5)
    tower.mine()
    (breach,) = tower.breaches
    last = breach.height + breach.justice.to_self_delay - SECURITY_BLOCKS
    assert published(breach, breach.height + 1, LOW_PER_KW)[0].version == 0
    assert published(breach, last, LOW_PER_KW)[0].version == len(FEERATES_PER_KW) - 1


@both_formats
@bolt("b5-on-chain.6")
def test_second_stage_transactions_are_chased_where_their_txid_was_known(
    stage: Stage, channel_type: bytes
) -> None:
    cheater, victim, _, tower = cheated(stage, channel_type, "alice", 7)
    cheater.fulfill(0, 10)
    cheater.fulfill(1, 11)
    # the tower is slow: the cheat has its second stages mined first
    stage.mine(50)
    tower.follow()
    (breach,) = tower.breaches
    staged = [target for target in breach.targets if target.staged_at is not None]
    taken = [target for target in breach.targets if target.spent_at is not None]
    assert bool(staged) == (channel_type == STATIC)
    assert taken, "the cheat was faster"
    tower.mine(2)
    assert not tower.refused, tower.refused
    assert all(t.is_ours for t in tower.breaches[0].targets if t not in taken)
    # with anchors what the cheat took waits for its delay: enough time for the victim to return
    victim.is_away = False
    stage.follow()
    stage.mine(3)
    stage_fees_sat = 0 if channel_type == ANCHORS else cheater.fees_sat
    assert victim.gained_sat == total_sat(cheater) - victim.fees_sat - fees_sat(tower) - stage_fees_sat
    stage.mine(200)
    assert cheater.gained_sat <= 0


@both_formats
@bolt("b5-on-chain.1", "b5-on-chain.6")
@pytest.mark.parametrize("depth", [1, 2, 6])
def test_a_reorganisation_does_not_save_the_cheat(stage: Stage, channel_type: bytes, depth: int) -> None:
    *_, tower = cheated(stage, channel_type, "bob", 4)
    tower.mine(2)
    stage.reorganise(depth, ())
    tower.follow()
    assert tower.breaches[0].is_mined == (depth < 2)
    tower.mine(2)
    assert tower.breaches[0].is_resolved
    assert all(target.is_ours for target in tower.breaches[0].targets)


def test_a_breach_is_followed_until_it_is_irrevocable(stage: Stage) -> None:
    *_, tower = cheated(stage, ANCHORS, "alice", 3)
    tower.mine(2)
    (breach,) = tower.breaches
    last = max(target.spent_at or 0 for target in breach.targets)
    assert not breach.is_over(last + IRREVOCABLE_BLOCKS - 1)
    assert breach.is_over(last + IRREVOCABLE_BLOCKS)
    undone = disconnected(breach, breach.height)
    assert not undone.is_over(last + IRREVOCABLE_BLOCKS)
    assert undone.is_over(breach.height + GIVEN_UP_BLOCKS)


# --- blobs


def revoked(htlcs: int = 0, channel_type: bytes = ANCHORS, capacity_sat: int = 10_000_000) -> Client:
    """A client whose peer has revoked a commitment, its last but one, with so many HTLCs."""
    alice, bob = opened_channel(capacity_sat, capacity_sat * 500, channel_type)
    client = Client(alice)
    for number in range(htlcs):
        bob.offer(5_000_000, number)
    drain(alice, bob)
    alice.offer(5_000_000, 1000)
    drain(alice, bob)
    return client


def last_justice(client: Client) -> tuple[bytes, Justice]:
    txid, justice = client.justice(client.party.channel.shachain.revealed - 1, SCRIPT)
    assert justice is not None
    return txid, justice


@both_formats
def test_the_justice_is_for_the_very_transaction_that_the_peer_holds(channel_type: bytes) -> None:
    alice, bob = opened_channel(channel_type=channel_type)
    client, held = Client(alice), {}
    for number in range(6):
        held[bob.channel.number.local] = bob.our_commitment().txid
        (alice if number % 2 else bob).offer(300_000 if number == 3 else 90_000_000, number)
        drain(alice, bob)
        held[bob.channel.number.local] = bob.our_commitment().txid
    alice.change_fee(700)
    drain(alice, bob)
    assert alice.channel.shachain.revealed > max(held) >= 6
    assert {number: client.justice(number, SCRIPT)[0] for number in held} == held


def test_a_blob_opens_for_its_transaction_alone() -> None:
    txid, justice = last_justice(revoked(2))
    (blob,) = blobs_of(txid, justice)
    assert unsealed(txid, blob) == justice
    other = txid[:HINT_BYTES] + bytes(HINT_BYTES)
    assert hint_of(other) == hint_of(txid)
    with pytest.raises(Unreadable):
        unsealed(other, blob)


def test_the_same_justice_is_the_same_blob() -> None:
    txid, justice = last_justice(revoked(2))
    assert blobs_of(txid, justice) == blobs_of(txid, justice)


def test_what_a_blob_holds_shows_only_in_coarse_steps() -> None:
    sizes = [len(blobs_of(*last_justice(revoked(count)))[0]) for count in range(4)]
    assert len({size % STEP_BYTES for size in sizes}) == 1
    assert len(set(sizes)) < len(sizes)


@both_formats
def test_the_largest_commitment_fits_into_messages(channel_type: bytes) -> None:
    txid, justice = last_justice(revoked(483, channel_type, 100_000_000))
    assert len(justice.prizes) == 483 + 1
    blobs = blobs_of(txid, justice)
    assert max(map(len, blobs)) <= MOST_BLOB_BYTES
    together = [prize for blob in blobs for prize in unsealed(txid, blob).prizes]
    assert tuple(together) == justice.prizes


def test_nothing_is_made_of_a_commitment_that_holds_nothing_for_us() -> None:
    alice, bob = opened_channel(push_msat=0)
    client = Client(alice)
    alice.offer(300_000, 0)
    drain(alice, bob)
    assert client.justice(0, SCRIPT)[1] is None


@given(st.binary(max_size=2000))
def test_garbage_is_no_justice(garbage: bytes) -> None:
    with pytest.raises(Unreadable):
        unsealed(bytes(32), garbage)


@given(st.binary(max_size=200), st.integers(0, 400))
def test_no_text_that_a_client_seals_is_more_than_unreadable(put_in: bytes, place: int) -> None:
    """Whoever knows a txid can seal anything for the tower to read when the transaction comes."""
    txid, packed = bytes(32), msgspec.msgpack.encode(JUSTICE)
    packed = packed[:place] + put_in + packed[place:]
    blob = sealed(txid, len(packed).to_bytes(4, "big") + packed)
    with suppress(Unreadable):
        unsealed(txid, blob)


def test_neither_is_justice_with_a_text_that_is_none() -> None:
    packed = msgspec.msgpack.encode(JUSTICE)
    packed = packed[:1] + b"\xa1" + packed[1:]
    with pytest.raises(Unreadable):
        unsealed(bytes(32), sealed(bytes(32), len(packed).to_bytes(4, "big") + packed))


PRIZE = Prize(0, Role.TO_LOCAL, (bytes(64),))
POINT = bytes(33)
JUSTICE = Justice(ChannelFormat.ANCHORS, POINT, POINT, POINT, POINT, 144, SCRIPT, (2500,), (PRIZE,))


def sealed(txid: bytes, plain: bytes) -> bytes:
    """What a client seals under a txid."""
    return bytes(24) + xchacha_seal(tagged_hash(b"rill/watchtower", txid), bytes(24), plain)


FORGERIES: dict[str, Callable[[Prize], Prize]] = {
    "another's signatures": lambda p: replaced(p, signatures=tuple([s[::-1] for s in p.signatures])),
    "too few signatures": lambda p: replaced(p, signatures=p.signatures[:1]),
    "another output": lambda p: replaced(p, index=p.index + 1),
    "an output that is not there": lambda p: replaced(p, index=p.index + 60_000),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forgery_spends_nothing(forgery: str) -> None:
    client = revoked(0)
    txid, justice = last_justice(client)
    forged = replaced(justice, prizes=tuple(map(FORGERIES[forgery], justice.prizes)))
    with pytest.raises(Unreadable):
        found(forged, commitment_of(client, txid), 1)


def commitment_of(client: Client, txid: bytes) -> Transaction:
    """The last revoked commitment of its peer."""
    channel: Channel = client.party.channel
    number = channel.shachain.revealed - 1
    point = point_of(channel.shachain.secret_of_commitment(number) or b"")
    keys = commitment_keys(channel.charter.basepoints.remote, channel.charter.basepoints.local, point)
    balances: Balances = client.notes[number]
    commitment = commitment_again(channel, keys, balances, client.past(number))
    assert commitment.txid == txid
    return commitment.tx
