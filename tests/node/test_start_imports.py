"""What a node that uses little has in memory: nobody pays for what is of use to others."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node.backends import RillChain
from tests.node.conftest import _free_port
from tests.node.processes import READY, Program, RillNode

SAYING_SO = ("-v",)
"""How Python names every module that it reads."""
_READ = re.compile(r"^import '([\w.]+)'", re.MULTILINE)

OF_NO_USE = (
    # other commands, and the lab
    "typer", "click", "rich", "pygments", "node.cli.commands", "node.lab", "numpy", "scipy", "matplotlib",
    "pandas", "distributed",
    # whoever serves the web
    "starlette", "hypercorn", "h11", "h2", "wsproto", "asyncio", "anyio", "http", "email",
    "node.daemon.rest", "node.daemon.metrics", "node.daemon.certificates", "cryptography.x509",
    # a chain of one's own
    "pbk", "node.chain.embedded", "node.chain.kernel", "node.chain.regtest", "node.chain.served",
    # what is bought and sold
    "node.stream.service", "node.stream.library", "node.stream.shop", "node.stream.gateway",
    "node.stream.messages",
    # wallets of others, guards, ends on the chain
    "embit.bip32", "embit.ec", "embit.psbt", "nacl", "node.daemon.tower_client", "node.daemon.watchtower",
    "htlc.resolution", "htlc.justice", "htlc.watchtower", "htlc.simple_close",
    # encryption of streams, other programs, languages, schemas, accidents
    "msgspec.inspect", "tokenize", "traceback",
    "ssl", "_ssl", "shutil", "bz2", "lzma", "tempfile", "locale", "idna", "encodings.idna", "stringprep",
    # answers to mistakes
    "difflib",
)  # fmt: skip


@pytest.fixture(autouse=True)
def no_process_outlives_its_test() -> Iterator[None]:
    yield
    for started in (Program.started, RillChain.started):
        while started:
            process = started.pop()
            if process.poll() is None:
                process.kill()
                process.communicate()


def modules_in(said: str) -> set[str]:
    """Every module that was read, packages too."""
    return set(_READ.findall(said))


def test_the_start_of_a_node_reads_what_every_node_needs() -> None:
    start = "import node.cli.main, node.cli.node; node.cli.node.service()"
    ended = subprocess.run(
        [sys.executable, *SAYING_SO, "-c", start], capture_output=True, text=True, check=True
    )
    read = modules_in(ended.stderr)
    assert {"trio", "node.daemon.node", "node.chain.bitcoind"} <= read
    assert not read & set(OF_NO_USE)


def test_what_is_put_off_is_read_when_it_is_asked_for() -> None:
    steps = """
import sys
from node.daemon.later import Later, put_off
put_off("ssl", "sys", "tempfile")
assert not isinstance(sys.modules["sys"], Later), "what is there stays"
import ssl, tempfile
import ssl as again
import trio
assert "_ssl" not in sys.modules
assert again is ssl and type(ssl) is Later
assert issubclass(ssl.SSLError, OSError)
from ssl import SSLError, create_default_context
assert SSLError is ssl.SSLError is sys.modules["ssl"].SSLError
assert type(sys.modules["ssl"]) is not Later
import trio.testing
trio.SSLStream(trio.testing.memory_stream_pair()[0], create_default_context(), server_hostname="a")
try:
    ssl.nothing_of_this_name
except AttributeError as missing:
    assert "nothing_of_this_name" in str(missing)
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-c", steps], check=True)


@pytest.mark.slow
async def test_a_node_that_is_asked_for_little_reads_little(tmp_path: Path) -> None:
    port = _free_port()
    chain = RillChain(tmp_path / "chain", port)
    node = RillNode(tmp_path / "alice", port, python=SAYING_SO)
    node.wait_for(READY)
    chain.call("sendtoaddress", (await node.call("newaddr"))["bech32"], "0.2")
    chain.call("generatetoaddress", 1, chain.call("getnewaddress"))
    made = await node.call("invoice", amount_msat=1000, label="one", description="")
    assert (await node.call("decode", string=made["bolt11"]))["amount_msat"] == 1000
    for method in ("getinfo", "listfunds", "listpeers", "listinvoices", "listpays", "stop"):
        await node.call(method)
    assert node.code() == 0
    chain.close()
    read = modules_in("".join(node.said))
    assert {"trio", "node.daemon.node", "node.daemon.rpc_invoices"} <= read
    assert not read & {
        *OF_NO_USE,
        "node.daemon.rpc_runes",
        "node.daemon.rpc_datastore",
        "node.daemon.rpc_sendpay",
    }


PAYMENT = """
import sys
from pathlib import Path
import trio
from tests.node.line import line

async def main():
    async with line(Path(sys.argv[1]), "alice bob carol") as net:
        for may_split in (False, True):
            await net.pay("alice", "carol", 10_000_000, may_split=may_split)
        print("whole", "numpy" in sys.modules)
        await net.pay("alice", "carol", 2_000_000_000, may_split=True)
        print("unlikely", "numpy" in sys.modules)

trio.run(main)
"""


@pytest.mark.slow
def test_arrays_are_for_payments_that_may_have_to_be_split(tmp_path: Path) -> None:
    """In a small network a payment that is likely to arrive whole needs none."""
    done = subprocess.run(
        [sys.executable, "-c", PAYMENT, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["whole", "False", "unlikely", "True"]
