"""The number of this release: all processes tell it, and the package's metadata has it from here.

A constant, because asking `importlib.metadata` costs each node 3 MiB.
"""

VERSION = "0.2.0"
