"""The labeller of some settings; it can be pickled, and loads its model when it first labels."""

from ..loading import ModelChoice
from .checkpoint_hash import checkpoint_hash
from .clip_labeller import ClipLabeller
from .everything_labeller import EverythingLabeller
from .items import CLIP, PICTURE
from .label_settings import EVERYTHING, LabelSettings
from .labeller import Labeller, Provenance
from .lazy_model import LazyModel
from .mixed_labeller import MixedLabeller
from .picture_labeller import PictureLabeller


def make_labeller(settings: LabelSettings, choice: ModelChoice, batch_size: int = 8) -> Labeller:
    """The `Labeller` of pictures and clips.

    Args:
        settings: what is looked for.
        choice: the model, and how it computes. It needs a memory only where there are clips.
        batch_size: pictures that are encoded together.

    Raises:
        OSError, ValueError: see `loading`, for a checkpoint that is not there or damaged.
        ValueError, TypeError: for options of mask generation that there are not, or values that they cannot have.
    """
    model = LazyModel(choice)
    settings = settings.completed(model.image_processor.mask_generation)
    provenance = Provenance(checkpoint_hash(choice.name), settings.to_json(choice))
    of_pictures = EverythingLabeller if settings.what == EVERYTHING else PictureLabeller
    labellers: dict[str, Labeller] = {
        PICTURE: of_pictures(settings, model, provenance, batch_size),
        CLIP: ClipLabeller(settings, model, provenance, batch_size),
    }
    return MixedLabeller(labellers, provenance, batch_size)
