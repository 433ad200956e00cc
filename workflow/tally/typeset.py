"""Tables as files: CSV with every row and six decimals; Markdown and LaTeX with the paper's rows, rounded, best in bold."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from tally.files import write_bytes
from tally.records import Suite
from tally.statistics import bootstrap
from tally.tables import (
    LABELS,
    choices_table,
    group_of,
    label_of,
    main_table,
    paired_table,
    per_task_table,
    suites_table,
)

MAIN = (
    "Test accuracy: absolute, the mean over tasks; normalized, the mean of the ratios to each task's fine-tuned model. 1 Gb is "
    "10⁹ bits. Bold: the best that is stored as one model, and as masks or sparse vectors. k = 2 is the paper's; chosen, "
    "validation data's. Random consensus: as many weights as Consensus TA, drawn at random. TALL density: as many weights as "
    "the TALL masks of TA, the largest."
)
PER_TASK = (
    "Absolute test accuracy in percent. Bold: the best that is stored as one model, and as masks or sparse vectors."
)
PAIRED = (
    "Points: normalized accuracy in percent, the first minus the second on the same test examples. Bold: the interval of the "
    "difference leaves out 0. Better / worse: on how many tasks."
)
STORAGE = (
    "Base, Vector, Masks, Other (frozen weights, header): bits per domain weight and task; Bits: of the whole file. Points: "
    "normalized accuracy minus that of fp32-fp32-packed on the same test examples. Bold: at most half the paper's bits and at "
    "most 0.2 points less."
)
COMPARISON = (
    "Difference: ours minus the paper's; in brackets, how many standard errors that is. The error is that of ours over the draw "
    "of test examples alone; another fine-tuning moves the numbers too. Bold: storage that agrees to the printed digit."
)
LEAK = (
    "The paper's DTD had its test pictures in training, ours has not: the leak lifts its fine-tuned mean of 8 tasks by about "
    "2.3 points."
)
CHOICES = "What validation data chose: alpha of each merged vector, lambda of each TALL mask. All that was tried is in accuracy/ and masks/."
SUITES = (
    "Absolute test accuracy in percent, in brackets normalized; Gb are 10⁹ bits. Bold as in each suite's main table."
)


class Shown(NamedTuple):
    """A table as printed: header, rows of text, cells in bold as (row, column), rows that begin a new group, a note."""

    header: list[str]
    rows: list[list[str]]
    bold: set[tuple[int, int]]
    groups: set[int]
    note: str = ""  # how to read it, a line below the table


def label(method: str, k: int | None = None, chosen: bool | None = None) -> str:
    """A method as printed, e.g. "Consensus TA, k = 3 (chosen)"; k and chosen may be missing values."""
    text = label_of(method) if pd.isna(k) else f"{label_of(method)}, k = {k}"
    return text if pd.isna(chosen) or not chosen else f"{text} (chosen)"


def bold_best(methods: Sequence[str], columns: Mapping[int, Sequence[float]]) -> set[tuple[int, int]]:
    """Cells with the largest value (after rounding to one decimal) of their column within each group of methods."""
    bold = set()
    for column, values in columns.items():
        for group in (0, 2):
            rows = {i: round(v, 1) for i, v in enumerate(values) if group_of(methods[i]) == group and pd.notna(v)}
            bold |= {(i, column) for i, v in rows.items() if len(rows) > 1 and v == max(rows.values())}
    return bold


def starts(methods: Sequence[str]) -> set[int]:
    """Rows at which another group begins."""
    return {i for i in range(1, len(methods)) if group_of(methods[i]) != group_of(methods[i - 1])}


def stored(value: float) -> str:
    """Gigabits in print: three digits for anything up to 100."""
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def signed(value: float, digits: int = 1) -> str:
    """A difference in print, never −0.0."""
    return f"{round(value, digits) + 0.0:+.{digits}f}".replace("-", "−")


def show_main(main: pd.DataFrame) -> Shown:
    """The main table as printed: of each consensus method the k chosen on validation data and the paper's k = 2."""
    shown = main[main["chosen"].fillna(True).astype(bool) | main["k"].eq(2).fillna(False).astype(bool)]
    methods = list(shown["method"])
    rows = [
        [label(r.method, r.k, r.chosen), f"{r.absolute:.1f}", f"{r.normalized:.1f}",
         f"[{r.normalized_low:.1f}, {r.normalized_high:.1f}]", stored(r.gigabits)]
        for r in shown.itertuples()
    ]  # fmt: skip
    bold = bold_best(methods, {1: list(shown["absolute"]), 2: list(shown["normalized"])})
    return Shown(
        ["Method", "Absolute %", "Normalized %", "95 % interval", "Storage Gb"], rows, bold, starts(methods), MAIN
    )


