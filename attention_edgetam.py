"""The attention of EdgeTAM: in the mask decoder, in the memory attention and in the spatial perceiver.

Shapes: B pictures, O objects on each, T queries, S keys, C channels, H heads, I inner channels, those of all heads
together. Tokens are (B, T, C), split into heads (B, H, T, I / H). L pixels of a picture are tokens, too.

Two identities spare the mask decoder the projection of every pixel, of which there are far more than tokens. For a
projection with weight W and bias b, any vector t, and weights p that sum to one:

    (1)  (W x + b) · t  =  x · (Wᵀ t) + b · t
    (2)  Σ p (W x + b)  =  W (Σ p x) + b

Logits are products as in (1), of a pixel x and a projected token t: the right side absorbs the projection of the pixel
into the token. Outputs are averages as in (2), with weights p from a softmax. Where pixels are averaged for each token,
the right side projects one average per token and head, and no pixel; where tokens are averaged for each pixel, the left
side projects one value per token and head, and no output pixel. To project the pixels takes L * C * I multiplications.
Without that, products with pixels have C channels in place of I / H, and take L * C multiplications for each token and
head: less where H * T < I.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .configuration_edgetam import EdgeTamConfig, EdgeTamMaskDecoderConfig
from .folding_edgetam import is_foldable
from .pieces_edgetam import has_amx

QUERIES_AT_ONCE = 512  # with a weight for each of some thousand keys they fit the cache of a CPU


def eager_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs: object,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention output (B, T, H, channels of a value) and weights (B, H, T, S), spelled out.

    The signature is that of all functions in `ALL_ATTENTION_FUNCTIONS`; query, key and value are split into heads.
    """
    weights = (query * scaling) @ key.transpose(2, 3)
    if attention_mask is not None:
        weights = weights + attention_mask
    weights = F.softmax(weights, dim=-1, dtype=torch.float32).to(query.dtype)
    weights = F.dropout(weights, dropout, module.training)
    return (weights @ value).transpose(1, 2), weights


