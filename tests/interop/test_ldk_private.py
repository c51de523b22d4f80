"""Channels between Rill and LDK that nobody else hears of, with and without option_scid_alias."""

import pytest

from htlc.opening import ANCHORS_TYPE
from node.daemon.node import Node
from tests.interop.ldk_peer import LdkPeer
from tests.interop.stage import CAPACITY_SAT, HOST, PUSH_MSAT, Stage, of_type
from wire import bolt11
from wire.features import ANCHORS, SCID_ALIAS, STATIC_REMOTEKEY, ZEROCONF, Features
from wire.units import Msat

pytestmark = pytest.mark.slow

SECRET = Features.of(STATIC_REMOTEKEY, ANCHORS, SCID_ALIAS).to_bytes()
EARLY = Features.of(STATIC_REMOTEKEY, ANCHORS, SCID_ALIAS, ZEROCONF).to_bytes()


async def pay_both_ways(rill: Node, ldk: LdkPeer) -> None:
    await rill.pay_invoice((await ldk("invoice", msat=5_000_000, desc="to them"))["bolt11"])
    row = await rill.add_invoice(Msat(7_000_000), "to us")
    assert (await ldk("pay", bolt11=rill.bolt11(row)))["status"] == "sent"


@pytest.mark.parametrize("scid_alias", [0, 1], ids=["open", "secret"])
async def test_private_channels_of_either_opener(stage: Stage, scid_alias: int) -> None:
    """LDK public – Rill – LDK private: what we were named in its invoice we pass on."""
    public, private = await stage.ldk("public"), await stage.ldk("private", scid_alias=scid_alias)
    rill = await stage.rill("ours")
    await stage.open_public(rill, public)
    await stage.connect(rill, private)
    channel_type = SECRET if scid_alias else ANCHORS_TYPE
    await rill.open_channel(
        private.node_id, CAPACITY_SAT, PUSH_MSAT, is_announced=False, channel_type=channel_type
    )
    here = {"id": rill.node_id.hex(), "sat": CAPACITY_SAT, "push_msat": PUSH_MSAT}
    await private("open_channel", announced=False, **here)
    await stage.confirm(3)
    await stage.usable(rill, 3)
    secret = [channel for channel in rill.channels() if not channel.charter.is_announced]
    assert of_type(secret) == {channel_type}
    await pay_both_ways(rill, private)

    for peer in (public, private):
        await peer.until("list_graph", lambda graph: graph["channels"] == graph["directions"] // 2 == 1)
    assert sum(channel.is_announced for channel in rill.graph.channels.values()) == 1
    invoice = await private("invoice", msat=100_000_000, desc="over us, by alias")
    assert (await private("decode", bolt11=invoice["bolt11"]))["hints"] > 0
    assert (await public("pay", bolt11=invoice["bolt11"]))["status"] == "sent"
    row = await stage.ours["ours"].add_invoice(Msat(3_000_000), "from a private channel")
    assert (await private("pay", bolt11=rill.bolt11(row)))["status"] == "sent"
    assert rill.switch.ledger.fees_msat > 0


async def test_each_is_reached_over_a_private_channel_by_the_hint_of_its_invoice(stage: Stage) -> None:
    """LDK one – LDK two – Rill: of either end nobody knows but by what it says itself."""
    one, two, rill = await stage.ldk("one"), await stage.ldk("two"), await stage.rill("ours")
    await one("connect", id=two.node_id.hex(), host=HOST, port=two.port)
    await one("open_channel", id=two.node_id.hex(), sat=CAPACITY_SAT, push_msat=PUSH_MSAT, announced=False)
    await stage.connect(rill, two)
    await rill.open_channel(two.node_id, CAPACITY_SAT, PUSH_MSAT, is_announced=False)
    await stage.confirm(2)
    await stage.usable(rill, 1)
    [private] = rill.channels()
    assert private.charter.channel_type == SECRET
    assert private.graph_id is not None
    direction = int(two.node_id > rill.node_id)
    await stage.graph(rill, lambda graph: graph.policy(private.graph_id or 0, direction) is not None)
    await one.until("list_channels", lambda channels: channels[0]["usable"])
    invoice = rill.bolt11(await rill.add_invoice(Msat(9_000_000), "over a private channel"))
    [[hop]] = bolt11.decode(invoice).route_hints
    assert (hop.pubkey, hop.short_channel_id) == (two.node_id, private.aliases.remote)
    assert (await one("pay", bolt11=invoice))["status"] == "sent"

    await one.until("list_channels", lambda channels: channels[0]["scid_alias_in"])
    asked = await one("invoice", msat=4_000_000, desc="the other way")
    [[hop]] = bolt11.decode(asked["bolt11"]).route_hints
    assert hop.pubkey == two.node_id
    paid = await rill.pay_invoice(asked["bolt11"])
    assert paid.route == (two.node_id, one.node_id)
    await stage.quiet(rill)


async def test_channels_that_need_no_block(stage: Stage) -> None:
    """Ours has the type for it, theirs is trusted all the same."""
    ldk = await stage.ldk("theirs", zero_conf=1, onion_messages=1)
    rill = await stage.rill("ours", zeroconf_peers=frozenset([ldk.node_id]))
    await stage.connect(rill, ldk)
    await rill.open_channel(ldk.node_id, CAPACITY_SAT, PUSH_MSAT, is_announced=False, channel_type=EARLY)
    await ldk("open_channel", id=rill.node_id.hex(), sat=CAPACITY_SAT, push_msat=PUSH_MSAT, announced=True)
    await stage.usable(rill, 2)
    assert [channel.short_channel_id for channel in rill.channels()] == [None, None]
    await pay_both_ways(rill, ldk)
    # what has a place at last is announced, and the payments go on
    await stage.confirm(2)
    await ldk.until("list_graph", lambda graph: graph["directions"] == 2)
    await stage.graph(
        rill, lambda graph: sum(channel.is_announced for channel in graph.channels.values()) == 1
    )
    await pay_both_ways(rill, ldk)
    await stage.quiet(rill)
