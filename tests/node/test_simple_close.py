"""Closing with and without option_simple_close: every transaction is one that the chain takes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from htlc.channel import Phase
from htlc.errors import ChannelError, NotUsable
from htlc.ladder import Dual
from htlc.opening import ANCHORS_TYPE, STATIC_REMOTEKEY_TYPE
from node.daemon.closings import BadDestination
from node.daemon.turn import Turn
from tests.bolt import bolt
from tests.node.line import WITHOUT_SIMPLE_CLOSE, Network, bent, network, until
from wire.bitcoin.tx import Transaction
from wire.codec import Message
from wire.features import OUR_INIT, UPFRONT_SHUTDOWN_SCRIPT, Features
from wire.messages.channel import ClosingComplete, ClosingSig, ClosingSigned, Shutdown
from wire.units import Sat, sat

SIMPLE, LEGACY = OUR_INIT, WITHOUT_SIMPLE_CLOSE
P2TR, P2WSH = b"\x51\x20" + b"\x07" * 32, b"\x00\x20" + b"\x08" * 32
OP_RETURN = b"\x6a\x06" + b"burned"
both_formats = pytest.mark.parametrize(
    "channel_type", [ANCHORS_TYPE, STATIC_REMOTEKEY_TYPE], ids=["anchors", "static_remotekey"]
)


@asynccontextmanager
async def pair(
    directory: Path,
    features: tuple[Features, Features] = (SIMPLE, SIMPLE),
    channel_type: bytes = ANCHORS_TYPE,
    **options: object,
) -> AsyncIterator[Network]:
    """Alice and Bob with a channel that Alice has opened."""
    async with network(directory) as net:
        for name, each in zip(("alice", "bob"), features, strict=True):
            await net.start(name, features=each, **options)
        await net.join([("alice", "bob")], channel_type=channel_type)
        yield net


def seen_by(net: Network) -> list[Transaction]:
    """Every transaction that is given to the chain from now on, refused or not."""
    seen: list[Transaction] = []
    broadcast = net.chain.broadcast

    async def recording(*transactions: Transaction) -> None:
        seen.extend(transactions)
        await broadcast(*transactions)

    net.chain.broadcast = recording  # type: ignore[method-assign]
    return seen


async def both_signed(net: Network) -> None:
    """Return once neither awaits anything more of the other."""
    await until(lambda: all(is_signed(net, *names) for names in (("alice", "bob"), ("bob", "alice"))))


def is_signed(net: Network, a: str, b: str) -> bool:
    channel = net.channel(a, b)
    return channel.phase is Phase.CLOSING and channel.closing.offer is None


def waiting(net: Network) -> Transaction:
    """The one transaction that would close the channel with the next block."""
    mempool = net.chain.regtest.mempool
    txid = mempool.spender(net.channel("alice", "bob").charter.funding_outpoint)
    assert txid is not None
    return mempool[txid].transaction


def paid_sat(transaction: Transaction, script: bytes) -> Sat:
    return Sat(sum(output.value_sat for output in transaction.outputs if output.script == script))


async def bury(net: Network) -> Dual[int]:
    """Mine, and give what Alice's and Bob's wallets got by it."""
    before = [net[name].balance_sat.confirmed_sat for name in ("alice", "bob")]
    await net.mine()
    await net.wait_for_closed()
    after = [net[name].balance_sat.confirmed_sat for name in ("alice", "bob")]
    return Dual(*(later - earlier for later, earlier in zip(after, before, strict=True)))


# --- with and without


@both_formats
@pytest.mark.parametrize(
    ("features", "is_simple"),
    [
        pytest.param((SIMPLE, SIMPLE), True, id="both have it"),
        pytest.param((LEGACY, SIMPLE), False, id="the accepter alone"),
        pytest.param((SIMPLE, LEGACY), False, id="the opener alone"),
        pytest.param((LEGACY, LEGACY), False, id="neither"),
    ],
)
@bolt("simple-close.1", "simple-close.2", "legacy-closing_signed.1")
async def test_each_closes_as_both_can(
    tmp_path: Path, features: tuple[Features, Features], is_simple: bool, channel_type: bytes
) -> None:
    async with pair(tmp_path, features, channel_type) as net:
        seen = seen_by(net)
        channel = net.channel("alice", "bob")
        await net["alice"].close_channel(channel.id)
        await both_signed(net)
        await net.chain.wait_for_mempool(lambda chain: chain.is_spent(channel.charter.funding_outpoint))
        await until(lambda: len(seen) >= (4 if is_simple else 2))
        assert len({transaction.txid for transaction in seen}) == (2 if is_simple else 1)
        # each of them is one that the chain takes, if it comes alone
        for transaction in {each.txid: each for each in seen}.values():
            net.chain.regtest.mempool.clear()
            await net.chain.broadcast(transaction)
            assert waiting(net) == transaction
            assert transaction.inputs[0].sequence == (0xFFFFFFFD if is_simple else 0xFFFFFFFF)


@both_formats
@pytest.mark.parametrize("is_simple", [True, False], ids=["simple", "legacy"])
@bolt("simple-close.1")
async def test_who_wants_the_close_pays_for_it(tmp_path: Path, is_simple: bool, channel_type: bytes) -> None:
    features = (SIMPLE, SIMPLE) if is_simple else (LEGACY, LEGACY)
    async with pair(tmp_path, features, channel_type) as net:
        channel = net.channel("bob", "alice")
        await net["bob"].close_channel(channel.id)
        await both_signed(net)
        txid = net.channel("bob", "alice").closing.transaction
        assert txid is not None
        await net.chain.wait_for_mempool(lambda chain: chain.has(txid.txid))
        gained = await bury(net)
        balance = channel.settled_msat
        payer, other = (gained.remote, gained.local) if is_simple else (gained.local, gained.remote)
        theirs = (balance.local, balance.remote) if is_simple else (balance.remote, balance.local)
        assert other == sat(theirs[1])
        assert 0 < sat(theirs[0]) - payer < 1000


@bolt("simple-close.1")
@pytest.mark.parametrize("faster", ["alice", "bob"])
async def test_whoevers_transaction_confirms_closes(tmp_path: Path, faster: str) -> None:
    async with pair(tmp_path) as net:
        other = "bob" if faster == "alice" else "alice"
        await net[other].close_channel(net.ids["alice", "bob"], feerate_per_kw=1000)
        await both_signed(net)
        await net[faster].close_channel(net.ids["alice", "bob"], feerate_per_kw=5000)
        await both_signed(net)
        agreed = net.channel(faster, other).closing.transaction
        assert agreed is not None
        await net.chain.wait_for_mempool(lambda chain: chain.has(agreed.txid))
        await bury(net)
        assert net.channel("alice", "bob").phase is net.channel("bob", "alice").phase is Phase.CLOSED


# --- again


@bolt("simple-close.1", "simple-close.2")
async def test_a_fee_is_raised_while_no_block_comes(tmp_path: Path) -> None:
    async with pair(tmp_path) as net:
        channel = net.channel("alice", "bob")
        fees_sat = []
        for feerate_per_kw in (1000, 1000, 2000, 8000):
            await net["alice"].close_channel(channel.id, feerate_per_kw=feerate_per_kw)
            await both_signed(net)
            agreed = net.channel("alice", "bob").closing.transaction
            assert agreed is not None
            await net.chain.wait_for_mempool(lambda chain, txid=agreed.txid: chain.has(txid))  # type: ignore[misc]
            assert waiting(net) == agreed
            fees_sat.append(channel.charter.funding_sat - sum(each.value_sat for each in agreed.outputs))
        assert fees_sat == sorted(set(fees_sat))
        gained = await bury(net)
        assert gained.local == sat(channel.settled_msat.local) - fees_sat[-1]
        assert gained.remote == sat(channel.settled_msat.remote)


@bolt("simple-close.1", "simple-close.2")
@pytest.mark.parametrize("script", [P2TR, P2WSH, OP_RETURN], ids=["P2TR", "P2WSH", "OP_RETURN"])
async def test_a_balance_goes_where_its_owner_last_said(tmp_path: Path, script: bytes) -> None:
    async with pair(tmp_path) as net:
        channel = net.channel("bob", "alice")
        await net["bob"].close_channel(channel.id, P2WSH)
        await both_signed(net)
        await net["bob"].close_channel(channel.id, script, feerate_per_kw=3000)
        await both_signed(net)
        agreed = net.channel("bob", "alice").closing.transaction
        assert agreed is not None
        await net.chain.wait_for_mempool(lambda chain: chain.has(agreed.txid))
        assert net.channel("alice", "bob").closing.scripts.remote == script
        assert script in {output.script for output in agreed.outputs}
        assert bool(paid_sat(agreed, script)) is (script != OP_RETURN)
        gained = await bury(net)
        assert gained == Dual(sat(channel.settled_msat.remote), 0)


async def test_what_cannot_be_asked_again(tmp_path: Path) -> None:
    async with pair(tmp_path, (LEGACY, LEGACY)) as net:
        channel_id = net.ids["alice", "bob"]
        with pytest.raises(BadDestination):
            await net["alice"].close_channel(channel_id, OP_RETURN)
        await net["alice"].close_channel(channel_id, P2TR)
        await both_signed(net)
        with pytest.raises(NotUsable):
            await net["alice"].close_channel(channel_id, feerate_per_kw=5000)
        with pytest.raises(ChannelError):
            await net["alice"].close_channel(bytes(32))


# --- connections and nodes that end in the middle


def lost(net: Network, name: str, kind: type[Message], *, is_fatal: bool) -> None:
    """Lose the node's first message of this kind, with the connection or with the node itself."""
    switch = net[name].switch
    release, is_lost = switch._release, False

    def cut(turn: Turn) -> None:
        nonlocal is_lost
        kinds = [type(message) for _, message in turn.outgoing]
        if is_lost or kind not in kinds:
            release(turn)
            return
        is_lost = True
        turn.outgoing = turn.outgoing[: kinds.index(kind)]
        if is_fatal:
            net.kill(name)
            return
        release(turn)
        for peer in list(switch.peers.values()):
            peer.close("cut")

    switch._release = cut  # type: ignore[method-assign]


