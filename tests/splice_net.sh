#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# tests/splice_net.sh: sends a tree of files from one network namespace to another over TCP:
# tar, a pipe, TCP, a pipe, tar. Compares the checksums of all files. Prints the processor time
# for each way to move the bytes between the pipes and TCP, see tools/examples/pump.c.

pump=$(realpath "$(dirname "$0")/tools/pump")
tree=${ZPIPE_TREE:-/usr}
rounds=${ZPIPE_ROUNDS:-3}
work=$(mktemp -d)
port=7000
modes=(zpipe zpipe-copy splice copy)
declare -A places

# same TEXT WANTED GOT: fails the test with a message if WANTED and GOT differ.
same()
{
	[[ $2 == "$3" ]] && return
	printf '# %s: wanted %q, got %q\n' "$1" "$2" "$3"
	wrong=1
}

sum_of_files()
{
	(cd "$1" && find . -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum)
}

# in_place NAME CMD...: runs CMD in a namespace.
in_place()
{
	local name=$1
	shift
	nsenter -t "${places[$name]}" -n "$@"
}

# Two network namespaces with a link between them. The kernel has netkit built in; veth is a
# module, which guests do not have.
two_places()
{
	local name

	for name in here there; do
		unshare -n sleep 1000 &
		places[$name]=$!
		# Until unshare has made the namespace, it is in that of this script.
		until [[ ! /proc/$!/ns/net -ef /proc/self/ns/net ]]; do
			sleep 0.05
		done
	done
	in_place here ip link add name here type netkit 2>/dev/null || return 4
	in_place here ip link set nk0 netns "${places[there]}" &&
		in_place here ip addr add 10.1.0.1/24 dev here &&
		in_place there ip addr add 10.1.0.2/24 dev nk0 &&
		in_place here ip link set here up &&
		in_place there ip link set nk0 up
}

# send MODE: fails unless all of tar, tar and the two pumps succeed. Adds the numbers that the
# pumps print to a file.
send()
{
	local mode=$1 sent=0 received=0

	port=$((port + 1))
	mkdir -p "$work/copy"
	in_place there "$pump" "$mode" receive "$port" tar -x -C "$work/copy" 2>"$work/received" &
	in_place here "$pump" "$mode" send 10.1.0.2 "$port" tar -c -C "$tree" . 2>"$work/sent" ||
		sent=$?
	wait $! || received=$?
	if ((sent || received)); then
		echo "# the pumps ended with $sent and $received"
		sed 's/^/# /' "$work/sent" "$work/received"
		return 1
	fi
	paste -d ' ' "$work/sent" "$work/received" >>"$work/rounds.$mode"
}

# deliver MODE: all files arrive as they are.
deliver()
{
	send "$1" || wrong=1
	same files "$expected" "$(sum_of_files "$work/copy")"
	rm -rf "$work/copy"
}

# cost MODE PROGRAM: the median of what the rounds have taken, in nanoseconds per KiB. PROGRAM
# is an awk expression of the processor time.
cost()
{
	awk "{ printf \"%.0f\\n\", ($2) * 1024 / \$1 }" "$work/rounds.$1" | sort -g |
		sed -n "$(((rounds + 1) / 2))p"
}

# The rounds of the modes alternate, so that a disturbance of the machine affects all. Each
# mode has had one round above.
processor_time()
{
	local mode round

	for ((round = 1; round < rounds; round++)); do
		for mode in "${modes[@]}"; do
			send "$mode" || wrong=1
			rm -rf "$work/copy"
		done
	done
	for mode in "${modes[@]}"; do
		same "$mode: rounds in which bytes were lost" '' \
			"$(awk '$1 != $4' "$work/rounds.$mode")"
		printf '# %-10s %d MB, ns per KiB of processor time: pumps %d and %d, all %d\n' "$mode" \
			"$(awk 'NR == 1 { printf "%d", $1 / 1e6 }' "$work/rounds.$mode")" \
			"$(cost "$mode" "\$2")" "$(cost "$mode" "\$5")" \
			"$(cost "$mode" "\$2 + \$3 + \$5 + \$6")"
	done
}

# The trap calls it.
# shellcheck disable=SC2317,SC2329
end()
{
	kill "${places[@]}" 2>/dev/null
	rm -rf "$work"
}
trap end EXIT

echo 'KTAP version 1'
two_places
case $? in
0)	;;
4)	echo '1..0 # SKIP this kernel has no netkit'
	exit 4 ;;
*)	exit 1 ;;
esac
expected=$(sum_of_files "$tree")
tests=("${modes[@]}" processor_time)
echo "1..${#tests[@]}"
failed=0
for n in "${!tests[@]}"; do
	wrong=''
	case ${tests[n]} in
	processor_time)	processor_time ;;
	*)		deliver "${tests[n]}" ;;
	esac
	if [[ ! $wrong ]]; then
		echo "ok $((n + 1)) ${tests[n]}"
	else
		echo "not ok $((n + 1)) ${tests[n]}"
		failed=1
	fi
done
exit "$failed"
