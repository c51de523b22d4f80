"""`rill route`: the README's words on it, and every mistake in one sentence."""

import gzip
import json
import lzma
from pathlib import Path

import msgspec
import pytest
import trio

from gossip.compact import CompactGraph
from gossip.explain import Question, hop_costs, next_best, why_not
from gossip.search import Limits
from node.cli.main import run
from node.daemon.rpc import RpcServer
from node.lab.graphs import BadGraphFile, read_graph
from tests.gossip.networks import a_network
from tests.gossip.test_imports import CLN_CHANNELS, CLN_NODES, LND, A, C
from tests.node.line import line
from tests.node.rpc_stage import commands_for

HEAD = "scid,src,dst,capacity_sat,enabled,base_fee_msat,fee_ppm,cltv_delta,htlc_min_msat,htlc_max_msat"
# 0 to 3 over 1, or over 2 which is dearer
SQUARE = f"""{HEAD}
1x1x0,0,1,100000,1,1000,0,40,1,90000000
1x2x0,1,3,100000,1,2000,100,40,1,80000000
1x3x0,0,2,100000,1,1000,0,40,1,99000000
1x4x0,2,3,100000,1,2500,100,50,1,99000000
1x5x0,3,4,100000,0,2500,100,50,1,99000000
"""


@pytest.fixture
def square(tmp_path: Path) -> str:
    path = tmp_path / "square.csv"
    path.write_text(SQUARE)
    return str(path)


def test_the_route_as_json(square: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["route", "--graph", square, "0", "3", "1000000", "--cheapest", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found.pop("seconds") >= 0
    assert found == {
        "hops": [
            {"scid": "1x1x0", "from": 0, "to": 1, "amount_msat": 1_002_100, "cltv_delta": 40},
            {"scid": "1x2x0", "from": 1, "to": 3, "amount_msat": 1_000_000, "cltv_delta": 40},
        ],
        "fee_msat": 2100,
    }


def test_the_explanation_says_why_the_next_best_is_worse(
    square: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["route", "--graph", square, "0", "3", "1000000", "--explain"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "2,100 msat in fees, 58 blocks locked at most" in said
    assert "500 msat of fees more, 10 blocks more" in said
    assert run(["route", "--graph", square, "0", "3", "1000000", "--explain", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [hop["to"] for hop in found["next_best"]["hops"]] == [2, 3]
    assert [cost["fee_msat"] for cost in found["costs"]] == [0, 2100]


def test_no_route_names_the_largest_amount_and_what_blocks_more(
    square: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["route", "--graph", square, "0", "3", "200000000"]) == 1
    said = capsys.readouterr().err
    assert "at most 98,987,602 msat would pass" in said
    assert run(["route", "--graph", square, "0", "4", "1000", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["hops"], found["largest_msat"]) == ([], 0)
    assert found["obstacles"] == [{"channel": "1x5x0/0", "why": "is disabled"}]


def test_limits_that_were_in_the_way_are_named(square: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["route", "--graph", square, "0", "3", "1000000", "--max-fee-msat", "2099"]) == 1
    assert "2100 msat in fees, the budget is 2099 msat" in capsys.readouterr().err
    assert run(["route", "--graph", square, "0", "3", "1000000", "--max-cltv", "57"]) == 1
    assert "58 blocks, the limit is 57" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["7", "3", "5"], "no node of this graph is '7'"),
        (["3", "3", "5"], "the same node"),
        (["0", "3", "0"], "0 msat is no amount"),
        (["0", "3", "5", "--max-cltv", "-1"], "cannot be negative"),
    ],
)
def test_a_mistake_is_one_sentence(
    square: str, arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["route", "--graph", square, *arguments]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1


def test_a_file_that_is_no_network_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, octets, says in (
        ("a.csv", (SQUARE + "1x6x0,0,1\n").encode(), "line 7: it ends before"),
        ("a.json", b'{"peers": []}', "holds neither"),
        ("a.xz", lzma.compress(SQUARE.encode())[:-20], "cannot be unpacked"),
        ("a.gz", gzip.compress(SQUARE.encode())[:-20], "cannot be unpacked"),
    ):
        path = tmp_path / name
        path.write_bytes(octets)
        assert run(["route", "--graph", str(path), "0", "1", "5"]) == 2
        assert says in capsys.readouterr().err
    assert run(["route", "--graph", str(tmp_path / "none"), "0", "1", "5"]) == 2
    assert "No such file" in capsys.readouterr().err


def test_every_format_is_recognised(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {
        "channels": json.dumps({"channels": CLN_CHANNELS}).encode(),
        "nodes": json.dumps(CLN_NODES).encode(),
        "lnd": json.dumps(LND).encode(),
        "xz": lzma.compress(SQUARE.encode()),
        "gz": gzip.compress(SQUARE.encode()),
    }
    for name, octets in files.items():
        (tmp_path / name).write_bytes(octets)
    both = ["--graph", str(tmp_path / "channels"), "--graph", str(tmp_path / "nodes")]
    for asked in (
        [*both, "ann", C, "5000"],
        ["--graph", str(tmp_path / "lnd"), A, C, "5000"],
        ["--graph", str(tmp_path / "xz"), "0", "3", "5000"],
        ["--graph", str(tmp_path / "gz"), "0", "3", "5000"],
    ):
        assert run(["route", *asked, "--json"]) == 0
        assert len(json.loads(capsys.readouterr().out)["hops"]) == 2


async def test_a_running_node_is_asked_for_its_network(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob carol") as net, trio.open_nursery() as nursery:
        directory = tmp_path / "home" / "regtest"
        directory.mkdir(parents=True)
        with pytest.raises(BadGraphFile, match="no node answers"):
            await trio.to_thread.run_sync(read_graph, [tmp_path / "home"])
        await nursery.start(RpcServer(directory / "lightning-rpc", commands_for(net["alice"])).run)
        for place in (tmp_path / "home", directory):
            graph = await trio.to_thread.run_sync(read_graph, [place])
            assert (graph.nodes, graph.channels, graph.one_sided) == (3, 2, 0)
            ends = graph.place("alice"), graph.place(net["carol"].node_id.hex())
            way = Question(graph, *ends, 100_000).answer()
            assert way is not None
            assert len(way.edges) == 2
        nursery.cancel_scope.cancel()


def _questions() -> list[Question]:
    graph: CompactGraph = a_network(3)
    return [Question(graph, 250 - at, at, 10**7, is_cheapest=at % 2 == 0) for at in range(30)]


@pytest.mark.slow
def test_the_largest_amount_passes_and_one_more_does_not() -> None:
    refused = 0
    for question in _questions():
        asked = msgspec.structs.replace(question, amount_msat=10**13)
        refusal = why_not(asked)
        refused += bool(refusal.largest_msat)
        for more, passes in ((0, True), (1, False)):
            amount = refusal.largest_msat + more
            way = msgspec.structs.replace(question, amount_msat=amount).answer() if amount else None
            assert (way is not None) == (passes and amount > 0)
    assert refused > 10


def test_the_next_best_way_is_no_better_and_another() -> None:
    for question in _questions():
        way = question.answer()
        if way is None:
            continue
        other = next_best(hop_costs(question, way))
        if other is not None:
            assert other.edges != way.edges
            assert other.price_msat >= way.price_msat
            assert question.limits == Limits()
