#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# tests/library.sh: tests the crate zpipe and the C library libzpipe in the guest. The programs are
# those of tests/library/build.

# The functions test_* are called by name.
# shellcheck disable=SC2317,SC2329

# shellcheck source=preload/lib.sh
. "$(dirname "$0")/tools/lib.sh"
here=$(dirname "$tools")/library
export LD_LIBRARY_PATH=$here/lib

# True if this kernel moves huge pages. The Rust programs decide in the same way.
moves()
{
	local major minor

	IFS=.- read -r major minor _ < <(uname -r)
	((major > 7 || (major == 7 && minor >= 3))) && [[ ! ${ZPIPE_NO_MOVES:-} ]]
}

# rust NAME PREFIX [CMD...]: runs the tests of the Rust program NAME, without "rust_" or "kernel_",
# whose names begin with PREFIX. Prints their results as a subtest. CMD runs the program.
rust()
{
	local name=$1 prefix=$2
	shift 2

	nested "$name" "$@" "$here/${name#*_}-tests" "$prefix" --test-threads=1 --format=pretty |
		awk '
		/^ *running [0-9]+ test/ { planned = $2; print "    1.." $2; next }
		/^ *test .* \.\.\. ok$/ { print "    ok " ++n " " $2; next }
		/^ *test .* \.\.\. FAILED$/ { print "    not ok " ++n " " $2; bad = 1; next }
		/^ *(KTAP|# Subtest)/ { print; next }
		/[^ ]/ { sub(/^ */, "    # "); print }
		END { exit bad || !planned || n != planned }'
	[[ "${PIPESTATUS[*]}" == '0 0' ]]
}

test_rust_pipe()
{
	rust rust_pipe zpipe_
}

test_rust_gift()
{
	rust rust_gift zpipe_
}

test_rust_window()
{
	rust rust_window zpipe_
}

test_rust_asynchronous()
{
	rust rust_asynchronous zpipe_
}

# The same over the kernel's own pipes, as a machine without zpipe has them.
test_kernel_pipe()
{
	rust kernel_pipe kernel alone
}

test_kernel_gift()
{
	rust kernel_gift kernel alone
}

test_kernel_window()
{
	rust kernel_window kernel alone
}

test_kernel_asynchronous()
{
	rust kernel_asynchronous kernel alone
}

# All examples of the documentation. Each one runs in a process of its own, one after the other: some
# use the same node.
test_rust_examples()
{
	local out

	out=$(RUSTDOC_DOCTEST_BIN_PATH=$here/doctests "$here/doctests" --test-threads=1 2>&1) ||
		wrong=1
	[[ $out =~ 'test result: ok. '([0-9]+)' passed; 0 failed; 0 ignored' ]] || wrong=1
	((${BASH_REMATCH[1]:-0} > 35)) || wrong=1
	[[ ! $wrong ]] || printf '# %s\n' "${out//$'\n'/$'\n# '}"
}

test_c_shared()
{
	same output '' "$("$here/library" "$(moves && echo 1)" 2>&1; echo "${?#0}")"
	same 'the library' 1 "$(LD_TRACE_LOADED_OBJECTS=1 "$here/library" |
		grep -c "libzpipe.so.0 => $here/lib/libzpipe.so.0 ")"
}

test_c_static()
{
	same output '' "$("$here/static" "$(moves && echo 1)" 2>&1; echo "${?#0}")"
}

test_c_without_zpipe()
{
	same output '' "$(alone "$here/library" kernel 2>&1; echo "${?#0}")"
}

test_c_header_only()
{
	"$here/zpipe2"
	same status 0 $?
}

run_tests
