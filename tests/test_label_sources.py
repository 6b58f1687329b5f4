"""Items come from every kind of source alike, in parts that together have each once; what is wrong is told at once."""

import io
import json
import os
import pickle
import tarfile
from dataclasses import replace

import numpy as np
import pytest

pa = pytest.importorskip("pyarrow", reason="labelling needs pyarrow: pip install 'edgetam-hf[label]'")

import fsspec  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
from PIL import Image  # noqa: E402

from edgetam_hf.label.items import CLIP, PICTURE, Item  # noqa: E402
from edgetam_hf.label.place import Place  # noqa: E402
from edgetam_hf.label.source_files import expand_braces  # noqa: E402
from edgetam_hf.label.source_lists import ItemList  # noqa: E402
from edgetam_hf.label.source_names import resolve  # noqa: E402
from edgetam_hf.label.sources import find_source  # noqa: E402

NAMES = ["a/1.jpg", "a/2.PNG", "b c/ü%20.jpg", "b c/d/#3?.webp", "x.tif"]


def picture(number):
    """Bytes of a small picture, of another colour for each number."""
    file = io.BytesIO()
    Image.new("RGB", (4 + number, 3), (40 * number, 20, 10)).save(file, "PNG")
    return file.getvalue()


PICTURES = {name: picture(number) for number, name in enumerate(NAMES)}


def write_files(root, contents):
    """Writes files by their paths below a folder."""
    for name, data in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


@pytest.fixture
def folder(tmp_path):
    return write_files(tmp_path / "pictures", PICTURES)


def read(item):
    return item.data if item.address is None else Place.of(item.address).read()


def items_of(source, num_parts=1):
    return [item for part in source.parts(num_parts) for item in part]


def contents_of(source):
    return {item.name: read(item) for item in items_of(source)}


def write_table(path, columns, **settings):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, **settings)


def write_tar(path, contents, mode="w"):
    with tarfile.open(path, mode) as tar:
        for name, data in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def make_source(kind, folder, tmp_path):
    """A source of the pictures of a folder."""
    names, data = list(PICTURES), list(PICTURES.values())
    if kind == "folder":
        return find_source(folder)
    if kind == "pattern":
        return find_source(f"{folder}/**/*.*")
    if kind == "python paths":
        return find_source([folder / name for name in NAMES])
    if kind == "python items":
        return find_source(Item(name, data=content) for name, content in PICTURES.items())
    if kind == "memory":
        memory = fsspec.filesystem("memory")
        for name, content in PICTURES.items():
            memory.pipe(f"/{tmp_path.name}/{name}", content)
        return find_source(f"memory://{tmp_path.name}")
    if kind == "list":
        (tmp_path / "pictures.txt").write_text("\n".join(["", *(f"./pictures/{name}" for name in names), "\t"]))
        return find_source(tmp_path / "pictures.txt")
    if kind == "coco":
        images = [{"id": number, "file_name": name} for number, name in enumerate(names)]
        (tmp_path / "coco.json").write_text(json.dumps({"images": images, "annotations": [{"image_id": 1}]}))
        return find_source(tmp_path / "coco.json", pictures=folder)
    if kind == "table of paths":
        write_table(tmp_path / "pictures.parquet", {"text": names, "path": [f"pictures/{name}" for name in names]})
        return find_source(tmp_path / "pictures.parquet")
    if kind == "table of bytes":
        write_table(tmp_path / "pictures.parquet", {"text": names, "jpeg": data}, row_group_size=2)
        return find_source(tmp_path / "pictures.parquet", name_column="text")
    if kind == "datasets":
        structs = [{"bytes": content, "path": name} for name, content in PICTURES.items()]
        for start in (0, 3):
            write_table(
                tmp_path / f"data/part-{start}.parquet",
                {"image": structs[start : start + 3], "label": [1, 2, 3][: 5 - start]},
            )
        return find_source(tmp_path / "data", name_column="image.path")
    write_tar(tmp_path / "shard-0.tar", {name: PICTURES[name] for name in NAMES[:3]})
    write_tar(tmp_path / "shard-1.tar.gz", {f"./{name}": PICTURES[name] for name in NAMES[3:]}, "w:gz")
    return find_source(f"{tmp_path}/shard-{{0.tar,1.tar.gz}}")


