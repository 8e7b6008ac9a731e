#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# tests/command_cat.sh: tests "zpipe cat" in the guest: errors as those of cat(1), and the paths that
# bytes take through a zpipe, as the counters show them.

# The functions test_* are called by name.
# shellcheck disable=SC2317,SC2329

# shellcheck source=preload/lib.sh
. "$(dirname "$0")/tools/lib.sh"

dir=$(mktemp -d)
megabytes=24
bytes=$((megabytes << 20))
head -c "$bytes" /dev/urandom >"$dir/large"
echo hello >"$dir/small"

# as_cat ARGUMENT...: expects the output, the first error and the status of cat(1). Standard input is
# the file $input.
as_cat()
{
	local status

	cat "$@" <"${input:-/dev/null}" >"$dir/want" 2>"$dir/want.errors"
	status=$?
	"$zpipe" cat "$@" <"${input:-/dev/null}" >"$dir/got" 2>"$dir/got.errors"
	same "status of $*" "$status" $?
	cmp "$dir/want" "$dir/got" || same "output of $*" "$(<"$dir/want")" "$(<"$dir/got")"
	same "errors of $*" "$(sed 's/^cat: /zpipe cat: /' "$dir/want.errors")" "$(<"$dir/got.errors")"
}

# number FILE NAME: prints a number of a summary in JSON. Names of a zpipe's paths follow the name of
# its side and a colon.
number()
{
	local side=''

	[[ $2 != *:* ]] || side="\"${2%%:*}\":\\{[^}]*"
	sed -nE "s/.*$side\"${2#*:}\":([0-9]+).*/\\1/p" "$1"
}

# at_least TEXT MINIMUM GOT
at_least()
{
	[[ $3 && $3 -ge $2 ]] || same "$1: at least" "$2" "$3"
}

test_as_cat()
{
	as_cat "$dir/small"
	as_cat /etc/passwd /proc/self/mountinfo /dev/null
	as_cat /nonexistent "$dir/small"
	as_cat "$dir" "$dir/small"
	input=/etc/passwd as_cat
	input=/etc/passwd as_cat "$dir/small" - "$dir/small"
	input=$dir as_cat -
	"$zpipe" cat <&- >"$dir/got" 2>&1
	same 'status of a closed input' 1 $?
	same 'closed input' 'zpipe cat: -: Bad file descriptor' "$(<"$dir/got")"
}

test_output_that_takes_nothing()
{
	"$zpipe" cat "$dir/small" >/dev/full 2>"$dir/got"
	same 'status of a full device' 1 $?
	same 'full device' 'zpipe cat: write error: No space left on device' "$(<"$dir/got")"
	"$zpipe" cat "$dir/small" >&- 2>"$dir/got"
	same 'status of a closed output' 1 $?
	same 'closed output' 'zpipe cat: write error: Bad file descriptor' "$(<"$dir/got")"
	: >"$dir/empty"
	"$zpipe" cat "$dir/empty" >&- 2>"$dir/got"
	same 'status of nothing to a closed output' 1 $?
	same 'nothing to a closed output' 'zpipe cat: write error: Bad file descriptor' "$(<"$dir/got")"
	# The file must not get the descriptor of standard output.
	same 'file' hello "$(<"$dir/small")"
}

test_broken_pipe()
{
	"$zpipe" cat /dev/zero | head -c 1 >/dev/null
	same 'killed by SIGPIPE' $((128 + 13)) "${PIPESTATUS[0]}"
	(trap '' PIPE; "$zpipe" cat /dev/zero 2>"$dir/got") | head -c 1 >/dev/null
	same 'status if it is ignored' 1 "${PIPESTATUS[0]}"
	same 'message' 'zpipe cat: write error: Broken pipe' "$(<"$dir/got")"
}

test_input_is_output()
{
	cp "$dir/small" "$dir/both"
	# shellcheck disable=SC2094
	"$zpipe" cat "$dir/both" >>"$dir/both" 2>"$dir/got"
	same status 1 $?
	same message "zpipe cat: $dir/both: input file is output file" "$(<"$dir/got")"
	same content hello "$(<"$dir/both")"
	# Without anything behind the position of the output it ends.
	"$zpipe" cat "$dir/both" 1<>"$dir/both"
	same 'status at the beginning' 0 $?
}

test_many_kinds_of_files()
{
	"$zpipe" cat "$dir/large" >"$dir/copy"
	same 'file to file' 0 $?
	cmp "$dir/large" "$dir/copy" || wrong=1
	"$zpipe" cat "$dir/large" | "$zpipe" cat | cat >"$dir/copy"
	same 'pipes' '0 0 0' "${PIPESTATUS[*]}"
	cmp "$dir/large" "$dir/copy" || wrong=1
}

