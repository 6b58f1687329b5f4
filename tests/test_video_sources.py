"""Clips of videos: frames with masks, in the layouts of the datasets, and files with masklets."""

import numpy as np
import pytest
from PIL import Image
from training_sources import (
    HEIGHT,
    NUM_FRAMES,
    WIDTH,
    assert_same_clip,
    compressed,
    make_dataset,
    mask_at,
    open_video,
    run_lengths,
    times_of,
    write,
    write_masklets,
    write_video,
)

from edgetam_hf.evaluation.video_datasets import read_sequences
from edgetam_hf.training.masklet_videos import open_masklet_clips
from edgetam_hf.training.videos import VideoClips


@pytest.mark.parametrize("layout", ["davis", "youtube-vos", "sa-v"])
def test_video_clips_are_the_same_from_every_layout(layout, videos, tmp_path):
    source = open_video(layout, tmp_path)
    assert len(source) == 1
    for seed in range(5):
        clip, expected = (s.draw(0, 3, 2, np.random.default_rng(seed)) for s in (source, videos))
        assert_same_clip(clip, expected)
        assert clip.frames[0].shape == (HEIGHT, WIDTH, 3) and clip.frames[0].dtype == np.uint8


def test_video_clips_have_frames_in_order_and_their_masks(videos):
    strides = set()
    for seed in range(40):
        clip = videos.draw(0, 3, 2, np.random.default_rng(seed))
        times = times_of(clip)
        stride = times[1] - times[0]
        assert times[2] - times[1] == stride
        strides.add(stride)
        visible = [number for number in (1, 2) if mask_at(times[0], number).any()]
        np.testing.assert_array_equal(clip.masks, [[mask_at(t, number) for number in visible] for t in times])
    assert strides == {-3, -2, -1, 1, 2, 3}


def test_video_clips_take_the_stride_that_fits(videos):
    assert {abs(np.diff(times_of(videos.draw(0, 6, 2, np.random.default_rng(s)))))[0] for s in range(20)} == {1}
    everything = videos.draw(0, NUM_FRAMES, 2, np.random.default_rng(0))
    assert sorted(times_of(everything)) == list(range(NUM_FRAMES))
    assert {times_of(videos.draw(0, 1, 2, np.random.default_rng(s)))[0] for s in range(50)} == set(range(NUM_FRAMES))


def test_video_clips_without_reversal_go_forward(videos):
    source = VideoClips(videos.sequences, max_stride=2, reverse_probability=0)
    times = [times_of(source.draw(0, 3, 2, np.random.default_rng(seed))) for seed in range(30)]
    assert {start - end for start, _, end in times} == {-2, -4}


def test_video_clips_have_at_most_max_objects_seen_first(videos):
    chosen = []
    for seed in range(40):
        clip = videos.draw(0, 2, 1, np.random.default_rng(seed))
        assert clip.masks.shape == (2, 1, HEIGHT, WIDTH) and clip.masks[0, 0].any()
        chosen.append(next(n for n in (1, 2) if (clip.masks[0, 0] == mask_at(times_of(clip)[0], n)).all()))
    assert set(chosen) == {1, 2}


def test_video_clips_start_with_an_empty_mask_where_there_is_no_object(tmp_path):
    root = write_video("mose", tmp_path)
    for path in sorted(root.glob("Annotations/cat/*.png"))[:4]:
        write(np.zeros((HEIGHT, WIDTH), np.uint8), path)
    source = VideoClips(read_sequences("mose", root), reverse_probability=0)
    clips = [source.draw(0, 3, 2, np.random.default_rng(seed)) for seed in range(20)]
    assert {clip.masks.shape[1] > 0 for clip in clips if times_of(clip)[0] >= 4} == {True}
    assert {clip.masks.shape[1] for clip in clips if times_of(clip)[0] < 4} == {0}
    assert all(len(item["mask_labels"][0]) for item in make_dataset([source], num_frames=3))


def test_video_clips_pass_over_sequences_that_are_too_short(videos, tmp_path):
    write_video("mose", tmp_path, "ant")
    for path in sorted(tmp_path.glob("Annotations/ant/*.png"))[2:]:
        path.unlink()
    write_video("mose", tmp_path, "cat")
    source = VideoClips(read_sequences("mose", tmp_path))
    assert len(source) == 2
    for index in (0, 1):
        clip, expected = (s.draw(index, 3, 2, np.random.default_rng(7)) for s in (source, videos))
        assert_same_clip(clip, expected)
    with pytest.raises(
        ValueError, match="clip of 10 frames needs as many annotated ones, which none of 2 sequences has"
    ):
        source.draw(0, 10, 2, np.random.default_rng(0))


