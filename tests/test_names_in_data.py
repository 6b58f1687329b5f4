"""What data name, and what lies about in their folders: nothing leads out of a folder, and nothing foreign is lost."""

import json

import numpy as np
import pytest
from PIL import Image
from small_datasets import square, write_index
from training_sources import write_coco

from edgetam_cli import main
from edgetam_hf.evaluation.clicks import read_masked_pictures
from edgetam_hf.evaluation.inference import write_sequence
from edgetam_hf.evaluation.scoring import score_results
from edgetam_hf.evaluation.video_datasets import VideoSequence, read_categories, read_dataset, read_indices
from edgetam_hf.files.names import check_name, inside
from edgetam_hf.training.pictures import CocoPictures

BAD_NAMES = [
    "../cat",
    "cat/../../x",
    "/etc",
    "C:\\x",
    "C:x",
    "\\\\server\\x",
    "a\\..\\..\\x",
    "..",
    ".",
    "",
    "a\0b",
    "\ud800",
]


@pytest.mark.parametrize("name", [*BAD_NAMES, None, 7, ["a"], {}])
def test_inside_rejects_names_that_lead_out(name, tmp_path):
    with pytest.raises(ValueError, match="names nothing inside"):
        inside(tmp_path, name)
    with pytest.raises(ValueError, match="the video has the name"):
        check_name(name, "the video")


@pytest.mark.parametrize("name", ["a", "a/b.jpg", "été", "a b", "a..b", "...a"])
def test_inside_gives_the_path_of_other_names(name, tmp_path):
    assert inside(tmp_path, name) == inside(tmp_path, name, is_written=True) == tmp_path / name


def test_inside_rejects_links_that_lead_out_where_something_is_written(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "linked").symlink_to(tmp_path)
    assert inside(tmp_path / "out", "linked/x") == tmp_path / "out/linked/x"
    with pytest.raises(ValueError, match="is a link that leads out of"):
        inside(tmp_path / "out", "linked/x", is_written=True)


@pytest.mark.parametrize("name", ["../victim", "/victim", "a/b", ".hidden"])
def test_listed_sequences_reject_names_that_lead_out(name, davis):
    (davis / "ImageSets/2017/val.txt").write_text(f"cat\n{name}\n")
    with pytest.raises(ValueError, match=r"a sequence of .*val\.txt has the name"):
        read_dataset("davis", davis)


def test_meta_json_rejects_names_that_lead_out(youtube_vos):
    meta = youtube_vos / "meta.json"
    meta.write_text(meta.read_text().replace('"fish": {"objects"', '"../fish": {"objects"'))
    with pytest.raises(ValueError, match=r"a sequence of .*meta\.json has the name '\.\./fish'"):
        read_dataset("youtube-vos", youtube_vos)


@pytest.mark.parametrize("of_object", [{"frames": [["00000"]]}, {"frames": "00000"}, {"frames": []}, {}, [], 5, None])
def test_meta_json_rejects_other_types(of_object, youtube_vos):
    (youtube_vos / "meta.json").write_text(json.dumps({"videos": {"fish": {"objects": {"1": of_object}}}}))
    with pytest.raises(ValueError, match="as in YouTube-VOS"):
        read_dataset("youtube-vos", youtube_vos)


@pytest.mark.parametrize(
    "content", ["[]", "5", "[" * 100_000, '{"videos": []}', '{"videos": {"fish": 3}}', "{", '{"a": 1}']
)
def test_meta_json_rejects_other_json(content, youtube_vos):
    (youtube_vos / "meta.json").write_text(content)
    with pytest.raises(ValueError, match=r"meta\.json"):
        read_dataset("youtube-vos", youtube_vos)


@pytest.mark.parametrize("number", ["0", "255", "-1", "1_0", "²", "9" * 5000])
def test_meta_json_rejects_object_ids_that_a_byte_cannot_hold(number, youtube_vos):
    (youtube_vos / "meta.json").write_text(json.dumps({"videos": {"fish": {"objects": {number: {"frames": ["0"]}}}}}))
    with pytest.raises(ValueError, match="as in YouTube-VOS"):
        read_dataset("youtube-vos", youtube_vos)


def test_sequence_of_any_origin_is_written_and_read_inside_its_folder(davis, tmp_path):
    sequence = read_dataset("davis", davis, ["cat"])[0]
    outside = VideoSequence("../victim", sequence.frames, sequence.annotations)
    with pytest.raises(ValueError, match="names nothing inside"):
        write_sequence(None, None, outside, tmp_path / "out")
    with pytest.raises(ValueError, match="names nothing inside"):
        score_results([outside], tmp_path / "out")
    assert not (tmp_path / "victim").exists()


