"""Ours = the original release on video, within the tolerances recorded with its outputs; see golden/README.md."""

from functools import cache

import pytest
import torch
from edgetam_hf.configuration_edgetam import EdgeTamVideoConfig
from edgetam_hf.modeling_edgetam_video import EdgeTamVideoModel
from golden_cases import (
    VIDEO_CASES,
    VIDEO_DOCUMENT,
    VIDEOS,
    VideoCase,
    clip,
    make_video_processor,
    remember_frames,
    video_reference,
)
from reference_weights import fingerprint, load_reference_weights


@cache
def make_model(size):
    return remember_frames(load_reference_weights(EdgeTamVideoModel(EdgeTamVideoConfig(image_size=size))).eval())


def test_reference_weights_are_those_of_the_reference():
    assert fingerprint(make_model(512).state_dict()) == VIDEO_DOCUMENT["weights_fingerprint"]


def test_frames_equal_original():
    case = VIDEO_CASES["clip/preprocessing"]
    session = make_video_processor(case["image_size"]).init_video_session(video=clip())
    frames = torch.stack([session.get_frame(i) for i in range(0, len(clip()), 9)])[..., ::16, ::16]
    expected = video_reference()["clip/preprocessing/pixel_sample"]
    torch.testing.assert_close(frames, expected, atol=case["tolerance"]["pixels"], rtol=0.0)


@pytest.mark.parametrize("name", VIDEOS)
def test_tracking_equals_original(name):
    VideoCase(name, make_model).run()
