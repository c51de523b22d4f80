"""From the settings of `rill node` to the configuration of its node."""

from ipaddress import ip_address
from pathlib import Path
from typing import Any

from htlc.keys import ChannelSecrets
from htlc.opening import MOST_HTLCS
from htlc.relay import Toll
from node.cli.node_options import directory_of, network_of
from node.cli.options import BadOption, Settings
from node.cli.places import bind_address
from node.daemon.autoclean import USUAL_CYCLE_SECONDS, ages_in
from node.daemon.dialing import Proxy
from node.daemon.invoices import DEFAULT_FINAL_DELTA_BLOCKS
from node.daemon.node import NodeConfig
from node.daemon.reconnect import Address
from node.daemon.rpc import SOCKET_NAME
from node.daemon.rpc_peers import DEFAULT_PORTS
from node.daemon.signer import ForcedKeys
from wire import node_address
from wire.codec import DecodeError
from wire.crypto.secp256k1 import Point, is_secret
from wire.units import Msat, Sat

HOST = "127.0.0.1"
LONGEST_ALIAS_BYTES = 32
PROXY_PORT = 9050
MAINNET_CONFIRMS, TEST_CONFIRMS = 3, 1
GOSSIP_FLUSH_SECONDS = 60.0
EVERYWHERE = ("0.0.0.0", "::")
USUAL_TOLL = Toll()


