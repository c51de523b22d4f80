"""The JSON-RPC of the served chain beside a real bitcoind's: the same fields, errors and manners."""

import json
import socket
import stat
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from node.chain.embedded import EmbeddedChain
from node.chain.http import MAX_BODY_BYTES
from node.chain.served_methods import ServedMethods
from tests.node.backends import CREDENTIALS, RillChain
from tests.node.conftest import _free_port
from tests.node.relay_ground import Bitcoind, RpcError, installed_bitcoind
from wire.bitcoin.address import address_of
from wire.bitcoin.script import p2wpkh

ADDRESS = address_of(p2wpkh(b"\x02" * 33), "regtest")
NOWHERE = 64 * "1"
BLOCKS = 3


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RillChain]:
    chain = RillChain(tmp_path_factory.mktemp("served"), _free_port())
    chain.call("generatetoaddress", BLOCKS, ADDRESS)
    yield chain
    chain.close()


@pytest.fixture(scope="module")
def bitcoind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bitcoind]:
    server = Bitcoind(installed_bitcoind(), tmp_path_factory.mktemp("bitcoind"), _free_port())
    server.call("generatetoaddress", 101 + BLOCKS, ADDRESS)
    yield server
    server.close()


def arguments(server: Bitcoind, words: tuple[Any, ...]) -> list[Any]:
    """The words that stand for something of this server's chain, replaced."""
    best = server.call("getbestblockhash")
    [coinbase] = server.call("getblock", best)["tx"]
    known = {"BEST": best, "COINBASE": coinbase}
    return [known.get(word, word) if isinstance(word, str) else word for word in words]


# --- results

READ = [
    ("getblockchaininfo",),
    ("getnetworkinfo",),
    ("getmempoolinfo",),
    ("getblockcount",),
    ("getbestblockhash",),
    ("getblockhash", 1),
    ("getblockheader", "BEST"),
    ("getblockheader", "BEST", False),
    ("getblock", "BEST", 0),
    ("getblock", "BEST"),
    ("getblock", "BEST", True),
    ("getblock", "BEST", 2),
    ("getrawtransaction", "COINBASE", False, "BEST"),
    ("getrawtransaction", "COINBASE", True, "BEST"),
    ("gettxout", "COINBASE", 0),
    ("gettxout", "COINBASE", 9),
    ("getrawmempool",),
    ("getrawmempool", True),
    ("getrawmempool", False, True),
    ("gettxspendingprevout", [{"txid": NOWHERE, "vout": 0}]),
    ("generatetoaddress", 1, ADDRESS),
    ("generateblock", ADDRESS, []),
    ("waitfornewblock", 1),
    ("waitforblockheight", 1),
    ("uptime",),
]


def shape(value: Any, beside: Any) -> Any:
    """The value with every leaf replaced by its type; of objects only the fields that both have."""
    if isinstance(value, dict):
        assert isinstance(beside, dict)
        return {name: shape(value[name], beside[name]) for name in sorted(value) if name in beside}
    if isinstance(value, list):
        assert isinstance(beside, list)
        return [shape(value[0], beside[0])] if value and beside else []
    return float if isinstance(value, float | int) and not isinstance(value, bool) else type(value)


def fields(value: Any) -> set[str]:
    """The names of all fields, at any depth, without those that are no names but hashes."""
    if isinstance(value, dict):
        names = {name for name in value if len(name) < 64}
        return names.union(*map(fields, value.values()))
    return set().union(*map(fields, value)) if isinstance(value, list) else set()


@pytest.mark.parametrize("call", READ, ids=lambda call: " ".join(map(str, call))[:40])
def test_results_have_the_fields_and_types_of_bitcoind(
    served: RillChain, bitcoind: Bitcoind, call: tuple[Any, ...]
) -> None:
    method, *words = call
    ours = served.call(method, *arguments(served, tuple(words)))
    theirs = bitcoind.call(method, *arguments(bitcoind, tuple(words)))
    assert shape(ours, theirs) == shape(theirs, ours)
    # softforks is what older versions have
    assert fields(ours) - fields(theirs) <= {"softforks"}


def test_amounts_are_exact_to_the_satoshi(served: RillChain) -> None:
    txid = served.call("sendtoaddress", ADDRESS, "0.12345679")
    raw = http(served, json.dumps({"method": "getrawtransaction", "params": [txid, True], "id": 1}).encode())
    assert b'"value":0.12345679' in raw[1]
    assert served.call("getmempoolentry", txid)["fees"]["base"] > 0
    served.call("generatetoaddress", 1, ADDRESS)
    shown = served.call("getrawtransaction", txid, True)
    assert shown["confirmations"] == 1
    assert shown["vout"][0]["scriptPubKey"]["address"] == ADDRESS