def test_video_clips_read_palette_and_grey_pictures_alike(videos, tmp_path):
    root = write_video("mose", tmp_path)
    for path in root.glob("Annotations/cat/*.png"):
        with Image.open(path) as picture:
            assert picture.mode == "P"
            write(np.array(picture), path)
        assert Image.open(path).mode == "L"
    clip, expected = (
        s.draw(0, 3, 2, np.random.default_rng(3)) for s in (VideoClips(read_sequences("mose", root)), videos)
    )
    assert_same_clip(clip, expected)


@pytest.mark.parametrize(
    "path, picture, message",
    [
        ("Annotations/cat/00000.png", np.zeros((9, 9), np.uint8), "must have the size of the video, 80x48, got 9x9"),
        ("Annotations/cat/00000.png", np.full((HEIGHT, WIDTH), 300, np.uint16), "object id 300: ids go up to 255"),
        ("Annotations/cat/00000.png", np.zeros((HEIGHT, WIDTH, 3), np.uint8), "palette or grey picture"),
        ("JPEGImages/cat/00001.png", np.zeros((9, 9, 3), np.uint8), "frame 1 .* has 9x9 pixels, the first one 80x48"),
    ],
)
def test_video_clips_reject_pictures_that_do_not_fit(path, picture, message, tmp_path):
    root = write_video("mose", tmp_path)
    write(picture, root / path)
    source = VideoClips(read_sequences("mose", root))
    with pytest.raises(ValueError, match=message):
        source.draw(0, NUM_FRAMES, 2, np.random.default_rng(0))


def test_read_sequences_rejects_what_is_missing(tmp_path):
    root = write_video("mose", tmp_path / "mose")
    with pytest.raises(ValueError, match="has not the layout of SA-V: looked for JPEGImages_24fps, Annotations_6fps"):
        read_sequences("sa-v", root)
    with pytest.raises(ValueError, match=r"looked for .*found no lists/train\.txt"):
        read_sequences("mose", root, listing="lists/train.txt")
    (root / "JPEGImages/cat/00003.png").unlink()
    with pytest.raises(ValueError, match=r"lacks the frame of annotation .*00003\.png: looked in .*JPEGImages.cat"):
        read_sequences("mose", root)
    for path in root.glob("Annotations/cat/*.png"):
        path.unlink()
    with pytest.raises(ValueError, match="sequence cat has no annotation: looked for PNG files in"):
        read_sequences("mose", root)


def test_video_clips_reject_settings_out_of_range(videos):
    with pytest.raises(ValueError, match="one VideoSequence at least"):
        VideoClips([])
    for settings in ({"max_stride": 0}, {"reverse_probability": 2}):
        with pytest.raises(ValueError, match=r"max_stride must be at least 1 and reverse_probability in 0\.\.1, got"):
            VideoClips(videos.sequences, **settings)


# Videos with masklets.


@pytest.mark.parametrize("kind", ["manual", "auto"])
def test_clips_of_masklets_are_those_of_pictures(kind, videos, tmp_path):
    write_masklets(tmp_path / "sav_000", kind=kind)
    source = open_masklet_clips(tmp_path, kind)
    assert len(source) == 1
    for seed in range(5):
        clip, expected = (s.draw(0, 3, 2, np.random.default_rng(seed)) for s in (source, videos))
        np.testing.assert_array_equal(clip.masks, expected.masks)
        np.testing.assert_allclose(clip.frames, expected.frames, atol=4)  # YUV rounds colours


def test_masklets_are_not_kept_in_memory(tmp_path):
    source = open_masklet_clips(write_masklets(tmp_path))
    source.draw(0, 3, 2, np.random.default_rng(0))
    assert [vars(video).keys() for video in source.sequences.videos] == [{"json", "file"}]


def test_masklets_reject_what_does_not_fit(tmp_path):
    with pytest.raises(ValueError, match="masklets must be one of manual, auto, got 'both'"):
        open_masklet_clips(tmp_path, "both")
    with pytest.raises(ValueError, match=r"looked for \*_manual\.json, found none"):
        open_masklet_clips(tmp_path)
    for number, (changes, message) in enumerate(
        [
            ({"masklet": None}, 'must have "masklet", a list of lists of run lengths'),
            ({"encode": lambda mask: run_lengths(mask[:9])}, r"object 0 on frame 0 must have .*\[48, 80\]"),
            ({"encode": lambda mask: {"size": [HEIGHT, WIDTH], "counts": "0a"}}, "run lengths that are damaged"),
            ({"masklet": [[compressed(mask_at(0, 1))]] * 99}, "has masks for frame 392, but .* has only 36 frames"),
        ]
    ):
        source = open_masklet_clips(write_masklets(tmp_path / str(number), **changes), reverse_probability=0)
        with pytest.raises(ValueError, match=message):
            source.draw(0, 9, 2, np.random.default_rng(0))
    (tmp_path / "0" / "sav_000001.mp4").unlink()
    with pytest.raises(ValueError, match=r"masklets without their video: looked for .*sav_000001\.mp4"):
        open_masklet_clips(tmp_path / "0")
