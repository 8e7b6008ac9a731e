#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# tests/command.sh: tests the command zpipe in the guest: what a program inherits from "zpipe
# run", its messages, "zpipe ls" and "zpipe mknod". tests/preload.sh tests the library.

# The functions test_* are called by name.
# shellcheck disable=SC2317,SC2329

# shellcheck source=preload/lib.sh
. "$(dirname "$0")/tools/lib.sh"

test_inherited_state()
{
	ZPIPE_TOOL=$(realpath "$zpipe") nested inherited_state "$tools/state"
}

# The library, but not the device. Each message names its reason, and what to do.
test_missing_device()
{
	local got

	got=$(alone "$zpipe" run true 2>&1)
	same 'device' 'zpipe: /dev/zpipe-control: No such file or directory; the kernel module is '\
'loaded, but this /dev lacks its device: running without' "$got"
	# shellcheck disable=SC2016
	got=$(alone bash -c 'mount -t tmpfs none /sys/module && "$0" run true' "$zpipe" 2>&1)
	same 'module' 1 "$(grep -c 'No such file or directory; load the kernel module as root' <<<"$got")"
	got=$(ZPIPE_PRELOAD=/nonexistent.so "$zpipe" run echo ran 2>&1)
	same 'library' 'zpipe: there is no libzpipe_preload.so; looked for /nonexistent.so: running '\
$'without\nran' "$got"
	got=$(ZPIPE_PRELOAD=/usr/bin "$zpipe" run echo ran 2>&1)
	same 'a directory' $'zpipe: /usr/bin: Is a directory: running without\nran' "$got"
	got=$(ZPIPE_PRELOAD=/proc/self/status "$zpipe" run -r echo ran 2>&1)
	same 'status of a text' 125 $?
	same 'a text' 1 "$(grep -c '^zpipe: /.*: not a shared library for x86-64$' <<<"$got")"
	echo >/tmp/unreadable
	chmod 0 /tmp/unreadable
	got=$(ZPIPE_PRELOAD=/tmp/unreadable setpriv --reuid 65534 --clear-groups \
		"$zpipe" run echo ran 2>&1)
	same 'unreadable' $'zpipe: /tmp/unreadable: Permission denied: running without\nran' "$got"
}

test_messages_of_commands()
{
	same 'no program' 'zpipe: /nonexistent: No such file or directory' \
		"$("$zpipe" run /nonexistent 2>&1)"
	same 'a directory' 'zpipe: /: Permission denied' "$("$zpipe" run / 2>&1)"
	"$zpipe" --help >/dev/full 2>/tmp/message
	same 'status of help without space' 125 $?
	same 'help without space' 'zpipe: standard output: No space left on device' "$(</tmp/message)"
}

# unreached TEXT COMMAND...: expects that zpipe warns of COMMAND with TEXT, or not at all.
unreached()
{
	local text=$1 got
	shift

	got=$("$zpipe" run "$@" 2>&1 >/dev/null </dev/null | grep '^zpipe: ')
	[[ ! $text ]] || text="zpipe: $text: its own pipes stay the kernel's"
	same "$*" "$text" "$got"
	same "quiet $*" '' "$("$zpipe" run -q "$@" 2>&1 >/dev/null </dev/null | grep '^zpipe: ')"
}

