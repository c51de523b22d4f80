"""Where transactions are judged: the embedded chain and, if there is one, a bitcoind beside it.

The blocks of the embedded chain are given to bitcoind too, so both know the same coins. Each
verdict of the embedded mempool is compared with bitcoind's, and then the whole content of both.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from node.chain.embedded import EmbeddedChain
from node.chain.interface import Rejected
from tests.node.payer import SCRIPT, Payer
from wire.bitcoin.tx import OutPoint, Transaction, TxOut, txid_hex
from wire.units import Sat

NETWORK = ("-regtest", "-server", "-listen=0", "-dnsseed=0", "-fixedseeds=0", "-networkactive=0")
ACCESS = ("-rpcuser=u", "-rpcpassword=p")
AUTHORIZATION = {"Authorization": "Basic dTpw"}
POLICY = ("-minrelaytxfee=0.00001", "-incrementalrelayfee=0.00001", "-datacarriersize=83")
# bitcoin-knots judges more harshly than Bitcoin Core unless it is told not to
KNOTS_POLICY = (
    "-mempooltruc=enforce",
    "-maxscriptsize=4000",
    "-rejectparasites=0",
    "-rejecttokens=0",
    "-datacarrierfullcount=0",
    "-acceptnonstddatacarrier=1",
    "-rejectdeadbranches=0",
)


class RpcError(Exception):
    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Bitcoind:
    """A regtest bitcoind of our own, for as long as the tests run."""

    def __init__(self, program: str, directory: Path, port: int) -> None:
        version = subprocess.run([program, "-version"], capture_output=True, text=True, check=True).stdout
        policy = (*POLICY, *KNOTS_POLICY) if "Knots" in version else POLICY
        command = [program, *NETWORK, *ACCESS, *policy, f"-datadir={directory}", f"-rpcport={port}"]
        subprocess.run([*command, "-daemonwait"], stdout=subprocess.DEVNULL, check=True)
        self.port = port

    def call(self, method: str, *parameters: object) -> Any:
        asked = json.dumps({"method": method, "params": parameters, "id": 1})
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        with closing(connection):
            connection.request("POST", "/", asked, AUTHORIZATION)
            answer = json.load(connection.getresponse())
        if answer["error"] is not None:
            raise RpcError(answer["error"]["message"])
        return answer["result"]

    def close(self) -> None:
        self.call("stop")


def find_bitcoind() -> str | None:
    """The program, if there is one."""
    named = os.environ.get("BITCOIND") or shutil.which("bitcoind")
    program = Path(named) if named else Path.home() / ".cache/bitcoind/bin/bitcoind"
    return str(program) if program.exists() else None


def installed_bitcoind() -> str:
    """The program, or skip the test with the reason."""
    program = find_bitcoind()
    if program is None:
        pytest.skip("no bitcoind: run tests/interop/install-bitcoind, or name one in BITCOIND")
    return program


class Ground:
    """One chain whose mempool is asked, and perhaps a bitcoind that must agree."""

    def __init__(self, chain: EmbeddedChain, bitcoind: Bitcoind | None) -> None:
        self.chain = chain
        self.bitcoind = bitcoind
        self.payer = Payer(chain)
        self._submitted_height = 0
        self._tell_blocks()

    def _tell_blocks(self) -> None:
        regtest = self.chain.regtest
        for height in range(self._submitted_height + 1, regtest.height + 1):
            block_hash = regtest.block_hash(height)
            assert block_hash is not None
            if self.bitcoind is not None:
                refused = self.bitcoind.call("submitblock", regtest.block(block_hash).serialize().hex())
                assert refused is None, refused
        self._submitted_height = regtest.height

    def mine(self, count: int = 1) -> None:
        self.chain.regtest.mine(count, self.chain.faucet.script)
        self._tell_blocks()

    def coins(self, count: int = 1, value_sat: int = 100_000, script: bytes = SCRIPT) -> list[OutPoint]:
        """New confirmed outputs."""
        outpoints = self.chain.faucet.pay([TxOut(Sat(value_sat), script)] * count)
        self.payer.values |= dict.fromkeys(outpoints, Sat(value_sat))
        self.mine()
        return outpoints

    def accepts(self, *transactions: Transaction) -> None:
        """Both let the transactions in (or had them)."""
        self.chain.regtest.submit(*transactions)
        refusal = self._refusal(transactions)
        assert refusal is None, refusal
        self._agree()

    def refuses(self, reason: str, *transactions: Transaction) -> None:
        """Both refuse, and the embedded chain gives a reason that starts like this."""
        with pytest.raises(Rejected) as refused:
            self.chain.regtest.submit(*transactions)
        assert refused.value.reason.startswith(reason)
        if self.bitcoind is not None:
            assert self._refusal(transactions) is not None, f"bitcoind accepts what fails here with {reason}"
            self._agree()

    def _refusal(self, transactions: Sequence[Transaction]) -> str | None:
        """Why bitcoind refuses, if it does and if there is one."""
        if self.bitcoind is None:
            return None
        raw = [transaction.serialize().hex() for transaction in transactions]
        try:
            if len(raw) == 1:
                self.bitcoind.call("sendrawtransaction", raw[0], 0)
                return None
            result = self.bitcoind.call("submitpackage", raw, 0)
        except RpcError as refused:
            return refused.message
        return None if result["package_msg"] == "success" else str(result)

    def _agree(self) -> None:
        if self.bitcoind is not None:
            ours = {txid_hex(entry.txid) for entry in self.chain.regtest.mempool}
            assert set(self.bitcoind.call("getrawmempool")) == ours


def family(payer: Payer, coin: OutPoint, count: int) -> list[Transaction]:
    """A chain of transactions, each spending the one before."""
    lineage = [payer.spend(coin)]
    for _ in range(count - 1):
        lineage.append(payer.spend(lineage[-1].outpoint(0)))
    return lineage
