"""Opening channels: carrying the stages of `htlc.opening` between peers, wallet and chain."""

import secrets
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec
import trio

from htlc import opening, steps
from htlc.channel import Channel, Phase
from htlc.errors import FailChannel, UnacceptableOpening, Warn
from htlc.keys import ChannelSecrets
from htlc.ladder import REMOTE
from htlc.opening import Agreed, AwaitingAccept, AwaitingCreated, AwaitingSigned, Negotiated, Wish
from node.daemon.peer import Peer
from node.daemon.wallet import ANY_COINS, FundedTransaction, InsufficientFunds, Means
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
MOST_UNFUNDED_PER_PEER = 100  # that it opened, and no block has the funding of
ALL_CHANNELS = bytes(32)
WENT_AWAY = "the peer went away"


class OpeningFailed(Exception):
    """The channel that our user wanted did not come to be."""

    def __init__(self, why: str, peer_id: bytes = b"") -> None:
        self.why, self.peer_id = why, peer_id
        super().__init__(f"the channel was not opened: {why}")


class Funding:
    """One transaction that pays for one channel, or for several that come to be together."""

    def __init__(self, feerate_per_kw: int, means: Means = ANY_COINS) -> None:
        self.feerate_per_kw, self.means = feerate_per_kw, means
        self.openings: list[Opening] = []
        self.funded: FundedTransaction | None = None

    @property
    def are_all_agreed(self) -> bool:
        """Whether every peer has accepted."""
        return all(each.agreed is not None for each in self.openings)

    @property
    def are_all_signed(self) -> bool:
        """Whether every peer has given us a way out."""
        return all(each.channel is not None for each in self.openings)


