"""A live node's connections, as strangers see them: handshake, init, liveness, what costs the
connection and what does not (BOLT 8, BOLT 1).
"""

from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import cast

import pytest
import trio
import trio.lowlevel
import trio.testing

from htlc.channel import Phase
from node.daemon import switch
from node.daemon.establish import OpeningFailed
from node.daemon.node import Node
from node.daemon.peer import Peer, PeerGone, answer
from node.daemon.signer import Signer
from tests.bolt import bolt
from tests.node.caller import OUR_SIDE, SECRET, HungUp, answers, calling, handshake, shaking_hands
from tests.node.line import line, network, until
from tests.node.openings import an_opening
from wire.bitcoin.block import CHAIN_HASH
from wire.codec import Message
from wire.crypto import secp256k1
from wire.crypto.hashes import sha256
from wire.features import OUR_INIT, Features
from wire.messages.base import Error, Init, PeerStorage, Ping, Pong, Unknown, Warning
from wire.messages.catalogue import encode
from wire.messages.channel import OpenChannel, Shutdown, UpdateFee
from wire.messages.gossip import GossipTimestampFilter
from wire.messages.onion import OnionMessage
from wire.noise import Initiator, OversizedMessage
from wire.units import Sat

NOBODY = secp256k1.point_of(sha256(b"nobody"))
STRANGE_CHANNEL = sha256(b"a channel that nobody has")


async def serves_others(node: Node) -> bool:
    """Whether the node is alive for somebody else."""
    async with calling(node, sha256(b"somebody else")) as caller:
        return await answers(caller)


# --- the handshake


def act_one(node: Node) -> bytes:
    return Initiator(SECRET, node.node_id, sha256(b"ephemeral")).act_one()


@bolt("b8-transport.1", "b8-transport.2")
@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda _: bytes(50), id="zeros"),
        pytest.param(lambda act: b"\x01" + act[1:], id="another version"),
        pytest.param(lambda act: act[:1] + b"\x04" + act[2:], id="no point"),
        pytest.param(lambda act: act[:49] + bytes([act[49] ^ 1]), id="a wrong tag"),
        pytest.param(
            lambda _: b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: text/html\r\n\r\n", id="a browser"
        ),
    ],
)
async def test_a_wrong_act_one_is_answered_by_silence(
    tmp_path: Path, spoil: Callable[[bytes], bytes]
) -> None:
    async with network(tmp_path, "bob") as net:
        async with await trio.open_tcp_stream("127.0.0.1", net["bob"].port) as stream:
            await stream.send_all(spoil(act_one(net["bob"])))
            assert await everything_from(stream) == b""
        assert await serves_others(net["bob"])


async def everything_from(stream: trio.SocketStream) -> bytes:
    received = b""
    try:
        while more := await stream.receive_some():
            received += more
    except trio.BrokenResourceError:
        pass
    return received


@bolt("b8-transport.2")
async def test_a_caller_who_means_somebody_else_is_not_answered(tmp_path: Path) -> None:
    async with network(tmp_path, "bob") as net:
        stream = await trio.open_tcp_stream("127.0.0.1", net["bob"].port)
        with pytest.raises(HungUp):
            await handshake(stream, NOBODY)
        assert await serves_others(net["bob"])


@bolt("b8-transport.1", "b8-transport.2")
@pytest.mark.parametrize("place", [0, 5, 60])
async def test_a_wrong_act_three_ends_it(tmp_path: Path, place: int) -> None:
    async with network(tmp_path, "bob") as net:
        initiator = Initiator(SECRET, net["bob"].node_id, sha256(b"ephemeral"))
        async with await trio.open_tcp_stream("127.0.0.1", net["bob"].port) as stream:
            await stream.send_all(initiator.act_one())
            act_three, _ = initiator.receive_act_two(await stream.receive_some(50))
            spoiled = bytearray(act_three)
            spoiled[place] ^= 1
            await stream.send_all(spoiled)
            assert await everything_from(stream) == b""
        assert net["bob"].switch.peers == {}


