"""What `rill meter` does."""

import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import trio
import typer

from node.cli.stream_calls import FAILED, given, print_json, sat, wait_for_signal, with_node
from node.daemon.rpc_client import NodeClient
from node.daemon.rpc_parameters import CommandFailed

WAIT_SECONDS = 30


class Service(NamedTuple):
    """A service to give."""

    name: str
    price_msat: int
    per: str
    credit_units: int
    hook: Path | None


class Use(NamedTuple):
    """A service to use."""

    provider: str
    name: str
    most_msat: int
    units: int | None


def serve_meter(directory: Path, service: Service) -> int:
    """Give a service until a signal; return the exit code."""

    async def act(node: NodeClient) -> int:
        parameters = given(**{**service._asdict(), "hook": None})
        opened = await node.call("meterserve", **parameters)
        typer.echo(f"rill meter use {opened['address']} {service.name} --most-msat …", err=True)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_tell_changes, node, service)
                await wait_for_signal()
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True), suppress(CommandFailed):
                await node.call("meterwithdraw", name=service.name)
        return 0

    return with_node(directory, act)


async def _tell_changes(node: NodeClient, service: Service) -> None:
    known: dict[str, bool] = {}
    while True:
        found = await node.call("meterusages", timeout=WAIT_SECONDS)
        for usage in found["usages"]:
            if usage["name"] == service.name and known.get(usage["user"], False) != usage["is_on"]:
                known[usage["user"]] = usage["is_on"]
                print_json(usage)
                await _run_hook(service.hook, usage)


async def _run_hook(hook: Path | None, usage: dict[str, Any]) -> None:
    if hook is None:
        return
    try:
        await trio.run_process([hook, "on" if usage["is_on"] else "off", usage["user"]])
    except (OSError, subprocess.CalledProcessError) as error:
        typer.echo(f"rill: {hook}: {error}", err=True)


def use_meter(directory: Path, wish: Use, *, as_json: bool) -> int:
    """Use a service until it is over or a signal comes; return the exit code."""

    async def act(node: NodeClient) -> int:
        meter = await node.call("meterbuy", **given(**wish._asdict()))
        async with trio.open_nursery() as nursery:
            await nursery.start(_stop_on_signal, node, meter["id"])
            shown = {"version": 0, "is_over": False}
            while not shown["is_over"]:
                shown = await node.call("waitmeter", id=meter["id"], version=shown["version"])
            nursery.cancel_scope.cancel()
        return _end(shown, as_json=as_json)

    return with_node(directory, act)


async def _stop_on_signal(node: NodeClient, id: int, task_status: trio.TaskStatus[None]) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for _ in signals:
            await node.call("meterstop", id=id)


def _end(shown: dict[str, Any], *, as_json: bool) -> int:
    if as_json:
        print_json(shown)
    else:
        paid, fee, left = sat(shown["paid_msat"]), sat(shown["fee_msat"]), sat(shown["left_msat"])
        typer.echo(f"{shown['name']}: {shown['units']} units for {paid} and {fee} of fees, {left} left")
    if shown["why"]:
        typer.echo(f"rill: {shown['why']}", err=True)
        return FAILED
    return 0
