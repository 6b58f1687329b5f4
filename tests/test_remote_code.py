"""Saved folders: they hold all their code, load where this package is not installed, and serve native too."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from edgetam_hf.modeling_edgetam import EdgeTamModel
from small_models import assert_outputs_close, make_native_video, native_config, random

import edgetam_hf

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomllib", reason="reading pyproject.toml needs Python 3.11")

ROOT = Path(__file__).parents[1]
CODE_FILES = sorted(ROOT.glob("*_edgetam*.py"))
CODE_OF_IMAGES = {path.name for path in CODE_FILES if not re.search("video|memory|session|tracking", path.name)}
CODE_OF_VIDEOS = {path.name for path in CODE_FILES}
ENTRY_FILES = [
    "configuration_edgetam",
    "image_processing_edgetam",
    "modeling_edgetam",
    "modeling_edgetam_video",
    "pipeline_edgetam",
    "processing_edgetam",
    "processing_edgetam_video",
    "video_processing_edgetam",
]
POINTS = torch.tensor([[[[30.0, 40.0], [90, 20]]]])

# A process in which edgetam_hf cannot be imported, wherever it may be installed
ISOLATION = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "edgetam_hf":
            raise ImportError("edgetam_hf is blocked")

sys.meta_path.insert(0, Blocker())
try:
    import edgetam_hf
except ImportError:
    pass
else:
    raise AssertionError("edgetam_hf can be imported")
import torch
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoModelForMaskGeneration, AutoProcessor, pipeline
"""
LOAD_EVERYTHING = """
folder, result = sys.argv[1:]
settings = {"trust_remote_code": True}
objects = {auto.__name__: auto.from_pretrained(folder, **settings) for auto in (
    AutoConfig, AutoModel, AutoModelForMaskGeneration, AutoProcessor, AutoImageProcessor
)}
generator = pipeline("mask-generation", model=folder, trust_remote_code=True)
objects.update(pipeline=generator, pipeline_model=generator.model)
for name, value in objects.items():
    print(name, type(value).__module__.split(".")[-1], type(value).__name__, type(value).__module__.split(".")[0])
inputs = torch.load(result)
model = objects["AutoModelForMaskGeneration"]
model.save_pretrained(result + "_again")
objects["AutoProcessor"].save_pretrained(result + "_again")
with torch.no_grad():
    output = model(**inputs)
torch.save({name: output[name] for name in ("pred_masks", "iou_scores", "object_score_logits")}, result)
"""
TRACK = """
import numpy as np
from transformers import AutoVideoProcessor
folder, result = sys.argv[1:]
settings = {"trust_remote_code": True}
objects = {auto.__name__: auto.from_pretrained(folder, **settings) for auto in (
    AutoConfig, AutoModel, AutoModelForMaskGeneration, AutoProcessor, AutoImageProcessor, AutoVideoProcessor
)}
objects["pipeline_model"] = pipeline("mask-generation", model=folder, trust_remote_code=True).model
for name, value in objects.items():
    print(name, type(value).__module__.split(".")[-1], type(value).__name__, type(value).__module__.split(".")[0])
model, processor = objects["AutoModel"], objects["AutoProcessor"]
model.save_pretrained(result + "_again")
processor.save_pretrained(result + "_again")
session = processor.init_video_session(video=np.load(result + ".npy"))
processor.add_inputs_to_inference_session(session, 0, 1, input_points=[[[[25, 45]]]], input_labels=[[[1]]])
torch.save([output.pred_masks for output in model.propagate_in_video_iterator(session)], result)
"""
LOAD_NATIVE = """
folder = sys.argv[1]
for auto in (AutoConfig, AutoModel, AutoModelForMaskGeneration, AutoProcessor, AutoImageProcessor):
    print(auto.__name__, type(auto.from_pretrained(folder)).__module__)
generator = pipeline("mask-generation", model=folder)
print(f"\\npipeline {type(generator).__module__}")
"""


