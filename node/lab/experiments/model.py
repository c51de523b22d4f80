"""What an experiment is, and what it finds: tables, figures, and answers in sentences."""

from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import ClassVar

import msgspec

from node.lab.flow.engine import Engine, Wish
from node.lab.flow.network import FlowNetwork
from node.lab.flow.routing import ExactRouter, Router
from node.lab.flow.runs import chance
from node.lab.flow.towns import drawn_town, town_of

LARGE_NODES = 250
HOUR_SECONDS = 3600

Cell = int | float | str


class Table(msgspec.Struct, frozen=True):
    """Tidy: one observation a row."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


class Line(msgspec.Struct, frozen=True):
    """One line of a figure."""

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]


class Figure(msgspec.Struct, frozen=True):
    """Lines over one axis, or bars if the axis is of words."""

    name: str
    title: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...] = ()
    bars: tuple[tuple[str, float], ...] = ()
    is_log_x: bool = False


class Findings(msgspec.Struct, frozen=True):
    """What an experiment found."""

    answers: tuple[str, ...]
    summary: dict[str, float]  # what a sweep keeps of each of its points
    tables: tuple[Table, ...]
    figures: tuple[Figure, ...]


class Experiment(msgspec.Struct, frozen=True, kw_only=True):
    """An experiment. Its fields are what `--set` can change; the same seed finds the same."""

    question: ClassVar[str] = ""

    def run(self, seed: int) -> Findings:
        """Carry it out."""
        raise NotImplementedError


def started(network: FlowNetwork) -> Engine:
    """An engine with the router that fits the network's size."""
    return Engine(network, router_for(network))


def router_for(network: FlowNetwork) -> Router:
    """Exact in small networks, from trees in large ones."""
    if len(network.names) <= LARGE_NODES:
        return ExactRouter(network)
    from node.lab.flow.trees import TreeRouter

    return TreeRouter(network)


MAINNET = "mainnet"


def town(graph: str, nodes: int, channels_each: int, seed: int) -> FlowNetwork:
    """A small town drawn from the seed; or one with mainnet's figures; or that of a graph's file.

    Raises:
        BadGraphFile: the file cannot be read.
    """
    random = chance(seed, "town")
    if not graph:
        return drawn_town(nodes, channels_each, random)
    if graph == MAINNET:
        from node.lab.generator import generate

        return town_of(generate(seed), random)
    from node.lab.graphs import read_graph

    return town_of(read_graph([Path(graph)]), random)


def share(part: float, whole: float) -> float:
    """A part of a whole, 0 of nothing."""
    return part / whole if whole else 0.0


def best(xs: Sequence[float], ys: Sequence[float]) -> tuple[float, float]:
    """The x at which y is largest, and that y."""
    return max(zip(xs, ys, strict=True), key=lambda pair: pair[1])


def until(wishes: Iterator[Wish], end_us: int) -> Iterator[Wish]:
    """Those that begin before the end."""
    return takewhile(lambda wish: wish.at_us <= end_us, wishes)
