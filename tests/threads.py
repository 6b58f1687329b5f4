"""The runtimes of exported models compute in as many threads as PyTorch does.

They pass over OMP_NUM_THREADS: each test process would take all cores for itself, and ONNX Runtime keeps them busy
while it waits, which took more than half of its time.
"""

import os

try:
    import onnxruntime
except ImportError:
    onnxruntime = None
try:
    import openvino
except ImportError:
    openvino = None


def limit_threads():
    """Makes sessions and cores that are opened from here on keep to OMP_NUM_THREADS, where that is set."""
    count = int(os.environ.get("OMP_NUM_THREADS", 0))
    if not count:
        return
    if onnxruntime:

        class SessionOptions(onnxruntime.SessionOptions):
            def __init__(self):
                super().__init__()
                self.intra_op_num_threads = count

        onnxruntime.SessionOptions = SessionOptions
    if openvino:

        class Core(openvino.Core):
            def __init__(self):
                super().__init__()
                self.set_property("CPU", {"INFERENCE_NUM_THREADS": count})

        openvino.Core = Core
