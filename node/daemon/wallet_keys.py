"""The wallet's keys: BIP 32 from a seed, at the places that BIP 84 and BIP 86 give them.

Each number of a branch has two scripts, one of segwit's first version and one of taproot. The
scripts of the next keys are watched before they are handed out, so that a wallet restored from
its seed finds its money again.
"""

import msgspec

from wire.bitcoin.extended_key import ExtendedKey, master_key
from wire.bitcoin.script import p2tr, p2wpkh
from wire.bitcoin.taproot import output_key
from wire.crypto import secp256k1
from wire.crypto.secp256k1 import Point, Secret

RECEIVE, CHANGE = 0, 1
LOOKAHEAD = 20

_BITCOIN_COIN_TYPE, _TEST_COIN_TYPE = 0, 1
_SEGWIT_PURPOSE, _TAPROOT_PURPOSE = 84, 86
_PUBLIC_VERSIONS = {True: bytes.fromhex("0488b21e"), False: bytes.fromhex("043587cf")}  # xpub and tpub


class KeyPath(msgspec.Struct, frozen=True, gc=False):
    """The last two steps of the derivation, and in which of the two accounts."""

    branch: int
    index: int
    is_taproot: bool = False


class WalletKeys:
    """The keys of the two accounts, and how many numbers of each branch are in use."""

    def __init__(self, seed: bytes, network: str, path: str | None = None) -> None:
        """Both accounts are at `path`, or each where its BIP puts it."""
        is_real = network == "bitcoin"
        coin_type = _BITCOIN_COIN_TYPE if is_real else _TEST_COIN_TYPE
        root = master_key(seed)
        # a start derives some dozens of keys of each
        self._branches: dict[tuple[bool, int], ExtendedKey] = {}
        self._shown: dict[bool, str] = {}
        for is_taproot, purpose in ((False, _SEGWIT_PURPOSE), (True, _TAPROOT_PURPOSE)):
            steps = path or f"m/{purpose}h/{coin_type}h/0h"
            account = root.derive(steps)
            origin = root.fingerprint.hex() + steps.removeprefix("m")
            public = account.public_text(_PUBLIC_VERSIONS[is_real])
            self._shown[is_taproot] = f"[{origin}]{public}"
            for branch in (RECEIVE, CHANGE):
                self._branches[is_taproot, branch] = account.child(branch)
        self._paths: dict[bytes, KeyPath] = {}
        self._scripts: list[list[tuple[bytes, bytes]]] = [[], []]
        self.next_index = [0, 0]
        for branch in (RECEIVE, CHANGE):
            self.use(branch, 0)

    def use(self, branch: int, next_index: int) -> None:
        """Count the keys of a branch below this index as handed out, and watch those after."""
        self.next_index[branch] = max(next_index, self.next_index[branch])
        scripts = self._scripts[branch]
        while len(scripts) < self.next_index[branch] + LOOKAHEAD:
            segwit, taproot = KeyPath(branch, len(scripts)), KeyPath(branch, len(scripts), is_taproot=True)
            pair = p2wpkh(self.pubkey(segwit)), p2tr(output_key(self.pubkey(taproot)))
            scripts.append(pair)
            self._paths |= zip(pair, (segwit, taproot), strict=True)

    def new_scripts(self, branch: int) -> tuple[bytes, bytes]:
        """The output scripts of a number that was never handed out: P2WPKH and P2TR."""
        index = self.next_index[branch]
        self.use(branch, index + 1)
        return self._scripts[branch][index]

    def given(self, branch: int) -> list[tuple[bytes, bytes]]:
        """The scripts of a branch that were handed out, by number: P2WPKH and P2TR."""
        return self._scripts[branch][: self.next_index[branch]]

    def descriptor(self, branch: int, *, is_taproot: bool) -> str:
        """What tells any wallet which scripts these are, and shows no secret (BIP 380)."""
        from embit.descriptor.checksum import add_checksum

        key = f"{self._shown[is_taproot]}/{branch}/*"
        shown: str = add_checksum(f"tr({key})" if is_taproot else f"wpkh({key})")
        return shown

    def path_of(self, script: bytes) -> KeyPath | None:
        """The key that an output script pays, if it is one of ours."""
        return self._paths.get(script)

    def secret(self, path: KeyPath) -> Secret:
        branch = self._branches[path.is_taproot, path.branch]
        return secp256k1.add_secrets(branch.secret, branch.tweak(path.index))

    def pubkey(self, path: KeyPath) -> Point:
        branch = self._branches[path.is_taproot, path.branch]
        return secp256k1.add_to_point(branch.point, branch.tweak(path.index))
