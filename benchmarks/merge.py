"""How fast tally merges, and in how much memory: seconds, GB/s, and ratios to a plain read and to dense torch.

    python benchmarks/merge.py --model ViT-B-32 --tasks 8 14 20 --dtype float32 bfloat16 --folder /big/disk
    python benchmarks/merge.py --model t5-large --tasks 2 4 --rounds 1 --folder /big/disk \\
        --method task-arithmetic ties-sum bundle consensus-ties    # 23 GB of disk

Base and fine-tuned checkpoints have the true shapes of open_clip's image towers or of transformers' T5, and heavy-tailed
task vectors. `bundle` and `consensus-ties` are what `tally compress` and `tally merge` write, the votes on the way. Every
measurement is a process of its own; its peak memory is anonymous memory, not the pages of the files that it maps.
The plain read maps the same files and sums them, in as many threads; it is measured in the same run, before each row.
Checkpoints of others bear no checksums, so these are read without; --verify measures what comparing costs where they do.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tally import checksums, vectors
from tally.checkpoints import create, open_checkpoint
from tally.merged_model import write_merged
from tally.merging import merge
from tally.packing import compress
from tally.vectors import narrow

LAMBDAS = [0.2, 0.3, 0.4, 0.5, 0.6]
METHODS = ["task-arithmetic", "ties-sum"]
FILES = ["bundle", "consensus-ties"]  # whole files, which have no counterpart in dense torch here
T5_LARGE = "t5-large"  # the shapes of google/t5-large-lm-adapt
DOMAIN = ["visual.*", "encoder.*", "decoder.*", "lm_head.*"]
# width, layers, patch, resolution, embedding, and the number of weights that the paper's table 1 implies
TOWERS = {
    "tiny": (32, 2, 8, 32, 16, None),
    "ViT-B-32": (768, 12, 32, 224, 512, 87_849_216),
    "ViT-B-16": (768, 12, 16, 224, 512, 86_192_640),
    "ViT-L-14": (1024, 24, 14, 224, 768, 303_966_208),
}


def t5_large() -> dict[str, tuple[int, ...]]:
    """Names and shapes of google/t5-large-lm-adapt, 783,150,080 weights, as transformers saves it."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        d_model=1024, d_kv=64, d_ff=2816, num_layers=24, num_heads=16, vocab_size=32128,
        feed_forward_proj="gated-gelu", tie_word_embeddings=False,
    )  # fmt: skip
    with torch.device("meta"):
        model = T5ForConditionalGeneration(config)
    shapes = {name: tuple(weight.shape) for name, weight in model.state_dict().items() if "embed_tokens" not in name}
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == 783_150_080  # what is tied to `shared` once
    return shapes


