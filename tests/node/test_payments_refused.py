"""What each hop refuses, whom the payer blames for it, and which other way it takes (BOLT 4)."""

from collections.abc import Callable
from itertools import count
from pathlib import Path

import msgspec
import pytest

from gossip.announcing import channel_update
from gossip.graph import Policy
from htlc.relay import Exit, Toll
from node.daemon.paying import PaymentFailed, Wanted
from node.daemon.payments import Status
from node.daemon.turn import Turn
from tests.bolt import bolt
from tests.node.line import Network, bent, line, network
from tests.node.payments import (
    AMOUNT,
    DETAILS,
    attempts,
    failure_of,
    set_toll,
    settle,
)
from wire.codec import Message
from wire.crypto import secp256k1
from wire.crypto.hashes import sha256
from wire.messages.channel import UpdateAddHtlc, UpdateFailHtlc
from wire.units import Msat


@bolt("payload.1", "failures.1", "failures.2", "failures.4")
@pytest.mark.parametrize(
    ("toll", "code"),
    [
        (Toll(fee_base_msat=Msat(1001)), "fee_insufficient"),
        (Toll(fee_proportional_millionths=1000), "fee_insufficient"),
        (Toll(cltv_expiry_delta=35), "incorrect_cltv_expiry"),
        (Toll(htlc_minimum_msat=Msat(2 * AMOUNT)), "amount_below_minimum"),
        (Toll(htlc_maximum_msat=Msat(AMOUNT - 1)), "temporary_channel_failure"),
    ],
)
@pytest.mark.parametrize(("hop", "pair"), [(1, ("bob", "carol")), (2, ("carol", "diana"))])
async def test_a_toll_that_was_raised_behind_the_payers_back(
    tmp_path: Path, toll: Toll, code: str, hop: int, pair: tuple[str, str]
) -> None:
    async with line(tmp_path, "alice bob carol diana") as net:
        set_toll(net, *pair, toll)
        failed = await failure_of(net, "alice", "diana")
        assert (failed.reason, failed.attempts) == (f"{code}, says hop {hop}", 1)
        [attempt] = attempts(net["alice"])
        assert (attempt.status, attempt.why) == (Status.FAILED, failed.reason)
        await settle(net)
        assert net["alice"].channel_balance_msat == 5_000_000_000
        # a toll that was lowered again, or is not undercut, is no hindrance
        set_toll(net, *pair, Toll(fee_base_msat=Msat(1), cltv_expiry_delta=1))
        await net.pay("alice", "diana", AMOUNT)


