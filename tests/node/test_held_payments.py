"""A held payment that was accepted stays: neither its payer nor time before its deadline takes it back."""

from pathlib import Path

import pytest

from node.daemon.invoices import InvoiceRow
from tests.bolt import bolt
from tests.node.line import Network, line, network, until
from tests.node.payments import AMOUNT, DETAILS, settle
from tests.node.rpc_stage import Client
from tests.node.test_payments_in_parts import HALF, diamond, ended, gathered, part, received
from wire.crypto.hashes import sha256

PREIMAGE = bytes(range(32))


async def held(net: Network, payee: str) -> InvoiceRow:
    payment_hash = sha256(PREIMAGE)
    await Client(net[payee]).call("holdinvoice", payment_hash=payment_hash.hex(), amount=AMOUNT)
    return net[payee].switch.invoices.rows[payment_hash]


async def taken(net: Network, payee: str) -> None:
    await Client(net[payee]).call("settleholdinvoice", preimage=PREIMAGE.hex())


@bolt("payload.4")
@pytest.mark.parametrize("total_msat", [AMOUNT, AMOUNT + 1])
async def test_what_comes_after_the_whole_is_failed_alone(tmp_path: Path, total_msat: int) -> None:
    async with line(tmp_path, "alice bob carol") as net:
        invoice = await held(net, "carol")
        whole = await part(net, "alice", "carol", invoice, AMOUNT)
        await gathered(net, "carol", invoice, 1)
        more = await part(net, "alice", "carol", invoice, 1000, total_msat)
        assert await ended(more) == [f"{DETAILS}, says hop 2"]
        await taken(net, "carol")
        assert await ended(whole) == [""]
        await settle(net)
        assert received(net, "carol", invoice) == AMOUNT


async def test_a_held_payment_outlives_a_restart_after_blocks(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob") as net:
        invoice = await held(net, "bob")
        whole = await part(net, "alice", "bob", invoice, AMOUNT)
        await gathered(net, "bob", invoice, 1)
        # more of them than its payer had added to what we ask for
        await net.mine(8)
        await net.stop("bob")
        await net.start("bob")
        await gathered(net, "bob", invoice, 1)
        await taken(net, "bob")
        await net.connect("alice", "bob")
        assert await ended(whole) == [""]
        await settle(net)


@bolt("forwarding-safety.2")
@pytest.mark.parametrize("is_restarted", [False, True])
async def test_a_part_that_has_gone_to_chain_does_not_undo_the_rest(
    tmp_path: Path, is_restarted: bool
) -> None:
    async with network(tmp_path) as net:
        await diamond(net)
        invoice = await held(net, "diana")
        over = [await part(net, "alice", "diana", invoice, HALF), None]
        await gathered(net, "diana", invoice, 1)
        net["alice"].switch.live.discard(net.channel("alice", "bob").id)
        over[1] = await part(net, "alice", "diana", invoice, HALF)
        await gathered(net, "diana", invoice, 2)
        await net["bob"].switch.force_close(net.channel("bob", "diana").id)
        await until(lambda: bool(net.chain.regtest.mempool))
        await net.mine()
        if is_restarted:
            await net.stop("diana")
            await net.start("diana")
        switch = net["diana"].switch
        net.clock.seconds += 1000
        await switch.ask(switch.gathering.expire)
        await taken(net, "diana")
        channels = [c for c in switch.channels.values() if c.htlcs.remote]
        assert len(channels) == 2
        assert all(h.outcome is not None for c in channels for h in c.htlcs.remote.values())
        assert received(net, "diana", invoice) == AMOUNT
