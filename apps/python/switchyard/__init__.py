# SPDX-License-Identifier: Apache-2.0
"""Switchyard routes compute calls to the backend measured fastest and verified right.

    import numpy as np
    import switchyard as sy

    engine = sy.Engine()
    fit = engine.kmeans(np.random.default_rng(0).random((10000, 16), np.float32), 8)
    fit.labels, fit.centroids, fit.inertia

Arrays come from NumPy, torch or anything else with DLPack, and are read where they are. torch in,
torch out; otherwise NumPy. See `Engine` for the calls and `Error` for what they raise.
"""

import importlib
from typing import TYPE_CHECKING, Any

from ._advice import Advice, AttentionAdvisor, AttentionConfig, ModelAttention, attention_models
from ._batches import BatchProgress, available_memory, batch_rows, process_in_batches
from ._core import version as __version__
from ._engine import Engine, default_engine
from ._errors import Error, InputError
from ._host import BackendConfig, CallTiming
from ._kv_cache import KVBudget, KVCache
from ._models import RECIPES, dequantize_model, quantize_model
from ._results import (
    KMeansResult,
    ProductResult,
    Quantized,
    RunInfo,
    SweepEntry,
    SweepResult,
    last_run,
)


def create_auto() -> Engine:
    """An Engine without configuration: everything by default and from the environment."""
    return Engine()


# What needs scikit-learn or torch is imported when it is first used.
_LATER = {"KMeans": "sklearn", "MiniBatchKMeans": "sklearn", "sklearn": "", "torch": ""}

if TYPE_CHECKING:  # what checkers and editors know of them; a misspelt name is an error to them
    from . import sklearn as sklearn
    from . import torch as torch
    from .sklearn import KMeans as KMeans
    from .sklearn import MiniBatchKMeans as MiniBatchKMeans
else:

    def __getattr__(name: str) -> Any:
        if name not in _LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = importlib.import_module(f"{__name__}.{_LATER[name] or name}")
        return getattr(module, name) if _LATER[name] else module



def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})


__all__ = [
    "RECIPES",
    "Advice",
    "AttentionAdvisor",
    "AttentionConfig",
    "BackendConfig",
    "BatchProgress",
    "CallTiming",
    "Engine",
    "Error",
    "InputError",
    "KMeansResult",
    "KVBudget",
    "KVCache",
    "ModelAttention",
    "ProductResult",
    "Quantized",
    "RunInfo",
    "SweepEntry",
    "SweepResult",
    "__version__",
    "attention_models",
    "available_memory",
    "batch_rows",
    "create_auto",
    "default_engine",
    "dequantize_model",
    "last_run",
    "process_in_batches",
    "quantize_model",
]
