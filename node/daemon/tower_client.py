"""A node's side of its watchtowers: what each is given, what it has, and what it still lacks.

Whenever we sign a commitment of a peer, a row with what it holds beside its HTLCs goes into the same
transaction. Justice is not kept: it is made from that row when the revocation is durable, and again
whenever a tower lacks it, so a tower that was away, or that is new, gets all that there is. The
rows of a channel go when it is irrevocably over and every tower has forgotten it.

A tower knows us by an identity of its own and our channels by tags, and never hears of our node.
"""

import logging
import random
from collections import deque
from collections.abc import Sequence
from functools import partial

import msgspec
import trio

from htlc.channel import Channel, Phase
from htlc.justice import Balances, justice_for
from htlc.watchtower import blobs_of, hint_of
from node.chain.interface import BlockConnected
from node.daemon.peer import CustomHandler, Peer, PeerGone, call
from node.daemon.reconnect import FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS, Address, Unreachable
from node.daemon.switch import Switch
from node.daemon.tower_chronicle import Chronicle
from node.daemon.tower_messages import (
    ADD_JUSTICE,
    FORGET_CHANNEL,
    REFUSED,
    STORED,
    TAG_BYTES,
    AddJustice,
    ForgetChannel,
    read_refused,
    read_stored,
    write_add,
    write_forget,
)
from node.daemon.turn import Turn
from wire.codec import DecodeError, Message
from wire.crypto.hashes import tagged_hash
from wire.messages.base import Init

log = logging.getLogger("rill.watchtower")

MOST_UNANSWERED = 64
REFUSED_WAIT_SECONDS = 600.0


class _Sent(msgspec.Struct, frozen=True, gc=False):
    """A request that the tower has not answered yet. `number` is settled by it; None: all is over."""

    request_id: int
    channel_id: bytes
    number: int | None