@bolt("b8-transport.2")
async def test_we_do_not_speak_with_who_has_another_key(tmp_path: Path) -> None:
    async with network(tmp_path, "alice bob") as net:
        with pytest.raises(PeerGone):
            await net["alice"].connect(NOBODY, "127.0.0.1", net["bob"].port)
        with pytest.raises(PeerGone):
            await net["alice"].connect(b"\x05" + NOBODY[1:], "127.0.0.1", net["bob"].port)
        assert net["alice"].switch.peers == {}


async def test_a_handshake_may_come_byte_by_byte(tmp_path: Path) -> None:
    async with network(tmp_path, "bob") as net, shaking_hands(net["bob"]) as caller:
        for byte in caller.seal(OUR_SIDE) + caller.seal(Ping(num_pong_bytes=7)):
            await caller.send_bytes(bytes([byte]))
        assert len((await caller.expect(Pong)).ignored) == 7


# --- silence, in virtual time


def a_signer() -> Signer:
    return Signer(sha256(b"the answering side"))


INIT = Init(features=OUR_INIT.to_bytes(), networks=(CHAIN_HASH["regtest"],))


def memory_streams() -> tuple[trio.SocketStream, trio.SocketStream]:
    """Both ends of a connection in memory: virtual time knows nothing of sockets."""
    return cast("tuple[trio.SocketStream, trio.SocketStream]", trio.testing.memory_stream_pair())


async def test_a_caller_who_says_nothing_is_hung_up_on(autojump_clock: trio.testing.MockClock) -> None:
    ours, theirs = memory_streams()
    with pytest.raises(PeerGone):
        await answer(ours, a_signer(), INIT)
    assert await theirs.receive_some() == b""


@bolt("init.1")
async def test_nothing_but_init_comes_before_the_callers_init(
    autojump_clock: trio.testing.MockClock,
) -> None:
    ours, theirs = memory_streams()
    async with trio.open_nursery() as nursery:

        async def serve() -> None:
            with pytest.raises(PeerGone):
                await answer(ours, a_signer(), INIT)

        nursery.start_soon(serve)
        caller = await handshake(theirs, a_signer().node_id)
        assert await caller.rest() == [INIT]


async def served(ours: trio.SocketStream, gone: list[str]) -> None:
    """A peer's connection, answered and served to its end without a node behind it."""
    peer = await answer(ours, a_signer(), INIT)
    await peer.run(lambda *_: None, {})
    gone.append(peer.gone_because)


@bolt("ping-pong.2")
async def test_a_silent_peer_is_pinged_and_then_left(autojump_clock: trio.testing.MockClock) -> None:
    ours, theirs = memory_streams()
    gone: list[str] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(served, ours, gone)
        caller = await handshake(theirs, a_signer().node_id)
        await caller.send(OUR_SIDE)
        init, *pings = await caller.rest()
    assert isinstance(init, Init)
    assert pings
    assert all(isinstance(ping, Ping) and not any(ping.ignored) for ping in pings)
    assert gone == ["it has gone silent"]


async def test_a_peer_that_answers_pings_is_kept(autojump_clock: trio.testing.MockClock) -> None:
    ours, theirs = memory_streams()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(served, ours, [])
        caller = await handshake(theirs, a_signer().node_id)
        await caller.send(OUR_SIDE)
        for _ in range(10):
            ping = await caller.expect(Ping)
            await caller.send(Pong(ignored=bytes(ping.num_pong_bytes)))
        await caller.hang_up()


# --- init


ANOTHER_CHAIN = CHAIN_HASH["bitcoin"]


@bolt("init.1", "init.2", "init.3")
@pytest.mark.parametrize(
    "greeting",
    [
        pytest.param(encode(Ping(num_pong_bytes=1)), id="a ping"),
        pytest.param(encode(Unknown(4001, b"")), id="something odd"),
        pytest.param(b"", id="an empty message"),
        pytest.param(encode(Init())[:3], id="half an init"),
        pytest.param(encode(Init(features=Features(1 << 100).to_bytes())), id="unknown even"),
        pytest.param(encode(Init(globalfeatures=Features(1 << 100).to_bytes())), id="unknown even, global"),
        pytest.param(encode(Init(features=(1 << 61).to_bytes(8, "big"))), id="without its dependency"),
        pytest.param(encode(Init(networks=(ANOTHER_CHAIN,))), id="another chain"),
        pytest.param(encode(Init()) + bytes.fromhex("0000"), id="an unknown even record"),
    ],
)
async def test_a_greeting_that_ends_the_connection(tmp_path: Path, greeting: bytes) -> None:
    async with network(tmp_path, "bob") as net, shaking_hands(net["bob"]) as caller:
        await caller.send_raw(greeting, encode(Ping(num_pong_bytes=1)))
        init, *more = await caller.rest()
        assert isinstance(init, Init)
        assert all(isinstance(message, Error | Warning) for message in more)
        assert net["bob"].switch.peers == {}
        assert await serves_others(net["bob"])


