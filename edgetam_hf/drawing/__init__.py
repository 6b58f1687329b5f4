"""Pictures for people."""

from .overlays import overlay

__all__ = ["overlay"]
