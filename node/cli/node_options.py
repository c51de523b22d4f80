"""The options of `rill node`. What lightningd has, too, has its name here."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from node.cli.options import (
    AMOUNT,
    COLOR,
    FILE,
    FLAG,
    NUMBER,
    PLACE,
    PORT,
    SECONDS,
    SECRET,
    TEXT,
    TRUTH,
    BadOption,
    Kind,
    Option,
    Said,
    Settings,
    Table,
    between,
    one_of,
)
from node.cli.places import DEFAULT_BITCOIN_DIRECTORY, DEFAULT_DIRECTORY, LOG_LEVELS, NETWORKS

DEFAULT_NETWORK = "regtest"
CONFIG_FILE = "config"
NODE_ID_PATTERN = re.compile(r"0[23][0-9a-fA-F]{64}")
TOWER_PATTERN = re.compile(r"(0[23][0-9a-fA-F]{64})@(.+):([0-9]{1,5})")
_NETWORK_FLAGS = {"mainnet": "bitcoin", "testnet": "testnet", "signet": "signet", "regtest": "regtest"}
_ONLY_ON_COMMAND_LINE = ("conf", "lightning-dir", "help", "version", "list-features-only")


class TowerOption(NamedTuple):
    """A watchtower that shall watch for the node."""

    node_id: bytes
    host: str
    port: int


def _tower(text: str) -> TowerOption:
    found = TOWER_PATTERN.fullmatch(text)
    if found is None:
        raise ValueError
    return TowerOption(bytes.fromhex(found[1]), found[2].strip("[]"), int(found[3]))


def _node_id(text: str) -> bytes:
    if NODE_ID_PATTERN.fullmatch(text) is None:
        raise ValueError
    return bytes.fromhex(text)


def _level(text: str) -> tuple[str, str]:
    level, _, subsystem = text.lower().partition(":")
    if level not in LOG_LEVELS:
        raise ValueError
    return level, subsystem


def _secrets(text: str) -> tuple[bytes, ...]:
    parts = tuple([bytes.fromhex(part) for part in text.split("/")])
    if [len(part) for part in parts] != [32] * 6:
        raise ValueError
    return parts


BLOCKS = Kind("a number", int, "value_int")
# what a channel_update, and an HTLC that is not locked for weeks, have room for
U32 = between(0, (1 << 32) - 1)
BLOCKS_AHEAD = between(1, 2016)
DEPTH = between(0, 1000)
SATOSHIS = between(0, 21 * 10**14)
TOWER = Kind("ID@HOST:PORT", _tower, "value_str")
NODE_ID = Kind("the 66 hex digits of a node's id", _node_id, "value_str")
LEVEL = Kind(f"one of {', '.join(LOG_LEVELS)}", _level, "value_str")
SECRETS = Kind("six times 64 hex digits with / between them", _secrets, "value_str")


def _dev(name: str, kind: Kind, help: str, metavar: str = "") -> Option:
    return Option(name, kind, help, metavar, is_for_developers=True)


def _ignored(name: str, kind: Kind, *, is_list: bool = False) -> Option:
    return Option(name, kind, "", is_ignored=True, is_repeated=True, is_shown_once=not is_list)


_CLEANED = {
    "succeededforwards": "payments that were passed on",
    "failedforwards": "those that could not be",
    "succeededpays": "payments that we made",
    "failedpays": "those that failed",
    "paidinvoices": "invoices that were paid",
    "expiredinvoices": "those that were not",
}

GROUPS: dict[str, tuple[Option, ...]] = {
    "Where and what": (
        Option("lightning-dir", FILE, f"Where the node lives. Without: {DEFAULT_DIRECTORY}.", "DIR"),
        Option(
            "conf", FILE, "Read this file, and not DIR/config and DIR/NETWORK/config: name=value.", "FILE"
        ),
        Option(
            "network",
            one_of(*NETWORKS),
            f"One of {', '.join(NETWORKS)}. Without: {DEFAULT_NETWORK}.",
            "NAME",
        ),
        *(Option(flag, FLAG, f"The same as --network={name}.") for flag, name in _NETWORK_FLAGS.items()),
        Option("alias", TEXT, "How others see it, up to 32 bytes. Without: from its key.", "NAME"),
        Option("rgb", COLOR, "Its color. Without: from its key.", "RRGGBB"),
        Option("rpc-file", FILE, "The socket of its commands. Without: lightning-rpc.", "FILE"),
        Option(
            "log-level",
            LEVEL,
            "How much to say, of one subsystem or of all.",
            "LEVEL[:SUBSYSTEM]",
            is_repeated=True,
            is_shown_once=True,
        ),
        Option("log-file", TEXT, "Where to log; - is stdout, which it is without.", "FILE", True),
        Option("pid-file", FILE, "Where to write its number. Without: lightningd-NETWORK.pid.", "FILE"),
        Option("version", FLAG, "Print the version, and end."),
        Option("list-features-only", FLAG, "Print the features that it offers to peers, and end."),
        Option("help", FLAG, "Print this, and end."),
    ),
    "The chain": (
        Option(
            "chain",
            one_of("bitcoind", "embedded"),
            "bitcoind, or embedded: a regtest chain of its own, served as bitcoind on --bitcoin-rpcport.",
            "KIND",
        ),
        Option("bitcoin-rpcconnect", PLACE, "Where bitcoind is. Without: 127.0.0.1.", "HOST[:PORT]"),
        Option("bitcoin-rpcport", PORT, "Its port. Without: its usual one.", "N"),
        Option("bitcoin-rpcuser", TEXT, "Without: the cookie's.", "NAME"),
        Option("bitcoin-rpcpassword", TEXT, "That user's password.", "WORD", is_hidden=True),
        Option(
            "bitcoin-datadir",
            FILE,
            f"Where bitcoind keeps its cookie. Without: {DEFAULT_BITCOIN_DIRECTORY}.",
            "DIR",
        ),
    ),
    "The network": (
        Option("addr", PLACE, "Listen there, and announce it if it is public.", "HOST[:PORT]", True),
        Option("bind-addr", PLACE, "Listen there, and do not announce it. Port 0: any.", "HOST[:PORT]", True),
        Option("announce-addr", PLACE, "Announce it, and do not listen there.", "HOST[:PORT]", True),
        Option("proxy", PLACE, "Reach .onion addresses over this SOCKS5 proxy.", "HOST[:PORT]"),
        Option("always-use-proxy", TRUTH, "Reach every address over it.", "BOOL"),
        Option("watchtower", TOWER, "Let it watch for us; see `rill watchtower`.", "ID@HOST:PORT", True),
    ),
    "Channels and payments": (
        Option("fee-base", U32, "What we ask for passing a payment on, in msat. Without: 1000.", "N"),
        Option("fee-per-satoshi", U32, "And in millionths of its amount. Without: 10.", "N"),
        Option("cltv-delta", BLOCKS_AHEAD, "And in blocks. Without: 34.", "N"),
        Option("cltv-final", BLOCKS_AHEAD, "How many blocks our invoices ask for. Without: 30.", "N"),
        Option("funding-confirms", DEPTH, "Blocks before a channel is used. Without: 1, on mainnet 3.", "N"),
        Option("max-concurrent-htlcs", NUMBER, "How many HTLCs a peer may offer, up to 483.", "N"),
        Option("htlc-minimum-msat", AMOUNT, "The least that an HTLC may carry. Without: 1.", "MSAT"),
        Option("htlc-maximum-msat", AMOUNT, "The most that we pass on in one. Without: all.", "MSAT"),
        Option("min-emergency-msat", AMOUNT, "Left of `all` for anchors. Without: 25000sat.", "MSAT"),
        Option("min-capacity-sat", SATOSHIS, "The smallest channel to accept. Without: 10000.", "N"),
        Option("zeroconf-peer", NODE_ID, "Use its channels before a block confirms them.", "ID", True),
        Option("payment-fronting-node", NODE_ID, "Offers lead over it, and do not name us.", "ID", True),
        Option("fetchinvoice-noconnect", FLAG, "Call nobody to ask him for an invoice."),
        Option("large-channels", FLAG, "Channels above 0.16 BTC, too. They always are possible."),
    ),
    "What is forgotten": (
        Option("autoclean-cycle", NUMBER, "How often to look for it, in seconds. Without: 3600.", "N"),
        *(
            Option(f"autoclean-{kind}-age", NUMBER, f"Forget {what} so many seconds after their end.", "N")
            for kind, what in _CLEANED.items()
        ),
    ),
    "The interface over HTTP": (
        Option("clnrest-port", PORT, "Serve POST /v1/METHOD and /metrics to who has a rune.", "N"),
        Option("clnrest-host", TEXT, "Serve it there. Without: 127.0.0.1.", "HOST"),
        Option("clnrest-protocol", one_of("https", "http"), "https or http. Without: https.", "NAME"),
        Option("clnrest-certs", FILE, "Where ca.pem and the others are, or are made.", "DIR"),
        Option("clnrest-cors-origins", TEXT, "Whose pages may ask. Without: all.", "ORIGIN", True),
        Option("clnrest-csp", TEXT, "The Content-Security-Policy to answer with.", "POLICY"),
    ),
    "For tests of the protocol, after --developer": (
        Option("developer", FLAG, "Allow the options below."),
        _dev("dev-force-privkey", SECRET, "The node's secret key.", "HEX"),
        _dev("dev-force-bip32-seed", SECRET, "The wallet's seed; its keys are m/0/0/i.", "HEX"),
        _dev(
            "dev-force-channel-secrets",
            SECRETS,
            "Every channel's: FUNDING/REVOCATION/PAYMENT/DELAYED/HTLC/SHASEED.",
            "HEX/…",
        ),
        _dev("dev-bitcoind-poll", SECONDS, "How often to look for a block.", "SECONDS"),
        _dev("dev-fast-gossip", FLAG, "Pass gossip on within a second."),
        _dev("dev-no-htlc-timeout", FLAG, "Wait for a peer's signature for ever. We always do."),
        _dev("dev-allow-localhost", FLAG, "Announce addresses of this machine, too."),
        _dev("dev-no-reconnect", FLAG, "Do not call peers again."),
        _dev("dev-disconnect", FILE, "Lines [-+=$0@<x]WIRE_NAME[*N]: break connections there.", "FILE"),
    ),
}

IGNORED = (
    _ignored("dev-fail-on-subdaemon-fail", FLAG),
    _ignored("dev-save-plugin-io", TEXT),
    _ignored("dev-no-plugin-checksum", FLAG),
    _ignored("dev-no-version-checks", FLAG),
    _ignored("dev-debug-self", FLAG),
    _ignored("rescan", BLOCKS),
    _ignored("disable-dns", FLAG),
    _ignored("allow-deprecated-apis", TRUTH),
    _ignored("log-prefix", TEXT),
    _ignored("log-timestamps", TRUTH),
    _ignored("watchtime-blocks", NUMBER),
    _ignored("database-upgrade", TRUTH),
    _ignored("invoices-onchain-fallback", FLAG),
    _ignored("experimental-dual-fund", FLAG),
    _ignored("funder-policy", TEXT),
    _ignored("funder-policy-mod", TEXT),
    _ignored("funder-min-their-funding", TEXT),
    _ignored("funder-per-channel-max", TEXT),
    _ignored("funder-fuzz-percent", NUMBER),
    _ignored("funder-lease-requests-only", TRUTH),
    _ignored("lease-fee-base-sat", TEXT),
    _ignored("lease-fee-basis", NUMBER),
    _ignored("ignore-fee-limits", TRUTH),
    _ignored("autoconnect-seeker-peers", NUMBER),
    _ignored("wallet", TEXT),
    _ignored("grpc-port", NUMBER),
    _ignored("grpc-host", TEXT),
    _ignored("clnrest-swagger-root", TEXT),
    _ignored("disable-plugin", TEXT, is_list=True),
    _ignored("clear-plugins", FLAG),
    _ignored("i-promise-to-fix-broken-api-user", TEXT),
)

TABLE = Table([*(option for group in GROUPS.values() for option in group), *IGNORED])


def read_settings(arguments: Sequence[str]) -> Settings:
    """What the command line says, and the files that it leads to.

    Raises:
        BadOption: it cannot be meant.
    """
    spoken = tuple(TABLE.read_command_line(_long(arguments)))
    said = Settings(spoken)
    settings = Settings([*_from_files(said), *spoken])
    if not settings.has("developer"):
        for each in settings.said:
            if each.option.is_for_developers:
                raise BadOption(f"--{each.option.name} is only for tests of the protocol: add --developer")
    if settings.has("bitcoin-rpcuser") != settings.has("bitcoin-rpcpassword"):
        raise BadOption("--bitcoin-rpcuser and --bitcoin-rpcpassword go together")
    if settings.get("always-use-proxy", False) and not settings.has("proxy"):
        raise BadOption("--always-use-proxy needs --proxy")
    return settings


def _long(arguments: Sequence[str]) -> list[str]:
    return [{"-h": "--help", "-V": "--version"}.get(argument, argument) for argument in arguments]


def _from_files(spoken: Settings) -> Iterator[Said]:
    """First the file for all networks, then the network's."""
    named = spoken.find("conf")
    if named is not None:
        yield from _checked(TABLE.read_file(named))
        return
    directory = directory_of(spoken)
    common = directory / CONFIG_FILE
    found = list(_checked(TABLE.read_file(common))) if common.is_file() else []
    yield from found
    own = directory / network_of(Settings([*found, *spoken.said])) / CONFIG_FILE
    if own.is_file():
        yield from _checked(TABLE.read_file(own))


def _checked(said: Iterator[Said]) -> Iterator[Said]:
    for each in said:
        if each.option.name in _ONLY_ON_COMMAND_LINE:
            raise BadOption(f"{each.source}: {each.option.name} belongs on the command line")
        yield each


def directory_of(settings: Settings) -> Path:
    """Where the node of this configuration lives."""
    directory: Path = settings.get("lightning-dir", DEFAULT_DIRECTORY.expanduser())
    return directory


def network_of(settings: Settings) -> str:
    """The network that is named last, whichever way."""
    for each in reversed(settings.said):
        if each.option.name == "network":
            network: str = each.value
            return network
        if each.option.name in _NETWORK_FLAGS:
            return _NETWORK_FLAGS[each.option.name]
    return DEFAULT_NETWORK
