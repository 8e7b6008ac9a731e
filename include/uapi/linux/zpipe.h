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

/**
 * struct zpipe_iovec - a range of memory
 * @base:	where it begins
 * @bytes:	how long it is
 *
 * As struct iovec, of the same size for all programs.
 */
struct zpipe_iovec {
	__u64 base;
	__u64 bytes;
};

/*
 * Why a page was copied and not moved: an index into zpipe_transfer.why. Each counts
 * pieces of at most 2 MiB.
 */
#define ZPIPE_REASON_PART	0	/* no whole page: its piece is unaligned, or shorter */
#define ZPIPE_REASON_SMALL	1	/* pages of another size are there, or none */
#define ZPIPE_REASON_SHARED	2	/* others have it, too: since fork(2), or by KSM */
#define ZPIPE_REASON_PINNED	3	/* somebody holds a reference: I/O, io_uring, vmsplice(2) */
#define ZPIPE_REASON_MAPPING	4	/*
					 * memory of another kind than anonymous and
					 * writable, or with a protection key
					 */
#define ZPIPE_REASON_TRACKED	5	/* writes are watched: userfaultfd(2), soft-dirty */
#define ZPIPE_REASON_SWAP	6	/* being swapped, or lazily freed */
#define ZPIPE_REASON_ZONE	7	/* in memory that has to stay movable */
#define ZPIPE_REASON_POISON	8	/* bad memory */
#define ZPIPE_REASON_KERNEL	9	/* the kernel refused */
#define ZPIPE_REASON_MEMORY	10	/* there is no huge page to take its place */
#define ZPIPE_REASON_LIMIT	11	/* as many are in the pipe as may be */
#define ZPIPE_REASON_PACKET	12	/* packet mode */
#define ZPIPE_REASON_COST	13	/* to copy it costs less */
#define ZPIPE_REASON_BUFFER_ONLY 14	/* ZPIPE_BUFFER_ONLY */
#define ZPIPE_REASON_WINDOW	15	/* a frame of a window, read elsewhere */
#define ZPIPE_REASONS		16

/**
 * struct zpipe_transfer - write memory that may be taken away, or read into memory
 * @size:	sizeof(struct zpipe_transfer)
 * @flags:	ZPIPE_NONBLOCK, ZPIPE_SMALL; GIFT: ZPIPE_CLEAR, _ANY, _ALWAYS;
 *		MOVE: ZPIPE_RETURN
 * @iov:	address of an array of struct zpipe_iovec
 * @iovcnt:	how many, at most 1024
 * @reserved:	zero
 * @done:	out: bytes that were written, or read
 * @moved:	out: of these, bytes of pages that left the caller's memory, or came into
 *		it
 * @copied:	out: of these, bytes that were copied
 * @why:	out: of what was copied, how many pieces for which reason
 *
 * GIFT is writev(2) at the write end of a pipe, but that whole, aligned, huge pages
 * of 2 MiB of anonymous memory which the caller has for itself may leave it. What it
 * finds in their place afterwards are zeros, or bytes that its address space gave to
 * this pipe before; with ZPIPE_ANY, or bytes that a reader returned; with ZPIPE_CLEAR,
 * zeros in any case. What cannot be moved is copied as by write(2), and stays as it is.
 * Others who store to the memory meanwhile do so before, and it is in the message, or
 * after.
 *
 * MOVE is readv(2) at the read end. A whole huge page in the pipe that goes to a whole,
 * aligned piece of anonymous memory becomes that memory, if there is nothing yet, or a
 * huge page that the caller has for itself; read(2) does so, too. With ZPIPE_RETURN,
 * what was in the caller's page may be seen by writers of this pipe that give
 * ZPIPE_ANY: it costs them least.
 *
 * With ZPIPE_SMALL pages of 4 KiB leave the caller's memory, too, and zeros take their
 * place; if MOVE says so as well, they become the reader's memory. That is for bytes that
 * must not be in memory twice: to copy them costs less.
 *
 * Returns 0 if anything was written or read, or if there was nothing to do, or at the
 * end of the data, and else fails as write(2) or read(2). Beside the errors above EBADF
 * (the wrong end), and EINVAL (@iovcnt).
 */
