"""Closing together: carrying the rules of `htlc.closing` and `htlc.simple_close` between peers and user.

Who wants the close pays for its speed. Under option_simple_close the other side offers the least
that is relayed: that gives way to the transaction of who is in a hurry, and is still a way out.
A wish is durable, so it outlives a restart and waits for a peer that is away.
"""

from typing import TYPE_CHECKING

import msgspec

from htlc import closing
from htlc.channel import Channel, Phase
from htlc.errors import ChannelError, NotUsable, UnexpectedMessage
from htlc.market import LOWEST_FEERATE_PER_KW
from node.daemon.later import Later
from node.daemon.peer import Peer
from wire.codec import Message
from wire.features import SHUTDOWN_ANYSEGWIT, SIMPLE_CLOSE
from wire.messages.channel import ClosingComplete, ClosingSig, ClosingSigned, Shutdown

if TYPE_CHECKING:
    from htlc import simple_close
    from node.daemon.switch import Switch
    from node.daemon.turn import Turn
else:
    simple_close = Later("htlc.simple_close")

FIRST_FEERATE_PER_KW = 1000
_OPEN = (Phase.AWAITING_FUNDING, Phase.NORMAL, Phase.SHUTTING_DOWN)
_ON_CHAIN = (Phase.FAILED, Phase.CLOSED)


class BadDestination(ChannelError):
    """Our user wants its balance where the protocol does not let it go."""

    def __init__(self, script: bytes, why: str) -> None:
        self.script, self.why = script, why
        super().__init__(f"the channel cannot be closed to {script.hex()}: {why}")


class ClosingWish(msgspec.Struct, frozen=True, gc=False):
    """How our user wants a channel closed."""

    script: bytes = b""  # empty: a fresh one of the wallet
    feerate_per_kw: int | None = None  # None: what the chain asks for


class Closings:
    """All channels that close by agreement."""

    def __init__(self, switch: "Switch") -> None:
        self._switch = switch
        self.feerate_per_kw = FIRST_FEERATE_PER_KW  # what the chain asks for now
        rows = switch.store.items("closing_wishes")
        self.wishes = {key: msgspec.msgpack.decode(raw, type=ClosingWish) for key, raw in rows}

    # --- what our user asks

    def begin(self, turn: "Turn", channel_id: bytes, wish: ClosingWish) -> None:
        """Close a channel; or while its end waits for a block, offer another transaction.

        Raises:
            ChannelError: there is no such channel, or it cannot be closed so now.
        """
        channel = turn.channel(channel_id)
        if channel is None:
            raise ChannelError("there is no channel with that id")
        self._check_destination(channel, wish.script)
        if channel.phase in (Phase.NORMAL, Phase.AWAITING_FUNDING):
            turn.staged.setdefault(channel_id, channel)
        elif channel_id in self._switch.live and self._is_simple(channel):
            secrets = self._switch.signer.channel_secrets(channel.charter.key_index)
            rate = wish.feerate_per_kw or self.feerate_per_kw
            turn.take(simple_close.propose(channel, secrets, rate, self._switch.height, wish.script))
        else:
            raise NotUsable(channel.phase.value)
        self.wishes[channel_id] = wish
        turn.write(lambda: self._switch.store.put_value("closing_wishes", channel_id, wish))

    def _check_destination(self, channel: Channel, script: bytes) -> None:
        if not script:
            return
        if channel.charter.upfront_shutdown_scripts.local not in (b"", script):
            # shutdown.3
            raise BadDestination(script, "another was promised at opening")
        peer_id = channel.charter.peer_id
        is_anysegwit = self._switch.agrees_on(peer_id, SHUTDOWN_ANYSEGWIT)
        if not closing.is_shutdown_script(script, is_anysegwit, self._is_simple(channel)):
            raise BadDestination(script, "the peer takes no script of this form, or cannot be asked now")

    def _is_simple(self, channel: Channel) -> bool:
        return self._switch.agrees_on(channel.charter.peer_id, SIMPLE_CLOSE)

    # --- messages

    def receive(self, turn: "Turn", peer: Peer, channel: Channel, message: Message) -> None:
        """A message about closing.

        Raises:
            Warn, FailChannel: the rule that it breaks.
        """
        if channel.phase in _ON_CHAIN:
            # it crossed the block that ended the channel
            return
        secrets = self._switch.signer.channel_secrets(channel.charter.key_index)
        is_simple = peer.agrees_on(SIMPLE_CLOSE)
        match message:
            case Shutdown():
                is_anysegwit = peer.agrees_on(SHUTDOWN_ANYSEGWIT)
                turn.take(closing.receive_shutdown(channel, message, is_anysegwit, is_simple))
            case ClosingSigned() if not is_simple:
                turn.take(closing.receive_closing_signed(channel, message, secrets))
            case ClosingComplete() if is_simple:
                turn.take(simple_close.receive_closing_complete(channel, message, secrets))
            case ClosingSig() if is_simple:
                turn.take(simple_close.receive_closing_sig(channel, message, secrets))
            case _:
                # framing-tlv.5
                raise UnexpectedMessage(type(message).__name__, "closed in the other way")

    # --- the end of a turn

    def advance(self, turn: "Turn", channel: Channel) -> None:
        """Say shutdown if it is wanted or owed, and negotiate once nothing is left to settle."""
        wish = self.wishes.get(channel.id)
        is_wanted = wish is not None and not channel.closing.scripts.local
        may_now = channel.phase in _OPEN and not closing.has_unsigned_updates(channel)
        if may_now and (is_wanted or closing.owes_shutdown(channel)):
            script = wish.script if wish is not None else b""
            turn.take(closing.shut_down(channel, script or self._switch.new_script(turn)))
            channel = turn.staged[channel.id]
        if closing.may_negotiate(channel):
            self._negotiate(turn, channel, wish)

    def _negotiate(self, turn: "Turn", channel: Channel, wish: ClosingWish | None) -> None:
        secrets = self._switch.signer.channel_secrets(channel.charter.key_index)
        rate = (wish.feerate_per_kw if wish is not None else None) or self.feerate_per_kw
        if self._is_simple(channel):
            rate = rate if wish is not None else LOWEST_FEERATE_PER_KW
            turn.take(simple_close.negotiate(channel, secrets, rate, self._switch.height))
        else:
            turn.take(closing.negotiate(channel, secrets, rate))
