"""`edgetam evaluate`: datasets in their layouts, results of a small model, scores, and how it refuses."""

import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from small_datasets import HEIGHT, NUM_FRAMES, WIDTH, square, write_index
from small_models import make_processor

from edgetam_cli import main
from edgetam_hf.evaluation.clicks import center_of, click_ious, read_masked_pictures
from edgetam_hf.evaluation.inference import share_of, track_sequence, write_sequence
from edgetam_hf.evaluation.metrics import region_similarity
from edgetam_hf.evaluation.scoring import ObjectScores, report_categories, report_scores, score_results
from edgetam_hf.evaluation.video_datasets import (
    VideoSequence,
    read_categories,
    read_dataset,
    read_indices,
    read_mask_files,
)
from edgetam_hf.formats.index_pictures import index_picture
from edgetam_hf.found_objects import CutMask

GOLDEN = Path(__file__).with_name("golden_metrics")


def pictures(folder):
    """Values of all result pictures, by path."""
    return {str(path.relative_to(folder)): read_indices(path) for path in sorted(Path(folder).rglob("*.png"))}


def assert_same_pictures(actual, expected):
    assert list(pictures(actual)) == list(pictures(expected)) != []
    for path, indices in pictures(expected).items():
        np.testing.assert_array_equal(pictures(actual)[path], indices)


# Scores.


def test_scores_equal_those_of_davis2017_evaluation(tmp_path, capsys):
    expected = json.loads((GOLDEN / "expected.json").read_text())
    arguments = ["--results", str(GOLDEN / "results"), "--output", str(tmp_path / "out"), "--json"]
    assert main(["evaluate", "davis", str(GOLDEN / "gt"), *arguments]) == 0
    report = json.loads(capsys.readouterr().out)
    found = {f"{row['sequence']}_{row['object']}": row for row in report["objects"]}
    assert set(found) == set(expected["per_object"])
    for name, values in expected["per_object"].items():
        for kind in "JF":
            assert found[name][kind]["mean"] == pytest.approx(values[kind], abs=1e-6)
    for name, value in report["total"].items():
        assert value == pytest.approx(expected["JF_mean" if name == "J&F" else name], abs=1e-6)
    assert json.loads((tmp_path / "out" / "scores.json").read_text())["total"] == report["total"]
    assert len(list((tmp_path / "out" / "worst").glob("*.png"))) == 5
    assert (tmp_path / "out" / "worst" / "1_miss_3_frame00001.png").exists()


def test_score_table_has_objects_total_and_anchor(tmp_path, capsys):
    main(["evaluate", "davis", str(GOLDEN / "gt"), "--results", str(GOLDEN / "results"), "--output", str(tmp_path)])
    text = capsys.readouterr().out
    assert re.search(r"^same_1 +100\.0 +100\.0", text, re.MULTILINE)
    assert re.search(r"^total +74\.5 +75\.4", text, re.MULTILINE) and "DAVIS 2017 val 87.7" in text


def test_plot_is_a_picture(tmp_path):
    pytest.importorskip("matplotlib", reason="plots need matplotlib")
    main(["evaluate", "davis", str(GOLDEN / "gt"), "--results", str(GOLDEN / "results"), "--output", str(tmp_path)])
    with Image.open(tmp_path / "plot.png") as plot:
        assert plot.size == (1200, 675)


def test_sa_v_scores_annotated_frames_of_each_object(sa_v):
    (sequence,) = read_dataset("sa-v", sa_v)
    assert list(sequence.annotations) == [0, 4, 8, 12] and sequence.object_ids == [0, 1]
    scores = score_results([sequence], sa_v / "Annotations_6fps", is_per_object=True)
    assert [of_object.frames for of_object in scores] == [[4, 8], [4, 8]]
    assert report_scores(scores)["total"]["J&F"] == 1


def test_objects_that_appear_later_count_from_then_on(youtube_vos):
    (sequence,) = read_dataset("youtube-vos", youtube_vos)
    assert sequence.first_frames == {1: 0, 2: 2} and list(sequence.first_masks(2)) == [2]
    assert (sequence.scored_frames(1), sequence.scored_frames(2)) == ([1, 2, 3, 4], [3, 4])
    (mose,) = read_dataset("mose", youtube_vos)  # where the masks alone tell, and the last frame does not count
    assert mose.first_frames == {1: 0, 2: 2}
    assert (mose.scored_frames(1), mose.scored_frames(2)) == ([1, 2, 3], [3])


