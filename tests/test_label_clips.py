"""Labelling of clips: objects tracked both ways, everything, and clips that cannot be labelled."""

import os

import fsspec
import numpy as np
import pytest
import torch
from edgetam_hf.video_frames_edgetam import StoredFrames, open_video
from labelling import assert_fits, label, labeller_of, masks_of
from PIL import Image
from small_videos import write_video
from tracking import square

from edgetam_hf.formats.run_lengths import compress
from edgetam_hf.found_objects import CutMask
from edgetam_hf.label.both_ways import BackwardFrames
from edgetam_hf.label.items import CLIP, Item, Prompt
from edgetam_hf.label.labeller import PoisonError

BOX, OTHER_BOX = (10, 30, 40, 60), (60, 20, 100, 70)
CLICKS = ((25, 45, 1), (80, 70, 0))
NUM_FRAMES, LAST = 8, 7
# Random weights give neither confident nor stable masks.
SEARCH = {"points_per_crop": 3, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.0, "crops_nms_thresh": 1.0}
IN_CLIPS = {"every": 3, "max_objects": 4}


@pytest.fixture(scope="module")
def video(clip, tmp_path_factory):
    """Eight frames of the clip as a file, of which a part can be read where it is cut off."""
    path = tmp_path_factory.mktemp("clip") / "square.mp4"
    write_video(path, clip[:NUM_FRAMES], container_options={"movflags": "faststart"})
    return path


@pytest.fixture(scope="module")
def pictures_of_clip(clip, tmp_path_factory):
    """Eleven frames as a folder of pictures, whose names are in order only as people read them."""
    folder = tmp_path_factory.mktemp("frames")
    for idx, frame in enumerate(clip[:11]):
        Image.fromarray(frame).save(folder / f"frame{idx}.png")
    return folder


@pytest.fixture(scope="module")
def labeller(video_folder):
    return labeller_of(video_folder)


def clip_of(path, *prompts, name="square.mp4"):
    return Item(name, CLIP, str(path), prompts=prompts)


def mask_prompt(clip, number, frame_idx):
    return Prompt(number, frame_idx, mask=compress(CutMask.of(square(clip, frame_idx))))


def by_hand(model, processor, frames, prompts, mask):
    """Masks (H, W) by object and frame: each object alone, propagated forwards and in another session backwards."""
    masks = {}
    for number in {prompt.object for prompt in prompts}:
        own = [prompt for prompt in prompts if prompt.object == number]
        first = min(prompt.frame for prompt in own)
        for reverse in (True, False):
            session = processor.init_video_session(frames, max_memory_frames=1)
            for prompt in own:
                given = {}
                if prompt.points:
                    given["input_points"] = [[[point[:2] for point in prompt.points]]]
                    given["input_labels"] = [[[point[2] for point in prompt.points]]]
                if prompt.box:
                    given["input_boxes"] = [[prompt.box]]
                if prompt.mask:
                    given["input_masks"] = [mask]
                processor.add_inputs_to_inference_session(session, prompt.frame, number, **given)
            for output in model.propagate_in_video_iterator(session, first, reverse=reverse):
                size = [(session.video_height, session.video_width)]
                masks[number, output.frame_idx] = processor.post_process_masks([output.pred_masks], size)[0][0, 0]
    return {place: mask.numpy() for place, mask in masks.items() if mask.any()}


def test_clip_labeller_tracks_each_object_both_ways(labeller, video_model, video_processor, clip, video):
    prompts = [
        Prompt(1, 0, box=BOX, category="square"),
        Prompt(3, LAST, points=CLICKS),
        Prompt(2, 3, box=OTHER_BOX, points=CLICKS),
        mask_prompt(clip, 4, 3),
        Prompt(4, 6, box=BOX),
    ]
    (row,) = label(labeller, [clip_of(video, *prompts)])
    pixels = torch.stack([torch.as_tensor(frame) for frame in open_video(video)])
    masks = square(clip, 3)
    expected, found = by_hand(video_model, video_processor, pixels, prompts, masks), masks_of(row)
    assert {number for number, _ in found} == {1, 2, 3, 4}
    for place in found.keys() | expected.keys():
        nothing = np.zeros((90, 120), bool)
        assert (found.get(place, nothing) != expected.get(place, nothing)).sum() <= 2, place
    assert [(mask.object, mask.frame) for mask in row.masks] == sorted(found)
    for mask in row.masks:
        assert_fits(mask, found[mask.object, mask.frame], 90, 120)
        assert mask.category == ("square" if mask.object == 1 else None) and 0 <= mask.score <= 1
    assert (row.height, row.width, row.num_frames, row.frame_names) == (90, 120, NUM_FRAMES, None)
    assert row.frame_rate == pytest.approx(10) and row.to_row()["prompts"][3]["mask"]["size"] == [90, 120]


