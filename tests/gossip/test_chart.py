"""The chart follows its graph: after any changes its columns are those that would be made anew."""

from random import Random

import pytest

from gossip.asked import Asked, one_way
from gossip.beliefs import Beliefs
from gossip.chart import Chart
from gossip.compact import CompactGraph
from gossip.graph import Graph, Node, directed
from gossip.no_route import (
    AmountTooLarge,
    CltvTooFar,
    FeeTooHigh,
    NoOutgoingCapacity,
    NoRoute,
    Unreachable,
)
from gossip.parts import ground_of, routes_in_parts, why_none
from gossip.private import Hint, private_view
from tests.gossip.lines import a_policy, connect, node_id
from tests.gossip.test_parts import OWN, A, D, the_square
from tests.gossip.test_routes import AMOUNT, any_network
from wire.units import MAX_MSAT, Msat

B = node_id(1)


def edges(columns: CompactGraph) -> dict[int, tuple[object, ...]]:
    """Everything that the columns say, by directed number, nodes by name."""
    return {
        columns.number(edge): (
            columns.names[columns.source[edge]],
            columns.names[columns.target[edge]],
            int(columns.capacity_msat[edge]),
            int(columns.fee_base_msat[edge]),
            int(columns.fee_millionths[edge]),
            int(columns.cltv_delta[edge]),
            int(columns.least_msat[edge]),
            int(columns.most_msat[edge]),
            bool(columns.is_enabled[edge]),
            columns.source[edge] in columns.shunned,
        )
        for edge in range(len(columns))
    }


def asked_of(amount_msat: int = AMOUNT, **options: object) -> Asked:
    return Asked(A, B, amount_msat, 18, **{"own_msat": OWN, "most_parts": 16, **options})  # type: ignore[arg-type]


def drawn(chart: Chart, graph: Graph, asked: Asked) -> CompactGraph:
    """The columns of a plan."""
    for _ in chart.read():
        pass
    view = private_view(graph, asked.hints, asked.policies)
    return chart.plot(view, asked).ground().columns


def test_after_any_changes_it_is_as_if_made_anew() -> None:
    for seed in range(60):
        chance = Random(seed)
        graph, _ = any_network(seed)
        chart, asked = Chart(graph, A), asked_of(excluded_nodes=frozenset({node_id(3)}))
        for _ in range(4):
            for _ in range(chance.randrange(5)):
                change(graph, chance)
            if A in graph.index and B in graph.index:
                assert edges(drawn(chart, graph, asked)) == edges(ground_of(graph, asked).columns), seed


def change(graph: Graph, chance: Random) -> None:
    """Something that gossip may tell."""
    scid = chance.choice([*graph.channels, 50])
    one, other = chance.sample(range(8), 2)
    match chance.randrange(4):
        case 0:
            graph.remove_channel(scid)
        case 1:
            connect(graph, 60 + chance.randrange(5), min(one, other) + 10, max(one, other) + 10, a_policy())
        case 2 if scid in graph.channels:
            graph.apply_policy(scid, chance.randrange(2), a_policy(fee_base_msat=chance.randrange(99)))
        case 3 if node_id(one) in graph.index:
            graph.set_node(node_id(one), Node(1, is_understood=bool(chance.randrange(2))))


def test_it_pauses_and_what_changes_meanwhile_is_read_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gossip.chart._CHANNELS_AT_ONCE", 1)
    graph = the_square()
    chart, asked = Chart(graph, A), asked_of()
    pauses = 0
    for pauses, _ in enumerate(chart.read(), start=1):
        if pauses == 4:
            connect(graph, 9, 1, 7, a_policy())
    assert pauses == 5
    assert edges(drawn(chart, graph, asked)) == edges(ground_of(graph, asked).columns)
    # one who stops reading half-way loses nothing
    for scid in (1, 2, 3):
        graph.apply_policy(scid, 0, a_policy(fee_base_msat=77))
    next(chart.read())
    assert edges(drawn(chart, graph, asked)) == edges(ground_of(graph, asked).columns)


def test_what_an_invoice_hints_at_is_there_for_its_plan_alone() -> None:
    graph, payee = the_square(), node_id(9)
    hint = Hint(D, payee, 77, Msat(5), 10, 40)
    corrected = {directed(3, 0): a_policy(fee_base_msat=4321)}
    asked = Asked(A, payee, 1_000_000, 18, own_msat=OWN, hints=(hint,), policies=corrected)
    chart, view = Chart(graph, A), private_view(graph, asked.hints, asked.policies)
    for _ in range(2):
        for _ in chart.read():
            pass
        ground = chart.plot(view, asked).ground()
        assert edges(ground.columns) == edges(ground_of(view, asked).columns)
        [route] = routes_in_parts(ground, asked)
        assert route == one_way(view, asked, Beliefs(), 0.0)[0]
        plain = Asked(A, D, 1_000_000, 18, own_msat=OWN)
        assert edges(drawn(chart, graph, plain)) == edges(ground_of(graph, plain).columns)
    assert ground.columns.capacity_msat.max() // 2 < MAX_MSAT


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"own_msat": {1: 1000, 2: 2000}}, NoOutgoingCapacity),
        ({"own_msat": {}}, NoOutgoingCapacity),
        ({"max_fee_msat": 10}, FeeTooHigh),
        ({"max_cltv_blocks": 50}, CltvTooFar),
        ({"max_cltv_blocks": 10}, CltvTooFar),
        ({"room_msat": {directed(3, 0): 400_000, directed(4, 0): 300_000}}, AmountTooLarge),
        ({"excluded": frozenset({(3, 0), (4, 0)})}, Unreachable),
        ({"excluded_nodes": frozenset({node_id(1), node_id(2)})}, Unreachable),
    ],
)
def test_both_searches_say_alike_why_there_is_no_route(
    options: dict[str, object], kind: type[NoRoute]
) -> None:
    graph = the_square()
    asked = Asked(A, D, 1_000_000, 18, **{"own_msat": OWN, **options})  # type: ignore[arg-type]
    with pytest.raises(kind) as one:
        one_way(graph, asked, Beliefs(), 0.0)
    ground = ground_of(graph, asked)
    assert routes_in_parts(ground, asked) == ()
    other = why_none(ground, asked)
    assert type(other) is kind
    if kind is not AmountTooLarge:
        assert str(other) == str(one.value)
    else:
        assert isinstance(other, AmountTooLarge)
        assert other.largest_msat == 400_000


@pytest.mark.parametrize("alias", [1 << 62, 1 << 63, (1 << 64) - 1])
def test_a_channel_may_be_called_by_any_64_bits(alias: int) -> None:
    graph = the_square()
    connect(graph, alias, 0, 3, a_policy())
    connect(graph, alias % (1 << 62) + 5, 0, 3, a_policy())
    asked = Asked(A, D, 1_000_000, 18, own_msat={alias: 2_000_000})
    ground = ground_of(graph, asked)
    numbers = [directed(scid, direction) for scid in graph.channels for direction in (0, 1)]
    assert [ground.columns.number(edge) for edge in ground.columns.edges(numbers)] == numbers
    assert ground.columns.edges([directed(alias - 1, 0), directed(alias - 1, 1)]) == [-1, -1]
    [route] = routes_in_parts(ground, asked)
    assert [hop.short_channel_id for hop in route.hops] == [alias]
    assert (ground.columns.twin >= 0).all()
