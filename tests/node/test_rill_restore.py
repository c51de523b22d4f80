"""`rill restore` and `rill seed` as a user runs them, with a node that was killed and its disk lost."""

import shutil
import signal
from pathlib import Path

import pytest
import trio

from htlc.backup import seal
from node.cli.main import run
from node.cli.restore_service import read_seed
from node.daemon.backup import FILE_NAME
from node.daemon.restoring import nothing_but_a_seed
from node.daemon.signer import Signer
from tests.node.backends import RillChain
from tests.node.conftest import _free_port
from tests.node.processes import READY, Program, RillNode, running, until
from tests.node.test_rill_node import CAPACITY_SAT, fund, grow, join, no_process_outlives_its_test, states
from wire.bitcoin.block import CHAIN_HASH

__all__ = ["no_process_outlives_its_test"]
PUSHED_MSAT = 3_000_000_000
FEES_SAT = 20_000  # of the peer's commitment, which alice pays, and of the sweep
PATIENCE_SECONDS = 90


async def funds_sat(node: RillNode) -> int:
    outputs = (await node.call("listfunds"))["outputs"]
    return sum(int(output["amount_msat"]) for output in outputs if output["status"] == "confirmed") // 1000


def said(*arguments: str) -> tuple[int, str]:
    """The exit code of a command, and what it printed."""
    program = Program(*arguments)
    return program.code(), "".join(program.said).strip()


@pytest.mark.slow
@pytest.mark.parametrize("is_kept", [True, False], ids=["words and backup", "words alone"])
async def test_a_lost_node_is_made_anew(tmp_path: Path, is_kept: bool) -> None:
    with running(tmp_path, _free_port(), "alice bob") as (chain, [alice, bob]):
        await fund(chain, alice)
        await join(chain, alice, bob)
        invoice = await bob.call("invoice", amount_msat=PUSHED_MSAT, label="1", description="a film")
        await alice.call("pay", bolt11=invoice["bolt11"])
        if not is_kept:
            bob.wait_for("a peer's backup is kept")
        before_sat, node_id = await funds_sat(alice), (await alice.call("getinfo"))["id"]
        code, words = said("seed", f"--lightning-dir={tmp_path / 'alice'}")
        assert (code, len(words.split())) == (0, 24)
        alice.end(signal.SIGKILL)
        kept, written = tmp_path / "kept", tmp_path / "words"
        shutil.copy(tmp_path / "alice" / "regtest" / FILE_NAME, kept)
        written.write_text(words.upper())
        shutil.rmtree(tmp_path / "alice")
        options = [f"--lightning-dir={tmp_path / 'alice'}", f"--seed={written}"]
        assert said("restore", *options, *([f"--backup={kept}"] if is_kept else []))[0] == 0
        again = RillNode(tmp_path / "alice", chain.port)
        again.wait_for(READY)
        assert (await again.call("getinfo"))["id"] == node_id
        if not is_kept:
            # with whom she had channels Alice's user remembers; the rest is in what Bob keeps for her
            known = await bob.call("getinfo")
            await again.call("connect", id=known["id"], host="127.0.0.1", port=known["binding"][0]["port"])
        await until_swept(chain, again, bob, before_sat + CAPACITY_SAT - PUSHED_MSAT // 1000)
        assert again.end() == 0


async def until_swept(chain: RillChain, lost: RillNode, peer: RillNode, most_sat: int) -> None:
    """Mine until a restored node has all that it had, less a sweep's fee."""

    async def is_peer_on_chain() -> bool:
        return await states(peer) <= {"AWAITING_UNILATERAL", "ONCHAIN"}

    async def has_all() -> bool:
        await grow(chain, lost)
        return await funds_sat(lost) > most_sat - FEES_SAT

    with trio.fail_after(PATIENCE_SECONDS):
        await until(is_peer_on_chain)
        await until(has_all)
    assert await funds_sat(lost) <= most_sat
    # it has published no commitment of its own: what spends the funding output is the peer's
    assert (await lost.call("listpeerchannels"))["channels"][0]["state"] == "ONCHAIN"


SEED = bytes(range(32))


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """What a careful user keeps, good and bad."""
    backup = nothing_but_a_seed(CHAIN_HASH["regtest"])
    sealed = seal(backup, Signer(SEED).backup_key, bytes(24))
    for name, raw in (("seed", SEED), ("backup", sealed), ("cut", sealed[:-5]), ("garbage", b"garbage")):
        (tmp_path / name).write_bytes(raw)
    (tmp_path / "other").write_text("ab" * 32)
    return tmp_path


@pytest.mark.parametrize(
    ("seed", "backup", "network", "why"),
    [
        ("seed", "cut", "regtest", "is cut off or damaged"),
        ("seed", "garbage", "regtest", "is no backup of a node's channels"),
        ("other", "backup", "regtest", "is of a node with another seed, or damaged"),
        ("seed", "backup", "signet", "is of a node on another network"),
        ("seed", "none", "regtest", "cannot be read: No such file or directory"),
        ("garbage", "backup", "regtest", "is no seed: neither 12 to 24 words without a mistake nor bytes"),
        ("none", "backup", "regtest", "cannot be read: No such file or directory"),
    ],
)
def test_what_brings_no_node_back_is_one_sentence(
    kept: Path, capsys: pytest.CaptureFixture[str], seed: str, backup: str, network: str, why: str
) -> None:
    files = [f"--seed={kept / seed}", f"--backup={kept / backup}"]
    assert run(["restore", f"--lightning-dir={kept / 'node'}", f"--network={network}", *files]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("rill: ")
    assert line.endswith(why)
    # nothing was begun
    assert not (kept / "node").exists()


def test_a_node_that_there_is_already_is_not_touched(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["restore", f"--lightning-dir={kept / 'node'}", f"--seed={kept / 'seed'}"]
    assert run([*arguments, f"--backup={kept / 'backup'}"]) == 0
    assert run([*arguments, f"--backup={kept / 'backup'}"]) == 1
    assert "holds a node already" in capsys.readouterr().err
    assert run(["seed", f"--lightning-dir={kept / 'node'}"]) == 0
    words = kept / "words"
    words.write_text(capsys.readouterr().out)
    assert read_seed(words) == SEED
    assert run(["seed", f"--lightning-dir={kept / 'nobody'}"]) == 1


@pytest.mark.slow
@pytest.mark.parametrize("kept", ["garbage", "no seed"])
def test_a_directory_with_nothing_but_a_backup_that_is_not_its_own(tmp_path: Path, kept: str) -> None:
    directory = tmp_path / "alice" / "regtest"
    directory.mkdir(parents=True)
    (directory / FILE_NAME).write_bytes(b"garbage")
    if kept == "garbage":
        (directory / "seed").write_bytes(bytes(range(32)))
    chain = RillChain(tmp_path / "chain", _free_port())
    node = RillNode(tmp_path / "alice", chain.port)
    assert node.code() == 1
    lines = [line for line in "".join(node.said).splitlines() if line.startswith("rill: ")]
    assert len(lines) == 1, node.said
    assert "Traceback" not in "".join(node.said)
    # the user may still find out what it is
    assert (directory / FILE_NAME).read_bytes() == b"garbage"
    chain.close()