# A kernel pipe with pages of a file would show what is written to the file later.
test_pipe_does_not_change_with_the_file()
{
	local got

	cp "$dir/small" "$dir/changes"
	got=$("$zpipe" cat --json "$dir/changes" 2>"$dir/how" |
		(sleep 1; printf X | dd of="$dir/changes" conv=notrunc 2>/dev/null; cat))
	same 'content of the pipe' hello "$got"
	same 'read and written' 6 "$(number "$dir/how" read_write)"
}

# From a file to a zpipe and on to a file, without memory of the program.
test_splices_of_a_zpipe()
{
	local writer

	"$zpipe" cat --json "$dir/large" >/dev/zpipe 2>"$dir/from" &
	writer=$!
	timeout 100 "$zpipe" cat --json </dev/zpipe 2>"$dir/to" >"$dir/copy"
	same 'status of the reader' 0 $?
	wait "$writer"
	same 'status of the writer' 0 $?
	cmp "$dir/large" "$dir/copy" || wrong=1
	same 'spliced from the file' "$bytes" "$(number "$dir/from" splice_from)"
	same 'spliced to the file' "$bytes" "$(number "$dir/to" splice_to)"
	same 'copied into the pipe' "$bytes" "$(number "$dir/from" output:copied)"
	same 'no bytes of the program' '' "$(number "$dir/to" read_write)"
}

# To a pipe of the kernel, pages go on without a copy. A file that is appended to takes no splices, so
# bytes are read: from the memory of a blocked writer, or by one to the memory of a blocked reader.
test_paths_of_large_writes()
{
	"$zpipe" cat "$dir/large" >/dev/zpipe &
	timeout 100 "$zpipe" cat --json /dev/zpipe 2>"$dir/to" | md5sum >"$dir/sum"
	wait
	same content "$(md5sum <"$dir/large")" "$(<"$dir/sum")"
	same 'spliced' "$bytes" "$(number "$dir/to" splice)"
	at_least 'pages that went on' $((bytes / 2)) "$(number "$dir/to" input:passed_on)"

	rm -f "$dir/copy"
	dd if="$dir/large" of=/dev/zpipe bs=8M 2>/dev/null &
	timeout 100 "$zpipe" cat -v --json /dev/zpipe 2>"$dir/to" >>"$dir/copy"
	wait
	cmp "$dir/large" "$dir/copy" || wrong=1
	same 'read' "$bytes" "$(number "$dir/to" read_write)"
	at_least 'pulled or pushed' $((bytes / 2)) \
		$(($(number "$dir/to" input:pulled) + $(number "$dir/to" input:pushed)))

	dd if="$dir/large" of=/dev/zpipe bs=8M 2>/dev/null &
	timeout 100 "$zpipe" cat -v /dev/zpipe 2>"$dir/to" >>"$dir/copy"
	wait
	same 'a text of the path' 1 \
		"$(grep -cE '^zpipe cat: path of the input: (pulled|pushed) ' "$dir/to")"
}

# copied_and_pause FILE: an input of one line that ends two seconds after it is in FILE, however long
# "zpipe cat" takes to start.
copied_and_pause()
{
	echo hello
	for _ in {1..600}; do
		[[ ! -s $1 ]] || break
		sleep 0.1
	done
	sleep 2
}
export -f copied_and_pause

test_where_it_stalls()
{
	rm -f "$dir/copy"
	# shellcheck disable=SC2094  # The first looks at the size alone.
	copied_and_pause "$dir/copy" | "$zpipe" cat --json 2>"$dir/got" >"$dir/copy"
	# Nothing but the processor makes the output wait.
	same 'waits for input' 1 \
		"$(grep -cE '"seconds_waited_for_input":(1\.9|[2-9]|[1-9][0-9])' "$dir/got")"
	same 'waits for output' 1 "$(grep -cE '"seconds_waited_for_output":0\.[0-4]' "$dir/got")"
}

# Progress is for terminals, and messages for those who ask.
test_quiet_without_a_terminal()
{
	"$zpipe" cat -s 10M "$dir/large" 2>"$dir/got" >/dev/null
	same 'no output' '' "$(<"$dir/got")"
	"$zpipe" cat -v "$dir/small" /nonexistent 2>"$dir/got" >/dev/null
	same 'a summary' 1 "$(grep -c '^zpipe cat: 6 B in [0-9.]* s, ' "$dir/got")"
	same 'a wrong size' 125 "$("$zpipe" cat -s x 2>/dev/null; echo $?)"
}

test_progress_on_a_terminal()
{
	local got

	rm -f "$dir/copy"
	# shellcheck disable=SC2016
	got=$("$tools/terminal" '100 %' wait \
		bash -c 'copied_and_pause "$1" | "$0" cat -s 6 >"$1"' "$zpipe" "$dir/copy")
	same 'the end' 'status 0' "$got"
}

trap 'rm -rf "$dir"' EXIT
run_tests
