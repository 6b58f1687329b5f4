"""EdgeTAM on pictures (arXiv 2501.07256): masks of prompted objects, and how the model learns from true ones.

Shapes: B pictures, O objects per picture, T tokens, C channels, (H, W) the model input in pixels, (h, w) =
(H / 16, W / 16) the image embedding. Maps are (B, C, height, width). Points are (x, y) in pixels of the model input.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers.utils import ModelOutput

from .base_edgetam import EdgeTamBaseModel
from .checks_edgetam import check_device
from .configuration_edgetam import EdgeTamConfig
from .pretrained_edgetam import ALWAYS_GIVEN
from .prompts_edgetam import Prompts
from .training_edgetam import check_labels, learn_from_pictures, loss_of_prompts
from .vision_encoder_edgetam import EdgeTamVisionModel  # noqa: F401 (it is public under this name)

if TYPE_CHECKING:  # named here so that the remote-code loader and save_pretrained take these files along
    from .attention_edgetam import EdgeTamAttention  # noqa: F401
    from .device_edgetam import send  # noqa: F401
    from .folding_edgetam import FoldedModule  # noqa: F401
    from .image_processing_edgetam import EdgeTamImageProcessor  # noqa: F401
    from .layers_edgetam import EdgeTamFeedForward  # noqa: F401
    from .mask_decoder_edgetam import EdgeTamMaskDecoder  # noqa: F401
    from .mask_generation_edgetam import Crop  # noqa: F401
    from .masks_edgetam import read_objects  # noqa: F401
    from .pictures_edgetam import read_picture  # noqa: F401
    from .pieces_edgetam import num_at_once  # noqa: F401
    from .pipeline_edgetam import EdgeTamMaskGenerationPipeline  # noqa: F401
    from .position_edgetam import pixel_centres  # noqa: F401
    from .prompt_encoder_edgetam import EdgeTamPromptEncoder  # noqa: F401
    from .repvit_edgetam import RepVitBackbone  # noqa: F401
    from .settings_edgetam import height_width  # noqa: F401


@dataclass
class EdgeTamImageSegmentationOutput(ModelOutput):
    """Masks of prompted objects.

    Args:
        loss (`torch.Tensor`, *optional*, with `mask_labels`):
            The sum of `loss_dict`.
        loss_dict (`dict[str, torch.Tensor]`, *optional*, with `mask_labels`):
            Terms of the loss, each added up over the prompts, as SAM 2 does.
        iou_scores (`torch.Tensor` of shape `(batch_size, num_objects, num_masks)`):
            Predicted IoU of each mask with the object, in [0, 1].
        pred_masks (`torch.Tensor` of shape `(batch_size, num_objects, num_masks, H / 4, W / 4)`):
            Low-res mask logits; `processor.post_process_masks` brings them to the size of the picture.
        object_score_logits (`torch.Tensor` of shape `(batch_size, num_objects, 1)`):
            Logit of "the object is in the picture".
        image_embeddings (`tuple[torch.Tensor]`):
            Maps of stride 4, 8 and 16, to be passed again as `image_embeddings` with other prompts.
        vision_hidden_states (`tuple[torch.Tensor]`, *optional*, with `output_hidden_states=True`):
            Outputs of the backbone's stages, `(batch_size, height, width, channels)`.
        vision_attentions:
            Always `None`: the backbone is convolutional.
        mask_decoder_attentions (`tuple[torch.Tensor]`, *optional*, with `output_attentions=True`):
            Weights with which tokens attend to the image, one tensor for each two-way layer and one for the last
            attention, `(batch_size * num_objects, num_heads, num_tokens, H / 16 * W / 16)`.
    """

    loss: torch.Tensor | None = None
    loss_dict: dict[str, torch.Tensor] | None = None
    iou_scores: torch.Tensor = ALWAYS_GIVEN
    pred_masks: torch.Tensor = ALWAYS_GIVEN
    object_score_logits: torch.Tensor = ALWAYS_GIVEN
    image_embeddings: tuple[torch.Tensor, ...] = ALWAYS_GIVEN
    vision_hidden_states: tuple[torch.Tensor, ...] | None = None
    vision_attentions: tuple[torch.Tensor, ...] | None = None
    mask_decoder_attentions: tuple[torch.Tensor | None, ...] | None = None


class EdgeTamModel(EdgeTamBaseModel):
    """EdgeTAM on pictures: masks of objects that are prompted by clicks, boxes or masks.

    Loads image checkpoints and the image part of video checkpoints, of this project and of Transformers.
    """

    _keys_to_ignore_on_load_unexpected = [  # noqa: RUF012
        r"^memory_",
        r"^mask_downsample",
        r"^spatial_perceiver",
        r"^object_pointer_proj",
        r"^temporal_positional_encoding_projection_layer",
        r"^no_memory_positional_encoding",
        r"^no_object_pointer",
        r"^occlusion_spatial_embedding_parameter",
    ]

    def __init__(self, config: EdgeTamConfig):
        super().__init__(config)
        self.post_init()

    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        input_points: torch.Tensor | None = None,
        input_labels: torch.Tensor | None = None,
        input_boxes: torch.Tensor | None = None,
        input_masks: torch.Tensor | None = None,
        image_embeddings: list[torch.Tensor] | None = None,
        multimask_output: bool = True,
        attention_similarity: torch.Tensor | None = None,
        target_embedding: torch.Tensor | None = None,
        original_sizes: torch.Tensor | None = None,
        reshaped_input_sizes: torch.Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        mask_labels: torch.Tensor | None = None,
        prompt_seeds: torch.Tensor | None = None,
    ) -> EdgeTamImageSegmentationOutput | tuple:
        """Masks of every prompted object, as an `EdgeTamImageSegmentationOutput`; with `mask_labels` also the loss.

        Coordinates are (x, y) in pixels of the model input, where the processor puts them; they may lie outside.

        Args:
            pixel_values (`torch.Tensor` of shape `(batch_size, 3, H, W)`):
                Pictures from the processor. Exactly one of `pixel_values` and `image_embeddings` is needed.
            input_points (`torch.Tensor` of shape `(batch_size, num_objects, num_points, 2)`, *optional*):
                Clicks.
            input_labels (`torch.Tensor` of shape `(batch_size, num_objects, num_points)`, *optional*):
                1 on the object (the default), 0 off the object, 2 and 3 top-left and bottom-right corner of a box, -1
                no position, -10 padding: such a point has no influence at all. Others are refused on the CPU; on a GPU,
                which would have to be waited for, those above 3 count as 3, and those below -1 as 0.
            input_boxes (`torch.Tensor` of shape `(batch_size, num_objects, 4)`, *optional*):
                x_min, y_min, x_max, y_max of a box around each object; (-10, -10, -10, -10) stands for no box. May
                be combined with points.
            input_masks (`torch.Tensor` of shape `(batch_size, num_objects, height, width)`, *optional*):
                Mask logits, such as the `pred_masks` of an earlier call; resized to (H / 4, W / 4). One mask per
                picture, also as `(batch_size, height, width)`, is used for all its objects.
            image_embeddings (`list[torch.Tensor]`, *optional*):
                What `get_image_embeddings` or an earlier call returned, instead of `pixel_values`.
            multimask_output (`bool`, *optional*, defaults to `True`):
                Three masks per object, for ambiguous prompts, or one.
            attention_similarity (`torch.Tensor`, *optional*):
                Added to the logits of the attention of tokens to the image, broadcastable to `(batch_size *
                num_objects, num_heads, num_tokens, H / 16 * W / 16)` (PerSAM, arXiv 2305.03048).
            target_embedding (`torch.Tensor`, *optional*):
                Added to the tokens, broadcastable to `(batch_size, num_objects, num_tokens, channels)` (PerSAM).
            original_sizes, reshaped_input_sizes (`torch.Tensor`, *optional*):
                Not used; they let `model(**inputs)` take whatever the processor returned.
            output_attentions, output_hidden_states, return_dict (`bool`, *optional*):
                As everywhere in Transformers; the defaults stand in the configuration.
            mask_labels (`torch.Tensor` of shape `(batch_size, num_objects, H, W)`, *optional*):
                True masks to learn from: 1 on the object, 0 elsewhere, -1 everywhere for an object that only fills up
                the batch. Without any prompt, users are simulated as `prompt_simulation` says, an attribute of the
                model, and the output is that after the last correction. The Trainer takes whatever has "label" in its
                name for labels, and `input_labels` may be missing: evaluate with
                `TrainingArguments(label_names=["mask_labels"])`, or there is no `eval_loss`.
            prompt_seeds (`torch.Tensor` of shape `(batch_size,)`, *optional*):
                Integers that decide how users are simulated for each picture; by default PyTorch's global generator
                does.

        Raises:
            ValueError: for inputs whose kind, shape, dtype or device is wrong, or that do not fit each other.
        """
        embeddings, hidden_states = self._read_pictures(pixel_values, image_embeddings)
        batch_size, device = embeddings[-1].shape[0], embeddings[-1].device
        given = Prompts(points=input_points, labels=input_labels, boxes=input_boxes, masks=input_masks)
        prompts = self.read_prompts(given, batch_size, device)
        output_attentions = self.config.output_attentions if output_attentions is None else output_attentions
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        if mask_labels is not None:
            seeds = check_labels(mask_labels, prompt_seeds, (batch_size,), self.prompt_encoder.image_size)
            check_device("mask_labels", mask_labels, device, self)
        loss = loss_dict = None
        if mask_labels is not None and prompts.is_empty:
            prediction, loss, loss_dict = learn_from_pictures(self, embeddings, mask_labels, seeds)
        else:
            prediction = self.decode_prompts(
                embeddings, prompts, attention_similarity, target_embedding, output_attentions
            )
            if mask_labels is not None:
                loss, loss_dict = loss_of_prompts(self, prediction, mask_labels, multimask_output)
        if multimask_output:
            masks, iou_scores = prediction.masks[:, :, 1:], prediction.iou_scores[:, :, 1:]
        else:
            is_multimask = torch.zeros_like(prediction.object_score_logits[:, :, 0], dtype=torch.bool)
            chosen = self.mask_decoder.choose_masks(prediction, is_multimask)
            masks, iou_scores = chosen.masks[:, :, None], chosen.iou_scores[:, :, None]
        output = EdgeTamImageSegmentationOutput(
            loss=loss,
            loss_dict=loss_dict,
            iou_scores=iou_scores,
            pred_masks=masks,
            object_score_logits=prediction.object_score_logits,
            image_embeddings=tuple(embeddings),
            vision_hidden_states=hidden_states if output_hidden_states else None,
            mask_decoder_attentions=prediction.attentions if output_attentions else None,
        )
        return self.as_requested(output, return_dict)

    def _read_pictures(self, pixel_values: Any, image_embeddings: Any) -> tuple[Sequence[torch.Tensor], Any]:
        """Image embeddings, and the outputs of the backbone's stages if they were computed here.

        Raises:
            ValueError: for pictures and image embeddings of a wrong kind, and unless one of the two is given.
        """
        if (pixel_values is None) == (image_embeddings is None):
            given = "neither" if pixel_values is None else "both"
            raise ValueError(f"exactly one of pixel_values and image_embeddings must be given, got {given}")
        if pixel_values is not None:
            encoded = self._encode_image(pixel_values)
            return encoded.fpn_hidden_states, encoded.hidden_states
        self._check_image_embeddings(image_embeddings)
        return image_embeddings, None
