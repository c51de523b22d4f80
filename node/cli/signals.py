"""Running in the foreground until SIGINT or SIGTERM."""

import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def until_signal() -> AsyncIterator[trio.Nursery]:
    """A nursery whose tasks are cancelled by the first signal, or when the body ends.

    What a task raises comes alone, not in the group that a nursery makes.
    """
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(_cancel_at_signal, nursery.cancel_scope)
            yield nursery
            nursery.cancel_scope.cancel()
    except ExceptionGroup as group:
        raise _first(group) from None


async def at_hangup(act: Callable[[], None], task_status: trio.TaskStatus[None]) -> None:
    """Do something at each SIGHUP, until cancelled."""
    with trio.open_signal_receiver(signal.SIGHUP) as signals:
        task_status.started()
        async for _ in signals:
            act()


async def _cancel_at_signal(scope: trio.CancelScope, task_status: trio.TaskStatus[None]) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for _ in signals:
            scope.cancel()


def _first(group: ExceptionGroup[Exception]) -> Exception:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, ExceptionGroup) else first
