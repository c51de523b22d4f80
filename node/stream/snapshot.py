"""A title as it stands at one moment: what a page or a command line shows of it.

Every value encodes to JSON as it is; identities are hex, amounts are msat, places are chunks.
"""

import msgspec

from gossip.graph import Graph
from node.stream.budget import Budget
from node.stream.pace import DUST_LIMIT_SAT
from node.stream.ports import Payment
from node.stream.seller import Seller
from wire import scid
from wire.crypto.secp256k1 import Point
from wire.units import Msat


class Hop(msgspec.Struct, frozen=True, gc=False):
    """A node on the way of a payment, and what it kept for forwarding; the provider is the last."""

    node_id: str
    alias: str
    short_channel_id: str
    fee_msat: Msat


class SellerFigures(msgspec.Struct, frozen=True, gc=False):
    """What was bought from one provider so far."""

    node_id: str
    alias: str
    price_msat: Msat
    chunks: int
    bytes: int
    paid_msat: Msat
    fee_msat: Msat
    on_the_way: int
    bytes_per_second: int
    failures: int
    state: str
    """`selling`, `away` (asked again soon), `out` (until resumed), `expelled` or `cheated` (never again)."""
    problem: str
    fraud_proof: str
    """The file that proves that it cheated, if it did."""


class Snapshot(msgspec.Struct, frozen=True):
    """A title at one moment; `version` grows with every change."""

    version: int
    root: str
    title: str
    length: int
    chunk_size: int
    chunk_count: int
    chunks_bought: int
    bought: tuple[tuple[int, int], ...]
    """Runs of chunks that are here: the first, and the one after the last."""
    on_the_way: tuple[int, ...]
    playhead: int
    """The chunk from which reading ahead goes on."""
    ahead: int
    """How many chunks from there are bought without being asked for yet."""
    window: int
    """How many may be on the way at once."""
    price_msat: Msat
    """Of the next chunk, from the cheapest provider that sells."""
    spent_msat: Msat
    """Paid to providers, fees apart."""
    fee_msat: Msat
    reserved_msat: Msat
    """Set aside for chunks on the way."""
    left_msat: Msat
    """What the budget still allows for this title."""
    budget: Budget
    providers: tuple[SellerFigures, ...]
    route: tuple[Hop, ...]
    """Of the last payment."""
    is_paused: bool
    is_stopped: bool
    """Nothing more is bought until it is resumed: see `problem`."""
    is_complete: bool
    delivered: str
    """The file of a download, once it is whole and has its name."""
    problem: str
    """Why nothing is bought, or not as fast as it could be; empty if all is well."""
    price_note: str
    """What it means that the price is below the dust limit; empty if it is not."""


def alias_of(graph: Graph, node_id: Point) -> str:
    """How a node calls itself, or an empty text; control characters are left out."""
    known = graph.nodes.get(node_id)
    alias = known.alias.rstrip(b"\0").decode(errors="replace") if known else ""
    return "".join(filter(str.isprintable, alias))


def hops_of(payment: Payment, graph: Graph) -> tuple[Hop, ...]:
    """The nodes that a payment passed, each with its fee, as its policy says."""
    amount_msat, hops = payment.amount_msat, list[Hop]()
    ids = payment.short_channel_ids
    for place in range(len(payment.route) - 1, -1, -1):
        node_id, fee_msat = payment.route[place], Msat(0)
        if place + 1 < len(ids):
            channel = graph.channels.get(ids[place + 1])
            policy = channel and graph.policy(ids[place + 1], channel.direction_from(node_id))
            fee_msat = policy.fee_msat(amount_msat) if policy else Msat(0)
        amount_msat = Msat(amount_msat + fee_msat)
        alias = alias_of(graph, node_id)
        hops.append(Hop(node_id.hex(), alias, scid.text_of(ids[place]), fee_msat))
    return tuple(reversed(hops))


def seller_figures(seller: Seller, graph: Graph, now: float) -> SellerFigures:
    """A provider for people."""
    return SellerFigures(
        node_id=seller.manifest.provider.hex(),
        alias=alias_of(graph, seller.manifest.provider),
        price_msat=seller.price_msat,
        chunks=seller.chunks,
        bytes=seller.bytes,
        paid_msat=Msat(seller.paid_msat),
        fee_msat=Msat(seller.fee_msat),
        on_the_way=seller.on_the_way,
        bytes_per_second=int(seller.bytes_per_second),
        failures=seller.failures,
        state=seller.state(now),
        problem=seller.problem,
        fraud_proof=str(seller.proof or ""),
    )


def price_note(price_msat: Msat) -> str:
    """What a price below the dust limit means, for the one who pays it; empty if it is not."""
    if price_msat >= DUST_LIMIT_SAT * 1000:
        return ""
    return (
        f"A chunk costs {price_msat / 1000:g} sat, less than the {DUST_LIMIT_SAT} sat that an output on "
        "chain must have: while a payment is on its way, it stands on the word of the nodes that carry "
        "it. If a channel closes just then, that one chunk's price may be lost to fees."
    )
