"""The options of `rill node`: where they come from, which is stronger, and what a mistake is told."""

from pathlib import Path

import pytest

from node.cli.node_config import config_of
from node.cli.node_options import TABLE, directory_of, network_of, read_settings
from node.cli.options import BadOption, Settings
from tests.node.processes import Program

# what pyln-testing and lnprototest give lightningd
OF_TOOLS = (
    "--developer --log-level=trace --cltv-delta=6 --cltv-final=5 --watchtime-blocks=5 --rescan=1 "
    "--disable-dns --lightning-dir={dir} --addr=127.0.0.1:9801 --allow-deprecated-apis=false "
    "--network=regtest --ignore-fee-limits=false --bitcoin-rpcuser=rpcuser "
    "--bitcoin-rpcpassword=rpcpass --bitcoin-datadir={dir} --dev-fast-gossip --dev-bitcoind-poll=1 "
    "--log-file=- --log-file={dir}/log --log-prefix=lightningd-1 --dev-fail-on-subdaemon-fail "
    "--dev-no-reconnect --autoconnect-seeker-peers=0 --dev-save-plugin-io={dir} --wallet=sqlite3://x "
    "--grpc-port=9736 --disable-plugin=cln-grpc --bitcoin-rpcport=18443 --funding-confirms=3 "
    "--dev-no-htlc-timeout --dev-allow-localhost --htlc-maximum-msat=2000sat "
    "--dev-force-privkey={one} --dev-force-bip32-seed={one} "
    "--dev-force-channel-secrets={one}/{one}/{one}/{one}/{one}/{one} "
)
SECRET = "00" * 31 + "01"


def settings(directory: Path, *arguments: str) -> Settings:
    return read_settings([f"--lightning-dir={directory}", *arguments])


def test_the_command_line_beats_the_networks_file_which_beats_the_common_one(tmp_path: Path) -> None:
    (tmp_path / "signet").mkdir()
    (tmp_path / "config").write_text(
        "# a comment\n\nnetwork=signet\nalias=common\nfee-base=1\ncltv-delta=9\nlarge-channels\n"
        "include more\naddr=1.2.3.4:5\n"
    )
    (tmp_path / "more").write_text("log-level=debug:peer\n")
    (tmp_path / "signet" / "config").write_text("alias=own\nfee-base=2\naddr=5.6.7.8\n")
    said = settings(tmp_path, "--fee-base", "3")
    assert (directory_of(said), network_of(said)) == (tmp_path, "signet")
    assert [said.find(name) for name in ("alias", "fee-base", "cltv-delta")] == ["own", 3, 9]
    assert said.all("addr") == ["1.2.3.4:5", "5.6.7.8"]
    assert said.all("log-level") == [("debug", "peer")]
    assert said.views()["alias"] == {"value_str": "own", "source": f"{tmp_path}/signet/config:1"}
    assert said.views()["fee-base"] == {"value_int": 3, "source": "cmdline"}
    assert said.views()["large-channels"] == {"set": True, "source": f"{tmp_path}/config:7"}
    assert said.views()["addr"] == {
        "values_str": ["1.2.3.4:5", "5.6.7.8"],
        "sources": [f"{tmp_path}/config:9", f"{tmp_path}/signet/config:3"],
    }


def test_peers_are_trusted_by_name(tmp_path: Path) -> None:
    ids = ["02" + "79" * 32, "03" + "5f" * 32]
    said = settings(tmp_path, *[f"--zeroconf-peer={node_id}" for node_id in ids])
    assert config_of(said, tmp_path).zeroconf_peers == set(map(bytes.fromhex, ids))
    assert said.views()["zeroconf-peer"]["values_str"] == ids
    assert not config_of(settings(tmp_path), tmp_path).zeroconf_peers


