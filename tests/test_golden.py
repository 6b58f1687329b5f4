"""Ours = the original release, within the tolerances recorded with its outputs; see golden/README.md."""

from functools import cache

import golden_cases
import pytest
import reference_inputs
from edgetam_hf.configuration_edgetam import EdgeTamConfig
from edgetam_hf.modeling_edgetam import EdgeTamModel
from golden_cases import CASES, cases_of_kind
from reference_weights import load_reference_weights


@cache
def make_model(size):
    return load_reference_weights(EdgeTamModel(EdgeTamConfig(image_size=size)))


def test_reference_inputs_are_those_of_the_reference():
    reference_inputs.verify()


@pytest.mark.parametrize("name", cases_of_kind("image_preprocessing"))
def test_processor_equals_original(name):
    case = CASES[name]
    processor = golden_cases.make_processor(case["image_size"])
    pixels = processor(reference_inputs.image(case["input"]), return_tensors="pt")["pixel_values"][0, :, ::16, ::16]
    golden_cases.assert_within(case, "pixels", pixels, golden_cases.expected_tensors(case)["pixel_sample"])


@pytest.mark.parametrize("name", cases_of_kind("image_encoder"))
def test_image_embeddings_equal_original(name):
    golden_cases.assert_image_embeddings(name, make_model)


@pytest.mark.parametrize("name", cases_of_kind("image"))
def test_masks_equal_original(name):
    golden_cases.assert_masks(name, make_model)