KINDS = ["folder", "pattern", "python paths", "python items", "memory", "list", "coco", "table of paths"]
KINDS += ["table of bytes", "datasets", "tars"]


@pytest.mark.parametrize("kind", KINDS)
def test_sources_of_all_kinds_have_the_same_pictures(kind, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder)
    source = make_source(kind, folder, tmp_path)
    contents, prefix = contents_of(source), {"list": "pictures/", "table of paths": "pictures/"}.get(kind, "")
    if kind == "tars":
        expected = {f"shard-{int(number > 2)}/{name}": PICTURES[name] for number, name in enumerate(NAMES)}
    else:
        expected = {prefix + name: content for name, content in PICTURES.items()}
    assert contents == expected
    assert source.kind == PICTURE
    assert source.num_items == (None if kind == "tars" else 5)
    assert (source.names() is None) if kind == "tars" else list(source.names()) == list(contents)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_parts", [1, 2, 3, 5, 100])
def test_parts_have_each_item_once_in_the_same_order_also_pickled(kind, num_parts, folder, tmp_path):
    source = make_source(kind, folder, tmp_path)
    parts = source.parts(num_parts)
    items = [item for part in parts for item in part]
    assert items == items_of(source)
    assert len({item.id for item in items}) == len(items) == 5
    for part, copy in zip(parts, pickle.loads(pickle.dumps(parts))):
        assert list(copy) == list(part) and copy.name == part.name
    if kind not in ("tars", "table of bytes", "datasets"):
        assert len(parts) == min(num_parts, 5)


def test_parts_are_pickled_without_the_others(tmp_path):
    source = find_source([f"/pictures/{number:06d}.jpg" for number in range(2000)])
    write_table(tmp_path / "paths.parquet", {"path": [f"/pictures/{number:06d}.jpg" for number in range(2000)]})
    for each in (source, find_source(tmp_path / "paths.parquet")):
        assert len(pickle.dumps(each.parts(100)[7])) < 4000


def test_sources_in_memory_take_lists_tables_tars_and_datasets():
    memory = fsspec.filesystem("memory")
    files = {f"/mixed/p/{name}": content for name, content in PICTURES.items()}
    file = io.BytesIO()
    pq.write_table(pa.table({"path": [f"p/{name}" for name in NAMES[:4]] + [f"memory://mixed/p/{NAMES[4]}"]}), file)
    files["/mixed/t.parquet"] = file.getvalue()
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        member = tarfile.TarInfo("1.jpg")
        member.size = len(PICTURES["a/1.jpg"])
        tar.addfile(member, io.BytesIO(PICTURES["a/1.jpg"]))
    files["/mixed/t.tar"] = file.getvalue()
    files["/mixed/c.json"] = json.dumps({"images": [{"id": "u", "file_name": f"p/{NAMES[2]}"}]}).encode()
    files["/mixed/l.txt"] = "\n".join(f"p/{name}" for name in NAMES).encode("utf-8-sig")
    for name, content in files.items():
        memory.pipe(name, content)
    expected = {f"p/{name}": content for name, content in PICTURES.items()}
    assert contents_of(find_source("memory://mixed/l.txt")) == expected
    assert contents_of(find_source("memory://mixed/t.parquet")) == expected
    assert contents_of(find_source("memory://mixed/*.tar")) == {"t/1.jpg": PICTURES["a/1.jpg"]}
    assert contents_of(find_source("memory://mixed/c.json")) == {f"p/{NAMES[2]}": PICTURES[NAMES[2]]}
    assert list(find_source("memory://mixed/p/**/*.jpg").names()) == ["a/1.jpg", "b c/ü%20.jpg"]


# Folders and patterns.


def test_folder_leaves_out_hidden_and_other_files(folder):
    write_files(folder, {".hidden.jpg": b"1", "a/.thumbnails/1.jpg": b"1", "notes.txt": b"1", "a/labels.json": b"1"})
    assert contents_of(find_source(folder)) == PICTURES


