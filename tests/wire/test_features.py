"""BOLT 9: feature bits; BOLT 1: which of them let two nodes talk."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bolt import bolt
from tests.wire.samples import vectors
from wire import features
from wire.features import (
    FEATURES,
    INVOICE,
    NODE_ANNOUNCEMENT,
    OUR_INIT,
    OURS,
    Features,
    MissingDependency,
    UnknownRequiredFeature,
    channel_type_bits,
    channel_type_names,
    check_features,
    in_context,
)

FIGURES = vectors("features")
ROWS = {row["name"]: row for row in FIGURES["features"]}

every_announcement = pytest.mark.parametrize(
    ("announced", "context"), [(OUR_INIT, "I"), (NODE_ANNOUNCEMENT, "N"), (INVOICE, "9")]
)
some_bits = st.frozensets(st.integers(0, 130))


def test_the_table_is_bolt_9s() -> None:
    assert FEATURES.keys() == ROWS.keys()
    for name, row in ROWS.items():
        feature = FEATURES[name]
        assert (feature.bit, feature.bit + 1) == (row["even_bit"], row["odd_bit"])
        assert list(feature.contexts) == row["contexts"]
        assert list(feature.depends_on) == row["depends_on"]
        assert feature.is_assumed == row["assumed"]


def test_every_feature_has_its_constant() -> None:
    constants = {value for name, value in vars(features).items() if name.isupper() and isinstance(value, str)}
    assert constants == FEATURES.keys()


@given(some_bits)
def test_a_set_comes_back_from_its_shortest_bytes(bits: frozenset[int]) -> None:
    these = Features(sum(1 << bit for bit in bits))
    raw = these.to_bytes()
    assert set(these) == bits
    assert raw[:1] != b"\0"
    assert Features.from_bytes(raw) == Features.from_bytes(b"\0\0" + raw) == these


def test_bit_0_is_the_lowest_of_the_last_byte() -> None:
    assert Features.from_bytes(bytes.fromhex("0201")) == Features(1 << 9 | 1)


def test_a_feature_is_offered_by_either_bit_and_required_by_the_even_one() -> None:
    offered, required = Features.of(optional=["basic_mpp"]), Features.of("basic_mpp")
    assert list(offered) == [17]
    assert list(required) == [16]
    assert offered.has("basic_mpp")
    assert required.has("basic_mpp")
    assert required.requires("basic_mpp")
    assert not offered.requires("basic_mpp")
    assert not offered.has("payment_secret")


@bolt("b9.2")
def test_both_bits_mean_required() -> None:
    both = Features(3 << 22)
    assert both.has("option_anchors")
    assert both.requires("option_anchors")
    assert both.names() == ("option_anchors",)


@bolt("b9.1")
def test_changing_a_feature_never_leaves_both_bits() -> None:
    required = OURS.with_required("option_anchors")
    assert required.requires("option_anchors")
    assert not required.bits >> 23 & 1
    assert required.with_optional("option_anchors") == OURS
    assert not OURS.without("option_anchors").has("option_anchors")


@bolt("b9.1")
@every_announcement
def test_what_we_announce_is_well_formed(announced: Features, context: str) -> None:
    assert not any(bit ^ 1 in set(announced) for bit in announced), "both bits of a pair"
    assert not announced.missing_dependencies()
    assert announced.unknown_even() is None
    for name in announced.names():
        row = ROWS[name]
        assert context in row["contexts"] or row["assumed"] or name == "gossip_queries"


@bolt("b9.1")
def test_the_nodes_of_2026_find_what_they_demand() -> None:
    demanded = {bit for bits in FIGURES["even_bit_by_default_2026"].values() for bit in bits}
    for bit in demanded:
        assert {bit, bit + 1} & set(OUR_INIT)
    for name in FIGURES["assumed"]:
        assert OUR_INIT.has(name)
    assert INVOICE.requires("payment_secret")


def test_we_stay_connected_to_the_nodes_of_2026() -> None:
    for bits in FIGURES["even_bit_by_default_2026"].values():
        check_features(Features(sum(1 << bit for bit in bits)), OUR_INIT)


@bolt("init.3")
def test_an_unknown_odd_feature_is_no_matter() -> None:
    check_features(OUR_INIT | Features(1 << 127), OUR_INIT)


@bolt("init.3")
@pytest.mark.parametrize("bit", [2, 20, 54, 126, 1000])
def test_an_unknown_even_feature_ends_the_connection(bit: int) -> None:
    with pytest.raises(UnknownRequiredFeature) as refusal:
        check_features(OUR_INIT | Features(1 << bit), OUR_INIT)
    assert refusal.value.bit == bit


@bolt("init.3")
def test_a_feature_of_the_table_that_we_lack_must_not_be_required_of_us() -> None:
    theirs = OUR_INIT.with_required("option_splice")
    assert theirs.unknown_even() is None
    with pytest.raises(UnknownRequiredFeature):
        check_features(theirs, OUR_INIT)
    check_features(OUR_INIT.with_optional("option_splice"), OUR_INIT)


@bolt("init.3")
def test_a_missing_dependency_ends_the_connection() -> None:
    lone = Features.of(optional=["option_zeroconf"])
    assert lone.missing_dependencies() == (("option_zeroconf", "option_scid_alias"),)
    with pytest.raises(MissingDependency):
        check_features(lone, OUR_INIT)
    check_features(lone.with_optional("option_scid_alias"), OUR_INIT)


@bolt("init.3")
def test_an_assumed_dependency_need_not_be_spelt_out() -> None:
    check_features(Features.of(optional=["basic_mpp"]), OUR_INIT)


@given(some_bits)
def test_the_lowest_unknown_required_bit_is_found(bits: frozenset[int]) -> None:
    known = {feature.bit for feature in FEATURES.values()}
    unknown = sorted(bit for bit in bits if not bit & 1 and bit not in known)
    found = Features(sum(1 << bit for bit in bits)).unknown_even()
    assert found == (unknown[0] if unknown else None)


@bolt("b9.1")
def test_a_feature_is_written_only_where_it_belongs() -> None:
    everything = Features.of(*FEATURES)
    assert not in_context(everything, "I").has("option_payment_metadata")
    assert in_context(everything, "9").has("option_payment_metadata")
    assert in_context(everything, "T").names() == (
        "option_static_remotekey",
        "option_anchors",
        "option_scid_alias",
        "option_zeroconf",
    )


@bolt("open_channel.4")
def test_a_channel_type_is_even_bits_in_the_fewest_bytes() -> None:
    for row in FIGURES["channel_types"]:
        raw = channel_type_bits(row["names"])
        assert list(Features.from_bytes(raw)) == row["bits"]
        assert channel_type_names(raw) == frozenset(row["names"])


@bolt("open_channel.4")
@pytest.mark.parametrize("raw", ["001000", "2000", "04", "3000"], ids=["padded", "odd", "undefined", "both"])
def test_what_cannot_be_a_channel_type(raw: str) -> None:
    assert channel_type_names(bytes.fromhex(raw)) is None