def test_clip_labeller_reads_folders_of_pictures(labeller, clip, pictures_of_clip):
    (row,) = label(labeller, [clip_of(pictures_of_clip, mask_prompt(clip, 1, 2), name="square")])
    assert row.frame_names == [f"frame{idx}.png" for idx in range(11)] and row.frame_rate is None
    given = masks_of(row)[1, 2]
    assert (given & square(clip, 2)).sum() > 0.9 * (given | square(clip, 2)).sum()


def test_clip_labeller_reads_clips_from_anywhere(labeller, clip, video, pictures_of_clip):
    remote = fsspec.filesystem("memory")
    remote.put(str(video), "/clips/square.mp4")
    remote.put(str(pictures_of_clip), "/clips/square", recursive=True)
    remote.pipe("/clips/square/notes.txt", b"no picture")
    prompt, in_folder = Prompt(1, 2, box=BOX), Prompt(1, 10, box=BOX)
    items = [
        clip_of(video, prompt),
        clip_of("memory://clips/square.mp4", prompt),
        Item("a/square.mp4", CLIP, data=video.read_bytes(), prompts=(prompt,)),
        clip_of(pictures_of_clip, in_folder),
        clip_of("memory://clips/square", in_folder),
    ]
    local, copied, given, folder, copied_folder = label(labeller, items)
    assert local.masks == copied.masks == given.masks and folder.masks == copied_folder.masks
    assert local.frame_rate == copied.frame_rate == given.frame_rate and given.item.data is None
    assert folder.frame_names == copied_folder.frame_names


def test_clip_labeller_gives_an_empty_row_without_prompts(labeller, video):
    (row,) = label(labeller, [clip_of(video)])
    assert (row.masks, row.num_frames, row.height) == ([], NUM_FRAMES, 90)


def test_clip_labeller_finds_everything_that_track_everything_finds(video_folder, video_model, video_processor, video):
    labeller = labeller_of(video_folder, what="everything", mask_generation=SEARCH, in_clips=IN_CLIPS)
    (row,) = label(labeller, [clip_of(video)])
    session = video_processor.init_video_session(str(video), max_memory_frames=1)
    expected, scores = {}, {}
    for output in video_model.track_everything(session, **SEARCH, **IN_CLIPS):
        masks = video_processor.post_process_masks([output.pred_masks], [(90, 120)])[0][:, 0]
        for number, mask, score in zip(output.object_ids, masks.numpy(), output.iou_scores.tolist(), strict=True):
            if mask.any():
                expected[number, output.frame_idx], scores[number, output.frame_idx] = mask, score
    found = masks_of(row)
    assert found.keys() == expected.keys() and len({number for number, _ in found}) > 1
    for mask in row.masks:
        place = mask.object, mask.frame
        np.testing.assert_array_equal(found[place], expected[place])
        assert mask.score == pytest.approx(scores[place], abs=1e-6) and mask.category is None
        assert_fits(mask, found[place], 90, 120)
    assert [(mask.object, mask.frame) for mask in row.masks] == sorted(found) and row.num_frames == NUM_FRAMES


