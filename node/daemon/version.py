"""The versions that a node tells: of the interface that it speaks, and its own.

Tools that drive lightningd read from the first part what they may ask for.
"""

INTERFACE = "v26.06"
OWN = "0.1.0"  # as in pyproject.toml; to ask for it at run time costs every node a megabyte
VERSION = f"{INTERFACE}-rill-{OWN}"