def show_per_task(table: pd.DataFrame) -> Shown:
    """The per-task table as printed."""
    methods, tasks = list(table["method"]), list(table.columns[2:])
    rows = [[label(r["method"], r["k"])] + [f"{r[task]:.1f}" for task in tasks] for _, r in table.iterrows()]
    bold = bold_best(methods, {i + 1: list(table[task]) for i, task in enumerate(tasks)})
    return Shown(["Method", *tasks], rows, bold, starts(methods), PER_TASK)


def show_paired(table: pd.DataFrame) -> Shown:
    """The paired differences as printed; bold where the interval leaves out zero."""
    rows = [
        [f"{LABELS[r.method]} − {LABELS[r.baseline]}",
         "" if pd.isna(r.k) else f"{r.k} (chosen)" if r.chosen else str(r.k), signed(r.difference),
         f"[{signed(r.low)}, {signed(r.high)}]", f"{r.wins} / {r.losses} / {r.tasks}"]
        for r in table.itertuples()
    ]  # fmt: skip
    bold = {(i, 2) for i, r in enumerate(table.itertuples()) if r.low > 0 or r.high < 0}
    new = {i for i in range(1, len(rows)) if rows[i][0] != rows[i - 1][0]}
    return Shown(["Difference", "k", "Points", "95 % interval", "Better / worse / tasks"], rows, bold, new, PAIRED)


def show_storage(table: pd.DataFrame) -> Shown:
    """The storage formats as printed; bold what takes half the paper's bits or less and loses at most 0.2 points."""
    rows = [
        [LABELS[r.method], f"{r.base}-{r.vector}-{r.codec}", f"{r.bits_base:.2f}", f"{r.bits_vector:.2f}",
         f"{r.bits_masks:.2f}", f"{r.bits_other:.2f}", f"{r.bits:.2f}", f"{r.share:.0f}", f"{r.bytes / 1e6:.1f}",
         f"{r.normalized:.2f}", f"[{r.normalized_low:.1f}, {r.normalized_high:.1f}]", signed(r.difference, 2),
         f"[{signed(r.low, 2)}, {signed(r.high, 2)}]"]
        for r in table.itertuples()
    ]  # fmt: skip
    header = ["Method", "Base-vector-masks", "Base", "Vector", "Masks", "Other", "Bits", "% of paper's", "MB",
              "Normalized %", "its 95 % interval", "Points", "their 95 % interval"]  # fmt: skip
    bold = {(i, 1) for i, r in enumerate(table.itertuples()) if r.share <= 50 and r.difference >= -0.2}
    new = {i for i in range(1, len(table)) if table["method"][i] != table["method"][i - 1]}
    return Shown(header, rows, bold, new, STORAGE)


def show_choices(table: pd.DataFrame) -> Shown:
    """The choices as printed."""

    def text(value: float, digits: int) -> str:
        return "" if pd.isna(value) else f"{value:.{digits}f}"

    rows = [
        [label(r["method"], r["k"], r["chosen"]), r["task"], text(r["alpha"], 2),
         text(r["lambda"], 2), text(r["density"], 1), text(r["validation"], 1)]
        for _, r in table.iterrows()
    ]  # fmt: skip
    new = {i for i in range(1, len(table)) if table["method"][i] != table["method"][i - 1]}
    return Shown(
        ["Candidate", "Task", "alpha", "lambda", "Density %", "Validation, normalized %"], rows, set(), new, CHOICES
    )


def show_suites(table: pd.DataFrame) -> Shown:
    """Suites side by side as in the paper: absolute (normalized), then the storage."""
    suites = [column.removesuffix(" absolute") for column in table.columns if column.endswith(" absolute")]
    methods, rows = list(table["method"]), []
    for _, r in table.iterrows():
        choice = {"": "", "validation": ", k chosen", "k=2": ", k = 2"}[r["choice"]]
        row = [LABELS[r["method"]] + choice]
        for suite in suites:
            k, absolute, normalized = r[f"{suite} k"], r[f"{suite} absolute"], r[f"{suite} normalized"]
            of_k = f" k={k}" if r["choice"] == "validation" and pd.notna(k) else ""
            row += ["", ""] if pd.isna(absolute) else [
                f"{absolute:.1f} ({normalized:.1f}){of_k}", stored(r[f"{suite} gigabits"])
            ]  # fmt: skip
        rows.append(row)
    bold = bold_best(methods, {1 + 2 * i: list(table[f"{suite} absolute"]) for i, suite in enumerate(suites)})
    header = ["Method"] + [text for suite in suites for text in (f"{suite}, % (norm.)", "Gb")]
    return Shown(header, rows, bold, starts(methods), SUITES)


