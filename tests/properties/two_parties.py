"""Two parties who do what they may in any order, and what must hold after every step.

A run is a walk of random choices from one seed: propose, remove, change the fee, sign, deliver,
shut down, begin to close, in both directions, with messages of both sides under way. Whatever
the walk does is allowed by the rules or refused; so nothing that one side sends may ever be
refused by the other. `Stage.run` plays one seed to its end, the agreed closing transaction.
"""

from collections.abc import Callable
from random import Random

from msgspec.structs import replace

from htlc import closing, steps
from htlc.channel import Phase, Terms
from htlc.errors import Refused, UnacceptableOpening
from htlc.ladder import LOCAL, SIGNED_NEXT, SIGNED_NOW, Dual, Failed, FailedMalformed, Fulfilled, Side
from htlc.limits import opener_cost_msat, spendable_msat
from htlc.transactions import trim_limit_msat
from node.chain.kernel import first_unsigned_input
from onion.failures import FailureCode
from tests.htlc.parties import (
    ANCHORS,
    STATIC,
    Party,
    opened_channel,
    preimage_of,
    replaced_house,
)
from wire.bitcoin.script import p2tr, p2wpkh, p2wsh
from wire.bitcoin.tx import TxOut
from wire.codec import Message
from wire.messages.channel import CommitmentSigned, RevokeAndAck
from wire.units import Msat, Sat, msat

CAPACITIES_SAT = (20_000, 100_000, 1_000_000, 10_000_000, 16_777_215, 100_000_000, 400_000_000)
FEERATES_PER_KW = (253, 254, 500, 1000, 2500, 5000, 10_000, 25_000)
DUST_LIMITS_SAT = (354, 355, 546, 1000)
SLOTS = (1, 2, 6, 30, 483, 483)