def test_a_waiting_transaction_is_shown_with_its_kin(served: RillChain) -> None:
    txid = served.call("sendtoaddress", ADDRESS, 1)
    assert served.call("getrawmempool") == [txid]
    view = served.call("getmempoolentry", txid)
    assert (view["ancestorcount"], view["descendantcount"], view["depends"]) == (1, 1, [])
    spent = served.call("getrawtransaction", txid, True)["vin"][0]
    asked = {"txid": spent["txid"], "vout": spent["vout"]}
    assert served.call("gettxspendingprevout", [asked]) == [{**asked, "spendingtxid": txid}]
    assert served.call("gettxout", spent["txid"], spent["vout"]) is None
    assert served.call("gettxout", spent["txid"], spent["vout"], False) is not None
    [known] = served.call("testmempoolaccept", [served.call("getrawtransaction", txid)])
    assert (known["allowed"], known["reject-reason"]) == (False, "txn-already-in-mempool")
    mined = served.call("generateblock", ADDRESS, [txid])["hash"]
    assert served.call("getblock", mined)["tx"][1:] == [txid]


def test_a_block_with_nothing_leaves_what_waits(served: RillChain) -> None:
    txid = served.call("sendtoaddress", ADDRESS, 1)
    served.call("generateblock", ADDRESS, [])
    assert served.call("getrawmempool") == [txid]
    served.call("generatetoaddress", 1, ADDRESS)


def test_an_invalidated_block_leaves_the_chain_and_its_transactions_wait(served: RillChain) -> None:
    height, best = served.call("getblockcount"), served.call("getbestblockhash")
    txid = served.call("sendtoaddress", ADDRESS, 1)
    [lost] = served.call("generatetoaddress", 1, ADDRESS)
    served.call("invalidateblock", lost)
    assert (served.call("getblockcount"), served.call("getbestblockhash")) == (height, best)
    assert served.call("getblockheader", lost)["confirmations"] == -1
    assert served.call("getrawmempool") == [txid]
    [found] = served.call("generatetoaddress", 1, ADDRESS)
    assert found != lost
    served.call("generatetoaddress", 1, ADDRESS)
    assert served.call("getblockcount") == height + 2


# --- errors

WRONG = [
    ("getblockhash", 1_000_000),
    ("getblockhash",),
    ("getblockhash", "a"),
    ("getblockhash", 1, 2),
    ("getblock", "00"),
    ("getblock", NOWHERE),
    ("getblockheader", NOWHERE),
    ("invalidateblock", NOWHERE),
    ("getrawtransaction", NOWHERE),
    ("getrawtransaction", "xyz"),
    ("getmempoolentry", NOWHERE),
    ("gettxout", "xx", 1),
    ("sendrawtransaction", "00"),
    ("sendrawtransaction", "zz"),
    ("submitpackage", []),
    ("submitpackage", ["00"]),
    ("testmempoolaccept", []),
    ("estimatesmartfee", 0),
    ("estimatesmartfee", 2000),
    ("generatetoaddress", 1, "nowhere"),
    ("generateblock", "nowhere", []),
    ("generateblock", ADDRESS, [NOWHERE]),
    ("nosuchmethod",),
]


@pytest.mark.parametrize("call", WRONG, ids=lambda call: " ".join(map(str, call))[:40])
def test_mistakes_have_the_code_of_bitcoind(
    served: RillChain, bitcoind: Bitcoind, call: tuple[Any, ...]
) -> None:
    method, *parameters = call
    ours, theirs = (refusal(server, method, parameters) for server in (served, bitcoind))
    assert ours[:2] == theirs[:2]


def refusal(server: Bitcoind, method: str, parameters: list[Any]) -> tuple[int, int, str]:
    asked = json.dumps({"method": method, "params": parameters, "id": 1}).encode()
    status, body = http(server, asked)
    error = json.loads(body)["error"]
    return status, error["code"], error["message"]


def test_the_wallets_mistakes(served: RillChain) -> None:
    for parameters, code in (
        (["nowhere", 1], -5),
        ([ADDRESS, 0.123456789], -3),
        ([ADDRESS, 0], -3),
        ([ADDRESS, 20_000_000], -6),
    ):
        assert refusal(served, "sendtoaddress", parameters)[1] == code


