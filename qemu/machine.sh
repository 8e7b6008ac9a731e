# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# What this machine offers a guest: KVM and memory. qemu/run sources this file.

# kvm_verdict DEVICE FILE CMD...: prints "works", or why the guest cannot use KVM.
#
# Access to DEVICE is tried each time, since it changes when a user joins the group kvm. CMD boots
# a trial guest. FILE remembers what it found: a success until the machine boots again, because
# FILE is named for the boot, and a failure for an hour.
kvm_verdict()
{
	local device=$1 file=$2 verdict='' new
	shift 2

	[[ -e $device ]] || { echo "no $device"; return; }
	{ : <>"$device"; } 2>/dev/null || { echo "no access to $device"; return; }
	[[ ! -e $file ]] || verdict=$(<"$file")
	case $verdict in
	works)	;;
	trial*)	[[ $(find "$file" -mmin -60) ]] || verdict='' ;;
	*)	verdict='' ;;
	esac
	if [[ ! $verdict ]]; then
		verdict='trial guest failed'
		! "$@" || verdict=works
		new=$(mktemp "$file.XXXXXX")
		echo "$verdict" >"$new"
		mv "$new" "$file"
	fi
	case $verdict in
	works)	echo works ;;
	*)	echo "a trial guest did not run under KVM; it is tried again an hour later, or at once" \
			"after: rm $file" ;;
	esac
}

# mebibytes SIZE: prints a size as QEMU's -m takes it, in MiB. Without a unit it is one in MiB.
mebibytes()
{
	local number=${1%[kKmMgGtT]}

	[[ $number =~ ^[1-9][0-9]*$ ]] || die "$1 is no size of memory"
	case $1 in
	*[kK])	echo $((number >> 10)) ;;
	*[gG])	echo $((number << 10)) ;;
	*[tT])	echo $((number << 20)) ;;
	*)	echo "$number" ;;
	esac
}

# compare_memory NEEDED AVAILABLE: warns if a guest can take more memory, in MiB, than there is.
# The guest may start all the same: it does not take all of its memory at once.
compare_memory()
{
	(($1 <= $2)) || say "WARNING: this guest takes up to $1 MiB of memory, and $2 MiB are" \
		'available. The kernel may kill it. Close other programs, or give it less with --mem'
}
