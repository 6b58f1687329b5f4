"""Datasets of Python are sources: pictures are found by number, and what one entry raises costs that entry only."""

import io
import pickle

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="labelling needs pyarrow: pip install 'edgetam-hf[label]'")

from PIL import Image

from edgetam_hf.label.reading import read_pixels
from edgetam_hf.label.source_datasets import DatasetSource
from edgetam_hf.label.sources import find_source


def picture(number):
    """Bytes of a small picture, of another size for each number."""
    file = io.BytesIO()
    Image.new("RGB", (4 + number, 3), (40 * number, 20, 10)).save(file, "PNG")
    return file.getvalue()


def items_of(source, num_parts=1):
    return [item for part in source.parts(num_parts) for item in part]


@pytest.mark.parametrize(
    "wrap", [lambda entry: entry, lambda entry: {"label": 1, "image": entry}, lambda entry: (entry, 1)]
)
def test_datasets_give_their_pictures_by_number(wrap, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 5, 3), np.uint8)
    path = tmp_path / "x.png"
    path.write_bytes(picture(4))
    entries = [pixels, Image.fromarray(pixels), picture(0), path]
    source = find_source([wrap(entry) for entry in entries])
    assert list(source.names()) == [f"{idx:08d}" for idx in range(4)] and source.num_items == 4
    items = items_of(pickle.loads(pickle.dumps(source)), 3)
    assert [item.name for item in items] == list(source.names())
    for item in items[:2]:
        assert np.array_equal(read_pixels(item), pixels)
    assert items[2].data == picture(0) and items[3].address == str(path)


def test_dataset_loses_only_entries_that_raise():
    class Damaged(list):
        def __getitem__(self, idx):
            if idx == 1:
                raise RuntimeError("lost")
            return super().__getitem__(idx)

    dataset = DatasetSource(Damaged([picture(number) for number in range(3)]))
    assert [item.data for item in items_of(dataset)] == [picture(0), None, picture(2)]


def test_parts_of_a_list_are_pickled_without_the_others():
    source = DatasetSource([bytes([number]) * 100_000 for number in range(10)])
    assert all(len(pickle.dumps(part)) < 200_000 for part in source.parts(10))
    assert [item.name for item in items_of(source, 10)] == list(source.names())
