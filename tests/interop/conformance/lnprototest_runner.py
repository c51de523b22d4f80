"""A node of ours under lnprototest, the conformance tests of Core Lightning's authors.

They are not on PyPI, and what they need is older than what we need, so they run outside of this suite:

    git clone https://github.com/rustyrussell/lnprototest && cd lnprototest
    python3 -m venv v && v/bin/pip install lnprototest pytest
    export PATH=~/.cache/bitcoind/bin:$PATH RILL=HERE/.venv/bin/rill PYTHONPATH=HERE/tests/interop/conformance
    v/bin/python -m pytest tests --runner=lnprototest_runner.Runner

The runner is theirs for lightningd. Two things have become assumed since the tests were written, and are
added to what they say: a channel_type, and static_remotekey among the features of init.

Of what is not skipped by its authors everything passes but three: the gossip of a peer that asks with
initial_routing_sync, which is gone from BOLT 9; a wrong announcement_signatures, which we answer with a
warning where lightningd just hangs up, and BOLT 7 allows both; and an HTLC after a reconnection in which
the test does not retransmit the channel_ready that BOLT 2 wants again.
"""

import os
import tempfile
from pathlib import Path
from typing import Any

PROGRAM = """#!/bin/sh
exec ${RILL:-rill} node "$@"
"""
# bitcoind says more than the pipe holds that lnprototest leaves unread
BITCOIND = """#!/bin/bash
PATH=${PATH#*:}
exec bitcoind "$@" > >(grep --line-buffered -m1 "Done loading"; exec cat > /dev/null)
"""


def _scripts() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="rill-as-lightningd-"))
    for name, text in (("lightningd/lightningd", PROGRAM), ("bin/bitcoind", BITCOIND)):
        script = folder / name
        script.parent.mkdir()
        script.write_text(text)
        script.chmod(0o755)
    return folder


_FOLDER = _scripts()
os.environ["LIGHTNING_SRC"] = str(_FOLDER)
os.environ["PATH"] = f"{_FOLDER / 'bin'}:{os.environ['PATH']}"

from lnprototest import bitfield, clightning  # noqa: E402 - which reads the environment

OPEN_CHANNEL, ACCEPT_CHANNEL = 32, 33
LENGTHS = {OPEN_CHANNEL: 2 + 319, ACCEPT_CHANNEL: 2 + 270}  # without any TLV record
STATIC_REMOTEKEY_TYPE = bytes.fromhex("01021000")
ASSUMED = (1, 9, 13, 15, 45)


class Runner(clightning.Runner):  # type: ignore[misc]
    """lightningd's runner, with what BOLT assumes now."""

    def runner_features(self, additional_features: list[int] | None = None, globals: bool = False) -> str:
        """The features of an init, in hex."""
        return "" if globals else str(bitfield(*(additional_features or ()), *ASSUMED))

    def recv(self, event: Any, conn: Any, outbuf: bytes) -> None:
        """Give the node a message."""
        kind = int.from_bytes(outbuf[:2], "big")
        super().recv(event, conn, outbuf + STATIC_REMOTEKEY_TYPE * (LENGTHS.get(kind) == len(outbuf)))