def test_folder_follows_links_but_not_in_circles(folder, tmp_path):
    outside = write_files(tmp_path / "outside", {"1.jpg": b"1"})
    os.symlink(folder, folder / "a" / "back")
    os.symlink(outside, folder / "linked")
    assert set(contents_of(find_source(folder))) == {*NAMES, "linked/1.jpg"}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.tif", ["x.tif"]),
        ("a/?.jpg", ["1.jpg"]),
        ("a/[!1].*", ["2.PNG"]),
        ("**/*.jpg", ["a/1.jpg", "b c/ü%20.jpg"]),
        ("{a,b c/d}/*", ["a/1.jpg", "a/2.PNG", "b c/d/#3?.webp"]),
        ("a/{1..1}.jpg", ["1.jpg"]),
        ("b*/", ["b c/d/#3?.webp", "b c/ü%20.jpg"]),
        ("{a,x.tif}", ["a/1.jpg", "a/2.PNG", "x.tif"]),
    ],
)
def test_pattern_finds_files_as_a_shell_does(pattern, expected, folder):
    source = find_source(f"{folder}/{pattern}")
    root = f"{folder}/a" if pattern.startswith("a/") else folder
    assert [item.address for item in items_of(source)] == [f"{root}/{name}" for name in expected]
    assert list(source.names()) == expected


def test_pattern_is_relative_to_the_working_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert list(find_source("**/*.jpg").names()) == ["a/1.jpg", "b c/ü%20.jpg"]
    assert find_source(".").description == find_source(folder).description


def test_braces_count_and_list():
    assert expand_braces("{08..11}-{a,b}")[:3] == ["08-a", "08-b", "09-a"]
    assert expand_braces("{08..11}")[-1] == "11"
    assert expand_braces("{a}[{") == ["{a}[{"]


def test_file_with_signs_of_patterns_in_its_name_is_itself(tmp_path):
    write_files(tmp_path, {"[1]{a,b}*.jpg": PICTURES["x.tif"], "1a.jpg": b""})
    source = find_source(tmp_path / "[1]{a,b}*.jpg")
    assert contents_of(source) == {"[1]{a,b}*.jpg": PICTURES["x.tif"]}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nothing", "there is no file or folder"),
        ("nothing.jpg", "there is no file or folder"),
        ("*.gif", "there is no file that matches"),
        ("a/{1..3}.jpg", r"there is no file or folder .*a/2.jpg"),
    ],
)
def test_find_source_rejects_what_is_not_there(source, message, folder):
    with pytest.raises(FileNotFoundError, match=message):
        find_source(folder / source)


def test_find_source_rejects_folders_with_nothing_to_label(tmp_path):
    write_files(tmp_path / "empty", {"notes.md": b"", "list.txt": b"x.jpg"})
    for source in ("empty", "empty/notes.md"):
        with pytest.raises(ValueError, match="has nothing to label: expected pictures such as"):
            find_source(tmp_path / source)


def test_find_source_rejects_several_kinds_of_files(folder):
    write_table(folder / "t.parquet", {"path": ["a"]})
    with pytest.raises(ValueError, match="has pictures or videos and Parquet: label them apart, with a pattern"):
        find_source(folder)


def test_find_source_rejects_patterns_that_are_none(folder):
    with pytest.raises(ValueError, match="is no pattern of file names"):
        find_source(f"{folder}/[z-a]*.jpg")
    with pytest.raises(ValueError, match="stands for more than"):
        find_source(f"{folder}/{{0..99999999}}.jpg")


def test_find_source_rejects_schemes_that_are_unknown():
    with pytest.raises(ValueError, match="nope://bucket is no address of a known kind: "):
        find_source("nope://bucket")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the owner of a system reads everything")