@pytest.mark.parametrize("name", ["../../instances.json", "/etc/passwd", "C:\\a.png"])
def test_coco_rejects_file_names_that_lead_out(name, tmp_path):
    path, images = write_coco(tmp_path)
    data = json.loads(path.read_text())
    data["images"][0]["file_name"] = name
    path.write_text(json.dumps(data))
    with pytest.raises(ValueError, match="names nothing inside"):
        CocoPictures(path, images)


def test_lists_may_begin_with_a_byte_order_mark(davis, tmp_path):
    listing = davis / "ImageSets/2017/val.txt"
    listing.write_text(listing.read_text(), encoding="utf-8-sig")
    assert [sequence.name for sequence in read_dataset("davis", davis)] == ["cat", "dog"]
    (tmp_path / "seen.txt").write_text("fish\n", encoding="utf-8-sig")
    assert read_categories(tmp_path / "seen.txt") == {"fish"}
    path, images = write_coco(tmp_path / "coco")
    path.write_text(path.read_text(), encoding="utf-8-sig")
    assert len(CocoPictures(path, images)) == 2
    listing.write_bytes("château\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"val\.txt is no text in UTF-8"):
        read_dataset("davis", davis)


def test_hidden_files_beside_annotations_do_not_count(davis, sa_v, masked_pictures):
    for path in (davis / "Annotations/480p/cat", davis / "JPEGImages/480p/cat", sa_v / "Annotations_6fps/sav_1/000"):
        (path / "._00000.png").write_bytes(b"\0\5\26\7")
    (sa_v / "Annotations_6fps" / ".Trash").mkdir()
    (masked_pictures / "masks" / "._00000.png").write_bytes(b"\0\5\26\7")
    assert [sequence.name for sequence in read_dataset("sa-v", sa_v)] == ["sav_1"]
    assert list(read_dataset("davis", davis, ["cat"])[0].annotations) == [0, 1, 2, 3, 4]
    assert len(read_masked_pictures(masked_pictures)) == 2


def test_grey_masks_of_0_and_255_are_object_1(davis, tmp_path):
    mask = square(0, 0).astype(np.uint8)
    for t in range(5):
        Image.fromarray(255 * mask).save(davis / "Annotations/480p/cat" / f"{t:05d}.png")
    (sequence,) = read_dataset("davis", davis, ["cat"])
    assert sequence.object_ids == [1]
    np.testing.assert_array_equal(sequence.first_masks(0)[1], mask > 0)
    palette = Image.fromarray(255 * mask)  # in which 255 are pixels without a verdict
    palette.putpalette([10, 20, 30] * 256)
    palette.save(tmp_path / "palette.png")
    assert not read_indices(tmp_path / "palette.png").any()
    Image.fromarray(np.full((2, 2), -3, np.int32)).save(tmp_path / "negative.tif")
    with pytest.raises(ValueError, match="object id -3"):
        read_indices(tmp_path / "negative.tif")


def scores_of(davis, output):
    """Exit code of scoring the true masks."""
    return main(
        [
            "evaluate",
            "davis",
            str(davis),
            "--results",
            str(davis / "Annotations/480p"),
            "--output",
            str(output),
            "--json",
        ]
    )


def test_pictures_of_the_worst_objects_replace_only_earlier_ones(davis, tmp_path, capsys):
    out = tmp_path / "out"
    (out / "worst").mkdir(parents=True)
    (out / "worst" / "holiday.png").touch()
    (out / "worst" / "1_owl_3_frame00001.png").touch()  # of an earlier report
    assert scores_of(davis, out) == 0
    names = {path.name for path in (out / "worst").iterdir()}
    assert "holiday.png" in names and "1_owl_3_frame00001.png" not in names and len(names) == 5


def test_folder_of_the_worst_objects_that_is_a_link_is_refused(davis, tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "1_a_1_frame0.png").touch()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "worst").symlink_to(tmp_path / "photos")
    assert scores_of(davis, tmp_path / "out") == 1
    assert "worst is a link, and old pictures in it would be removed" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["1_a_1_frame0.png"]


def test_results_of_a_name_that_leads_out_are_not_read(davis, tmp_path, capsys):
    write_index(tmp_path / "results" / "cat" / "00000.png", [1], 0)
    arguments = [
        "--results",
        str(tmp_path / "results"),
        "--sequences",
        "../results/cat",
        "--output",
        str(tmp_path / "o"),
    ]
    assert main(["evaluate", "davis", str(davis), *arguments]) == 1
    assert "has no sequence ../results/cat" in capsys.readouterr().err
