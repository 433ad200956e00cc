"""TALL-masks and Consensus Merging: merge fine-tuned models, or keep all of them in one small file.

>>> import tally
>>> bundle = tally.open_bundle("tasks.safetensors", base="base.safetensors")  # doctest: +SKIP
>>> bundle.switch(model, "mnist")  # doctest: +SKIP
>>> tally.storage.gigabits("fine-tuned", domain_weights=10**9, frozen_weights=0, tasks=2)
64.0
"""

import importlib

__all__ = ["open_bundle", "storage"]


def __getattr__(name: str):
    if name not in __all__:
        raise AttributeError(f"module 'tally' has no attribute {name!r}")
    if name == "storage":
        return importlib.import_module("tally.storage")
    from tally.bundle import open_bundle  # numpy is imported when it is first used

    return open_bundle


def __dir__() -> list[str]:
    return __all__
