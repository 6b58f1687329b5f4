"""Makes the suite work without a network, and shares small models between test files."""

import atexit
import gc
import os
import shutil
import signal
import sys
import tempfile
import types
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.offline_hub import write_offline_hub_cache


def make_folder():
    """A new folder that is gone when the tests are."""
    folder = tempfile.mkdtemp(prefix="edgetam_tests_")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


# Transformers reads these when it is imported.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_CACHE"] = write_offline_hub_cache(make_folder())
os.environ["HF_MODULES_CACHE"] = make_folder()
os.environ["TOKENIZERS_PARALLELISM"] = "false"

# Where a shell starts tests in the background, SIGINT is ignored, by them and by all processes that they start.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# To trace a model makes many objects that stay: the search for garbage took a seventh of the time.
gc.set_threshold(20_000, 20, 50)

import exported_models  # noqa: E402
import javascript  # noqa: E402
import pytest  # noqa: E402
import simulated_gpu  # noqa: E402
import small_datasets  # noqa: E402
import small_models  # noqa: E402
import threads  # noqa: E402
import torch  # noqa: E402
import tracking  # noqa: E402
import training_sources  # noqa: E402

from edgetam_cli import main  # noqa: E402
from edgetam_hf import EdgeTamVideoModel, EdgeTamVideoProcessor, folding_edgetam, nano_checkpoint  # noqa: E402

threads.limit_threads()

# Files that take minutes. They are begun first, so that several workers end at about the same time.
LONG_FILES = (
    "test_label_cluster.py",
    "test_golden_export.py",
    "test_export.py",
    "test_label_ray.py",
    "test_web.py",
    "test_export_runtime.py",
    "test_compile.py",
    "test_page_engines.py",
    "test_demo.py",
    "test_readme.py",
    "test_golden_video.py",
    "test_video_modeling.py",
    "test_modeling_modes.py",
    "test_modeling_export.py",
)


def pytest_collection_modifyitems(items):
    """Where there are several workers, puts the tests of `LONG_FILES` ahead of the others, which stay in order."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        places = {name: place for place, name in enumerate(LONG_FILES)}
        items.sort(key=lambda item: places.get(item.path.name, len(places)))


@pytest.fixture(scope="session")
def model():
    """A small EdgeTamModel of 128x128 pixels in eval mode, with random weights that make prompts matter."""
    return small_models.make_model()


@pytest.fixture(scope="session")
def native(model):
    """Native's model with the weights of `model`."""
    return small_models.make_native(model)


@pytest.fixture(scope="session")
def pictures():
    """Two normalised pictures, (2, 3, 128, 128)."""
    return small_models.random((2, 3, 128, 128))


@pytest.fixture(scope="session")
def folder(model, tmp_path_factory):
    """Where `model` and its processor are saved, as on the Hub."""
    folder = tmp_path_factory.mktemp("edgetam")
    model.save_pretrained(folder)
    small_models.make_processor(128).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def video_model():
    """A small EdgeTamVideoModel of 128x128 pixels in eval mode, with random weights that make memory matter."""
    return small_models.make_video_model()


@pytest.fixture(scope="session")
def video_processor():
    """The processor of `video_model`."""
    return small_models.make_video_processor(128)


@pytest.fixture(scope="session")
def clip():
    """Twelve frames, uint8 (12, 90, 120, 3)."""
    return small_models.make_clip()


@pytest.fixture(scope="session")
def video_folder(video_model, video_processor, tmp_path_factory):
    """Where `video_model` and its processor are saved, as on the Hub."""
    folder = tmp_path_factory.mktemp("edgetam_video")
    video_model.save_pretrained(folder)
    video_processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def kept_graphs(tmp_path_factory):
    """From here on a graph that has been exported before, also in another worker, is not traced again."""
    pytest.importorskip("onnxscript", reason="writing ONNX files needs onnxscript")
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "graphs"
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        exported_models.keep_graphs(patch, folder)
        yield


@pytest.fixture(scope="session")
def exported(video_model, video_processor, kept_graphs, tmp_path_factory):
    """Where `video_model` is exported, as ONNX files."""
    return exported_models.export_model(video_model, video_processor, tmp_path_factory.mktemp("exported"))


@pytest.fixture(scope="session")
def nano():
    """The embedded checkpoint and its processor."""
    model = EdgeTamVideoModel.from_pretrained(nano_checkpoint(), dtype=torch.float32).eval().requires_grad_(False)
    return model, EdgeTamVideoProcessor.from_pretrained(nano_checkpoint())


@pytest.fixture(scope="session")
def nano_folder(nano, kept_graphs, tmp_path_factory):
    """The embedded checkpoint, exported for browsers."""
    javascript.needs_package("onnxruntime-web")
    return exported_models.export_model(*nano, tmp_path_factory.mktemp("nano"))


@pytest.fixture
def track(video_folder, capsys, tmp_path, monkeypatch):
    """Exit code, stdout and stderr of `edgetam track` with the small model, called in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        code = main(["track", *map(str, arguments), "--model", str(video_folder)])
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def make_tracker(video_model, video_processor, clip):
    """A tracker of the clip, or with `video=None` of a stream."""

    def make(video=clip, model=video_model, **settings):
        return tracking.Tracker(model, video_processor, video, **settings)

    return make


@pytest.fixture
def davis(tmp_path):
    """A dataset of two short sequences in the layout of DAVIS 2017."""
    return small_datasets.make_davis(tmp_path / "davis")


@pytest.fixture
def youtube_vos(tmp_path):
    """A dataset in the layout of YouTube-VOS, whose second object appears late."""
    return small_datasets.make_youtube_vos(tmp_path / "youtube")


@pytest.fixture
def sa_v(tmp_path):
    """A dataset in the layout of SA-V, whose frames are annotated in part."""
    return small_datasets.make_sa_v(tmp_path / "sav_val")


@pytest.fixture
def masked_pictures(tmp_path):
    """Pictures and their masks."""
    return small_datasets.make_masked_pictures(tmp_path / "pictures")


@pytest.fixture(scope="session")
def videos(tmp_path_factory):
    """`VideoClips` of one video in the layout of MOSE."""
    return training_sources.open_video("mose", tmp_path_factory.mktemp("mose"))


@pytest.fixture
def gpu(monkeypatch):
    """A `SimulatedGpu`, still to be entered."""
    gpu = simulated_gpu.SimulatedGpu()
    if not torch.cuda.is_available():
        torch._C._ensureCUDADeviceGuardSet()
    plain_types = (*folding_edgetam.PLAIN_TYPES, simulated_gpu.TensorOnGpu)
    monkeypatch.setattr(folding_edgetam, "PLAIN_TYPES", plain_types)
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: types.SimpleNamespace(synchronize=gpu.synchronize))
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    return gpu