# G of YouTube-VOS.


def category_sequences():
    """Two sequences with the categories of their objects."""
    categories = {"pond": {1: "fish", 2: "crab"}, "wood": {1: "fox"}}
    return [VideoSequence(name, None, {}, categories=of_sequence) for name, of_sequence in categories.items()]


CATEGORY_SCORES = [
    ObjectScores("pond", 1, [1, 2], [0.8, 0.6], [0.9, 0.7]),  # of objects, not of frames, the means are taken
    ObjectScores("pond", 2, [2], [0.4], [0.2]),
    ObjectScores("wood", 1, [1, 2, 3], [0.1, 0.2, 0.3], [0.3, 0.4, 0.5]),
]


def test_g_is_the_mean_of_seen_and_unseen_j_and_f():
    found = report_categories(CATEGORY_SCORES, category_sequences(), {"fish", "fox", "owl"})
    expected = {"J_seen": (0.7 + 0.2) / 2, "F_seen": (0.8 + 0.4) / 2, "J_unseen": 0.4, "F_unseen": 0.2}
    assert found.pop("G") == pytest.approx((0.45 + 0.6 + 0.4 + 0.2) / 4)
    assert (found.pop("num_seen"), found.pop("num_unseen")) == (2, 1)
    assert found == pytest.approx(expected)


def test_g_says_what_is_missing():
    sequences = category_sequences()
    assert (
        "give meta.json of that split with --train-meta"
        in report_categories(CATEGORY_SCORES, sequences, None)["missing"]
    )
    for seen, group in (({"fish", "fox", "crab"}, "unseen"), ({"owl"}, "seen")):
        assert f"no object of {group} categories" in report_categories(CATEGORY_SCORES, sequences, seen)["missing"]
    sequences[1].categories = None
    missing = report_categories(CATEGORY_SCORES, sequences, {"fish"})["missing"]
    assert "no category of object 1 of sequence wood" in missing


@pytest.mark.parametrize("name", ["meta.json", "seen.txt"])
def test_evaluate_prints_g_with_the_seen_categories(name, youtube_vos, tmp_path, capsys):
    seen = tmp_path / name
    objects = {"1": {"category": "fish", "frames": ["00000"]}, "2": {"category": "owl", "frames": ["00005"]}}
    seen.write_text("fish\nowl\n\n" if name == "seen.txt" else json.dumps({"videos": {"lake": {"objects": objects}}}))
    results = tmp_path / "results"
    for t in range(NUM_FRAMES):  # of the two frames that count for object 2 it is found on one
        write_index(results / "fish" / f"{t:05d}.png", [1, 2] if t == 4 else [1], t)
    arguments = [
        "evaluate",
        "youtube-vos",
        str(youtube_vos),
        "--results",
        str(results),
        "--output",
        str(tmp_path / "out"),
    ]
    assert main([*arguments, "--train-meta", str(seen)]) == 0
    text = capsys.readouterr().out
    assert "G 75.0: J seen 100.0, F seen 100.0, J unseen 50.0, F unseen 50.0; objects: 1 of seen, 1 of unseen" in text
    assert "G in the paper (EdgeTAM): YouTube-VOS 2019 val 86.2" in text
    assert json.loads((tmp_path / "out/scores.json").read_text())["categories"]["G"] == 0.75
    assert main(arguments) == 0
    assert "no G: it needs the categories seen in training" in capsys.readouterr().out


def test_seen_categories_reject_other_files(youtube_vos, tmp_path, capsys):
    empty = tmp_path / "empty.txt"
    empty.write_text("\n")
    with pytest.raises(ValueError, match=r"empty\.txt has no categories: give meta\.json of the training split"):
        read_categories(empty)
    other = tmp_path / "other.json"
    other.write_text('{"videos": ["fish"]}')
    arguments = ["--results", str(youtube_vos / "Annotations"), "--train-meta", str(other)]
    assert main(["evaluate", "youtube-vos", str(youtube_vos), *arguments, "--output", str(tmp_path / "out")]) == 1
    assert "as in YouTube-VOS" in capsys.readouterr().err and not (tmp_path / "out").exists()


