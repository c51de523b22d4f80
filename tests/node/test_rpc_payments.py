"""Commands about paying and being paid: replies and refusals as Core Lightning has them."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from node.daemon.gathering import PATIENCE_SECONDS
from node.daemon.paying import PaymentFailed
from onion.payload import HopPayload, encode_payload
from tests.bolt import bolt
from tests.node.line import Held, Network, line, network, until
from tests.node.payments import TOLL, set_toll, settle
from tests.node.rpc_fields import check
from tests.node.rpc_stage import Client, clients
from wire import bolt11
from wire.crypto.hashes import sha256
from wire.scid import text_of
from wire.tlv import write_bigsize
from wire.units import Msat

AMOUNT_MSAT = 50_000
PREIMAGE = bytes(range(32))


async def paid_by(client: Client, invoice: str, **options: Any) -> dict[str, Any]:
    paid: dict[str, Any] = await client.call("pay", bolt11=invoice, **options)
    return paid


# --- invoices


async def test_an_invoice_says_what_it_was_asked_to(tmp_path: Path) -> None:
    async with clients(tmp_path, "alice bob") as (net, [alice, bob]):
        address = (await bob.call("newaddr", addresstype="all"))["p2tr"]
        options = {"deschashonly": True, "cltv": 77, "expiry": 60, "fallbacks": [address]}
        asked = await bob.call(
            "invoice", amount_msat="any", label=1, description="secret", preimage=PREIMAGE.hex(), **options
        )
        read = await alice.call("decode", string=asked["bolt11"])
        assert read["description_hash"] == sha256(b"secret").hex()
        assert (read["min_final_cltv_expiry"], read["expiry"]) == (77, 60)
        assert [each["addr"] for each in read["fallbacks"]] == [address]
        assert read["payment_hash"] == asked["payment_hash"] == sha256(PREIMAGE).hex()
        assert check("decode bolt11", read)["valid"]
        wrong = await alice.error("pay", bolt11=asked["bolt11"], amount_msat=1000, description="other")
        assert wrong["code"] == -32602
        paid = await paid_by(alice, asked["bolt11"], amount_msat=1000, description="secret")
        assert paid["payment_preimage"] == PREIMAGE.hex()
        [mine] = (await alice.call("listpays"))["pays"]
        assert mine["description"] == "secret"
        again = {"amount_msat": 1, "label": 2, "description": "", "preimage": PREIMAGE.hex()}
        assert await bob.code("invoice", again) == 901
        assert await bob.code("invoice", {**again, "fallbacks": ["nowhere"]}) == -32602
        await settle(net)


async def test_an_invoice_that_cannot_be_paid_is_made_with_a_warning(tmp_path: Path) -> None:
    async with clients(tmp_path, "alice bob") as (net, [_, bob]):
        much = await bob.call("invoice", amount_msat="1btc", label="a", description="")
        assert "warning_capacity" in much
        little = await bob.call("invoice", amount_msat=1, label="b", description="")
        assert not [name for name in little if name.startswith("warning")]
        await net.stop("alice")
        late = await bob.call("invoice", amount_msat=1, label="c", description="")
        assert "warning_offline" in late


async def test_an_invoice_is_deleted_by_its_status(tmp_path: Path) -> None:
    async with clients(tmp_path, "alice bob") as (_, [alice, bob]):
        for label in ("a", "b", "c"):
            await bob.call("invoice", amount_msat=1000, label=label, description=label)
        assert await bob.code("delinvoice", ["nosuch", "unpaid"]) == 905
        wrong = await bob.error("delinvoice", label="a", status="paid")
        assert wrong["code"] == 906
        assert wrong["data"] == {"current_status": "unpaid", "expected_status": "paid"}
        bare = await bob.call("delinvoice", label="a", status="unpaid", desconly=True)
        assert bare["description"] == ""
        assert (await bob.error("delinvoice", label="a", status="unpaid", desconly=True))["code"] == 908
        gone = check("delinvoice", await bob.call("delinvoice", label="a", status="unpaid"))
        assert await alice.code("pay", [gone["bolt11"]]) == 203
        shown = (await bob.call("listinvoices", index="created", start=2, limit=1))["invoices"]
        assert [row["label"] for row in shown] == ["b"]
        assert await bob.code("listinvoices", {"index": "deleted"}) == -32602


# --- the account of every attempt


async def test_the_account_says_which_hop_refused_and_why(tmp_path: Path) -> None:
    async with clients(tmp_path, "alice bob carol diana") as (net, [alice, bob, carol, diana]):
        set_toll(net, "carol", "diana", type(TOLL)(fee_base_msat=Msat(5000)))
        asked = await diana.call("invoice", amount_msat=AMOUNT_MSAT, label="one", description="")
        failed = await alice.error("xpay", invstring=asked["bolt11"])
        assert (failed["code"], failed["message"]) == (209, "fee_insufficient, says hop 2")
        [attempt] = failed["data"]["attempts"]
        assert check("attempt", attempt)["failure"]["message"] == "fee_insufficient, says hop 2"
        told = check("failure", attempt["failure"]["data"])
        name = (await carol.call("listpeerchannels", id=diana.id))["channels"][0]["short_channel_id"]
        assert (told["failcode"], told["failcodename"]) == (0x100C, "WIRE_FEE_INSUFFICIENT")
        assert (told["erring_index"], told["erring_node"]) == (2, carol.id)
        assert (told["erring_channel"], told["erring_direction"]) == (name, int(carol.id > diana.id))
        assert bytes.fromhex(told["raw_message"])[:2] == b"\x10\x0c"
        assert [hop["id"] for hop in attempt["route"]] == [bob.id, carol.id, diana.id]

        [row] = (await alice.call("listpays", status="failed"))["pays"]
        assert row["attempts"] == [attempt]
        [sent] = (await alice.call("listsendpays", payment_hash=asked["payment_hash"]))["payments"]
        assert check("listsendpays failed", sent)["status"] == "failed"

        set_toll(net, "carol", "diana", TOLL)
        paid = check("xpay", await alice.call("xpay", invstring=asked["bolt11"], label="again"))
        assert (paid["successful_parts"], paid["failed_parts"]) == (1, 0)
        [row] = (await alice.call("listpays"))["pays"]
        assert [each["state"] for each in row["attempts"]] == ["failed", "success"]
        assert [each["groupid"] for each in row["attempts"]] == [1, 2]
        assert (await alice.error("xpay", invstring=asked["bolt11"], amount_msat=1))["code"] == -32602
        [one, two] = (await alice.call("listsendpays"))["payments"]
        every = (await alice.call("listsendpays", index="created", start=two["created_index"]))["payments"]
        assert [check("listsendpays", each)["groupid"] for each in every] == [2]
        assert one["updated_index"] == 1
        [row] = (await alice.call("listpays", index="updated", start=2))["pays"]
        assert row["updated_index"] == two["updated_index"] == 2


async def test_what_a_route_may_cost_and_touch(tmp_path: Path) -> None:
    async with clients(tmp_path, "alice bob carol") as (net, [alice, bob, carol]):
        asked = await carol.call("invoice", amount_msat=AMOUNT_MSAT, label="one", description="")
        refused = await alice.error("pay", bolt11=asked["bolt11"], maxfee=1)
        assert refused["code"] == 206
        assert (await alice.error("pay", bolt11=asked["bolt11"], maxdelay=20))["code"] == 206
        assert (await alice.error("pay", bolt11=asked["bolt11"], exclude=[bob.id]))["code"] == 205
        [hop, _] = (await alice.call("getroute", id=carol.id, amount_msat=1, riskfactor=0))["route"]
        edge = f"{hop['channel']}/{hop['direction']}"
        assert (await alice.error("pay", bolt11=asked["bolt11"], exclude=[edge]))["code"] == 205
        assert (await alice.error("pay", bolt11=asked["bolt11"], exclude=["x"]))["code"] == -32602
        await paid_by(alice, asked["bolt11"], maxfee=2000)
        await settle(net)


async def test_two_payers_share_an_invoice(tmp_path: Path) -> None:
    async with clients(tmp_path, "alice bob carol") as (net, [alice, bob, carol]):
        asked = await bob.call("invoice", amount_msat=AMOUNT_MSAT, label="one", description="")
        preimages = []

        async def pay(client: Client) -> None:
            paid = await paid_by(client, asked["bolt11"], partial_msat=AMOUNT_MSAT // 2)
            preimages.append(paid["payment_preimage"])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(pay, alice)
            nursery.start_soon(pay, carol)
        assert preimages[0] == preimages[1]
        [row] = (await bob.call("listinvoices"))["invoices"]
        assert row["amount_received_msat"] == AMOUNT_MSAT
        await settle(net)


async def test_a_payment_that_has_ended_is_forgotten(tmp_path: Path) -> None:
    async with clients(tmp_path, "alice bob") as (_, [alice, bob]):
        asked = await bob.call("invoice", amount_msat=AMOUNT_MSAT, label="one", description="")
        await paid_by(alice, asked["bolt11"])
        named = {"payment_hash": asked["payment_hash"]}
        assert (await alice.error("delpay", **named, status="failed"))["code"] == 211
        [gone] = (await alice.call("delpay", **named, status="complete"))["payments"]
        assert check("listsendpays", gone)["status"] == "complete"
        assert (await alice.error("delpay", **named, status="complete"))["code"] == 208
        assert (await alice.call("listpays"))["pays"] == (await alice.call("listsendpays"))["payments"] == []
        assert (await alice.error("pay", bolt11=asked["bolt11"]))["code"] == 203


async def test_what_is_passed_on_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with clients(tmp_path, "alice bob carol") as (net, [_, bob, _]):
        ends = [text_of(net.short_channel_id(*pair)) for pair in (("alice", "bob"), ("bob", "carol"))]
        await net.pay("alice", "carol", AMOUNT_MSAT)
        with pytest.raises(PaymentFailed):
            await net.pay("alice", "carol", AMOUNT_MSAT, payment_secret=bytes(32))
        await net.pay("bob", "carol", 4_800_000_000)
        with pytest.raises(PaymentFailed):
            await net.pay("alice", "carol", 500_000_000)
        held = Held(net["carol"], monkeypatch)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(net.pay, "alice", "carol", AMOUNT_MSAT)
            await held.wait_for(1)
            rows = (await bob.call("listforwards"))["forwards"]
            await held.release()
        assert [row["status"] for row in rows] == ["settled", "failed", "local_failed", "offered"]
        assert {(row["in_channel"], row["out_channel"]) for row in rows} == {tuple(ends)}
        fee_msat = TOLL.fee_msat(Msat(AMOUNT_MSAT))
        assert [row["fee_msat"] for row in rows if row["status"] != "local_failed"] == 3 * [fee_msat]
        check("listforwards", rows[0])
        await settle(net)
        await net.stop("bob")
        await net.start("bob")
        bob = Client(net["bob"])
        again = (await bob.call("listforwards", status="settled", in_channel=ends[0]))["forwards"]
        assert [row["created_index"] for row in again] == [1, 4]
        assert (await bob.call("listforwards", out_channel=ends[0]))["forwards"] == []
        assert len((await bob.call("listforwards", index="created", start=2, limit=1))["forwards"]) == 1


async def test_only_the_last_passages_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.daemon.ledger.MOST_PASSAGES", 2)
    async with clients(tmp_path, "alice bob carol") as (net, [_, bob, _]):
        for _ in range(4):
            await net.pay("alice", "carol", AMOUNT_MSAT)
        rows = (await bob.call("listforwards"))["forwards"]
        assert [row["created_index"] for row in rows] == [3, 4]


# --- one HTLC at a time


async def test_parts_are_sent_by_hand(tmp_path: Path) -> None:
    async with clients(tmp_path, "alice bob carol") as (net, [alice, _, carol]):
        asked = await carol.call("invoice", amount_msat=AMOUNT_MSAT, label="one", description="")
        half = AMOUNT_MSAT // 2
        route = (await alice.call("getroute", id=carol.id, amount_msat=half, riskfactor=1, cltv=40))["route"]
        part = {
            "route": route,
            "payment_hash": asked["payment_hash"],
            "payment_secret": asked["payment_secret"],
            "amount_msat": AMOUNT_MSAT,
            "label": "mine",
            "groupid": 5,
        }
        first = check("sendpay", await alice.call("sendpay", **part, partid=1))
        assert (first["status"], first["groupid"], first["partid"]) == ("pending", 5, 1)
        assert (await alice.error("sendpay", **part, partid=1))["code"] == 200
        assert (await alice.error("sendpay", **{**part, "groupid": 6}, partid=2))["code"] == 200
        named = {"payment_hash": asked["payment_hash"]}
        assert (await alice.error("waitsendpay", **named, partid=1, timeout=1))["code"] == 200
        assert (await alice.error("waitsendpay", **named, partid=9))["code"] == 208
        await alice.call("sendpay", **part, partid=2)
        for part_id in (1, 2):
            done = check("waitsendpay", await alice.call("waitsendpay", **named, partid=part_id))
            assert sha256(bytes.fromhex(done["payment_preimage"])).hex() == asked["payment_hash"]
        assert (await alice.call("sendpay", **part, partid=3))["status"] == "complete"
        other = {**part, "amount_msat": 1}
        assert (await alice.error("sendpay", **other, partid=3))["code"] == 201
        await settle(net)


async def test_what_was_sent_by_hand_fails_with_its_reason(tmp_path: Path) -> None:
    async with clients(tmp_path, "alice bob carol") as (net, [alice, bob, carol]):
        route = (await alice.call("getroute", id=carol.id, amount_msat=AMOUNT_MSAT, riskfactor=1))["route"]
        unknown = {"payment_hash": bytes(32).hex()}
        await alice.call("sendpay", route=route, **unknown, payment_secret=bytes(32).hex())
        failed = await alice.error("waitsendpay", **unknown)
        assert failed["code"] == 203
        assert check("failure", failed["data"])["erring_node"] == carol.id
        set_toll(net, "bob", "carol", type(TOLL)(cltv_expiry_delta=100))
        await alice.call("sendpay", route=route, **unknown, payment_secret=bytes(32).hex())
        failed = await alice.error("waitsendpay", **unknown)
        assert (failed["code"], failed["data"]["erring_node"]) == (204, bob.id)
        dear = [{**route[0], "amount_msat": 10**13}, route[1]]
        assert (await alice.error("sendpay", route=dear, **unknown))["code"] == 204
        wrongs: list[Any] = [[], [{}], [{**route[0], "id": "00"}], [{**route[0], "delay": -1}]]
        for wrong in wrongs:
            assert (await alice.error("sendpay", route=wrong, **unknown))["code"] == -32602
        await settle(net)


async def test_an_onion_that_was_made_elsewhere_is_sent(tmp_path: Path) -> None:
    async with clients(tmp_path, "alice bob") as (net, [alice, bob]):
        asked = await bob.call("invoice", amount_msat=AMOUNT_MSAT, label="one", description="")
        height = net["alice"].switch.height
        told = HopPayload(
            amt_to_forward=Msat(AMOUNT_MSAT),
            outgoing_cltv_value=height + 40,
            payment_secret=bytes.fromhex(asked["payment_secret"]),
            total_msat=Msat(AMOUNT_MSAT),
        )
        payload = encode_payload(told)
        hop = {"pubkey": bob.id, "payload": (write_bigsize(len(payload)) + payload).hex()}
        made = check(
            "createonion", await alice.call("createonion", hops=[hop], assocdata=asked["payment_hash"])
        )
        first_hop = {"id": bob.id, "amount_msat": AMOUNT_MSAT, "delay": 40}
        sent = {"onion": made["onion"], "first_hop": first_hop, "payment_hash": asked["payment_hash"]}
        assert (await alice.error("sendonion", **{**sent, "onion": "00"}))["code"] == -32602
        assert (await alice.error("sendonion", **{**sent, "first_hop": {}}))["code"] == -32602
        check("sendonion", await alice.call("sendonion", **sent, shared_secrets=made["shared_secrets"]))
        done = await alice.call("waitsendpay", payment_hash=asked["payment_hash"])
        assert done["status"] == "complete"
        # the failure of another is read with the secrets, and without them not
        for secrets, code in ((made["shared_secrets"], 203), (None, 202)):
            other = await alice.call("createonion", hops=[hop], assocdata=bytes(32).hex())
            secrets = other["shared_secrets"] if secrets else []
            again = {**sent, "onion": other["onion"], "payment_hash": bytes(32).hex()}
            await alice.call("sendonion", **again, shared_secrets=secrets)
            failed = await alice.error("waitsendpay", payment_hash=bytes(32).hex())
            assert failed["code"] == code
        assert (await alice.error("createonion", hops=[{}], assocdata=""))["code"] == -32602
        unframed = {**hop, "payload": payload.hex()}
        assert (await alice.error("createonion", hops=[unframed], assocdata=""))["code"] == -32602
        await settle(net)


async def test_routes_are_found_in_parts(tmp_path: Path) -> None:
    async with network(tmp_path, "alice bob carol") as net:
        await net.join([("alice", "bob"), ("alice", "carol"), ("carol", "bob")])
        alice, bob = Client(net["alice"]), Client(net["bob"])
        asked = {
            "source": alice.id,
            "destination": bob.id,
            "maxfee_msat": 1_000_000,
            "final_cltv": 18,
            "layers": ["auto.localchans", "auto.sourcefree"],
        }
        one = check("getroutes", await alice.call("getroutes", **asked, amount_msat=1000))
        [route] = one["routes"]
        [step] = check("getroutes route", route)["path"]
        assert check("getroutes path", step)["node_id_out"] == bob.id
        assert one["probability_ppm"] == 1_000_000
        two = await alice.call("getroutes", **asked, amount_msat=8_000_000_000)
        assert sum(route["amount_msat"] for route in two["routes"]) == 8_000_000_000
        assert len(two["routes"]) > 1
        assert 0 < two["probability_ppm"] < 1_000_000
        long = max(two["routes"], key=lambda route: len(route["path"]))["path"]
        assert long[0]["amount_in_msat"] == long[0]["amount_out_msat"] == long[1]["amount_in_msat"]
        assert long[1]["amount_out_msat"] < long[1]["amount_in_msat"]
        for change, code in (({"maxparts": 1}, 215), ({"maxfee_msat": 0}, 215), ({"layers": ["x"]}, -32602)):
            refused = await alice.error("getroutes", **{**asked, "amount_msat": 8 * 10**9, **change})
            assert refused["code"] == code


async def test_what_payments_taught_is_a_layer(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob carol") as net:
        await net.pay("bob", "carol", 4_500_000_000)
        await net.wait_for_quiet()
        alice, amount_msat = Client(net["alice"]), 1_000_000_000
        asked = {
            "source": alice.id,
            "destination": Client(net["carol"]).id,
            "amount_msat": amount_msat,
            "maxfee_msat": amount_msat,
            "final_cltv": 18,
        }
        sure, local = {}, ["auto.localchans"]
        for when in ("before", "after"):
            for layers in (local, [*local, "xpay"]):
                found = await alice.call("getroutes", **asked, layers=layers)
                sure[when, len(layers)] = found["probability_ppm"]
            if when == "before":
                with pytest.raises(PaymentFailed, match="temporary_channel_failure, says hop 1"):
                    await net.pay("alice", "carol", amount_msat)
        assert sure["before", 1] == sure["before", 2] == sure["after", 1] > 890_000
        # it is all there is, and would be tried; but not for hope
        assert sure["after", 2] == 0


# --- invoices that are held


async def asked_to_hold(client: Client, preimage: bytes = PREIMAGE, amount: int = AMOUNT_MSAT) -> str:
    asked = await client.call("holdinvoice", payment_hash=sha256(preimage).hex(), amount=amount)
    text: str = asked["bolt11"]
    return text


async def state(client: Client) -> str:
    [row] = (await client.call("listholdinvoices"))["holdinvoices"]
    text: str = check("holdinvoice", row)["state"]
    return text


async def accepted(net: Network, client: Client) -> None:
    """Return once a payment waits for its preimage."""
    rows = client.node.switch.invoices.rows
    await until(lambda: any(row.accepted_at for row in rows.values()))


@pytest.mark.parametrize("is_settled", [True, False])
async def test_a_held_invoice_waits_for_its_user(tmp_path: Path, is_settled: bool) -> None:
    async with clients(tmp_path, "alice bob carol") as (net, [alice, _, carol]):
        text = await asked_to_hold(carol)
        assert await state(carol) == "unpaid"
        nothing = await carol.error("settleholdinvoice", preimage=PREIMAGE.hex())
        assert (nothing["code"], nothing["message"]) == (-1, "no HTLCs to settle")
        replies: list[dict[str, Any]] = []

        async def pay() -> None:
            replies.append(await alice.reply("pay", {"bolt11": text}))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(pay)
            await accepted(net, carol)
            assert await state(carol) == "accepted"
            [row] = (await carol.call("listholdinvoices", invoice=text))["holdinvoices"]
            [htlc] = row["htlcs"]
            assert (htlc["msat"], htlc["state"]) == (AMOUNT_MSAT, "accepted")
            # nobody gives up before the user does
            net.clock.seconds += 10 * PATIENCE_SECONDS
            await carol.node.switch.ask(carol.node.switch.gathering.expire)
            if is_settled:
                assert await carol.call("settleholdinvoice", preimage=PREIMAGE.hex()) == {}
            else:
                hash_hex = sha256(PREIMAGE).hex()
                assert await carol.call("cancelholdinvoice", payment_hash=hash_hex) == {}
        if is_settled:
            assert replies[0]["result"]["payment_preimage"] == PREIMAGE.hex()
            assert (await carol.error("cancelholdinvoice", payment_hash=sha256(PREIMAGE).hex()))["code"] == -1
        else:
            assert replies[0]["error"]["code"] == 203
            assert (await alice.error("pay", bolt11=text))["code"] == 203
        await settle(net)
        assert await state(carol) == ("paid" if is_settled else "cancelled")
        assert (await carol.call("listinvoices"))["invoices"] == []


async def test_a_held_payment_outlives_its_invoice_and_a_restart(tmp_path: Path) -> None:
    async with clients(tmp_path, "alice bob") as (net, [alice, bob]):
        text = await asked_to_hold(bob)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(paid_by, alice, text)
            await accepted(net, bob)
            net.clock.seconds += 10**7
            await net.stop("bob")
            await net.start("bob")
            bob = Client(net["bob"])
            await until(lambda: bool(bob.node.switch.gathering.waiting))
            assert await state(bob) == "accepted"
            await bob.call("settleholdinvoice", preimage=PREIMAGE.hex())
            await net.connect("alice", "bob")
        await settle(net)
        assert await state(bob) == "paid"


@bolt("forwarding-safety.4")
async def test_a_held_payment_is_given_back_before_its_deadline(tmp_path: Path) -> None:
    async with clients(tmp_path, "alice bob") as (net, [alice, bob]):
        text = await asked_to_hold(bob)
        errors: list[int] = []

        async def pay() -> None:
            errors.append(await alice.code("pay", [text]))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(pay)
            await accepted(net, bob)
            [waiting] = bob.node.switch.gathering.waiting.values()
            await net.mine(waiting.expiry - bob.node.switch.height - 18)
            assert await state(bob) == "accepted"
            await net.mine()
        assert errors == [203]
        assert await state(bob) == "cancelled"
        await settle(net)
        assert net.channel("alice", "bob").is_usable


# --- route hints


@bolt("b11-invoices.2")
async def test_a_payee_with_private_channels_alone_is_found_by_its_hints(tmp_path: Path) -> None:
    async with network(tmp_path, "alice bob carol diana") as net:
        for pair in (("bob", "carol"), ("carol", "diana")):
            await net.connect(*pair)
        await net.join([("alice", "bob")])
        await net.join([("bob", "carol")], is_announced=False)
        await net.join([("carol", "diana")], is_announced=False)
        await until(lambda: len(net["carol"].graph.policies) >= 4)
        alice, carol = Client(net["alice"]), Client(net["carol"])
        asked = await carol.call("invoice", amount_msat=AMOUNT_MSAT, label="one", description="")
        read = await alice.call("decode", string=asked["bolt11"])
        [[hop], *others] = [way for way in read["routes"] if way[0]["pubkey"] == net["bob"].node_id.hex()]
        assert not others
        ours = net.channel("carol", "bob")
        assert hop["short_channel_id"] != str(ours.short_channel_id)
        assert hop["fee_base_msat"] == TOLL.fee_base_msat
        assert (await paid_by(alice, asked["bolt11"]))["parts"] == 1
        assert net["carol"].node_id not in net["alice"].graph.index
        # the same over the other interface, and none if it is not wanted
        row = await net["carol"].add_invoice(Msat(AMOUNT_MSAT))
        assert (await net["alice"].pay_invoice(net["carol"].bolt11(row))).amount_msat == AMOUNT_MSAT
        hidden = await carol.call(
            "invoice", amount_msat=1, label="two", description="", exposeprivatechannels=False
        )
        assert bolt11.decode(hidden["bolt11"]).route_hints == ()
        assert (await alice.error("pay", bolt11=hidden["bolt11"]))["code"] == 205
        stranger = {"amount_msat": 1, "label": "3", "description": "", "exposeprivatechannels": ["1x1x1"]}
        assert (await carol.error("invoice", **stranger))["code"] == 902
        # keysend may bring its own
        hints = [[{"id": net["bob"].node_id.hex(), **hop}]]
        sent = await alice.call("keysend", destination=carol.id, amount_msat=5, routehints=hints)
        assert sent["amount_msat"] == 5


async def test_who_has_an_announced_channel_names_no_private_one(tmp_path: Path) -> None:
    async with network(tmp_path, "alice bob carol") as net:
        await net.connect("bob", "carol")
        await net.join([("alice", "bob")])
        await net.join([("bob", "carol")], is_announced=False)
        bob = Client(net["bob"])
        asked = await bob.call("invoice", amount_msat=AMOUNT_MSAT, label="one", description="")
        assert bolt11.decode(asked["bolt11"]).route_hints == ()
        much = await bob.call("invoice", amount_msat="0.07btc", label="two", description="")
        assert len(bolt11.decode(much["bolt11"]).route_hints) == 1
        shown = await bob.call(
            "invoice", amount_msat=1, label="3", description="", exposeprivatechannels=True
        )
        assert len(bolt11.decode(shown["bolt11"]).route_hints) == 1


# --- metadata


@bolt("b11-invoices.3")
async def test_metadata_comes_back_to_whoever_wrote_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with clients(tmp_path, "alice bob") as (net, [alice, _]):
        row = await net["bob"].add_invoice(Msat(AMOUNT_MSAT))
        read = bolt11.decode(net["bob"].bolt11(row))
        changed = msgspec.structs.replace(read, payment_metadata=b"remember")
        held = Held(net["bob"], monkeypatch)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(paid_by, alice, bolt11.encode(changed, net["bob"].signer.node_secret))
            await held.wait_for(1)
            [(_, _, receive)] = held.waiting
            assert receive.payload.payment_metadata == b"remember"
            await held.release()
        await settle(net)
