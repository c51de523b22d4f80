"""Offers of nodes that nobody can find, or that do not want to be found; and messages that find no way."""

from pathlib import Path

from msgspec.structs import replace

from gossip.message_routes import message_route
from node.daemon.invoice_fetching import Wish
from node.daemon.node import Node
from node.daemon.offer_ticket import read_ticket
from tests.bolt import bolt
from tests.node.line import Network, line, network, until
from tests.node.payments import settle
from tests.node.rpc_stage import Client, clients
from tests.node.test_offers import AMOUNT_MSAT, offer_of
from wire.bolt12.forms import Offer, read_form
from wire.bolt12.text import decode_text
from wire.features import ONION_MESSAGES, OUR_INIT

WITHOUT_MESSAGES = OUR_INIT.without(ONION_MESSAGES)


async def with_a_private_end(net: Network) -> tuple[Client, Client, Client]:
    """Alice and Bob are known to all, Carol to Bob alone."""
    await net.start("alice", "bob")
    await net.join([("alice", "bob")])
    await net.start("carol")
    await net.join([("bob", "carol")], is_announced=False, channel_type=None)
    # what Bob asks for passing on to her is in no announcement
    carol = net["carol"]
    await until(lambda: len(carol.graph.policies) >= 2)
    return Client(net["alice"]), Client(net["bob"]), Client(net["carol"])


@bolt("b12-offers.3", "b12-offers.5", "blinded-paths.1")
async def test_a_private_node_is_reached_over_its_peer(tmp_path: Path) -> None:
    async with network(tmp_path) as net:
        alice, bob, carol = await with_a_private_end(net)
        made = await offer_of(carol)
        offer = read_form(Offer, made["bolt12"])
        assert offer.offer_paths is not None
        assert [path.first_node_id for path in offer.offer_paths] == [net["bob"].node_id]
        # nothing in it, nor in its invoices, tells who she is
        assert net["carol"].node_id not in bytes.fromhex(_raw(made["bolt12"]))
        assert not (await offer_of(carol))["created"]
        invoice = (await alice.call("fetchinvoice", offer=made["bolt12"]))["invoice"]
        assert net["carol"].node_id not in bytes.fromhex(_raw(invoice))
        paid = await alice.call("pay", bolt11=invoice)
        assert paid["destination"] == (offer.offer_issuer_id or b"").hex()
        # the peer itself is at the beginning of every path
        await bob.call("xpay", invstring=made["bolt12"])
        assert [row["status"] for row in (await carol.call("listinvoices"))["invoices"]] == ["paid", "paid"]
        await settle(net)


@bolt("b12-offers.4")
async def test_who_does_not_come_by_the_path_gets_no_answer(tmp_path: Path) -> None:
    async with network(tmp_path) as net:
        alice, bob, carol = await with_a_private_end(net)
        offer = read_form(Offer, (await offer_of(carol))["bolt12"])
        fetcher = net["bob"].offers.fetcher
        request = fetcher.request_for(offer, Wish())
        node: Node = net["carol"]
        assert node.offers.desk._row_for(request, None) is None
        assert node.offers.desk._row_for(request, bytes(32)) is None
        public = read_form(Offer, (await offer_of(bob))["bolt12"])
        request = net["alice"].offers.fetcher.request_for(public, Wish())
        assert net["bob"].offers.desk._row_for(request, None) is not None
        assert net["bob"].offers.desk._row_for(request, bytes(32)) is None
        assert alice.id


