#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""guest.py NAME...: runs unmodified programs in the guest, once with the kernel's
pipes and once with zpipe's, and compares the results.

A name is a module of CPython's test suite, or NAME of a function oracle_NAME here.
The file "differences" in this directory lists the expected differences, and "expected" what
the results are with the kernel's pipes. Prints KTAP with one test for each name. A test fails
if other results differ, if a listed result does not differ, if a result is not as expected, or
if the program made no zpipe pair. The full output of the programs is in
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
# Time limits of CPython's tests of a module, and of a script, in seconds.
LIMIT = 1500
SCRIPT_LIMIT = 300
# Time limit of one CPython test in seconds. CPython reports a test that hangs.
TEST_LIMIT = 300
# How often tests with different results are repeated without the other tests.
AGAIN = 4
# Programs that splice(2) between zpipes and files. The library sends that to the module.
SPLICE = ("fuse", "fuse_user", "trace_cmd", "tools")


class Calls:
    """Counts what each program asks of the module: pairs, and transfers to and from other
    files. A hist trigger of the kernel counts the ioctls."""

    event = TRACING / "events/syscalls/sys_enter_ioctl"
    # ZPIPE_IOC_PAIR; from ZPIPE_IOC_SPLICE_TO to ZPIPE_IOC_TEE
    trigger = ("hist:keys=common_comm,cmd:size=4096 "
               "if cmd == 0xe900 || (cmd >= 0xe928 && cmd <= 0xe92a)")
    pair = 0xe900

    def __init__(self):
        if not self.event.exists():
            subprocess.run(["mount", "-t", "tracefs", "none", TRACING], check=True)
        (self.event / "trigger").write_text(self.trigger)

    def taken(self):
        """The counts since the previous call: pairs and transfers, each a dictionary by
        program."""
        pairs, transfers = {}, {}
        for line in (self.event / "hist").read_text().splitlines():
            match = re.match(r"\{ common_comm: (.*?) *, cmd: *(\d+) *\} hitcount: *(\d+)", line)
            if match:
                # The tool zpipe makes a pair to check for the device.
                program, calls = match[1], pairs if int(match[2]) == self.pair else transfers
                if program != "zpipe":
                    calls[program] = calls.get(program, 0) + int(match[3])
        (self.event / "trigger").write_text("!" + self.trigger)
        (self.event / "trigger").write_text(self.trigger)
        return pairs, transfers


def started(kind, name, command, cwd):
    """Starts a command with one kind of pipes. Its output goes to /out/NAME.KIND.log."""
    if kind == "zpipe":
        command = [ZPIPE, "run", "--require", "--", *command]
    with open(OUT / f"{name}.{kind}.log", "ab") as log:
        # pylint: disable-next=consider-using-with
        return subprocess.Popen(
            command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True)


def ended(process, limit=LIMIT):
    """Waits for a process and returns its exit status. Kills it after `limit` seconds."""
    try:
        return process.wait(limit)
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
    # 2 and 3: tests failed, or left something behind. All others are a crash or a time-out.
    if status not in (0, 2, 3):
        results["(exit status)"] = str(status)
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
        junit.unlink(missing_ok=True)
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
        (OUT / f"{name}.{kind}.log").unlink(missing_ok=True)
        process = started(kind, name, ["bash", "-c", script], cwd)
        status = ended(process, SCRIPT_LIMIT)
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


