#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# tests/preload.sh: tests the tool zpipe and libzpipe_preload.so in the guest. The same
# assertions run without the library, with it, and with it but without the device. Then
# come shells and their pipelines.

# The functions test_* are called by name.
# shellcheck disable=SC2317,SC2329

# shellcheck source=preload/lib.sh
. "$(dirname "$0")/tools/lib.sh"

# without PROGRAM, with PROGRAM: run a program of tests/preload without the library, or with it.
without()	{ ZPIPE_EXPECT=pipe nested "$1_without" "$tools/$1"; }
with()		{ ZPIPE_EXPECT=zpipe nested "$1_with" "$zpipe" run "$tools/$1"; }

# with_musl PROGRAM: likewise, built with musl.
with_musl()	{ ZPIPE_EXPECT=zpipe on_musl nested "$1_with_musl" "$zpipe" run "$tools/$1-musl"; }

test_calls_without()	{ without calls; }
test_calls_with()	{ with calls; }
test_calls_with_musl()	{ with_musl calls; }
test_splices_without()	{ without splices; }
test_splices_with()	{ with splices; }
test_splices_with_musl() { with_musl splices; }
test_waits_without()	{ without waits; }
test_waits_with()	{ with waits; }
test_waits_with_musl()	{ with_musl waits; }
test_names_without()	{ without names; }
test_names_with()	{ with names; }
test_dlsym_without()	{ without dlsym; }
test_dlsym_with()	{ with dlsym; }
test_early_without()	{ without early; }
test_early_with()	{ with early; }

test_early_except()
{
	ZPIPE_EXCEPT=early ZPIPE_EXPECT=pipe nested early_except "$zpipe" run "$tools/early"
}

test_calls_with_no_device()
{
	ZPIPE_EXPECT=pipe nested calls_with_no_device \
		alone env LD_PRELOAD="$(realpath "$tools/libzpipe_preload.so")" "$tools/calls"
}

# /dev/null is mounted over the devices, so that their commands fail.
test_calls_with_another_device()
{
	# shellcheck disable=SC2016
	ZPIPE_EXPECT=pipe nested calls_with_another_device unshare -m bash -c '
		mount --bind /dev/null /dev/zpipe-control && mount --bind /dev/null /dev/zpipe &&
		LD_PRELOAD=$1/libzpipe_preload.so exec "$1/calls" -f pipe' \
		other "$(realpath "$tools")"
}

# on_musl CMD...: runs CMD where programs that are built with musl find their dynamic linker.
on_musl()
{
	ln -sf "$(realpath "$tools/ld-musl-x86_64.so.1")" /lib
	"$@"
}

test_calls_of_musl()	{ ZPIPE_EXPECT=pipe on_musl nested calls_of_musl "$tools/calls-musl"; }

# A program that is excepted makes pipes of the kernel.
test_calls_except()
{
	ZPIPE_EXCEPT=calls ZPIPE_EXPECT=pipe nested calls_except "$zpipe" run "$tools/calls" -f pipe
}

# kind_of LIST COMMAND...: prints the kind of pipes that bash, as COMMAND, makes with this list.
kind_of()
{
	local list=$1
	shift
	ZPIPE_EXCEPT=$list "$zpipe" run "$@" -c 'readlink /proc/self/fd/0 < <(:)' | sed 's/:.*//'
}

test_except()
{
	local list

	for list in bash x:bash bash:x x:bash:y :bash:; do
		same "$list" pipe "$(kind_of "$list" bash)"
	done
	for list in '' : x bas bashes readlink /usr/bin/bash BASH; do
		same "$list" zpipe "$(kind_of "$list" bash)"
	done
	# A link, and a script: both have two names.
	ln -sf /usr/bin/bash /tmp/other
	same 'link' pipe "$(kind_of other /tmp/other)"
	same 'file of a link' pipe "$(kind_of bash /tmp/other)"
	same 'another link' zpipe "$(kind_of sh /tmp/other)"
	# shellcheck disable=SC2016  # not expanded here
	printf '#!/usr/bin/bash\nreadlink /proc/self/fd/0 < <(:)\n' >/tmp/script
	chmod +x /tmp/script
	same 'script' pipe "$(kind_of script /tmp/script)"
	same 'its interpreter' pipe "$(kind_of bash /tmp/script)"
	same 'not the script' zpipe "$(kind_of tmp /tmp/script)"
	# Children inherit the variable, and only those in the list are excepted.
	same 'parent' $'zpipe\npipe' "$(ln -sf /usr/bin/bash /tmp/child
		ZPIPE_EXCEPT=child "$zpipe" run bash -c '
			readlink /proc/self/fd/0 < <(:)
			/tmp/child -c "readlink /proc/self/fd/0 < <(:)"' | sed 's/:.*//')"
	# musl has the environment elsewhere.
	ZPIPE_EXCEPT=calls-musl ZPIPE_EXPECT=pipe on_musl "$zpipe" run "$tools/calls-musl" \
		-r pipe.is_of_the_expected_kind >/tmp/musl.out || same 'musl' pipe "$(cat /tmp/musl.out)"
}

