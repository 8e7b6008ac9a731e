#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""guest.py NAME...: runs unmodified programs in the guest, once with the kernel's
pipes and once with zpipe's, and compares the results.

A name is a module of CPython's test suite, or NAME of a function oracle_NAME here.
The file "differences" in this directory lists the expected differences. Prints KTAP
with one test for each name. A test fails if other results differ, if a listed result
does not differ, or if the program made no zpipe pair. The full output of the programs
is in /out/NAME.{pipe,zpipe}.*.
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
# Time limit of one program in seconds.
LIMIT = 1500
# Time limit of one CPython test in seconds. CPython reports a test that hangs.
TEST_LIMIT = 300
# How often tests with different results are repeated without the other tests.
AGAIN = 4


class Pairs:
    """Counts the zpipe pairs that each program makes. A hist trigger of the kernel
    counts the ioctl."""

    event = TRACING / "events/syscalls/sys_enter_ioctl"
    trigger = "hist:keys=common_comm:size=4096 if cmd == 0xe900"

    def __init__(self):
        if not self.event.exists():
            subprocess.run(["mount", "-t", "tracefs", "none", TRACING], check=True)
        (self.event / "trigger").write_text(self.trigger)

    def taken(self):
        """The counts since the previous call, as a dictionary by program."""
        counts = {}
        for line in (self.event / "hist").read_text().splitlines():
            match = re.match(r"\{ common_comm: (.*?) *\}.*hitcount: *(\d+)", line)
            if match:
                counts[match[1]] = counts.get(match[1], 0) + int(match[2])
        (self.event / "trigger").write_text("!" + self.trigger)
        (self.event / "trigger").write_text(self.trigger)
        return counts


def started(kind, name, command, cwd):
    """Starts a command with one kind of pipes. Its output goes to /out/NAME.KIND.log."""
    if kind == "zpipe":
        command = [ZPIPE, "run", "--require", "--", *command]
    with open(OUT / f"{name}.{kind}.log", "ab") as log:
        # pylint: disable-next=consider-using-with
        return subprocess.Popen(
            command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True)


def ended(process):
    """Waits for a process and returns its exit status. Kills it after LIMIT seconds."""
    try:
        return process.wait(LIMIT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        return process.wait()


def junit_results(path, status):
    """The result of each test in a JUnit file of CPython's test runner."""
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
        # Subtests share the name of their test. The worst result counts.
        before = results.get(case.get("name"))
        if before not in ("error", "failed"):
            results[case.get("name")] = result
    return results


def cpython(module, tests=()):
    """Runs a module of CPython's test suite with both kinds at the same time. If tests
    are given, runs only these, and one kind after the other. Returns the results by
    kind."""
    processes, results = {}, {}
    # Repeated tests must not be disturbed by the other kind.
    together = not tests
    for kind in KINDS:
        # The path must be short, since tests make UNIX sockets in there.
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
    """Runs a shell script with one kind after the other. Each line "= NAME: VALUE" of
    its output is a result."""
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
    """tar and zstd: packs a tree, compresses it and unpacks it again."""
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
    """make -j with a jobserver, which is a pipe that all sub-makes share."""
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
    """The stressors of stress-ng for pipes, which verify the bytes that they read."""
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
    """fio, which reads its data back and verifies it, in threads and processes."""
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
    """perf bench: two tasks, and then many, that wake each other through pipes."""
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


def oracle_fuse():
    """A FUSE file system that splices requests and what is written, through its own pipes."""
    return scripted("fuse", r"""
        mkdir source mnt
        passthrough_ll -f -o source=$PWD/source,cache=never mnt &
        server=$!
        mounted() { grep -qF " $PWD/mnt fuse" /proc/self/mounts; }
        for try in {1..100}; do
            mounted && break
            sleep 0.1
        done
        file=/usr/bin/python3.13
        echo "= files: $(ls -A mnt 2>&1)"
        echo "= mounted: $(mounted; echo $?)"
        for size in 1000 4096 100000 1M; do
            dd if=$file of=mnt/$size bs=$size status=none
            echo "= written in $size: $? $(cmp $file source/$size && echo same)"
            echo "= read in $size: $(dd if=mnt/$size bs=$size status=none | cmp $file - && echo same)"
        done
        dd if=$file of=mnt/1000 bs=5000 seek=3 count=2 conv=notrunc status=none
        echo "= into the middle: $(sha256sum <source/1000) $(sha256sum <mnt/1000)"
        printf x >mnt/small
        echo "= small: $(cat mnt/small) $(stat -c %s source/small) $(cat mnt/none 2>&1)"
        umount mnt
        wait $server
        echo "= status: $?"
        """)


def oracle_trace_cmd():
    """trace-cmd, which splices the kernel's trace buffers through pipes into files. It uses
    buffers of its own, because the others count pairs."""
    return scripted("trace_cmd", r"""
        trace-cmd record -B oracle -e syscalls:sys_enter_getppid -o trace.dat \
            python3 -c 'import os; [os.getppid() for n in range(20000)]' >log 2>&1
        echo "= recorded: $?"; cat log
        trace-cmd report -i trace.dat >report 2>log
        echo "= reported: $?"; cat log
        echo "= events: $(grep -c sys_enter_getppid report)"
        """)


def differing(results):
    """The results that differ, by test: a tuple with the result of each kind."""
    names = results["pipe"].keys() | results["zpipe"].keys()
    said = {name: tuple(results[kind].get(name, "absent") for kind in KINDS) for name in names}
    return {name: pair for name, pair in sorted(said.items()) if pair[0] != pair[1]}


def listed(name):
    """The expected differences of an oracle. The file has lines
    NAME: TEST: PIPE -> ZPIPE: WHY."""
    lines = {}
    for line in (HERE / "differences").read_text().splitlines():
        match = re.match(r"(\S+): (.+?): (.+?) -> (.+?): ", line)
        if match and match[1] == name:
            lines[match[2]] = (match[3], match[4])
    return lines


def judge(name, pairs):
    """Runs an oracle and prints its result. Returns True if it passed."""
    start = time.monotonic()
    function = globals().get("oracle_" + name)
    pairs.taken()
    results = function() if function else cpython(name)
    differ = differing(results)
    expected = listed(name)
    # Tests that depend on timing may differ by chance, so repeat them.
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
    # The tool zpipe makes a pair to check for the device.
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
    """Runs the oracles on the command line. Returns True if any failed."""
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