class TowerClient:
    """What one tower is given."""

    def __init__(self, switch: Switch, chronicle: Chronicle, tower: Address, init: Init) -> None:
        self.tower = tower
        self._switch, self._chronicle, self._init = switch, chronicle, init
        self._signer = switch.signer.alias(b"watchtower")
        self.acknowledged = chronicle.acknowledged(tower.node_id)
        self._unwritten: set[bytes] = set()
        self._given: dict[bytes, int] = {}  # the last number sent on the present connection
        self._changed: set[bytes] = set()
        self._unanswered: deque[_Sent] = deque()
        self._next_id = 0
        self._script = b""
        self._wake, self._answered, self._told = trio.Event(), trio.Event(), trio.Event()
        self._wait_seconds = FIRST_WAIT_SECONDS
        switch.on_channels_changed.append(self._note_channels)
        switch.on_turn.append(self._save_progress)

    # --- what happens in the node

    def _note_channels(self, channels: Sequence[Channel]) -> None:
        self._changed.update(channel.id for channel in channels)
        self._wake.set()

    def note_block(self, _: BlockConnected) -> None:
        """A block came: a channel may be irrevocably over."""
        self._changed.update(c.id for c in self._switch.channels.values() if c.phase is Phase.CLOSED)
        self._wake.set()

    def _save_progress(self, turn: Turn) -> None:
        """Write what was acknowledged into a commit that there is anyway: if lost, it is only sent again."""
        if turn.saved and self._unwritten:
            unwritten, self._unwritten = self._unwritten, set()
            rows = {channel_id: self.acknowledged[channel_id] for channel_id in unwritten}
            self._chronicle.put_acknowledged(turn, self.tower.node_id, rows)

    # --- the connection

    async def run(self) -> None:
        """Stay connected to the tower, and give it what it lacks."""
        self._script = await self._switch.ask(self._begin)
        while True:
            try:
                await self._serve()
            except (Unreachable, PeerGone) as gone:
                shown = {"tower": self.tower.node_id.hex(), "why": str(gone)}
                log.warning("no watchtower watches for us now", extra=shown)
            await trio.sleep(self._wait_seconds * random.uniform(0.8, 1.2))
            self._wait_seconds = min(2 * self._wait_seconds, LONGEST_WAIT_SECONDS)

    def _begin(self, turn: Turn) -> bytes:
        """Note what was there before the tower; give the script that penalties pay."""
        for channel in turn.all_channels():
            self._chronicle.note(turn, channel)
        store = self._switch.store
        script = store.meta("tower_script")
        if script is None:
            fresh = self._switch.new_script(turn)
            turn.write(lambda: store.put_meta("tower_script", fresh))
            return fresh
        return script

    async def _serve(self) -> None:
        host, port = self.tower.host, self.tower.port
        try:
            stream = await trio.open_tcp_stream(host, port)
        except OSError as error:
            raise Unreachable(host, port, error.strerror or str(error)) from None
        peer = await call(stream, self._signer, self.tower.node_id, self._init)
        self._given, self._changed = dict(self.acknowledged), set(self._switch.channels)
        self._unanswered.clear()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._give, peer)
            custom: dict[int, CustomHandler] = {
                STORED: partial(self._stored, peer),
                REFUSED: partial(self._refused, peer),
            }
            await peer.run(_ignore, custom)
            nursery.cancel_scope.cancel()
        log.info("the watchtower is gone", extra={"tower": peer.node_id.hex(), "why": peer.gone_because})

    # --- what it is given

    async def _give(self, peer: Peer) -> None:
        try:
            while True:
                if not self._changed:
                    self._wake = trio.Event()
                    await self._wake.wait()
                changed, self._changed = self._changed, set()
                # what is over makes room for the rest
                for channel_id in sorted(changed, key=lambda id: not self._is_over(id)):
                    await self._give_channel(peer, channel_id)
        except PeerGone:
            return

    def _is_over(self, channel_id: bytes) -> bool:
        """Whether the channel is closed so deep that nothing can bring it back."""
        is_closed = self._switch.channels[channel_id].phase is Phase.CLOSED
        return is_closed and channel_id not in self._switch.resolver.resolutions

    async def _give_channel(self, peer: Peer, channel_id: bytes) -> None:
        if self._is_over(channel_id):
            await self._give_up(peer, channel_id)
            return None
        given = self._given
        while True:
            channel = self._switch.channels[channel_id]
            rows = self._chronicle.revoked(channel, given.get(channel_id, -1))
            if not rows:
                # what was revoked before there were rows no tower can have
                given[channel_id] = channel.shachain.revealed - 1
                return self._settle(channel_id)
            for balances in rows:
                await self._give_state(peer, channel_id, balances)
                given[channel_id] = balances.number

    async def _give_state(self, peer: Peer, channel_id: bytes, balances: Balances) -> None:
        channel = self._switch.channels[channel_id]
        secrets = self._switch.signer.channel_secrets(channel.charter.key_index)
        past = self._switch.store.past_htlcs(channel_id, balances.number)
        txid, justice = justice_for(channel, secrets, balances, past, self._script)
        blobs = [] if justice is None else blobs_of(txid, justice)
        for part, blob in enumerate(blobs):
            # acknowledged is what all parts have arrived of
            number = balances.number if part == len(blobs) - 1 else balances.number - 1
            request_id = await self._number(channel_id, number)
            request = AddJustice(request_id, self._tag(channel_id), hint_of(txid), part, blob)
            await peer.send_bulk(ADD_JUSTICE.to_bytes(2, "big") + write_add(request))
        await trio.lowlevel.checkpoint()

    async def _give_up(self, peer: Peer, channel_id: bytes) -> None:
        if channel_id in self.acknowledged:
            request_id = await self._number(channel_id, None)
            request = ForgetChannel(request_id, self._tag(channel_id))
            await peer.send_bulk(FORGET_CHANNEL.to_bytes(2, "big") + write_forget(request))
        elif self._chronicle.knows(channel_id):
            await self._switch.ask(lambda turn: self._forget(turn, channel_id))

    async def _number(self, channel_id: bytes, number: int | None) -> int:
        """The id of a new request, once few enough are unanswered."""
        while len(self._unanswered) >= MOST_UNANSWERED:
            self._answered = trio.Event()
            await self._answered.wait()
        self._next_id += 1
        self._unanswered.append(_Sent(self._next_id, channel_id, number))
        return self._next_id

    def _tag(self, channel_id: bytes) -> bytes:
        """What stands for a channel there: nobody else can tell which it is."""
        return tagged_hash(b"rill/watchtower-tag", self._signer.node_secret + channel_id)[:TAG_BYTES]

    # --- what it answers

    async def _stored(self, peer: Peer, _: bytes, payload: bytes) -> None:
        try:
            request_id = read_stored(payload)
        except DecodeError as error:
            peer.warn(str(error))
            return
        if not self._unanswered or self._unanswered[0].request_id != request_id:
            peer.close("it answers what we did not ask")
            return
        sent = self._unanswered.popleft()
        self._answered.set()
        self._wait_seconds = FIRST_WAIT_SECONDS
        if sent.number is None:
            await self._switch.ask(lambda turn: self._forget(turn, sent.channel_id))
        else:
            self._acknowledge(sent.channel_id, sent.number)
            self._settle(sent.channel_id)

    def _settle(self, channel_id: bytes) -> None:
        """When nothing of a channel is unanswered, the tower has all that it was given."""
        if all(sent.channel_id != channel_id for sent in self._unanswered):
            self._acknowledge(channel_id, self._given.get(channel_id, -1))

    def _acknowledge(self, channel_id: bytes, number: int) -> None:
        if number > self.acknowledged.get(channel_id, -1):
            self.acknowledged[channel_id] = number
            self._unwritten.add(channel_id)
            self._told.set()

    async def _refused(self, peer: Peer, _: bytes, payload: bytes) -> None:
        try:
            reason = read_refused(payload).reason
        except DecodeError as error:
            peer.warn(str(error))
            return
        log.error("a watchtower refuses us", extra={"tower": peer.node_id.hex(), "why": reason.text})
        self._wait_seconds = REFUSED_WAIT_SECONDS
        peer.close(f"it refuses us: {reason.text}")

    def _forget(self, turn: Turn, channel_id: bytes) -> None:
        self.acknowledged.pop(channel_id, None)
        self._unwritten.discard(channel_id)
        self._chronicle.forget(turn, self.tower.node_id, channel_id)
        turn.then(self._told.set)

    # --- what our user may ask

    def lacks(self, channel: Channel) -> bool:
        """Whether the tower has not acknowledged something that the channel's peer has revoked."""
        is_behind = self.acknowledged.get(channel.id, -1) < channel.shachain.revealed - 1
        return is_behind and not self._is_over(channel.id)

    async def wait_for_all(self) -> None:
        """Return once the tower has everything that was revoked so far, and nothing that is over."""
        while any(self.lacks(c) or self._is_to_go(c.id) for c in self._switch.channels.values()):
            self._told = trio.Event()
            await self._told.wait()

    def _is_to_go(self, channel_id: bytes) -> bool:
        return self._is_over(channel_id) and channel_id in self.acknowledged


def tower_clients(switch: Switch, towers: Sequence[Address], init: Init) -> list[TowerClient]:
    """What the towers of a node are given."""
    chronicle = Chronicle(switch)
    return [TowerClient(switch, chronicle, tower, init) for tower in towers]


def _ignore(_: Peer, __: Message, ___: bytes) -> None:
    """Whatever else a tower says is nothing to us."""
