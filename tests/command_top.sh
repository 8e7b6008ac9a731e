#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# tests/command_top.sh: tests "zpipe stat" and "zpipe top" in the guest: who waits for whom, and what
# the counters say.

# The functions test_* are called by name.
# shellcheck disable=SC2317,SC2329

# shellcheck source=preload/lib.sh
. "$(dirname "$0")/tools/lib.sh"

dir=$(mktemp -d)
user=(setpriv --reuid 65534 --clear-groups --bounding-set -all --inh-caps=-all)

# waits_in CALL PID: waits until PID waits in read or write.
waits_in()
{
	local -A number=([read]=0 [write]=1)

	for _ in {1..100}; do
		grep -q "^${number[$1]} " "/proc/$2/syscall" && return
		sleep 0.1
	done
	wrong=1
	echo "# $2 does not wait in $1"
}

# block: starts a writer that waits for free slots of /dev/zpipe, and a reader that does not read.
# Sets $writer and $reader.
block()
{
	# shellcheck disable=SC2217
	sleep 1000 </dev/zpipe &
	reader=$!
	dd if=/dev/zero of=/dev/zpipe bs=100000 count=1 2>/dev/null &
	writer=$!
	waits_in write "$writer"
}

unblock()
{
	kill "$reader"
	wait 2>/dev/null
}

test_top_without_pipes()
{
	local got

	got=$("$zpipe" top -b -n 1 -d 0.1)
	same status 0 $?
	same 'the title alone' 'RATE PULLED PUSHED MOVED COPIED SLOTS PIPE WRITERS READERS WAITS' \
		"$(tr -s ' ' <<<"$got" | sed 's/^ //')"
}

test_top_sees_a_blocked_writer()
{
	local got

	block
	got=$("$zpipe" top -b -n 2 -d 0.2)
	same 'two tables' 2 "$(grep -c RATE <<<"$got")"
	same 'who waits for whom' 2 \
		"$(grep -c "dd($writer) waits for space from sleep($reader)$" <<<"$got")"
	same 'slots' 2 "$(grep -cE '0 B/s +- +- +- +- +16/16 /dev/zpipe ' <<<"$got")"
	got=$("$zpipe" top --json -n 1 -d 0.2)
	same 'an object' 1 "$(grep -c '^{"time":.*}$' <<<"$got")"
	same 'for whom' 1 "$(grep -c "\"call\":\"write\",\"needs\":\"space\",\"waits_for\":\\[$reader\\]" \
		<<<"$got")"
	unblock
}

test_top_shows_a_reader_that_waits()
{
	local got

	mkfifo "$dir/hold"
	cat </dev/zpipe >/dev/null &
	reader=$!
	# Writes nothing until it may end.
	# shellcheck disable=SC2016
	"${BASH}" -c 'read -r <"$0"' "$dir/hold" >/dev/zpipe &
	writer=$!
	waits_in read "$reader"
	got=$("$zpipe" top -b -n 1 -d 0.2)
	same 'waits for data' 1 "$(grep -c "cat($reader) waits for data from .*($writer)" <<<"$got")"
	echo >"$dir/hold"
	wait
}

# The share of each path is that of the counters.
test_top_shows_rates()
{
	dd if=/dev/zero of=/dev/zpipe bs=4M 2>/dev/null &
	writer=$!
	dd if=/dev/zpipe of=/dev/null bs=4M 2>/dev/null &
	reader=$!
	"$zpipe" top -b -n 1 -d 1 >"$dir/got"
	kill "$writer"
	wait 2>/dev/null
	# A rate with a prefix, and direct transfers.
	same 'rate' 1 "$(grep -cE '^ *[0-9.]+ [kMG]B/s .* /dev/zpipe ' "$dir/got")"
	same 'shares' 1 "$(awk '/\/dev\/zpipe/ { print ($3 + $4 > 50) }' "$dir/got")"
}

test_top_options()
{
	local option

	for option in '-n 0' '-d 0' '-s nothing' 'more'; do
		# shellcheck disable=SC2086
		"$zpipe" top -b $option >/dev/null 2>&1
		same "status of $option" 125 $?
	done
	"$zpipe" top -b -n 1 -d 0.1 >/dev/full 2>/dev/null
	same 'no space' 1 $?
	# Without an end, until nobody reads.
	"$zpipe" top -d 0.1 | head -n 3 >/dev/null
	same 'SIGPIPE' $((128 + 13)) "${PIPESTATUS[0]}"
}

