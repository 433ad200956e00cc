"""Does bfloat16 evaluation choose as float32 does? Both search alpha for some merged vectors of a finished run.

python benchmarks/precision.py results/mini-clip mini-8
"""

import json
import sys
import time
from pathlib import Path

import torch
from tally.checkpoints import open_checkpoint
from tally.evaluate import Bench, Examiner, evaluate
from tally.models.base import read_model

ALPHAS = [round(0.1 * i, 1) for i in range(1, 11)]


def main(store: Path, suite: str) -> None:
    tasks = json.loads((store / suite / "masks" / "task-arithmetic.json").read_text())["tasks"]
    bench = Bench.load(
        {t: store / "heads" / f"{t}.safetensors" for t in tasks},
        {t: store / "data" / f"{t}.safetensors" for t in tasks},
    )
    val = {t: json.loads((store / "finetuned" / f"{t}.json").read_text())["val"] for t in tasks}
    reference = {t: row["correct"] / row["total"] for t, row in val.items()}
    base = open_checkpoint(store / "base.safetensors")
    model = read_model(Path("resources") / store.name)
    theta = {name: base.float32(name) for name in base.names if name.startswith(model.domain)}
    vectors = [f"{suite}/merged/task-arithmetic", f"{suite}/merged/ties", f"{suite}/consensus/consensus-ties/k2"]
    print(f"{'vector':40}{'precision':>10}{'alpha':>7}{'test correct':>14}{'seconds':>9}")
    for vector in vectors:
        file = open_checkpoint(store / f"{vector}.safetensors")
        tau = {name: file.float32(name) for name in file.names}
        for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
            start = time.perf_counter()
            found = evaluate(Examiner(model, dtype), bench, theta, tau, ALPHAS, reference)
            correct = sum(row["correct"] for row in found["test"].values())
            print(f"{vector:40}{name:>10}{found['alpha']:7}{correct:14}{time.perf_counter() - start:9.1f}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