struct zpipe_transfer {
	__u32 size;
	__u32 flags;
	__u64 iov;
	__u32 iovcnt;
	__u32 reserved;
	__u64 done;
	__u64 moved;
	__u64 copied;
	__u32 why[ZPIPE_REASONS];
};
#define ZPIPE_IOC_GIFT		_IO(ZPIPE_IOC_TYPE, 0x20)
#define ZPIPE_IOC_MOVE		_IO(ZPIPE_IOC_TYPE, 0x21)

#define ZPIPE_NONBLOCK		0x1	/* as if the descriptor had O_NONBLOCK */
#define ZPIPE_CLEAR		0x2	/* only zeros take the place of what is moved */
#define ZPIPE_ANY		0x4	/* what readers returned may, too */
#define ZPIPE_RETURN		0x8	/* writers may see what was here */
#define ZPIPE_ALWAYS		0x10	/* move what may, though to copy it may cost less */
#define ZPIPE_SMALL		0x20	/* pages of 4 KiB, too: dearer than to copy them */

/**
 * struct zpipe_window - make a window
 * @size:	sizeof(struct zpipe_window)
 * @flags:	ZPIPE_WINDOW_WRITE, which takes a descriptor that is open for writing, and
 *		perhaps ZPIPE_WINDOW_LEND; or ZPIPE_WINDOW_READ, which takes one that is open
 *		for reading
 * @bytes:	in: how many bytes a write window is to have, or how many in large frames a
 *		read window is to show at once, not 0; out: bytes of the window, to be given
 *		to mmap(2)
 * @fd:		out: a new descriptor, with O_CLOEXEC
 * @reserved:	zero
 *
 * Command of a pipe: /dev/zpipe or an end of a private pair. Returns 0. A window is memory
 * of the pipe, to be mapped with MAP_SHARED: a write window is filled and committed, a
 * read window shows what is in the pipe, and can only be read. It consists of frames of
 * 2 MiB, ZPIPE_FRAME, and counts as an end of the pipe until its descriptors and
 * mappings are gone. A mapping is not inherited by fork(2).
 *
 * Beside the errors above EBADF, EINVAL (@bytes 0, or more than ZPIPE_WINDOW_MOST), EPERM
 * (its user would have too many pages in pipes), EMFILE, ENFILE, ENOMEM.
 */
struct zpipe_window {
	__u32 size;
	__u32 flags;
	__u64 bytes;
	__s32 fd;
	__u32 reserved;
};
#define ZPIPE_IOC_WINDOW	_IO(ZPIPE_IOC_TYPE, 0x30)

#define ZPIPE_WINDOW_WRITE	0x1
#define ZPIPE_WINDOW_READ	0x2
#define ZPIPE_WINDOW_LEND	0x4	/* for commits with ZPIPE_LEND */
#define ZPIPE_WINDOW_MOST	0x40000000	/* bytes */
#define ZPIPE_FRAME		0x200000	/* bytes */

/**
 * struct zpipe_reserve - have the frames of a range there
 * @size:	sizeof(struct zpipe_reserve)
 * @flags:	reserved, zero
 * @offset:	where in the window the range begins
 * @bytes:	how long it is
 *
 * Command of a write window. Returns 0: then stores to the range do not fail. To touch a
 * frame that is not there makes one; if there is no memory for it that is SIGBUS, and here
 * ENOMEM. A frame that was committed is not there any more. The new one holds zeros, or
 * what was in a frame of this window before. Beside the errors above EINVAL (no range of
 * the window).
 */
struct zpipe_reserve {
	__u32 size;
	__u32 flags;
	__u64 offset;
	__u64 bytes;
};
#define ZPIPE_IOC_RESERVE	_IO(ZPIPE_IOC_TYPE, 0x31)

