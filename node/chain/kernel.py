"""Bitcoin Core's consensus engine as a library, reduced to what the embedded chain needs.

The only module that touches `pbk`, whose classes are untyped; bytes go in and come out. The
serialised block or transaction is handed to the C constructor as it is: the wrapper's own
constructors unpack it byte by byte into arguments, a hundred times slower.

The kernel checks consensus and keeps the blocks on disk. It has no mempool, no relay policy and
no list of unspent outputs that could be asked; those are built next door.

Only the block files are trusted across a restart. The kernel writes its index and its coins only
when it is closed properly, so after a crash they would miss every block since the start, while
the nodes on this chain remember them. Both are therefore kept in memory and built again from the
block files at each start, 0.1 ms for a block.
"""

import fcntl
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import pbk
import pbk.capi.bindings as capi
from pbk.script import PrecomputedTransactionData

from node.chain.interface import ChainDirectoryInUse
from wire.bitcoin.tx import Transaction, TxOut, txid_hex

pbk.disable_log_category(pbk.LogCategory.ALL)

_FLAGS = pbk.ScriptVerificationFlags.ALL


class ChainClosed(Exception):
    """The chain was asked for something after it had been closed."""

    def __init__(self) -> None:
        super().__init__("the chain is closed")


class InvalidBlock(Exception):
    """The kernel refused a block."""

    def __init__(self, block_hash: bytes) -> None:
        super().__init__(f"block {txid_hex(block_hash)} is invalid")
        self.block_hash = block_hash


class Kernel:
    """One chain on one directory, until it is closed."""

    def __init__(self, directory: Path) -> None:
        """Open or create the chain in a directory that exists.

        Raises:
            ChainDirectoryInUse: another chain works on it.
        """
        lock = _locked(directory)
        context = pbk.make_context(pbk.ChainType.REGTEST)
        options = pbk.ChainstateManagerOptions(context, str(directory), str(directory / "blocks"))
        options.set_worker_threads_num(0)
        options.set_wipe_dbs(wipe_block_tree_db=True, wipe_chainstate_db=True)
        options.update_block_tree_db_in_memory(True)
        options.update_chainstate_db_in_memory(True)
        self._opened: Any = pbk.ChainstateManager(options)
        self._opened.import_blocks([])
        self._release = weakref.finalize(self, _destroy, self._opened, lock)

    def close(self) -> None:
        """Release the directory. Closing twice is no error."""
        self._opened = None
        self._release()

    @property
    def _chainstate(self) -> Any:
        # a C call on a destroyed handle would end the process
        if self._opened is None:
            raise ChainClosed
        return self._opened

    @property
    def _active(self) -> Any:
        return self._chainstate.get_active_chain()

    @property
    def height(self) -> int:
        return int(self._active.height)

    def block_hash(self, height: int) -> bytes:
        """The hash of the block of the best chain at this height, which must exist."""
        return bytes(self._active.block_tree_entries[height].block_hash)

    def find(self, block_hash: bytes) -> tuple[int, bytes] | None:
        """Height and previous hash of a block on any branch. The first block follows zeros."""
        try:
            entry = self._chainstate.block_tree_entries[pbk.BlockHash(block_hash)]
        except KeyError:
            return None
        previous = bytes(entry.previous.block_hash) if entry.height else bytes(32)
        return int(entry.height), previous

    def read_block(self, block_hash: bytes) -> bytes:
        """The serialised block, which must be known, on whichever branch."""
        entry = self._chainstate.block_tree_entries[pbk.BlockHash(block_hash)]
        return bytes(self._chainstate.blocks[entry])

    def submit(self, raw: bytes, block_hash: bytes) -> None:
        """Validate a block and keep it. It becomes the tip if its branch has the most work.

        Raises:
            InvalidBlock: it breaks consensus, or its parent is unknown.
        """
        handle = capi.btck_block_create(raw, len(raw))
        if not handle:
            raise InvalidBlock(block_hash)
        try:
            self._chainstate.process_block(pbk.Block._from_handle(handle))
        except pbk.ProcessBlockException as refused:
            raise InvalidBlock(block_hash) from refused


def _locked(directory: Path) -> IO[bytes]:
    lock = (directory / "lock").open("wb")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise ChainDirectoryInUse(directory) from None
    return lock


def _destroy(chainstate: Any, lock: IO[bytes]) -> None:
    chainstate.__del__()
    lock.close()


def first_unsigned_input(transaction: Transaction, spent: Sequence[TxOut]) -> int | None:
    """The first input whose script does not allow the spending, by consensus; None if all do.

    `spent` are the outputs that the inputs spend, in their order.
    """
    raw = transaction.serialize()
    kernel_tx: Any = pbk.Transaction._from_handle(capi.btck_transaction_create(raw, len(raw)))
    scripts = [_script(output.script) for output in spent]
    outputs = [
        pbk.TransactionOutput(script, output.value_sat) for script, output in zip(scripts, spent, strict=True)
    ]
    precomputed = PrecomputedTransactionData(kernel_tx, outputs)
    for index, (script, output) in enumerate(zip(scripts, spent, strict=True)):
        if not script.verify(output.value_sat, kernel_tx, precomputed, index, _FLAGS):
            return index
    return None


def _script(script: bytes) -> Any:
    return pbk.ScriptPubkey._from_handle(capi.btck_script_pubkey_create(script, len(script)))
