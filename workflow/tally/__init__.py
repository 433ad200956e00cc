"""TALL-masks and Consensus Merging: merge fine-tuned models, or keep all of them in one small file.

>>> import tally
>>> bundle = tally.open_bundle("tasks.safetensors", base="base.safetensors")  # doctest: +SKIP
>>> bundle.switch(model, "mnist")  # doctest: +SKIP
"""

__all__ = ["open_bundle"]


def __getattr__(name: str):
    if name != "open_bundle":  # the only name here; numpy is imported when it is first used
        raise AttributeError(f"module 'tally' has no attribute {name!r}")
    from tally.bundle import open_bundle

    return open_bundle