async def test_a_public_node_may_hide_behind_the_peers_that_it_names(tmp_path: Path) -> None:
    async with clients(tmp_path, "alice bob carol") as (net, [alice, bob, carol]):
        made = await offer_of(carol, fronting_nodes=[bob.id])
        assert made["force_paths"]
        assert carol.id not in _raw(made["bolt12"])
        invoice = (await alice.call("fetchinvoice", offer=made["bolt12"]))["invoice"]
        assert carol.id not in _raw(invoice)
        shown = await alice.call("decode", string=invoice)
        assert [path["first_node_id"] for path in shown["invoice_paths"]] == [bob.id]
        await alice.call("pay", bolt11=invoice)
        open_one = await offer_of(carol, fronting_nodes=[])
        assert (await alice.call("decode", string=open_one["bolt12"]))["offer_issuer_id"] == carol.id
        assert (await carol.error("offer", amount=1, description="", fronting_nodes=["x"]))["code"] == -32602
        await settle(net)


@bolt("onion-messages.1")
async def test_where_no_messages_pass_the_issuer_is_called(tmp_path: Path) -> None:
    async with network(tmp_path) as net:
        await net.start("alice", "carol")
        await net.start("bob", features=WITHOUT_MESSAGES)
        await net.join([("alice", "bob"), ("bob", "carol")])
        alice, carol = Client(net["alice"]), Client(net["carol"])
        offer = (await offer_of(carol))["bolt12"]
        node = net["alice"]
        node.config = replace(node.config, may_call_for_invoices=False)
        refused = await alice.error("fetchinvoice", offer=offer)
        assert refused["code"] == 1003
        node.config = replace(node.config, may_call_for_invoices=True)
        await alice.call("xpay", invstring=offer)
        assert net["carol"].node_id in net["alice"].switch.peers
        await settle(net)


async def test_nobody_buys_from_himself_or_from_nowhere(tmp_path: Path) -> None:
    async with clients(tmp_path, "alice bob") as (net, [alice, bob]):
        own = (await offer_of(alice))["bolt12"]
        assert (await alice.error("fetchinvoice", offer=own))["code"] == 1003
        offer = (await offer_of(bob))["bolt12"]
        await net.stop("bob")
        assert (await alice.error("fetchinvoice", offer=offer, timeout=30))["code"] == 1003


async def test_an_invoice_and_an_offer_outlive_a_restart(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob") as net:
        alice, bob = Client(net["alice"]), Client(net["bob"])
        offer = (await offer_of(bob, label="kept"))["bolt12"]
        first = (await alice.call("fetchinvoice", offer=offer))["invoice"]
        path_id = next(iter(net["bob"].switch.invoices.rows.values())).payment_secret
        assert read_ticket(path_id, net["bob"].signer) is not None
        assert read_ticket(path_id, net["alice"].signer) is None
        assert read_ticket(path_id[:-1] + bytes([path_id[-1] ^ 1]), net["bob"].signer) is None
        await net.stop("bob")
        await net.start("bob")
        await net.connect("alice", "bob")
        payer = net["alice"].payer
        await until(lambda: bool(payer.spendable()))
        bob = Client(net["bob"])
        [shown] = (await bob.call("listoffers"))["offers"]
        assert (shown["label"], shown["bolt12"], shown["used"]) == ("kept", offer, False)
        [invoice] = (await bob.call("listinvoices"))["invoices"]
        assert invoice["bolt12"] == first
        assert (await alice.call("pay", bolt11=first))["amount_msat"] == AMOUNT_MSAT
        await alice.call("xpay", invstring=offer)
        await settle(net)


async def test_a_message_takes_the_fewest_nodes_that_pass_it_on(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob carol diana") as net:
        graph, ids = net["alice"].graph, {name: net[name].node_id for name in net.nodes}
        alice, bob, carol, diana = ids.values()
        assert message_route(graph, {bob}, diana) == (bob, carol, diana)
        assert message_route(graph, {bob, carol}, diana) == (carol, diana)
        assert message_route(graph, {diana}, diana) == (diana,)
        assert message_route(graph, {bob}, diana, excluded={carol}) is None
        assert message_route(graph, set(), diana) is None
        assert message_route(graph, {bob}, bytes(33)) is None
        assert alice not in (message_route(graph, {bob}, diana) or ())


def _raw(text: str) -> str:
    return decode_text(text)[1].hex()
