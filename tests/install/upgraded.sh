# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034,SC2154
#
# The third boot, with the new kernel: zpipe is still there, and nobody has typed anything. The next
# kernel is one for which there is no module.

tests=(device_is_there streams outsider_is_refused)
[[ -e /mnt/short ]] || tests+=(dkms_does_not_disturb_a_kernel system_is_whole)

test_device_is_there()
{
	same 'kernel' "$release_new" "$running"
	ready
	whole
}

test_streams()			{ streams; }
test_outsider_is_refused()	{ outsider; }

test_dkms_does_not_disturb_a_kernel()
{
	local log=$state/dkms

	repository packages stable compilers
	apt_get install zpipe-dkms
	apt-get -y -q -o Dpkg::Use-Pty=0 install "linux-image-$release_stable" >"$log" 2>&1
	same 'status' 0 $?
	same 'lines' 1 "$(grep -c "^zpipe-dkms: $release_stable: " "$log")"
	grep '^zpipe-dkms' "$log" | sed 's/^/# /'
	same 'module' '' "$(modinfo -k "$release_stable" -F filename zpipe 2>/dev/null)"
}

test_system_is_whole()		{ whole; }
