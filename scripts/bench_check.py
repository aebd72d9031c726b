#!/usr/bin/env python3
"""Counts the instructions of the hot path and fails if a case takes more than the committed baseline allows.

    make bench-check             compare with the baseline
    make bench-check UPDATE=1    write the baseline anew

Each case of crates/gateway/benches/hot_path runs once under valgrind's callgrind, which counts instructions instead of
time, so that a noisy machine does not matter. Counts depend on the compiler and on how the C library copies memory on this
processor, so the baseline names both; if they differ, write it anew on the commit before yours and compare with that.
"""

import json
import os
import pathlib
import platform
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
BASELINE = ROOT / "crates/gateway/benches/hot_path/baseline.json"
# A case may take that much more than its baseline. Between two runs the fan-out, which has tasks and sockets, differs by
# some 0.2 %, all others by a few instructions at most.
PERCENT_MAX = 5.0


def build():
    """The benchmark's path. It shares what `cargo build --release` has built."""
    command = ["cargo", "build", "--release", "--locked", "-p", "weir-gateway", "--bench", "hot_path"]
    command += ["--message-format", "json-render-diagnostics"]
    built = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    messages = (json.loads(line) for line in built.splitlines())
    paths = [message.get("executable") for message in messages if message["reason"] == "compiler-artifact"]
    return next(path for path in reversed(paths) if path)


def toolchain():
    """What counts depend on besides the code."""
    rustc = subprocess.run(["rustc", "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    return {"rustc": rustc, "libc": " ".join(platform.libc_ver()), "cpu": cpu()}


def cpu():
    """The processor's name."""
    names = re.findall(r"^model name\s*: (.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return names[0] if names else platform.machine()


def count(binary, case):
    """Instructions of one run of a case."""
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "callgrind.out")
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}"]
        command += ["--collect-atstart=no", "--toggle-collect=*hot_path*measured*", binary, case]
        ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if ran.returncode != 0:
            sys.exit(f"{case} failed under valgrind:\n{ran.stderr}")
        counted = int(re.search(r"^(?:summary|totals): (\d+)", pathlib.Path(out).read_text(), re.MULTILINE)[1])
    if counted == 0:
        sys.exit(f"{case}: nothing was counted; valgrind did not find the function `measured`")
    return counted


def row(case, before, now):
    """A line of the table, and whether the case may stay as it is."""
    if not before:
        return f"| {case} | – | {now} | new |", False
    percent = 100 * (now - before) / before
    passes = percent <= PERCENT_MAX
    return f"| {case} | {before} | {now} | {percent:+.2f} %{'' if passes else ' **more than allowed**'} |", passes


def main():
    binary = build()
    cases = subprocess.run([binary], stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    here = toolchain()
    baseline = json.loads(BASELINE.read_text()) if BASELINE.exists() else {"toolchain": here, "instructions": {}}
    print("| Case | Baseline | Now | Change |\n|---|---|---|---|")
    counts, all_pass = {}, True
    for case in cases:
        counts[case] = count(binary, case)
        line, passes = row(case, baseline["instructions"].get(case), counts[case])
        print(line, flush=True)
        all_pass = all_pass and passes
    if os.environ.get("UPDATE"):
        BASELINE.write_text(json.dumps({"toolchain": here, "instructions": counts}, indent=2) + "\n")
        return print(f"wrote {BASELINE.relative_to(ROOT)}")
    for name, then in baseline["toolchain"].items():
        if then != here[name]:
            print(f"note: the baseline was counted with {then}, this is {here[name]}")
    gone = sorted(set(baseline["instructions"]) - set(counts))
    if gone:
        print(f"no longer there: {', '.join(gone)}")
    if not all_pass or gone:
        sys.exit(f"more than {PERCENT_MAX:g} % above the baseline, or other cases; if that is meant: make bench-check UPDATE=1")


if __name__ == "__main__":
    main()