# Results.


@pytest.mark.parametrize("has_boxes", [False, True])
def test_results_are_those_of_the_session(davis, video_model, video_processor, tmp_path, has_boxes):
    sequence = read_dataset("davis", davis, ["cat"])[0]
    write_sequence(video_model, video_processor, sequence, tmp_path, has_boxes=has_boxes)
    session = video_processor.init_video_session(str(davis / "JPEGImages/480p/cat"))
    masks = [square(0, 0), square(0, 1)]
    prompts = {"input_boxes": [[CutMask.of(mask).box for mask in masks]]} if has_boxes else {"input_masks": masks}
    video_processor.add_inputs_to_inference_session(session, 0, [1, 2], **prompts)
    for output in video_model.propagate_in_video_iterator(session):
        logits = video_processor.post_process_masks([output.pred_masks], [[HEIGHT, WIDTH]], binarize=False)[0][:, 0]
        best = torch.cat((torch.zeros_like(logits[:1]), logits)).argmax(0)
        found = read_indices(tmp_path / "cat" / f"{output.frame_idx:05d}.png")
        np.testing.assert_array_equal(found, best.numpy())
    assert found.any() and not list(tmp_path.glob(".*"))


def test_object_that_appears_later_is_tracked_as_if_alone(youtube_vos, video_model, video_processor):
    (sequence,) = read_dataset("youtube-vos", youtube_vos)
    found = dict(track_sequence(video_model, video_processor, sequence, non_overlapping=False))
    assert [sorted(masks) for masks in found.values()] == [[1], [1], [1, 2], [1, 2], [1, 2]]
    for number, start in ((1, 0), (2, 2)):
        session = video_processor.init_video_session(str(youtube_vos / "JPEGImages/fish"))
        video_processor.add_inputs_to_inference_session(session, start, number, input_masks=[square(start, number - 1)])
        for output in video_model.propagate_in_video_iterator(session):
            (mask,) = video_processor.post_process_masks([output.pred_masks], [[HEIGHT, WIDTH]])[0][0]
            assert (torch.from_numpy(found[output.frame_idx][number]) != mask).float().mean() < 1e-3


def test_per_object_results_may_overlap(sa_v, video_model, video_processor, tmp_path):
    (sequence,) = read_dataset("sa-v", sa_v)
    write_sequence(video_model, video_processor, sequence, tmp_path, is_per_object=True)
    found = dict(track_sequence(video_model, video_processor, sequence, non_overlapping=False))
    for t, masks in found.items():
        for number, mask in masks.items():
            files = {number: tmp_path / "sav_1" / f"{number:03d}" / f"{t:05d}.png"}
            np.testing.assert_array_equal(read_mask_files(files, (HEIGHT, WIDTH)).get(number, 0 * mask), mask)
    assert score_results([sequence], tmp_path, is_per_object=True)


def test_evaluate_resumes_and_equals_a_whole_run(davis, video_folder, tmp_path, capsys):
    arguments = ["evaluate", "davis", str(davis), "--model", str(video_folder), "--json", "--output"]
    assert main([*arguments, str(tmp_path / "whole")]) == 0
    whole = json.loads(capsys.readouterr().out)
    assert main([*arguments, str(tmp_path / "parts"), "--sequences", "dog"]) == 0
    finished = tmp_path / "parts/masks/dog/00001.png"
    written = finished.stat().st_mtime_ns
    (tmp_path / "parts/masks/.writing_cat").mkdir()
    (tmp_path / "parts/masks/.writing_cat/00000.png").write_bytes(b"half")
    capsys.readouterr()
    assert main([*arguments, str(tmp_path / "parts")]) == 0
    assert json.loads(capsys.readouterr().out)["objects"] == whole["objects"]
    assert finished.stat().st_mtime_ns == written
    assert_same_pictures(tmp_path / "parts/masks", tmp_path / "whole/masks")
    assert sorted(path.name for path in (tmp_path / "parts/masks").iterdir()) == ["cat", "dog"]
    assert main([*arguments, str(tmp_path / "parts"), "--preprocessing", "release"]) == 1
    assert "results of another preprocessing: choose another --output" in capsys.readouterr().err