@bolt("failures.4")
async def test_a_next_peer_that_nobody_knows(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob carol") as net:
        del net["bob"].switch.by_scid[net.short_channel_id("bob", "carol")]
        failed = await failure_of(net, "alice", "carol")
        assert failed.reason == "unknown_next_peer, says hop 1"
        await settle(net)


@bolt("failures.4")
async def test_a_next_peer_that_is_away(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob carol diana") as net:
        invoice = await net["diana"].add_invoice(Msat(AMOUNT))
        diana = net["diana"]
        await net.stop("diana")
        with pytest.raises(PaymentFailed, match="temporary_channel_failure, says hop 2"):
            await net["alice"].pay(diana.node_id, invoice.payment_hash, invoice.payment_secret, Msat(AMOUNT))


@bolt("failures.4")
async def test_a_next_channel_that_holds_too_little(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob carol") as net:
        await net.pay("bob", "carol", 4_800_000_000)
        failed = await failure_of(net, "alice", "carol", 500_000_000)
        assert failed.reason == "temporary_channel_failure, says hop 1"
        await net.pay("carol", "bob", 1_000_000_000)
        await net.pay("alice", "carol", 500_000_000)
        await settle(net)


@bolt("failures.4", "forwarding-safety.3")
async def test_time_locks_that_are_too_near_or_too_far(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob carol") as net:
        invoice = await net["carol"].add_invoice(Msat(AMOUNT), min_final_cltv_expiry_delta=1)
        wanted = Wanted(
            net["carol"].node_id, invoice.payment_hash, Msat(AMOUNT), payment_secret=invoice.payment_secret
        )
        soon = msgspec.structs.replace(wanted, final_cltv_expiry_delta=3, margin_blocks=0)
        with pytest.raises(PaymentFailed, match="expiry_too_soon, says hop 1"):
            await net["alice"].payer.pay(soon)
        net["bob"].switch.height -= 1
        far = msgspec.structs.replace(wanted, final_cltv_expiry_delta=2016 - 34, margin_blocks=0)
        with pytest.raises(PaymentFailed, match="expiry_too_far, says hop 1"):
            await net["alice"].payer.pay(far)
        net["bob"].switch.height += 1
        await net["alice"].payer.pay(far)
        await settle(net)


@bolt("payload.3", "failures.3")
async def test_the_payee_wants_time_too(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob carol") as net:
        invoice = await net["carol"].add_invoice(Msat(AMOUNT), min_final_cltv_expiry_delta=30)
        wanted = Wanted(
            net["carol"].node_id,
            invoice.payment_hash,
            Msat(AMOUNT),
            payment_secret=invoice.payment_secret,
            final_cltv_expiry_delta=29,
            margin_blocks=0,
        )
        with pytest.raises(PaymentFailed, match=DETAILS):
            await net["alice"].payer.pay(wanted)
        await net["alice"].payer.pay(msgspec.structs.replace(wanted, final_cltv_expiry_delta=30))


def changed(**fields: object) -> Callable[[Message], Message]:
    """Every add with other fields than the node means to send."""

    def bend(message: Message) -> Message:
        return msgspec.structs.replace(message, **fields) if isinstance(message, UpdateAddHtlc) else message

    return bend


@bolt("removing.2", "removing.3", "processing.1", "update_add_htlc.4")
@pytest.mark.parametrize(
    ("onion", "code"),
    [
        (b"\x01" + bytes(1365), "invalid_onion_version"),
        (bytes(1366), "invalid_onion_key"),
        (b"\0" + secp256k1.point_of(sha256(b"x")) + bytes(1332), "invalid_onion_hmac"),
    ],
)
@pytest.mark.parametrize("payee", ["bob", "diana"])
async def test_an_onion_that_cannot_be_read(tmp_path: Path, onion: bytes, code: str, payee: str) -> None:
    async with line(tmp_path, "alice bob carol diana") as net:
        # the node before the one that cannot read it reports it, or finds out itself
        bent(net["alice" if payee == "bob" else "bob"], changed(onion_routing_packet=onion))
        failed = await failure_of(net, "alice", payee)
        assert failed.reason == f"{code}, says hop 1"
        await settle(net)


@bolt("failures.2")
async def test_a_failure_that_nobody_can_read(tmp_path: Path) -> None:
    def garble(message: Message) -> Message:
        if not isinstance(message, UpdateFailHtlc):
            return message
        return msgspec.structs.replace(message, reason=bytes(len(message.reason)))

    async with line(tmp_path, "alice bob carol") as net:
        bent(net["bob"], garble)
        failed = await failure_of(net, "alice", "carol", payment_secret=bytes(32))
        assert failed.reason == "a failure came back that nobody can read"
        await settle(net)


# --- other ways


DIAMOND = [("alice", "bob"), ("alice", "carol"), ("bob", "diana"), ("carol", "diana")]
CHEAP, DEAR = Toll(fee_base_msat=Msat(10)), Toll(fee_base_msat=Msat(5000))


async def diamond(net: Network) -> None:
    """Two ways from Alice to Diana, that over Bob the cheaper one."""
    await net.start("alice", "diana")
    await net.start("bob", toll=CHEAP)
    await net.start("carol", toll=DEAR)
    await net.join(DIAMOND)


@pytest.mark.parametrize("trouble", ["toll", "unknown", "away", "balance", "unreadable"])
@bolt("failures.4")
async def test_the_second_way_is_taken_when_the_first_fails(tmp_path: Path, trouble: str) -> None:
    async with network(tmp_path) as net:
        await diamond(net)
        first = await net.pay("alice", "diana", AMOUNT)
        assert first.route[0] == net["bob"].node_id
        await net.wait_for_quiet()
        amount_msat = AMOUNT
        match trouble:
            case "toll":
                set_toll(net, "bob", "diana", DEAR)
            case "unknown":
                del net["bob"].switch.by_scid[net.short_channel_id("bob", "diana")]
            case "away":
                await net["bob"].disconnect(net["diana"].node_id)
            case "balance":
                await net.pay("bob", "diana", 4_000_000_000)
                amount_msat = 1_000_000_000
            case "unreadable":
                bent(net["bob"], changed(onion_routing_packet=bytes(1366)))
        second = await net.pay("alice", "diana", amount_msat)
        assert second.route[0] == net["carol"].node_id
        assert second.attempts == 2
        assert [row.status for row in attempts(net["alice"])] == [
            Status.COMPLETE,
            Status.FAILED,
            Status.COMPLETE,
        ]


def told_in_failures(net: Network, a: str, b: str, fee_base_msat: int, signer: str = "") -> Policy:
    """Let `a` ask for more, and say so to those alone who pay too little; what the others know."""
    scid, node = net.short_channel_id(a, b), net[a]
    direction = int(node.node_id > net[b].node_id)
    known = net["alice"].graph.policy(scid, direction)
    assert known is not None
    set_toll(net, a, b, Toll(fee_base_msat=Msat(fee_base_msat)))
    policy = msgspec.structs.replace(known, fee_base_msat=Msat(fee_base_msat), timestamp=known.timestamp + 1)
    sign = net[signer or a].sign_digest
    node.switch.channel_updates[scid] = channel_update(
        policy, node.switch.house.chain_hash, scid, direction, sign, is_announced=True
    )
    return known


@bolt("failures.2", "failures.4")
async def test_what_a_failure_tells_counts_for_its_payment_alone(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob carol") as net:
        known = told_in_failures(net, "bob", "carol", 7000)
        scid = net.short_channel_id("bob", "carol")
        for _ in range(2):
            # nothing of the first payment is left for the second
            payment = await net.pay("alice", "carol", AMOUNT)
            assert (payment.attempts, payment.fee_msat) == (2, 7100)
            assert known in (net["alice"].graph.policy(scid, 0), net["alice"].graph.policy(scid, 1))
        failed = await failure_of(net, "alice", "carol", max_fee_msat=Msat(7099))
        assert (failed.reason, failed.attempts) == ("fee_insufficient, says hop 1", 1)
        await settle(net)


@bolt("failures.2")
async def test_what_a_failure_tells_must_be_signed_by_who_asks_for_it(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob carol") as net:
        told_in_failures(net, "bob", "carol", 7000, signer="carol")
        failed = await failure_of(net, "alice", "carol")
        assert (failed.reason, failed.attempts) == ("fee_insufficient, says hop 1", 1)
        await settle(net)


@bolt("failures.2")
async def test_a_hop_that_asks_for_ever_more_is_left_alone_in_the_end(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob carol") as net:
        fees = count(2000, 1000)
        told_in_failures(net, "bob", "carol", next(fees))
        bob, scid = net["bob"], net.short_channel_id("bob", "carol")
        exit_of = Turn.exit_of

        def greedy(turn: Turn, short_channel_id: int) -> Exit | None:
            if turn.switch is bob.switch and short_channel_id == scid:
                told_in_failures(net, "bob", "carol", next(fees))
            return exit_of(turn, short_channel_id)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Turn, "exit_of", greedy)
            failed = await failure_of(net, "alice", "carol")
        assert (failed.reason, failed.attempts) == ("fee_insufficient, says hop 1", 20)
        await settle(net)


async def test_no_way_is_taken_that_costs_more_than_the_payer_allows(tmp_path: Path) -> None:
    async with network(tmp_path) as net:
        await diamond(net)
        set_toll(net, "bob", "diana", Toll(fee_base_msat=Msat(100)))
        failed = await failure_of(net, "alice", "diana", max_fee_msat=Msat(DEAR.fee_msat(Msat(AMOUNT)) - 1))
        assert (failed.reason, failed.attempts) == ("fee_insufficient, says hop 1", 1)
        payment = await net.pay("alice", "diana", AMOUNT, max_fee_msat=DEAR.fee_msat(Msat(AMOUNT)))
        assert payment.fee_msat == DEAR.fee_msat(Msat(AMOUNT))
        failed = await failure_of(net, "alice", "diana", max_fee_msat=Msat(0))
        assert failed.attempts == 0
        await net.pay("alice", "bob", AMOUNT, max_fee_msat=Msat(0))
        await settle(net)


async def test_our_own_channel_that_is_full_is_passed_by(tmp_path: Path) -> None:
    async with network(tmp_path) as net:
        await diamond(net)
        await net.pay("alice", "bob", 4_500_000_000)
        payment = await net.pay("alice", "diana", 1_000_000_000)
        assert (payment.route[0], payment.attempts) == (net["carol"].node_id, 1)
        await settle(net)
