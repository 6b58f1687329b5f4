"""EdgeTAM in other tools, a module for each, which needs that tool; nothing is imported unless it is named."""