def test_evaluate_stops_at_a_damaged_frame_and_keeps_finished_sequences(davis, video_folder, tmp_path, capsys):
    frame = davis / "JPEGImages/480p/dog/00003.png"
    frame.write_bytes(frame.read_bytes()[:200])
    arguments = ["evaluate", "davis", str(davis), "--model", str(video_folder), "--output", str(tmp_path / "out")]
    assert main(arguments) == 1
    assert re.search(r"frame 3 \(.*dog/00003\.png\) cannot be (read|decoded)", capsys.readouterr().err)
    assert [path.name for path in (tmp_path / "out/masks").iterdir()] == ["cat"]


def test_release_preprocessing_changes_frames(davis, video_folder, tmp_path, capsys):
    for name in ("native", "release"):
        arguments = ["--preprocessing", name, "--output", str(tmp_path / name), "--sequences", "cat"]
        assert main(["evaluate", "davis", str(davis), "--model", str(video_folder), *arguments]) == 0
    native, release = (pictures(tmp_path / name / "masks") for name in ("native", "release"))
    assert any((native[path] != release[path]).any() for path in native)


def in_two_processes(runs, script):
    """Lists of reports of command lines that two processes share: only one reports, unless they do not share them."""
    script.write_text(
        "import json, sys\n"
        "from edgetam_cli import main\n"
        "sys.exit(max(main(arguments) for arguments in json.loads(sys.argv[1])))\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    done = subprocess.run([*command, json.dumps(runs)], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def test_two_processes_equal_one(davis, masked_pictures, folder, video_folder, tmp_path, capsys):
    runs = [
        ["davis", str(davis), "--model", str(video_folder)],
        ["davis", str(davis), "--model", str(video_folder), "--protocol", "online", "--frames", "2"],
        ["clicks", str(masked_pictures), "--model", str(folder)],
    ]
    common = ["--device", "cpu", "--json", "--output"]
    whole = [["evaluate", *run, *common, str(tmp_path / f"whole{n}")] for n, run in enumerate(runs)]
    shared = [["evaluate", *run, *common, str(tmp_path / f"shared{n}")] for n, run in enumerate(runs)]
    assert [main(arguments) for arguments in whole] == [0, 0, 0]
    expected = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    reports = in_two_processes(shared, tmp_path / "run.py")
    assert [report["objects"] for report in reports] == [report["objects"] for report in expected]
    assert [len(report["objects"]) for report in reports] == [4, 4, 4]
    assert_same_pictures(tmp_path / "shared0/masks", tmp_path / "whole0/masks")


def test_shares_are_disjoint_and_whole(davis):
    sequences = read_dataset("davis", davis)
    shares = [share_of(sequences, idx, 2) for idx in range(2)]
    assert [len(share) for share in shares] == [1, 1]
    assert sorted(sequence.name for share in shares for sequence in share) == ["cat", "dog"]


@pytest.mark.parametrize("dataset, prefix", [("youtube-vos", "Annotations/"), ("mose", "")])
def test_submission_has_all_frames(dataset, prefix, youtube_vos, video_folder, tmp_path):
    path = tmp_path / "submission.zip"
    arguments = ["--model", str(video_folder), "--output", str(tmp_path / "out"), "--submission", str(path)]
    assert main(["evaluate", dataset, str(youtube_vos), *arguments]) == 0
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == [f"{prefix}fish/{t:05d}.png" for t in range(NUM_FRAMES)]
        with archive.open(f"{prefix}fish/00000.png") as file:
            assert Image.open(file).mode == "P"


# Bad input.


def test_index_pictures_are_read_in_every_form(tmp_path):
    indices = np.array([[0, 1, 2], [255, 2, 0]], np.uint8)
    expected = np.where(indices == 255, 0, indices)
    Image.fromarray(indices).save(tmp_path / "grey.png")
    palette = Image.fromarray(indices)
    palette.putpalette([10, 20, 30] * 256)
    palette.save(tmp_path / "palette.png")
    Image.fromarray(indices.astype(np.uint16)).save(tmp_path / "grey16.png")
    for name in ("grey", "palette", "grey16"):
        np.testing.assert_array_equal(read_indices(tmp_path / f"{name}.png"), expected)


def test_index_pictures_reject_colours_and_large_ids(tmp_path):
    Image.fromarray(np.full((2, 2), 256, np.uint16)).save(tmp_path / "large.png")
    Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(tmp_path / "colours.png")
    (tmp_path / "damaged.png").write_bytes(b"\x89PNG")
    for name, message in (("large", "object id 256: ids go up to 255"), ("colours", "mode RGB")):
        with pytest.raises(ValueError, match=message):
            read_indices(tmp_path / f"{name}.png")
    with pytest.raises(ValueError, match="cannot be read"):
        read_indices(tmp_path / "damaged.png")


def test_dataset_rejects_another_layout(davis, sa_v):
    with pytest.raises(ValueError, match=r"layout of SA-V: looked for JPEGImages_24fps, Annotations_6fps, found no "):
        read_dataset("sa-v", davis)
    shutil.rmtree(davis / "ImageSets")
    with pytest.raises(ValueError, match=r"looked for JPEGImages/480p, .*, found no ImageSets/2017/val\.txt"):
        read_dataset("davis", davis)
    with pytest.raises(ValueError, match="has no sequence owl, it has sav_1"):
        read_dataset("sa-v", sa_v, ["owl"])


def test_dataset_rejects_missing_frames(davis):
    (davis / "JPEGImages/480p/dog/00002.png").unlink()
    with pytest.raises(ValueError, match=r"sequence dog lacks the frame of annotation .*00002\.png"):
        read_dataset("davis", davis)
    shutil.rmtree(davis / "JPEGImages/480p/dog")
    with pytest.raises(ValueError, match="sequence dog has no folder"):
        read_dataset("davis", davis)


def test_dataset_rejects_an_empty_first_mask(davis, sa_v):
    Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint8)).save(davis / "Annotations/480p/cat/00000.png")
    with pytest.raises(ValueError, match=r"sequence cat: the first annotation, .*00000\.png, has no object"):
        read_dataset("davis", davis)
    for path in (sa_v / "Annotations_6fps/sav_1/001").iterdir():
        Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint8)).save(path)
    with pytest.raises(ValueError, match="all masks of object 1 are empty"):
        read_dataset("sa-v", sa_v)[0].object_ids  # noqa: B018


