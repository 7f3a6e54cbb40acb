"""The visent command line, and what all packages share: errors, progress and the version."""

__version__ = "0.1.0"
