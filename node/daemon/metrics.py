"""What a node counts, in the text form that Prometheus reads."""

from collections import Counter
from collections.abc import Iterable, Mapping

from htlc.ladder import LOCAL, REMOTE
from node.daemon.history import state_of
from node.daemon.node import Node
from node.daemon.payments import Status
from node.daemon.rpc_views import is_over
from node.daemon.version import VERSION

_LABELS_IN_QUOTES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
Rows = Iterable[tuple[Mapping[str, str], int]]


def metrics_of(node: Node) -> str:
    """All figures as they are now."""
    families = (*_of_node(node), *_of_money(node), *_of_channels(node), *_of_payments(node))
    return "".join(_family(*family) for family in families)


def _of_node(node: Node) -> Iterable[tuple[str, str, str, Rows]]:
    facts = {"version": VERSION, "id": node.node_id.hex(), "alias": node.alias, "network": node.chain.network}
    graph = node.graph
    return (
        ("rill_info", "gauge", "Which node this is.", [(facts, 1)]),
        ("rill_block_height", "gauge", "The last block that was read.", [({}, node.switch.height)]),
        ("rill_peers", "gauge", "Peers that are connected.", [({}, len(node.switch.peers))]),
        ("rill_graph_nodes", "gauge", "Nodes that we know of.", [({}, len(graph.index))]),
        ("rill_graph_channels", "gauge", "Channels that we know of.", [({}, len(graph.channels))]),
        ("rill_commits_total", "counter", "Durable database transactions.", [({}, node.store.commits)]),
    )


def _of_money(node: Node) -> Iterable[tuple[str, str, str, Rows]]:
    balance = node.balance_sat
    on_chain = [
        ({"status": "confirmed"}, balance.confirmed_sat),
        ({"status": "unconfirmed"}, balance.unconfirmed_sat),
    ]
    earned = node.switch.ledger
    count = sum(row.count for row in earned.earned.values())
    return (
        ("rill_wallet_satoshis", "gauge", "What the wallet holds on the chain.", on_chain),
        ("rill_forwards_total", "counter", "HTLCs that were passed on and fulfilled.", [({}, count)]),
        ("rill_forward_fees_msat_total", "counter", "What that has earned.", [({}, earned.fees_msat)]),
    )


def _of_channels(node: Node) -> Iterable[tuple[str, str, str, Rows]]:
    channels = [channel for channel in node.channels() if not is_over(node, channel)]
    states = Counter(state_of(node.switch, channel) for channel in channels)
    sides = {"local": LOCAL, "remote": REMOTE}
    usable = [channel for channel in channels if channel.is_usable]
    return (
        ("rill_channels", "gauge", "Channels.", [({"state": s}, n) for s, n in sorted(states.items())]),
        (
            "rill_channel_balance_msat",
            "gauge",
            "Balances of the channels that are in use.",
            [({"side": name}, sum(c.settled_msat[side] for c in usable)) for name, side in sides.items()],
        ),
        (
            "rill_htlcs",
            "gauge",
            "HTLCs that are on their way.",
            [({"side": name}, sum(len(c.htlcs[side]) for c in channels)) for name, side in sides.items()],
        ),
    )


def _of_payments(node: Node) -> Iterable[tuple[str, str, str, Rows]]:
    found = Counter(row.status for row in node.switch.payments.rows.values())
    paid = sum(row.is_paid for row in node.switch.invoices.rows.values())
    invoices = [({"status": "paid"}, paid), ({"status": "unpaid"}, len(node.switch.invoices.rows) - paid)]
    return (
        ("rill_payments", "gauge", "Payments of ours.", [({"status": s.value}, found[s]) for s in Status]),
        ("rill_invoices", "gauge", "Invoices of ours.", invoices),
    )


def _family(name: str, kind: str, help: str, rows: Rows) -> str:
    lines = [f"# HELP {name} {help}", f"# TYPE {name} {kind}"]
    lines += [f"{name}{_labels(labels)} {value}" for labels, value in rows]
    return "\n".join(lines) + "\n"


def _labels(labels: Mapping[str, str]) -> str:
    shown = ",".join(f'{name}="{value.translate(_LABELS_IN_QUOTES)}"' for name, value in labels.items())
    return f"{{{shown}}}" if shown else ""