# Shell functions for file systems. $as runs a command as the user that mounts.
MOUNTS = r"""
    chmod u+s /usr/bin/fusermount3 && chmod 666 /dev/fuse
    chmod 755 . && mkdir source mnt && chown -R ${uid:=0} source mnt
    as="setpriv --reuid $uid --regid $uid --clear-groups --"
    mounted() { grep -qE " $PWD/mnt fuse[^ ]* [^ ]*user_id=$uid," /proc/self/mounts; }
    await_mount() {
        for try in {1..100}; do
            mounted && break
            sleep 0.1
        done
        echo "= mounted: $(mounted; echo $?)"
    }
    file=/usr/bin/python3.13
    files() {
        for size in "$@"; do
            $as dd if=$file of=mnt/$size bs=$size status=none
            echo "= written in $size: $? $(cmp $file source/$size && echo same)"
            echo "= read in $size: $($as dd if=mnt/$size bs=$size status=none | cmp $file - && echo same)"
        done
        $as dd if=$file of=mnt/$1 bs=5000 seek=3 count=2 conv=notrunc status=none
        echo "= into the middle: $(sha256sum <source/$1) $($as sha256sum mnt/$1)"
        printf x | $as tee mnt/small >/dev/null
        echo "= small: $($as cat mnt/small) $(stat -c %s source/small) $($as cat mnt/none 2>&1)"
    }
    """


def passthrough(name, uid):
    """A FUSE file system that splices requests, what is written and replies."""
    return scripted(name, f"uid={uid} {MOUNTS}" + r"""
        $as passthrough_ll -f -o source=$PWD/source,cache=never mnt &
        server=$!
        await_mount
        echo "= files: $($as ls -A mnt 2>&1)"
        files 1000 4096 100000 1M
        $as fusermount3 -u mnt
        wait $server
        echo "= status: $?"
        """)


def oracle_fuse():
    """A FUSE file system of root."""
    return passthrough("fuse", 0)


def oracle_fuse_user():
    """A FUSE file system of an ordinary user, mounted by a program that is setuid root. libfuse
    splices only if a pipe can hold a whole request, which is a page more than users may have."""
    limit = pathlib.Path("/proc/sys/fs/pipe-max-size")
    before = limit.read_text()
    limit.write_text("2097152")
    results = passthrough("fuse_user", 1000)
    limit.write_text(before)
    return results


def oracle_sshfs():
    """sshfs, with its server behind pipes."""
    return scripted("sshfs", f"uid=0 {MOUNTS}" + r"""
        printf '#!/bin/bash\n/usr/bin/cat | /usr/lib/openssh/sftp-server | /usr/bin/cat\n' >ssh
        chmod 755 ssh
        sshfs -f -o ssh_command=$PWD/ssh,cache=no host:$PWD/source mnt &
        server=$!
        await_mount
        files 4096 1M
        fusermount3 -u mnt
        wait $server
        echo "= status: $?"
        """)


