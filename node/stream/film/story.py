"""The film's story: who stands where, and when each drop and each preimage is where.

Fifteen payments, one for each 64 KiB of the film itself, walk from Alice to Eric, hop by hop; the first
alone, the rest one upon another. When a drop reaches Eric its preimage goes back over the same hops, faster,
and one more chunk of the film is Alice's. With every chunk the night above the brook turns a little more
into morning.
"""

from collections.abc import Iterator
from dataclasses import dataclass

SECONDS = 14.0
NAMES = ("Alice", "Bob", "Carol", "Diana", "Eric")
HOPS = len(NAMES) - 1
STARTS = (0.7, *(3.3 + 0.285 * payment for payment in range(14)))
HOP_SECONDS = 0.46
RETURN_SECONDS = 0.20
TITLE_AT = 10.4
FADE_SECONDS = 0.7


@dataclass(frozen=True)
class Light:
    """A drop on its way to Eric or a preimage on its way back: how far along the line of nodes, 0 to 4."""

    place: float
    is_preimage: bool


def reaches(start: float, node: int) -> float:
    """When the drop that left Alice at `start` reaches this node."""
    return start + HOP_SECONDS * node


def returns(start: float, node: int) -> float:
    """When the preimage of that drop is back at this node."""
    return reaches(start, HOPS) + 0.12 + RETURN_SECONDS * (HOPS - node)


def lights(now: float) -> Iterator[Light]:
    """Everything that is on its way at this moment."""
    for start in STARTS:
        if start <= now < reaches(start, HOPS):
            yield Light(_stepped((now - start) / HOP_SECONDS), is_preimage=False)
        elif returns(start, HOPS) <= now < returns(start, 0):
            yield Light(HOPS - (now - returns(start, HOPS)) / RETURN_SECONDS, is_preimage=True)


def chunks(now: float) -> list[float]:
    """How bright each chunk of the film is: 0 before its preimage is back at Alice, then rising to 1."""
    return [eased((now - returns(start, 0)) / 0.5) for start in STARTS]


def dawn(now: float) -> float:
    """How much of the night is over, 0 to 1: the share of chunks that Alice holds."""
    arrived = [eased((now - returns(start, 0)) / 1.6) for start in STARTS]
    return sum(arrived) / len(arrived)


def pulse(now: float, node: int) -> tuple[float, float]:
    """How strongly a node shines for drops and for preimages that just passed it."""
    gold = sum(_afterglow(now - reaches(start, node)) for start in STARTS)
    pale = sum(_afterglow(now - returns(start, node)) for start in STARTS)
    return min(gold, 1.2), min(pale, 1.2)


def title(now: float) -> float:
    """How much of the title shows."""
    return eased((now - TITLE_AT) / 1.4)


def curtain(now: float) -> float:
    """The light of the whole picture: it opens dim, so that the first frame shows it, and closes to black."""
    return (0.4 + 0.6 * eased(now / FADE_SECONDS)) * eased((SECONDS - 0.1 - now) / FADE_SECONDS)


def eased(share: float) -> float:
    """0 to 1 without a jolt at either end."""
    share = min(1.0, max(0.0, share))
    return share * share * (3 - 2 * share)


def _stepped(place: float) -> float:
    """A drop lingers at each node: it has to be peeled, checked and passed on."""
    hop = int(place)
    within = place - hop
    return hop + 0.35 * within + 0.65 * eased(within)


def _afterglow(since: float) -> float:
    return 0.0 if since < 0 else float(2.718281828 ** (-since / 0.22))