def test_find_source_rejects_folders_that_cannot_be_read(folder):
    (folder / "a").chmod(0)
    try:
        with pytest.raises(OSError, match=f"{folder} cannot be read: .*Permission denied"):
            find_source(folder)
    finally:
        (folder / "a").chmod(0o755)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_place_does_not_wait_for_pipes(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    place = Place.of(tmp_path / "pipe.jpg")
    for read in (place.open, place.read):
        with pytest.raises(OSError, match=r"pipe.jpg cannot be read: it is a pipe"):
            read()


def test_find_source_rejects_credentials_that_fail(monkeypatch):
    def refuse(*arguments, **settings):
        raise PermissionError("Access Denied: no credentials\nand more")

    monkeypatch.setattr(fsspec.implementations.memory.MemoryFileSystem, "info", refuse)
    with pytest.raises(OSError, match=r"^memory://secret cannot be read: .*Access Denied: no credentials$"):
        find_source("memory://secret")


def test_find_source_rejects_names_that_are_no_utf8(tmp_path):
    write_files(tmp_path, {os.fsdecode(b"\xff.jpg"): b""})
    with pytest.raises(ValueError, match=r"names an item '\\udcff.jpg': expected a path like part/name"):
        find_source(tmp_path)


def test_find_source_rejects_options_of_other_kinds(folder):
    with pytest.raises(ValueError, match=r"column=path is for Parquet, and .* is none: leave it out"):
        find_source(folder, column="path")
    with pytest.raises(ValueError, match="pictures=x is for COCO, and list is none: leave it out"):
        find_source([], pictures="x")


# Clips.


def make_clips(root):
    return write_files(root, {f"{name}/{number:05d}.jpg": b"" for name in ("bear", "x/cow") for number in range(3)})


def test_clips_are_folders_of_frames(tmp_path):
    root = make_clips(tmp_path / "clips")
    source = find_source(root, is_clips=True)
    assert [(item.name, item.address, item.kind) for item in items_of(source)] == [
        ("bear", str(root / "bear"), CLIP),
        ("x/cow", str(root / "x/cow"), CLIP),
    ]
    assert source.kind == CLIP
    assert list(find_source(f"{root}/b*", is_clips=True).names()) == ["bear"]


def test_clips_of_a_folder_of_frames_is_one(tmp_path):
    root = make_clips(tmp_path / "clips") / "bear"
    assert items_of(find_source(root, is_clips=True)) == [Item("bear", CLIP, str(root))]


def test_videos_are_clips_wherever_they_are(tmp_path):
    write_files(tmp_path, {"v/a.mp4": b"a", "v/b/c.MOV": b"c", "list.txt": b"v/a.mp4\nv/b/c.MOV"})
    write_table(tmp_path / "t.parquet", {"path": ["v/a.mp4", "v/b/c.MOV"]})
    write_tar(tmp_path / "t.tar", {"v/a.mp4": b"a", "v/b/c.MOV": b"c"})
    for source, prefix in (("v", ""), ("list.txt", "v/"), ("t.parquet", "v/"), ("t.tar", "t/v/")):
        found = find_source(tmp_path / source)
        assert found.kind == CLIP and {item.kind for item in items_of(found)} == {CLIP}
        assert contents_of(found) == {f"{prefix}a.mp4": b"a", f"{prefix}b/c.MOV": b"c"}


def test_clips_may_be_bytes_in_a_table(tmp_path):
    write_table(tmp_path / "t.parquet", {"video": [b"a"]})
    assert items_of(find_source(tmp_path / "t.parquet", is_clips=True)) == [Item("t/0", CLIP, data=b"a")]


def test_find_source_rejects_videos_among_pictures(folder):
    write_files(folder, {"v.mp4": b""})
    with pytest.raises(ValueError, match="has 1 videos and 5 pictures: label them apart"):
        find_source(folder)
    with pytest.raises(ValueError, match="has 1 videos and 1 pictures"):
        find_source(["a.mp4", "a.jpg"])
    assert contents_of(find_source(folder, is_clips=False)) == PICTURES


# Lists.


def test_resolve_names_files_by_their_path_from_the_list_on(tmp_path):
    here = Place.of(tmp_path)
    assert resolve("./a//b.jpg", here) == ("a/b.jpg", f"{tmp_path}/a/b.jpg")
    assert resolve(f"{tmp_path}/b.jpg", here) == ("b.jpg", f"{tmp_path}/b.jpg")
    assert resolve("../b.jpg", here) == (f"{tmp_path.parent}/b.jpg"[1:], f"{tmp_path.parent}/b.jpg")
    assert resolve("memory://x/a.jpg", here) == ("x/a.jpg", "memory://x/a.jpg")
    memory = Place.of("memory://x/y")
    assert resolve("memory://x/y/a.jpg", memory) == ("a.jpg", "memory://x/y/a.jpg")
    assert resolve("z/a b.jpg", memory) == ("z/a b.jpg", "memory://x/y/z/a b.jpg")
    with pytest.raises(ValueError, match=r"names ../a.jpg, outside of it: write the whole address"):
        resolve("../a.jpg", memory)


def test_options_of_an_address_stay_at_its_end():
    place = Place.of("s3://bucket/my pictures?region=eu-west-1")
    assert (place.path, str(place / "a b?.jpg")) == (
        "bucket/my pictures",
        "s3://bucket/my pictures/a b?.jpg?region=eu-west-1",
    )
    assert str((place / "x.txt").folder) == str(place)
    assert replace(place, address="s3://me:secret@bucket/x?secret_key=x").identity == "s3://bucket/x"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (b"a/1.jpg\nx.tif\n./a//1.jpg", "list.txt has several items called 'a/1.jpg'"),
        (b"\n \n", "list.txt is empty: there is nothing to label"),
        (b"\xff\xfe", "list.txt is no text in UTF-8"),
        (b"a\0b.jpg", "names an item 'a.x00b.jpg': expected a path like part/name"),
    ],
)
def test_find_source_rejects_lists_that_are_wrong(lines, message, folder):
    (folder / "list.txt").write_bytes(lines)
    with pytest.raises(ValueError, match=message):
        find_source(folder / "list.txt")


