"""What `rill restore` and `rill seed` do: a directory that a node can start from, and its words."""

import sys
from pathlib import Path

import typer

from node.daemon.node import DATABASE_NAME, SCHEMAS
from node.daemon.restoring import UnusableBackup, begin_again, nothing_but_a_seed, read_backup
from node.daemon.seed import NEW_SEED_BYTES, SEED_NAME, SEED_SIZES, keep_seed, seed_of, words_of
from node.daemon.signer import Signer
from node.daemon.store import Store
from wire.bitcoin.block import CHAIN_HASH

FAILED = 1


class NoRestoring(Exception):
    """The node cannot be made anew; the text says why in one sentence."""


def restore_node(
    directory: Path, network: str, seed_file: Path, backup_file: Path | None, from_height: int | None
) -> int:
    """Fill the directory of a network; return the exit code."""
    try:
        count = _restore(directory, network, seed_file, backup_file, from_height)
    except (NoRestoring, UnusableBackup) as refused:
        typer.echo(f"rill: {refused}", err=True)
        return FAILED
    except OSError as error:
        typer.echo(f"rill: {error.filename} cannot be written: {error.strerror}", err=True)
        return FAILED
    known = "no channel is known until peers tell of them" if backup_file is None else f"channels: {count}"
    typer.echo(f"restored {directory}; {known}; `rill node` goes on from here")
    return 0


def _restore(
    directory: Path, network: str, seed_file: Path, backup_file: Path | None, from_height: int | None
) -> int:
    for name in (SEED_NAME, DATABASE_NAME):
        if (directory / name).exists():
            raise NoRestoring(f"{directory} holds a node already: it has a {name}")
    seed, chain_hash = read_seed(seed_file), CHAIN_HASH[network]
    # everything is read and checked before anything is written
    backup = nothing_but_a_seed(chain_hash)
    if backup_file is not None:
        backup = read_backup(backup_file, Signer(seed).backup_key, chain_hash)
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    keep_seed(directory, seed)
    store = Store(directory / DATABASE_NAME, SCHEMAS)
    begin_again(store, backup, from_height)
    store.close()
    return len(backup.entries)


def read_seed(path: Path) -> bytes:
    """The seed that a file gives: its bytes, in hex, or as 12 to 24 words.

    Raises:
        NoRestoring: it gives none.
    """
    try:
        raw = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    except OSError as error:
        raise NoRestoring(f"{path} cannot be read: {error.strerror}") from None
    if len(raw) == NEW_SEED_BYTES:
        return raw
    text = " ".join(raw.decode("ascii", "replace").lower().split())
    try:
        seed = bytes.fromhex(text) if " " not in text else seed_of(text)
    except ValueError:
        seed = b""
    if len(seed) not in SEED_SIZES:
        raise NoRestoring(f"{path} is no seed: neither 12 to 24 words without a mistake nor bytes")
    return seed


def show_seed(directory: Path) -> int:
    """Print the words of a node's seed; return the exit code."""
    path = directory / SEED_NAME
    try:
        words = words_of(path.read_bytes())
    except (OSError, ValueError):
        typer.echo(f"rill: there is no node's seed in {directory}", err=True)
        return FAILED
    typer.echo(words)
    return 0
