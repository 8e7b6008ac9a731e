# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# The machine on which tests/install/run installs Debian's and zpipe's packages. That file has set
# "image", "out", "accel" and "memory".

# in_disk COMMAND: prints what debugfs says to COMMAND about the machine's disk.
in_disk()
{
	debugfs -R "$1" "$out/disk" 2>/dev/null
}

# copy_from_disk LINK FILE: copies what the link in the disk's root directory points to.
copy_from_disk()
{
	local target

	target=$(in_disk "stat $1" | sed -nE 's/^Fast link dest: "(.*)"$/\1/p')
	[[ $target ]] || die "the disk has no link $1"
	rm -f "$2"
	in_disk "dump /${target#/} $2"
	[[ -s $2 ]] || die "the disk has no file $target"
}

# boot STEP QEMU-ARGUMENT...: boots the machine, which runs STEP and powers itself off. Writes its
# console to $out/STEP.console, and the output of the step to $out/STEP.ktap.
boot()
{
	local step=$1 cpu=max,-erms,-fsrm,-fzrm
	shift

	[[ $accel != kvm ]] || cpu=host
	rm -f "$out/$step".{console,ktap}
	timeout "${TEST_TIMEOUT:-600}" qemu-system-x86_64 -accel "$accel" -cpu "$cpu" -smp 2 \
		-m "$memory" -nodefaults -no-user-config -display none -no-reboot \
		-drive "file=$out/disk,format=raw,if=virtio,cache=unsafe" \
		-drive "file=$out/test,format=raw,if=virtio,read-only=on" \
		-chardev "file,id=console,path=$out/$step.console" -serial chardev:console \
		-chardev "file,id=ktap,path=$out/$step.ktap" -serial chardev:ktap \
		"$@" </dev/null
}

# The kernel's command line for a step.
append()
{
	echo "root=LABEL=zpipe-root ro console=ttyS0 panic=-1 oops=panic no_timer_check zpipe.step=$1"
}

# boot_linux STEP: boots the kernel that the links in the disk's root directory name, which Debian's
# packages keep up to date. QEMU loads it.
boot_linux()
{
	copy_from_disk vmlinuz "$out/vmlinuz"
	copy_from_disk initrd.img "$out/initrd"
	boot "$1" -kernel "$out/vmlinuz" -initrd "$out/initrd" -append "$(append "$1")"
}
