"""The `rill` command: a node, or one of all the other commands.

A node lives long, and there may be many on one machine: it does without the parser of the other
commands, which with what that brings along would be a third of its memory and of its start.
"""

import sys
from collections.abc import Sequence


def run(arguments: Sequence[str]) -> int:
    """Run the command line; return its exit code."""
    if arguments[:1] == ["node"]:
        from node.cli.node import run_node

        return run_node(arguments[1:])
    from node.cli.commands import run_command

    return run_command(arguments)


def main() -> None:
    """The console script."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