class Opening:
    """One channel that our user waits for."""

    def __init__(self, feerate_per_kw: int, funding: Funding | None = None) -> None:
        self.funding = funding or Funding(feerate_per_kw)
        self.funding.openings.append(self)
        self.temporary_id = secrets.token_bytes(32)
        self.done = trio.Event()
        self.agreed: Agreed | None = None
        self.channel: Channel | None = None  # signed, but not yet known to anybody
        self.error: Exception | None = None

    def fail(self, error: Exception) -> None:
        self.error = error
        self.done.set()

    def succeed(self) -> None:
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

    async def open(
        self, peer: Peer, wish: Wish, funding_feerate_per_kw: int, means: Means = ANY_COINS
    ) -> Channel:
        """Open a channel; returns when its funding transaction may be broadcast.

        Raises:
            OpeningFailed: the peer refused, went away, or something did not hold.
            UnacceptableOpening: our wish breaks a rule.
            InsufficientFunds: the wallet cannot pay for it.
        """
        [channel] = await self.open_together([(peer, wish)], Funding(funding_feerate_per_kw, means))
        return channel

    async def open_together(self, wishes: Sequence[tuple[Peer, Wish]], funding: Funding) -> list[Channel]:
        """Open channels that one transaction pays for: all of them, or none.

        Raises:
            OpeningFailed, UnacceptableOpening, InsufficientFunds: as `open`, from the first that failed.
        """
        attempts = [Opening(funding.feerate_per_kw, funding) for _ in wishes]
        for (peer, wish), attempt in zip(wishes, attempts, strict=True):
            try:
                await self._switch.ask(self.proposing(peer, wish, attempt))
            except Exception as error:
                self._abandon(funding, error)
                raise
        for attempt in attempts:
            await attempt.done.wait()
        for attempt in attempts:
            if attempt.error is not None:
                raise attempt.error
        channels = [attempt.channel for attempt in attempts if attempt.channel is not None]
        assert len(channels) == len(attempts), "an opening that has not failed has a channel"
        return channels

    def proposing(self, peer: Peer, wish: Wish, attempt: Opening) -> Callable[["Turn"], None]:
        """What a turn does to begin an opening."""

        def act(turn: "Turn") -> None:
            if self._switch.peers.get(peer.node_id) is not peer:
                raise OpeningFailed(WENT_AWAY, peer.node_id)
            index = self._new_key_index(turn)
            keys = self._switch.signer.channel_secrets(index)
            stage, proposal = opening.propose(
                self._switch.house, _negotiated(peer), wish, peer.node_id, index, keys, attempt.temporary_id
            )
            if attempt.done.is_set():
                # another of its transaction has failed meanwhile
                return
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
            is_ours = isinstance(broken, InsufficientFunds)
            failure = broken if is_ours else OpeningFailed(str(broken), peer.node_id)
            self._fail(turn, peer.node_id, channel_id, failure)

    def _receive_open(self, turn: "Turn", peer: Peer, message: OpenChannel) -> None:
        key = peer.node_id, message.temporary_channel_id
        count = sum(peer_id == peer.node_id for peer_id, _ in self._stages)
        is_too_much = count >= MOST_STAGES_PER_PEER or _unfunded(turn, peer.node_id) >= MOST_UNFUNDED_PER_PEER
        if is_too_much or key in self._stages:
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
        attempt.agreed = opening.receive_accept(stage, message)
        if attempt.funding.are_all_agreed:
            self._fund(turn, attempt.funding)

    def _fund(self, turn: "Turn", funding: Funding) -> None:
        """Make the transaction, and name its output to each peer."""
        agreed = [each.agreed for each in funding.openings if each.agreed is not None]
        outputs = [TxOut(each.stage.proposal.funding_satoshis, each.funding_output_script) for each in agreed]
        outpoints = self._pay(turn, funding, outputs)
        for attempt, each, outpoint in zip(funding.openings, agreed, outpoints, strict=True):
            stage = each.stage
            keys = self._switch.signer.channel_secrets(stage.key_index)
            signing, created = opening.fund(each, outpoint, keys)
            del self._stages[stage.peer_id, attempt.temporary_id]
            self._signing[stage.peer_id, signing.channel.id] = signing, attempt
            turn.send(stage.peer_id, created)

    def _pay(self, turn: "Turn", funding: Funding, outputs: Sequence[TxOut]) -> list[OutPoint]:
        wallet, store = self._switch.wallet, self._switch.store
        funding.funded = wallet.fund(outputs, funding.feerate_per_kw, means=funding.means)
        turn.writes_once[b"wallet"] = lambda: wallet.save(store.db)
        return [funding.funded.transaction.outpoint(index) for index in range(len(outputs))]

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
        attempt.channel = opening.receive_signed(stage, message, keys)
        # it is kept until all have signed: if one does not, none of them comes to be
        if attempt.funding.are_all_signed:
            self._complete(turn, attempt.funding)

    def _complete(self, turn: "Turn", funding: Funding) -> None:
        """Every channel has its way out: from here on we remember them, and may pay."""
        assert funding.funded is not None, "funding_created came after the transaction was made"
        for attempt in funding.openings:
            assert attempt.channel is not None, "all have signed"
            channel = msgspec.structs.replace(attempt.channel, known_since=self._switch.height)
            del self._signing[channel.charter.peer_id, channel.id]
            turn.put(channel)
            self._switch.live.add(channel.id)
            keys = self._switch.signer.channel_secrets(channel.charter.key_index)
            self._use_at_once(turn, channel, keys)
        self._switch.wallet.add(funding.funded.transaction)
        turn.writes_once[b"wallet"] = lambda: self._switch.wallet.save(self._switch.store.db)
        turn.broadcast(funding.funded.transaction)
        for attempt in funding.openings:
            turn.then(attempt.succeed)

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
                self._fail(turn, *key, OpeningFailed(f"the peer says: {why}", peer_id))

    def _keys_of(self, peer_id: bytes) -> list[tuple[bytes, bytes]]:
        return [key for key in (*self._stages, *self._signing) if key[0] == peer_id]

    def forget(self, peer_id: bytes) -> None:
        """The connection is down: nothing that was not signed yet survives it."""
        for key in self._keys_of(peer_id):
            self._give_up(*key, OpeningFailed(WENT_AWAY, peer_id))

    def _fail(self, turn: "Turn", peer_id: bytes, channel_id: bytes, error: Exception) -> None:
        turn.then(lambda: self._give_up(peer_id, channel_id, error))

    def _give_up(self, peer_id: bytes, channel_id: bytes, error: Exception) -> None:
        _, waiting = self._stages.pop((peer_id, channel_id), (None, None))
        _, signing = self._signing.pop((peer_id, channel_id), (None, None))
        for attempt in (waiting, signing):
            if attempt is not None:
                self._abandon(attempt.funding, error)

    def _abandon(self, funding: Funding, error: Exception) -> None:
        """None of the channels of a transaction comes to be."""
        if funding.funded is not None:
            self._switch.wallet.release(funding.funded)
        for table in (self._stages, self._signing):
            for key in [key for key, (_, attempt) in table.items() if attempt in funding.openings]:
                del table[key]
                peer = self._switch.peers.get(key[0])
                if peer is not None:
                    peer.send(Error(key[1], b"another channel of the same transaction has failed"))
        for attempt in funding.openings:
            if not attempt.done.is_set():
                attempt.fail(error)


def best_type(peer: Peer, *, is_announced: bool) -> bytes:
    """The channel type that a channel with this peer should have if our user wishes for none."""
    wished = (ANCHORS,) if is_announced else (ANCHORS, SCID_ALIAS)
    agreed = [feature for feature in wished if peer.agrees_on(feature)]
    return Features.of(STATIC_REMOTEKEY, *agreed).to_bytes()


def _temporary_id(message: Message) -> bytes:
    temporary_id: bytes = getattr(message, "temporary_channel_id", b"")
    return temporary_id


def _unfunded(turn: "Turn", peer_id: bytes) -> int:
    """How many channels we remember because a peer says that it will pay for them."""
    return sum(
        channel.charter.peer_id == peer_id
        and channel.charter.opener is REMOTE
        and channel.short_channel_id is None
        and channel.phase is Phase.AWAITING_FUNDING
        for channel in turn.all_channels()
    )


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
