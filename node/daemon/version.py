"""The versions that a node tells: of the interface that it speaks, and its own.

Tools that drive lightningd read from the first part what they may ask for.
"""

from importlib.metadata import version

INTERFACE = "v26.06"
VERSION = f"{INTERFACE}-rill-{version('rill-lightning')}"