@bolt("init.2", "init.3", "b9.2")
@pytest.mark.parametrize(
    "greeting",
    [
        pytest.param(encode(Init()), id="nothing"),
        pytest.param(encode(Init(features=Features(1 << 101).to_bytes())), id="unknown odd"),
        pytest.param(encode(Init(features=bytes(1000))), id="a thousand zeros"),
        pytest.param(encode(Init(features=Features(3 << 18).to_bytes())), id="both bits"),
        pytest.param(
            encode(Init(networks=(ANOTHER_CHAIN, CHAIN_HASH["regtest"]))), id="our chain among others"
        ),
        pytest.param(encode(Init(remote_addr=bytes.fromhex("017f000001260b"))), id="our address"),
        pytest.param(encode(Init()) + bytes.fromhex("fd010100"), id="an unknown odd record"),
    ],
)
async def test_a_greeting_that_we_can_live_with(tmp_path: Path, greeting: bytes) -> None:
    async with network(tmp_path, "bob") as net, shaking_hands(net["bob"]) as caller:
        # a message in the same read as init is not lost
        await caller.send_raw(greeting, encode(Ping(num_pong_bytes=9)))
        assert len((await caller.expect(Pong)).ignored) == 9


# --- messages


@bolt("ping-pong.1")
async def test_a_ping_is_answered_by_so_many_bytes_or_not_at_all(tmp_path: Path) -> None:
    async with network(tmp_path, "bob") as net, calling(net["bob"]) as caller:
        for wanted in (0, 1, 65531, 65532, 65533, 65535, 2):
            await caller.send(Ping(num_pong_bytes=wanted, ignored=bytes(wanted % 5)))
        lengths = [len((await caller.expect(Pong)).ignored) for _ in range(4)]
        assert lengths == [0, 1, 65531, 2]


@bolt("framing-tlv.3")
async def test_an_unknown_odd_message_is_ignored(tmp_path: Path) -> None:
    async with network(tmp_path, "bob") as net, calling(net["bob"]) as caller:
        await caller.send(Unknown(4001, b"whatever"), Unknown(60001, bytes(65533)), Unknown(32769, b""))
        assert await answers(caller)


@bolt("framing-tlv.3")
@pytest.mark.parametrize("raw", [encode(Unknown(4000, b"whatever")), encode(Unknown(60000, bytes(65533)))])
async def test_an_unknown_even_message_costs_the_connection(tmp_path: Path, raw: bytes) -> None:
    async with network(tmp_path, "bob") as net, calling(net["bob"]) as caller:
        before = encode(Ping(num_pong_bytes=1))
        await caller.send_raw(before, raw, before)
        said = await caller.rest()
        assert [type(message) for message in said if isinstance(message, Pong | Warning)] == [Pong]
        assert await serves_others(net["bob"])


@bolt("framing-tlv.2", "framing-tlv.3", "framing-tlv.4", "framing-tlv.6")
@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="no bytes"),
        pytest.param(b"\0", id="half a type"),
        pytest.param(encode(Ping(num_pong_bytes=1))[:3], id="a ping cut off"),
        pytest.param(encode(UpdateFee(STRANGE_CHANNEL, 1000))[:20], id="an update_fee cut off"),
        pytest.param(encode(Shutdown(STRANGE_CHANNEL, b"")) + b"\x02\x00", id="an unknown even record"),
        pytest.param(encode(Shutdown(STRANGE_CHANNEL, b"")) + b"\xfd", id="a record cut off"),
    ],
)
async def test_what_costs_the_connection_is_told(tmp_path: Path, raw: bytes) -> None:
    async with network(tmp_path, "bob") as net, calling(net["bob"]) as caller:
        await caller.send_raw(raw, *100 * [encode(Ping(num_pong_bytes=1))])
        *_, last = await caller.rest()
        assert isinstance(last, Warning)
        assert last.text
        assert await serves_others(net["bob"])