def oracle_tools():
    """Programs that copy bytes, some of which splice where they can: pv, socat, dd, cat, cp, tee,
    yes and uutils' cat."""
    return scripted("tools", r"""
        set -o pipefail
        file=/usr/bin/python3.13
        head -c 100000 $file >part
        cat $file $file >twice
        uutils() { coreutils "$@"; }
        # is FILE: compares its input with a file
        is() { cmp -s - "$1" && echo same; }
        for options in "" "-C" "-B 1000" "-L 40M"; do
            echo "= pv $options:" $(pv -q $options $file | pv -q $options | is $file) $?
            echo "= pv $options, to a file:" $(cat $file | pv -q $options >out; echo $?; is $file <out)
        done
        echo "= pv -S:" $(pv -q -S -s 100000 $file | pv -q | is part) $?
        echo "= pv -X:" $(cat $file | pv -q -X -b 2>&1) $?
        echo "= socat:" $(socat -u OPEN:$file,rdonly - | socat -u - STDOUT | is $file) $?
        echo "= socat with pipes:" $(socat -u EXEC:"cat $file",pipes STDOUT | is $file) $?
        echo "= socat, both ways:" $(cat part | socat - EXEC:cat,pipes | is part) $?
        echo "= socat to a FIFO:" $(socat -u OPEN:$file,rdonly PIPE:fifo & socat -u PIPE:fifo,rdonly STDOUT | is $file)
        for bs in 512 5000 64K 1M; do
            echo "= dd $bs:" $(dd if=$file bs=$bs status=none | dd bs=$bs iflag=fullblock status=none | is $file) $?
        done
        # GNU dd cannot sync a pipe after direct output.
        echo "= dd, direct:" $(dd if=$file bs=64K status=none | dd bs=64K oflag=direct status=none | is $file) $?
        echo "= cat:" $(cat $file | cat | cat - $file | is twice) $?
        echo "= cat to a file:" $(cat $file | cat >out; is $file <out)
        echo "= cp:" $(cat $file | cp /dev/stdin out; echo $?; is $file <out) $(cp $file /dev/stdout | is $file)
        echo "= cp of a pipe by its name:" $(cp <(cat $file) out; echo $?; is $file <out)
        echo "= tee:" $(tee a b <$file | is $file) $(is $file <a) $(cat $file | tee a >b; is $file <b)
        echo "= yes:" $(yes | head -c 3000000 | sha256sum)
        echo "= yes with words:" $(yes "a longer line of text" | head -n 30000 | sha256sum)
        yes | head -c 5 >out
        echo "= yes, killed: ${PIPESTATUS[*]}" $(cat out)
        echo "= uutils:" $(uutils cat $file | uutils cat | uutils cat - $file | is twice) $?
        echo "= uutils, to a file:" $(uutils cat $file | uutils cat >out; is $file <out)
        echo "= uutils, the others:" $(uutils head -c 100000 $file | uutils tee a | is part) $(is part <a)
        uutils yes | head -c 5 >out
        echo "= uutils yes, killed: ${PIPESTATUS[*]}" $(cat out)
        """)


def oracle_trace_cmd():
    """trace-cmd, and the kernel's trace buffers spliced through a pipe into a file, as trace-cmd did
    before it could map them. Both use buffers of their own, because the others count pairs."""
    return scripted("trace_cmd", r"""
        trace-cmd record -B oracle -e syscalls:sys_enter_getppid -o trace.dat \
            python3 -c 'import os; [os.getppid() for n in range(20000)]' >log 2>&1
        echo "= recorded: $?"; cat log
        trace-cmd report -i trace.dat >report 2>log
        echo "= reported: $?"; cat log
        echo "= events: $(grep -c sys_enter_getppid report)"
        python3 - <<'end'
import os, pathlib
buffers = pathlib.Path("/sys/kernel/tracing/instances/spliced")
buffers.mkdir()
enable = buffers / "events/syscalls/sys_enter_getppid/enable"
enable.write_text("1")
for n in range(20000):
    os.getppid()
enable.write_text("0")
done = 0
read, write = os.pipe()
with open("spliced", "wb") as file:
    for buffer in sorted(buffers.glob("per_cpu/cpu*/trace_pipe_raw")):
        raw = os.open(buffer, os.O_RDONLY | os.O_NONBLOCK)
        while True:
            try:
                got = os.splice(raw, write, 65536, flags=os.SPLICE_F_NONBLOCK)
            except BlockingIOError:
                break
            if got == 0:
                break
            done += got
            while got:
                got -= os.splice(read, file.fileno(), got)
        os.close(raw)
pages = done // 4096
print(f"= spliced: pages {done == pages * 4096}, enough {pages * 4096 > 20000 * 16}",
      f"in the file {os.stat('spliced').st_size == done}")
buffers.rmdir()
end
        """)


def oracle_readme():
    """The samples of README.md. They make pairs with either kind of pipes."""
    return scripted("readme", r"""
        export PYTHONPATH=/oracles/python PYTHONDONTWRITEBYTECODE=1
        echo "= libzpipe:" $(/oracles/readme/libzpipe) $?
        echo "= C:" $(/oracles/readme/c) $?
        echo "= Rust:" $(/oracles/readme/rust) $?
        echo "= Python:" $(python3 /oracles/readme/python.py) $?
        """)


