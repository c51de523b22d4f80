"""Core Lightning's own test framework, with `rill node` in place of lightningd."""

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.node.relay_ground import installed_bitcoind

pytest.importorskip("pyln.testing", reason="no pyln-testing here")

from pyln.client import Millisatoshi
from pyln.testing.fixtures import (  # noqa: F401 - fixtures are found by their names
    bitcoind,
    db_provider,
    directory,
    executor,
    jsonschemas,
    node_factory,
    setup_logging,
    teardown_checks,
    test_base_dir,
    test_name,
)
from pyln.testing.utils import LightningNode, only_one, sync_blockheight, wait_for

pytestmark = pytest.mark.slow

PROGRAM = f"""#!/bin/sh
exec {sys.executable} -m node.cli.main node "$@"
"""


@pytest.fixture
def node_cls(tmp_path: Path) -> Callable[..., Any]:
    program = tmp_path / "rill-node"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    return partial(LightningNode, executable=str(program))


@pytest.fixture(autouse=True)
def bitcoind_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(installed_bitcoind()).parent), prepend=os.pathsep)


def test_a_network_of_ours_is_driven_as_one_of_lightningd(node_factory: Any, bitcoind: Any) -> None:  # noqa: F811
    l1, l2, l3 = node_factory.line_graph(3, wait_for_announce=True, opts={"may_reconnect": True})
    l1.pay(l2, 100_000)
    first = l3.rpc.invoice(Millisatoshi("25sat"), "first", "a tea")
    assert l1.rpc.pay(first["bolt11"])["status"] == "complete"
    assert only_one(l3.rpc.listinvoices("first")["invoices"])["status"] == "paid"

    l2.restart()
    wait_for(lambda: len(l2.rpc.listpeers()["peers"]) == 2)
    wait_for(lambda: all(peer["connected"] for peer in l2.rpc.listpeers()["peers"]))
    l1.wait_channel_active(l2.get_channel_scid(l3))
    second = l3.rpc.invoice(Millisatoshi("26sat"), "second", "another")
    assert l1.rpc.xpay(second["bolt11"])["amount_msat"] == Millisatoshi("26sat")

    # a connection is cut where the test says, and its payment arrives all the same
    l4 = node_factory.get_node(disconnect=["-WIRE_COMMITMENT_SIGNED"], may_reconnect=True)
    l4.openchannel(l3, 1_000_000)
    wait_for(lambda: l4.channel_state(l3) == "CHANNELD_NORMAL")
    third = l3.rpc.invoice(Millisatoshi("27sat"), "third", "a third")
    assert l4.rpc.pay(third["bolt11"])["status"] == "complete"

    [txid] = l1.rpc.close(l2.info["id"])["txids"]
    bitcoind.generate_block(1, wait_for_mempool=txid)
    sync_blockheight(bitcoind, [l1, l2, l3])
    wait_for(lambda: any(coin["txid"] == txid for coin in l1.rpc.listfunds()["outputs"]))
