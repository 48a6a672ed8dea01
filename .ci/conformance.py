#!/usr/bin/env python3
"""Holds the number of passed conformance cases: fails when a suite falls below tests/conformance.toml.

    conformance.py --bin target/debug/caddis --shared ../shared [--update]

With --update the file is rewritten with the numbers of this run.
"""
import argparse
import re
import subprocess
import sys
import tomllib
from pathlib import Path

HELD = Path(__file__).resolve().parent.parent / "tests" / "conformance.toml"
LAST = re.compile(r"^(\d+) passed, (\d+) failed$", re.M)
HEADER = "# The number of passed cases per suite; .ci/run fails when one falls. Raise it when you gain.\n"


def run(command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    found = LAST.findall(done.stdout)
    if not found:
        sys.exit(f"{command} printed no result:\n{done.stdout}{done.stderr}")
    return tuple(map(int, found[-1])), done.stdout


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True)
    parser.add_argument("--shared", required=True)
    parser.add_argument("--update", action="store_true")
    options = parser.parse_args()
    binary, shared = Path(options.bin).resolve(), Path(options.shared).resolve()
    held = tomllib.loads(HELD.read_text())
    suites = [("adapt", name) for name in ("caddytest", "docs", "fmt")]
    suites += [("http", folder.name) for folder in sorted((shared / "conformance/http").iterdir())]
    counts, fallen, total = {"adapt": {}, "http": {}}, [], [0, 0]
    for kind, name in suites:
        if kind == "adapt":
            command = [sys.executable, shared / "tools/adaptcases.py", "--bin", binary, name]
        else:
            serve = f"{binary} run --config {{caddyfile}} --adapter caddyfile"
            command = [sys.executable, shared / "tools/httpcases.py", "check", "--jobs", "2", "--cmd", serve,
                       shared / "conformance/http" / name]
        wanted = held.get(kind, {}).get(name, 0)
        (passed, failed), output = run(command)
        if passed < wanted:  # A busy machine may upset a case that waits; it gets a second chance.
            (passed, failed), output = run(command)
        counts[kind][name] = passed
        total[0], total[1] = total[0] + passed, total[1] + failed
        print(f"{kind}/{name}: {passed} of {passed + failed} (held: {wanted})", flush=True)
        if passed < wanted:
            fallen.append(f"{kind}/{name}")
            print(output)
    print(f"conformance: {total[0]} passed, {total[1]} open")
    if options.update:
        lines = [HEADER]
        for kind, suite in counts.items():
            lines.append(f"\n[{kind}]\n" + "".join(f"{name} = {count}\n" for name, count in suite.items()))
        HELD.write_text("".join(lines))
    elif fallen:
        sys.exit(f"fallen: {', '.join(fallen)}")


if __name__ == "__main__":
    main()