@bolt("reestablish.8", "simple-close.1")
@pytest.mark.parametrize("kind", [Shutdown, ClosingComplete, ClosingSig])
@pytest.mark.parametrize("name", ["alice", "bob"])
async def test_a_close_goes_on_after_any_cut(tmp_path: Path, name: str, kind: type[Message]) -> None:
    async with pair(tmp_path) as net:
        lost(net, name, kind, is_fatal=False)
        await net["alice"].close_channel(net.ids["alice", "bob"])
        await until(lambda: not net["alice"].switch.peers)
        await until(lambda: len(net["alice"].switch.live) == len(net["bob"].switch.live) == 1)
        await both_signed(net)
        await bury(net)


@bolt("reestablish.8", "simple-close.1")
@pytest.mark.parametrize("kind", [Shutdown, ClosingComplete, ClosingSig])
@pytest.mark.parametrize("name", ["alice", "bob"])
async def test_a_close_goes_on_after_any_death(tmp_path: Path, name: str, kind: type[Message]) -> None:
    async with pair(tmp_path) as net:
        lost(net, name, kind, is_fatal=True)
        async with trio.open_nursery() as nursery:
            # Alice may not live to see it granted
            nursery.start_soon(net["alice"].close_channel, net.ids["alice", "bob"])
            await net.wait_for_death(name)
            nursery.cancel_scope.cancel()
        await net.start(name, features=SIMPLE)
        await net.connect("alice", "bob")
        await both_signed(net)
        await bury(net)