def shapes(model: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of open_clip's image tower, or of T5."""
    if model == T5_LARGE:
        return t5_large()
    width, layers, patch, resolution, embedding, size = TOWERS[model]
    result = {
        "class_embedding": (width,),
        "positional_embedding": ((resolution // patch) ** 2 + 1, width),
        "proj": (width, embedding),
        "conv1.weight": (width, 3, patch, patch),
    }
    norms = ["ln_pre", "ln_post"]
    for i in range(layers):
        block = f"transformer.resblocks.{i}"
        norms += [f"{block}.ln_1", f"{block}.ln_2"]
        result |= {f"{block}.attn.in_proj_weight": (3 * width, width), f"{block}.attn.in_proj_bias": (3 * width,)}
        for name, shape in {
            "attn.out_proj": (width, width),
            "mlp.c_fc": (4 * width, width),
            "mlp.c_proj": (width, 4 * width),
        }.items():
            result |= {f"{block}.{name}.weight": shape, f"{block}.{name}.bias": shape[:1]}
    result |= {f"{name}.{part}": (width,) for name in norms for part in ("weight", "bias")}
    assert size in (None, sum(int(np.prod(shape)) for shape in result.values())), model
    return {f"visual.{name}": shape for name, shape in result.items()}


def make(folder: Path, model: str, dtype: str, tasks: int) -> tuple[Path, dict[str, Path]]:
    """Write what is not there yet: the base and `tasks` fine-tuned checkpoints."""
    random = np.random.default_rng(0)
    pool = random.standard_normal(1 << 22).astype(np.float32) * np.float32(0.02)
    tails = random.standard_t(3, 1 << 22).astype(np.float32) * np.float32(2e-4)  # task vectors are small, tails heavy
    layout = {name: ("BF16" if dtype == "bfloat16" else "F32", shape) for name, shape in shapes(model).items()}

    def draw(source: np.ndarray, random, size: int) -> np.ndarray:
        return np.resize(np.roll(source, -int(random.integers(source.size))), size)

    paths = [folder / f"{model}-{dtype}-{name}.safetensors" for name in ("base", *range(tasks))]
    for t, path in enumerate(paths):
        if path.exists():
            continue
        base, own = np.random.default_rng(1), np.random.default_rng(1000 + t)
        with create(path, layout, "model") as writer:
            for name, (_, shape) in layout.items():
                values = draw(pool, base, int(np.prod(shape)))
                values = values + draw(tails, own, values.size) if t else values
                writer[name][...] = (narrow(values) if dtype == "bfloat16" else values).reshape(shape)
    return paths[0], {f"task{t:02}": path for t, path in enumerate(paths[1:])}


def plain(base: Path, finetuned: dict[str, Path], threads: int, device: str, folder: Path) -> dict:
    """Map every file and sum its bytes as float32, in as many threads: what any merge has to do at the least."""
    started, chunks = time.perf_counter(), []
    for path in (base, *finetuned.values()):
        checkpoint = open_checkpoint(path)
        for name in checkpoint.names:
            whole = checkpoint[name].reshape(-1)
            whole = whole[: whole.size // 2 * 2].view(np.float32)
            chunks += [whole[start : start + (1 << 16)] for start in range(0, whole.size, 1 << 16)]

    def add(part: list[np.ndarray]) -> None:
        with np.errstate(all="ignore"):
            for chunk in part:
                chunk.sum()

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(add, (chunks[thread::threads] for thread in range(threads))))
    return {"seconds": time.perf_counter() - started}


def tally(method: str, base: Path, finetuned: dict[str, Path], threads: int, device: str, folder: Path) -> dict:
    """Merged vector and the levels of five lambdas, into files; the seconds to bring those to the disk are apart."""
    task_vectors, where = vectors.difference(base, finetuned, DOMAIN), {"threads": threads, "device": device}
    started = time.perf_counter()
    if method == "bundle":
        compress(folder / "bundle.safetensors", task_vectors, 0.4, **where)
    elif method in FILES:
        write_merged(folder / "model.safetensors", task_vectors, method, alpha=0.4, k=2, **where)
    if method in FILES:
        return {"seconds": time.perf_counter() - started, "flush": 0.0}
    levels = {task: ("U8", (task_vectors.size,)) for task in task_vectors.tasks}
    with (
        create(folder / "merged.safetensors", task_vectors.layout("F32"), "merged") as merged,
        create(folder / "levels.safetensors", levels, "levels") as level,
    ):
        out = {"vector": merged.flat(), "levels": [level.stored(task) for task in task_vectors.tasks]}
        started = time.perf_counter()
        merge(task_vectors, method, lambdas=LAMBDAS, out=out, **where)
        seconds = time.perf_counter() - started
        started = time.perf_counter()
    return {"seconds": seconds, "flush": time.perf_counter() - started}


def dense(method: str, base: Path, finetuned: dict[str, Path], threads: int, device: str, folder: Path) -> dict:
    """The same with all task vectors stacked in memory, as the authors' code does it."""
    import torch

    torch.set_num_threads(threads)
    started = time.perf_counter()
    theta = torch.from_numpy(flat(base))
    tau = torch.stack([torch.from_numpy(flat(path)) - theta for path in finetuned.values()])
    merged = tau.sum(0) if method == "task-arithmetic" else dense_ties(tau)
    for row in tau:
        near, far = row.abs(), (merged - row).abs()
        masks = [near >= scale * far for scale in LAMBDAS]
    del masks
    return {"seconds": time.perf_counter() - started}


def dense_ties(tau):
    import torch

    kept = torch.empty_like(tau)
    for row, out in zip(tau, kept):
        threshold = row.abs().kthvalue(row.numel() - int(row.numel() * 0.2)).values
        torch.mul(row, row.abs() >= threshold, out=out)
    sign = kept.sum(0).sign()
    sign[sign == 0] = sign.sum().sign()
    return (kept * torch.where(sign > 0, kept > 0, kept < 0)).sum(0)


def flat(path: Path) -> np.ndarray:
    checkpoint = open_checkpoint(path)
    return np.concatenate([checkpoint.float32(name).reshape(-1) for name in checkpoint.names])


class Peak(threading.Thread):
    """The largest RssAnon of this process while it runs."""

    def __init__(self):
        super().__init__(daemon=True)
        self.bytes, self.ended = 0, threading.Event()

    def run(self):
        while not self.ended.wait(0.005):
            with open("/proc/self/status") as status:
                line = next(line for line in status if line.startswith("RssAnon"))
            self.bytes = max(self.bytes, int(line.split()[1]) * 1024)


def available() -> int:
    """Bytes that can be had without swapping; the page cache counts, since the system gives it up."""
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return int(lines["MemAvailable"].split()[0]) * 1024


def measure(job: dict) -> dict:
    """Run one job in a process of its own."""
    answer = subprocess.run(
        [sys.executable, __file__, "--job", json.dumps(job)], stdout=subprocess.PIPE, text=True, check=False
    )
    return json.loads(answer.stdout) if answer.returncode == 0 else {"seconds": float("nan"), "peak": float("nan")}


def run(job: dict) -> dict:
    """Inside that process: the measurement and its peak memory."""
    peak = Peak()
    peak.start()
    checksums.verify = job["verify"] and job["call"] == "tally"
    call = {"plain": plain, "tally": tally, "dense": dense}[job["call"]]
    arguments = [job["method"]] if job["call"] != "plain" else []
    finetuned = {task: Path(path) for task, path in job["finetuned"].items()}
    with tempfile.TemporaryDirectory(dir=job["folder"]) as folder:
        result = call(*arguments, Path(job["base"]), finetuned, job["threads"], job["device"], Path(folder))
    peak.ended.set()
    peak.join()
    return result | {"peak": peak.bytes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", choices=[*TOWERS, T5_LARGE], default=["ViT-B-32"])
    parser.add_argument("--method", nargs="+", choices=METHODS + FILES, default=METHODS)
    parser.add_argument("--tasks", nargs="+", type=int, default=[8])
    parser.add_argument("--dtype", nargs="+", choices=["float32", "bfloat16"], default=["float32"])
    parser.add_argument("--folder", type=Path, help="where checkpoints are made and kept (default: a temporary one)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="of tally: cpu (default), cuda or cuda:N")
    parser.add_argument("--verify", action="store_true", help="compare the tensors with their checksums")
    parser.add_argument("--rounds", type=int, default=3, help="the fastest of so many runs counts")
    parser.add_argument("--json", type=Path, help="write the rows here too")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        print(json.dumps(run(json.loads(options.job))))
        return
    temporary = None if options.folder else tempfile.TemporaryDirectory()
    folder = options.folder or Path(temporary.name)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    head = f"{'model':9} {'dtype':9} {'T':>3} {'method':16} {'s':>7} {'flush s':>8} {'GB/s':>6} {'anon GB':>8} {'x read':>7} {'x torch':>8}"
    print(head + "\n" + "-" * len(head))
    for model in options.model:
        for dtype in options.dtype:
            for tasks in options.tasks:
                base, finetuned = make(folder, model, dtype, tasks)
                job = {"base": str(base), "folder": str(folder), "threads": options.threads, "verify": options.verify}
                job["device"] = options.device
                job["finetuned"] = {task: str(path) for task, path in finetuned.items()}
                size = sum(int(np.prod(shape)) for shape in shapes(model).values())
                dense_fits = 5 * 4 * size * tasks < available()
                bytes_read = sum(path.stat().st_size for path in (base, *finetuned.values()))
                for method in options.method:
                    fits, best = dense_fits and method in METHODS, {}
                    for call in ("plain", "tally", *(["dense"] if fits else [])):
                        runs = [measure(job | {"call": call, "method": method}) for _ in range(options.rounds)]
                        best[call] = min(runs, key=lambda run: run["seconds"])
                    mine = best["tally"]
                    row = {"model": model, "dtype": dtype, "tasks": tasks, "method": method, **mine}
                    row |= {"gigabytes_a_second": bytes_read / mine["seconds"] / 1e9}
                    row |= {"to_plain_read": mine["seconds"] / best["plain"]["seconds"]}
                    row |= {"to_torch": mine["seconds"] / best["dense"]["seconds"] if fits else None}
                    rows.append(row)
                    torch_ratio = f"{row['to_torch']:8.2f}" if fits else f"{'-':>8}"
                    print(
                        f"{model:9} {dtype:9} {tasks:3} {method:16} {mine['seconds']:7.2f} {mine['flush']:8.2f} "
                        f"{row['gigabytes_a_second']:6.2f} {mine['peak'] / 1e9:8.2f} {row['to_plain_read']:7.2f} {torch_ratio}",
                        flush=True,
                    )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
