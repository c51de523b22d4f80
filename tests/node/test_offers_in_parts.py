"""Invoices with several blinded paths: paid in parts over them, and given up soon if their payee refuses."""

from pathlib import Path

import pytest
import trio

from node.daemon import planning
from tests.bolt import bolt
from tests.node.line import CAPACITY_SAT, Network, network, until
from tests.node.payments import settle
from tests.node.rpc_stage import Client
from tests.node.test_offers import offer_of
from wire.units import msat

MUCH_MSAT = msat(CAPACITY_SAT * 3 // 4)
FRONTS = ("bob", "bella", "ben")


async def with_many_ways_in(net: Network) -> tuple[Client, Client]:
    """Carol is known to her peers alone, each of which has a channel with Alice too."""
    await net.start("alice", *FRONTS)
    await net.join([("alice", front) for front in FRONTS])
    await net.start("carol")
    await net.join([(front, "carol") for front in FRONTS], is_announced=False, channel_type=None)
    carol = net["carol"]
    await until(lambda: len(carol.graph.policies) >= 2 * len(FRONTS))
    return Client(net["alice"]), Client(net["carol"])


@bolt("b12-offers.5", "blinded-paths.5")
@pytest.mark.parametrize("is_large", [False, True], ids=["by hand", "on a chart"])
async def test_what_no_path_carries_alone_is_paid_over_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_large: bool
) -> None:
    if is_large:
        # as in a network of mainnet's size
        monkeypatch.setattr(planning, "MOST_CHANNELS_BY_HAND", 0)
        monkeypatch.setattr(planning, "_PATIENCE", 0)
    async with network(tmp_path) as net:
        alice, carol = await with_many_ways_in(net)
        offer = await offer_of(carol, MUCH_MSAT)
        shown = await alice.call("decode", string=offer["bolt12"])
        assert len(shown["offer_paths"]) == len(FRONTS)
        invoice = (await alice.call("fetchinvoice", offer=offer["bolt12"]))["invoice"]
        prices = [p["payinfo"] for p in (await alice.call("decode", string=invoice))["invoice_paths"]]
        assert len(prices) == len(FRONTS)
        assert max(price["htlc_maximum_msat"] for price in prices) < MUCH_MSAT
        paid = await alice.call("pay", bolt11=invoice)
        assert (paid["amount_msat"], paid["parts"] > 1) == (MUCH_MSAT, True)
        [row] = (await carol.call("listinvoices"))["invoices"]
        assert row["amount_received_msat"] >= MUCH_MSAT
        await settle(net)


@bolt("blinded-paths.6")
async def test_a_payee_behind_paths_that_refuses_is_soon_left_alone(tmp_path: Path) -> None:
    async with network(tmp_path) as net:
        alice, carol = await with_many_ways_in(net)
        offer = await offer_of(carol, MUCH_MSAT // 8)
        invoice = (await alice.call("fetchinvoice", offer=offer["bolt12"]))["invoice"]
        [row] = (await carol.call("listinvoices"))["invoices"]
        await carol.call("delinvoice", label=row["label"], status="unpaid")
        failed = await alice.error("xpay", invstring=invoice)
        assert failed["message"].startswith("invalid_onion_blinding")
        assert failed["data"]["sendpay_tries"] <= 4 * len(FRONTS)
        await settle(net)


async def test_a_part_of_an_invoice_is_paid_by_another(tmp_path: Path) -> None:
    async with network(tmp_path) as net:
        alice, carol = await with_many_ways_in(net)
        bob = Client(net["bob"])
        offer = await offer_of(carol, 100_000_000)
        invoice = (await alice.call("fetchinvoice", offer=offer["bolt12"]))["invoice"]
        results = []

        async def pay(client: Client, part_msat: int) -> None:
            results.append(await client.call("xpay", invstring=invoice, partial_msat=part_msat))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(pay, alice, 60_000_000)
            nursery.start_soon(pay, bob, 40_000_000)
        assert len({paid["payment_preimage"] for paid in results}) == 1
        await settle(net)