def test_items_keep_all_that_they_have():
    items = [Item("a", data=b"1"), Item("b/c", address="x")]
    assert items_of(ItemList(items), 2) == items
    assert find_source(ItemList(items)).num_items == 2


def test_find_source_rejects_items_that_are_wrong():
    with pytest.raises(ValueError, match="items has several items called 'a'"):
        find_source([Item("a"), Item("a")])
    with pytest.raises(ValueError, match="must be items of one kind"):
        find_source([Item("a"), Item("b", CLIP)])
    with pytest.raises(ValueError, match="must be items of one kind, pictures or clips, got none"):
        find_source([])
    with pytest.raises(ValueError, match=r"names an item '../a'"):
        find_source([Item("../a")])
    for wrong in (3, {"image": 1}):
        with pytest.raises(
            TypeError, match="a source must be a path or address, a Source, a list of Items or of paths"
        ):
            find_source(wrong)
    for wrong in ([{"image": 1}], [Item("a"), "b"], [np.zeros((3, 4, 4), np.uint8)]):
        with pytest.raises(TypeError, match="entry 0 of a dataset must be a picture: a PIL picture, uint8 array"):
            find_source(wrong)


# Tables.


def test_table_of_bytes_names_items_by_file_and_row(tmp_path):
    write_table(tmp_path / "d/one.parquet", {"image": [b"0", b"1", b"2"]}, row_group_size=2)
    write_table(tmp_path / "d/e/two.parquet", {"image": [b"3", None]})
    source = find_source(tmp_path / "d")
    expected = {"e/two/0": b"3", "e/two/1": b"", "one/0": b"0", "one/1": b"1", "one/2": b"2"}
    assert contents_of(source) == expected
    assert list(source.names()) == list(expected)
    assert [part.name for part in source.parts(1)] == [
        f"{tmp_path}/d/e/two.parquet, rows 0 to 1",
        f"{tmp_path}/d/one.parquet, rows 0 to 1",
        f"{tmp_path}/d/one.parquet, rows 2 to 2",
    ]


def test_table_of_datasets_has_bytes_or_paths(folder, tmp_path):
    images = [{"bytes": b"0", "path": "x.jpg"}, {"bytes": None, "path": "pictures/x.tif"}, None]
    write_table(tmp_path / "t.parquet", {"image": images})
    assert contents_of(find_source(tmp_path / "t.parquet")) == {"t/0": b"0", "t/1": PICTURES["x.tif"], "t/2": b""}