async def test_a_wish_to_close_outlives_a_restart(tmp_path: Path) -> None:
    async with pair(tmp_path) as net:
        await net.stop("bob")
        await net["alice"].close_channel(net.ids["alice", "bob"], P2WSH, feerate_per_kw=2000)
        await net.stop("alice")
        await net.start("alice", "bob", features=SIMPLE)
        await net.connect("alice", "bob")
        await both_signed(net)
        assert paid_sat(waiting(net), P2WSH)


async def test_a_close_goes_on_in_the_old_way_with_a_peer_that_has_unlearned_the_new(tmp_path: Path) -> None:
    async with pair(tmp_path) as net:
        await net["alice"].close_channel(net.ids["alice", "bob"])
        await both_signed(net)
        await net.stop("bob")
        await net.start("bob", features=LEGACY)
        await net.connect("alice", "bob")
        await until(lambda: net.channel("bob", "alice").phase is Phase.CLOSING)
        await until(lambda: net.channel("alice", "bob").phase is Phase.CLOSING)
        agreed = net.channel("bob", "alice").closing.transaction
        assert agreed is not None
        assert agreed.inputs[0].sequence == 0xFFFFFFFF
        await bury(net)


# --- what costs the connection


def warnings_of(net: Network, name: str) -> list[str]:
    """What the node's peers are warned of from now on."""
    warned: list[str] = []
    release = net[name].switch._release

    def recorded(turn: Turn) -> None:
        warned.extend(why for _, _, why in turn.warned)
        release(turn)

    net[name].switch._release = recorded  # type: ignore[method-assign]
    return warned


