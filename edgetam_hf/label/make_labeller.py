"""The labeller of some settings; it can be pickled, and loads its model when it first labels."""

from ..loading import ModelChoice
from .checkpoint_hash import checkpoint_hash
from .everything_labeller import EverythingLabeller
from .label_settings import EVERYTHING, LabelSettings
from .labeller import Labeller, Provenance
from .lazy_model import LazyModel
from .mixed_labeller import MixedLabeller


def make_labeller(settings: LabelSettings, choice: ModelChoice, batch_size: int = 8) -> Labeller:
    """The `Labeller` of pictures and clips.

    Args:
        settings: what is looked for.
        choice: the model, and how it computes. With prompts it needs a memory only where there are clips.
        batch_size: pictures that are encoded together.

    Raises:
        OSError, ValueError: see `loading`, for a checkpoint that is not there or damaged.
        ValueError, TypeError: for options of mask generation that there are not, or values that they cannot have.
    """
    model = LazyModel(choice)
    settings = settings.completed(model.image_processor.mask_generation)
    provenance = Provenance(checkpoint_hash(choice.name), settings.to_json(choice))
    labeller_class = EverythingLabeller if settings.what == EVERYTHING else MixedLabeller
    return labeller_class(settings, model, provenance, batch_size)
