"""Where things are: networks, directories, addresses, and the bitcoind of a command."""

from pathlib import Path
from typing import NamedTuple

NETWORKS = ("bitcoin", "testnet", "testnet4", "signet", "regtest")
DEFAULT_DIRECTORY = Path("~/.rill")
DEFAULT_BITCOIN_DIRECTORY = Path("~/.bitcoin")

LOG_LEVELS = ("io", "trace", "debug", "info", "unusual", "warning", "broken", "error")


class ChainOptions(NamedTuple):
    """Which chain, and who serves it."""

    network: str
    host: str
    port: int | None
    user: str | None
    password: str | None
    directory: Path


def bind_address(text: str | None, usual_host: str, usual_port: int) -> tuple[str, int]:
    """Where to listen, from `HOST[:PORT]`."""
    if text is None:
        return usual_host, usual_port
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit():
        return text.strip("[]"), usual_port
    return host.strip("[]") or usual_host, int(port)
