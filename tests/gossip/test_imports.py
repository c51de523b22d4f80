"""Networks that others wrote down: the same graph from each format, and what is wrong with its place."""

import json

import pytest

from gossip.compact import CompactGraph, SameDirectionTwice, UnknownNode
from gossip.graph import directed
from gossip.imports import Malformed, from_core_lightning, from_lnd, from_table

A, B, C = ("02" + letter * 64 for letter in "abc")
HEAD = "scid,src,dst,capacity_sat,enabled,base_fee_msat,fee_ppm,cltv_delta,htlc_min_msat,htlc_max_msat"
TABLE = f"""{HEAD}
700x1x0,0,1,1000000,1,1000,100,40,1,990000000
700x1x0,1,0,1000000,0,0,5,80,1000,1000000000
700x2x1,1,2,50000,1,1,2,3,4,9999999999
"""
CLN_CHANNELS = [
    {
        "source": source,
        "destination": destination,
        "short_channel_id": scid,
        "direction": direction,
        "amount_msat": capacity,
        "active": active,
        "base_fee_millisatoshi": base,
        "fee_per_millionth": ppm,
        "delay": delay,
        "htlc_minimum_msat": least,
        "htlc_maximum_msat": most,
        "features": "",
    }
    for source, destination, scid, direction, capacity, active, base, ppm, delay, least, most in (
        (A, B, "700x1x0", 0, 10**9, True, 1000, 100, 40, 1, 990000000),
        (B, A, "700x1x0", 1, 10**9, False, 0, 5, 80, 1000, 10**9),
        (B, C, "700x2x1", 0, "50000000msat", True, 1, 2, 3, "4msat", 50000000),
    )
]
CLN_NODES = {
    "nodes": [{"nodeid": A, "alias": "ann"}, {"nodeid": B, "alias": "twin"}, {"nodeid": C, "alias": "twin"}]
}


def lnd_policy(
    base: int, ppm: int, delta: int, least: int, most: int, disabled: bool = False
) -> dict[str, object]:
    return {
        "time_lock_delta": delta,
        "min_htlc": str(least),
        "fee_base_msat": str(base),
        "fee_rate_milli_msat": str(ppm),
        "disabled": disabled,
        "max_htlc_msat": str(most),
        "last_update": 7,
    }


LND = {
    "nodes": [{"pub_key": A, "alias": "ann"}, {"pub_key": B, "alias": ""}],
    "edges": [
        {
            "channel_id": str(700 << 40 | 1 << 16),
            "node1_pub": A,
            "node2_pub": B,
            "capacity": "1000000",
            "node1_policy": lnd_policy(1000, 100, 40, 1, 990000000),
            "node2_policy": lnd_policy(0, 5, 80, 1000, 10**9, disabled=True),
        },
        {
            "channel_id": str(700 << 40 | 2 << 16 | 1),
            "node1_pub": B,
            "node2_pub": C,
            "capacity": "50000",
            "node1_policy": lnd_policy(1, 2, 3, 4, 50000000),
            "node2_policy": None,
        },
    ],
}


def edges(graph: CompactGraph) -> list[tuple[int, ...]]:
    columns = (
        graph.short_channel_id,
        graph.direction,
        graph.source,
        graph.target,
        graph.capacity_msat,
        graph.fee_base_msat,
        graph.fee_millionths,
        graph.cltv_delta,
        graph.least_msat,
        graph.most_msat,
        graph.is_enabled,
    )
    return sorted(zip(*(column.tolist() for column in columns), strict=True))