test_programs_out_of_reach()
{
	local dir=/unreached

	mkdir -p "$dir"
	unreached '' true
	unreached '' /usr/bin/true
	unreached '/usr/bin/busybox is statically linked' busybox true
	unreached '/usr/bin/busybox is statically linked' /usr/bin/busybox true
	pushd /usr/bin >/dev/null || return
	unreached './busybox is statically linked' ./busybox true
	popd >/dev/null || return
	printf '#!/usr/bin/busybox sh\n' >"$dir/static-script"
	printf '#! /usr/bin/bash\n' >"$dir/script"
	printf '#! %s/static-script\n' "$dir" >"$dir/nested"
	printf 'true\n' >"$dir/plain"
	# The header of a program for 32 bits. Other bytes do not matter.
	printf '\177ELF\001\001\001%57s' '' >"$dir/elf32"
	chmod +x "$dir"/*
	unreached '/usr/bin/busybox is statically linked' "$dir/static-script"
	unreached '/usr/bin/busybox is statically linked' "$dir/nested"
	unreached '' "$dir/script"
	unreached '' "$dir/plain"
	unreached "$dir/elf32 is not for x86-64" "$dir/elf32"
	PATH=$dir:$PATH unreached '/usr/bin/busybox is statically linked' static-script
	unreached '' /lib64/ld-linux-x86-64.so.2 /usr/bin/true

	cp /usr/bin/true "$dir/set"
	chmod u+s "$dir/set"
	unreached '' "$dir/set"			# root's, and this is root
	chown 65534 "$dir/set"
	chmod u+s "$dir/set"
	unreached "$dir/set is set-user-ID or set-group-ID" "$dir/set"
	chown 0:65534 "$dir/set"
	chmod u-s,g+s "$dir/set"
	unreached "$dir/set is set-user-ID or set-group-ID" "$dir/set"
	# Without new privileges the library is loaded.
	zpipe="setpriv_zpipe" unreached '' "$dir/set"
	rm -r "$dir"
}

setpriv_zpipe()
{
	setpriv --no-new-privs "$tools/zpipe" "$@"
}

# hold WHAT...: starts tests/preload/hold.c, or the program $holds, and sets $holder to its
# process.
hold()
{
	local line

	rm -f /tmp/hold.in /tmp/hold.out
	mkfifo /tmp/hold.in /tmp/hold.out
	"${holds:-$tools/hold}" "$@" </tmp/hold.in >/tmp/hold.out &
	holder=$!
	exec 9>/tmp/hold.in
	read -r line </tmp/hold.out
	same "holds $*" ready "$line"
}

release()
{
	exec 9>&-
	wait "$holder"
}

# rows PID [COLUMN...]: prints these columns of the process's lines.
rows()
{
	local pid=$1
	shift
	"$zpipe" ls 2>/dev/null | awk -v pid="$pid" -v columns="$*" '
		NF == 0		{ exit }
		$6 == pid	{ n = split(columns, c, " ")
				  for (i = 1; i <= n; i++) printf "%s%s", $c[i], i < n ? " " : "\n" }'
}

# explained: prints the references of the module, those that lines explain, and the others.
explained()
{
	"$zpipe" ls 2>/dev/null | awk '
		/^The module has/	{ all = $4 }
		/^Those of open files/	{ seen = $NF }
		/^Others: /		{ others = $2 }
		END			{ print all + 0, seen + 0, others + 0 }'
}

test_ls_without_pipes()
{
	local got

	got=$("$zpipe" ls)
	same status 0 $?
	same output $'KIND         INODE END       SLOTS      BYTES     PID   FD COMMAND         PATH\n\n'\
'The module has 0 references: it can be unloaded.' "$got"
}

test_ls_pair()
{
	local inode

	hold pair
	inode=$(readlink "/proc/$holder/fd/4" | tr -dc 0-9)
	same lines "\
pair $inode read 2/16 5000 3 hold
pair $inode read 2/16 5000 4 hold
pair $inode write 2/16 5000 5 hold" "$(rows "$holder" 1 2 3 4 5 7 8)"
	# Two open files, of which one has two descriptors, and the mount.
	same references "$(cat /sys/module/zpipe/refcnt) 3 0" "$(explained)"
	same refcnt 3 "$(cat /sys/module/zpipe/refcnt)"
	release
	same 'after the end' '0 0 0' "$(explained)"
}

test_ls_nodes()
{
	local got inode

	rm -f '/tmp/a node'
	"$zpipe" mknod '/tmp/a node'
	inode=$(stat -c %i '/tmp/a node')
	exec 8<>'/tmp/a node'
	echo >&8
	got=$("$zpipe" ls 2>/dev/null | grep "^node .* $$ ")
	same node "node $inode both 1/16 1 $$ 8 ${0##*/} /tmp/a node" "$(echo "$got" | tr -s ' ')"
	same references '2 2 0' "$(explained)"
	exec 8<&-
	exec 8<>/dev/zpipe-control
	same control 'control both - - 8 /dev/zpipe-control' "$(rows $$ 1 3 4 5 7 9)"
	same 'references to control' '2 2 0' "$(explained)"
	exec 8<&-
}

