#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Reports the unit tests of rust/core that the kernel ran when the module was loaded.
# Skipped on a kernel without KUnit. On a kernel with KUnit there must be results of all suites.
# tests/run writes their names to the file kunit.suites.

kunit=/sys/kernel/debug/kunit
if [[ ! -d $kunit ]]; then
	printf '%s\n' 'KTAP version 1' 1..1 'ok 1 results # SKIP no KUnit here'
	exit 0
fi

mapfile -t suites <"${0%/*}/kunit.suites"
echo 'KTAP version 1'
echo "1..${#suites[@]}"
failed=0 n=0
for suite in "${suites[@]}"; do
	n=$((n + 1))
	# The file is a KTAP document in which the suite is the only test.
	results=$(grep -vE '^(KTAP version|1\.\.1$)' "$kunit/$suite/results" |
		sed -E "s/^((not )?ok) 1 /\1 $n /")
	if [[ $results == *$'\n'"ok $n "* ]]; then
		echo "$results"
	else
		echo "${results:-not ok $n $suite}"
		failed=1
	fi
done
exit "$failed"