FRAMES = [
    b"nonsense",
    b"3",
    b"[]",
    b"{}",
    b"[1]",
    b'{"id":1}',
    b'{"method":3,"id":1}',
    b'{"method":"getblockcount","params":3,"id":1}',
    b'{"method":"getblockhash","params":{"height":0},"id":"x"}',
    b'{"method":"getblockhash","params":{"heigh":1},"id":1}',
    b'{"method":"getblockhash","params":[null],"id":1}',
    b'{"jsonrpc":"2.0","method":"getblockhash","params":[1000000],"id":1}',
    b'{"jsonrpc":"2.0","method":"getblockcount","params":[]}',
    b'{"jsonrpc":"2.0","method":"nosuchmethod","id":1}',
    b'[{"method":"getblockhash","params":[0],"id":1},{"method":"nosuchmethod","id":2}]',
    b'[{"jsonrpc":"2.0","method":"getblockcount"}]',
]


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: frame.decode()[:40])
def test_every_frame_is_answered_as_bitcoind_answers_it(
    served: RillChain, bitcoind: Bitcoind, frame: bytes
) -> None:
    ours, theirs = (answered(*http(server, frame)) for server in (served, bitcoind))
    assert ours == theirs


def answered(status: int, body: bytes) -> tuple[int, Any]:
    """An answer without the words of its errors and what differs between chains."""
    parsed = json.loads(body) if body else None
    for reply in parsed if isinstance(parsed, list) else [parsed]:
        if isinstance(reply, dict) and reply.get("error"):
            reply["error"] = reply["error"]["code"]
    return status, parsed


# --- whatever is asked

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=70),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
LIKELY = st.sampled_from(
    [NOWHERE, ADDRESS, "", "00", 0, 1, -1, 2**70, "0.1", "NaN", "1e999999", True, [], [NOWHERE]]
)
NOT_TRIED = {"stop", "waitfornewblock", "waitforblockheight", "generatetoaddress"}


@pytest.fixture(scope="module")
def in_process() -> Iterator[ServedMethods]:
    with EmbeddedChain(premined_blocks=101) as chain:
        yield ServedMethods(chain)


@settings(max_examples=50)
@given(data=st.data())
def test_no_request_brings_the_chain_down(in_process: ServedMethods, data: st.DataObject) -> None:
    async def ask() -> None:
        table = in_process.table
        for name in sorted(table.methods.keys() - NOT_TRIED):
            most = len(table.methods[name].parameters) + 1
            parameters = data.draw(st.lists(LIKELY | JSON, max_size=most), label=name)
            asked = json.dumps({"method": name, "params": parameters, "id": 1}).encode()
            assert json.loads((await table.answer(asked))[1])["id"] == 1

    trio.run(ask)


# --- HTTP


def http(
    server: Bitcoind, body: bytes, method: str = "POST", authorization: str = CREDENTIALS.field
) -> tuple[int, bytes]:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        connection.request(method, "/", body, {"Authorization": authorization})
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


def test_only_a_password_lets_in(served: RillChain) -> None:
    assert http(served, b"{}", authorization="Basic d3Jvbmc6d3Jvbmc=")[0] == 401
    assert http(served, b"{}", authorization="")[0] == 401


def test_only_posts_are_answered(served: RillChain) -> None:
    assert http(served, b"", method="GET")[0] == 405


def test_a_connection_takes_many_requests(served: RillChain) -> None:
    connection = HTTPConnection("127.0.0.1", served.port, timeout=60)
    for _ in range(3):
        body = b'{"method":"getblockcount","id":1}'
        connection.request("POST", "/wallet/any", body, {"Authorization": CREDENTIALS.field})
        assert json.loads(connection.getresponse().read())["error"] is None
    connection.close()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GARBAGE\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nno colon\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY_BYTES + 1), b"413"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", b"401"),
        (b"POST / HTTP/1.1\r\nX: " + 20_000 * b"x", b"400"),
    ],
)
def test_what_is_no_request_ends_the_connection(served: RillChain, sent: bytes, status: bytes) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=60) as connection:
        connection.sendall(sent)
        assert connection.recv(4096).startswith(b"HTTP/1.1 " + status)
    assert served.call("getblockcount") > 0


# --- its life


def test_the_cookie_is_its_owners_alone_and_goes_with_the_chain(tmp_path: Path) -> None:
    chain = RillChain(tmp_path, _free_port())
    cookie = tmp_path / "regtest" / ".cookie"
    assert str(cookie) in chain.greeting[1]
    assert stat.S_IMODE(cookie.stat().st_mode) == 0o600
    assert cookie.read_text().startswith("__cookie__:")
    chain.close()
    assert not cookie.exists()


def test_stop_ends_the_chain_and_a_new_start_goes_on(tmp_path: Path) -> None:
    chain = RillChain(tmp_path, _free_port())
    [best] = chain.call("generatetoaddress", 1, ADDRESS)
    assert "stopping" in chain.call("stop")
    assert chain.process.wait(timeout=60) == 0
    again = RillChain(tmp_path, _free_port())
    assert again.call("getbestblockhash") == best
    again.close()


def test_an_error_names_its_method(served: RillChain) -> None:
    with pytest.raises(RpcError) as refused:
        served.call("getblockhash")
    assert refused.value.message.startswith("getblockhash height\n")
    assert "getblockhash height" in served.call("help")
