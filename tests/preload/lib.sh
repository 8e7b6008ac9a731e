# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# Helpers of tests/preload.sh and tests/command*.sh.

# An absolute path, because tests change the directory.
tools=$(realpath "$(dirname "$0")")/tools
# shellcheck disable=SC2034  # used by those who source this
zpipe=$tools/zpipe

# nested NAME CMD...: runs CMD and prints its KTAP document as a subtest.
nested()
{
	local name=$1
	shift
	"$@" 2>&1 | awk -v name="$name" '
	BEGIN { print "    KTAP version 1\n    # Subtest: " name; fflush() }
	/^K?TAP version/ { next }
	{ print "    " $0; fflush() }'
	return "${PIPESTATUS[0]}"
}

# same TEXT WANTED GOT: fails the test with a message if WANTED and GOT differ. A subshell has to
# pass the status on.
same()
{
	[[ $2 == "$3" ]] && return
	printf '# %s: wanted %q, got %q\n' "$1" "$2" "$3"
	wrong=1
	return 1
}

# alone CMD...: runs CMD in a mount namespace where /dev has no zpipe.
alone()
{
	# shellcheck disable=SC2016
	unshare -m bash -c 'mkdir -p /tmp/dev && mount -t tmpfs none /tmp/dev &&
		mknod /tmp/dev/null c 1 3 && mount --move /tmp/dev /dev && exec "$@"' alone "$@"
}

# run_named NAME...: runs the functions test_NAME and prints their results as KTAP. Fails if one fails.
run_named()
{
	local n tests=("$@") failed=0

	echo 'KTAP version 1'
	echo "1..${#tests[@]}"
	for n in "${!tests[@]}"; do
		wrong=''
		if "test_${tests[n]}" && [[ ! $wrong ]]; then
			echo "ok $((n + 1)) ${tests[n]}"
		else
			echo "not ok $((n + 1)) ${tests[n]}"
			failed=1
		fi
	done
	return "$failed"
}

# run_tests: does so with all functions test_*.
run_tests()
{
	local tests

	mapfile -t tests < <(compgen -A function test_)
	run_named "${tests[@]#test_}"
}
