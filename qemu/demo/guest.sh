#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# qemu/demo/guest.sh: the part of "make demo" that runs in the guest, see scripts/demo.
# /linux is a part of the kernel's source. Only pair, gift and the examples of windows know
# zpipe.

# row() calls the functions run_*.
# shellcheck disable=SC2317

set -euo pipefail
repeats=3
cd /
mkfifo /tmp/fifo
failed=0

compare()
{
	if [[ $2 == "$3" ]]; then
		echo "  the same on both sides: $1 $2"
	else
		echo "  DIFFERENT: $1 $2 went in, $3 came out"
		failed=1
	fi
}

sum_of_files()
{
	(cd "$1" && find . -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum | cut -c -32)
}

echo "== $(tar -c linux | wc -c | numfmt --to=si)B of source in $(find linux -type f | wc -l) files"
expected=$(tar -c linux | sha256sum | cut -c -32)

echo
echo '$ tar -c linux > /dev/zpipe &'
echo '$ sha256sum < /dev/zpipe'
tar -c linux >/dev/zpipe &
# A descriptor of this shell keeps the pipe and its counters until they are read.
exec 3</dev/zpipe
got=$(sha256sum <&3 | cut -c -32)
wait $!
compare sha256 "$expected" "$got"
echo "\$ grep zpipe /proc/$$/fdinfo/3"
grep zpipe "/proc/$$/fdinfo/3" | sed 's/^/  /'
exec 3<&-

echo
echo '$ tar -c linux > /dev/zpipe &'
echo '$ tar -x -C copy < /dev/zpipe'
mkdir /tmp/copy
tar -c linux >/dev/zpipe &
tar -x -C /tmp/copy </dev/zpipe
wait $!
compare 'sha256 of all files' "$(sum_of_files linux)" "$(sum_of_files /tmp/copy/linux)"
rm -rf /tmp/copy

echo
echo '$ pair zpipe 128     # a private pair between a parent and its child'
/demo/pair zpipe 128 | sed '$d; s/^/  /' || failed=1

# Each function prints the seconds that its transfer through the pipe $1 took.
run_tar()
{
	local start=$EPOCHREALTIME

	tar -c linux >"$1" &
	cat "$1" >/dev/null
	wait $!
	echo "$start $EPOCHREALTIME" | awk '{ print $2 - $1 }'
}

# dd_through BYTES COUNT PIPE
dd_through()
{
	local start=$EPOCHREALTIME

	dd if=/dev/zero of="$3" bs="$1" count="$2" status=none &
	dd if="$3" of=/dev/null bs="$1" status=none
	wait $!
	echo "$start $EPOCHREALTIME" | awk '{ print $2 - $1 }'
}

run_dd()
{
	dd_through 64K 4096 "$1"
}

# Large messages are transferred directly.
run_dd_large()
{
	dd_through 1M 256 "$1"
}

# Shows which path the same bytes take. A descriptor of this shell keeps the counters.
show_paths()
{
	dd if=/dev/zero of=/dev/zpipe bs=1M count=256 status=none &
	exec 3</dev/zpipe
	dd of=/dev/null bs=1M status=none <&3
	wait $!
	awk '/bytes-pulled/ { pulled = $2 }
		/bytes-pushed/ { pushed = $2 }
		END { printf "  of it, in one copy: %.0f MB pulled by the reader, %.0f MB pushed by the writer\n",
			pulled / 1e6, pushed / 1e6 }' "/proc/$$/fdinfo/3"
	exec 3<&-
}

run_pair()
{
	local kind=zpipe

	[[ $1 == /dev/zpipe ]] || kind=pipe
	/demo/pair "$kind" 128 | tail -n 1
}

# row TEXT BYTES FUNCTION: FIFO and zpipe alternate, so that a disturbance of the machine
# affects both. Prints the medians.
row()
{
	local fifo=() zpipe=() i

	for ((i = 0; i < repeats; i++)); do
		fifo+=("$("$3" /tmp/fifo)")
		zpipe+=("$("$3" /dev/zpipe)")
	done
	awk -v text="$1" -v bytes="$2" \
		-v f="$(printf '%s\n' "${fifo[@]}" | sort -g | sed -n "$((repeats / 2 + 1))p")" \
		-v z="$(printf '%s\n' "${zpipe[@]}" | sort -g | sed -n "$((repeats / 2 + 1))p")" \
		'BEGIN { printf "%-36s %7.0f MB %9.0f MB/s %9.0f MB/s %7.2f\n",
			text, bytes / 1e6, bytes / f / 1e6, bytes / z / 1e6, f / z }'
}

echo '$ gift               # huge pages of 2 MiB go from a parent to its child, and back'
/demo/gift || failed=1

echo
echo '== Windows: a parent fills frames of 2 MiB and commits them, its child looks at them'
# window TEXT CMD...: runs a program with both ends of a window.
window()
{
	echo "\$ $1"
	shift
	"$@" | sed 's/^/  /' || failed=1
}
window window /demo/window
window window-rust /demo/window-rust
window 'python3 window.py' python3 -I -S /demo/window.py

echo
echo '== From one network namespace to another: tar | pipe | TCP | pipe | tar'
ZPIPE_TREE=/linux/net ZPIPE_ROUNDS=1 /demo/net/splice_net.sh | sed 's/^/  /' || failed=1

echo
echo "== How fast, beside a FIFO (and pipe(2) for the pair); the median of $repeats runs each"
printf '%-36s %10s %14s %14s %7s\n' '' bytes FIFO zpipe ratio
row 'tar -c linux | cat' "$(tar -c linux | wc -c)" run_tar
row 'dd bs=64K | dd bs=64K' $((4096 * 65536)) run_dd
row 'private pair, 64 KiB, summed' $((128 << 20)) run_pair
row 'dd bs=1M | dd bs=1M' $((256 << 20)) run_dd_large
show_paths
exit "$failed"