def test_dataset_rejects_masks_of_another_size(davis):
    Image.fromarray(np.ones((HEIGHT, WIDTH - 1), np.uint8)).save(davis / "Annotations/480p/cat/00000.png")
    with pytest.raises(ValueError, match="must have the size of the video, 120x90, got 119x90"):
        read_dataset("davis", davis)


def test_meta_json_rejects_what_does_not_fit(youtube_vos):
    meta = youtube_vos / "meta.json"
    text = meta.read_text()
    meta.write_text(text.replace('["00002"]', '["00001"]'))
    with pytest.raises(ValueError, match="object 2 has an empty first mask, on frame 1"):
        read_dataset("youtube-vos", youtube_vos)[0].first_masks(1)
    meta.write_text(text.replace('["00002"]', '["00009"]'))
    with pytest.raises(ValueError, match="lacks frame 00009, which meta"):
        read_dataset("youtube-vos", youtube_vos)
    meta.write_text(text.replace("objects", "things"))
    with pytest.raises(ValueError, match="as in YouTube-VOS"):
        read_dataset("youtube-vos", youtube_vos)


def test_results_that_do_not_match_are_rejected(davis):
    results = davis / "Annotations/480p"
    sequences = read_dataset("davis", davis)
    copy = davis / "copy"
    shutil.copytree(results, copy)
    index_picture([square(2, 0), square(2, 1)], [1, 7]).save(copy / "cat/00002.png")
    with pytest.raises(ValueError, match=r"00002\.png has object 7, the sequence has \[1, 2\]"):
        score_results(sequences, copy)
    (copy / "cat/00002.png").unlink()
    with pytest.raises(ValueError, match=r"cat/00002\.png cannot be read: No such file"):
        score_results(sequences, copy)


