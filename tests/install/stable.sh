# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034,SC2154
#
# A boot with a kernel for which there is no module.

tests=(system_is_whole run_falls_back no_device)

test_system_is_whole()
{
	same 'kernel' "$release_stable" "$running"
	whole
}

test_run_falls_back()		{ falls_back; }

test_no_device()
{
	same 'devices' '' "$(find /dev -maxdepth 1 -name 'zpipe*')"
}
