"""Opening channels: carrying the stages of `htlc.opening` between peers, wallet and chain."""

import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
import trio

from htlc import opening, steps
from htlc.channel import Channel
from htlc.errors import FailChannel, UnacceptableOpening, Warn
from htlc.keys import ChannelSecrets
from htlc.opening import Agreed, AwaitingAccept, AwaitingCreated, AwaitingSigned, Negotiated, Wish
from node.daemon.peer import Peer
from node.daemon.wallet import FundedTransaction, InsufficientFunds
from wire.bitcoin.tx import OutPoint, TxOut
from wire.codec import Message
from wire.features import (
    ANCHORS,
    LARGE_CHANNEL,
    SCID_ALIAS,
    SHUTDOWN_ANYSEGWIT,
    SIMPLE_CLOSE,
    STATIC_REMOTEKEY,
    UPFRONT_SHUTDOWN_SCRIPT,
    ZEROCONF,
    Features,
)
from wire.messages.base import Error, said
from wire.messages.channel import AcceptChannel, FundingCreated, FundingSigned, OpenChannel

if TYPE_CHECKING:
    from node.daemon.switch import Switch
    from node.daemon.turn import Turn

MOST_STAGES_PER_PEER = 10
ALL_CHANNELS = bytes(32)
WENT_AWAY = "the peer went away"


class OpeningFailed(Exception):
    """The channel that our user wanted did not come to be."""

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(f"the channel was not opened: {why}")


class Opening:
    """One channel that our user waits for."""

    def __init__(self, feerate_per_kw: int) -> None:
        self.feerate_per_kw = feerate_per_kw
        self.temporary_id = secrets.token_bytes(32)
        self.done = trio.Event()
        self.channel: Channel | None = None
        self.error: Exception | None = None
        self.funding: FundedTransaction | None = None

    def fail(self, error: Exception) -> None:
        self.error = error
        self.done.set()

    def succeed(self, channel: Channel) -> None:
        self.channel = channel
        self.done.set()


