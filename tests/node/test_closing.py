"""Closing together: by either side, at any moment, to the satoshi (BOLT 2, closing)."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from htlc.channel import Channel, Phase
from htlc.errors import ChannelError
from htlc.opening import ANCHORS_TYPE, STATIC_REMOTEKEY_TYPE
from htlc.resolution_claims import our_commitment
from node.daemon.paying import PaymentFailed
from tests.bolt import bolt
from tests.node.line import (
    CAPACITY_SAT,
    PUSH_MSAT,
    WITHOUT_SIMPLE_CLOSE,
    Held,
    Network,
    bent,
    line,
    network,
    silent,
    until,
)
from tests.node.payments import AMOUNT, failure_of
from tests.node.test_durability import Death, die_at
from wire.bitcoin.tx import OutPoint, Transaction
from wire.codec import Message
from wire.crypto.hashes import sha256
from wire.messages.channel import ClosingSigned, Shutdown
from wire.units import Msat, sat


def mined(net: Network) -> Iterator[Transaction]:
    """Every transaction in every block."""
    regtest = net.chain.regtest
    for height in range(1, regtest.height + 1):
        block_hash = regtest.block_hash(height)
        assert block_hash is not None
        yield from regtest.block(block_hash).transactions


def transactions_of(net: Network, funding: OutPoint) -> list[Transaction]:
    """What a channel left on the chain: what made its output, and all that came of it."""
    found: list[Transaction] = []
    txids = {funding.txid}
    for transaction in mined(net):
        spends = {txin.outpoint for txin in transaction.inputs}
        if transaction.txid == funding.txid or funding in spends:
            found.append(transaction)
            txids.add(transaction.txid)
    return found


async def closed(net: Network, *pairs: tuple[str, str]) -> None:
    """Wait for the closing transactions, mine them, and see all channels closed."""
    outpoints = [net.channel(*pair).charter.funding_outpoint for pair in pairs]
    await net.chain.wait_for_mempool(lambda chain: all(map(chain.is_spent, outpoints)))
    await net.mine()
    await net.wait_for_closed()


def balance_sat(net: Network, name: str) -> int:
    balance = net[name].balance_sat
    return balance.confirmed_sat + balance.unconfirmed_sat


def fee_sat(channel: Channel, closing: Transaction) -> int:
    return channel.charter.funding_sat - sum(output.value_sat for output in closing.outputs)


@bolt("shutdown.1", "shutdown.4", "legacy-closing_signed.1", "legacy-closing_signed.2")
@pytest.mark.parametrize("channel_type", [STATIC_REMOTEKEY_TYPE, ANCHORS_TYPE])
@pytest.mark.parametrize("closers", ["alice", "bob", "alice bob"])
async def test_either_side_closes_to_the_satoshi(tmp_path: Path, closers: str, channel_type: bytes) -> None:
    async with line(tmp_path, "alice bob", channel_type=channel_type, features=WITHOUT_SIMPLE_CLOSE) as net:
        await net.pay("alice", "bob", 1_234_567_891)
        await net.wait_for_quiet()
        before = {name: balance_sat(net, name) for name in ("alice", "bob")}
        channel = net.channel("alice", "bob")

        async with trio.open_nursery() as nursery:
            for name in closers.split():
                nursery.start_soon(net[name].close_channel, channel.id)
        await closed(net, ("alice", "bob"))

        _, closing = transactions_of(net, channel.charter.funding_outpoint)
        # what is below a satoshi on either side goes to the miner, with the fee that the opener pays
        lost_sat = CAPACITY_SAT - sat(channel.settled_msat.local) - sat(channel.settled_msat.remote)
        fee = fee_sat(channel, closing) - lost_sat
        assert lost_sat == 1
        assert 253 * closing.weight <= 1000 * fee <= 1020 * closing.weight
        assert balance_sat(net, "alice") == before["alice"] + sat(channel.settled_msat.local) - fee
        assert balance_sat(net, "bob") == before["bob"] + sat(channel.settled_msat.remote)
        assert net["bob"].channel_balance_msat == net["alice"].channel_balance_msat == 0
        assert closing.locktime == 0
        assert [txin.sequence for txin in closing.inputs] == [0xFFFFFFFF]
        assert len(closing.outputs) == 2


async def test_a_line_closes_and_every_satoshi_is_found(tmp_path: Path) -> None:
    pairs = [("alice", "bob"), ("bob", "carol"), ("carol", "diana")]
    async with line(tmp_path, "alice bob carol diana") as net:
        funds_sat = 3 * (CAPACITY_SAT + 100_000)
        for _ in range(5):
            await net.pay("alice", "diana", 12_345_678)
        await net.wait_for_quiet()
        channels = [net.channel(*pair) for pair in pairs]
        for opener, accepter in pairs:
            await net[accepter].close_channel(net.ids[opener, accepter])
        await closed(net, *pairs)

        touched = [transactions_of(net, channel.charter.funding_outpoint) for channel in channels]
        assert [len(each) for each in touched] == [2, 2, 2]
        fees_sat = sum(fee_sat(channel, each[1]) for channel, each in zip(channels, touched, strict=True))
        # each funding transaction has one input: the coin that its opener was given
        for funding, _ in touched:
            assert len(funding.inputs) == 1
            fees_sat += CAPACITY_SAT + 100_000 - sum(output.value_sat for output in funding.outputs)
        assert sum(balance_sat(net, name) for name in net.nodes) == funds_sat - fees_sat


@bolt("shutdown.1", "shutdown.4")
@pytest.mark.parametrize("closer", ["alice", "bob"])
@pytest.mark.parametrize("is_right", [True, False])
async def test_payments_on_their_way_finish_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closer: str, is_right: bool
) -> None:
    async with line(tmp_path, "alice bob carol") as net:
        held = Held(net["carol"], monkeypatch)
        outcomes: list[bool] = []

        async def pay() -> None:
            try:
                options = {} if is_right else {"payment_secret": bytes(32)}
                await net.pay("alice", "carol", AMOUNT, **options)
                outcomes.append(True)
            except PaymentFailed:
                outcomes.append(False)

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(pay)
            await held.wait_for(3)
            await net[closer].close_channel(net.ids["alice", "bob"])
            for pair in ("alice", "bob"), ("bob", "alice"):
                await until(lambda pair=pair: net.channel(*pair).phase is Phase.SHUTTING_DOWN)  # type: ignore[misc]
            # nothing more is added: neither by its ends, nor for others
            assert (await failure_of(net, "alice", "bob")).attempts == 0
            assert (await failure_of(net, "bob", "alice")).attempts == 0
            assert len(net.channel("alice", "bob").htlcs.local) == 3
            await held.release()
        assert outcomes == 3 * [is_right]
        outpoint = net.channel("alice", "bob").charter.funding_outpoint
        await net.chain.wait_for_mempool(lambda chain: chain.is_spent(outpoint))
        await net.mine()
        await net["alice"].wait_for_channels(lambda channels: channels[0].phase is Phase.CLOSED)
        paid_msat = 3 * (AMOUNT + net["bob"].config.toll.fee_msat(Msat(AMOUNT))) if is_right else 0
        ours = net.channel("bob", "alice").settled_msat
        assert (ours.local, ours.remote) == (PUSH_MSAT + paid_msat, PUSH_MSAT - paid_msat)
        assert len(transactions_of(net, outpoint)) == 2


async def test_a_forward_into_a_channel_that_closes_is_failed(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob carol") as net:
        silent(net["carol"], Shutdown)
        await net["bob"].close_channel(net.ids["bob", "carol"])
        await until(lambda: not net.channel("bob", "carol").is_usable)
        failed = await failure_of(net, "alice", "carol")
        assert failed.reason.startswith(("temporary_channel_failure", "channel_disabled", "no way"))


@bolt("legacy-closing_signed.2")
@pytest.mark.parametrize("push_msat", [0, 1, 293_999, 353_999])
async def test_an_output_below_dust_is_left_out(tmp_path: Path, push_msat: int) -> None:
    async with line(tmp_path, "alice bob", push_msat=Msat(push_msat), features=WITHOUT_SIMPLE_CLOSE) as net:
        channel = net.channel("alice", "bob")
        before = balance_sat(net, "alice")
        await net["bob"].close_channel(channel.id)
        await closed(net, ("alice", "bob"))
        _, closing = transactions_of(net, channel.charter.funding_outpoint)
        assert len(closing.outputs) == 1
        assert balance_sat(net, "bob") == 0
        assert balance_sat(net, "alice") == before + closing.outputs[0].value_sat


@bolt("shutdown.1")
@pytest.mark.parametrize("closer", ["alice", "bob"])
@pytest.mark.parametrize("is_mined", [False, True])
async def test_a_channel_that_is_not_ready_can_be_closed(tmp_path: Path, closer: str, is_mined: bool) -> None:
    async with network(tmp_path, "alice bob", features=WITHOUT_SIMPLE_CLOSE) as net:
        await net.fund([("alice", CAPACITY_SAT + 100_000)])
        await net.connect("alice", "bob")
        channel = await net.open("alice", "bob")
        await until(lambda: channel.id in net["bob"].switch.channels)
        if is_mined:
            await net.mine()
        await net[closer].close_channel(channel.id)
        await closed(net, ("alice", "bob"))
        assert len(transactions_of(net, channel.charter.funding_outpoint)) == 2
        assert balance_sat(net, "bob") == sat(PUSH_MSAT)
        await net.mine(6)
        assert not net["alice"].graph.channels


async def test_what_cannot_be_closed(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob") as net:
        with pytest.raises(ChannelError):
            await net["alice"].close_channel(sha256(b"no channel"))
        await net["alice"].close_channel(net.ids["alice", "bob"])
        await closed(net, ("alice", "bob"))
        for name in ("alice", "bob"):
            with pytest.raises(ChannelError):
                await net[name].close_channel(net.ids["alice", "bob"])


@pytest.mark.parametrize("closer", ["alice", "bob"])
async def test_a_close_waits_for_the_peer_to_return(tmp_path: Path, closer: str) -> None:
    async with line(tmp_path, "alice bob") as net:
        await net.stop(other(closer))
        await net[closer].close_channel(net.ids["alice", "bob"])
        await net.start(other(closer))
        await net.connect(other(closer), closer)
        await closed(net, ("alice", "bob"))


@bolt("reestablish.8")
@pytest.mark.parametrize("death", Death)
@pytest.mark.parametrize("name", ["alice", "bob"])
@pytest.mark.parametrize(("closer", "turn_number"), [("alice", 1), ("alice", 2), ("bob", 1)])
async def test_a_close_survives_the_death_of_either(
    tmp_path: Path, closer: str, turn_number: int, name: str, death: Death
) -> None:
    async with line(tmp_path, "alice bob") as net:
        channel = net.channel("alice", "bob")
        die_at(net, name, turn_number, death)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(close_and_die, net, closer, name)
            await net.wait_for_death(name)
            nursery.cancel_scope.cancel()
        await net.start(name)
        await net.connect("alice", "bob")
        # the wish to close is forgotten by who dies before it is said
        if not net.channel(closer, other(closer)).closing.scripts.local:
            await net[closer].close_channel(channel.id)
        await closed(net, ("alice", "bob"))
        assert len(transactions_of(net, channel.charter.funding_outpoint)) == 2


def other(name: str) -> str:
    return "bob" if name == "alice" else "alice"


async def close_and_die(net: Network, closer: str, name: str) -> None:
    """Die when all is over, if death has not come before."""
    outpoint = net.channel("alice", "bob").charter.funding_outpoint
    await net[closer].close_channel(net.ids["alice", "bob"])
    await net.chain.wait_for_mempool(lambda chain: chain.is_spent(outpoint))
    net.kill(name)


@bolt("b5-on-chain.8")
@pytest.mark.parametrize("cheat", ["alice", "bob"])
async def test_a_commitment_is_no_cooperative_close_even_in_the_middle_of_one(
    tmp_path: Path, cheat: str
) -> None:
    async with line(tmp_path, "alice bob", features=WITHOUT_SIMPLE_CLOSE) as net:
        victim = other(cheat)
        silent(net["alice"], ClosingSigned)
        channel = net.channel(cheat, victim)
        secrets = net[cheat].signer.channel_secrets(channel.charter.key_index)
        commitment = our_commitment(channel, secrets)
        await net["bob"].close_channel(net.ids["alice", "bob"])
        await until(lambda: net.channel(victim, cheat).phase is Phase.NEGOTIATING)
        await net.chain.broadcast(commitment)
        await net.mine()
        assert net.channel(victim, cheat).phase is not Phase.CLOSED


@bolt("shutdown.2")
async def test_a_script_that_nobody_pays_to_costs_the_connection_alone(tmp_path: Path) -> None:
    def to_nowhere(message: Message) -> Message:
        return Shutdown(message.channel_id, b"\x6a\x01\x00") if isinstance(message, Shutdown) else message

    async with line(tmp_path, "alice bob") as net:
        bent(net["bob"], to_nowhere)
        await net["bob"].close_channel(net.ids["alice", "bob"])
        await until(lambda: not net["alice"].switch.peers)
        assert net.channel("alice", "bob").phase is Phase.NORMAL
        assert not net.channel("alice", "bob").closing.scripts.remote
        assert len(net.chain.regtest.mempool) == 0
