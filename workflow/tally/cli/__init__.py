"""`tally VERB ...`: one verb per rule of the workflow, and the verbs for people who hold checkpoints.

Verbs import what they need when they run: `tally --help` imports neither numpy nor torch.
"""

import argparse
import os
import signal
import sys
import textwrap
import time

from tally import progress
from tally.cli import bundles, data, merging, models, options, reporting, tasks
from tally.errors import TallyError


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="tally",
        description="Merge and compress fine-tuned models with TALL masks.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--quiet", action="store_true", help="no progress bars or lines")
    top.add_argument(
        "--no-verify", action="store_true", default=os.environ.get("TALLY_VERIFY") == "0",
        help="do not compare files with their checksums; default: verify, unless $TALLY_VERIFY is 0",
    )  # fmt: skip
    verbs = top.add_subparsers(title="for checkpoints of your own", metavar="VERB", required=True)
    bundles.register(verbs)
    yours = [*verbs.choices]
    for group in (models, data, tasks, merging, reporting):
        group.register(verbs)
    bundles.register_stage(verbs)
    top.epilog = "stages of the workflow, which its rules call:\n" + "\n".join(
        textwrap.fill(f"    {name:<15}{options.first_line(stage.description)}", 80, subsequent_indent=" " * 19)
        for name, stage in verbs.choices.items()
        if name not in yours
    )
    return top


def main(argv: list[str] | None = None) -> int:
    """Run one verb. 0 if it worked; 2 with one line on stderr if the input or the machine is at fault."""
    start = time.perf_counter()
    args = parser().parse_args(argv)
    progress.quiet = args.quiet
    threads = getattr(args, "threads", None)
    if threads is not None:  # before numpy and torch are imported: they read it once
        os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(threads)
    if args.no_verify:
        from tally import checksums

        checksums.verify = False
    # a job that is told to stop takes its half-written files with it
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        with progress.heartbeat(args.run.__name__.replace("_", "-")):
            args.run(args)
        sys.stdout.flush()
    except BrokenPipeError:  # `tally inspect ... | head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except TallyError as error:
        print(f"tally: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"tally: {error.filename or 'input or output'}: {error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    if not progress.quiet and (progress.seconds or not sys.stderr.isatty()):
        print(progress.spent(time.perf_counter() - start), file=sys.stderr)
    return 0