def show_comparison(table: pd.DataFrame, tasks: Sequence[str]) -> Shown:
    """Ours beside the paper's, a row per method: of each quantity ours, theirs, and the difference in standard errors."""
    names = {"absolute": "Absolute %", "normalized": "Normalized %", "gigabits": "Gb"}
    header = ["Method"]
    for quantity, name in names.items():
        header += [name, f"paper's {name}"] + ([] if quantity == "gigabits" else ["difference (errors)"])
    rows, bold, methods = [], set(), list(dict.fromkeys(table["method"]))
    cells = {(r.method, r.quantity): r for r in table.itertuples()}
    for method in methods:
        k = table.loc[table["method"] == method, "k"].iloc[0]
        row = [label(method, k)]
        for quantity in names:
            cell = cells.get((method, quantity))
            if cell is None:
                row += [""] * (2 if quantity == "gigabits" else 3)
                continue
            if cell.agrees and quantity == "gigabits":
                bold.add((len(rows), len(row)))
            row += [f"{cell.ours:.1f}", f"{cell.paper:.1f}"]
            if quantity != "gigabits":
                row.append(signed(cell.difference) + ("" if pd.isna(cell.errors) else f" ({signed(cell.errors)})"))
        rows.append(row)
    return Shown(header, rows, bold, starts(methods), f"{COMPARISON} {LEAK}" if "DTD" in tasks else COMPARISON)


def markdown(shown: Shown) -> str:
    """A pipe table, the first column to the left, numbers to the right; below it the note."""
    from tabulate import tabulate

    rows = [
        [f"**{cell}**" if (i, j) in shown.bold else cell for j, cell in enumerate(row)]
        for i, row in enumerate(shown.rows)
    ]
    sides = ["left"] + ["right"] * (len(shown.header) - 1)
    return (
        tabulate(rows, shown.header, tablefmt="pipe", disable_numparse=True, colalign=sides)
        + "\n"
        + (f"\n{shown.note}\n" if shown.note else "")
    )


def latex(shown: Shown) -> str:
    """A booktabs tabular, to be \\input into a table environment; a rule between groups. The note is a comment above it."""
    special = {"&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "$": r"\$", "−": "$-$"}

    def line(cells: Sequence[str], bold: set[int]) -> str:
        plain = ["".join(special.get(c, c) for c in cell) for cell in cells]
        return " & ".join(rf"\textbf{{{c}}}" if j in bold else c for j, c in enumerate(plain)) + r" \\"

    body = [f"% {shown.note}"] if shown.note else []
    body += [
        rf"\begin{{tabular}}{{l{'r' * (len(shown.header) - 1)}}}",
        r"\toprule",
        line(shown.header, set()),
        r"\midrule",
    ]
    for i, row in enumerate(shown.rows):
        body += [r"\midrule"] * (i in shown.groups)
        # Without {} a row that begins with an interval would be read as the optional argument of the \\ before it.
        body.append(line(row, {j for k, j in shown.bold if k == i}).replace("[", "{[}").replace("]", "{]}"))
    return "\n".join([*body, r"\bottomrule", r"\end{tabular}"]) + "\n"


def write_table(table: pd.DataFrame, shown: Shown, stem: Path | str, provenance: str = "") -> None:
    """Write <stem>.csv, .md and .tex, each whole or not at all. The same numbers give the same bytes.

    provenance: where the fine-tuned models come from, if not all were trained here; a column of the CSV, in print a note.
    """
    stem = Path(stem)
    if provenance:
        table = table.assign(provenance=provenance)
        shown = shown._replace(note=f"{shown.note} Fine-tuned models: {provenance}.")
    csv = table.to_csv(index=False, float_format="%.6f", lineterminator="\n")
    for ending, text in (("csv", csv), ("md", markdown(shown)), ("tex", latex(shown))):
        write_bytes(stem.with_name(f"{stem.name}.{ending}"), text.encode())


def write_tables(suite: Suite, counts: Mapping[str, int], folder: Path | str, seed: int = 0) -> None:
    """Write the tables main, per_task, paired and choices of one suite into `folder`.

    counts: {"domain_weights": P, "frozen_weights": F}; seed: of the bootstrap.
    """
    samples, folder = bootstrap(suite.hits, seed=seed), Path(folder)
    main, per_task = main_table(suite, samples, counts), per_task_table(suite)
    paired, choices = paired_table(suite, samples), choices_table(suite)
    write_table(main.drop(columns="chosen"), show_main(main), folder / "main", suite.provenance)  # choices has it
    write_table(per_task, show_per_task(per_task), folder / "per_task", suite.provenance)
    write_table(paired, show_paired(paired), folder / "paired", suite.provenance)
    write_table(choices, show_choices(choices), folder / "choices", suite.provenance)


def write_suites_table(mains: Mapping[str, pd.DataFrame], stem: Path | str) -> None:
    """Write main tables side by side, {suite: frame}, in the order given, as <stem>.csv, .md and .tex."""
    table = suites_table(mains)
    found = {text: None for main in mains.values() if "provenance" in main for text in main["provenance"]}
    write_table(table, show_suites(table), stem, "; ".join(found))
