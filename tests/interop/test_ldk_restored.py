"""A node of ours that has lost its disk is helped by LDK: it closes, and we sweep what is ours."""

import shutil

import pytest

from htlc.channel import Phase
from htlc.opening import ANCHORS_TYPE, STATIC_REMOTEKEY_TYPE
from node.daemon.backup import FILE_NAME
from node.daemon.seed import SEED_NAME
from tests.bolt import bolt
from tests.interop.stage import CAPACITY_SAT, PUSH_MSAT, Stage

pytestmark = pytest.mark.slow

PAID_MSAT = 50_000_000
FEES_SAT = 30_000
"""More than all transactions of a story cost together."""
CLOSED_BLOCKS = 10


@bolt("reestablish.4", "reestablish.7")
@pytest.mark.parametrize("anchors", [True, False], ids=["anchors", "static_remotekey"])
async def test_ldk_closes_a_channel_that_we_have_lost(stage: Stage, anchors: bool) -> None:
    ldk, rill = await stage.ldk("theirs", anchors=int(anchors)), await stage.rill("ours")
    await stage.connect(rill, ldk)
    await rill.open_channel(
        ldk.node_id, CAPACITY_SAT, PUSH_MSAT, channel_type=ANCHORS_TYPE if anchors else STATIC_REMOTEKEY_TYPE
    )
    await stage.confirm(1)
    await stage.usable(rill, 1)
    invoice = await ldk("invoice", msat=PAID_MSAT, desc="a film")
    await rill.pay_invoice(invoice["bolt11"])
    await stage.quiet(rill)
    before_sat, directory = rill.balance_sat.confirmed_sat, rill.config.directory

    await stage.kill_rill("ours")
    kept = {name: (directory / name).read_bytes() for name in (SEED_NAME, FILE_NAME)}
    shutil.rmtree(directory)
    directory.mkdir()
    for name, raw in kept.items():
        (directory / name).write_bytes(raw)
    rill = await stage.start_rill("ours")
    await stage.channels(rill, bool)
    assert rill.channels()[0].phase is Phase.BEHIND

    await stage.confirm(1, 1)
    await stage.channels(rill, lambda channels: channels[0].phase is Phase.FAILED)
    await stage.confirm(1, CLOSED_BLOCKS)
    await stage.closed(rill)
    ours_sat = CAPACITY_SAT - (PUSH_MSAT + PAID_MSAT) // 1000
    assert 0 <= ours_sat - (rill.balance_sat.confirmed_sat - before_sat) <= FEES_SAT
