"""The search for garbage rests while the package is imported, and only then."""

import gc
import subprocess
import sys
import weakref

import pytest

from edgetam_hf.garbage import without_garbage_collection

PROGRAM = """
import gc, sys
searches = []
gc.callbacks.append(lambda phase, info: searches.append(info["generation"]))
import edgetam_hf
assert gc.isenabled() and 2 not in searches, searches
assert "edgetam_hf.video_file_edgetam" not in sys.modules, "PyAV is for those who open a video"
"""


@pytest.fixture(autouse=True)
def collector():
    yield
    gc.enable()


@pytest.mark.parametrize("was_enabled", [True, False])
def test_without_garbage_collection_leaves_the_collector_as_it_was(was_enabled):
    (gc.enable if was_enabled else gc.disable)()
    with pytest.raises(ImportError), without_garbage_collection():
        assert not gc.isenabled()
        raise ImportError
    assert gc.isenabled() == was_enabled


def test_without_garbage_collection_leaves_what_is_garbage_to_be_found():
    class Node:
        pass

    with without_garbage_collection():
        node = Node()
        node.itself, found = node, weakref.ref(node)
        del node
    assert found() is not None and gc.get_freeze_count() == 0
    gc.collect()
    assert found() is None


def test_import_makes_no_full_search_and_leaves_video_files_alone():
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