test_ls_windows()
{
	local pipe

	# Beside the window, there are its end, which has no descriptor, and the mount.
	hold window
	pipe=$("$zpipe" ls | awk '$1 == "pipe" { print $2 }')
	same 'pipe of the window' "3 pipe $pipe" "$(rows "$holder" 7 9 10 | grep pipe)"
	same window $'window read - - mem hold\nwindow read 0/16 0 3 hold' \
		"$(rows "$holder" 1 3 4 5 7 8 | sort)"
	same references "$(cat /sys/module/zpipe/refcnt) 1 2" "$(explained)"
	release
	hold mapping
	same mapping 'window read - - mem hold' "$(rows "$holder" 1 3 4 5 7 8)"
	same 'references of a mapping' '3 1 2' "$(explained)"
	release
}

# What has no descriptor of a process is counted, and root sees the pipe in the module's list.
test_ls_out_of_sight()
{
	grep -q ' /sys/kernel/debug ' /proc/mounts || mount -t debugfs none /sys/kernel/debug
	hold path
	same path 'pair path hold' "$(rows "$holder" 1 3 8)"
	same 'references of a path' '1 1 0' "$(explained)"
	release
	hold flight
	same 'lines of the process' '' "$(rows "$holder" 1)"
	same listed 'pipe - 0/16 0 - -' "$(rows - 1 3 4 5 7 8)"
	same 'references of a descriptor in flight' 0 "$(explained | cut -d ' ' -f 2)"
	same 'others' "$(cat /sys/module/zpipe/refcnt)" "$(explained | cut -d ' ' -f 3)"
	release
}

test_ls_of_users()
{
	local got user=(setpriv --reuid 65534 --clear-groups)

	hold pair
	got=$("${user[@]}" "$zpipe" ls 2>/tmp/message)
	same 'processes of root' 0 "$(grep -cw hold <<<"$got")"
	same hidden 1 "$(grep -cE '^zpipe: [1-9][0-9]* processes of others are not shown' /tmp/message)"
	same references 1 "$(grep -c '^The module has 3 references: rmmod fails' <<<"$got")"
	same 'others' 1 "$(grep -c '^Others: 3\. They may be of processes that are not shown,' <<<"$got")"
	release
	got=$("$zpipe" ls 2>&1 >/dev/null)
	same 'root sees all' '' "$got"
	# shellcheck disable=SC2016
	got=$("${user[@]}" bash -c 'exec 8</dev/zpipe-control; "$0" ls 2>/dev/null' "$zpipe")
	same 'own processes' 1 "$(grep -cE '^control .* 8 bash .*/dev/zpipe-control' <<<"$got")"
}

# With the right to list the descriptors of a process, but not to look at them.
test_ls_without_the_right_to_trace()
{
	local got

	hold pair
	got=$(setpriv --bounding-set -sys_ptrace --inh-caps -sys_ptrace "$zpipe" ls 2>/tmp/message)
	same lines 0 "$(grep -cw hold <<<"$got")"
	same hidden 1 "$(grep -cE '^zpipe: [1-9][0-9]* processes of others are not shown' /tmp/message)"
	release
}

test_ls_main_thread_has_ended()
{
	hold pair ended
	for _ in {1..100}; do
		grep -q '^State:.Z' "/proc/$holder/status" && break
		sleep 0.1
	done
	same state Z "$(sed -n 's/^State:\t\(.\).*/\1/p' "/proc/$holder/status")"
	same lines $'read 3 hold\nread 4 hold\nwrite 5 hold' "$(rows "$holder" 3 7 8)"
	same references "$(cat /sys/module/zpipe/refcnt) 3 0" "$(explained)"
	release
}

# A name may imitate columns, and disturb a terminal.
test_ls_names()
{
	local name=$'/tmp/\xe2\x80\xae\\\n'

	rm -f "$name"
	"$zpipe" mknod "$name"
	exec 8<>"$name"
	same path '/tmp/\u{202e}\\\n' "$("$zpipe" ls 2>/dev/null | awk -v pid=$$ '$6 == pid { print $9 }')"
	exec 8<&-
	rm "$name"
	cp "$tools/hold" '/tmp/a b'
	holds='/tmp/a b' hold control
	same command 'a\u{20}b' "$(rows "$holder" 8)"
	release
}

