# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034,SC2154
#
# The second boot, with the old kernel. Then the archive has a new one.

tests=(device_is_there streams outsider_is_refused apt_upgrades_the_kernel system_is_whole)

test_device_is_there()
{
	same 'kernel' "$(</mnt/release-old)" "$running"
	ready
	whole
}

test_streams()			{ streams; }
test_outsider_is_refused()	{ outsider; }

test_apt_upgrades_the_kernel()
{
	repository packages new
	apt_get upgrade --with-new-pkgs
	same '/vmlinuz' "boot/vmlinuz-$release_new" "$(readlink /vmlinuz)"
	passes modinfo -k "$release_new" zpipe
}

test_system_is_whole()		{ whole; }