def test_one_file_takes_the_place_of_both(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("alias=common\n")
    (tmp_path / "other").write_text("rgb=010203\n")
    said = settings(tmp_path, f"--conf={tmp_path / 'other'}")
    assert (said.find("alias"), said.find("rgb")) == (None, b"\x01\x02\x03")


def test_what_tools_give_lightningd_is_taken(tmp_path: Path) -> None:
    arguments = OF_TOOLS.format(dir=tmp_path, one=SECRET).split()
    said = read_settings(arguments)
    config = config_of(said, tmp_path)
    assert (config.host, config.port, config.announced) == ("127.0.0.1", 9801, ("127.0.0.1:9801",))
    assert (config.toll.cltv_expiry_delta, config.toll.htlc_maximum_msat) == (6, 2_000_000)
    assert (config.minimum_depth_blocks, config.final_delta_blocks) == (3, 5)
    assert (config.gossip_flush_seconds, config.is_reconnecting) == (0.0, False)
    assert config.forced_keys.node_secret == config.forced_keys.wallet_seed == bytes.fromhex(SECRET)
    assert said.views()["bitcoin-rpcpassword"]["value_str"] == "..."


def test_what_only_this_machine_can_use_is_not_announced(tmp_path: Path) -> None:
    said = settings(tmp_path, "--addr=127.0.0.1:1", "--addr=0.0.0.0:2", "--announce-addr=9.9.9.9:3")
    config = config_of(said, tmp_path)
    assert config.announced == ("9.9.9.9:3",)
    assert (config.host, config.port, config.more_hosts) == ("127.0.0.1", 1, (("0.0.0.0", 2),))
    assert config_of(settings(tmp_path, "--bind-addr=8.8.8.8"), tmp_path).announced == ()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--fee-bas=1"], "--fee-bas is no option of this command; the nearest is --fee-base"),
        (["--bitcoin-rpcusr=a"], "nearest is --bitcoin-rpcuser"),
        (["--fee-base=x"], "--fee-base is 'x', not a number"),
        (["--fee-base"], "--fee-base needs a value"),
        (["--large-channels=1"], "--large-channels takes no value"),
        (["--always-use-proxy=maybe"], "not 'true' or 'false'"),
        (["--always-use-proxy=true"], "needs --proxy"),
        (["--network=mainnet"], "not one of bitcoin, testnet"),
        (["--rgb=12"], "--rgb is '12', not six hex digits"),
        (["--dev-fast-gossip"], "add --developer"),
        (["--developer", "--dev-force-channel-secrets=00/11"], "not six times 64 hex digits"),
        (["--bitcoin-rpcuser=u"], "go together"),
        (["--watchtower=x"], "not ID@HOST:PORT"),
        (["--zeroconf-peer=02ab"], "not the 66 hex digits of a node's id"),
        (["--fee-base=4294967296"], "not a number from 0 to 4294967295"),
        (["--cltv-delta=0"], "not a number from 1 to 2016"),
        (["--bind-addr=127.0.0.1:65536"], "with a port up to 65535"),
        (["--developer", "--dev-bitcoind-poll=-1"], "not a number of seconds"),
        (["--conf=/nowhere/at/all"], "cannot be read: no such file"),
        (["alice"], "'alice' is no option"),
    ],
)
def test_a_mistake_is_told(tmp_path: Path, arguments: list[str], told: str) -> None:
    with pytest.raises(BadOption, match=None) as bad:
        settings(tmp_path, *arguments)
    assert told in str(bad.value)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("fee-bse=1", "config:2: fee-bse is no option of this command; the nearest is --fee-base"),
        ("lightning-dir=/tmp", "config:2: lightning-dir belongs on the command line"),
        ("include config", "files include one another without end"),
    ],
)
def test_a_mistake_in_a_file_is_told_with_its_line(tmp_path: Path, line: str, told: str) -> None:
    (tmp_path / "config").write_text(f"alias=x\n{line}\n")
    with pytest.raises(BadOption) as bad:
        settings(tmp_path)
    assert told in str(bad.value)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--alias=" + "x" * 33],
        ["--max-concurrent-htlcs=484"],
        ["--announce-addr=a b"],
        ["--developer", "--dev-force-privkey=" + "00" * 32],
    ],
)
def test_what_no_node_can_be_is_told(tmp_path: Path, arguments: list[str]) -> None:
    with pytest.raises(BadOption):
        config_of(settings(tmp_path, *arguments), tmp_path)


def test_every_option_has_a_name_of_its_own_and_says_what_it_is() -> None:
    for option in TABLE.by_name.values():
        assert option.is_ignored or option.help.endswith(".")
        is_for_developers = option.name.startswith("dev-") and not option.is_ignored
        assert option.is_for_developers is is_for_developers


def said_by(*arguments: str) -> str:
    program = Program("node", *arguments)
    assert program.code() == 0
    return "".join(program.said)


def test_help_version_and_features_end_at_once() -> None:
    shown = said_by("--help")
    assert all(f"--{name}" in shown for name in TABLE.by_name)
    assert said_by("--version").startswith("v")
    whole = Program("--version")
    assert whole.code() == 0
    assert "".join(whole.said) == said_by("--version")
    features = said_by("--list-features-only").splitlines()
    assert {"option_data_loss_protect/even", "option_anchors/odd"} <= set(features)