def test_table_takes_the_column_that_is_asked_for(folder, tmp_path):
    columns = {"left": ["pictures/x.tif"], "right": pa.array(["pictures/a/1.jpg"]).dictionary_encode(), "number": [7]}
    write_table(tmp_path / "t.parquet", columns)
    assert contents_of(find_source(tmp_path / "t.parquet", column="right")) == {"pictures/a/1.jpg": PICTURES["a/1.jpg"]}
    source = find_source(tmp_path / "t.parquet", column="left", name_column="number")
    assert contents_of(source) == {"7": PICTURES["x.tif"]}
    assert source.description == f"{tmp_path}/t.parquet, media of left, names of number"


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"left": ["a"], "right": ["b"]}, {}, "has several columns of paths or bytes .* its columns are left, right"),
        ({"number": [1]}, {}, "has no column of paths or bytes of pictures, say --column NAME: its columns are number"),
        ({"a": [b""], "b": [b""]}, {}, "has several columns of paths or bytes of pictures, say --column NAME"),
        ({"path": ["a"]}, {"column": "x"}, "has no column x: its columns are path"),
        ({"path": ["a"], "n": [1]}, {"column": "n"}, "column n of .* has int64, not paths or bytes"),
        ({"path": ["a"]}, {"name_column": "path.x"}, "has no column path.x"),
        ({"path": ["a", "b", "./a"]}, {}, "t.parquet has several items called 'a'"),
        ({"path": ["a", "b"], "n": [1, 1]}, {"name_column": "n"}, "t.parquet has several items called '1'"),
        ({"path": ["a", "b"], "n": [1, None]}, {"name_column": "n"}, "t.parquet has no name in row 1, n"),
        ({"path": pa.array([], pa.string())}, {}, "t.parquet has no rows: there is nothing to label"),
    ],
)
def test_find_source_rejects_tables_that_are_wrong(columns, options, message, tmp_path):
    write_table(tmp_path / "t.parquet", columns)
    with pytest.raises(ValueError, match=message):
        find_source(tmp_path / "t.parquet", **options)


def test_find_source_rejects_tables_that_differ(tmp_path):
    write_table(tmp_path / "a.parquet", {"image": [b"0"]})
    write_table(tmp_path / "b.parquet", {"image": ["x"]})
    with pytest.raises(ValueError, match=r"b.parquet has string in column image, and a.parquet has binary"):
        find_source(f"{tmp_path}/*.parquet")
    write_table(tmp_path / "b.parquet", {"other": ["x"]})
    with pytest.raises(ValueError, match=r"b.parquet has no column image"):
        find_source(f"{tmp_path}/*.parquet")


def test_find_source_rejects_tables_that_are_damaged(tmp_path):
    write_table(tmp_path / "t.parquet", {"image": [b"0" * 1000, b"1" * 1000]}, compression="none", use_dictionary=False)
    data = (tmp_path / "t.parquet").read_bytes()
    for damaged in (b"", data[:-100]):
        (tmp_path / "t.parquet").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"t.parquet is no Parquet file, or it is damaged: "):
            find_source(tmp_path / "t.parquet")


def test_part_of_a_table_that_was_damaged_since_names_it(tmp_path):
    write_table(tmp_path / "t.parquet", {"image": [bytes([idx]) * 1000 for idx in range(40)]}, row_group_size=10)
    parts = find_source(tmp_path / "t.parquet").parts(1)
    data = bytearray((tmp_path / "t.parquet").read_bytes())
    start = pq.ParquetFile(tmp_path / "t.parquet").metadata.row_group(2).column(0).dictionary_page_offset
    data[start : start + 30] = b"\xff" * 30
    (tmp_path / "t.parquet").write_bytes(data)
    assert len(list(parts[1])) == 10
    with pytest.raises(ValueError, match=r"t.parquet is no Parquet file, or it is damaged: "):
        list(parts[2])


# Tars.


def test_tars_hold_other_members_and_folders(tmp_path):
    contents = {
        "0.json": b"{}",
        "0.jpg": b"0",
        "._0.jpg": b"mac",
        "d/.x/1.jpg": b"",
        "1.left.JPG": b"1",
        "1.right.jpg": b"2",
    }
    write_tar(tmp_path / "t.tar", contents)
    with tarfile.open(tmp_path / "t.tar", "a") as tar:
        folder = tarfile.TarInfo("folder.jpg")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
    source = find_source(tmp_path / "t.tar")
    assert contents_of(source) == {"t/0.jpg": b"0", "t/1.left.JPG": b"1", "t/1.right.jpg": b"2"}
    assert source.parts(1)[0].name == str(tmp_path / "t.tar")


@pytest.mark.parametrize(("end", "num_whole"), [(1536, 1), (1600, 1), (2048, 1), (2049, 1), (2700, 1), (3072, 2)])
def test_tar_that_is_cut_off_gives_the_items_before_it(end, num_whole, tmp_path):
    write_tar(tmp_path / "t.tar", {f"{number}.jpg": bytes([number]) * 700 for number in range(4)})  # 1536 bytes each
    whole = find_source(tmp_path / "t.tar").parts(1)[0]
    data = (tmp_path / "t.tar").read_bytes()
    (tmp_path / "t.tar").write_bytes(data[:end])
    found = []
    with pytest.raises(ValueError, match=rf"t.tar is no tar, or it is damaged or cut off, after {num_whole} items: "):
        for item in whole:
            found.append(item)
    assert [item.name for item in found] == ["t/0.jpg", "t/1.jpg"][:num_whole]


