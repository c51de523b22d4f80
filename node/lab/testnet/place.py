"""Where a testnet lives on disk, and the archive that carries it elsewhere.

DIR/scenario.toml       what the network is
DIR/setup.json          how it was started, the nodes' ports, the channels that were opened
DIR/lightning-rpc       the network's own control socket, while it is up
DIR/testnet.log         what its process says
DIR/chain/              the chain
DIR/NODE/regtest/       one node: seed, database, and its socket, as `rill cli` looks for them
"""

import shutil
import tarfile
from pathlib import Path

import msgspec

from node.lab.scenario.model import Scenario
from node.lab.scenario.reading import read_scenario, written

NETWORK = "regtest"
OPEN = "CHANNELD_NORMAL"
"""The state of a channel that can be used, as Core Lightning calls it."""

SCENARIO, SETUP, LOG = "scenario.toml", "setup.json", "testnet.log"


class PlaceTaken(Exception):
    """There is something else, or another network, in the directory."""


class NoTestnet(Exception):
    """There is no network in the directory."""

    def __init__(self, directory: Path) -> None:
        super().__init__(f"there is no testnet in {directory}: `rill testnet up --dir {directory}` makes one")


class BadArchive(Exception):
    """The file is no archive of a testnet."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path} is no archive of a testnet: {why}")


class Setup(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the network is run, and what has been made of it."""

    has_processes: bool = False
    backend: str = "embedded"
    ports: dict[str, int] = {}
    channel_ids: tuple[str, ...] = ()  # in the order of the scenario; empty until all are open
    is_unfinished: bool = False  # it was never routable yet: what was interrupted begins anew


class Place:
    """The directory of one testnet."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def node_directory(self, name: str) -> Path:
        """What `rill cli --lightning-dir` takes."""
        return self.directory / name

    @property
    def chain_directory(self) -> Path:
        return self.directory / "chain"

    @property
    def log_path(self) -> Path:
        return self.directory / LOG

    @property
    def is_made(self) -> bool:
        """Whether a network lives here."""
        return (self.directory / SETUP).exists()

    def make(self, scenario: Scenario, setup: Setup) -> None:
        """Write down a new network.

        Raises:
            PlaceTaken: the directory is not empty.
        """
        if self.directory.exists() and any(self.directory.iterdir()):
            raise PlaceTaken(f"{self.directory} is not empty and holds no testnet: name another --dir")
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        (self.directory / SCENARIO).write_text(written(scenario), encoding="utf-8")
        self.keep(setup)

    def scenario(self) -> Scenario:
        """What the network is.

        Raises:
            NoTestnet: there is none.
            BadScenario: somebody has edited it.
        """
        path = self.directory / SCENARIO
        if not path.exists():
            raise NoTestnet(self.directory)
        return read_scenario(path.read_text(encoding="utf-8"), str(path))

    def setup(self) -> Setup:
        """How it is run.

        Raises:
            NoTestnet: there is none.
        """
        try:
            return msgspec.json.decode((self.directory / SETUP).read_bytes(), type=Setup)
        except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
            raise NoTestnet(self.directory) from None

    def keep(self, setup: Setup) -> None:
        """Replace what is written of how it is run; a crash leaves the old or the new."""
        fresh = self.directory / f"{SETUP}.new"
        fresh.write_bytes(msgspec.json.encode(setup))
        fresh.replace(self.directory / SETUP)

    def clear(self) -> None:
        """Take away the chain and the nodes of a start that was interrupted."""
        for name in ("chain", *self.scenario().names):
            shutil.rmtree(self.directory / name, ignore_errors=True)
        self.keep(msgspec.structs.replace(self.setup(), channel_ids=()))

    def remove(self) -> None:
        """Forget the network and everything that it wrote."""
        shutil.rmtree(self.directory)

    def export(self, path: Path) -> None:
        """Write the whole network, which must be down, into one compressed archive.

        Raises:
            NoTestnet: there is none.
            OSError: the file cannot be written.
        """
        self.setup()
        with tarfile.open(path, "w:gz") as archive:
            for entry in sorted(self.directory.rglob("*")):
                if entry.is_file():
                    archive.add(entry, entry.relative_to(self.directory).as_posix())

    def import_from(self, path: Path) -> None:
        """Make the network of an archive this directory's.

        Raises:
            PlaceTaken: the directory is not empty.
            BadArchive: it is none; nothing is left of the attempt.
        """
        if self.directory.exists() and any(self.directory.iterdir()):
            raise PlaceTaken(f"{self.directory} is not empty: name another --dir")
        try:
            with tarfile.open(path, "r:gz") as archive:
                if SETUP not in archive.getnames():
                    raise BadArchive(path, f"it has no {SETUP}")
                self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
                archive.extractall(self.directory, filter="data")
            self.scenario()
            self.setup()
        except (tarfile.TarError, EOFError, NoTestnet) as error:
            shutil.rmtree(self.directory, ignore_errors=True)
            raise BadArchive(path, str(error)) from None
        except OSError as error:
            raise BadArchive(path, (error.strerror or str(error)).lower()) from None