/**
 * struct zpipe_commit - write what is in a write window
 * @size:	sizeof(struct zpipe_commit)
 * @flags:	ZPIPE_NONBLOCK, ZPIPE_LEND
 * @offset:	where in the window the bytes begin
 * @bytes:	how many
 * @done:	out: bytes that were written
 * @moved:	out: of these, bytes in frames that left the window, or are lent
 * @copied:	out: of these, bytes that were copied
 * @why:	out: of what was copied, how many pieces of frames for which reason
 *
 * Command of a write window. It is write(2) at the end that the window was made from, but
 * that frames of which at least half is committed leave the window as they are: the next
 * touch finds another frame there, and what was not committed of it is lost. With
 * ZPIPE_LEND, in a window that was made with ZPIPE_WINDOW_LEND, whole frames stay to be
 * read, and parts are copied; to store to a frame that is lent copies it first. A frame
 * that somebody else holds (I/O, io_uring's registered buffers, vmsplice(2)) is copied,
 * and stays in the window.
 *
 * Returns 0 if anything was written, or there was nothing to do, and else fails as
 * write(2). Beside the errors above EINVAL (no range of the window, or ZPIPE_LEND and the
 * window cannot).
 */
struct zpipe_commit {
	__u32 size;
	__u32 flags;
	__u64 offset;
	__u64 bytes;
	__u64 done;
	__u64 moved;
	__u64 copied;
	__u32 why[ZPIPE_REASONS];
};
#define ZPIPE_IOC_COMMIT	_IO(ZPIPE_IOC_TYPE, 0x32)

#define ZPIPE_LEND		0x40	/* the frames stay, to be read */

/**
 * struct zpipe_view - bytes that a read window shows
 * @offset:	where in the window they begin
 * @bytes:	how many
 * @flags:	ZPIPE_VIEW_PACKET: a packet, or what is left of it
 * @reserved:	zero
 */
struct zpipe_view {
	__u64 offset;
	__u64 bytes;
	__u32 flags;
	__u32 reserved;
};

#define ZPIPE_VIEW_PACKET	0x1

/**
 * struct zpipe_peek - show what is in the pipe
 * @size:	sizeof(struct zpipe_peek)
 * @flags:	ZPIPE_NONBLOCK, ZPIPE_MORE
 * @consume:	in: bytes of those in view that are done with; out: 0
 * @views:	address of an array of struct zpipe_view
 * @nr_views:	in: how many there is room for, not 0; out: how many were written
 * @reserved:	zero
 * @bytes:	in: show at most about so many, 0 for all that can be shown; out: bytes in
 *		these views
 * @copied:	out: bytes that this call copied to show them
 *
 * Command of a read window. The views are in the order of the pipe. What was in view and
 * is not consumed is told again, then what there is behind it. The call waits as read(2)
 * at the end that the window was made from if nothing is in view; with ZPIPE_MORE, if
 * nothing new is. At the end of the data it shows no more than is in view already.
 *
 * What is in view belongs to the window: it does not change, others do not read it, and it
 * takes up room in the pipe. Where in the window it is may change with the next call that
 * peeks: only the views of the last one are good. It goes back to the front of the pipe
 * when the window's descriptors and mappings are gone; of several windows in the order in
 * which they go.
 *
 * Returns 0. Beside the errors above those of read(2), EINVAL (@consume is more than is in
 * view: nothing is consumed), EBUSY (another thread is in this call), ENOBUFS (with
 * ZPIPE_MORE: there is no room for more, in the window or in the pipe), ENOMEM, EFAULT
 * (@views, and what is in view can be asked for again). When @consume is 0 after an error,
 * so many bytes were consumed.
 */
struct zpipe_peek {
	__u32 size;
	__u32 flags;
	__u64 consume;
	__u64 views;
	__u32 nr_views;
	__u32 reserved;
	__u64 bytes;
	__u64 copied;
};
#define ZPIPE_IOC_PEEK		_IO(ZPIPE_IOC_TYPE, 0x33)

#define ZPIPE_MORE		0x80	/* wait for more than is in view */

/**
 * struct zpipe_consume - what is in view is done with
 * @size:	sizeof(struct zpipe_consume)
 * @flags:	reserved, zero
 * @bytes:	so many bytes, from the first in view on
 *
 * Command of a read window. Returns 0. The bytes are read: what the window has of them
 * may be gone, or be something else, from now on. Beside the errors above EINVAL (there
 * are not so many) and EBUSY, as ZPIPE_IOC_PEEK.
 */
struct zpipe_consume {
	__u32 size;
	__u32 flags;
	__u64 bytes;
};
#define ZPIPE_IOC_CONSUME	_IO(ZPIPE_IOC_TYPE, 0x34)

#endif /* _UAPI_LINUX_ZPIPE_H */
