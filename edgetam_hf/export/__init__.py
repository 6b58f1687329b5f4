"""EdgeTAM as graphs for other runtimes: what is exported, how it is written, and how it is shown to be the same."""
