"""Kinds of training data: those of the package, those of a module in the current folder, and what goes wrong."""

import sys

import pytest
from training_sources import write_indices

from edgetam_hf.training import structured
from edgetam_hf.training.pictures import IndexPictures
from edgetam_hf.training.settings import read_settings
from edgetam_hf.training.sources import KINDS, import_kinds, open_sources

FISH = """
from edgetam_hf.training.pictures import IndexPictures
from edgetam_hf.training.sources import register_source


@register_source("fish")
class FishPictures(IndexPictures):
    def __init__(self, root: str, smallest_area: int = 100):
        super().__init__(root)
        self.smallest_area = smallest_area
"""


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """The current folder, with a module that has a kind of data of its own."""
    (tmp_path / "fish_pictures.py").write_text(FISH)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    yield tmp_path
    sys.modules.pop("fish_pictures", None)
    KINDS.pop("fish", None)


def test_kind_of_a_module_is_opened_with_its_settings(folder):
    listed = [{"kind": "fish", "root": str(write_indices(folder)), "smallest_area": 7, "weight": 3}]
    (source,), weights = open_sources(listed, "data", ["fish_pictures"])
    assert isinstance(source, IndexPictures) and source.smallest_area == 7 and weights == [3.0]
    with pytest.raises(ValueError, match=r"data\.0\.kind must be one of .* fish, .* that `modules` add, got 'cod'"):
        open_sources([{"kind": "cod"}], "data", ["fish_pictures"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"smallest_area": "small"}, "data.0.smallest_area must be int, got 'small'"),
        ({"smallest_aera": 3}, "unknown key data.0.smallest_aera; did you mean smallest_area?"),
        ({"weight": "much"}, "data.0.weight must be float, got 'much'"),
        ({"root": None}, "data.0.root is not set: say where the data are, data.0.root=PATH"),
    ],
)
def test_kind_of_a_module_rejects_settings_that_do_not_fit(folder, values, message):
    with pytest.raises(ValueError) as caught:
        open_sources([{"kind": "fish", "root": "pictures", **values}], "data", ["fish_pictures"])
    assert str(caught.value) == message


def test_kinds_are_missing_where_the_module_is_missing(folder):
    with pytest.raises(ValueError, match="modules: there is no module shark_pictures: install it, or start from"):
        import_kinds(["shark_pictures"])
    (folder / "fish_pictures.py").write_text("import shark_pictures")
    with pytest.raises(ModuleNotFoundError, match="No module named 'shark_pictures'"):  # a fault of the module itself
        import_kinds(["fish_pictures"])


def test_settings_refer_to_each_other_and_to_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("PICTURES", "photos")
    path = tmp_path / "short.yaml"
    path.write_text("data: [{kind: sa-1b, root: '${oc.env:PICTURES}'}]\nvalidation: ${data}")
    assert read_settings(path).validation == [{"kind": "sa-1b", "root": "photos"}]
    path.write_text("data: [{kind: sa-1b}]\nteacher: ${techer}")
    with pytest.raises(ValueError, match="teacher: Interpolation key 'techer' not found"):
        read_settings(path)


def test_settings_need_omegaconf(monkeypatch):
    monkeypatch.setattr(structured, "omegaconf", None)
    with pytest.raises(ImportError, match=r"settings of a training need OmegaConf 2\.4: pip install 'omegaconf>=2\.4'"):
        read_settings("stage1")