async def test_nothing_is_heard_after_what_costs_the_connection(tmp_path: Path) -> None:
    async with network(tmp_path, "bob") as net, calling(net["bob"]) as caller:
        await caller.send(Unknown(4000, b""), Ping(num_pong_bytes=1))
        assert not [message for message in await caller.rest() if isinstance(message, Pong)]


@bolt("b8-transport.4")
async def test_an_altered_frame_ends_the_connection_but_not_what_came_before(tmp_path: Path) -> None:
    async with network(tmp_path, "bob") as net, calling(net["bob"]) as caller:
        altered = bytearray(caller.seal(Ping(num_pong_bytes=5)) + caller.seal(Ping(num_pong_bytes=6)))
        altered[-1] ^= 1
        await caller.send_bytes(bytes(altered))
        pongs = [message for message in await caller.rest() if isinstance(message, Pong)]
        assert [len(pong.ignored) for pong in pongs] == [5]


@bolt("error-warning.1")
async def test_an_error_or_warning_of_an_unknown_channel_is_ignored(tmp_path: Path) -> None:
    async with network(tmp_path, "bob") as net, calling(net["bob"]) as caller:
        for channel_id in (STRANGE_CHANNEL, bytes(32)):
            await caller.send(Error(channel_id, b"\x1b[2J"), Warning(channel_id, b"\xff"))
        await caller.send(Ping(num_pong_bytes=1))
        while not isinstance(message := await caller.receive(), Pong):
            assert not isinstance(message, Error | Warning)


async def test_a_message_of_an_unknown_channel_is_answered_by_an_error(tmp_path: Path) -> None:
    async with network(tmp_path, "bob") as net, calling(net["bob"]) as caller:
        await caller.send(UpdateFee(STRANGE_CHANNEL, 1000))
        assert (await caller.expect(Error)).channel_id == STRANGE_CHANNEL
        assert await answers(caller)


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(OUR_SIDE, id="a second init"),
        pytest.param(PeerStorage(b"a blob"), id="peer_storage"),
        pytest.param(OnionMessage(NOBODY, bytes(1366)), id="onion_message"),
        pytest.param(an_opening(channel_type=bytes(60_000)), id="a vast channel_type"),
        pytest.param(an_opening(upfront_shutdown_script=bytes(60_000)), id="a vast script"),
        pytest.param(GossipTimestampFilter(ANOTHER_CHAIN, 0, 1), id="a filter of another chain"),
    ],
)
async def test_no_message_of_a_stranger_stops_the_node(tmp_path: Path, message: Message) -> None:
    async with network(tmp_path, "bob") as net, calling(net["bob"]) as caller:
        await caller.send(message, Ping(num_pong_bytes=2))
        await trio.testing.wait_all_tasks_blocked()
        assert await serves_others(net["bob"])


# --- how much, how often, how many


