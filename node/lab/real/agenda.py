"""What is to happen when, in the order of flow fidelity: by time, then by rank, then as it was asked for."""

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Generic, TypeVar

import trio

from node.lab.flow.engine import SECOND_US

TICK_SECONDS = 1e-10
"""The clock jumps only once every node is idle, so this is time enough for all that takes no time."""

T = TypeVar("T")


class Agenda(Generic[T]):
    """Times are microseconds since the agenda was made, on trio's clock, which is virtual."""

    def __init__(self) -> None:
        self._began = self._moment = trio.current_time()
        self._heap: list[tuple[int, int, T]] = []
        self._added = 0
        self._changed = trio.Event()

    @property
    def now_us(self) -> int:
        """How late it is."""
        return round((trio.current_time() - self._began) * SECOND_US)

    @property
    def next_us(self) -> int | None:
        """When something is due next."""
        return self._heap[0][0] if self._heap else None

    def add(self, at_us: int, rank: int, item: T) -> None:
        """Let it be due then; also while somebody waits for what is due next."""
        heappush(self._heap, (at_us, rank | self._added, item))
        self._added += 1
        self.nudge()

    def nudge(self) -> None:
        """Let whoever waits look again whether it is over."""
        self._changed.set()

    async def next(self, end_us: int, is_over: Callable[[], bool]) -> T | None:
        """What is due next, once it is due and all before it has had its effect; None when it is over."""
        while not is_over():
            due_us = end_us if self.next_us is None else min(self.next_us, end_us)
            self._changed = trio.Event()
            is_early = False
            with trio.move_on_at(max(self._began + due_us / SECOND_US, self._moment + TICK_SECONDS)):
                await self._changed.wait()
                is_early = True
            if is_early:
                continue
            self._moment = trio.current_time()
            if self.next_us is None or self.next_us > due_us:
                return None
            return heappop(self._heap)[2]
        return None
