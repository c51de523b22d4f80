"""The two parties of `two_parties`, whose connection breaks and whose nodes crash (BOLT 2, retransmission).

Whatever is under way is lost. A crash also loses what was not durable: the party goes on from its
last saved value. Then both take up the channel again and say what the other one missed.
"""

from collections.abc import Callable
from random import Random

from htlc.channel import Channel
from htlc.effects import Effect, Save, Send
from htlc.reestablish import disconnected, reestablish
from htlc.withdrawal import unsigned
from tests.htlc.parties import Party
from tests.properties.two_parties import Stage
from wire.codec import Message
from wire.messages.catalogue import encode
from wire.messages.channel import ChannelReestablish


class Node:
    """What belongs to one party besides its channel: its disk, and whether it is connected."""

    def __init__(self, channel: Channel) -> None:
        self.saved, self.is_live = channel, True


class ReconnectingStage(Stage):
    """A stage on which connections break and nodes crash."""

    def __init__(self, random: Random) -> None:
        super().__init__(random)
        self.nodes = {party.name: Node(party.channel) for party in self.parties}
        self.breaks_left, self.taken_back = 12, 0
        for party in self.parties:
            _watch(party, self.nodes[party.name])

    def choices(self) -> tuple[Callable[[Party], None], ...]:
        return (*super().choices(), self.break_connection)

    def is_live(self, party: Party) -> bool:
        return self.nodes[party.name].is_live

    def break_connection(self, party: Party) -> None:
        """Lose what is under way; perhaps one side forgets what was not durable as well."""
        if not self.breaks_left:
            return
        self.breaks_left -= 1
        self.say(party, "loses the connection")
        crashed = self.random.choice((None, *self.parties))
        if crashed is not None:
            self.say(crashed, "crashes")
            crashed.channel = self.nodes[crashed.name].saved
        for each in self.parties:
            each.outbox.clear()
            each.channel = self.nodes[each.name].saved = disconnected(each.channel)
            self.nodes[each.name].is_live = False
        for each in self.parties:
            each.outbox.append(encode(reestablish(each.channel, each.secrets)))

    def deliver(self, party: Party) -> None:
        unsigned_before = {each.name: [htlc.id for htlc in unsigned(each.channel)] for each in self.parties}
        withdrawn_before = {each.name: len(each.withdrawn) for each in self.parties}
        super().deliver(party)
        for each in self.parties:
            gone = [htlc.id for htlc in each.withdrawn[withdrawn_before[each.name] :]]
            if gone:
                self._forget(each, unsigned_before[each.name], gone)

    def _forget(self, party: Party, ids: list[int], gone: list[int]) -> None:
        """Offers were taken back for which there was no room any more; those that stay move up."""
        self.say(party, f"takes back {gone} of {ids}")
        self.taken_back += len(gone)
        numbers = {i: self.preimages.pop((party.name, i)) for i in ids}
        for place, htlc_id in enumerate(i for i in ids if i not in gone):
            self.preimages[party.name, ids[0] + place] = numbers[htlc_id]

    def _note(self, sender: Party, message: Message) -> None:
        super()._note(sender, message)
        if isinstance(message, ChannelReestablish):
            self.nodes[self.other(sender).name].is_live = True

    def _try_offer(self, party: Party, amount_msat: int) -> bool:
        is_offered = super()._try_offer(party, amount_msat)
        if is_offered:
            self.nodes[party.name].saved = party.channel
        return is_offered

    def remove(self, party: Party) -> None:
        super().remove(party)
        self.nodes[party.name].saved = party.channel

    def heard_once(self, outcomes: list[tuple[int, str]]) -> list[tuple[int, str]]:
        """A preimage is carried on at once, and again if the peer has to say it again."""
        fulfilled = {outcome for outcome in outcomes if outcome[1] == "fulfill"}
        return [*fulfilled, *(outcome for outcome in outcomes if outcome[1] != "fulfill")]


def _watch(party: Party, node: Node) -> None:
    """Keep what is saved, and say nothing while the channel is not taken up."""
    note = party._note

    def noted(effect: Effect) -> None:
        if isinstance(effect, Save):
            node.saved = party.channel
        if node.is_live or not isinstance(effect, Send):
            note(effect)

    party._note = noted  # type: ignore[method-assign]