# Root's list must not take long because a user has many open files. Unit tests count the steps.
test_ls_many_files()
{
	hold many
	same references '6000 6000 0' "$(explained)"
	release
}

test_ls_fails()
{
	local got

	"$zpipe" ls >/dev/full 2>/dev/null
	same 'no space' 1 $?
	"$zpipe" ls >&- 2>&-
	same 'closed' 1 $?
	# shellcheck disable=SC2016
	got=$(unshare -m bash -c 'mount -t tmpfs none /sys/module && exec "$0" ls 2>&1' "$zpipe")
	same 'status without module' 1 $?
	same 'without module' 1 "$(grep -c '^zpipe: the kernel module is not loaded; load ' <<<"$got")"
}

# compare UMASK ARGUMENT...: makes nodes with mknod(1) and zpipe, at $node.1 and $node.2. Both must
# be the same.
compare()
{
	local mask=$1 node=${node:-/tmp/node} major format='%F %a %u:%g %t:%T'
	shift

	major=$(awk '$2 == "zpipe" { print $1 }' /proc/devices)
	rm -f "$node".[12]
	(umask "$mask" && mknod "$@" "$node.1" c "$major" 0 && "$zpipe" mknod "$@" "$node.2")
	same "status with $mask $*" 0 $?
	same "node with $mask $*" "$(stat -c "$format" "$node.1")" "$(stat -c "$format" "$node.2")"
}

# compare_errors COMMAND... PATH: expects the error of mknod(1).
compare_errors()
{
	local want got path=${*: -1} before=("${@:1:$#-1}")

	want=$("${before[@]}" mknod "$path" c 1 3 2>&1)
	same "mknod $path" 1 $?
	got=$("${before[@]}" "$zpipe" mknod "$path" 2>&1)
	same "status of $path" 1 $?
	same "error of $path" "${want/#mknod: /zpipe: }" "$got"
}

test_mknod()
{
	compare 022
	compare 077
	compare 0
	compare 077 -m 666
	compare 022 -m 0
	compare 022 --mode=0777
	compare_errors env /tmp/node.1
	compare_errors env /nonexistent/node
	compare_errors env /dev/null/node
	compare_errors setpriv --reuid 65534 --clear-groups --inh-caps=-all /tmp/node.3
	same 'no node' no "$([[ -e /tmp/node.3 ]] && echo yes || echo no)"
	for mode in x 888 7777 u=rw ''; do
		same "mode $mode" "zpipe: invalid mode: $mode" "$("$zpipe" mknod -m "$mode" /tmp/node.3 2>&1)"
	done
}

# A default ACL takes the place of the umask, and limits the mode of mknod(2).
test_mknod_with_a_default_acl()
{
	mkdir -p /tmp/acl
	mount -t tmpfs none /tmp/acl
	hold acl
	release
	node=/tmp/acl/node compare 022
	same 'mode of the ACL' 600 "$(stat -c %a /tmp/acl/node.2)"
	node=/tmp/acl/node compare 022 -m 666
	same 'wanted mode' 666 "$(stat -c %a /tmp/acl/node.2)"
	umount /tmp/acl
}

test_mknod_makes_a_fifo_of_its_own()
{
	rm -f /tmp/node.1 /tmp/node.2
	"$zpipe" mknod -m 600 /tmp/node.1
	"$zpipe" mknod -m 600 /tmp/node.2
	echo two >/tmp/node.2 &
	echo one >/tmp/node.1 &
	same one one "$(timeout 20 cat /tmp/node.1)"
	same two two "$(timeout 20 cat /tmp/node.2)"
	wait
}

test_mknod_without_the_module()
{
	local got

	# shellcheck disable=SC2016
	got=$(unshare -m bash -c 'mount --bind /dev/null /proc/devices && exec "$0" mknod /tmp/node.4 2>&1' \
		"$zpipe")
	same status 1 $?
	same message 1 "$(grep -c '^zpipe: the system has no zpipe device: load ' <<<"$got")"
}

run_tests
