"""The attention of EdgeTAM: in the mask decoder, in the memory attention and in the spatial perceiver.

Shapes: B batch, T queries, S keys, C channels. Tokens are (B, T, C), split into heads (B, heads, T, C / heads).
"""

import torch
import torch.nn.functional as F
from torch import nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .folding_edgetam import is_plain


def eager_attention_forward(module, query, key, value, attention_mask, scaling, dropout=0.0, **kwargs):
    """Attention output (B, T, heads, C) and weights (B, heads, T, S), spelled out."""
    weights = (query * scaling) @ key.transpose(2, 3)
    if attention_mask is not None:
        weights = weights + attention_mask
    weights = F.softmax(weights, dim=-1, dtype=torch.float32).to(query.dtype)
    weights = F.dropout(weights, dropout, module.training)
    return (weights @ value).transpose(1, 2), weights


class EdgeTamAttention(nn.Module):
    """Multi-head attention whose inner width may differ from that of its input and output.

    Args:
        config: the configuration whose `_attn_implementation` chooses the backend.
        hidden_size: channels of queries and of the output.
        num_heads: number of heads.
        inner_size: channels of projected queries, keys and values.
        key_value_size: channels of keys and values; `hidden_size` unless given.
        bias: whether the projections have one.
    """

    dropout = 0.0

    def __init__(self, config, hidden_size, num_heads, inner_size, key_value_size=None, bias=True):
        super().__init__()
        self.config = config
        self.num_heads = num_heads
        self.scaling = (inner_size // num_heads) ** -0.5
        self.is_causal = False
        self.q_proj = nn.Linear(hidden_size, inner_size, bias=bias)
        self.k_proj = nn.Linear(key_value_size or hidden_size, inner_size, bias=bias)
        self.v_proj = nn.Linear(key_value_size or hidden_size, inner_size, bias=bias)
        self.o_proj = nn.Linear(inner_size, hidden_size, bias=bias)

    def forward(self, query, key, value, attention_bias=None, output_attentions=False):
        """Attention output (B, T, C) and, if asked for, weights (B, heads, T, S).

        Args:
            query: (B, T, C).
            key, value: (B, S, C).
            attention_bias: broadcastable to (B, heads, T, S), added to the logits.
            output_attentions: whether to compute the weights, which only eager attention has.
        """
        return self.attend(*self.project(query, key, value), attention_bias, output_attentions)

    def project(self, query, key, value):
        """Projected query, key and value, split into heads."""
        projections = ((self.q_proj, query), (self.k_proj, key), (self.v_proj, value))
        return [self._split(projection(states)) for projection, states in projections]

    def _split(self, states):
        return states.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def attend(self, query, key, value, attention_bias=None, output_attentions=False):
        """As `forward`, of projections split into heads; one query may serve a batch of keys."""
        output, weights = self.average(
            query.expand(len(key), -1, -1, -1), key, value, attention_bias, output_attentions
        )
        return self.o_proj(output.flatten(2)), weights

    def average(self, query, key, value, attention_bias=None, output_attentions=False):
        """Averages (B, T, heads, C) of values, and the weights if asked for; all are split into heads."""
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

    def _attention_function(self, query, value, attention_bias, output_attentions):
        name = self.config._attn_implementation
        # PyTorch has no fused kernel for such values on a CPU, and its other one looks for rows without any key
        is_unfused = name == "sdpa" and query.device.type == "cpu" and query.shape[-1] != value.shape[-1]
        if output_attentions or name == "eager" or is_unfused:
            return eager_attention_forward
        # flash attention takes no bias, and flex attention on a CPU corrupts memory with one (PyTorch 2.14)
        return ALL_ATTENTION_FUNCTIONS[name if attention_bias is None else "sdpa"]


class EdgeTamImageAttention(EdgeTamAttention):
    """Attention between the few tokens of an object and the many pixels of its image.

    Matrix products are associative: what would project every pixel is applied to the tokens instead wherever that is
    less work. B pictures, O objects per picture, T tokens, L pixels, H heads; objects may share their image.
    """

    def tokens_to_image(self, tokens, pixels, values, attention_bias=None, output_attentions=False):
        """Attention output (B * O, T, C) of tokens (B * O, T, C), and weights (B * O, H, T, L) if asked for.

        Args:
            tokens: (B * O, T, C), the queries.
            pixels, values: (B, L, C) or (B * O, L, C), the keys and values.
            attention_bias: broadcastable to (B * O, H, T, L); with it every object needs its own pixels.
            output_attentions: whether to compute the weights.
        """
        query = tokens.reshape(len(pixels), -1, tokens.shape[-1])  # objects that share an image are one set of queries
        attend = self._attend_unprojected if self._is_absorbed(query.shape[1]) else self
        output, weights = attend(query, pixels, values, attention_bias, output_attentions)
        if output_attentions:
            weights = weights.unflatten(2, (-1, tokens.shape[1])).transpose(1, 2).flatten(0, 1)
        return output.reshape(tokens.shape), weights

    def _is_absorbed(self, num_tokens):
        projections = (self.q_proj, self.k_proj, self.v_proj, self.o_proj)
        return num_tokens * self.num_heads < self.q_proj.out_features and is_plain(*projections)

    def _attend_unprojected(self, query, pixels, values, attention_bias, output_attentions):
        """As `forward`: heads become queries of one head, with pixels as they are for keys and values.

        The bias of the keys adds the same to all logits of a query and drops out.
        """
        query = self._split(self.q_proj(query)) @ self.k_proj.weight.unflatten(0, (self.num_heads, -1))  # (B, H, T, C)
        if attention_bias is not None:
            attention_bias = attention_bias.expand(*query.shape[:3], -1).reshape(len(query), 1, -1, pixels.shape[1])
        rows = query.reshape(len(query), 1, -1, query.shape[-1])
        output, weights = self.average(rows, pixels[:, None], values[:, None], attention_bias, output_attentions)
        output = output.reshape(query.shape) @ self.v_proj.weight.unflatten(0, (self.num_heads, -1)).transpose(1, 2)
        output = self.o_proj(output.transpose(1, 2).flatten(2) + self.v_proj.bias)
        return output, weights.reshape(*query.shape[:3], -1) if output_attentions else None

    def image_to_tokens(self, image, pixels, tokens, values, attention_bias=None):
        """The image plus what its pixels learn from the tokens, (B * O, L, C).

        Args:
            image, pixels: (B, L, C) or (B * O, L, C), what is added to, and the queries.
            tokens, values: (B * O, T, C), the keys and values.
            attention_bias: (B * O, 1, 1, T), added to the logits.
        """
        key = self._as_blocks(self.k_proj(tokens)) * self.scaling  # (B * O, inner, H * T)
        value = self._as_blocks(self.v_proj(values)).transpose(1, 2)  # (B * O, H * T, inner)
        is_absorbed = self._is_absorbed(tokens.shape[1])
        if is_absorbed and len(pixels) == len(tokens):
            logits = torch.baddbmm((self.q_proj.bias @ key)[:, None], pixels, self.q_proj.weight.T @ key)
        else:
            num_objects = len(tokens) // len(pixels)
            logits = (self.q_proj(pixels)[:, None] @ key.unflatten(0, (-1, num_objects))).flatten(0, 1)
        logits = logits.unflatten(2, (self.num_heads, -1))  # (B * O, L, H, T)
        if attention_bias is not None:
            logits = logits + attention_bias
        weights = F.softmax(logits, dim=-1, dtype=torch.float32).to(pixels.dtype).flatten(2)
        image = image[:, None].expand(-1, len(tokens) // len(image), -1, -1).flatten(0, 1)
        if is_absorbed:  # weights of a head sum to one, so its values can carry a part of the bias
            value = value @ self.o_proj.weight.T + self.o_proj.bias / self.num_heads
            return torch.baddbmm(image, weights, value)
        return image + self.o_proj(weights @ value)

    def _as_blocks(self, states):
        """States (B, T, inner) as (B, inner, H * T): for each head one block of rows and columns, zero elsewhere."""
        blocks = torch.eye(self.num_heads, dtype=states.dtype, device=states.device)[:, None, :, None]
        return (self._split(states).transpose(2, 3)[:, :, :, None] * blocks).flatten(3).flatten(1, 2)
