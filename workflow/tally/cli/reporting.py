"""Verbs that read counts: table, figure, compare, storage-table, suites; and those that look at a run: summary, failures."""

import argparse
import time
from pathlib import Path

from tally.cli import options


def register(verbs) -> None:
    p = options.verb(verbs, table, "table")
    _suite(p)
    options.files(p, "base", "vector")
    _formats(p)

    p = options.verb(verbs, compare, "compare")
    _suite(p)
    options.files(p, "base", "vector", "paper")
    p.add_argument("--output", type=Path, required=True, metavar="STEM", help="path without its ending")

    p = options.verb(verbs, figure, "figure")
    _suite(p)
    p.add_argument("--figure", required=True)
    p.add_argument("--output", type=Path, required=True, metavar="STEM", help="path without its ending")

    p = options.verb(verbs, storage_table, "storage-table")
    _suite(p)
    _formats(p)
    p.add_argument("--table", type=Path, required=True, metavar="STEM", help="path without its ending")
    p.add_argument("--figure", type=Path, required=True, metavar="STEM", help="path without its ending")

    p = options.verb(verbs, suites, "suites")
    p.add_argument(
        "--tables", type=Path, nargs="+", required=True, metavar="CSV", help="main tables, <suite>/tables/main.csv"
    )
    p.add_argument("--table", type=Path, required=True, metavar="STEM", help="path without its ending")
    p.add_argument("--figure", type=Path, required=True, metavar="STEM", help="path without its ending")
    p.add_argument("--tasks", type=int, nargs="+", required=True, help="number of tasks of each suite")

    p = options.verb(verbs, summary, "summary")
    p.add_argument("store", type=Path, help="results/<model>")
    p.add_argument("--cores", type=int, help="cores the run had, if it was on one machine")
    p.add_argument("--suites", nargs="*", default=[], help="whose main tables to show")
    p.add_argument("--planned", nargs="*", default=[], metavar="STAGE=JOBS", help="jobs of the whole workflow")
    p.add_argument("--started", type=float, required=True, help="when the run began, in seconds of the epoch")

    p = options.verb(verbs, failures, "failures")
    p.add_argument("logs", type=Path, nargs="+", metavar="LOG", help="Snakemake's log of the run")
    p.add_argument("--lines", type=int, default=15, help="how many of each job's last lines")


def _suite(parser: options.Parser) -> None:
    parser.add_argument("--folder", type=Path, required=True, help="results/<model>/<suite>")
    parser.add_argument("--tasks", nargs="+", required=True, help="in the order to show them")
    parser.add_argument("--candidates", nargs="+", required=True)


def _formats(parser: options.Parser) -> None:
    parser.add_argument(
        "--formats", nargs="*", default=[], help="storage formats beside the paper's, such as fp16-int8-zstd"
    )


def table(args: argparse.Namespace) -> None:
    """Write a suite's tables as CSV, Markdown and LaTeX."""
    from tally.records import load_suite
    from tally.typeset import write_tables

    suite = load_suite(args.folder, args.tasks, args.candidates, args.formats)
    write_tables(suite, _counts(args), args.folder / "tables")


def _counts(args: argparse.Namespace) -> dict[str, int]:
    """How many weights --base has, inside the domain (those of --vector) and outside."""
    from math import prod

    from tally.checkpoints import open_checkpoint

    def weights(path: Path) -> int:
        file = open_checkpoint(path)
        return sum(prod(file.shape(name)) for name in file.names)

    domain = weights(args.vector)
    return {"domain_weights": domain, "frozen_weights": weights(args.base) - domain}


def compare(args: argparse.Namespace) -> None:
    """Put a suite's numbers beside those that the paper printed, with the difference in standard errors."""
    from tally.comparison import comparison
    from tally.printed import printed
    from tally.records import load_suite
    from tally.statistics import bootstrap
    from tally.typeset import show_comparison, write_table

    suite = load_suite(args.folder, args.tasks, args.candidates)
    rows, source = printed(args.paper, suite.model, suite.tasks)
    table = comparison(suite, bootstrap(suite.hits), _counts(args), rows)
    shown = show_comparison(table, suite.tasks)
    shown = shown._replace(note=f"{shown.note} Paper's: {source}.")
    write_table(table, shown, args.output, suite.provenance)
    print(args.output.with_suffix(".md").read_text(encoding="utf-8"))


def figure(args: argparse.Namespace) -> None:
    """Draw one figure of a suite as PDF and PNG."""
    from tally.figures import draw, save
    from tally.records import load_suite

    save(draw(args.figure, load_suite(args.folder, args.tasks, args.candidates)), args.output)


def storage_table(args: argparse.Namespace) -> None:
    """Put the storage formats side by side: what each costs and keeps, as a table and a figure."""
    from tally.figures import save
    from tally.figures import storage as draw_storage
    from tally.records import load_suite
    from tally.statistics import bootstrap
    from tally.tables import best_rows, main_table
    from tally.tables import storage_table as compare
    from tally.typeset import show_storage, write_table

    suite = load_suite(args.folder, args.tasks, args.candidates, args.formats)
    samples = bootstrap(suite.hits)
    table, record = compare(suite, samples), next(iter(suite.storage.values()))
    write_table(table, show_storage(table), args.table, suite.provenance)
    counts = {name: record[name] for name in ("domain_weights", "frozen_weights")}
    rows = best_rows(main_table(suite, samples, counts))
    save(draw_storage(rows, table, record["domain_weights"] * len(suite.tasks)), args.figure)


def suites(args: argparse.Namespace) -> None:
    """Put the suites side by side: one table, one figure."""
    from tally.figures import save
    from tally.figures import tasks as draw_tasks
    from tally.tables import best_rows, read_main
    from tally.typeset import write_suites_table

    mains = {path.parent.parent.name: read_main(path) for path in args.tables}
    write_suites_table(mains, args.table)
    save(draw_tasks([(count, best_rows(main)) for count, main in zip(args.tasks, mains.values())]), args.figure)


def summary(args: argparse.Namespace) -> None:
    """Print a run's main tables, where its figures are, and where its time went."""
    from tally.summary import stages, text

    tables = [args.store / suite / "tables" / "main.md" for suite in args.suites]
    for path in filter(Path.exists, tables):  # a run may have been asked for less than all
        print(f"\n{path.parent.parent.name}\n\n{path.read_text()}")
    planned = {stage: int(jobs) for stage, jobs in (pair.split("=") for pair in args.planned)}
    if rows := stages(args.store, args.started):
        print(text(rows, planned, time.time() - args.started, args.cores))
    if args.suites:
        print(f"Tables: {args.store}/*/tables   Figures: {args.store}/*/figures")


def failures(args: argparse.Namespace) -> None:
    """Print the last lines of the log of every job that failed in a run."""
    from tally.failures import failed, tail

    for run in args.logs:
        for job, log in failed(run):
            print(f"\n{job} failed; the end of {log}:")
            print("\n".join(f"    {line}" for line in tail(log, args.lines)))