@bolt("framing-tlv.5")
@pytest.mark.parametrize("features", [(SIMPLE, SIMPLE), (LEGACY, LEGACY)], ids=["simple", "legacy"])
async def test_the_other_ways_messages_are_not_spoken(
    tmp_path: Path, features: tuple[Features, Features]
) -> None:
    def turned(message: Message) -> Message:
        if isinstance(message, ClosingComplete):
            return ClosingSigned(message.channel_id, message.fee_satoshis, bytes(64))
        if isinstance(message, ClosingSigned):
            script = P2TR
            return ClosingComplete(message.channel_id, script, script, message.fee_satoshis, 0)
        return message

    async with pair(tmp_path, features) as net:
        warned = warnings_of(net, "bob")
        bent(net["alice"], turned)
        await net["alice"].close_channel(net.ids["alice", "bob"])
        await until(lambda: bool(warned))
        assert "closed in the other way" in warned[0]
        assert net.channel("bob", "alice").phase is not Phase.FAILED


@bolt("simple-close.4")
async def test_a_bad_signature_costs_the_connection_and_nothing_else(tmp_path: Path) -> None:
    def spoilt(message: Message) -> Message:
        if isinstance(message, ClosingSig):
            return ClosingSig(
                message.channel_id,
                message.closer_scriptpubkey,
                message.closee_scriptpubkey,
                message.fee_satoshis,
                message.locktime,
                closer_and_closee_outputs=bytes(64),
            )
        return message

    async with pair(tmp_path) as net:
        warned = warnings_of(net, "alice")
        bent(net["bob"], spoilt)
        await net["alice"].close_channel(net.ids["alice", "bob"])
        await until(lambda: bool(warned))
        assert warned[0] == "the signature of the closing transaction does not hold"
        # Bob's own transaction closes all the same
        await net.chain.wait_for_mempool(
            lambda chain: chain.is_spent(net.channel("alice", "bob").charter.funding_outpoint)
        )
        await bury(net)


# --- upfront scripts


@bolt("shutdown.3", "open_channel.6")
@pytest.mark.parametrize("features", [(SIMPLE, SIMPLE), (LEGACY, LEGACY)], ids=["simple", "legacy"])
async def test_a_script_promised_at_opening_is_paid(
    tmp_path: Path, features: tuple[Features, Features]
) -> None:
    async with pair(tmp_path, features, upfront_shutdown_script=P2TR) as net:
        for a, b in (("alice", "bob"), ("bob", "alice")):
            assert net.channel(a, b).charter.upfront_shutdown_scripts == Dual(P2TR, P2TR)
        with pytest.raises(BadDestination):
            await net["alice"].close_channel(net.ids["alice", "bob"], P2WSH)
        await net["alice"].close_channel(net.ids["alice", "bob"], P2TR)
        await both_signed(net)
        assert {output.script for output in waiting(net).outputs} == {P2TR}


@bolt("shutdown.3")
async def test_a_broken_promise_costs_the_connection(tmp_path: Path) -> None:
    def elsewhere(message: Message) -> Message:
        return Shutdown(message.channel_id, P2WSH) if isinstance(message, Shutdown) else message

    async with pair(tmp_path, upfront_shutdown_script=P2TR) as net:
        warned = warnings_of(net, "alice")
        bent(net["bob"], elsewhere)
        await net["bob"].close_channel(net.ids["alice", "bob"])
        await until(lambda: bool(warned))
        assert warned[0].endswith("is not the one promised at opening")
        assert net.channel("alice", "bob").phase is Phase.NORMAL


@bolt("shutdown.3")
async def test_no_promise_is_made_or_kept_without_the_feature(tmp_path: Path) -> None:
    without = SIMPLE.without(UPFRONT_SHUTDOWN_SCRIPT)
    async with pair(tmp_path, (SIMPLE, without), upfront_shutdown_script=P2TR) as net:
        for a, b in (("alice", "bob"), ("bob", "alice")):
            assert net.channel(a, b).charter.upfront_shutdown_scripts == Dual(b"", b"")
        await net["alice"].close_channel(net.ids["alice", "bob"], P2WSH)
        await both_signed(net)
        assert paid_sat(waiting(net), P2WSH)
