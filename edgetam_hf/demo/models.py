"""The model of a server: one for pictures and one for videos, of the same checkpoint."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgetam_runtime import is_exported, read_folder

from .. import EdgeTamMaskGenerationPipeline, EdgeTamModel, EdgeTamProcessor, EdgeTamVideoProcessor
from ..loading import ModelChoice, checkpoint_of, is_image_checkpoint, load_video_model, load_with_processor
from ..protocols import PictureModel, VideoModel


@dataclass(frozen=True)
class Models:
    """What computes; only one thread may use it.

    picture: finds objects in pictures; video: tracks them, None where the checkpoint has no memory; processor: of
    both, an `EdgeTamVideoProcessor` unless `video` is None; generator: finds everything in a picture; description: for
    people.
    """

    picture: PictureModel
    video: VideoModel | None
    processor: Any
    generator: EdgeTamMaskGenerationPipeline
    description: str

    @classmethod
    def load(cls, choice: ModelChoice) -> "Models":
        """The models of a choice; see `load_with_processor` for errors."""
        name = checkpoint_of(choice.name)
        is_graph = is_exported(name)
        has_memory = read_folder(name).tracking is not None if is_graph else not is_image_checkpoint(name)
        processor_class = EdgeTamVideoProcessor if has_memory else EdgeTamProcessor
        picture, processor = load_with_processor(EdgeTamModel, processor_class, choice)
        video = None
        if has_memory:  # graphs serve for both
            video = picture if is_graph else load_video_model(choice)[0]
        generator = EdgeTamMaskGenerationPipeline(model=picture, image_processor=processor.image_processor)
        shown = "embedded checkpoint" if choice.name == "nano" else Path(choice.name).name
        return cls(picture, video, processor, generator, f"{shown} on {choice.device}")
