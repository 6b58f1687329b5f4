"""The 2.4 M-parameter EdgeTAM and what surrounds it during training."""

import torch
from edgetam_hf.configuration_edgetam import EdgeTamConfig
from edgetam_hf.layers_edgetam import EdgeTamLayerNorm2d
from edgetam_hf.modeling_edgetam import EdgeTamModel
from edgetam_hf.prompts_edgetam import Prompts
from torch import nn

WIDTHS, DEPTHS = (32, 64, 128, 256), (2, 2, 6, 2)
HIDDEN_SIZE = 128
EMBEDDING_SIZE = 16


def nano_config(image_size: int = 256) -> EdgeTamConfig:
    """The configuration of edgetam-nano."""
    backbone = {"architecture": "repvit_m1", "model_args": {"embed_dim": list(WIDTHS), "depth": list(DEPTHS)}}
    return EdgeTamConfig(
        vision_config={"backbone_config": backbone, "fpn_hidden_size": HIDDEN_SIZE},
        prompt_encoder_config={"hidden_size": HIDDEN_SIZE},
        mask_decoder_config={
            "hidden_size": HIDDEN_SIZE,
            "iou_head_hidden_dim": HIDDEN_SIZE,
            "mlp_dim": 4 * HIDDEN_SIZE,
            # a weak model's single mask counts as unstable nearly always
            "dynamic_multimask_via_stability": False,
        },
        image_size=image_size,
    )


def set_image_size(model: EdgeTamModel, size: int) -> None:
    """Makes the same weights work on pictures of another size."""
    encoder = model.prompt_encoder
    encoder.image_size = (size, size)
    encoder.image_embedding_size = (size // 16, size // 16)
    encoder.mask_input_size = (size // 4, size // 4)


class DenseHead(nn.Module):
    """Per-pixel embedding and boundary from image embeddings, by a path like the mask decoder's upscaling."""

    def __init__(self) -> None:
        super().__init__()
        size = HIDDEN_SIZE
        self.upscale_conv1 = nn.ConvTranspose2d(size, size // 4, kernel_size=2, stride=2)
        self.upscale_layer_norm = EdgeTamLayerNorm2d(size // 4, eps=1e-6)
        self.upscale_conv2 = nn.ConvTranspose2d(size // 4, size // 8, kernel_size=2, stride=2)
        self.output = nn.Conv2d(size // 8, EMBEDDING_SIZE + 1, kernel_size=1)
        self.bias = nn.Parameter(torch.tensor(3.0))

    def forward(self, image_embeddings: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Embedding (B, C, h, w) and boundary logits (B, 1, h, w) at stride 4."""
        stride_4, stride_8, stride_16 = image_embeddings
        upscaled = nn.functional.gelu(self.upscale_layer_norm(self.upscale_conv1(stride_16) + stride_8))
        upscaled = nn.functional.gelu(self.upscale_conv2(upscaled) + stride_4)
        output = self.output(upscaled)
        height, width = output.shape[-2:]
        # where a pixel is tells apart objects that look alike
        y, x = torch.meshgrid(torch.linspace(0, 2, height), torch.linspace(0, 2, width), indexing="ij")
        position = torch.zeros(EMBEDDING_SIZE, height, width)
        position[0], position[1] = x, y
        return output[:, :-1] + position, output[:, -1:]


class NanoTrainee(nn.Module):
    """The model with its dense head, initialised so that clicks can be told apart from the start."""

    def __init__(self) -> None:
        super().__init__()
        self.model = EdgeTamModel(nano_config())
        self.dense_head = DenseHead()
        with torch.no_grad():
            for lateral in self.model.vision_encoder.neck.convs[:2]:  # both feed the map of stride 16
                lateral.get_parameter("weight").mul_(0.2)
            self.model.prompt_encoder.shared_embedding.positional_embedding.copy_(
                self.model.shared_image_embedding.positional_embedding
            )
        self.model.vision_encoder.to(memory_format=torch.channels_last)
        self.train()

    def encode(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        """Image embeddings of stride 4, 8 and 16 of pixels (B, 3, H, W)."""
        return self.model.get_image_embeddings(pixels)

    def decode(
        self,
        image_embeddings: list[torch.Tensor],
        points: torch.Tensor | None,
        labels: torch.Tensor | None,
        boxes: torch.Tensor | None,
        masks: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits (B, O, 4, h, w), IoU (B, O, 4) and object logits (B, O, 1) of all four mask tokens."""
        prediction = self.model.decode_prompts(image_embeddings, Prompts(points, labels, boxes, masks))
        return prediction.masks, prediction.iou_scores, prediction.object_score_logits

    def start_decoder_from_dense_head(self) -> None:
        """Gives the mask decoder the upscaling path that dense training has learnt."""
        decoder = self.model.mask_decoder
        for name in ("upscale_conv1", "upscale_layer_norm", "upscale_conv2"):
            getattr(decoder, name).load_state_dict(getattr(self.dense_head, name).state_dict())


def _is_encoder(name: str) -> bool:
    return name.startswith(("model.vision_encoder", "model.no_memory")) or "conv_s" in name


def dense_learning_rate_scale(name: str) -> float:
    """Relative learning rate of a parameter in dense training, which leaves prompts and mask decoder alone."""
    return 1.0 if _is_encoder(name) or name.startswith("dense_head") else 0.0


def prompt_learning_rate_scale(name: str) -> float:
    """Learning rate of a parameter in prompt training, relative to the mask decoder's."""
    return 0.6 if _is_encoder(name) else 1.0