# The table on a terminal, which is restored after a key and after signals.
test_top_on_a_terminal()
{
	block
	for way in q stop TERM HUP INT QUIT USR1 ALRM XCPU PIPE; do
		case $way in
		q | stop)	want='status 0' ;;
		*)		want="signal $(kill -l "$way")" ;;
		esac
		same "$way" "$want" "$("$tools/terminal" "dd($writer)" "$way" "$zpipe" top -d 0.2)"
	done
	unblock
}

test_stat_of_a_pipe()
{
	local got inode

	block
	inode=$(stat -c %i /dev/zpipe)
	got=$("$zpipe" stat "$writer")
	same status 0 $?
	for text in "node $inode /dev/zpipe" '  capacity   64 KiB, 16 slots' \
		'  fill       16 slots used, 65536 bytes announced' \
		"  readers    1 open: sleep $reader (fd 0)" "  writers    1 open: dd $writer (fd 1)" \
		"  waiting    dd $writer in write, for space from: $reader" \
		'  written    0 bytes in 0 calls, 1 waits' '  read       0 bytes in 0 calls, 0 waits' \
		'  pulled     0 bytes'; do
		same "$text" 1 "$(grep -cxF "$text" <<<"$got")"
	done
	for which in "$reader:0" /dev/zpipe "/proc/$writer/fd/1" ''; do
		same "the same by $which" "$got" "$("$zpipe" stat ${which:+"$which"})"
	done
	same 'a descriptor of its own' 1 "$("$zpipe" stat :9 9</dev/zpipe | grep -c "zpipe .* (fd 9)")"
	same 'two arguments' 2 "$("$zpipe" stat "$writer" /dev/zpipe | grep -c ^node)"
	got=$("$zpipe" stat --json)
	same 'JSON' 1 "$(grep -c "^\\[{\"kind\":\"node\",\"inode\":$inode,.*}\\]$" <<<"$got")"
	unblock
}

test_stat_counts()
{
	local got

	exec 8<>/dev/zpipe
	head -c 100000 /dev/zero >&8 &
	waits_in write $!
	head -c 100000 <&8 >/dev/null
	wait
	got=$("$zpipe" stat $$)
	same 'written' 1 "$(grep -c '^  written    100000 bytes in ' <<<"$got")"
	same 'read' 1 "$(grep -c '^  read       100000 bytes in ' <<<"$got")"
	same 'copied' 1 "$(grep -c '^  copied     100000 bytes, 100 %$' <<<"$got")"
	same 'why' 1 "$(grep -c '^  why copied [0-9]*: writes that never posted' <<<"$got")"
	exec 8<&-
}

test_stat_fails()
{
	local which

	for which in 2147483647:'no such process' 1:'this process has no zpipe in view' \
		/nonexistent:'No such file or directory' \
		/dev/null:'not a zpipe that a process in view has open'; do
		same "${which%:*}" "zpipe: $which" "$("$zpipe" stat "${which%:*}" 2>&1 | sed 's/: /:/2')"
		"$zpipe" stat "${which%:*}" 2>/dev/null
		same "status of ${which%:*}" 1 $?
	done
	same 'a name with an escape' 'zpipe: /x\u{1b}[1m: No such file or directory' \
		"$("$zpipe" stat $'/x\e[1m' 2>&1)"
	same 'a descriptor' 1 "$("$zpipe" stat :1 2>&1 | grep -c '^zpipe: :1: no such descriptor')"
	"$zpipe" stat >/dev/full 2>/dev/null
	same 'no space' 0 $?	# there is no pipe to print
}

test_other_users()
{
	local got

	block
	got=$("${user[@]}" "$zpipe" top -b -n 1 -d 0.1)
	same 'status' 0 $?
	same 'no process of root' 0 "$(grep -c dd <<<"$got")"
	got=$("${user[@]}" "$zpipe" stat 2>&1)
	same 'hidden' 1 "$(grep -cE '^zpipe: [0-9]+ processes of others are not shown' <<<"$got")"
	unblock
}

test_without_the_module()
{
	# shellcheck disable=SC2016
	for what in stat top; do
		got=$(unshare -m bash -c 'mount --bind /dev/null /proc/devices && exec "$0" "$1" 2>&1' \
			"$zpipe" "$what")
		same "status of $what" 1 $?
		same "message of $what" 1 "$(grep -c '^zpipe: the system has no zpipe device: load ' <<<"$got")"
	done
}

trap 'rm -rf "$dir"' EXIT
run_tests
