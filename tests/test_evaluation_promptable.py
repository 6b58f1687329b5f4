"""Promptable video segmentation: where and when a user clicks, with trackers of known results, and with a model."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from small_datasets import HEIGHT, WIDTH, square, write_frames, write_index

from edgetam_cli import main
from edgetam_hf.evaluation import promptable
from edgetam_hf.evaluation.metrics import boundary_measure, region_similarity
from edgetam_hf.evaluation.promptable import (
    ObjectVideo,
    Round,
    annotate_object,
    click_on_frame,
    next_frame,
    object_videos,
    report_rounds,
    scores_by_limit,
)
from edgetam_hf.evaluation.video_datasets import read_dataset

NUM_FRAMES = 11


@pytest.fixture
def video(tmp_path):
    """An object in a video of eleven frames, which is absent on frames 5 and 6."""
    write_frames(tmp_path / "JPEGImages/cat", NUM_FRAMES)
    for t in range(NUM_FRAMES):
        write_index(tmp_path / "Annotations/cat" / f"{t:05d}.png", [2] if t in (5, 6) else [1, 2], t)
    return ObjectVideo(read_dataset("mose", tmp_path)[0], 1)


class Oracle:
    """A tracker, and its processor, that finds an object rightly where it can see, and otherwise what it is told.

    Args:
        video: `ObjectVideo`.
        can_see: whether the mask is right, from the index of a frame and those of all frames that were clicked so far.
        otherwise: the mask where it is not.
    """

    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self, video, can_see, otherwise=None):
        self.video, self.can_see = video, can_see
        self.otherwise = np.zeros((HEIGHT, WIDTH), bool) if otherwise is None else otherwise
        self.passes, self.memory = [], {}

    def init_video_session(self, frames, inference_device, dtype, memory_selection="recent"):
        return SimpleNamespace(frames=frames, obj_ids=[], clicked=[])

    def add_inputs_to_inference_session(self, session, frame_idx, obj_ids, points, labels, clear_old_inputs):
        assert not clear_old_inputs
        session.obj_ids = [obj_ids]
        session.clicked.append(frame_idx)
        self.memory[frame_idx] = self.can_see(frame_idx, session.clicked)

    def __call__(self, session, frame_idx, return_dict):
        mask = self.video.truth(frame_idx) if self.memory[frame_idx] else self.otherwise
        return SimpleNamespace(frame_idx=frame_idx, pred_masks=torch.from_numpy(mask)[None, None])

    def propagate_in_video_iterator(self, session, start):
        self.passes.append(start)
        for t in range(start, len(session.frames)):
            self.memory[t] = self.can_see(t, session.clicked)
            yield self(session, t, True)

    @staticmethod
    def post_process_masks(masks, sizes):
        return masks


def frames_of(rounds):
    return [one.frame for one in rounds]


# Trackers whose result is known.


@pytest.mark.parametrize("mode", ["offline", "online"])
def test_tracker_that_is_right_needs_one_click(video, mode):
    oracle = Oracle(video, lambda t, clicked: True)
    (only,) = annotate_object(oracle, oracle, video, mode)
    assert (only.frame, only.j, only.f, oracle.passes) == (0, 1, 1, [0])
    ((x, y, label),) = only.clicks
    assert square(0, 0)[int(y), int(x)] and label == 1
    scores = scores_by_limit([only], 8)
    np.testing.assert_array_equal(scores, np.ones((8, 2)))


@pytest.mark.parametrize("mode", ["offline", "online"])
def test_tracker_that_finds_nothing_is_helped_on_eight_frames(video, mode):
    oracle = Oracle(video, lambda t, clicked: False)
    rounds = annotate_object(oracle, oracle, video, mode)
    assert frames_of(rounds) == [0, 1, 2, 3, 4, 7, 8, 9]  # not where the absent object is found to be absent
    assert oracle.passes == ([0] * 8 if mode == "offline" else frames_of(rounds))
    assert all(one.clicks == rounds[0].clicks[:1] * 3 for one in rounds[:1])
    assert all(len(one.clicks) == 3 and one.j == one.f == pytest.approx(2 / NUM_FRAMES) for one in rounds)
    assert frames_of(annotate_object(oracle, oracle, video, mode, num_frames=3)) == [0, 1, 2]


def test_online_tracker_is_helped_when_it_gets_lost(video):
    """It is right for three frames from a click on: what lies before a click is not made better by it."""
    oracle = Oracle(video, lambda t, clicked: any(0 <= t - start < 3 for start in clicked))
    rounds = annotate_object(oracle, oracle, video, "online")
    assert frames_of(rounds) == oracle.passes == [0, 3, 7, 10]
    assert [one.j * NUM_FRAMES for one in rounds] == pytest.approx([5, 7, 10, 11])
    assert [len(one.clicks) for one in rounds] == [1] * 4


def test_offline_tracker_is_helped_where_it_is_worst(video):
    """Away from the clicked frames it finds what the object was on frame 0, which fits less and less."""
    first = square(0, 0)
    oracle = Oracle(video, lambda t, clicked: any(abs(t - near) < 2 for near in clicked), first)
    rounds = annotate_object(oracle, oracle, video, "offline")
    # an absent object has IoU 0, then come the frames of the largest distance
    assert frames_of(rounds) == [0, 5, 7, 9, 3]
    assert oracle.passes == [0] * 5 and rounds[-1].j == rounds[-1].f == 1
    assert rounds[1].clicks[0][2] == 0  # off the object: there is none
    mean = np.mean([region_similarity(first if t > 1 else video.truth(t), video.truth(t)) for t in range(NUM_FRAMES)])
    assert rounds[0].j == pytest.approx(mean)


def test_next_frame_offline_is_the_lowest_of_the_others():
    ious = {0: 0.2, 3: 0.6, 4: 0.5, 7: 0.5, 9: 1.0}
    assert next_frame(ious, [0], "offline") == 4
    assert next_frame(ious, [0, 4, 7], "offline") == 3
    assert next_frame(ious, [0, 4, 7, 3], "offline") is None


def test_next_frame_online_is_the_first_low_one_after_the_last():
    ious = {0: 0.1, 1: 0.76, 2: 0.75, 3: 0.74, 4: 0.9, 5: 0.0}
    assert next_frame(ious, [0], "online") == 3
    assert next_frame(ious, [0, 3], "online") == 5
    assert next_frame(ious, [0, 3, 5], "online") is None


class Painter(Oracle):
    """Its mask, on all frames, is what lies within 10 pixels of clicks on the object, and not of clicks off it."""

    def add_inputs_to_inference_session(self, session, frame_idx, obj_ids, points, labels, clear_old_inputs):
        super().add_inputs_to_inference_session(session, frame_idx, obj_ids, points, labels, clear_old_inputs)
        (x, y), label, (rows, columns) = points[0][0][0], labels[0][0][0], np.ogrid[:HEIGHT, :WIDTH]
        self.otherwise[np.maximum(abs(columns - x), abs(rows - y)) < 10] = label == 1


def test_clicks_go_to_the_centre_and_then_to_errors(video):
    painter = Painter(video, lambda t, clicked: False)
    session = painter.init_video_session(video.sequence.frames, None, None)
    truth = np.zeros((HEIGHT, WIDTH), bool)
    truth[20:39, 10:67] = True  # three squares of 19 pixels side by side
    clicks = click_on_frame(painter, painter, session, 0, truth)
    assert clicks == [(19, 29, 1), (38, 29, 1), (57, 29, 1)]
    painter.memory[1] = False
    truth[:, 10:29] = False  # what is wrong with the tracked mask, and not the centre, gets the first click
    assert click_on_frame(painter, painter, session, 1, truth) == [(19, 29, 0)]


# The model.


def scores_of(video, masks):
    pairs = [(masks[t], video.truth(t)) for t in video.true_frames]
    return [float(np.mean([measure(*pair) for pair in pairs])) for measure in (region_similarity, boundary_measure)]


def test_online_rounds_equal_single_passes(video, video_model, video_processor, monkeypatch):
    """Round n is what a single pass gives that may pause n - 1 times."""
    monkeypatch.setattr(promptable, "PAUSE_IOU", 0.078)  # a random model is hardly ever better
    rounds = annotate_object(video_model, video_processor, video, "online", num_frames=3)
    assert frames_of(rounds) == [0, 4, 5]
    for limit, expected in enumerate(rounds, start=1):
        session, masks, frames = video_processor.init_video_session(video.sequence.frames), {}, []
        for t in video.frames:
            if frames:
                masks[t] = mask_of(video_processor, video_model(session, frame_idx=t))
            is_low = not frames or region_similarity(masks[t], video.truth(t)) < 0.078
            if is_low and len(frames) < limit:
                frames.append(t)
                clicks = click_on_frame(video_model, video_processor, session, t, video.truth(t))
                masks[t] = mask_of(video_processor, video_model(session, frame_idx=t))
        assert (frames, clicks) == (frames_of(rounds[:limit]), expected.clicks)
        assert (expected.j, expected.f) == pytest.approx(scores_of(video, masks), abs=1e-9)


def mask_of(processor, output):
    return processor.post_process_masks([output.pred_masks], [(HEIGHT, WIDTH)])[0][0, 0].numpy()


def test_offline_rounds_are_those_of_a_session(video, video_model, video_processor):
    rounds = annotate_object(video_model, video_processor, video, "offline", num_frames=3)
    session = video_processor.init_video_session(video.sequence.frames)
    done = []
    for one in rounds:
        for x, y, label in one.clicks:
            video_processor.add_inputs_to_inference_session(
                session, one.frame, 7, [[[[x, y]]]], [[[label]]], clear_old_inputs=False
            )
            video_model(session, frame_idx=one.frame)
        outputs = video_model.propagate_in_video_iterator(session)
        masks = {output.frame_idx: mask_of(video_processor, output) for output in outputs}
        assert (one.j, one.f) == pytest.approx(scores_of(video, masks), abs=1e-9)
        done.append(one.frame)
        ious = {t: region_similarity(masks[t], video.truth(t)) for t in video.true_frames if t not in done}
        if one is not rounds[-1]:
            assert ious[rounds[len(done)].frame] == min(ious.values())
    assert len({*done}) == 3 and [len(one.clicks) for one in rounds] == [3, 3, 3]


# Datasets.


def test_objects_have_their_own_videos(youtube_vos, sa_v):
    first, second = object_videos(read_dataset("youtube-vos", youtube_vos))
    assert (first.frames, second.frames) == (range(5), range(2, 5))
    assert (first.true_frames, second.true_frames) == ([0, 1, 2, 3, 4], [2, 3, 4])
    np.testing.assert_array_equal(second.truth(3), square(3, 1))
    sparse = object_videos(read_dataset("sa-v", sa_v))
    assert [video.name for video in sparse] == ["sav_1_0", "sav_1_1"] and sparse[0].true_frames == [0, 4, 8, 12]
    np.testing.assert_array_equal(sparse[1].truth(8), square(8, 1))


def test_only_frames_with_ground_truth_are_annotated(sa_v):
    video = object_videos(read_dataset("sa-v", sa_v))[0]
    oracle = Oracle(video, lambda t, clicked: False)
    oracle.video = SimpleNamespace(truth=lambda t: square(t, 0))
    for mode in ("offline", "online"):
        assert frames_of(annotate_object(oracle, oracle, video, mode)) == [0, 4, 8, 12]


def test_sets_without_ground_truth_are_rejected(youtube_vos, capsys, tmp_path):
    for t in (1, 3, 4):
        (youtube_vos / "Annotations/fish" / f"{t:05d}.png").unlink()
    (only,) = object_videos(read_dataset("youtube-vos", youtube_vos))  # object 2 is on one frame
    assert only.object_id == 1
    (youtube_vos / "Annotations/fish/00002.png").unlink()
    arguments = ["evaluate", "mose", str(youtube_vos), "--protocol", "offline", "--output", str(tmp_path / "out")]
    assert main(arguments) == 1
    assert "no object has ground truth on more than its first frame" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# Scores.


def test_report_counts_an_object_that_is_finished_for_higher_limits():
    rounds = [[Round(0, [], 0.2, 0.4), Round(3, [], 0.6, 0.8)], [Round(0, [], 1.0, 1.0)]]
    videos = [SimpleNamespace(sequence=SimpleNamespace(name="cat"), object_id=number) for number in (1, 2)]
    report = report_rounds(list(zip(videos, rounds)), 3)
    assert report["J"] == pytest.approx([0.6, 0.8, 0.8]) and report["F"] == pytest.approx([0.7, 0.9, 0.9])
    assert report["J&F"] == pytest.approx([0.65, 0.85, 0.85]) and report["average"] == pytest.approx(2.35 / 3)
    assert report["num_objects"] == [2, 1, 0]
    assert report["objects"][0]["rounds"][1] == {"frame": 3, "clicks": [], "j": 0.6, "f": 0.8}


# The command.


def test_evaluate_resumes_and_equals_a_whole_run(davis, video_folder, tmp_path, capsys):
    arguments = ["evaluate", "davis", str(davis), "--model", str(video_folder)]
    arguments += ["--protocol", "offline", "--frames", "2"]
    assert main([*arguments, "--json", "--output", str(tmp_path / "whole")]) == 0
    whole = json.loads(capsys.readouterr().out)
    assert [(row["sequence"], row["object"]) for row in whole["objects"]] == [
        (name, number) for name in ("cat", "dog") for number in (1, 2)
    ]
    assert all(len(row["rounds"]) == 2 for row in whole["objects"]) and len(whole["J&F"]) == 2
    assert main([*arguments, "--output", str(tmp_path / "parts"), "--sequences", "dog"]) == 0
    (tmp_path / "parts/objects/dog_2.json").unlink()
    written = (tmp_path / "parts/objects/dog_1.json").stat().st_mtime_ns
    capsys.readouterr()
    assert main([*arguments, "--output", str(tmp_path / "parts")]) == 0
    text = capsys.readouterr().out
    scores = json.loads((tmp_path / "parts/scores.json").read_text())
    assert scores == {name: whole[name] for name in scores}
    assert (tmp_path / "parts/objects/dog_1.json").stat().st_mtime_ns == written
    assert re.search(rf"^2 +{100 * whole['J&F'][1]:.1f} .* 4$", text, re.MULTILINE)
    assert re.search(rf"^mean +{100 * whole['average']:.1f} ", text, re.MULTILINE) and "offline: up to 3 clicks" in text


def test_evaluate_writes_pictures_of_scores_and_clicks(davis, video_folder, tmp_path):
    pytest.importorskip("matplotlib", reason="plots need matplotlib")
    arguments = ["--protocol", "offline", "--frames", "2", "--sequences", "cat", "--output", str(tmp_path / "out")]
    assert main(["evaluate", "davis", str(davis), "--model", str(video_folder), *arguments]) == 0
    with Image.open(tmp_path / "out/plot.png") as plot:
        assert plot.size == (1200, 675)
    pictures = sorted((tmp_path / "out/clicks").iterdir())
    assert sorted(path.name[2:] for path in pictures) == ["cat_1.png", "cat_2.png"]
    with Image.open(pictures[0]) as picture:
        assert picture.size == (2 * WIDTH, HEIGHT)


def test_evaluate_keeps_runs_of_other_settings_apart(davis, video_folder, tmp_path, capsys):
    arguments = ["evaluate", "davis", str(davis), "--model", str(video_folder), "--sequences", "cat"]
    arguments += ["--output", str(tmp_path / "out")]
    assert main([*arguments, "--protocol", "online", "--frames", "1"]) == 0
    for other, name in (
        (["--protocol", "online"], "frames"),
        (["--protocol", "offline", "--frames", "1"], "protocol"),
        ([], "protocol, frames"),
    ):
        assert main([*arguments, *other]) == 1
        assert f"results of another {name}: choose another --output" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["davis", "ROOT", "--frames", "3"], "--frames is for --protocol offline and online"),
        (["davis", "ROOT", "--protocol", "online", "--results", "x"], "leave --results and --submission out"),
        (["mose", "ROOT", "--protocol", "offline", "--submission", "x.zip"], "leave --results and --submission out"),
        (["clicks", "ROOT", "--protocol", "offline"], "--protocol offline is for videos"),
        (["clicks", "ROOT", "--results", "x"], "leave --results and --submission out"),
        (["davis", "ROOT", "--train-meta", "meta.json"], "--train-meta is for youtube-vos"),
        (
            ["youtube-vos", "ROOT", "--train-meta", "meta.json", "--protocol", "online"],
            "--train-meta is for youtube-vos",
        ),
    ],
)
def test_evaluate_rejects_options_that_do_not_go_together(arguments, message, capsys):
    assert main(["evaluate", *arguments]) == 1
    assert message in capsys.readouterr().err
