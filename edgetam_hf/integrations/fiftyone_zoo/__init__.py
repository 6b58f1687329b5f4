"""EdgeTAM in FiftyOne's model zoo: a remote source, of which FiftyOne copies this file and the manifest beside it.

FiftyOne asks here for the models that the manifest names. Weights stay in the cache of the Hub, which models for
pictures and for videos share; the file that FiftyOne keeps of a model has the id of the checkpoint.
"""

from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download

try:
    from edgetam_hf.integrations.fiftyone import EdgeTamFiftyOneImageModel, EdgeTamFiftyOneVideoModel
except ImportError as error:
    raise ImportError(f"this zoo source needs edgetam_hf: pip install edgetam-hf ({error})") from error

PUBLISHED, EMBEDDED = "yonigozlan/EdgeTAM-hf", "nano"


def download_model(model_name: str, model_path: str) -> None:
    """Downloads the checkpoint of a model unless it is in the package, and writes its id to `model_path`."""
    checkpoint = EMBEDDED if EMBEDDED in model_name else PUBLISHED
    if checkpoint == PUBLISHED:
        snapshot_download(checkpoint, allow_patterns=["*.json", "*.safetensors"])
    Path(model_path).write_text(checkpoint, encoding="utf-8")


def load_model(model_name: str, model_path: str, **settings: Any) -> Any:
    """The model for `dataset.apply_model`; `settings` are those of its class, such as `device`."""
    model_class = EdgeTamFiftyOneVideoModel if "video" in model_name else EdgeTamFiftyOneImageModel
    return model_class(Path(model_path).read_text(encoding="utf-8"), **settings)


def resolve_input(model_name: str, ctx: Any) -> Any:
    """The form in which the App asks for settings."""
    from fiftyone.operators import types

    form = types.Object()
    form.str("device", label="Device", description="cpu, cuda, …; by default a GPU if there is one")
    if "image" in model_name:
        text = "how densely everything is searched for where no prompt field is given"
        form.int("points_per_crop", label="Points along each side", description=text, min=1)
        text = "masks of everything whose predicted IoU is lower are dropped"
        form.float("pred_iou_thresh", label="Predicted IoU", description=text, min=0, max=1)
    return types.Property(form)


def parse_parameters(model_name: str, ctx: Any, params: dict[str, Any]) -> None:
    """Takes out what was left empty in the form."""
    for name in [name for name, value in params.items() if value is None]:
        del params[name]
