"""A GPU's results made repeatable, where its libraries know a way; on the CPU they are anyway.

Without it a GPU may sum in varying order: two runs of one seed differ in the last digits, and in the end in more.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from attnbn.io.errors import RunError

WORKSPACE = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
"""What cuBLAS needs in the environment to be deterministic, read at its first call in a process."""


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Within it only deterministic algorithms run, if wanted; what was set before is set again afterwards.

    Raises:
        RunError: where a layer has no deterministic algorithm on this device.
    """
    if not wanted:
        yield
        return
    os.environ.setdefault(*WORKSPACE)
    cudnn = torch.backends.cudnn
    algorithms = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    flags = cudnn.deterministic, cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    except RuntimeError as error:
        if "does not have a deterministic implementation" not in str(error):
            raise
        operation = str(error).split()[0]
        raise RunError(
            f"--deterministic: PyTorch has no deterministic {operation} on this device; leave the setting out, use another "
            "backbone, or train on the CPU"
        ) from error
    finally:
        torch.use_deterministic_algorithms(algorithms[0], warn_only=algorithms[1])
        cudnn.deterministic, cudnn.benchmark = flags