class Stage:
    """Alice, Bob, what is under way between them, and what we know of them both."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.story: list[str] = []
        self.alice, self.bob = self._opened()
        self.parties = (self.alice, self.bob)
        self.owned_msat = {party.name: int(party.channel.settled_msat.local) for party in self.parties}
        self.next_preimage = 0
        self.preimages: dict[tuple[str, int], int] = {}  # by offerer and HTLC id
        self.outcomes: dict[tuple[str, int], str] = {}
        self.revealed = {party.name: 0 for party in self.parties}  # secrets given away
        # what was in each commitment that a side signed for the other one
        self.signed: dict[str, dict[int, set[tuple[Side, int]]]] = {p.name: {} for p in self.parties}
        self.has_met_reserve: set[str] = set()
        self.wants_close: set[str] = set()
        self.heard: dict[str, list[Message]] = {party.name: [] for party in self.parties}

    def _opened(self) -> tuple[Party, Party]:
        """A channel with drawn terms; what nobody would accept is drawn again."""
        random = self.random
        while True:
            house_of_alice, house_of_bob = (
                replaced_house(
                    dust_limit_sat=Sat(random.choice(DUST_LIMITS_SAT)),
                    max_accepted_htlcs=random.choice(SLOTS),
                    htlc_minimum_msat=Msat(random.choice((0, 1, 1, 1000))),
                    to_self_delay_blocks=random.choice((1, 144, 2016)),
                )
                for _ in range(2)
            )
            capacity_sat = random.choice(CAPACITIES_SAT)
            push_msat = random.choice((0, 1, random.randrange(1000 * capacity_sat), 500 * capacity_sat))
            channel_type = random.choice((ANCHORS, STATIC))
            feerate_per_kw = random.choice(FEERATES_PER_KW)
            try:
                alice, bob = opened_channel(
                    capacity_sat,
                    push_msat,
                    channel_type,
                    feerate_per_kw,
                    house_of_alice,
                    house_of_bob,
                    is_ready=False,
                )
            except UnacceptableOpening:
                continue
            self.story.append(f"open {capacity_sat} push {push_msat} {channel_type.hex()} {feerate_per_kw}")
            self._draw_terms(alice, bob)
            return alice, bob

    def _draw_terms(self, alice: Party, bob: Party) -> None:
        """Reserves and caps that no House offers, but that another implementation may."""
        funding_sat = alice.channel.charter.funding_sat
        terms = [self._drawn_terms(alice.channel.charter.terms[side], funding_sat) for side in Side]
        for party, pair in ((alice, Dual(*terms)), (bob, Dual(*terms).swapped())):
            charter = replace(party.channel.charter, terms=pair)
            party.channel = replace(party.channel, charter=charter)

    def _drawn_terms(self, terms: Terms, funding_sat: Sat) -> Terms:
        reserve_sat = self.random.choice((terms.channel_reserve_sat, 1000, funding_sat // 10))
        caps_msat = (msat(funding_sat), msat(funding_sat) // 10, 2_000_000, 2**64 - 1, 2**64 - 1)
        cap_msat = self.random.choice(caps_msat)
        return replace(
            terms,
            channel_reserve_sat=Sat(max(1000, reserve_sat)),
            max_htlc_value_in_flight_msat=Msat(cap_msat),
        )

    def other(self, party: Party) -> Party:
        return self.bob if party is self.alice else self.alice

    # --- the walk

    def run(self, steps_to_take: int) -> None:
        """Walk, drain, close."""
        self.walk(steps_to_take)
        self.finish()

    def walk(self, steps_to_take: int) -> None:
        """Take so many steps, each drawn, and check everything after each."""
        choices = self.choices()
        if self.random.random() < 0.9:
            self.drain_ready()
        may_shut_down_from = self.random.randrange(4 * steps_to_take)
        for taken in range(steps_to_take):
            act = self.random.choice(choices)
            if taken >= may_shut_down_from and self.random.random() < 0.1:
                act = self.want_close
            act(self.random.choice(self.parties))
            self.check_all()

    def choices(self) -> tuple[Callable[[Party], None], ...]:
        """What can happen next, as often as it shall."""
        return (
            *[self.deliver] * 8,
            *[self.sign] * 4,
            *[self.offer] * 6,
            *[self.remove] * 5,
            *[self.advance] * 2,
            self.confirm,
            self.change_fee,
            self.offer_all,
            self.deliver_all,
            self.break_a_rule,
        )

    def is_live(self, party: Party) -> bool:
        """Whether the party may say anything new about the channel now."""
        return True

    def has_to_sign(self, party: Party) -> bool:
        return self.is_live(party) and steps.has_to_sign(party.channel)

    def drain_ready(self) -> None:
        """Most walks begin where the channel is open."""
        for party in self.parties:
            self.confirm(party)
        self.drain()

    def say(self, party: Party, what: str) -> None:
        self.story.append(f"{party.name} {what}")

    def offer(self, party: Party) -> None:
        """An HTLC of any size, most of all around the borders where it has no output."""
        if not self.is_live(party):
            return
        channel, random = party.channel, self.random
        borders = [
            trim_limit_msat(
                channel.charter.format,
                channel.charter.terms[owner].dust_limit_sat,
                channel.feerate_in(owner),
                owner is LOCAL,
            )
            + random.choice((-1000, -1, 0, 1, 999))
            for owner in Side
        ]
        spendable = int(spendable_msat(channel))
        at_random = random.randrange(1, max(2, spendable))
        amounts = (1, 999, 1000, *borders, at_random, *[at_random // 10 + 1] * 4, spendable + 1, 10**10)
        self._try_offer(party, random.choice(amounts))

    def offer_all(self, party: Party) -> None:
        """What is said to be spendable can be spent."""
        amount_msat = spendable_msat(party.channel)
        if self.is_live(party) and amount_msat >= max(
            1, party.channel.charter.terms.remote.htlc_minimum_msat
        ):
            assert self._try_offer(party, amount_msat), f"{amount_msat} msat cannot be spent"

    def _try_offer(self, party: Party, amount_msat: int) -> bool:
        number = self.random.choice((self.next_preimage, max(0, self.next_preimage - 1)))
        htlc_id = party.channel.next_htlc_id.local
        expiry = self.random.choice((140, 140, 141))
        if not self._attempt(
            party, f"offers {amount_msat}", lambda: party.offer(amount_msat, number, expiry)
        ):
            return False
        self.preimages[party.name, htlc_id] = number
        self.next_preimage = max(self.next_preimage, number + 1)
        return True

    def _attempt(self, party: Party, what: str, act: Callable[[], object]) -> bool:
        """Act; a refusal leaves everything as it was."""
        before, outbox = party.channel, len(party.outbox)
        try:
            act()
        except Refused as refused:
            assert party.channel is before
            assert len(party.outbox) == outbox
            self.say(party, f"{what}: refused, {refused}")
            return False
        self.say(party, what)
        return True

    def remove(self, party: Party) -> None:
        """Fulfil or fail an HTLC of the other side that is irrevocable."""
        removable = [h for h in party.channel.htlcs.remote.values() if h.is_locked_in and h.outcome is None]
        if not removable:
            return
        htlc = self.random.choice(removable)
        offerer = self.other(party)
        kind = self.random.choice(("fulfill", "fulfill", "fail", "malformed"))
        if kind == "fulfill":
            preimage = preimage_of(self.preimages[offerer.name, htlc.id])
            party.remove(htlc.id, Fulfilled(preimage))
            self.owned_msat[offerer.name] -= htlc.amount_msat
            self.owned_msat[party.name] += htlc.amount_msat
        elif kind == "fail":
            party.remove(htlc.id, Failed(b"reason"))
        else:
            party.remove(htlc.id, FailedMalformed(bytes(32), FailureCode.invalid_onion_hmac))
        self.outcomes[offerer.name, htlc.id] = kind
        self.say(party, f"{kind} {htlc.id}")

    def change_fee(self, party: Party) -> None:
        if not self.is_live(party):
            return
        feerate_per_kw = self.random.choice(FEERATES_PER_KW)
        self._attempt(party, f"fee {feerate_per_kw}", lambda: party.change_fee(feerate_per_kw))

    def sign(self, party: Party) -> None:
        """A signature over all that has gathered, if there is anything and the last one was answered."""
        if not self.has_to_sign(party):
            party = self.other(party)
        if not self.is_live(party) or not self._attempt(party, "signs", party.sign):
            return
        channel = party.channel
        number = channel.number.remote
        # nothing revoked is signed
        assert number >= self.revealed[self.other(party).name]
        content = channel.spec(Side.REMOTE, number).htlcs
        dust_limit_msat = msat(channel.charter.terms.remote.dust_limit_sat)
        self.signed[party.name][number] = {
            (Side.REMOTE if out.is_offered else LOCAL, out.id)
            for out in content
            if out.amount_msat >= dust_limit_msat
        }

    def deliver(self, party: Party) -> None:
        """One message of this side arrives. Nothing that honest sides send is ever refused."""
        if not party.outbox:
            party = self.other(party)
        if not party.outbox:
            return
        message = party.next_message()
        self.say(self.other(party), f"receives {type(message).__name__}")
        self._note(party, message)
        self.heard[self.other(party).name].append(message)
        self.other(party).receive(message)

    def _note(self, sender: Party, message: Message) -> None:
        match message:
            case RevokeAndAck():
                revoked = self.revealed[sender.name]
                assert message.per_commitment_secret == sender.secrets.per_commitment_secret(revoked)
                assert sender.channel.number.local > revoked, "its way out was replaced before"
                self.revealed[sender.name] += 1
            case CommitmentSigned():
                self._compare_views(sender)

    def _compare_views(self, signer: Party) -> None:
        """The transaction that was signed is the one that the other side will build."""
        owner = self.other(signer)
        if owner.channel.number.local == signer.channel.number.remote:
            assert signer.their_commitment().unsigned == owner.our_commitment().unsigned

    def deliver_all(self, party: Party) -> None:
        while party.outbox:
            self.deliver(party)
            self.check_all()

    def confirm(self, party: Party) -> None:
        if not party.channel.is_ready.local:
            party.confirm()
            self.say(party, "is ready")

    def want_close(self, party: Party) -> None:
        self.wants_close.add(party.name)
        self.say(party, "wants to close")

    def advance(self, party: Party) -> None:
        """Whatever closing asks for next."""
        if not self.is_live(party):
            return
        wants = party.name in self.wants_close and not party.channel.closing.scripts.local
        if wants or closing.owes_shutdown(party.channel):
            party.script = self._drawn_script()
            self._attempt(party, "shuts down", party.shut_down)
        if closing.may_negotiate(party.channel):
            feerate_per_kw = self.random.choice(FEERATES_PER_KW)
            party.negotiate(feerate_per_kw)
            self.say(party, f"negotiates from {feerate_per_kw}")

    def _drawn_script(self) -> bytes:
        point = b"\x02" + self.random.randbytes(32)
        return self.random.choice((p2wpkh(point), p2wsh(point), p2tr(point[1:])))

    def break_a_rule(self, party: Party) -> None:
        """What must be refused, is."""
        htlcs = party.channel.htlcs
        impossible = [99, *htlcs.local, *(i for i, h in htlcs.remote.items() if not h.is_locked_in)]
        wrong = self.random.choice(impossible)
        if wrong not in htlcs.remote or not htlcs.remote[wrong].is_locked_in:
            assert not self._attempt(party, f"removes {wrong}", lambda: party.remove(wrong, Failed(b"")))
        if htlcs.remote:
            oldest, outcome = min(htlcs.remote), Fulfilled(b"not the preimage of anything....")
            assert not self._attempt(party, "guesses", lambda: party.remove(oldest, outcome))

    # --- what must hold

    def check_all(self) -> None:
        for party in self.parties:
            self.check_commitments(party)
            self.check_reserve(party)

    def check_commitments(self, party: Party) -> None:
        """Every commitment that is or may be signed next holds all of the funding, and no debt."""
        channel = party.channel
        funding_msat = msat(channel.charter.funding_sat)
        for owner in Side:
            for floor in (SIGNED_NOW, SIGNED_NEXT):
                spec = channel.spec(owner, channel.number[owner], floor)
                pending_msat = sum(htlc.amount_msat for htlc in spec.htlcs)
                assert spec.to_owner_msat + spec.to_other_msat + pending_msat == funding_msat
                assert spec.to_owner_msat >= 0 <= spec.to_other_msat
                for is_offered, side in ((True, owner), (False, owner.other)):
                    offered = [htlc for htlc in spec.htlcs if htlc.is_offered is is_offered]
                    if owner is side:
                        continue  # its own commitment may still hold what the other's has lost
                    terms = channel.charter.terms[owner]
                    assert len(offered) <= terms.max_accepted_htlcs
                    total_msat = sum(htlc.amount_msat for htlc in offered)
                    assert total_msat <= terms.max_htlc_value_in_flight_msat

    def check_reserve(self, party: Party) -> None:
        """Who has had its reserve never goes below it; fees are the opener's affair."""
        channel = party.channel
        if channel.charter.opener is LOCAL:
            return
        reserve_msat = channel.charter.reserve_msat(LOCAL)
        own = channel.spec(LOCAL, 0).to_owner_msat, channel.spec(Side.REMOTE, 0).to_other_msat
        if min(own) >= reserve_msat:
            self.has_met_reserve.add(party.name)
        assert party.name not in self.has_met_reserve or min(own) >= reserve_msat

    def check_fees(self, party: Party) -> None:
        """What a quiet commitment does not pay out is its fee, less than one satoshi per HTLC more."""
        channel, commitment = party.channel, party.our_commitment()
        paid_sat = sum(output.value_sat for output in commitment.tx.outputs)
        assert paid_sat + commitment.fee_sat == channel.charter.funding_sat
        assert commitment.fee_sat >= 0
        spec = channel.spec(LOCAL, channel.number.local)
        opener_msat = spec.to_owner_msat if channel.charter.opener is LOCAL else spec.to_other_msat
        cost_msat = opener_cost_msat(channel.charter.format, spec.feerate_per_kw, len(commitment.htlcs))
        if opener_msat >= cost_msat:
            assert commitment.fee_sat * 1000 >= cost_msat - 2 * 330_000

    # --- the end

    def finish(self) -> None:
        """Drain, give every HTLC an outcome, drain again, close."""
        self.drain_ready()
        while any(party.channel.htlcs.remote for party in self.parties):
            for party in self.parties:
                for _ in list(party.channel.htlcs.remote):
                    self.remove(party)
            self.drain()
        self.check_quiet()
        for party in self.parties:
            if not party.channel.closing.scripts.local:
                self.want_close(party)
        self.drain()
        self.check_closed()

    def drain(self) -> None:
        """Everything that can happen without a new wish happens, in a drawn order."""
        while True:
            busy = [party for party in self.parties if self._has_something_to_do(party)]
            if not busy:
                return
            party = self.random.choice(busy)
            if party.outbox:
                self.deliver(party)
            elif self.has_to_sign(party):
                self.sign(party)
            else:
                self.advance(party)
            self.check_all()

    def _has_something_to_do(self, party: Party) -> bool:
        channel = party.channel
        wants = party.name in self.wants_close and not channel.closing.scripts.local
        is_closing = wants or closing.owes_shutdown(channel) or closing.may_negotiate(channel)
        return bool(party.outbox) or self.has_to_sign(party) or (self.is_live(party) and is_closing)

    def check_quiet(self) -> None:
        """Every update is locked in, every satoshi is accounted for, every secret is held."""
        for party in self.parties:
            channel, other = party.channel, self.other(party)
            assert party.rungs() == []
            assert channel.settled_msat.local == self.owned_msat[party.name]
            assert channel.settled_msat == other.channel.settled_msat.swapped()
            assert party.their_commitment().unsigned == other.our_commitment().unsigned
            self.check_fees(party)
            self.check_outcomes(party)
            self.check_secrets(party)
            self.check_punishable(party)

    def check_outcomes(self, party: Party) -> None:
        """Each HTLC was decided once by the other side, and came back with that outcome once."""
        ids = [i for name, i in self.preimages if name == party.name]
        assert sorted(offer.htlc.id for offer in self.other(party).offers) == ids
        kinds = {Fulfilled: "fulfill", Failed: "fail", FailedMalformed: "malformed"}
        settled = [(each.htlc.id, each.htlc.outcome) for each in party.settled]
        found = [(i, kinds[type(outcome)]) for i, outcome in settled if outcome is not None]
        assert sorted(self.heard_once(found)) == [(i, self.outcomes[party.name, i]) for i in ids]

    def heard_once(self, outcomes: list[tuple[int, str]]) -> list[tuple[int, str]]:
        """The outcomes that came back, without those that may come twice: none."""
        return outcomes

    def check_secrets(self, party: Party) -> None:
        """Every secret that the other side revealed is known, and no other."""
        other, shachain = self.other(party), party.channel.shachain
        count = self.revealed[other.name]
        assert count == party.channel.number.remote == other.channel.number.local
        for number in {0, 1, 2, 3, count // 2, count - 2, count - 1} & set(range(count)):
            assert shachain.secret_of_commitment(number) == other.secrets.per_commitment_secret(number)
        assert shachain.secret_of_commitment(count) is None

    def check_punishable(self, party: Party) -> None:
        """Of each revoked commitment we still know the HTLCs that had an output."""
        for number, content in self.signed[party.name].items():
            known = {(h.proposer, h.id) for h in party.gone if h.entered <= number < h.left}
            assert known == content, f"commitment {number}"

    def check_closed(self) -> None:
        """Both have the same closing transaction, and each gets what it owned, the opener less the fee."""
        alice, bob = self.parties
        assert alice.channel.phase is bob.channel.phase is Phase.CLOSING
        transaction = alice.channel.closing.transaction
        assert transaction is not None
        assert transaction == bob.channel.closing.transaction == alice.broadcast[-1] == bob.broadcast[-1]
        charter = alice.channel.charter
        assert (
            first_unsigned_input(transaction, [TxOut(charter.funding_sat, p2wsh(charter.funding_script))])
            is None
        )
        paid = {output.script: output.value_sat for output in transaction.outputs}
        fee_sat = alice.channel.closing.our_last_fee_sat
        assert fee_sat is not None
        for party in self.parties:
            owed_sat = self.owned_msat[party.name] // 1000 - (fee_sat if party is alice else 0)
            limit_sat = charter.terms[LOCAL if party is alice else Side.REMOTE].dust_limit_sat
            script = party.channel.closing.scripts.local
            assert paid.get(script, 0) == (owed_sat if owed_sat >= limit_sat else 0)


def run_of(seed: int, steps_to_take: int, kind: type[Stage] = Stage) -> Stage:
    """One run; what breaks says which seed replays it, and tells its story."""
    stage = kind(Random(seed))
    try:
        stage.run(steps_to_take)
    except Exception as broken:
        story = "\n".join(stage.story[-60:])
        raise AssertionError(
            f"run_of({seed}, {steps_to_take}, {kind.__name__}): {broken!r}\n{story}"
        ) from broken
    return stage
