# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2154
#
# The machine on which tests/install/run installs Debian's and zpipe's packages. That file has set
# "image", "out", "accel" and "memory".

# in_disk COMMAND: prints what debugfs says to COMMAND about the machine's disk.
in_disk()
{
	debugfs -R "$1" "$out/disk" 2>/dev/null
}

# copy_from_disk PATH FILE: copies a file.
copy_from_disk()
{
	rm -f "$2"
	in_disk "dump /$1 $2"
	[[ -s $2 ]] || die "the disk has no file $1"
}

# link_on_disk NAME: prints what a link in the disk's root directory points to.
link_on_disk()
{
	in_disk "stat $1" | sed -nE 's/^Fast link dest: "(.*)"$/\1/p'
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
	echo "root=LABEL=zpipe-root ro console=ttyS0 panic=-1 oops=panic no_timer_check zpipe_test=$1"
}

# boot_linux STEP [RELEASE]: boots a kernel of the disk, which QEMU loads. By default it is the one
# that the links in the root directory name. Debian's packages keep them up to date.
boot_linux()
{
	local image initrd

	image=${2:+boot/vmlinuz-$2} initrd=${2:+boot/initrd.img-$2}
	copy_from_disk "${image:-$(link_on_disk vmlinuz)}" "$out/vmlinuz"
	copy_from_disk "${initrd:-$(link_on_disk initrd.img)}" "$out/initrd"
	boot "$1" -kernel "$out/vmlinuz" -initrd "$out/initrd" -append "$(append "$1")"
}

# boot_secure STEP RELEASE: boots a kernel of the disk by UEFI with Secure Boot on. The firmware has
# Microsoft's keys, which shim is signed with. shim has Debian's, which GRUB and the kernel are signed
# with, and the list of machine owner keys.
boot_secure()
{
	local esp=$out/esp

	rm -f "$esp"
	mformat -C -i "$esp" -F -T 131072 ::
	mmd -i "$esp" ::/EFI ::/EFI/BOOT ::/EFI/debian
	mcopy -i "$esp" "$image"/efi/* ::/EFI/BOOT
	cat >"$out/grub.cfg" <<-END
		search --no-floppy --set=root --label zpipe-root
		linux /boot/vmlinuz-$2 $(append "$1")
		initrd /boot/initrd.img-$2
		boot
	END
	mcopy -i "$esp" "$out/grub.cfg" ::/EFI/debian/grub.cfg
	virt-fw-vars -i /usr/share/OVMF/OVMF_VARS_4M.ms.fd -o "$out/vars" \
		--add-mok "$(</proc/sys/kernel/random/uuid)" "$out/keys/known.pem" >"$out/vars.log" 2>&1
	boot "$1" -machine q35,smm=on \
		-global driver=cfi.pflash01,property=secure,value=on \
		-drive if=pflash,format=raw,unit=0,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.ms.fd \
		-drive "if=pflash,format=raw,unit=1,file=$out/vars" \
		-drive "file=$esp,format=raw,if=virtio"
}