def test_tar_with_a_damaged_header_is_not_taken_for_its_end(tmp_path):
    write_tar(tmp_path / "t.tar", {f"{number}.jpg": b"1" for number in range(4)})
    data = bytearray((tmp_path / "t.tar").read_bytes())
    data[1024 + 150] ^= 255
    (tmp_path / "t.tar").write_bytes(data)
    with pytest.raises(ValueError, match=r"t.tar is no tar, or it is damaged or cut off, after 1 items: "):
        list(find_source(tmp_path / "t.tar").parts(1)[0])


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b"", "t.tar is no tar, or it is damaged or cut off, after 0 items"),
        (b"no tar" * 1000, "t.tar is no tar, or it is damaged or cut off, after 0 items"),
        (bytes(10240), "t.tar has no member that is a picture or a video"),
        ({"../a.jpg": b""}, r"t.tar names an item '../a.jpg': expected a path like part/name"),
    ],
)
def test_find_source_rejects_tars_that_are_wrong(contents, message, tmp_path):
    if isinstance(contents, dict):
        write_tar(tmp_path / "t.tar", contents)
    else:
        (tmp_path / "t.tar").write_bytes(contents)
    with pytest.raises(ValueError, match=message):
        find_source(tmp_path / "t.tar")


def test_tar_rejects_members_that_repeat(tmp_path):
    with tarfile.open(tmp_path / "t.tar", "w") as tar:
        for name in ("a.jpg", "b.jpg", "./a.jpg"):
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    with pytest.raises(ValueError, match=r"t.tar has several members called 'a.jpg'"):
        list(find_source(tmp_path / "t.tar").parts(1)[0])


# COCO.


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "coco.json is no JSON, or it is cut off"),
        ("[]", "coco.json must hold an object"),
        ("{}", 'coco.json is no dataset of COCO: expected {"images": '),
        ('{"images": []}', "coco.json is empty: there is nothing to label"),
        ('{"images": [{"id": 1}]}', 'coco.json has an image without a usable "id" and "file_name"'),
        ('{"images": [3]}', 'coco.json has an image without a usable "id" and "file_name": 3'),
        ('{"images": [{"id": 1, "file_name": "../a.jpg"}]}', "coco.json names an item"),
        ('{"images": [{"id": 1, "file_name": "a"}, {"id": 1, "file_name": "b"}]}', "has several images of the id 1"),
        ('{"images": [{"id": 1, "file_name": "a"}, {"id": 2, "file_name": "a"}]}', "has several items called 'a'"),
    ],
)
def test_find_source_rejects_coco_that_is_wrong(content, message, tmp_path):
    (tmp_path / "coco.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        find_source(tmp_path / "coco.json")


def test_coco_may_name_pictures_by_their_whole_paths(folder, tmp_path):
    images = [{"id": 1, "file_name": f"{folder}/x.tif"}, {"id": "b", "file_name": "memory://other/y.jpg"}]
    (tmp_path / "coco.json").write_text(json.dumps({"images": images}))
    addresses = {item.name: item.address for item in items_of(find_source(tmp_path / "coco.json"))}
    assert addresses == {f"{folder}/x.tif"[1:]: f"{folder}/x.tif", "other/y.jpg": "memory://other/y.jpg"}


def test_find_source_rejects_coco_in_another_folder_than_its_pictures(folder, tmp_path):
    images = [{"id": number, "file_name": name} for number, name in enumerate(NAMES)]
    (tmp_path / "coco.json").write_text(json.dumps({"images": images}))
    with pytest.raises(FileNotFoundError, match=r"coco.json names .*/a/1.jpg, which is not there: say"):
        find_source(tmp_path / "coco.json")


# Many.


def test_sources_of_many_files_take_little_memory_and_time():
    names = [f"/data/{number:07d}.jpg" for number in range(20_000)]
    source = find_source(names)
    assert source.num_items == 20_000
    assert source.files.nbytes < 20_000 * 70
    lengths = [len(list(part)) for part in source.parts(64)]
    assert sum(lengths) == 20_000 and max(lengths) - min(lengths) <= 1
    assert np.unique(lengths).size <= 2
