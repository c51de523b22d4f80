"""The README's shell blocks that are made to be pasted: pasted, and run."""

import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.node.conftest import _free_port

pytestmark = pytest.mark.slow

README = Path(__file__).parents[2] / "README.md"
BLOCK = re.compile(r"<!-- walk: (\w+) -->\n```sh\n(.*?)```", re.DOTALL)
WALKS = dict(BLOCK.findall(README.read_text()))
PATIENCE_SECONDS = 300
SAID = {
    "node": r"status +complete\n(?:.*\n)*type +mutual\n(?:.*\n)*result +Shutdown complete\n",
    "testnet": r"ring5: 5 nodes, 5 channels",
    "routes": r"fee",
    "lab": r"With no rival but the rest of the network the router earns most at .* ppm",
}
LEFT = {"testnet": "status.json", "routes": "route.json", "lab": "curve/report.html"}


def on_free_ports(block: str) -> str:
    """The block as it stands, but for the ports: others on this machine may have those."""
    chain, ann, ben = (str(_free_port()) for _ in range(3))
    block = block.replace("rill chain --datadir chain", f"rill chain --datadir chain --port {chain}")
    block = block.replace("--bitcoin-datadir chain", f"--bitcoin-datadir chain --bitcoin-rpcport {chain}")
    return block.replace("9801", ann).replace("9802", ben)


@pytest.mark.parametrize("name", WALKS)
def test_a_stranger_pastes_it(name: str, tmp_path: Path) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    home = tmp_path / "home"
    home.mkdir()
    with subprocess.Popen(
        ["bash", "-e", "-c", on_free_ports(WALKS[name])],
        cwd=tmp_path,
        env={**os.environ, "PATH": path, "HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as shell:
        try:
            said, _ = shell.communicate(timeout=PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            said = None
        # whatever it started and did not end
        with suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGKILL)
        assert said is not None, shell.communicate()[0]
    assert shell.returncode == 0, said
    assert re.search(SAID[name], said), said
    if name in LEFT:
        assert (tmp_path / LEFT[name]).stat().st_size


def test_every_walk_is_known() -> None:
    assert set(WALKS) == set(SAID)
