"""A Hub cache with what native EdgeTAM looks up: benchmarks and tests need no network."""

import json
from pathlib import Path

BACKBONE = {"architecture": "repvit_m1", "num_classes": 1000, "pretrained_cfg": {}}


def write_offline_hub_cache(folder: str) -> str:
    """The folder, in which the configuration of native EdgeTAM's backbone now lies as the Hub client would put it."""
    repository = Path(folder) / "models--timm--repvit_m1.dist_in1k"
    for name, text in {"refs/main": "0", "snapshots/0/config.json": json.dumps(BACKBONE)}.items():
        path = repository / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder
