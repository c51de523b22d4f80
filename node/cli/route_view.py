"""What `rill route` finds, as a table or as one JSON object."""

from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec
import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from gossip.compact import CompactGraph, UnknownNode
from gossip.explain import HopCost, Question, Refusal, hop_costs, next_best, why_not
from gossip.search import Limits, Way
from node.lab.generator import generate
from node.lab.graphs import BadGraphFile, read_graph
from wire.scid import text_of

FAILED, USAGE = 1, 2
MOST_OBSTACLES = 10
DEFAULT_SEED = 1


class Asked(msgspec.Struct, frozen=True):
    """What the command line asks for."""

    paths: list[Path]
    source: str
    target: str
    amount_msat: int
    is_cheapest: bool
    max_fee_msat: int | None
    max_cltv_blocks: int
    final_cltv_blocks: int

    def of(self, graph: CompactGraph) -> Question:
        """The same by the graph's places.

        Raises:
            UnknownNode: one of the ends is not in it.
        """
        limits = Limits(
            max_fee_msat=self.max_fee_msat,
            max_cltv_blocks=self.max_cltv_blocks,
            final_cltv_blocks=self.final_cltv_blocks,
        )
        source, target = graph.place(self.source), graph.place(self.target)
        return Question(graph, source, target, self.amount_msat, self.is_cheapest, limits)


def show_route(asked: Asked, *, explain: bool, as_json: bool) -> int:
    """Search and print; return the exit code."""
    try:
        question = asked.of(graph := read_graph(asked.paths) if asked.paths else generate(DEFAULT_SEED))
    except (BadGraphFile, UnknownNode) as wrong:
        typer.echo(f"rill: {wrong}", err=True)
        return USAGE
    if question.source == question.target:
        typer.echo("rill: FROM and TO are the same node", err=True)
        return USAGE
    start = perf_counter()
    way = question.answer()
    seconds = perf_counter() - start
    if way is None:
        return _tell_refusal(question, why_not(question), seconds, as_json=as_json)
    costs = hop_costs(question, way) if explain else None
    if as_json:
        _print(_found(graph, way, seconds) | ({} if costs is None else _explained(graph, costs)))
    else:
        _tell(question, way, costs, seconds)
    return 0


def _print(shown: dict[str, Any]) -> None:
    typer.echo(msgspec.json.encode(shown).decode())


def _hops(graph: CompactGraph, way: Way) -> list[dict[str, Any]]:
    return [
        {
            "scid": text_of(int(graph.short_channel_id[edge])),
            "from": _id(graph, int(graph.source[edge])),
            "to": _id(graph, int(graph.target[edge])),
            "amount_msat": amount,
            "cltv_delta": int(graph.cltv_delta[edge]),
        }
        for edge, amount in zip(way.edges, way.amounts_msat, strict=True)
    ]


def _id(graph: CompactGraph, place: int) -> str | int:
    """A node as its file has it: an id, or the number of its index."""
    name = graph.names[place]
    return int(name) if name.isdigit() and len(name) < 20 else name


def _found(graph: CompactGraph, way: Way, seconds: float) -> dict[str, Any]:
    return {"hops": _hops(graph, way), "fee_msat": way.fee_msat, "seconds": seconds}


def _explained(graph: CompactGraph, costs: tuple[HopCost, ...]) -> dict[str, Any]:
    best = next_best(costs)
    return {
        "costs": [
            {
                "fee_msat": cost.fee_msat,
                "time_lock_msat": cost.time_lock_msat,
                "hop_msat": cost.hop_msat,
                "price_without_msat": None if cost.best_without is None else cost.best_without.price_msat,
            }
            for cost in costs
        ],
        "next_best": None
        if best is None
        else {"hops": _hops(graph, best), "fee_msat": best.fee_msat, "price_msat": best.price_msat},
    }


def _tell(question: Question, way: Way, costs: tuple[HopCost, ...] | None, seconds: float) -> None:
    graph, console = question.graph, Console()
    console.print(_table(graph, way, costs))
    locked = f"{way.cltv_blocks[0]} blocks locked at most"
    console.print(f"{way.fee_msat:,} msat in fees, {locked}, found in {seconds * 1e3:.1f} ms")
    if graph.one_sided:
        console.print(f"{graph.one_sided:,} channels have a policy one way only; the other is never used")
    if costs is None:
        return
    best = next_best(costs)
    if best is None:
        console.print("There is no other way.")
        return
    console.print(f"\nThe next best way: {_comparison(question, way, best)}.")
    console.print(_table(graph, best, None))


def _table(graph: CompactGraph, way: Way, costs: tuple[HopCost, ...] | None) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("channel", "from", "to"):
        table.add_column(heading, no_wrap=True)
    for heading in ("msat", "fee", "blocks", *(("for time", "for hop", "without") if costs else ())):
        table.add_column(heading, justify="right", no_wrap=heading == "msat")
    for at, (edge, amount) in enumerate(zip(way.edges, way.amounts_msat, strict=True)):
        fee = way.amounts_msat[at - 1] - amount if at else 0
        ends = (graph.called(int(graph.source[edge])), graph.called(int(graph.target[edge])))
        numbers = (f"{amount:,}", f"{fee:,}", str(int(graph.cltv_delta[edge])))
        told = [graph.direction_name(edge), *ends, *numbers]
        if costs:
            told += [f"{costs[at].time_lock_msat:,}", f"{costs[at].hop_msat:,}", _dearer(way, costs[at])]
        table.add_row(*told)
    return table


def _dearer(way: Way, cost: HopCost) -> str:
    if cost.best_without is None:
        return "no way"
    return f"+{cost.best_without.price_msat - way.price_msat:,}"


def _comparison(question: Question, way: Way, other: Way) -> str:
    """In what the other way is worse, and in what better, in msat, blocks and hops."""
    said = []
    for what, ours, theirs in (
        ("msat of fees", way.fee_msat, other.fee_msat),
        ("blocks", way.cltv_blocks[0], other.cltv_blocks[0]),
        ("hops", len(way.edges), len(other.edges)),
    ):
        if ours != theirs:
            said.append(f"{abs(theirs - ours):,} {what} {'more' if theirs > ours else 'less'}")
    dearer = other.price_msat - way.price_msat
    weighed = "" if question.is_cheapest else f", {dearer:,} msat worse as they are weighed"
    return (", ".join(said) or "just as good") + weighed


def _tell_refusal(question: Question, refusal: Refusal, seconds: float, *, as_json: bool) -> int:
    graph = question.graph
    if as_json:
        obstacles = [
            {"channel": graph.direction_name(found.edge), "why": found.why} for found in refusal.obstacles
        ]
        why = {"why": refusal.why, "largest_msat": refusal.largest_msat, "obstacles": obstacles}
        _print({"hops": [], "fee_msat": None, "seconds": seconds} | why)
        return FAILED
    largest = f"at most {refusal.largest_msat:,} msat" if refusal.largest_msat else "no amount up to it"
    most = f"{largest} would pass"
    typer.echo(f"rill: no route for {question.amount_msat:,} msat, {most}: {refusal.why}", err=True)
    for found in refusal.obstacles[:MOST_OBSTACLES]:
        ends = graph.called(int(graph.source[found.edge])), graph.called(int(graph.target[found.edge]))
        typer.echo(f"  {graph.direction_name(found.edge)} from {ends[0]} to {ends[1]} {found.why}", err=True)
    if len(refusal.obstacles) > MOST_OBSTACLES:
        typer.echo(f"  and {len(refusal.obstacles) - MOST_OBSTACLES} more", err=True)
    return FAILED
