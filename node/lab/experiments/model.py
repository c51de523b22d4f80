"""What an experiment is, and what it finds: tables, figures, and answers in sentences."""

from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from itertools import takewhile
from typing import Annotated, ClassVar, TypeVar

import msgspec

from node.lab.flow.engine import Engine, Wish
from node.lab.flow.network import FlowNetwork
from node.lab.flow.routing import ExactRouter, Router

LARGE_NODES = 250
Positive = Annotated[float, msgspec.Meta(gt=0)]
Several = Annotated[int, msgspec.Meta(ge=2)]
Many = Annotated[int, msgspec.Meta(ge=1)]
AtLeastOne = msgspec.Meta(min_length=1)
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
    takes_seconds: ClassVar[int] = 0  # on one core with the defaults, about

    def run(self, seed: int) -> Findings:
        """Carry it out."""
        raise NotImplementedError


Listener = Callable[[int, int], None]
listener: ContextVar[Listener | None] = ContextVar("listener", default=None)
"""Who is told how many of an experiment's steps are done, and of how many."""

T = TypeVar("T")


def steps(planned: Sequence[T]) -> Iterator[T]:
    """An experiment's runs, one after another; whoever listens hears of each."""
    tell = listener.get()
    for number, step in enumerate(planned):
        if tell is not None:
            tell(number, len(planned))
        yield step


def started(network: FlowNetwork) -> Engine:
    """An engine with the router that fits the network's size."""
    return Engine(network, router_for(network))


def router_for(network: FlowNetwork) -> Router:
    """Exact in small networks, from trees in large ones."""
    if len(network.names) <= LARGE_NODES:
        return ExactRouter(network)
    from node.lab.flow.trees import TreeRouter

    return TreeRouter(network)


def share(part: float, whole: float) -> float:
    """A part of a whole, 0 of nothing."""
    return part / whole if whole else 0.0


def best(xs: Sequence[float], ys: Sequence[float]) -> tuple[float, float]:
    """The x at which y is largest, and that y."""
    return max(zip(xs, ys, strict=True), key=lambda pair: pair[1])


def until(wishes: Iterator[Wish], end_us: int) -> Iterator[Wish]:
    """Those that begin before the end."""
    return takewhile(lambda wish: wish.at_us <= end_us, wishes)
