# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034,SC2154
#
# A boot by shim and GRUB with Secure Boot on, with the new kernel. The firmware's list of machine
# owner keys has the key of the packages in /mnt/signed. At the end everything is purged.

tests=(kernel_is_locked_down unsigned_module_is_refused unknown_key_is_refused
	signed_package_is_accepted purge_leaves_nothing)

test_kernel_is_locked_down()
{
	same 'kernel' "$release_new" "$running"
	same 'Secure Boot' 1 "$(od -An -tu1 -j4 -N1 /sys/firmware/efi/efivars/SecureBoot-* | tr -d ' ')"
	same 'lockdown' 1 "$(grep -c '\[integrity\]' /sys/kernel/security/lockdown)"
}

# The packages that were installed before are not signed. Their unit says that the module does not
# load, and programs run without it.
test_unsigned_module_is_refused()
{
	same 'unit' failed "$(systemctl is-failed zpipe-load.service)"
	refused "$(modinfo -F filename zpipe)" 'Loading of unsigned module is rejected'
	falls_back
}

test_unknown_key_is_refused()
{
	refused /mnt/unknown.ko 'Loading of module with unavailable key is rejected'
}

# refused FILE REASON: the kernel does not load this module.
refused()
{
	local since

	since=$(dmesg | wc -l)
	if insmod "$1" 2>/tmp/insmod; then
		same 'insmod' refused accepted
		rmmod zpipe
	fi
	same 'insmod' 1 "$(grep -c 'Key was rejected by service' /tmp/insmod)"
	same 'reason' 1 "$(dmesg | tail -n "+$((since + 1))" | grep -c "$2")"
	same 'module' '' "$(ls -d /sys/module/zpipe 2>/dev/null)"
}

test_signed_package_is_accepted()
{
	repository signed
	apt_get install --reinstall "zpipe-modules-$running"
	same 'signature' 1 "$(modinfo -F signer zpipe | grep -c "test of zpipe")"
	systemctl reset-failed
	passes systemctl start zpipe-load.service
	ready
	streams
	same 'unsigned taint' 0 $(($(</proc/sys/kernel/tainted) & 8192))
	whole
}

test_purge_leaves_nothing()
{
	local name

	gpasswd -d alice zpipe >/dev/null
	apt_get purge 'zpipe*'
	apt_get autoremove --purge
	whole
	snapshot after
	for name in files units groups; do
		same "$name" '' "$(diff <(expected before "$name") <(expected after "$name"))"
	done
	same 'module' '' "$(ls -d /sys/module/zpipe /dev/zpipe* 2>/dev/null)"
	same 'leftovers' '' "$(leftovers)"
	same 'index' '' "$(grep -l zpipe /usr/lib/modules/*/modules.* 2>/dev/null)"
}
