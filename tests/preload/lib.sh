# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# Helpers of tests/preload.sh and tests/command.sh.

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

# run_tests [NAME...]: runs all functions test_*, or those named in this order, and prints their
# results as KTAP. Fails if one fails.
run_tests()
{
	local n tests=("${@/#/test_}") failed=0

	(($#)) || mapfile -t tests < <(compgen -A function test_)
	echo 'KTAP version 1'
	echo "1..${#tests[@]}"
	for n in "${!tests[@]}"; do
		wrong=''
		if "${tests[n]}" && [[ ! $wrong ]]; then
			echo "ok $((n + 1)) ${tests[n]#test_}"
		else
			echo "not ok $((n + 1)) ${tests[n]#test_}"
			failed=1
		fi
	done
	return "$failed"
}
