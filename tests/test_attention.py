"""The attentions between tokens and pixels equal what they are defined as, whichever side is projected."""

import pytest
import torch
from edgetam_hf.attention_edgetam import (
    EdgeTamAttention,
    EdgeTamImageToTokenAttention,
    EdgeTamTokenToImageAttention,
)
from small_models import random, small_config

PICTURES, OBJECTS, PIXELS, CHANNELS, HEADS, INNER = 2, 3, 20, 24, 2, 16
FEW_TOKENS, MANY_TOKENS = 2, 9  # tokens times heads of the objects of a picture, beside 16 inner channels

few_or_many = pytest.mark.parametrize("num_tokens", [FEW_TOKENS, MANY_TOKENS])
shared_or_own = pytest.mark.parametrize("num_pictures", [PICTURES, PICTURES * OBJECTS], ids=["shared", "own"])


def make(attention_class):
    config = small_config(64).mask_decoder_config
    config._attn_implementation = "sdpa"
    return attention_class(config, CHANNELS, HEADS, INNER).eval()


def for_each_object(pixels):
    return pixels.repeat_interleave(PICTURES * OBJECTS // len(pixels), dim=0)


def defined(attention, query, key, value, bias=None):
    """Output of plain attention with the same weights."""
    plain = make(EdgeTamAttention)
    plain.load_state_dict(attention.state_dict())
    return plain(query, key, value, bias)[0]


@few_or_many
@shared_or_own
def test_token_to_image_attention_equals_its_definition(num_tokens, num_pictures):
    attention = make(EdgeTamTokenToImageAttention)
    tokens = random((PICTURES * OBJECTS, num_tokens, CHANNELS))
    keys, values = random((2, num_pictures, PIXELS, CHANNELS))
    tokens_of_picture = num_tokens * PICTURES * OBJECTS // num_pictures
    assert attention.absorbs_projections(tokens_of_picture) == (tokens_of_picture * HEADS < INNER)
    expected = defined(attention, tokens, for_each_object(keys), for_each_object(values))
    torch.testing.assert_close(attention(tokens, keys, values)[0], expected, atol=1e-5, rtol=1e-5)


@few_or_many
def test_token_to_image_attention_adds_its_bias_to_the_logits(num_tokens):
    attention = make(EdgeTamTokenToImageAttention)
    tokens = random((PICTURES * OBJECTS, num_tokens, CHANNELS))
    keys, values = random((2, PICTURES * OBJECTS, PIXELS, CHANNELS))
    for shape in ((PICTURES * OBJECTS, 1, num_tokens, PIXELS), (PICTURES * OBJECTS, HEADS, num_tokens, PIXELS)):
        bias = random(shape)
        expected = defined(attention, tokens, keys, values, bias)
        torch.testing.assert_close(attention(tokens, keys, values, bias)[0], expected, atol=1e-5, rtol=1e-5)


@few_or_many
@shared_or_own
@pytest.mark.parametrize("has_bias", [False, True])
def test_image_to_token_attention_equals_its_definition(num_tokens, num_pictures, has_bias):
    attention = make(EdgeTamImageToTokenAttention)
    pixels, image = random((2, num_pictures, PIXELS, CHANNELS))
    keys, values = random((2, PICTURES * OBJECTS, num_tokens, CHANNELS))
    bias = random((PICTURES * OBJECTS, 1, 1, num_tokens)) if has_bias else None
    assert attention.absorbs_projections(num_tokens) == (num_tokens == FEW_TOKENS)
    expected = defined(attention, for_each_object(pixels), keys, values, bias)
    torch.testing.assert_close(attention(pixels, keys, values, bias)[0], expected, atol=1e-5, rtol=1e-5)
    added, _ = attention(pixels, keys, values, bias, added_to=image)
    torch.testing.assert_close(added, for_each_object(image) + expected, atol=1e-5, rtol=1e-5)
