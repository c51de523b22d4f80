"""What a command says: its answer to stdout, and what is wrong to stderr."""

import sys


def say(text: str) -> None:
    """Write a line for whoever asked."""
    sys.stdout.write(f"{text}\n")


def complain(text: object) -> None:
    """Write one sentence about what went wrong."""
    sys.stderr.write(f"rill: {text}\n")
