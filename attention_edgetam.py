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
            query.expand(key.shape[0], -1, -1, -1), key, value, attention_bias, output_attentions
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

    def _is_absorbed(self, num_tokens):
        projections = (self.q_proj, self.k_proj, self.v_proj, self.o_proj)
        if not is_plain(*projections) or any(projection.bias is None for projection in projections):
            return False
        return num_tokens * self.num_heads < self.q_proj.out_features


class EdgeTamTokenToImageAttention(EdgeTamImageAttention):
    """Attention of the tokens to the pixels."""

    def forward(self, query, key, value, attention_bias=None, output_attentions=False):
        """Attention output (B * O, T, C) of tokens, and weights (B * O, H, T, L) if asked for.

        Args:
            query: (B * O, T, C), the tokens.
            key, value: (B, L, C) or (B * O, L, C), the pixels.
            attention_bias: broadcastable to (B * O, H, T, L); with it every object needs its own pixels.
            output_attentions: whether to compute the weights.
        """
        if output_attentions:  # as they are defined, and with a gradient
            key, value = (_for_each_object(states, query.shape[0]) for states in (key, value))
            return super().forward(query, key, value, attention_bias, output_attentions)
        tokens = query.reshape(key.shape[0], -1, query.shape[-1])  # of objects that share an image: one set of queries
        attend = self._attend_unprojected if self._is_absorbed(tokens.shape[1]) else super().forward
        return attend(tokens, key, value, attention_bias)[0].reshape(query.shape), None

    def _attend_unprojected(self, query, pixels, values, attention_bias):
        """As `EdgeTamAttention.forward`: heads become queries of one head, with pixels as they are for keys and values.

        The bias of the keys adds the same to all logits of a query and drops out; with weight zero it takes part, so
        that training in several processes does not wait for its gradient.
        """
        key_weight = self.k_proj.weight
        if torch.is_grad_enabled() and self.k_proj.bias.requires_grad:
            key_weight = key_weight + 0 * self.k_proj.bias[:, None]
        query = self._split(self.q_proj(query)) @ key_weight.unflatten(0, (self.num_heads, -1))  # (B, H, T, C)
        if attention_bias is not None:
            attention_bias = attention_bias.expand(*query.shape[:3], -1).reshape(query.shape[0], 1, -1, pixels.shape[1])
        rows = query.reshape(query.shape[0], 1, -1, query.shape[-1])
        output, _ = self.average(rows, pixels[:, None], values[:, None], attention_bias)
        output = output.reshape(query.shape) @ self.v_proj.weight.unflatten(0, (self.num_heads, -1)).transpose(1, 2)
        return self.o_proj(output.transpose(1, 2).flatten(2) + self.v_proj.bias), None


class EdgeTamImageToTokenAttention(EdgeTamImageAttention):
    """Attention of the pixels to the tokens."""

    def forward(self, query, key, value, attention_bias=None, added_to=None):
        """Attention output (B * O, L, C) of pixels, and `None` for weights, which nobody asks for.

        Args:
            query: (B, L, C) or (B * O, L, C), the pixels.
            key, value: (B * O, T, C), the tokens.
            attention_bias: (B * O, 1, 1, T), added to the logits.
            added_to: (B, L, C) or (B * O, L, C), to which the output is added in one step with the last product.
        """
        is_absorbed = self._is_absorbed(key.shape[1])
        key = self._as_blocks(self.k_proj(key)) * self.scaling  # (B * O, inner, H * T)
        value = self._as_blocks(self.v_proj(value)).transpose(1, 2)  # (B * O, H * T, inner)
        if is_absorbed and query.shape[0] == key.shape[0]:
            logits = torch.baddbmm((self.q_proj.bias @ key)[:, None], query, self.q_proj.weight.T @ key)
        else:
            key = key.unflatten(0, (query.shape[0], -1))
            logits = (self.q_proj(query)[:, None] @ key).flatten(0, 1)
        logits = logits.unflatten(2, (self.num_heads, -1))  # (B * O, L, H, T)
        if attention_bias is not None:
            logits = logits + attention_bias
        weights = F.softmax(logits, dim=-1, dtype=torch.float32).to(query.dtype).flatten(2)
        if added_to is not None:
            added_to = _for_each_object(added_to, value.shape[0])
        if not is_absorbed:
            output = self.o_proj(weights @ value)
            return output if added_to is None else added_to + output, None
        # weights of a head sum to one, so its values can carry a part of the bias
        value = value @ self.o_proj.weight.T + self.o_proj.bias / self.num_heads
        return weights @ value if added_to is None else torch.baddbmm(added_to, weights, value), None

    def _as_blocks(self, states):
        """States (B, T, inner) as (B, inner, H * T): for each head one block of rows and columns, zero elsewhere."""
        blocks = torch.eye(self.num_heads, dtype=states.dtype, device=states.device)[:, None, :, None]
        return (self._split(states).transpose(2, 3)[:, :, :, None] * blocks).flatten(3).flatten(1, 2)


def _for_each_object(states, num_objects):
    """States (B * O, L, C) of objects, of which some share the states (B, L, C) of their picture."""
    return states[:, None].expand(-1, num_objects // states.shape[0], -1, -1).flatten(0, 1)
