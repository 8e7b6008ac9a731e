#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""guest.py NAME...: in the guest, runs programs that know nothing of zpipe,
once with the kernel's pipes and once with zpipe's, and compares what they say.

A name is a module of CPython's test suite or one of the functions oracle_*.
What is expected to differ stands in the file "differences" beside this one.
Prints KTAP: a test for each name. Fails if anything else differs, if something
listed does not, or if no pair of zpipe was made. What was run says more in
/out/NAME.{pipe,zpipe}.*.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

HERE = pathlib.Path(__file__).resolve().parent
OUT = pathlib.Path("/out")
TRACING = pathlib.Path("/sys/kernel/tracing")
ZPIPE = str(HERE / "tools" / "zpipe")
PYTHON = "/usr/bin/python3"
KINDS = ("pipe", "zpipe")
# For one program, seconds.
LIMIT = 1500
# A test of CPython that hangs is shown after that many seconds.
TEST_LIMIT = 300
# How often what differs is run again, alone.
AGAIN = 4


class Pairs:
    """Counts the pairs that are made, by the program that makes them: the
    kernel's own counting of the ioctl."""

    event = TRACING / "events/syscalls/sys_enter_ioctl"
    trigger = "hist:keys=common_comm:size=4096 if cmd == 0xe900"

    def __init__(self):
        if not self.event.exists():
            subprocess.run(["mount", "-t", "tracefs", "none", TRACING], check=True)
        (self.event / "trigger").write_text(self.trigger)

    def taken(self):
        """What was counted since the last time: a dictionary."""
        counts = {}
        for line in (self.event / "hist").read_text().splitlines():
            match = re.match(r"\{ common_comm: (.*?) *\}.*hitcount: *(\d+)", line)
            if match:
                counts[match[1]] = counts.get(match[1], 0) + int(match[2])
        (self.event / "trigger").write_text("!" + self.trigger)
        (self.event / "trigger").write_text(self.trigger)
        return counts


def started(kind, name, command, cwd):
    """Starts a command with one kind of pipes, its output in /out/NAME.KIND.log."""
    if kind == "zpipe":
        command = [ZPIPE, "run", "--require", "--", *command]
    with open(OUT / f"{name}.{kind}.log", "ab") as log:
        # pylint: disable-next=consider-using-with
        return subprocess.Popen(
            command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True)