@bolt("b8-transport.5")
async def test_keys_rotate_in_both_directions(tmp_path: Path) -> None:
    async with network(tmp_path, "bob") as net, calling(net["bob"]) as caller:
        pings = [Ping(num_pong_bytes=number % 700) for number in range(2100)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(caller.send, *pings)
            lengths = [len((await caller.expect(Pong)).ignored) for _ in pings]
        assert lengths == [ping.num_pong_bytes for ping in pings]


async def test_our_own_message_that_is_too_long_harms_nobody(tmp_path: Path) -> None:
    async with network(tmp_path, "bob") as net, calling(net["bob"]) as caller:
        assert await answers(caller)
        await net["bob"].send_custom(caller.node_id, 40001, bytes(65533))
        with pytest.raises(OversizedMessage):
            await net["bob"].send_custom(caller.node_id, 40001, bytes(65534))
        assert await caller.expect_unknown() == Unknown(40001, bytes(65533))
        assert await answers(caller)


async def test_a_flood_waits_for_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switch, "MOST_WAITING_EVENTS", 5)
    async with network(tmp_path, "bob") as net, calling(net["bob"]) as caller:
        waiting, deliver = [], net["bob"].switch.deliver

        def counted(peer: Peer, message: Message) -> None:
            deliver(peer, message)
            waiting.append(len(net["bob"].switch._inbox))

        net["bob"].switch.deliver = counted  # type: ignore[method-assign]
        flood = [UpdateFee(sha256(number.to_bytes(2, "big")), 1000) for number in range(3000)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(caller.send, *flood)
            answered = [(await caller.expect(Error)).channel_id for _ in flood]
        assert answered == [message.channel_id for message in flood]
        assert max(waiting) == 5


async def test_who_does_not_read_is_not_waited_for(autojump_clock: trio.testing.MockClock) -> None:
    ours, theirs = trio.testing.lockstep_stream_pair()
    gone: list[str] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(served, cast("trio.SocketStream", ours), gone)
        caller = await handshake(cast("trio.SocketStream", theirs), a_signer().node_id)
        nursery.start_soon(caller.send, OUR_SIDE, Ping(num_pong_bytes=1), Unknown(4000, b""))
        assert isinstance(await caller.receive(), Init)
    assert gone == ["unknown message 4000 must be understood"]


@bolt("framing-tlv.1")
async def test_a_second_connection_replaces_the_first(tmp_path: Path) -> None:
    async with network(tmp_path, "bob") as net, calling(net["bob"]) as first:
        assert await answers(first)
        async with calling(net["bob"]) as second:
            assert await answers(second)
            assert not any(isinstance(message, Error | Warning) for message in await first.rest())
            assert await answers(second)
            assert list(net["bob"].switch.peers) == [second.node_id]
        await until(lambda: not net["bob"].switch.peers)


@bolt("error-warning.1")
async def test_what_a_peer_says_before_it_hangs_up_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with line(tmp_path, "alice bob") as net:
        alice, bob = net["alice"], net["bob"]
        at_alice, at_bob = alice.switch.peers[bob.node_id], bob.switch.peers[alice.node_id]

        async def gather() -> None:
            """The loop is busy until the connection has ended, and a little longer."""
            while not at_alice.is_closing:
                await trio.lowlevel.checkpoint()
            for _ in range(50):
                await trio.lowlevel.checkpoint()

        monkeypatch.setattr(alice.switch, "_gather", gather)
        at_bob.send(Error(net.ids["alice", "bob"], b"enough"))
        at_bob.close("it has said all")
        with trio.fail_after(60):
            await until(lambda: alice.channels()[0].phase is Phase.FAILED)


@bolt("open_channel.8")
async def test_an_opening_ends_with_its_connection(tmp_path: Path) -> None:
    async with network(tmp_path, "bob") as net, calling(net["bob"]) as first:
        assert await answers(first)
        await net.fund([("bob", 1_000_000)])
        async with AsyncExitStack() as calls:

            async def call_again() -> None:
                await first.expect(OpenChannel)
                await answers(await calls.enter_async_context(calling(net["bob"])))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(call_again)
                with pytest.raises(OpeningFailed), trio.fail_after(60):
                    await net["bob"].open_channel(first.node_id, Sat(100_000))


@bolt("framing-tlv.1")
async def test_two_nodes_that_call_each_other_at_once_keep_one_connection(tmp_path: Path) -> None:
    async with network(tmp_path, "alice bob") as net:
        lesser = min(net.nodes.values(), key=lambda node: node.node_id)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(net.connect, "alice", "bob")
            nursery.start_soon(net.connect, "bob", "alice")
        await trio.testing.wait_all_tasks_blocked(0.05)
        for node in net.nodes.values():
            [peer] = node.switch.peers.values()
            assert peer.we_called is (node is lesser)


async def test_nobody_calls_himself(tmp_path: Path) -> None:
    async with network(tmp_path, "alice") as net:
        with pytest.raises(PeerGone):
            await net.connect("alice", "alice")
        assert net["alice"].switch.peers == {}
