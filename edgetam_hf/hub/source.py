"""The checkpoint that a Hub repository is made of."""

import json
from pathlib import Path

import torch
from huggingface_hub.utils import HFValidationError, validate_repo_id
from PIL import Image

from .. import EdgeTamModel, nano_checkpoint
from ..commands.picture_files import SAMPLE_PICTURE
from ..conversion import ORIGINAL_SUFFIXES, PROVENANCE, convert
from ..loading import CLASSES, load_quietly
from .clean_process import image_outputs, video_outputs


def read_source(source: str | Path, is_nano: bool, folder: str | Path) -> str:
    """Kind of a checkpoint that is read, every tensor of it, and written to a new folder with its provenance.

    Raises:
        ValueError: for anything that is no checkpoint of EdgeTAM, whole and of the right shapes.
        OSError: if it cannot be read.
    """
    if is_nano:
        source = nano_checkpoint()
    check_source(source)
    kind = convert(source, folder)["kind"]
    return "nano" if is_nano else kind


def check_source(source: str | Path) -> None:
    """Raises a ValueError unless it is an original checkpoint, a folder, or possibly the id of a repository."""
    if Path(source).is_dir() or Path(source).suffix in ORIGINAL_SUFFIXES:
        return
    try:
        validate_repo_id(str(source))
    except HFValidationError as error:
        raise ValueError(
            f"SOURCE must be a .pt file, a folder or the id of a repository on the Hub, got {source!r}"
        ) from error


class Source:
    """A checkpoint in memory: its model with weights as they are to be stored, but in float32, and its processor.

    `folder` is what `read_source` wrote.
    """

    def __init__(self, folder: str | Path, kind: str, dtype: str):
        self.kind, self.dtype = kind, dtype
        self.provenance = json.loads((Path(folder) / f"{PROVENANCE}.json").read_text())
        self.has_memory = kind != "image"
        classes = CLASSES["video" if self.has_memory else "image"]
        self.model = load_quietly(classes.model, folder, dtype=torch.float32).to(getattr(torch, dtype)).float().eval()
        self.processor = load_quietly(classes.processor, folder)

    def outputs(self) -> dict[str, torch.Tensor]:
        """Outputs on the sample picture, as the clean process computes them from the folder."""
        with Image.open(SAMPLE_PICTURE) as image:
            outputs = image_outputs(self.image_model(), self.processor, image)
            return {**outputs, **video_outputs(self.model, self.processor, image)} if self.has_memory else outputs

    def image_model(self) -> EdgeTamModel:
        """The model, or the image part of a video model."""
        if not self.has_memory:
            return self.model
        model = EdgeTamModel(EdgeTamModel.config_class.image_part(self.model.config)).eval()
        wanted = model.state_dict().keys()
        model.load_state_dict({name: tensor for name, tensor in self.model.state_dict().items() if name in wanted})
        return model