def oracle_python_package():
    """The tests of the Python package. It makes pairs by itself. So with the kernel's pipes, the
    device has another name, and the package does without. With zpipe's, multiprocessing gets pairs,
    too."""
    return scripted("python_package", r"""
        export PYTHONPATH=/oracles/python PYTHONDONTWRITEBYTECODE=1
        [[ $LD_PRELOAD ]] || mv /dev/zpipe-control /dev/zpipe-hidden
        python3 -m unittest discover -s /oracles/python/tests >log 2>&1
        echo "= status: $?"; cat log
        echo "= tests: $(sed -n 's/^Ran \(.*\) in .*/\1/p' log)"
        for example in "frames.py 3" "pool.py 3"; do
            python3 /oracles/python/examples/$example >log 2>&1
            echo "= $example: $? $(grep -c GB/s log) $(grep -c ^killed log)"; cat log
        done
        [[ $LD_PRELOAD ]] || mv /dev/zpipe-hidden /dev/zpipe-control
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


def unexpected(name, results):
    """What is wrong with the results with the kernel's pipes, as lines. Of a script, the file
    "expected" has a regular expression for each result. Of a module of CPython's test suite, it has
    the least number of completed tests and the greatest of skipped ones, and no others may be."""
    wanted = {}
    for line in (HERE / "expected").read_text().splitlines():
        match = re.match(r"(\w+): (.+?): (.*)", line)
        if match and match[1] == name:
            wanted[match[2]] = match[3]
    if not wanted:
        yield "nothing is expected of it"
    if "exit status" in wanted:
        for key in wanted.keys() - results.keys():
            yield f"{key}: missing"
        for key, value in results.items():
            if not re.fullmatch(wanted.get(key, "a^"), value):
                yield f"{key}: {value}: not as expected"
        return
    counts = {kind: list(results.values()).count(kind) for kind in ("completed", "skipped")}
    if counts["completed"] < int(wanted["completed"]):
        yield f"only {counts['completed']} tests were completed"
    if counts["skipped"] > int(wanted["skipped"]):
        yield f"{counts['skipped']} tests were skipped"
    for test, result in results.items():
        if result not in counts and wanted.get(test) != result:
            yield f"{test}: {result}"


def judge(name, calls):
    """Runs an oracle and prints its result. Returns True if it passed."""
    start = time.monotonic()
    function = globals().get("oracle_" + name)
    calls.taken()
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
    made, transfers = calls.taken()
    counts = {}
    for result in results["zpipe"].values():
        counts[result] = counts.get(result, 0) + 1
    print(f"# {name}: {time.monotonic() - start:.0f} s,",
          ", ".join(f"{number} {result}" for result, number in sorted(counts.items()))
          if not function else results["zpipe"])
    for what, counted in (("pairs", made), ("transfers to and from files", transfers)):
        busiest = sorted(counted.items(), key=lambda item: -item[1])[:6]
        print(f"# {name}: {sum(counted.values())} {what} of zpipe:",
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
    for line in unexpected(name, results["pipe"]):
        print(f"# unexpected: {name}: {line}")
        good = False
    if not made:
        print("# no pair of zpipe was made")
        good = False
    if name in SPLICE and not transfers:
        print("# nothing was spliced to or from a zpipe")
        good = False
    return good


def main():
    """Runs the oracles on the command line. Returns True if any failed."""
    sys.stdout.reconfigure(line_buffering=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=False)
    with open("/etc/passwd", "a", encoding="ascii") as users:
        users.write("user:x:1000:1000::/tmp:/bin/sh\n")
    # For fusermount3.
    os.symlink("/proc/self/mounts", "/etc/mtab")
    pathlib.Path("/etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
    names = sys.argv[1:]
    calls = Calls()
    failed = 0
    print("KTAP version 1")
    print(f"1..{len(names)}")
    for number, name in enumerate(names, 1):
        good = judge(name, calls)
        failed += not good
        print(f"{'ok' if good else 'not ok'} {number} {name}")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
