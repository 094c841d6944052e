"""arlon: long videos from text, an open implementation of ARLON (ICLR 2025)."""

__version__ = "0.1.0"