class EdgeTamProjectedAttention(nn.Module):
    """What all attentions share: four projections, and attention between what is projected and split into heads.

    Args:
        config: the configuration whose `_attn_implementation` chooses the backend.
        hidden_size: channels C of queries and of the output.
        num_heads: number of heads H.
        inner_size: channels I of projected queries, keys and values, which may differ from C.
        key_value_size: channels of keys and values; `hidden_size` unless given.
        bias: whether the projections have one.
    """

    dropout = 0.0

    def __init__(
        self,
        config: EdgeTamMaskDecoderConfig | EdgeTamConfig,
        hidden_size: int,
        num_heads: int,
        inner_size: int,
        key_value_size: int | None = None,
        bias: bool = True,
    ):
        super().__init__()
        self.config = config
        self.num_heads = num_heads
        self.scaling = (inner_size // num_heads) ** -0.5
        self.is_causal = False
        self.q_proj = nn.Linear(hidden_size, inner_size, bias=bias)
        self.k_proj = nn.Linear(key_value_size or hidden_size, inner_size, bias=bias)
        self.v_proj = nn.Linear(key_value_size or hidden_size, inner_size, bias=bias)
        self.o_proj = nn.Linear(inner_size, hidden_size, bias=bias)

    def project(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Projected query, key and value (B, H, tokens, I / H) of tokens (B, tokens, C)."""
        query, key, value = self.q_proj(query), self.k_proj(key), self.v_proj(value)
        return self.split_heads(query), self.split_heads(key), self.split_heads(value)

    def split_heads(self, states: torch.Tensor) -> torch.Tensor:
        """States (B, H, tokens, I / H) of projected states (B, tokens, I)."""
        return states.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_bias: torch.Tensor | None = None,
        output_attentions: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attention output (B, T, C), and weights (B, H, T, S) if asked for, of projections split into heads.

        The query (1, H, T, I / H) may serve a batch of keys.
        """
        query = query.expand(key.shape[0], -1, -1, -1)
        output, weights = self.average(query, key, value, attention_bias, output_attentions)
        return self.o_proj(output.flatten(2)), weights

    def average(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_bias: torch.Tensor | None = None,
        output_attentions: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Averages (B, T, H, channels of a value) of values, and weights (B, H, T, S) if asked for.

        Args:
            query, key, value: split into heads.
            attention_bias: broadcastable to (B, H, T, S), added to the logits.
            output_attentions: whether to compute the weights, which only eager attention has.
        """
        function = self._attention_function(query, value, attention_bias, output_attentions)
        output, weights = function(
            self,
            query,
            key,
            value,
            attention_mask=attention_bias,
            dropout=self.dropout if self.training else 0.0,
            scaling=self.scaling,
            is_causal=False,
        )
        return output, weights if output_attentions else None

    def _attention_function(
        self,
        query: torch.Tensor,
        value: torch.Tensor,
        attention_bias: torch.Tensor | None,
        output_attentions: bool,
    ) -> Callable[..., tuple[torch.Tensor, torch.Tensor | None]]:
        name = self.config._attn_implementation
        # on a CPU PyTorch has no fused kernel for values of another width; its unfused one looks for rows without a key
        is_unfused = name == "sdpa" and query.device.type == "cpu" and query.shape[-1] != value.shape[-1]
        if output_attentions or name == "eager" or is_unfused:
            return eager_attention_forward
        # flash attention takes no bias, and flex attention on a CPU corrupts memory with one (PyTorch 2.14)
        return ALL_ATTENTION_FUNCTIONS[name if attention_bias is None else "sdpa"]

    def works_in_blocks(self, query: torch.Tensor) -> bool:
        """Whether `average_in_blocks` may stand for the fused attention of PyTorch, and is not slower.

        That is so on a CPU. In bfloat16 plain products are two to three times as fast as the fused kernel, unless the
        processor has AMX, for which the kernel was written; in float32 both are equally fast.
        """
        if query.device.type != "cpu" or self.config._attn_implementation not in ("sdpa", "eager"):
            return False
        return query.dtype == torch.float32 or (query.dtype == torch.bfloat16 and not has_amx())

    def average_in_blocks(
        self, query: torch.Tensor, logits: Callable[[torch.Tensor], torch.Tensor], value: torch.Tensor
    ) -> torch.Tensor:
        """Averages (B, H, T, channels of a value) of values, computed for some queries at a time.

        Queries do not depend on each other, and so few of them leave their logits and weights in the cache.

        Args:
            query: (B, H, T, I / H).
            logits: from scaled queries (B, H, t, I / H) to logits (B, H, t, S).
            value: (B, H, S, channels of a value), or (B, 1, S, …) for all heads.
        """
        averages = []
        for queries in (query * self.scaling).split(QUERIES_AT_ONCE, dim=2):
            weights = F.dropout(F.softmax(logits(queries), dim=-1), self.dropout, self.training)
            averages.append(weights @ value)
        return torch.cat(averages, dim=2)

    def absorbs_projections(self, num_tokens: int) -> bool:
        """Whether the identities above save work for so many tokens among many pixels, and may be used."""
        projections = (self.q_proj, self.k_proj, self.v_proj, self.o_proj)
        if not is_foldable(*projections) or any(projection.bias is None for projection in projections):
            return False
        return num_tokens * self.num_heads < self.q_proj.out_features


class EdgeTamAttention(EdgeTamProjectedAttention):
    """Attention of tokens to tokens."""

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_bias: torch.Tensor | None = None,
        output_attentions: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attention output (B, T, C) and, if asked for, weights (B, H, T, S).

        Args:
            query: (B, T, C).
            key, value: (B, S, C).
            attention_bias: broadcastable to (B, H, T, S), added to the logits.
            output_attentions: whether to compute the weights, which only eager attention has.
        """
        return self.attend(*self.project(query, key, value), attention_bias, output_attentions)


class EdgeTamTokenToImageAttention(EdgeTamAttention):
    """Attention of the tokens of objects to the pixels of their pictures, which objects may share."""

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_bias: torch.Tensor | None = None,
        output_attentions: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attention output (B * O, T, C) of tokens, and weights (B * O, H, T, L) if asked for.

        Args:
            query: (B * O, T, C), the tokens.
            key, value: (B, L, C) or (B * O, L, C), the pixels.
            attention_bias: broadcastable to (B * O, H, T, L); with it every object needs its own pixels.
            output_attentions: whether to compute the weights.
        """
        if output_attentions:  # computed without the identities, which have no weights to return
            key, value = (_for_each_object(states, query.shape[0]) for states in (key, value))
            return super().forward(query, key, value, attention_bias, output_attentions)
        # the tokens of all objects that share a picture are one set of queries
        tokens = query.reshape(key.shape[0], -1, query.shape[-1])
        if self.absorbs_projections(tokens.shape[1]):
            output = self._attend_to_unprojected(tokens, key, value, attention_bias)
        else:
            output, _ = super().forward(tokens, key, value, attention_bias)
        return output.reshape(query.shape), None

    def _attend_to_unprojected(
        self, tokens: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_bias: torch.Tensor | None
    ) -> torch.Tensor:
        """As `EdgeTamAttention.forward`, by the right sides of identity (1) for the logits and (2) for the output.

        Every head of a token becomes a query of C channels, and all of them are queries of one head, to which the
        pixels as they are serve as keys and as values. The bias of the keys, b · t in (1), is the same for all pixels,
        and the softmax ignores what all logits of a query have in common.
        """
        key_weight = self.k_proj.weight
        if torch.is_grad_enabled() and self.k_proj.bias.requires_grad:
            # training in several processes waits for a gradient of every parameter, if only one of zero
            key_weight = key_weight + 0 * self.k_proj.bias[:, None]
        query = self.split_heads(self.q_proj(tokens)) @ key_weight.unflatten(0, (self.num_heads, -1))  # (B, H, T, C)
        if attention_bias is not None:
            attention_bias = attention_bias.expand(*query.shape[:3], -1).reshape(query.shape[0], 1, -1, key.shape[1])
        rows = query.reshape(query.shape[0], 1, -1, query.shape[-1])  # (B, 1, H * T, C)
        average, _ = self.average(rows, key[:, None], value[:, None], attention_bias)
        output = average.reshape(query.shape) @ self.v_proj.weight.unflatten(0, (self.num_heads, -1)).transpose(1, 2)
        return self.o_proj(output.transpose(1, 2).flatten(2) + self.v_proj.bias)


class EdgeTamImageToTokenAttention(EdgeTamProjectedAttention):
    """Attention of the pixels of pictures, which objects may share, to the tokens of the objects."""

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_bias: torch.Tensor | None = None,
        added_to: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, None]:
        """Attention output (B * O, L, C) of pixels, and `None` in place of weights, which are never asked for.

        Args:
            query: (B, L, C) or (B * O, L, C), the pixels.
            key, value: (B * O, T, C), the tokens.
            attention_bias: (B * O, 1, 1, T), added to the logits.
            added_to: (B, L, C) or (B * O, L, C), to which the output is added in one step with the last product.
        """
        is_absorbed = self.absorbs_projections(key.shape[1])
        keys = self._as_blocks(self.k_proj(key)) * self.scaling  # (B * O, I, H * T)
        values = self._as_blocks(self.v_proj(value)).transpose(1, 2)  # (B * O, H * T, I)
        if is_absorbed and query.shape[0] == keys.shape[0]:  # identity (1)
            logits = torch.baddbmm((self.q_proj.bias @ keys)[:, None], query, self.q_proj.weight.T @ keys)
        else:  # pixels that objects share are projected once for all of them
            logits = (self.q_proj(query)[:, None] @ keys.unflatten(0, (query.shape[0], -1))).flatten(0, 1)
        logits = logits.unflatten(2, (self.num_heads, -1))  # (B * O, L, H, T)
        if attention_bias is not None:
            logits = logits + attention_bias
        weights = F.softmax(logits, dim=-1, dtype=torch.float32).to(query.dtype).flatten(2)
        if added_to is not None:
            added_to = _for_each_object(added_to, values.shape[0])
        if is_absorbed:  # the left side of identity (2): the weights of each of H heads sum to one
            values = values @ self.o_proj.weight.T + self.o_proj.bias / self.num_heads  # (B * O, H * T, C)
            return weights @ values if added_to is None else torch.baddbmm(added_to, weights, values), None
        output = self.o_proj(weights @ values)
        return output if added_to is None else added_to + output, None

    def _as_blocks(self, states: torch.Tensor) -> torch.Tensor:
        """Block-diagonal (B, I, H * T) of states (B, T, I): rows of a head are zero in the columns of the others.

        A single product with it has those of all heads side by side.
        """
        blocks = torch.ones(self.num_heads, dtype=states.dtype, device=states.device).diag()[:, None, :, None]
        return (self.split_heads(states).transpose(2, 3)[:, :, :, None] * blocks).flatten(3).flatten(1, 2)


def _for_each_object(states: torch.Tensor, num_objects: int) -> torch.Tensor:
    """States (B * O, L, C) for every object, of states (B, L, C) that the objects of a picture may share."""
    return states[:, None].expand(-1, num_objects // states.shape[0], -1, -1).flatten(0, 1)