def test_labeller_finds_everything_in_pictures_and_clips(video_folder, clip, video, tmp_path):
    Image.fromarray(clip[0]).save(tmp_path / "square.png")
    labeller = labeller_of(video_folder, what="everything", mask_generation=SEARCH, in_clips=IN_CLIPS)
    items = [Item("square.png", address=str(tmp_path / "square.png")), clip_of(video)]
    picture, of_clip = label(labeller, items)
    assert picture.masks[0].stability_score is not None and of_clip.masks[0].stability_score is None
    assert (picture.num_frames, of_clip.num_frames) == (1, NUM_FRAMES)
    assert picture.settings == of_clip.settings and '"every": 3' in picture.settings


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (Prompt(2, NUM_FRAMES, box=BOX), "object 2 has a prompt on frame 8, but there are frames 0..7"),
        (Prompt(2, -1, box=BOX), "there are frames 0..7"),
        (Prompt(2, 3, box=(200, 1, 210, 10)), "box 200,1,210,10 of object 2 on frame 3 lies outside"),
        (Prompt(2, 3, mask={"size": [9, 8], "counts": "X"}), "mask of object 2 on frame 3 is 8 wide"),
    ],
)
def test_clip_labeller_sets_aside_prompts_that_do_not_fit(prompt, message, labeller, video):
    with pytest.raises(PoisonError, match=message):
        labeller.prepare(clip_of(video, Prompt(1, box=BOX), prompt))


def test_clip_labeller_sets_aside_what_is_no_clip(labeller, tmp_path):
    (tmp_path / "song.mp4").write_bytes(b"no video")
    (tmp_path / "empty").mkdir()
    for name, message in (
        ("song.mp4", "song.mp4 is no video file"),
        ("empty", "has no pictures"),
        ("gone.mp4", "does not exist"),
    ):
        with pytest.raises(PoisonError, match=message):
            labeller.prepare(clip_of(tmp_path / name, Prompt(1, box=BOX)))
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.mp4")
        with pytest.raises(PoisonError, match="it is a pipe"):
            labeller.prepare(clip_of(tmp_path / "pipe.mp4", Prompt(1, box=BOX)))
    with pytest.raises(PoisonError, match="there is no memory://nowhere"):
        labeller.prepare(clip_of("memory://nowhere/clip.mp4"))
    with pytest.raises(PoisonError, match="neither an address nor data"):
        labeller.prepare(Item("square.mp4", CLIP))


def test_labeller_of_pictures_and_clips_loses_only_what_is_damaged(video_folder, clip, video, tmp_path):
    whole = video.read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[:-100])
    Image.fromarray(clip[0]).save(tmp_path / "square.png")
    both = mask_prompt(clip, 1, 0)
    items = [
        clip_of(tmp_path / "cut.mp4", Prompt(1, box=BOX)),
        Item("square.png", address=str(tmp_path / "square.png"), prompts=(Prompt(1, box=BOX),)),
        clip_of(video, both, Prompt(1, 0, box=BOX)),
        clip_of(video, Prompt(1, LAST, box=BOX)),
    ]
    labeller = labeller_of(video_folder)
    cut, picture, wrong, good = label(labeller, items)
    assert "cannot be decoded" in str(cut) and "both a mask and clicks or a box" in str(wrong)
    assert picture.num_frames == 1 and {mask.object for mask in good.masks} == {1}
    labeller = labeller_of(video_folder)
    label(labeller, items[1:2])
    assert "for_clips" not in vars(labeller.labellers[CLIP].model)  # what is not needed is not loaded


def test_clip_labeller_rejects_models_without_a_memory(folder, video):
    labeller = labeller_of(folder)
    prepared = [labeller.prepare(clip_of(video, Prompt(1, box=BOX)))]
    with pytest.raises(ValueError, match="no memory for video"):  # which no clip is to blame for
        labeller.label(prepared)


def test_backward_frames_are_those_of_the_clip_and_each_is_decoded_once(clip):
    class Counted(StoredFrames):
        def _read(self, idx):
            read.append(idx)
            return super()._read(idx)

    read, frames = [], np.concatenate([clip] * 3)
    backward = BackwardFrames(Counted(torch.from_numpy(frames).permute(0, 3, 1, 2)))
    for idx in reversed(range(len(frames))):
        np.testing.assert_array_equal(backward[idx].permute(1, 2, 0), frames[idx])
    assert read == [*range(20, 36), *range(4, 20), *range(4)] and len(backward) == 36
    with pytest.raises(IndexError, match=r"0\.\.35"):
        backward[36]