def test_evaluate_says_that_nothing_can_be_scored(youtube_vos, capsys, tmp_path):
    for t in range(1, NUM_FRAMES):
        (youtube_vos / "Annotations/fish" / f"{t:05d}.png").unlink()
    arguments = ["--results", str(youtube_vos / "Annotations"), "--output", str(tmp_path / "out")]
    assert main(["evaluate", "mose", str(youtube_vos), *arguments]) == 1
    assert "no object has ground truth to score" in capsys.readouterr().err
    assert main(["evaluate", "davis", str(youtube_vos), *arguments, "--submission", "x.zip"]) == 1
    assert "--submission is for mose and youtube-vos" in capsys.readouterr().err


# Clicks on pictures.


def test_clicks_are_answered_as_by_the_model(masked_pictures, folder, model, capsys, tmp_path):
    arguments = ["evaluate", "clicks", str(masked_pictures), "--model", str(folder), "--json", "--output"]
    assert main([*arguments, str(tmp_path / "out")]) == 0
    report = json.loads(capsys.readouterr().out)
    assert json.loads((tmp_path / "out/clicks.json").read_text()) == report
    assert [(row["picture"], row["object"]) for row in report["objects"]] == [
        (name, number) for name in ("00000", "00001") for number in (1, 2)
    ]
    assert len(report["mIoU"]) == 5
    processor, truth = make_processor(128), square(1, 1)
    with Image.open(masked_pictures / "images/00001.png") as image:
        click, label = center_of(truth), 1
        inputs = processor(images=image, input_points=[[[click]]], input_labels=[[[label]]], return_tensors="pt")
    with torch.no_grad():
        outputs = model(**inputs)
    best = outputs.iou_scores[0, 0].argmax()
    masks = processor.post_process_masks(outputs.pred_masks, inputs["original_sizes"])[0][0]
    assert report["objects"][3]["IoU"][0] == pytest.approx(region_similarity(masks[best].numpy(), truth), abs=1e-3)


class Painter:
    """A model and processor whose mask of an object is what lies within 10 pixels of clicks on it, and not off it."""

    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self):
        self.post_process_masks = make_processor(96).post_process_masks

    def __call__(self, images=None, **inputs):
        if images is not None:
            return {"pixel_values": torch.zeros(1)}
        if "image_embeddings" not in inputs:
            return Inputs(inputs)
        logits = torch.stack(
            [self.paint(*given) for given in zip(inputs["input_points"][0], inputs["input_labels"][0])]
        )
        return SimpleNamespace(pred_masks=logits[None, :, None], iou_scores=torch.zeros(1, len(logits), 1))

    def get_image_embeddings(self, pixel_values):
        return pixel_values

    def paint(self, points, labels):
        y, x = np.mgrid[:HEIGHT, :WIDTH]
        logits = np.full((HEIGHT, WIDTH), -1.0)
        for (click_x, click_y), label in zip(points, labels):
            near = np.maximum(abs(x - click_x), abs(y - click_y)) < 10
            logits[near & (label >= 0)] = 1.0 if label == 1 else -1.0
        return torch.from_numpy(logits)


class Inputs(dict):
    def to(self, device):
        return self


def test_clicks_go_where_the_mask_is_most_wrong():
    """What is painted grows into the object click by click, and a mask that is right gets no more of them."""
    wide, small = np.zeros((2, HEIGHT, WIDTH), bool)
    wide[20:39, 10:67] = True  # three squares of 19 pixels side by side
    small[60:79, 80:99] = True
    ious = click_ious(Painter(), Painter(), np.zeros((HEIGHT, WIDTH, 3), np.uint8), [wide, small], num_clicks=5)
    np.testing.assert_allclose(ious, [[1 / 3, 2 / 3, 1, 1, 1], [1, 1, 1, 1, 1]])


def test_pictures_without_masks_are_rejected(masked_pictures, folder, capsys):
    (masked_pictures / "masks/00001.png").unlink()
    with pytest.raises(ValueError, match="masks has no picture 00001"):
        read_masked_pictures(masked_pictures)
    shutil.rmtree(masked_pictures / "masks")
    assert main(["evaluate", "clicks", str(masked_pictures), "--model", str(folder)]) == 1
    assert "found no masks/" in capsys.readouterr().err