test_not_permitted()
{
	local got

	# shellcheck disable=SC2016
	got=$(unshare -m bash -c 'touch /tmp/locked && mount --bind /tmp/locked /dev/zpipe-control &&
		chmod 000 /tmp/locked && setpriv --reuid 65534 --clear-groups \
		"$0" run -q bash -c "readlink /proc/self/fd/0 < <(:)"' "$zpipe")
	same 'kind of pipe' pipe "${got%%:*}"
}

test_exit_status()
{
	"$zpipe" run true
	same true 0 $?
	"$zpipe" run -- bash -c 'exit 3'
	same 'exit 3' 3 $?
	"$zpipe" run -- bash -c 'kill -TERM $$' 2>/dev/null
	same SIGTERM 143 $?
	"$zpipe" run -- /nonexistent 2>/dev/null
	same 'no program' 127 $?
	"$zpipe" run -- / 2>/dev/null
	same 'no program but a directory' 126 $?
	"$zpipe" run 2>/dev/null
	same 'no command' 125 $?
	"$zpipe" run --nonsense true 2>/dev/null
	same 'unknown option' 125 $?
	"$zpipe" --version >/dev/null
	same version 0 $?
	same 'arguments' '<-q> <--> <a b>' "$("$zpipe" run printf '<%s> <%s> <%s>' -q -- 'a b')"
}

test_without_device()
{
	local got

	got=$(alone "$zpipe" run bash -c 'echo ran; echo | readlink /proc/self/fd/0' 2>&1)
	same 'warned once' 1 "$(grep -c '^zpipe: /dev/zpipe-control: ' <<<"$got")"
	same 'ran' 1 "$(grep -c '^ran$' <<<"$got")"
	same 'kind of pipe' 1 "$(grep -c '^pipe:' <<<"$got")"
	got=$(alone "$zpipe" run --quiet echo ran 2>&1)
	same quiet ran "$got"
	got=$(alone "$zpipe" run --quiet --require echo ran 2>/dev/null)
	same 'status where required' 125 $?
	same 'where required' '' "$got"
}

test_library()
{
	local own other=/tools-test.so

	own=$(realpath "$tools/libzpipe_preload.so")
	cp "$own" "$other"
	same LD_PRELOAD "$own" "$("$zpipe" run printenv LD_PRELOAD)"
	same 'another one stays' "$own:$other" "$(LD_PRELOAD=$other "$zpipe" run printenv LD_PRELOAD)"
	same 'twice' "$own" "$("$zpipe" run "$zpipe" run printenv LD_PRELOAD)"
	same chosen "$other" "$(ZPIPE_PRELOAD=$other "$zpipe" run printenv LD_PRELOAD)"
	ZPIPE_PRELOAD=/nonexistent.so "$zpipe" run -r true 2>/dev/null
	same missing 125 $?
}

# A shell runs each line without and with the library. The results must be the same.
test_pipelines()
{
	local line with without

	while read -r line; do
		[[ $line ]] || continue
		without=$(bash -c "$line" 2>&1; echo "status $?")
		with=$("$zpipe" run bash -c "$line" 2>&1; echo "status $?")
		same "$line" "$without" "$with"
	done <<-'END'
		seq 20000 | sort -rn | sha256sum
		yes | head -n 100000 | tail -n 3 | wc
		yes | head -n 1; echo "${PIPESTATUS[*]}"
		echo stdin | cat /dev/stdin
		echo stdin | cat /proc/self/fd/0
		echo stdin | (exec 5<&0; cat /dev/fd/5)
		echo x | stat -L -c %F /dev/stdin
		echo x | { test -p /dev/stdin && test -p /proc/self/fd/0; echo $?; }
		cat <(seq 3) <(seq 4)
		cd /tmp; rm -f t; seq 5 | tee >(sort -rn >t) | wc -l; for i in {1..99}; do [ -s t ] || sleep 0.1; done; cat t
		coproc cat; echo coproc >&"${COPROC[1]}"; read -ru "${COPROC[0]}" l; echo "$l"
		tar -c -C /usr bin/tar bin/bash | tar -t | sort
		dd if=/dev/zero bs=1M count=3 status=none | dd bs=10000 iflag=fullblock status=none | wc -c
		head -c 200000 /dev/zero | split -b 100000 --filter='wc -c' -
		head -c 200000 /dev/zero | tail -c 5 | od -c
		cat /usr/bin/bash | cmp - /usr/bin/bash && echo same
		echo a | timeout 5 cat
		read -t 0.1 -r x < <(sleep 1); echo $?
		exec 3< <(seq 10); closed=1; exec 3<&-; echo $closed
		echo x | dd of=/dev/null seek=1 status=none; echo $?
		echo x | tail -c +1 /dev/stdin
		seq 1000 | shuf | sort -n | uniq -c | md5sum
		for i in 1 2 3 4 5 6 7 8; do echo $i | cat | cat | cat; done
	END
}

test_pipelines_use_it()
{
	local got

	got=$("$zpipe" run bash -c 'echo | readlink /proc/self/fd/0; readlink /proc/self/fd/0 < <(:)' |
		sed 's/:.*//')
	same 'what the shell made' $'zpipe\nzpipe' "$got"
	got=$("$zpipe" run bash -c 'seq 5 | { cat >/dev/null; grep bytes-read /proc/self/fdinfo/0; }')
	same 'bytes' $'zpipe-bytes-read:\t10' "$got"
}

run_tests