class Establishment:
    """All channels that are being opened, by us or by peers."""

    def __init__(self, switch: "Switch") -> None:
        self._switch = switch
        # by peer and temporary id; the accepter's stages have no Opening
        self._stages: dict[tuple[bytes, bytes], tuple[AwaitingAccept | AwaitingCreated, Opening | None]] = {}
        self._signing: dict[tuple[bytes, bytes], tuple[AwaitingSigned, Opening]] = {}
        raw = switch.store.meta("next_key_index")
        self._next_key_index = int.from_bytes(raw, "big") if raw else 0

    async def open(self, peer: Peer, wish: Wish, funding_feerate_per_kw: int) -> Channel:
        """Open a channel; returns when its funding transaction may be broadcast.

        Raises:
            OpeningFailed: the peer refused, went away, or something did not hold.
            UnacceptableOpening: our wish breaks a rule.
            InsufficientFunds: the wallet cannot pay for it.
        """
        attempt = Opening(funding_feerate_per_kw)
        await self._switch.ask(self.proposing(peer, wish, attempt))
        await attempt.done.wait()
        if attempt.error is not None:
            raise attempt.error
        assert attempt.channel is not None, "an opening that has not failed has a channel"
        return attempt.channel

    def proposing(self, peer: Peer, wish: Wish, attempt: Opening) -> Callable[["Turn"], None]:
        """What a turn does to begin an opening."""

        def act(turn: "Turn") -> None:
            if self._switch.peers.get(peer.node_id) is not peer:
                raise OpeningFailed(WENT_AWAY)
            index = self._new_key_index(turn)
            keys = self._switch.signer.channel_secrets(index)
            stage, proposal = opening.propose(
                self._switch.house, _negotiated(peer), wish, peer.node_id, index, keys, attempt.temporary_id
            )
            self._stages[peer.node_id, attempt.temporary_id] = stage, attempt
            turn.send(peer.node_id, proposal)

        return act

    @property
    def next_key_index(self) -> int:
        """The number of the keys that the next channel gets."""
        return self._next_key_index

    def _new_key_index(self, turn: "Turn") -> int:
        index = self._next_key_index
        self._next_key_index += 1
        turn.write(lambda: self._switch.store.put_meta("next_key_index", (index + 1).to_bytes(8, "big")))
        return index

    # --- messages

    def receive(self, turn: "Turn", peer: Peer, message: Message) -> None:
        """A message of the establishment; whatever it breaks fails the opening alone."""
        try:
            match message:
                case OpenChannel():
                    self._receive_open(turn, peer, message)
                case AcceptChannel():
                    self._receive_accept(turn, peer, message)
                case FundingCreated():
                    self._receive_created(turn, peer, message)
                case FundingSigned():
                    self._receive_signed(turn, peer, message)
        except (FailChannel, Warn, InsufficientFunds) as broken:
            # error-warning.2: before the real id exists an error names the temporary one
            channel_id = message.channel_id if isinstance(message, FundingSigned) else _temporary_id(message)
            turn.send(peer.node_id, Error(channel_id, said(str(broken))))
            failure = broken if isinstance(broken, InsufficientFunds) else OpeningFailed(str(broken))
            self._fail(turn, peer.node_id, channel_id, failure)

    def _receive_open(self, turn: "Turn", peer: Peer, message: OpenChannel) -> None:
        key = peer.node_id, message.temporary_channel_id
        count = sum(peer_id == peer.node_id for peer_id, _ in self._stages)
        if count >= MOST_STAGES_PER_PEER or key in self._stages:
            raise UnacceptableOpening(
                "temporary_channel_id", message.temporary_channel_id.hex(), "one too many"
            )
        index = self._new_key_index(turn)
        keys = self._switch.signer.channel_secrets(index)
        stage, answer = opening.accept(
            self._switch.house, _negotiated(peer), message, peer.node_id, index, keys
        )
        self._stages[key] = stage, None
        turn.send(peer.node_id, answer)

    def _receive_accept(self, turn: "Turn", peer: Peer, message: AcceptChannel) -> None:
        stage, attempt = self._stages.get((peer.node_id, message.temporary_channel_id), (None, None))
        if not isinstance(stage, AwaitingAccept) or attempt is None:
            return
        agreed = opening.receive_accept(stage, message)
        outpoint = self._fund(turn, agreed, attempt)
        keys = self._switch.signer.channel_secrets(stage.key_index)
        signing, created = opening.fund(agreed, outpoint, keys)
        del self._stages[peer.node_id, message.temporary_channel_id]
        self._signing[peer.node_id, signing.channel.id] = signing, attempt
        turn.send(peer.node_id, created)

    def _fund(self, turn: "Turn", agreed: Agreed, attempt: Opening) -> OutPoint:
        output = TxOut(agreed.stage.proposal.funding_satoshis, agreed.funding_output_script)
        wallet, store = self._switch.wallet, self._switch.store
        funded = wallet.fund((output,), attempt.feerate_per_kw)
        turn.writes_once[b"wallet"] = lambda: wallet.save(store.db)
        attempt.funding = funded
        return funded.transaction.outpoint(funded.transaction.outputs.index(output))

    def _receive_created(self, turn: "Turn", peer: Peer, message: FundingCreated) -> None:
        key = peer.node_id, message.temporary_channel_id
        stage, _ = self._stages.get(key, (None, None))
        if not isinstance(stage, AwaitingCreated):
            return
        del self._stages[key]
        keys = self._switch.signer.channel_secrets(stage.key_index)
        channel, signed = opening.receive_created(stage, message, keys)
        if turn.channel(channel.id) is not None or any(i == channel.id for _, i in self._signing):
            # its id follows from the outpoint alone: anybody could name that of a channel we have
            raise UnacceptableOpening("funding_txid", message.funding_txid.hex(), "funds another channel")
        # funding_created-funding_signed.4: from here on we remember the channel
        turn.put(msgspec.structs.replace(channel, known_since=self._switch.height))
        self._switch.live.add(channel.id)
        turn.send(peer.node_id, signed)
        self._use_at_once(turn, channel, keys)

    def _receive_signed(self, turn: "Turn", peer: Peer, message: FundingSigned) -> None:
        stage, attempt = self._signing.get((peer.node_id, message.channel_id), (None, None))
        if stage is None or attempt is None:
            return
        keys = self._switch.signer.channel_secrets(stage.channel.charter.key_index)
        channel = opening.receive_signed(stage, message, keys)
        del self._signing[peer.node_id, message.channel_id]
        assert attempt.funding is not None, "funding_created came after the transaction was made"
        turn.put(msgspec.structs.replace(channel, known_since=self._switch.height))
        self._switch.live.add(channel.id)
        self._switch.wallet.add(attempt.funding.transaction)
        turn.writes_once[b"wallet"] = lambda: self._switch.wallet.save(self._switch.store.db)
        turn.broadcast(attempt.funding.transaction)
        self._use_at_once(turn, channel, keys)
        turn.then(lambda: attempt.succeed(channel))

    @staticmethod
    def _use_at_once(turn: "Turn", channel: Channel, keys: ChannelSecrets) -> None:
        """Of a channel whose funding is trusted unconfirmed, say that it is ready."""
        # accept_channel.2: only who is trusted is told 0; that our own funding is good we know
        if channel.charter.minimum_depth_blocks == 0:
            turn.take(steps.confirmed(turn.channel(channel.id) or channel, keys))

    # --- failure

    def fail(self, turn: "Turn", peer_id: bytes, channel_id: bytes, why: str) -> None:
        """The peer sent `error` for a channel that is being opened, or for all."""
        for key in self._keys_of(peer_id):
            names = [ALL_CHANNELS, key[1]]
            if key in self._signing:
                # error-warning.2: until the peer has signed it names the channel by its temporary id
                names.append(self._signing[key][1].temporary_id)
            if channel_id in names:
                self._fail(turn, *key, OpeningFailed(f"the peer says: {why}"))

    def _keys_of(self, peer_id: bytes) -> list[tuple[bytes, bytes]]:
        return [key for key in (*self._stages, *self._signing) if key[0] == peer_id]

    def forget(self, peer_id: bytes) -> None:
        """The connection is down: nothing that was not signed yet survives it."""
        for key in self._keys_of(peer_id):
            self._give_up(*key, OpeningFailed(WENT_AWAY))

    def _fail(self, turn: "Turn", peer_id: bytes, channel_id: bytes, error: Exception) -> None:
        turn.then(lambda: self._give_up(peer_id, channel_id, error))

    def _give_up(self, peer_id: bytes, channel_id: bytes, error: Exception) -> None:
        _, waiting = self._stages.pop((peer_id, channel_id), (None, None))
        _, signing = self._signing.pop((peer_id, channel_id), (None, None))
        for attempt in (waiting, signing):
            if attempt is not None:
                if attempt.funding is not None:
                    self._switch.wallet.release(attempt.funding)
                attempt.fail(error)


def best_type(peer: Peer, *, is_announced: bool) -> bytes:
    """The channel type that a channel with this peer should have if our user wishes for none."""
    wished = (ANCHORS,) if is_announced else (ANCHORS, SCID_ALIAS)
    agreed = [feature for feature in wished if peer.agrees_on(feature)]
    return Features.of(STATIC_REMOTEKEY, *agreed).to_bytes()


def _temporary_id(message: Message) -> bytes:
    temporary_id: bytes = getattr(message, "temporary_channel_id", b"")
    return temporary_id


def _negotiated(peer: Peer) -> Negotiated:
    """What both our init and the peer's allow."""
    return Negotiated(
        large_channels=peer.agrees_on(LARGE_CHANNEL),
        anchors=peer.agrees_on(ANCHORS),
        scid_alias=peer.agrees_on(SCID_ALIAS),
        zeroconf=peer.agrees_on(ZEROCONF),
        upfront_shutdown=peer.agrees_on(UPFRONT_SHUTDOWN_SCRIPT),
        shutdown_anysegwit=peer.agrees_on(SHUTDOWN_ANYSEGWIT),
        simple_close=peer.agrees_on(SIMPLE_CLOSE),
    )
