"""A channel that lives at random, ends on the chain at random, and what must hold then.

The two parties offer, remove, sign and deliver in any order; at some moment one of them publishes
a commitment, its newest or any that it has revoked. Then blocks come and go, preimages become
known or do not, nodes restart, and in the end every satoshi is where the chain and the protocol
say. `play` runs one seed.
"""

from random import Random

from htlc import steps
from htlc.channel import Channel, Phase
from htlc.errors import Refused
from htlc.ladder import Failed, Fulfilled, Htlc
from htlc.resolution_identify import Ending, Kind
from tests.htlc.onchain_stage import Player, Stage
from tests.htlc.parties import ANCHORS, STATIC, preimage_of

HASHES = 8
AMOUNTS_MSAT = (1000, 353_999, 354_000, 400_000, 600_000, 1_500_123, 50_000_000, 50_000_000, 700_000_000)
MOST_BLOCKS = 60


class Story:
    """One run."""

    def __init__(self, stage: Stage, random: Random) -> None:
        self.random, self.stage = random, stage
        stage.open(
            random.choice((ANCHORS, STATIC)),
            feerate_per_kw=random.choice((253, 1000, 5000)),
            push_sat=random.choice((500_000, 5_000_000, 9_000_000)),
        )
        self.players = stage.players
        self.numbers: dict[tuple[str, int], int] = {}  # what the preimage of an HTLC is made from
        self.states: dict[str, dict[int, Channel]] = {player.party.name: {} for player in self.players}
        self.taken: list[bool] = []

    def play(self) -> None:
        for _ in range(self.random.randrange(10, 150)):
            self._dance()
        self._publish()
        for _ in range(MOST_BLOCKS):
            self._pass_time()
        for player in self.players:
            player.is_away = False
        self.stage.mine(230)
        self.check()

    # --- life

    def _dance(self) -> None:
        player, other = self.random.sample(self.players, 2)
        party = player.party
        match self.random.choice(("offer", "offer", "remove", "sign", "deliver", "deliver", "deliver")):
            case "offer":
                self._offer(player)
            case "remove":
                self._remove(player)
            case "sign" if steps.has_to_sign(party.channel):
                party.sign()
            case "deliver" if party.outbox:
                party.deliver_one_to(other.party)
                self.states[other.party.name].setdefault(other.channel.number.local, other.channel)

    def _offer(self, player: Player) -> None:
        number, expiry = self.random.randrange(HASHES), self.stage.height + self.random.randrange(5, 50)
        htlc_id = player.channel.next_htlc_id.local
        try:
            player.party.offer(self.random.choice(AMOUNTS_MSAT), number, expiry)
            self.numbers[player.party.name, htlc_id] = number
        except Refused:
            pass

    def _remove(self, player: Player) -> None:
        removable = [h for h in player.channel.htlcs.remote.values() if h.is_locked_in and h.outcome is None]
        if removable:
            htlc = self.random.choice(removable)
            preimage = preimage_of(self._number(player, htlc))
            outcome = Fulfilled(preimage) if self.random.random() < 0.6 else Failed(b"reason")
            player.party.remove(htlc.id, outcome)

    def _number(self, player: Player, received: Htlc) -> int:
        (offerer,) = [other for other in self.players if other is not player]
        return self.numbers[offerer.party.name, received.id]

    # --- the end

    def _publish(self) -> None:
        for player in self.players:
            # what has not arrived by now never will
            player.party.outbox.clear()
        self.publisher = self.random.choice(self.players)
        (self.other,) = [player for player in self.players if player is not self.publisher]
        states = self.states[self.publisher.party.name]
        revealed = self.other.channel.shachain.revealed
        revoked = [number for number in states if number < revealed]
        self.is_cheating = bool(revoked) and self.random.random() < 0.5
        # a secret that was not delivered revokes nothing
        valid = [number for number in states if number >= revealed]
        numbers = revoked if self.is_cheating else valid
        if numbers:
            self.publisher.party.channel = states[self.random.choice(numbers)]
        self.other.is_away = self.is_cheating and self.random.random() < 0.5
        # when both go to chain, either commitment may be the one that is mined
        for player in self.random.choice(([self.publisher], [self.publisher], list(self.players))):
            player.force_close()

    def _pass_time(self) -> None:
        for player in self.players:
            self._learn(player)
            if self.random.random() < 0.05:
                player.restart()
        chance = self.random.random()
        if chance < 0.08:
            self.stage.reorganise(self.random.randrange(1, 7), self.random.choice((None, [])))
        elif chance < 0.2:
            self.stage.pass_over()
        else:
            self.stage.mine()
        if self.random.random() < 0.1:
            self.other.is_away = False

    def _learn(self, player: Player) -> None:
        unknown = [h for h in player.channel.htlcs.remote.values() if h.is_locked_in and h.outcome is None]
        if unknown and self.random.random() < 0.1:
            htlc = self.random.choice(unknown)
            player.fulfill(htlc.id, self._number(player, htlc))

    # --- what must hold

    def check(self) -> None:
        self.stage.check_conserved()
        assert self.other.channel.phase is Phase.CLOSED
        self._check_upstream(self.other)
        assert self.other.resolution.spent is not None
        if self.is_cheating and self.other.resolution.spent.ending is not Ending.OURS:
            assert self.other.resolution.spent.ending is Ending.REVOKED
            # at most its own anchor comes back, with a loss
            assert self.publisher.gained_sat <= 330
        elif not self.is_cheating:
            assert self.publisher.channel.phase is Phase.CLOSED
            self._check_upstream(self.publisher)

    def _check_upstream(self, player: Player) -> None:
        """No HTLC of ours is failed upstream that was paid downstream, and none is forgotten.

        But for those that are not worth the fee of taking them back: a few hundred satoshi each.
        """
        by_preimage = {
            output.htlc_id
            for output in player.resolution.outputs
            if output.spending is not None and not output.spending.is_ours
            if output.kind in (Kind.OFFERED, Kind.OFFERED_IN_THEIRS)
            if output.outpoint not in player.resolution.left
        }
        for htlc in player.channel.htlcs.local.values():
            if not isinstance(htlc.outcome, Fulfilled):
                outcome = player.settled[htlc.id]
                assert htlc.id not in by_preimage or isinstance(outcome, Fulfilled)


def play(stage: Stage, seed: int) -> None:
    """Run one seed to its end."""
    Story(stage, Random(seed)).play()
