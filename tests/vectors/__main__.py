"""Command line of the vector runner. Exit 1: a vector failed; 2: bad usage or a file that cannot be read."""

import argparse
import sys
from collections import Counter

from .run import UnreadableError, group_of, name_of, run


def main(arguments: list[str] | None = None) -> int:
    """Print a table per group (with -v a line per vector), failing vectors, what was skipped, and the sum."""
    parser = argparse.ArgumentParser(prog="python -m tests.vectors", description=__doc__)
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--group", help="only these groups, separated by commas")
    parser.add_argument("-v", "--verbose", action="store_true", help="a line per vector")
    options = parser.parse_args(arguments)
    groups = {name for name in options.group.split(",") if name} if options.group else None
    try:
        report = run(options.files, groups)
    except UnreadableError as error:
        print(error, file=sys.stderr)
        return 2
    table: dict[str, Counter[str]] = {}
    for vector, outcome in report.outcomes:
        verdict = "failed" if outcome.mismatches else "passed"
        counts = table.setdefault(group_of(vector), Counter())
        counts.update([verdict, outcome.answered_by])
        if options.verbose and not outcome.mismatches:
            print(f"passed  {name_of(vector)}  ({outcome.answered_by})")
        if outcome.mismatches:
            print(f"failed  {name_of(vector)}  ({outcome.answered_by}): {'; '.join(outcome.mismatches)}")
    if not options.verbose:
        for group, counts in table.items():
            who = ", ".join(f"{n} by {name}" for name, n in counts.items() if name not in {"passed", "failed"})
            print(f"{group:18} {counts['passed']:4} passed {counts['failed']:4} failed   {who}")
    if report.skipped:
        names = ", ".join(f"{name} ({count})" for name, count in sorted(report.skipped.items()))
        print(f"skipped, no rule: {names}")
    print(f"{len(report.outcomes) - report.failed} passed, {report.failed} failed")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
