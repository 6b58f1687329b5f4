"""How checkpoints of this package were made; run from a checkout, and no part of what is installed."""