def config_of(settings: Settings, directory: Path) -> NodeConfig:
    """The configuration that the settings describe.

    Raises:
        BadOption: one of them cannot be had.
    """
    network = network_of(settings)
    usual_confirms = MAINNET_CONFIRMS if network == "bitcoin" else TEST_CONFIRMS
    usual_port = DEFAULT_PORTS[network]
    first, *more = _hosts(settings, usual_port)
    is_fast = network == "regtest" or settings.has("dev-fast-gossip")
    most_htlcs = settings.get("max-concurrent-htlcs", MOST_HTLCS)
    if not 1 <= most_htlcs <= MOST_HTLCS:
        raise BadOption(f"--max-concurrent-htlcs is {most_htlcs}, not between 1 and {MOST_HTLCS}")
    return NodeConfig(
        directory,
        alias=_alias(settings),
        host=first[0],
        port=first[1],
        more_hosts=tuple(more),
        announced=tuple(_announced(settings, usual_port)),
        toll=_toll(settings),
        minimum_depth_blocks=settings.get("funding-confirms", usual_confirms),
        gossip_flush_seconds=0.0 if is_fast else GOSSIP_FLUSH_SECONDS,
        is_reconnecting=not settings.has("dev-no-reconnect"),
        zeroconf_peers=frozenset(map(Point, settings.all("zeroconf-peer"))),
        watchtowers=tuple([Address(*tower) for tower in settings.all("watchtower")]),
        rgb_color=settings.get("rgb", b""),
        emergency_sat=Sat(settings.get("min-emergency-msat", 25_000_000) // 1000),
        smallest_channel_sat=Sat(settings.get("min-capacity-sat", 10_000)),
        htlc_minimum_msat=Msat(settings.get("htlc-minimum-msat", 1)),
        max_accepted_htlcs=most_htlcs,
        final_delta_blocks=settings.get("cltv-final", DEFAULT_FINAL_DELTA_BLOCKS),
        cleaning_ages_seconds=ages_in(settings.find),
        cleaning_cycle_seconds=settings.get("autoclean-cycle", USUAL_CYCLE_SECONDS),
        proxy=_proxy(settings),
        fronting_nodes=tuple(map(Point, settings.all("payment-fronting-node"))),
        may_call_for_invoices=not settings.has("fetchinvoice-noconnect"),
        forced_keys=_forced_keys(settings),
        sabotage=settings.find("dev-disconnect"),
    )


def usual_views(config: NodeConfig, settings: Settings) -> dict[str, dict[str, Any]]:
    """What `listconfigs` shows of options that were not given, but have a value all the same."""
    toll, directory = config.toll, directory_of(settings)
    found: dict[str, dict[str, Any]] = {
        "lightning-dir": {"value_str": str(directory)},
        "network": {"value_str": network_of(settings)},
        "rpc-file": {"value_str": SOCKET_NAME},
        "pid-file": {"value_str": f"lightningd-{network_of(settings)}.pid"},
        "alias": {"value_str": config.alias},
        "rgb": {"value_str": config.rgb_color.hex()},
        "fee-base": {"value_int": toll.fee_base_msat},
        "fee-per-satoshi": {"value_int": toll.fee_proportional_millionths},
        "cltv-delta": {"value_int": toll.cltv_expiry_delta},
        "cltv-final": {"value_int": config.final_delta_blocks},
        "funding-confirms": {"value_int": config.minimum_depth_blocks},
        "max-concurrent-htlcs": {"value_int": config.max_accepted_htlcs},
        "htlc-minimum-msat": {"value_msat": config.htlc_minimum_msat},
        "min-emergency-msat": {"value_msat": 1000 * config.emergency_sat},
        "min-capacity-sat": {"value_int": config.smallest_channel_sat},
        "log-level": {"value_str": "info"},
        "large-channels": {"set": True},
    }
    known = {name: value for name, value in found.items() if value.get("value_str") != ""}
    return {name: {**value, "source": "default"} for name, value in known.items()}


def _alias(settings: Settings) -> str:
    alias: str = settings.get("alias", "")
    if len(alias.encode()) > LONGEST_ALIAS_BYTES:
        raise BadOption(f"--alias is longer than {LONGEST_ALIAS_BYTES} bytes")
    return alias


def _toll(settings: Settings) -> Toll:
    return Toll(
        fee_base_msat=Msat(settings.get("fee-base", USUAL_TOLL.fee_base_msat)),
        fee_proportional_millionths=settings.get("fee-per-satoshi", USUAL_TOLL.fee_proportional_millionths),
        cltv_expiry_delta=settings.get("cltv-delta", USUAL_TOLL.cltv_expiry_delta),
        htlc_minimum_msat=Msat(settings.get("htlc-minimum-msat", USUAL_TOLL.htlc_minimum_msat)),
        htlc_maximum_msat=Msat(settings.get("htlc-maximum-msat", USUAL_TOLL.htlc_maximum_msat)),
    )


def _hosts(settings: Settings, usual_port: int) -> list[tuple[str, int]]:
    """Where to listen: on the loopback, if nothing is said."""
    said = [each.text for each in settings.said if each.option.name in ("addr", "bind-addr")]
    return [bind_address(text, HOST, usual_port) for text in said] or [(HOST, usual_port)]


def _announced(settings: Settings, usual_port: int) -> list[str]:
    """What others are told of where we are: nothing that only this machine can use."""
    may_be_local = settings.has("dev-allow-localhost")
    bound = [bind_address(text, HOST, usual_port) for text in settings.all("addr")]
    found = [each for each in bound if each[0] not in EVERYWHERE and (may_be_local or not _is_local(each[0]))]
    found += [bind_address(text, HOST, usual_port) for text in settings.all("announce-addr")]
    return [_checked(host, port) for host, port in found]


def _is_local(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _checked(host: str, port: int) -> str:
    text = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        node_address.parse(text)
    except (ValueError, DecodeError):
        raise BadOption(f"{text} is no address that can be announced") from None
    return text


def _proxy(settings: Settings) -> Proxy | None:
    text = settings.find("proxy")
    if text is None:
        return None
    host, port = bind_address(text, HOST, PROXY_PORT)
    return Proxy(host, port, settings.get("always-use-proxy", False))


def _forced_keys(settings: Settings) -> ForcedKeys:
    secrets, node_secret = settings.find("dev-force-channel-secrets"), settings.find("dev-force-privkey")
    if node_secret is not None and not is_secret(node_secret):
        raise BadOption("--dev-force-privkey is no secret key of secp256k1")
    return ForcedKeys(
        node_secret=node_secret,
        wallet_seed=settings.find("dev-force-bip32-seed"),
        channel_secrets=None if secrets is None else ChannelSecrets(*secrets),
    )
