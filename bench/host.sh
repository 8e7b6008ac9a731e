# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# HOST=1 of scripts/bench, which sources this file. It measures on this machine. It runs as
# an ordinary user or as root and needs only cc and python3. It uses variables that
# scripts/bench sets:
# shellcheck disable=SC2154

# Prints the build id of the loaded module. The module's file has the same one.
loaded_module()
{
	local note=/sys/module/zpipe/notes/.note.gnu.build-id

	if [[ -r $note ]]; then
		od -An -tx1 -j 16 -N 6 "$note" | tr -d ' '
	elif [[ -d /sys/module/zpipe ]]; then
		echo unknown
	else
		echo none
	fi
}

# True if M asks only for other mechanisms.
without_zpipe()
{
	[[ ${M:-} && ! $(list "$M") =~ (^|,)zpipe ]]
}

# With KO= mechanisms load the module again. Nothing tells which parameters it was loaded
# with, so the user has to name them in MODULE_ARGS, even if there are none.
may_reload()
{
	[[ ${MODULE_ARGS+said} ]] ||
		die 'KO= loads the module again: name its current parameters in MODULE_ARGS='
	python3 - "$KO" "$(loaded_module)" <<-'EOF' || die "$KO is not the module that is loaded"
		import sys
		with open(sys.argv[1], "rb") as f:
		    sys.exit(not (f.read(4) == b"\x7fELF" and bytes.fromhex(sys.argv[2]) in f.read()))
	EOF
	schedstats=$(cat /proc/sys/kernel/sched_schedstats 2>/dev/null || :)
	trap module_back EXIT
}

# Restores the machine's state, also after a failed run.
module_back()
{
	local args

	[[ ! $schedstats ]] || echo "$schedstats" >/proc/sys/kernel/sched_schedstats
	[[ ! $reloaded ]] || return 0
	say 'bench: loading the module as it was'
	read -ra args <<<"$MODULE_ARGS"
	rmmod zpipe 2>/dev/null || :
	insmod "$KO" "${args[@]}"
}

# Set once the bench program has restored the module.
reloaded=''
schedstats=''

# on_placement NAME OPTION...: adds the results of one placement to $raw.
on_placement()
{
	local name=$1 lines line args
	shift
	lines=$(runs host)
	while read -r line; do
		read -ra args <<<"$line"
		"$out/bin/bench" "${args[@]}" "${labels[@]}" -x "placement=$name" "$@" \
			-M host -o "$raw" </dev/null
	done <<<"$lines"
}

# on_host: adds all results to $raw: all sets with the machine's first placement, and fewer
# sizes with the others.
on_host()
{
	local name cpus first=1 module=()

	[[ -c /dev/zpipe-control ]] || without_zpipe ||
		die 'there is no /dev/zpipe-control here: load the module first, or choose' \
			'other mechanisms with M='
	if [[ ${KO:-} ]]; then
		may_reload
		module=(-k "$KO" -K "$MODULE_ARGS")
	elif [[ ${MODULE_ARGS+said} ]]; then
		module=(-K "$MODULE_ARGS")
	else
		module=(-x loaded-with=unknown)
	fi
	if [[ ${CPUS:-} ]]; then
		on_placement given "${module[@]}"
		reloaded=1
		return
	fi
	while read -r name cpus; do
		say "bench: placement $name"
		if [[ $first ]]; then
			CPUS=$cpus on_placement "$name" "${module[@]}"
		else
			SETS=placements CPUS=$cpus on_placement "$name" "${module[@]}"
		fi
		first=''
		[[ ! $alone ]] || break
	done < <(python3 "$bench/placements.py")
	reloaded=1
}

# Describes the host, in addition to the run records.
machine()
{
	uname -srvm
	sed '/^$/q' /proc/cpuinfo
	head -n 3 /proc/meminfo
	grep -H . /sys/devices/system/cpu/cpu*/topology/{thread_siblings_list,physical_package_id} \
		/sys/devices/system/cpu/cpu*/cache/index*/{level,type,size,shared_cpu_list} 2>/dev/null || :
}

# archive: packs one file to send back, and prints its name.
archive()
{
	local name files=(machine.txt check.txt)
	name=$out/host-$(date -u +%Y%m%d-%H%M%S).tar.gz

	machine >"$out/machine.txt"
	if [[ $alone ]]; then
		files+=(raw "$alone.json" "$alone.txt")
	else
		files+=(models/host.raw models/host.txt results.json)
	fi
	tar -czf "$name" -C "$out" "${files[@]}"
	echo "$name"
}