def ended(process):
    """The exit status of a process, which has LIMIT seconds."""
    try:
        return process.wait(LIMIT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        return process.wait()


def junit_results(path, status):
    """The result of each test, of a file as CPython's test runner writes it."""
    results = {}
    try:
        tree = xml.etree.ElementTree.parse(path)
    except (OSError, xml.etree.ElementTree.ParseError):
        return {"(all of it)": f"exit {status}"}
    for case in tree.iter("testcase"):
        if case.find("error") is not None:
            result = "error"
        elif case.find("failure") is not None:
            result = "failed"
        elif case.find("skipped") is not None or case.get("status") == "notrun":
            result = "skipped"
        else:
            result = case.get("result", "completed")
        # Subtests have the same name; the worst is what it came to.
        before = results.get(case.get("name"))
        if before not in ("error", "failed"):
            results[case.get("name")] = result
    return results


def cpython(module, tests=()):
    """Runs a module of CPython's test suite, or only some of its tests, with both
    kinds at the same time. Returns the results by kind."""
    processes, results = {}, {}
    # Alone, what is run again is not disturbed by the other.
    together = not tests
    for kind in KINDS:
        # A path as short as a UNIX socket in there needs.
        cwd = tempfile.mkdtemp(prefix=kind[0], dir="/tmp")
        junit = OUT / f"{module}.{kind}.xml"
        command = [PYTHON, "-m", "test", "-v", "--timeout", str(TEST_LIMIT),
                   "--tempdir", cwd, "--junit-xml", str(junit)]
        for test in tests:
            command += ["-m", test]
        processes[kind] = started(kind, module, [*command, module], cwd)
        if not together:
            ended(processes[kind])
    for kind in KINDS:
        results[kind] = junit_results(OUT / f"{module}.{kind}.xml", ended(processes[kind]))
    return results


def scripted(name, script):
    """Runs a shell script with one kind after the other. Its lines are results:
    what is before a colon is the name of one."""
    results = {}
    for kind in KINDS:
        cwd = tempfile.mkdtemp(dir="/tmp")
        process = started(kind, name, ["bash", "-c", script], cwd)
        status = ended(process)
        shutil.rmtree(cwd, ignore_errors=True)
        lines = (OUT / f"{name}.{kind}.log").read_text(errors="replace").splitlines()
        results[kind] = {"exit status": str(status)}
        for line in lines:
            if line.startswith("= "):
                key, _, value = line[2:].partition(": ")
                results[kind][key] = value
    return results


def oracle_tar():
    """Archives of a tree, compressed and unpacked again."""
    return scripted("tar", r"""
        set -o pipefail
        tree=/usr/lib/python3.13/asyncio
        sum() { (cd "$1" && find . -type f | sort | xargs sha256sum | sha256sum); }
        echo "= archive: $(tar -c --sort=name -C $tree . | zstd -3 -T2 | zstd -d | sha256sum)"
        mkdir copy && tar -c -C $tree . | zstd -1 | zstd -d | tar -x -C copy
        echo "= status of unpacking: ${PIPESTATUS[*]}"
        echo "= files: $(sum copy)"
        [[ $(sum copy) == $(sum $tree) ]] && echo "= copy: the same"
        echo "= program: $(cat /usr/bin/python3.13 | zstd -1 | zstd -d | tee >(wc -c >n) | sha256sum) $(cat n)"
        """)


def oracle_make():
    """make -j, whose jobserver is a pipe that all its descendants share."""
    return scripted("make", r"""
        cp /oracles/jobs.mk . && mkdir running
        make -s --jobserver-style=pipe -j4 -f jobs.mk all >log 2>&1
        echo "= status: $?"
        echo "= jobs: $(grep -c ^done log) $(sort log | sha256sum)"
        max=$(sort -n most | tail -n 1)
        echo "= more than one at a time: $((max > 1)), more than four: $((max > 4))"
        make -s --jobserver-style=pipe -j4 -k -f jobs.mk fail >log 2>&1
        echo "= status of failing: $? $(grep -c ^done log)"
        """)


def oracle_stress_ng():
    """stress-ng's stressors that are about pipes, which verify what they read."""
    return scripted("stress_ng", r"""
        # sigio itself has a race: where its child fills the pipe before O_ASYNC is set, nothing
        # ever happens, in either kind of pipe. So it has some more tries.
        for stressor in pipe pipeherd poll sigpipe sigio; do
            for try in 1 2 3 4 5 6; do
                stress-ng --$stressor 2 --timeout 4 --verify --metrics-brief --temp-path . >log 2>&1
                status=$?
                cat log
                ops=$(awk -v stressor=$stressor '/metrc:/ && $4 == stressor { print $5 }' log)
                [[ $stressor == sigio && $ops == 0 ]] || break
            done
            echo "= $stressor: $status, any: $((ops > 0))," $(sed -nE 's/.*(passed|failed|skipped): ([0-9]+).*/\1 \2/p' log)
        done
        stress-ng --pipe 1 --pipe-size 64K --pipe-data-size 4096 --timeout 4 --verify >log 2>&1
        echo "= pipe with sizes: $?"; cat log
        stress-ng --pipe 1 --pipe-vmsplice --timeout 4 --verify >log 2>&1
        echo "= pipe with vmsplice: $?"; cat log
        """)


def oracle_fio():
    """fio, reading back and verifying what it wrote, in threads and processes."""
    return scripted("fio", r"""
        for engine in sync psync vsync; do
            for thread in 0 1; do
                fio --name=job --filename=file --size=4M --bs=8k --rw=randwrite --verify=crc32c \
                    --ioengine=$engine --thread=$thread --numjobs=1 --output=json --output-format=json
                echo "= $engine thread=$thread: $? $(grep -m 1 '"error"' json)"
                cat json >>full; rm -f file
            done
        done
        """)


def oracle_perf():
    """perf bench: two tasks and many tasks that wake each other."""
    return scripted("perf", r"""
        perf bench sched pipe -l 1000 >log 2>&1
        echo "= pipe: $? $(grep -c 'Executed 1000 pipe operations' log)"; cat log
        perf bench sched pipe -T -l 1000 >log 2>&1
        echo "= pipe of threads: $?"; cat log
        perf bench sched messaging -p -g 2 -l 20 >log 2>&1
        echo "= messaging: $?"; cat log
        perf bench sched messaging -p -t -g 2 -l 20 >log 2>&1
        echo "= messaging of threads: $?"; cat log
        """)


def differing(results):
    """What both kinds say of what they do not say the same of."""
    names = results["pipe"].keys() | results["zpipe"].keys()
    said = {name: tuple(results[kind].get(name, "absent") for kind in KINDS) for name in names}
    return {name: pair for name, pair in sorted(said.items()) if pair[0] != pair[1]}


def listed(name):
    """What may differ of an oracle: the file has lines NAME: TEST: PIPE -> ZPIPE: WHY."""
    lines = {}
    for line in (HERE / "differences").read_text().splitlines():
        match = re.match(r"(\S+): (.+?): (.+?) -> (.+?): ", line)
        if match and match[1] == name:
            lines[match[2]] = (match[3], match[4])
    return lines


def judge(name, pairs):
    """Runs an oracle and says what came of it. Returns whether that is well."""
    start = time.monotonic()
    function = globals().get("oracle_" + name)
    pairs.taken()
    results = function() if function else cpython(name)
    differ = differing(results)
    expected = listed(name)
    # Those that depend on time are not the pipe's.
    for _ in range(AGAIN):
        odd = [test for test, pair in differ.items() if expected.get(test) != pair]
        if function or not odd or "(all of it)" in odd:
            break
        for test in odd:
            print(f"# run again: {test}: {' -> '.join(differ[test])}")
        again = cpython(name, odd)
        for kind in KINDS:
            results[kind].update({test: again[kind].get(test, "absent") for test in odd})
        differ = differing(results)
    made = pairs.taken()
    # Its own pair, with which it sees whether there is a device.
    made.pop("zpipe", None)
    counts = {}
    for result in results["zpipe"].values():
        counts[result] = counts.get(result, 0) + 1
    print(f"# {name}: {time.monotonic() - start:.0f} s,",
          ", ".join(f"{number} {result}" for result, number in sorted(counts.items()))
          if not function else results["zpipe"])
    busiest = sorted(made.items(), key=lambda item: -item[1])[:6]
    print(f"# {name}: {sum(made.values())} pairs of zpipe:",
          ", ".join(f"{program} {number}" for program, number in busiest))
    good = True
    for test, pair in differ.items():
        if expected.get(test) == pair:
            print(f"# as listed: {test}: {' -> '.join(pair)}")
        else:
            print(f"# differs: {name}: {test}: {' -> '.join(pair)}")
            good = False
    for test in expected.keys() - differ.keys():
        print(f"# listed, but does not differ: {name}: {test}")
        good = False
    if not made:
        print("# no pair of zpipe was made")
        good = False
    return good


def main():
    """Everything named on the command line."""
    sys.stdout.reconfigure(line_buffering=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=False)
    pathlib.Path("/etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
    names = sys.argv[1:]
    pairs = Pairs()
    failed = 0
    print("KTAP version 1")
    print(f"1..{len(names)}")
    for number, name in enumerate(names, 1):
        good = judge(name, pairs)
        failed += not good
        print(f"{'ok' if good else 'not ok'} {number} {name}")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
