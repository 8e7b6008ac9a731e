# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034,SC2154
#
# The second boot, with the old kernel. Then the archive has a new version of zpipe, and after that a
# new kernel.

tests=(device_is_there streams outsider_is_refused apt_upgrades_zpipe apt_upgrades_the_kernel
	system_is_whole)

test_device_is_there()
{
	same 'kernel' "$(</mnt/release-old)" "$running"
	ready
	whole
}

test_streams()			{ streams; }
test_outsider_is_refused()	{ outsider; }

# Programs that run meanwhile do not notice.
test_apt_upgrades_zpipe()
{
	local stream

	same 'earlier versions' "$(find /mnt/earlier -name '*.deb' | wc -l)" "$(earlier_versions)"
	as alice zpipe run bash -c '
		(echo before; until [[ -e /tmp/upgraded ]]; do sleep 0.2; done; echo after) | cat' \
		>/tmp/stream &
	stream=$!
	for _ in {1..300}; do
		[[ ! -s /tmp/stream ]] || break
		sleep 0.2
	done
	same 'module in use' 1 $(($(</sys/module/zpipe/refcnt) > 0))
	repository packages
	apt_get upgrade
	same 'module in use' 1 $(($(</sys/module/zpipe/refcnt) > 0))
	touch /tmp/upgraded
	wait "$stream"
	same 'stream' $'before\nafter' "$(</tmp/stream)"
	same 'earlier versions' 0 "$(earlier_versions)"
	passes dpkg --verify zpipe "zpipe-modules-$running"
	ready
	streams
	whole
}

# earlier_versions: prints how many packages of the earlier version are installed.
earlier_versions()
{
	dpkg-query -W -f '${db:Status-Abbrev}${Version}\n' 'zpipe*' | grep -c '^ii.*~earlier$'
}

test_apt_upgrades_the_kernel()
{
	repository packages new
	apt_get upgrade --with-new-pkgs
	same '/vmlinuz' "boot/vmlinuz-$release_new" "$(readlink /vmlinuz)"
	passes modinfo -k "$release_new" zpipe
}

test_system_is_whole()		{ whole; }
