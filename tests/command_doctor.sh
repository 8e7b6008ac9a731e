#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# tests/command_doctor.sh: tests "zpipe doctor" in the guest, with and without the module, and "zpipe
# bench".

# The functions test_* are called by name.
# shellcheck disable=SC2317,SC2329

# shellcheck source=preload/lib.sh
. "$(dirname "$0")/tools/lib.sh"

dir=$(mktemp -d)
kernel=$(uname -r)
extra=/lib/modules/$kernel/extra
user=(setpriv --reuid 65534 --regid 65534 --clear-groups --bounding-set -all --inh-caps=-all)

# healthy NAME HEALTH TEXT: expects a line of $dir/got.
healthy()
{
	same "$1" 1 "$(grep -E "^$2 +$1 " "$dir/got" | grep -cF -- "$3")" || grep " $1 " "$dir/got"
}

# The guest loads the module from a file that is not installed.
test_module_that_is_loaded_but_not_installed()
{
	rm -rf "$extra"
	"$zpipe" doctor >"$dir/got"
	same status 1 $?
	healthy module BAD "/lib/modules/$kernel has no zpipe.ko; install "
	healthy loaded ok 'the module is loaded'
	healthy match unknown 'no installed one is known'
	healthy /dev/zpipe-control ok 'mode 666'
	healthy pipe ok 'with 16 slots'
	healthy library ok 'libzpipe_preload.so loads'
	same 'number of bad checks' 1 "$(grep -cE '^1 of [0-9]+ checks are bad' "$dir/got")"
}

test_everything_is_well()
{
	mkdir -p "$extra"
	cp /zpipe.ko "$extra"
	"$zpipe" doctor >"$dir/got"
	same status 0 $?
	healthy module ok "$extra/zpipe.ko"
	healthy match ok 'is loaded and installed'
	healthy signature warn 'the module is not signed'
	healthy 'secure boot' ok 'off'
	same 'nothing is bad' 0 "$(grep -c ^BAD "$dir/got")"
	same JSON 1 "$("$zpipe" doctor --json | grep -c '^{"ok":true,"checks":\[{"name":"kernel",.*\]}$')"
}

# The build ID of another file differs, and so does its kernel.
test_another_module_is_installed()
{
	mkdir -p "$extra"
	sed "s/vermagic=$kernel /vermagic=${kernel//7/8} /" /zpipe.ko >"$extra/zpipe.ko"
	"$zpipe" doctor >"$dir/got"
	same status 1 $?
	healthy module BAD "is for kernel ${kernel//7/8}"
	echo x >"$extra/zpipe.ko"
	"$zpipe" doctor >"$dir/got"
	healthy module BAD 'is no kernel module'
	# The guest does not have that program.
	mv "$extra/zpipe.ko" "$extra/zpipe.ko.zst"
	"$zpipe" doctor >"$dir/got"
	healthy module unknown 'zpipe.ko.zst: zstd is not installed'
	rm -r "$extra"
}

test_ordinary_user()
{
	rm -rf "$extra"
	"${user[@]}" "$zpipe" doctor >"$dir/got" 2>"$dir/errors"
	same status 1 $?
	same errors '' "$(<"$dir/errors")"
	healthy /dev/zpipe warn 'mode 660, user 0, group 0: Permission denied; for access to this FIFO, join'
	healthy group warn 'has no group zpipe'
	healthy pipe ok 'with 16 slots'
	echo zpipe:x:77: >>/etc/group
	"${user[@]}" "$zpipe" doctor >"$dir/got"
	healthy group warn 'you are not in the group zpipe; '
	setpriv --reuid 65534 --regid 65534 --groups 77 "$zpipe" doctor >"$dir/got"
	healthy group ok 'you are in the group zpipe'
	sed -i /^zpipe:/d /etc/group
}

test_without_the_module()
{
	rmmod zpipe || return
	"$zpipe" doctor >"$dir/got"
	same status 1 $?
	healthy loaded BAD 'is not loaded; load the kernel module as root'
	healthy /dev/zpipe BAD 'No such file or directory; load the module'
	healthy pipe BAD 'no private pipe can be made: No such file or directory'
	healthy match unknown 'no loaded module to compare with'
	"${user[@]}" "$zpipe" doctor --json >"$dir/got"
	same 'status for users' 1 $?
	same JSON 1 "$(grep -c '^{"ok":false,' "$dir/got")"
	"$zpipe" bench -q --seconds 1 --sizes 64K >"$dir/got" 2>"$dir/errors"
	same 'status of bench' 1 $?
	same 'why' 1 "$(grep -cx 'zpipe: zpipe: No such file or directory' "$dir/errors")"
	same 'the rivals' 'message pipe pipe-1m cma shm' "$(awk '$1 == "message" { $1 = $1; print }' "$dir/got")"
	# shellcheck disable=SC2046
	insmod /zpipe.ko $(cat /.zpipe/params)
	same 'loaded again' 0 $?
}

test_library_that_does_not_load()
{
	ZPIPE_PRELOAD=/nonexistent.so "$zpipe" doctor >"$dir/got"
	healthy library BAD 'there is no libzpipe_preload.so; looked for /nonexistent.so; install '
	head -c 5000 "$tools/libzpipe_preload.so" >"$dir/short.so"
	ZPIPE_PRELOAD=$dir/short.so "$zpipe" doctor >"$dir/got"
	healthy library BAD 'short.so'
}

test_bench_fills_all_cells()
{
	local message ways=(pipe pipe-1m zpipe zpipe-gift zpipe-window cma shm)

	"$zpipe" bench --seconds 3 --sizes 16K,4M --svg "$dir/picture.svg" >"$dir/got" 2>"$dir/errors"
	same status 0 $?
	same errors '' "$(<"$dir/errors")"
	same title 1 "$(head -n 1 "$dir/got" | grep -c "^Linux $kernel, .* processors; zpipe bench --seconds 3 ")"
	same columns "message ${ways[*]}" "$(awk '$1 == "message" { $1 = $1; print }' "$dir/got")"
	# A rate in each cell, except where a way would only copy.
	message=$(grep '^ *16 KiB ' "$dir/got")
	same 'small messages' 1 "$(grep -cE '^ *16 KiB( +[1-9][0-9]*){3}( +-){2}( +[1-9][0-9]*){2}$' <<<"$message")"
	same 'large messages' 1 "$(grep -cE '^ *4 MiB( +[1-9][0-9]*){7}$' "$dir/got")"
	for way in "${ways[@]}" 'Linux'; do
		at_least_one "$(grep -c "$way" "$dir/picture.svg")" || same "$way in the picture" 1 0
	done
	"$zpipe" bench --json -q --seconds 1 --sizes 4M >"$dir/got"
	same 'status with JSON' 0 $?
	same 'results' 7 "$(grep -o '"median":[1-9]' "$dir/got" | wc -l)"
	"$zpipe" bench --seconds 1 --sizes 4097 2>/dev/null
	same 'status of a wrong size' 125 $?
	"$zpipe" bench --seconds 1 --sizes 4K --svg /nonexistent/x >/dev/null 2>"$dir/errors"
	same 'status without a picture' 1 $?
	same 'message' 'zpipe: /nonexistent/x: No such file or directory' "$(<"$dir/errors")"
}

at_least_one()
{
	(($1 > 0))
}

trap 'rm -rf "$dir"' EXIT
run_tests