def run_isolated(code, *arguments, cwd):
    """Standard output of code in a process of its own, elsewhere, with an empty cache of remote code."""
    environment = {**os.environ, "HF_MODULES_CACHE": str(cwd / "modules")}
    paths = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path and Path(path) != ROOT]
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    process = subprocess.run(
        [sys.executable, "-c", ISOLATION + code, *map(str, arguments)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


@pytest.fixture(scope="module")
def inputs():
    return {"pixel_values": random((1, 3, 128, 128)), "input_points": POINTS}


@pytest.fixture(scope="module")
def remote(folder, inputs, tmp_path_factory):
    """What the isolated process printed, its working folder, and the file of its results."""
    cwd = tmp_path_factory.mktemp("elsewhere")
    torch.save(inputs, cwd / "result")
    return run_isolated(LOAD_EVERYTHING, folder, cwd / "result", cwd=cwd), cwd


def test_saved_folder_holds_exactly_the_code_it_needs(folder):
    assert {path.name for path in folder.glob("*.py")} == CODE_OF_IMAGES
    for path in folder.glob("*.py"):
        assert path.read_text() == (ROOT / path.name).read_text()


def test_remote_code_gives_our_classes(remote):
    lines = dict(line.split(" ", 1) for line in remote[0].splitlines())
    assert lines == {
        "AutoConfig": "configuration_edgetam EdgeTamConfig transformers_modules",
        "AutoModel": "modeling_edgetam EdgeTamModel transformers_modules",
        "AutoModelForMaskGeneration": "modeling_edgetam EdgeTamModel transformers_modules",
        "AutoProcessor": "processing_edgetam EdgeTamProcessor transformers_modules",
        "AutoImageProcessor": "image_processing_edgetam EdgeTamImageProcessor transformers_modules",
        "pipeline": "pipeline_edgetam EdgeTamMaskGenerationPipeline transformers_modules",
        "pipeline_model": "modeling_edgetam EdgeTamModel transformers_modules",
    }


def test_remote_code_gives_equal_outputs(remote, folder, inputs):
    with torch.no_grad():
        expected = EdgeTamModel.from_pretrained(folder)(**inputs)
    assert_outputs_close(torch.load(remote[1] / "result"), expected)


def test_folder_saved_from_remote_code_is_complete(remote, folder):
    again = remote[1] / "result_again"
    assert {path.name for path in folder.iterdir()} == {path.name for path in again.iterdir()}
    for path in folder.glob("*.py"):
        assert (again / path.name).read_text() == path.read_text()
    saved, loaded = (transformers.AutoConfig.from_pretrained(path).to_dict() for path in (folder, again))
    assert saved["auto_map"] == loaded["auto_map"]


def test_folder_without_remote_code_gives_native_classes(folder, tmp_path):
    printed = run_isolated(LOAD_NATIVE, folder, cwd=tmp_path)
    modules = dict(line.split(" ") for line in printed.splitlines() if line.count(" ") == 1)
    assert modules.pop("pipeline") == "transformers.pipelines.mask_generation"
    assert len(modules) == 5 and all(module.startswith("transformers.models.") for module in modules.values())


@pytest.fixture(scope="module")
def remote_video(video_folder, clip, tmp_path_factory):
    """What the isolated process printed, and its working folder."""
    cwd = tmp_path_factory.mktemp("elsewhere")
    np.save(cwd / "result.npy", clip[:3])
    return run_isolated(TRACK, video_folder, cwd / "result", cwd=cwd), cwd


def test_saved_video_folder_holds_exactly_the_code_it_needs(video_folder):
    assert {path.name for path in video_folder.glob("*.py")} == CODE_OF_VIDEOS


def test_remote_code_of_a_video_folder_gives_our_classes(remote_video):
    lines = dict(line.split(" ", 1) for line in remote_video[0].splitlines())
    assert lines == {
        "AutoConfig": "configuration_edgetam EdgeTamVideoConfig transformers_modules",
        "AutoModel": "modeling_edgetam_video EdgeTamVideoModel transformers_modules",
        "AutoModelForMaskGeneration": "modeling_edgetam EdgeTamModel transformers_modules",
        "AutoProcessor": "processing_edgetam_video EdgeTamVideoProcessor transformers_modules",
        "AutoImageProcessor": "image_processing_edgetam EdgeTamImageProcessor transformers_modules",
        "AutoVideoProcessor": "video_processing_edgetam EdgeTamVideoVideoProcessor transformers_modules",
        "pipeline_model": "modeling_edgetam EdgeTamModel transformers_modules",
    }


def test_remote_code_tracks_equally(remote_video, video_model, video_processor, clip):
    session = video_processor.init_video_session(video=clip[:3])
    video_processor.add_inputs_to_inference_session(session, 0, 1, input_points=[[[[25, 45]]]], input_labels=[[[1]]])
    expected = [output.pred_masks for output in video_model.propagate_in_video_iterator(session)]
    torch.testing.assert_close(torch.load(remote_video[1] / "result"), expected, rtol=0, atol=1e-4)


def test_video_folder_saved_from_remote_code_is_complete(remote_video, video_folder):
    again = remote_video[1] / "result_again"
    assert {path.name for path in video_folder.iterdir()} == {path.name for path in again.iterdir()}
    saved, loaded = (transformers.AutoConfig.from_pretrained(path).to_dict() for path in (video_folder, again))
    assert saved["auto_map"] == loaded["auto_map"]


def test_video_folder_without_remote_code_gives_native_classes(video_folder, tmp_path):
    printed = run_isolated(LOAD_NATIVE, video_folder, cwd=tmp_path)
    modules = dict(line.split(" ") for line in printed.splitlines() if line.count(" ") == 1)
    assert modules.pop("pipeline") == "transformers.pipelines.mask_generation"
    assert len(modules) == 5 and all(module.startswith("transformers.models.") for module in modules.values())


def test_import_makes_plain_native_video_folders_ours(video_model, tmp_path):
    make_native_video(video_model).save_pretrained(tmp_path)
    assert type(transformers.AutoConfig.from_pretrained(tmp_path)) is edgetam_hf.EdgeTamVideoConfig
    assert type(transformers.AutoModel.from_pretrained(tmp_path)) is edgetam_hf.EdgeTamVideoModel
    image_model = transformers.AutoModelForMaskGeneration.from_pretrained(tmp_path, attn_implementation="eager")
    assert type(image_model) is edgetam_hf.EdgeTamModel
    assert image_model.config.model_type == "edgetam" and image_model.config._attn_implementation == "eager"


def test_import_makes_plain_native_folders_ours(model, native, tmp_path):
    native.save_pretrained(tmp_path)
    for auto in (transformers.AutoModel, transformers.AutoModelForMaskGeneration):
        assert type(auto.from_pretrained(tmp_path)) is edgetam_hf.EdgeTamModel
    assert type(transformers.AutoConfig.from_pretrained(tmp_path)) is edgetam_hf.EdgeTamConfig
    assert type(transformers.AutoModel.from_config(model.config.vision_config)) is edgetam_hf.EdgeTamVisionModel


def test_import_leaves_native_models_working(model):
    native = transformers.EdgeTamModel(native_config(model.config))
    assert type(native.vision_encoder).__module__.startswith("transformers.")


def test_package_exports_what_it_lists():
    assert all(hasattr(edgetam_hf, name) for name in edgetam_hf.__all__)


# What the loader of remote code asks of a file


def statements(path):
    """The statements that importing a file executes, with those inside `if` and `try`."""
    queue = list(ast.parse(path.read_text()).body)
    while queue:
        statement = queue.pop(0)
        yield statement
        for block in ("body", "orelse", "finalbody", "handlers"):
            if isinstance(statement, (ast.If, ast.Try, ast.ExceptHandler)):
                queue.extend(getattr(statement, block, []))


@pytest.mark.parametrize("path", CODE_FILES, ids=lambda path: path.stem)
def test_code_file_imports_its_neighbours_by_one_dot_and_one_name(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            assert node.level == 1 and node.module and "." not in node.module, ast.unparse(node)
            assert (ROOT / f"{node.module}.py").exists(), ast.unparse(node)
        names = [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        assert not any(name.startswith("edgetam_hf") for name in names)


def neighbours(name):
    """Names of the code files that a code file imports."""
    tree = ast.parse((ROOT / f"{name}.py").read_text())
    return {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level}


@pytest.mark.parametrize("name", ENTRY_FILES)
def test_entry_file_names_every_file_it_reaches(name):
    """Transformers 4 fetches no file that is only imported by an imported file."""
    reached, queue = set(), [name]
    while queue:
        new = neighbours(queue.pop()) - reached
        reached |= new
        queue.extend(new)
    assert reached - {name} <= neighbours(name)


@pytest.mark.parametrize("path", CODE_FILES, ids=lambda path: path.stem)
def test_code_file_only_defines(path):
    allowed = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign, ast.If, ast.Try)
    for statement in statements(path):
        is_docstring = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        assert is_docstring or isinstance(statement, (*allowed, ast.ExceptHandler, ast.Pass)), ast.unparse(statement)


# What only runs programs, loads pickles, or reaches the network; `os` and `pathlib` are there for paths
FORBIDDEN_MODULES = {
    *("builtins", "ctypes", "dill", "ftplib", "http", "httpx", "huggingface_hub", "importlib", "joblib", "marshal"),
    *("multiprocessing", "pickle", "requests", "runpy", "shelve", "shutil", "socket", "ssl", "subprocess", "sys"),
    *("tempfile", "urllib"),
}
FORBIDDEN_CALLS = {
    *("__import__", "breakpoint", "compile", "eval", "exec", "globals", "input", "open"),
    *("system", "popen", "spawnv", "execv", "fork", "kill", "putenv", "remove", "unlink", "rename"),
    *("rmdir", "mkdir", "makedirs", "write_text", "write_bytes", "touch", "chmod", "symlink_to"),
}
HARMLESS_CALLS = {"av.open", "Image.open"}
HARMLESS_COMPILE = re.compile(r"(torch|re|part|super\(\)|self(\.\w+)+)\.compile")  # of models and patterns


def dangers(code):
    """What remote code must not contain: forbidden imports and calls, and calls while a module is imported."""
    for node in ast.walk(ast.parse(code)):
        modules = [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
        modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        yield from (module for module in modules if module.split(".")[0] in FORBIDDEN_MODULES)
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            is_pickle = called in ("torch.load", "torch.save", "np.load", "np.save", "torch.hub.load")
            is_harmless = called in HARMLESS_CALLS or HARMLESS_COMPILE.fullmatch(called)
            is_forbidden = called.split(".")[-1] in FORBIDDEN_CALLS and not is_harmless
            if is_pickle or is_forbidden:
                yield ast.unparse(node)


@pytest.mark.parametrize("path", CODE_FILES, ids=lambda path: path.stem)
def test_code_file_runs_no_programs_and_reaches_for_no_network_pickle_or_file_to_write(path):
    assert list(dangers(path.read_text())) == []


@pytest.mark.parametrize(
    "code",
    [
        *("import pickle", "from urllib.request import urlopen", "import os\nos.system('ls')", "torch.load('x')"),
        *("def f(x):\n    return eval(x)", "class A:\n    import subprocess", "open('x', 'w')", "x.write_text('')"),
    ],
)
def test_dangers_of_code_are_seen(code):
    assert len(list(dangers(code))) == 1


def calls_at_import(path):
    """Names of what is called when a file is imported: outside of functions, and as decorators and defaults."""
    queue = list(ast.parse(path.read_text()).body)
    while queue:
        node = queue.pop()
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)
        if isinstance(node, (ast.FunctionDef, ast.Lambda)):
            queue += [*node.args.defaults, *filter(None, node.args.kw_defaults), *getattr(node, "decorator_list", [])]
        else:
            queue += ast.iter_child_nodes(node)


@pytest.mark.parametrize("path", CODE_FILES, ids=lambda path: path.stem)
def test_code_file_calls_nothing_but_dataclasses_when_imported(path):
    assert set(calls_at_import(path)) <= {"dataclass", "field"}


@pytest.mark.parametrize("path", CODE_FILES, ids=lambda path: path.stem)
def test_code_file_is_forced_into_the_wheel(path):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert included[path.name] == f"edgetam_hf/{path.name}"
    assert set(included) == {file.name for file in CODE_FILES} | {"LICENSE", "hub_upload.py"}
