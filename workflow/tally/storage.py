"""Storage of a method in gigabits (10^9 bits), float32 weights; paper section 1.1, which prints these numbers."""

from tally.errors import TallyError

# In units of (bits a domain weight, bits a domain weight and task, bits a frozen weight): theta_0 is 32, 0, 32.
_ONE_MODEL = (32, 0, 32)
_MASKED = (64, 1, 32)  # theta_0, tau_mtl, and one bit a weight and task
FORMULAS = {
    "zero-shot": _ONE_MODEL,
    "fine-tuned": (0, 32, 32),
    "weight-average": _ONE_MODEL,
    "task-arithmetic": _ONE_MODEL,
    "ties": _ONE_MODEL,
    "ties-sum": _ONE_MODEL,
    "consensus-task-arithmetic": _ONE_MODEL,
    "consensus-ties": _ONE_MODEL,
    "random-consensus": _ONE_MODEL,
    "magnitude-pruning": _MASKED,  # theta_0, T times 1 / T of the values, and a bit a weight and task for where they are
    "magnitude-masking": _MASKED,
    "magnitude-masking-matched": _MASKED,  # the same files at another density
    "tall-task-arithmetic": _MASKED,
    "tall-ties": _MASKED,
}


PAPER = "fp32-fp32-packed"  # the paper's storage format of a bundle


def format_parts(name: str) -> dict[str, str]:
    """A storage format's name, "fp16-int8-zstd", as the options that write it. Raises TallyError for another number of parts."""
    parts = name.split("-")
    if len(parts) != 3:
        raise TallyError(f"unknown storage format {name!r}; it is base dtype-vector dtype-mask codec, such as {PAPER}")
    return dict(zip(("base_dtype", "vector_dtype", "mask_codec"), parts, strict=True))


def gigabits(method: str, *, domain_weights: int, frozen_weights: int, tasks: int) -> float:
    """10^9 bits that a method stores: P domain weights, F frozen ones (stored once), T tasks.

    >>> round(gigabits("tall-ties", domain_weights=87849216, frozen_weights=25599489, tasks=20), 1)
    8.2
    """
    if method not in FORMULAS:
        raise TallyError(f"unknown method {method!r}; storage is known of {', '.join(FORMULAS)}")
    shared, each, frozen = FORMULAS[method]
    return ((shared + each * tasks) * domain_weights + frozen * frozen_weights) / 1e9
