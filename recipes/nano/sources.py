"""The kinds of training data of this recipe, for `edgetam train`: `modules: [recipes.nano.sources]`."""

from edgetam_hf.training.sources import register_source

from .crops import CompositePictures
from .moving import MovingComposites

register_source("composites")(CompositePictures)
register_source("synthetic")(MovingComposites)
