"""`rill meter`: services that are paid for as they are given."""

from pathlib import Path
from typing import Annotated

import typer

from node.cli.stream import DEFAULT_DIRECTORY, AsJson, Directory, Network

meter = typer.Typer(help="Wi-Fi, power, computing: paid by the second or the unit.", no_args_is_help=True)
KINDS = ("second", "unit")


@meter.command()
def serve(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What users ask for.")],
    price_msat: Annotated[int, typer.Option(metavar="N", min=1, help="What a second or a unit costs.")],
    per: Annotated[str, typer.Option(metavar="|".join(KINDS), help="What is counted.")] = "second",
    credit_units: Annotated[
        int, typer.Option(metavar="N", min=0, max=255, help="So many are given before they are paid.")
    ] = 10,
    hook: Annotated[
        Path | None, typer.Option(metavar="PROGRAM", help="Run as PROGRAM on|off USER when one changes.")
    ] = None,
    lightning_dir: Directory = DEFAULT_DIRECTORY,
    network: Network = "regtest",
) -> None:
    """Give a service until interrupted, and print a JSON line for every user that is on or off.

    A unit is counted by `rill cli meteruse name=NAME user=USER units=N`.
    """
    if per not in KINDS:
        raise typer.BadParameter(f"--per {per!r} is not one of {', '.join(KINDS)}")
    from node.cli.meter_calls import Service, serve_meter

    service = Service(name, price_msat, per, credit_units, hook)
    raise typer.Exit(serve_meter(lightning_dir.expanduser() / network, service))


@meter.command()
def use(
    provider: Annotated[str, typer.Argument(metavar="ID@HOST:PORT", help="Who gives it.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is called there.")],
    most_msat: Annotated[int, typer.Option(metavar="N", min=1, help="The deposit: no more is spent.")],
    units: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Stop after so many. Without: when interrupted.")
    ] = None,
    lightning_dir: Directory = DEFAULT_DIRECTORY,
    network: Network = "regtest",
    as_json: AsJson = False,
) -> None:
    """Use a service, and pay for what has begun, until interrupted or until the deposit is used up."""
    from node.cli.meter_calls import Use, use_meter

    wish = Use(provider, name, most_msat, units)
    raise typer.Exit(use_meter(lightning_dir.expanduser() / network, wish, as_json=as_json))
