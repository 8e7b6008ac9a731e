/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * zpipe: a pipe for bulk data between the processes of one machine.
 *
 * This file is the only definition of the ABI. It describes what a program
 * may ask of two devices:
 *
 *  /dev/zpipe		a FIFO, see fifo(7): open it, read it, write it.
 *  /dev/zpipe-control	joins nothing; makes private pipes.
 */
#ifndef _UAPI_LINUX_ZPIPE_H
#define _UAPI_LINUX_ZPIPE_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define ZPIPE_IOC_TYPE	0xE9

/* f_type of fstatfs(2): either end of a private pipe, however it was opened. */
#define ZPIPE_SUPER_MAGIC	0x7a706970	/* "zpip" */

/*
 * The argument of each command below points to a struct whose first member,
 * @size, is the size of the struct that the caller was compiled with. A struct
 * longer than the kernel knows is accepted as long as what the kernel does not
 * know is zero; a shorter one, down to the first published size, has its
 * missing members taken as zero.
 *
 *  ENOTTY	the command is not known, or not on this kind of file
 *  EINVAL	@size is smaller than the first published size; an unknown flag
 *		is set; a reserved member is not zero
 *  E2BIG	@size is larger than the kernel knows and what it does not know
 *		is not zero, or @size is larger than a page
 *  EOPNOTSUPP	a known member has a value that this kernel cannot serve
 *  EFAULT	the struct cannot be read or written
 */

/**
 * struct zpipe_pipe2 - make a private pipe, as pipe2(2)
 * @size:	sizeof(struct zpipe_pipe2)
 * @flags:	any of O_CLOEXEC, O_NONBLOCK, O_DIRECT (packet mode) and
 *		ZPIPE_BUFFER_ONLY
 * @fds:	out: the read end, then the write end
 *
 * Command of /dev/zpipe-control. Returns 0. Beside the errors above EMFILE,
 * ENFILE and ENOMEM, as pipe2(2).
 */
struct zpipe_pipe2 {
	__u32 size;
	__u32 flags;
	__s32 fds[2];
};
#define ZPIPE_IOC_PIPE2		_IO(ZPIPE_IOC_TYPE, 0x00)

/**
 * struct zpipe_capacity - the capacity of a pipe, as F_SETPIPE_SZ of fcntl(2)
 * @size:	sizeof(struct zpipe_capacity)
 * @flags:	reserved, zero
 * @bytes:	bytes: in, with SET, at least how many; out, how many there are
 *
 * Commands of a pipe: /dev/zpipe or either end of a private pipe. Both return
 * 0. SET rounds up to a power of two pages. Beside the errors above EINVAL
 * (@bytes above 2^31), EPERM, EBUSY and ENOMEM, as F_SETPIPE_SZ.
 */
struct zpipe_capacity {
	__u32 size;
	__u32 flags;
	__u64 bytes;
};
#define ZPIPE_IOC_GET_CAPACITY	_IO(ZPIPE_IOC_TYPE, 0x10)
#define ZPIPE_IOC_SET_CAPACITY	_IO(ZPIPE_IOC_TYPE, 0x11)

/*
 * A flag of a pipe: all data passes through the pipe's own pages, none goes
 * straight from one process to the other. What poll(2) and FIONREAD announce
 * can then be read without waiting, whatever a writer does to its memory, and
 * stays when the writer is killed: for readers that do not trust their writers.
 */
#define ZPIPE_BUFFER_ONLY	0x80000000

/**
 * struct zpipe_flags - the flags of a pipe
 * @size:	sizeof(struct zpipe_flags)
 * @flags:	ZPIPE_BUFFER_ONLY or 0: in, with SET; out, with GET
 *
 * Commands of a pipe: /dev/zpipe or an end of a private pair; SET takes a
 * descriptor that is open for reading. Both return 0. The flags are those of
 * the pipe, not of the descriptor, and last as long as the pipe: for
 * /dev/zpipe until its last close. When SET has returned, bytes that wait in a
 * writer's memory are not announced any more until the writer has buffered
 * them. Beside the errors above EBADF (SET, not open for reading).
 */
struct zpipe_flags {
	__u32 size;
	__u32 flags;
};
#define ZPIPE_IOC_GET_FLAGS	_IO(ZPIPE_IOC_TYPE, 0x12)
#define ZPIPE_IOC_SET_FLAGS	_IO(ZPIPE_IOC_TYPE, 0x13)

#endif /* _UAPI_LINUX_ZPIPE_H */
