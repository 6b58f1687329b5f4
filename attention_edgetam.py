"""The attention of EdgeTAM: in the mask decoder, in the memory attention and in the spatial perceiver.

Shapes: B batch, T queries, S keys, C channels. Tokens are (B, T, C), split into heads (B, heads, T, C / heads).
"""

import torch
import torch.nn.functional as F
from torch import nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS


def eager_attention_forward(module, query, key, value, attention_mask, scaling, dropout=0.0, **kwargs):
    """Attention output (B, T, heads, C) and weights (B, heads, T, S), spelled out."""
    weights = query @ key.transpose(2, 3) * scaling
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
        return [
            projection(states).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for projection, states in ((self.q_proj, query), (self.k_proj, key), (self.v_proj, value))
        ]

    def attend(self, query, key, value, attention_bias=None, output_attentions=False):
        """As `forward`, of projections split into heads; one query may serve a batch of keys."""
        function = self._attention_function(attention_bias, output_attentions)
        output, weights = function(
            self,
            query.expand(len(key), -1, -1, -1),
            key,
            value,
            attention_mask=attention_bias,
            dropout=self.dropout if self.training else 0.0,
            scaling=self.scaling,
            is_causal=False,
        )
        return self.o_proj(output.flatten(2)), weights if output_attentions else None

    def _attention_function(self, attention_bias, output_attentions):
        name = self.config._attn_implementation
        if output_attentions or name == "eager":
            return eager_attention_forward
        # flash attention takes no bias, and flex attention on a CPU corrupts memory with one (PyTorch 2.14)
        return ALL_ATTENTION_FUNCTIONS[name if attention_bias is None else "sdpa"]
