#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Reports the unit tests of rust/core that the kernel ran when the module was loaded.
# Skipped on a kernel without KUnit. On a kernel with KUnit there must be results.

kunit=/sys/kernel/debug/kunit
if [[ ! -d $kunit ]]; then
	printf '%s\n' 'KTAP version 1' 1..1 'ok 1 results # SKIP no KUnit here'
	exit 0
fi

suites=("$kunit"/zpipe_*)
echo 'KTAP version 1'
echo "1..${#suites[@]}"
failed=0 n=0
for suite in "${suites[@]}"; do
	n=$((n + 1))
	# The file is a KTAP document in which the suite is the only test.
	results=$(grep -vE '^(KTAP version|1\.\.1$)' "$suite/results" |
		sed -E "s/^((not )?ok) 1 /\1 $n /")
	echo "$results"
	[[ $results == *$'\n'"ok $n "* ]] || failed=1
done
exit "$failed"