GRAPHS = {
    "table": from_table(TABLE.encode()),
    "core lightning": from_core_lightning(
        json.dumps({"channels": CLN_CHANNELS}).encode(), json.dumps(CLN_NODES).encode()
    ),
    "lnd": from_lnd(json.dumps(LND).encode()),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_every_format_gives_the_same_edges(name: str) -> None:
    graph = GRAPHS[name]
    assert edges(graph) == [
        (700 << 40 | 1 << 16, 0, 0, 1, 10**9, 1000, 100, 40, 1, 990000000, True),
        (700 << 40 | 1 << 16, 1, 1, 0, 10**9, 0, 5, 80, 1000, 10**9, False),
        (700 << 40 | 2 << 16 | 1, 0, 1, 2, 50000000, 1, 2, 3, 4, 50000000, True),
    ]
    assert (graph.nodes, graph.channels, graph.one_sided) == (3, 2, 1)


def test_the_other_direction_of_an_edge_is_known() -> None:
    graph = GRAPHS["table"]
    assert all(graph.twin[graph.twin[edge]] == edge for edge in range(len(graph)) if graph.twin[edge] >= 0)
    there, back = graph.edges([directed(700 << 40 | 1 << 16, direction) for direction in (0, 1)])
    assert graph.twin[there] == back
    assert graph.number(back) == directed(700 << 40 | 1 << 16, 1)
    assert graph.edges([directed(700 << 40 | 2 << 16 | 1, 1), 5, 1 << 62]) == [-1, -1, -1]


def test_a_node_is_found_by_id_and_by_an_alias_that_is_its_alone() -> None:
    graph = GRAPHS["core lightning"]
    assert graph.place(B.upper()) == graph.place(B) == 1
    assert graph.place("ann") == 0
    assert graph.called(0) == "ann"
    with pytest.raises(UnknownNode, match="2 nodes call themselves 'twin'"):
        graph.place("twin")
    with pytest.raises(UnknownNode, match="no node of this graph is 'zoe'"):
        graph.place("zoe")


def test_columns_may_come_in_any_order_and_with_others() -> None:
    lines = [line.split(",") for line in TABLE.splitlines()]
    turned = "\r\n".join(",".join([*reversed(line), "7"]) for line in lines)
    assert edges(from_table(turned.encode())) == edges(GRAPHS["table"])


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("700x3x0,0,1,1000000,1,1000,100,40,1", "line 5: it ends before htlc_max_msat"),
        (
            "700-3-0,0,1,1000000,1,1000,100,40,1,9",
            "line 5: '700-3-0' is not a short channel id such as 539268x845x1",
        ),
        ("700x3x0,0,1,many,1,1000,100,40,1,9", "line 5: capacity_sat is 'many', not a whole number"),
        (
            "700x3x0,0,1,1000,1,-5,100,40,1,9",
            "line 5: base_fee_msat is '-5', not a whole number from 0 to 4294967295",
        ),
        ("700x3x0,0,1,1000,1,5,1e3,40,1,9", "line 5: fee_ppm is '1e3'"),
        (
            "700x3x0,0,1,1000,1,5,100,70000,1,9",
            "line 5: cltv_delta is '70000', not a whole number from 0 to 65535",
        ),
        ("700x3x0,1,1,1000,1,5,100,40,1,9", "line 5: the channel leads from a node to itself"),
        ("700x1x0,0,1,1000000,1,1000,100,40,1,9", "channel 700x1x0 from node 0 is told twice"),
        ("700x3x70000,0,1,1000,1,5,100,40,1,9", "line 5: '700x3x70000' is not a short channel id"),
        (f"700x3x0,0,1,1000,1,5,100,40,1,{1 << 64}", "line 5: htlc_max_msat is"),
    ],
)
def test_what_is_wrong_in_a_table_is_named_with_its_line(line: str, says: str) -> None:
    with pytest.raises((Malformed, SameDirectionTwice)) as caught:
        from_table(f"{TABLE}{line}\n".encode())
    assert str(caught.value).startswith(says)


def test_a_table_without_edges_or_columns_is_none() -> None:
    with pytest.raises(Malformed, match="line 1: no column dst, htlc_max_msat"):
        from_table(HEAD.replace(",dst", "").replace(",htlc_max_msat", "").encode())
    with pytest.raises(Malformed, match="no edges"):
        from_table(HEAD.encode() + b"\n")
    with pytest.raises(Malformed):
        from_table(b"")


def test_what_is_wrong_in_json_is_named_with_its_place() -> None:
    with pytest.raises(Malformed, match="line 3: "):
        from_lnd(b'{\n "edges": [\n ?\n]}')
    broken = json.loads(json.dumps(LND))
    broken["edges"][1]["capacity"] = "much"
    with pytest.raises(Malformed, match=r"edges\[1\]\.capacity|edges\[\.\.\.\]\.capacity"):
        from_lnd(json.dumps(broken).encode())
    with pytest.raises(
        Malformed, match=r"channels\[0\]: cltv_delta of channel 700x1x0 is 70000, not from 0 to 65535"
    ):
        from_core_lightning(json.dumps({"channels": [{**CLN_CHANNELS[0], "delay": 70000}]}).encode())
    with pytest.raises(Malformed, match="no channel with a policy"):
        from_lnd(b'{"edges": []}')
