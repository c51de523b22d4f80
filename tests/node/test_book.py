"""The example of the book: Alice pays Eric 1 BTC over Bob, Carol and Diana, to the satoshi.

Every channel holds 4 BTC, half on each side. Each of the three in the middle asks 0.001 BTC and one
block, and Eric seven blocks, so the HTLCs carry 1.003, 1.002, 1.001 and 1 BTC and expire 10, 9, 8
and 7 blocks ahead.
"""

from itertools import pairwise
from pathlib import Path

from htlc.relay import Toll
from node.daemon.paying import Wanted
from tests.bolt import bolt
from tests.node.line import Network, line, sent_by
from wire.messages.channel import UpdateAddHtlc
from wire.units import Msat, Sat

NAMES = "alice bob carol diana eric"
BITCOIN_SAT = 100_000_000
BITCOIN_MSAT = 1000 * BITCOIN_SAT
TOLL = Toll(fee_base_msat=Msat(BITCOIN_MSAT // 1000), fee_proportional_millionths=0, cltv_expiry_delta=1)


def htlcs_in_flight(net: Network, names: list[str]) -> list[tuple[float, int]]:
    """The HTLCs in both commitments of each channel of the line: bitcoin and cltv_expiry."""
    found = []
    for a, b in pairwise(names):
        [offered], [received] = (
            net.channel(a, b).htlcs.local.values(),
            net.channel(b, a).htlcs.remote.values(),
        )
        assert offered.is_locked_in
        assert received.is_locked_in
        assert (offered.amount_msat, offered.cltv_expiry) == (received.amount_msat, received.cltv_expiry)
        found.append((offered.amount_msat / BITCOIN_MSAT, offered.cltv_expiry))
    return found


@bolt("open_channel.2", "payload.1", "forwarding-safety.1", "forwarding-safety.2")
async def test_alice_pays_eric_one_bitcoin_as_the_book_tells(tmp_path: Path) -> None:
    capacity_sat, push_msat = Sat(4 * BITCOIN_SAT), Msat(2 * BITCOIN_MSAT)
    async with line(tmp_path, NAMES, toll=TOLL, capacity_sat=capacity_sat, push_msat=push_msat) as net:
        names = NAMES.split()
        height = (await net.chain.tip()).height
        sent = [sent_by(net[name]) for name in names[:-1]]
        in_flight: list[tuple[float, int]] = []
        net["eric"].on_settled(lambda *_: in_flight.extend(htlcs_in_flight(net, names)))
        invoice = await net["eric"].add_invoice(Msat(BITCOIN_MSAT), min_final_cltv_expiry_delta=7)

        payment = await net["alice"].payer.pay(
            Wanted(
                net["eric"].node_id,
                invoice.payment_hash,
                Msat(BITCOIN_MSAT),
                payment_secret=invoice.payment_secret,
                final_cltv_expiry_delta=7,
                margin_blocks=0,
            )
        )
        await net.wait_for_quiet()

        adds = [message for by_node in sent for _, message in by_node if isinstance(message, UpdateAddHtlc)]
        assert [add.amount_msat / BITCOIN_MSAT for add in adds] == [1.003, 1.002, 1.001, 1]
        assert [add.cltv_expiry - height for add in adds] == [10, 9, 8, 7]
        assert {add.payment_hash for add in adds} == {invoice.payment_hash}
        assert in_flight == [(1.003, height + 10), (1.002, height + 9), (1.001, height + 8), (1, height + 7)]
        assert payment.preimage == invoice.payment_preimage
        assert payment.route == tuple(net[name].node_id for name in names[1:])
        assert payment.fee_msat == 3 * BITCOIN_MSAT // 1000

        balances = [net.channel(a, b).settled_msat for a, b in pairwise(names)]
        assert [(pair.local, pair.remote) for pair in balances] == [
            (99_700_000_000, 300_300_000_000),
            (99_800_000_000, 300_200_000_000),
            (99_900_000_000, 300_100_000_000),
            (100_000_000_000, 300_000_000_000),
        ]
        earned = [net[name].switch.ledger.fees_msat for name in names]
        assert earned == [0, *3 * [BITCOIN_MSAT // 1000], 0]
        net.check_conserved()
