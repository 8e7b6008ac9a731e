/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * zpipe: a pipe for bulk data between the processes of one machine.
 *
 * This file is the only definition of the ABI. See also zpipe(4).
 */
#ifndef _UAPI_LINUX_ZPIPE_H
#define _UAPI_LINUX_ZPIPE_H

#include <linux/ioctl.h>
#include <linux/types.h>

/**
 * DOC: Files
 *
 * Four kinds of files have commands:
 *
 * - Ends of pipes. An end is an open file of /dev/zpipe, which is a FIFO as in
 *   fifo(7), or a descriptor from ZPIPE_IOC_PIPE2. FIONREAD works, too.
 * - The control device, /dev/zpipe-control. It makes private pipes, called
 *   pairs. It has no data of its own.
 * - Write windows, made by ZPIPE_IOC_WINDOW.
 * - Read windows, made by ZPIPE_IOC_WINDOW.
 */

/* The type of all commands, the second argument of _IO(). */
#define ZPIPE_IOC_TYPE	0xE9

/*
 * The f_type that fstatfs(2) returns for either end of a pair, also if the end
 * was opened again through /proc/self/fd.
 */
#define ZPIPE_SUPER_MAGIC	0x7a706970	/* "zpip" */

/**
 * DOC: General format of the commands
 *
 * The argument of each command points to a struct. Its first member, @size, is
 * the size of the struct that the caller was compiled with. So structs can grow,
 * with the rules of openat2(2):
 *
 * - If the struct is longer than the kernel knows, the rest must be zero.
 * - If the struct is shorter than the kernel knows, the members that it lacks
 *   count as zero. It must have at least the first published size.
 *
 * Members are input unless their description begins with "out". The kernel
 * writes a struct with output members back.
 *
 * All commands return 0 on success, and -1 with errno set on failure. These
 * errors have the same meaning for all commands:
 *
 * - ENOTTY: The command is not known, or files of this kind do not have it.
 * - EINVAL: @size is smaller than the first published size, an unknown flag is
 *   set, or a reserved member is not zero.
 * - E2BIG: @size is larger than the kernel knows and the rest is not zero, or
 *   @size is larger than a page.
 * - EFAULT: The struct cannot be read or written.
 *
 * The commands below document only what they have beyond these.
 */

/**
 * struct zpipe_pipe2 - ioctl(ZPIPE_IOC_PIPE2)
 * @size: sizeof(struct zpipe_pipe2)
 * @flags: Any of O_CLOEXEC, O_NONBLOCK, O_DIRECT (packet mode) and
 *	ZPIPE_BUFFER_ONLY
 * @fds: out: the descriptors of the read end and of the write end, in this order
 *
 * A command of the control device. It makes a pair as pipe2(2) makes a pipe,
 * with the same flags and ZPIPE_BUFFER_ONLY.
 *
 * Errors:
 *
 * - EMFILE: The process has too many descriptors.
 * - ENFILE: The system has too many files, the user has too many pages in
 *   pipes, or the pipe cannot be allocated.
 * - ENOMEM: Out of memory.
 */
struct zpipe_pipe2 {
	__u32 size;
	__u32 flags;
	__s32 fds[2];
};
#define ZPIPE_IOC_PIPE2		_IO(ZPIPE_IOC_TYPE, 0x00)

/**
 * struct zpipe_capacity - ioctl(ZPIPE_IOC_GET_CAPACITY, ZPIPE_IOC_SET_CAPACITY)
 * @size: sizeof(struct zpipe_capacity)
 * @flags: Reserved, must be zero
 * @bytes: With SET, the minimum capacity in bytes. GET ignores the input. out:
 *	the capacity in bytes
 *
 * Commands of an end. They do what F_GETPIPE_SZ and F_SETPIPE_SZ of fcntl(2) do.
 * SET rounds @bytes up to a power of two pages.
 *
 * Errors of SET:
 *
 * - EINVAL: @bytes is above 2^31.
 * - EPERM: A caller without privileges asks for more than the module parameter
 *   max_size allows, or for more pages than its user may have in pipes.
 * - EBUSY: The pipe holds more data than the new capacity.
 * - ENOMEM: Out of memory.
 */
struct zpipe_capacity {
	__u32 size;
	__u32 flags;
	__u64 bytes;
};
#define ZPIPE_IOC_GET_CAPACITY	_IO(ZPIPE_IOC_TYPE, 0x10)
#define ZPIPE_IOC_SET_CAPACITY	_IO(ZPIPE_IOC_TYPE, 0x11)

/*
 * A flag of a pipe: all bytes go through pages that the pipe has for itself. No
 * bytes are copied directly between the memory of two processes.
 *
 * It is for readers that do not trust their writers. Bytes that poll(2) and
 * FIONREAD announce can be read without waiting, whatever a writer does to its
 * memory. They stay in the pipe if the writer is killed.
 */
#define ZPIPE_BUFFER_ONLY	0x80000000

/**
 * struct zpipe_flags - ioctl(ZPIPE_IOC_GET_FLAGS, ZPIPE_IOC_SET_FLAGS)
 * @size: sizeof(struct zpipe_flags)
 * @flags: ZPIPE_BUFFER_ONLY or 0. With SET, the new flags. With GET, out: the
 *	flags
 *
 * Commands of an end. They get and set the flags of the pipe, which are not those
 * of the descriptor. The flags last as long as the pipe. The pipe of /dev/zpipe
 * ends with its last close.
 *
 * SET needs a descriptor that is open for reading: a writer must not remove the
 * reader's protection. After SET of ZPIPE_BUFFER_ONLY, bytes in the memory of a
 * blocked writer are no longer announced. The writer puts them into the pipe's
 * pages, and then they are announced again.
 *
 * Errors of SET:
 *
 * - EBADF: The descriptor is not open for reading.
 */
struct zpipe_flags {
	__u32 size;
	__u32 flags;
};
#define ZPIPE_IOC_GET_FLAGS	_IO(ZPIPE_IOC_TYPE, 0x12)
#define ZPIPE_IOC_SET_FLAGS	_IO(ZPIPE_IOC_TYPE, 0x13)

/**
 * struct zpipe_iovec - a range of the caller's memory
 * @base: The address of the first byte
 * @bytes: The length in bytes
 *
 * It is struct iovec with the same size in 32-bit and 64-bit programs.
 */
struct zpipe_iovec {
	__u64 base;
	__u64 bytes;
};

/*
 * The reasons why bytes were copied instead of moved. A reason is an index into
 * @why of struct zpipe_transfer and struct zpipe_commit. An element of @why counts
 * the pieces that were copied for its reason. A piece has at most 2 MiB.
 *
 * ZPIPE_REASON_PART: The piece is not a whole, aligned page. In ZPIPE_IOC_COMMIT,
 *	it is less than half of a frame, or a part of one that is or would be lent.
 * ZPIPE_REASON_SMALL: Pages of another size are there, or no pages. In
 *	ZPIPE_IOC_MOVE, the bytes were not in a huge page in the pipe. In
 *	ZPIPE_IOC_COMMIT, another thread has just committed the frame.
 * ZPIPE_REASON_SHARED: Other processes have the page, too: since fork(2), or
 *	through KSM.
 * ZPIPE_REASON_PINNED: The page has other references, for example by I/O,
 *	io_uring or vmsplice(2). In ZPIPE_IOC_COMMIT, also: readers hold too many
 *	frames of the window.
 * ZPIPE_REASON_MAPPING: The memory is not one mapping of writable anonymous
 *	memory, has a protection key, or must not be inherited or dumped, see
 *	madvise(2).
 * ZPIPE_REASON_TRACKED: Writes to the memory are tracked, by userfaultfd(2) or
 *	soft-dirty bits.
 * ZPIPE_REASON_SWAP: The page is being swapped, or was freed with MADV_FREE.
 * ZPIPE_REASON_ZONE: The page is in memory that has to stay movable, and could
 *	not be migrated out of it.
 * ZPIPE_REASON_POISON: The page has bad memory.
 * ZPIPE_REASON_KERNEL: The kernel refused, because the page or the address space
 *	was busy, or because this kernel can move no pages.
 * ZPIPE_REASON_MEMORY: There is no memory for a replacement of the page.
 * ZPIPE_REASON_LIMIT: The pipe, or its user, has as many huge pages as it may.
 * ZPIPE_REASON_PACKET: The write end is in packet mode (O_DIRECT).
 * ZPIPE_REASON_COST: A copy seems to cost less, see ZPIPE_ALWAYS.
 * ZPIPE_REASON_BUFFER_ONLY: The pipe has the flag ZPIPE_BUFFER_ONLY.
 * ZPIPE_REASON_WINDOW: The bytes are in a frame of a window, which only a read
 *	window shows without a copy.
 */
#define ZPIPE_REASON_PART	0
#define ZPIPE_REASON_SMALL	1
#define ZPIPE_REASON_SHARED	2
#define ZPIPE_REASON_PINNED	3
#define ZPIPE_REASON_MAPPING	4
#define ZPIPE_REASON_TRACKED	5
#define ZPIPE_REASON_SWAP	6
#define ZPIPE_REASON_ZONE	7
#define ZPIPE_REASON_POISON	8
#define ZPIPE_REASON_KERNEL	9
#define ZPIPE_REASON_MEMORY	10
#define ZPIPE_REASON_LIMIT	11
#define ZPIPE_REASON_PACKET	12
#define ZPIPE_REASON_COST	13
#define ZPIPE_REASON_BUFFER_ONLY 14
#define ZPIPE_REASON_WINDOW	15
/* The number of elements of @why. */
#define ZPIPE_REASONS		16

/**
 * struct zpipe_transfer - ioctl(ZPIPE_IOC_GIFT, ZPIPE_IOC_MOVE)
 * @size: sizeof(struct zpipe_transfer)
 * @flags: GIFT: any of ZPIPE_NONBLOCK, ZPIPE_SMALL, ZPIPE_CLEAR, ZPIPE_ANY and
 *	ZPIPE_ALWAYS. MOVE: any of ZPIPE_NONBLOCK, ZPIPE_SMALL and ZPIPE_RETURN
 * @iov: The address of an array of struct zpipe_iovec
 * @iovcnt: The number of elements of @iov, at most 1024
 * @reserved: Must be zero
 * @done: out: the number of bytes written or read, @moved plus @copied. It may be
 *	less than asked for
 * @moved: out: the number of bytes in pages that left the caller's memory (GIFT)
 *	or entered it (MOVE)
 * @copied: out: the number of bytes that were copied
 * @why: out: the number of copied pieces for each reason, see ZPIPE_REASON_PART
 *
 * GIFT is a command of an end that is open for writing, MOVE of an end that is
 * open for reading. They write or read the memory ranges of @iov, in order.
 *
 * GIFT is writev(2) that may take pages away from the caller. A huge page has
 * 2 MiB and is aligned to 2 MiB. A whole one in a range may leave the caller's
 * memory and enter the pipe without a copy. It must be anonymous memory that no
 * other process has. In its place the caller finds zeros, or bytes that its own
 * address space gifted to this pipe before. ZPIPE_ANY and ZPIPE_CLEAR change that.
 *
 * All other memory is copied as by write(2), and does not change. A store that
 * another thread does meanwhile comes either before the page is taken, and is in
 * the message, or after it.
 *
 * MOVE is readv(2) that may replace pages of the caller. A whole huge page in the
 * pipe may become the caller's memory without a copy. The destination must be
 * 2 MiB of anonymous memory, aligned to 2 MiB. It must have no page yet, or a huge
 * page that no other process has. read(2) moves huge pages under the same
 * conditions.
 *
 * Both return 0 if they wrote or read any byte, or if there was nothing to do. At
 * the end of the data MOVE returns 0, and @done is 0. Otherwise they fail as
 * write(2) or read(2).
 *
 * Errors:
 *
 * - EBADF: The descriptor is not open for writing (GIFT) or reading (MOVE).
 * - EINVAL: @iovcnt is too large, or the length of a range is negative as a
 *   64-bit integer.
 * - EFAULT: @iov or a range of it cannot be accessed. Also if the struct cannot be
 *   written after the transfer: then bytes were written or read.
 * - EAGAIN: The call would have to wait, and must not.
 * - EINTR: A signal came before any byte was written or read.
 * - EPIPE: There is no reader (GIFT). The caller also gets SIGPIPE.
 * - ENOMEM: Out of memory.
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

/* Commands that transfer bytes: do not wait, as if the descriptor had O_NONBLOCK. */
#define ZPIPE_NONBLOCK		0x1

/* GIFT: only zeros take the place of a page that leaves. ZPIPE_ANY has no effect. */
#define ZPIPE_CLEAR		0x2

/*
 * GIFT: bytes that a reader of the pipe returned (ZPIPE_RETURN) may take the place
 * of a page that leaves, too.
 */
#define ZPIPE_ANY		0x4

/*
 * MOVE: writers of the pipe that use ZPIPE_ANY may see the bytes that were in the
 * caller's huge page before. This is the cheapest way for these writers, since
 * nobody has to clear a page.
 */
#define ZPIPE_RETURN		0x8

/* GIFT: let pages leave even if it may cost less to copy them. */
#define ZPIPE_ALWAYS		0x10

/*
 * GIFT: let pages of 4 KiB leave the caller's memory, too. Zeros take their place.
 * MOVE: let such pages become the caller's memory, in exchange for pages of 4 KiB
 * that no other process has.
 *
 * It is for bytes that must not be in memory twice. To copy such pages costs less.
 */
#define ZPIPE_SMALL		0x20

/**
 * struct zpipe_splice - ioctl(ZPIPE_IOC_SPLICE_TO, ZPIPE_IOC_SPLICE_FROM, ZPIPE_IOC_TEE)
 * @size: sizeof(struct zpipe_splice)
 * @flags: Any of ZPIPE_NONBLOCK, ZPIPE_SPLICE_MORE (TO) and ZPIPE_SPLICE_AT (TO, FROM)
 * @fd: A descriptor of the other file
 * @side: out: ZPIPE_SIDE_PIPE or ZPIPE_SIDE_FILE if an error or a short transfer on
 *	that side ended the transfer, else 0. Not written if an argument is wrong
 * @offset: With ZPIPE_SPLICE_AT, the offset in the other file. Else it must be 0.
 *	out: with ZPIPE_SPLICE_AT, the offset behind the transferred bytes
 * @bytes: The maximum number of bytes to transfer. out: the number transferred
 *
 * Commands of an end. They are for what splice(2) and tee(2) refuse because neither
 * file is a pipe of the kernel's own. The bytes do not pass through user memory.
 *
 * TO reads from the pipe and writes to the file, FROM reads from the file and writes
 * to the pipe. They transfer what splice(2) would, if this end were one of pipe(2):
 *
 * - Without ZPIPE_SPLICE_AT they use and update the position of the file.
 * - They wait for the first bytes, or for free space, unless ZPIPE_NONBLOCK or
 *   O_NONBLOCK of this end is set. They return early rather than wait again.
 * - The other file waits as in splice(2). For a socket and a pipe, its O_NONBLOCK
 *   counts. If it is an end of another pipe of zpipe, ZPIPE_NONBLOCK counts, too.
 *
 * TO removes bytes from the pipe only when the file has taken them. Until then other
 * readers of the pipe wait, and can be killed. A socket takes pages of the pipe
 * without a copy.
 *
 * TEE copies bytes from the front of the pipe to another pipe of zpipe, and removes
 * none.
 *
 * They return 0 if they transferred any byte, or at the end of the data. Otherwise
 * they fail with the error of the side that @side names.
 *
 * Errors:
 *
 * - EBADF: @fd is no descriptor, or one of the files is not open for reading or
 *   writing, as needed.
 * - EINVAL: @offset is not 0 without ZPIPE_SPLICE_AT. The file cannot be read or
 *   written in this way: it is a pipe of the kernel's own, which splice(2) serves, it
 *   has O_APPEND (TO), it is the same pipe, or not a pipe of zpipe (TEE).
 *   ZPIPE_SPLICE_AT is set and the file has no offsets.
 * - EAGAIN: The call would have to wait, and must not.
 * - EINTR: A signal came before any byte was transferred.
 * - EBUSY: The zpipe that is read from has a read window (TO, FROM).
 * - EFAULT: Also if the next bytes of the pipe are in bad memory (TO, TEE).
 * - EPIPE: The pipe that is written to has no reader. The caller also gets SIGPIPE.
 * - ENOMEM: Out of memory.
 *
 * And all errors of write(2) or read(2) of the other file.
 */
struct zpipe_splice {
	__u32 size;
	__u32 flags;
	__s32 fd;
	__u32 side;
	__u64 offset;
	__u64 bytes;
};
#define ZPIPE_IOC_SPLICE_TO	_IO(ZPIPE_IOC_TYPE, 0x28)
#define ZPIPE_IOC_SPLICE_FROM	_IO(ZPIPE_IOC_TYPE, 0x29)
#define ZPIPE_IOC_TEE		_IO(ZPIPE_IOC_TYPE, 0x2a)

/* SPLICE_TO a socket: more bytes will follow soon, as SPLICE_F_MORE of splice(2). */
#define ZPIPE_SPLICE_MORE	0x100

/* SPLICE_TO, SPLICE_FROM: use @offset instead of the position of the other file. */
#define ZPIPE_SPLICE_AT		0x200

/* Values of @side: the pipe of this end, or the other file. */
#define ZPIPE_SIDE_PIPE		1
#define ZPIPE_SIDE_FILE		2

/**
 * struct zpipe_window - ioctl(ZPIPE_IOC_WINDOW)
 * @size: sizeof(struct zpipe_window)
 * @flags: ZPIPE_WINDOW_READ, ZPIPE_WINDOW_WRITE, or ZPIPE_WINDOW_WRITE with
 *	ZPIPE_WINDOW_LEND
 * @bytes: The size of a write window in bytes, or the number of bytes in frames
 *	that a read window can show at once. 1 to ZPIPE_WINDOW_MAX. out: the size of
 *	the window, which is the length to pass to mmap(2)
 * @fd: out: the descriptor of the window, with O_CLOEXEC
 * @reserved: Must be zero
 *
 * A command of an end. It makes a window: memory of the pipe that the caller maps
 * with MAP_SHARED. A window has frames of ZPIPE_FRAME bytes.
 *
 * - A process fills a write window and commits the bytes to the pipe. The end
 *   must be open for writing.
 * - A read window shows bytes that are in the pipe. It can only be mapped for
 *   reading. The end must be open for reading.
 *
 * A window counts as an end of the pipe until all its descriptors and mappings
 * are gone. A child of fork(2) inherits the descriptors, but no mappings. mmap(2)
 * of a window fails with EINVAL without MAP_SHARED, and with EPERM for PROT_EXEC.
 *
 * Errors:
 *
 * - EINVAL: @bytes is 0 or above ZPIPE_WINDOW_MAX, or @flags is another
 *   combination.
 * - EBADF: The descriptor is not open for writing or reading, as needed.
 * - EOPNOTSUPP: The kernel has no huge pages of 2 MiB.
 * - EPERM: The user would have more pages in pipes than it may.
 * - EMFILE: The process has too many descriptors.
 * - ENFILE: The system has too many files.
 * - ENOMEM: Out of memory.
 */
struct zpipe_window {
	__u32 size;
	__u32 flags;
	__u64 bytes;
	__s32 fd;
	__u32 reserved;
};
#define ZPIPE_IOC_WINDOW	_IO(ZPIPE_IOC_TYPE, 0x30)

#define ZPIPE_WINDOW_WRITE	0x1	/* make a write window */
#define ZPIPE_WINDOW_READ	0x2	/* make a read window */
#define ZPIPE_WINDOW_LEND	0x4	/* a write window that allows ZPIPE_LEND */
#define ZPIPE_WINDOW_MAX	0x40000000	/* maximum of zpipe_window.bytes, 1 GiB */
#define ZPIPE_FRAME		0x200000	/* size and alignment of a frame, in bytes */

/**
 * struct zpipe_reserve - ioctl(ZPIPE_IOC_RESERVE)
 * @size: sizeof(struct zpipe_reserve)
 * @flags: Reserved, must be zero
 * @offset: The start of the range in the window, in bytes
 * @bytes: The length of the range in bytes
 *
 * A command of a write window. It allocates all frames of the range that are
 * missing, and copies those that are lent and still in the pipe. After that,
 * stores to the range do not fail.
 *
 * Access to a missing frame allocates one, too, but the process gets SIGBUS if there
 * is no memory. Frames are missing in a new window, and where a commit has moved a
 * frame. The new frame has zeros, or bytes of an earlier frame of this window.
 *
 * Errors:
 *
 * - EINVAL: The range is not within the window.
 * - ENOMEM: There is no memory for a frame.
 */
struct zpipe_reserve {
	__u32 size;
	__u32 flags;
	__u64 offset;
	__u64 bytes;
};
#define ZPIPE_IOC_RESERVE	_IO(ZPIPE_IOC_TYPE, 0x31)

/**
 * struct zpipe_commit - ioctl(ZPIPE_IOC_COMMIT)
 * @size: sizeof(struct zpipe_commit)
 * @flags: Any of ZPIPE_NONBLOCK and ZPIPE_LEND
 * @offset: The start of the range in the window, in bytes
 * @bytes: The length of the range in bytes
 * @done: out: the number of bytes written, @moved plus @copied. It may be less than
 *	@bytes. The rest stays in the window
 * @moved: out: the number of bytes in frames that left the window or are lent
 * @copied: out: the number of bytes that were copied
 * @why: out: the number of copied pieces for each reason, see ZPIPE_REASON_PART.
 *	A piece is a frame or a part of one
 *
 * A command of a write window. It writes the range to the pipe. It waits as write(2)
 * does at the end that the window was made from.
 *
 * A frame leaves the window without a copy if at least half of it is committed.
 * The bytes of it that are not committed are lost. The next access finds another
 * frame, see struct zpipe_reserve.
 *
 * With ZPIPE_LEND, whole frames are lent, and parts of frames are copied. A frame
 * that is lent stays in the window, where it can be read. A store to it makes a
 * copy of it first, so the bytes in the pipe do not change.
 *
 * A frame to which others have references stays in the window, and is copied.
 * Such references come from I/O, buffers registered with io_uring, and vmsplice(2).
 *
 * The command returns 0 if it wrote any byte, or if @bytes is 0. Otherwise it fails
 * as write(2).
 *
 * Errors:
 *
 * - EINVAL: The range is not within the window, or ZPIPE_LEND is set and the
 *   window was made without ZPIPE_WINDOW_LEND.
 * - EFAULT: Also if the struct cannot be written after the transfer: then bytes
 *   were written.
 * - EAGAIN: The call would have to wait, and must not.
 * - EINTR: A signal came before any byte was written.
 * - EPIPE: There is no reader. The caller also gets SIGPIPE.
 * - ENOMEM: Out of memory.
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

/* COMMIT: lend whole frames, which then stay in the window and can be read there. */
#define ZPIPE_LEND		0x40

/**
 * struct zpipe_view - a range of bytes that a read window shows
 * @offset: The start of the range in the window, in bytes
 * @bytes: The length of the range in bytes
 * @flags: 0, or ZPIPE_VIEW_PACKET if the range is a packet, or the rest of one
 * @reserved: Zero
 *
 * ZPIPE_IOC_PEEK writes an array of these.
 */
struct zpipe_view {
	__u64 offset;
	__u64 bytes;
	__u32 flags;
	__u32 reserved;
};

#define ZPIPE_VIEW_PACKET	0x1

/**
 * struct zpipe_peek - ioctl(ZPIPE_IOC_PEEK)
 * @size: sizeof(struct zpipe_peek)
 * @flags: Any of ZPIPE_NONBLOCK and ZPIPE_MORE
 * @consume: The number of bytes in view to consume first. out: 0, once they are
 *	consumed
 * @views: The address of an array of struct zpipe_view
 * @nr_views: The number of elements of @views, not 0. out: the number of elements
 *	written
 * @reserved: Must be zero
 * @bytes: The number of bytes to have in view, or with ZPIPE_MORE to add to those
 *	in view. 0 asks for all that can be shown. The window may show more, up to
 *	the end of a slot. out: the number of bytes in the elements written
 * @copied: out: the number of bytes that this call copied to show them
 *
 * A command of a read window. Bytes in view are those that the window shows. The
 * command first consumes @consume of them. Then it brings more bytes of the pipe
 * into view. It writes to @views where in the window the bytes in view are, in the
 * order of the pipe. Bytes that were in view and are not consumed come first.
 *
 * If no bytes are in view, it waits for some as read(2) does at the end that the
 * window was made from. With ZPIPE_MORE, it waits for new bytes even if others are
 * in view. At the end of the data nothing new comes into view, and @bytes is 0 if
 * nothing is in view.
 *
 * Bytes in view belong to the window. They do not change, and nobody else reads
 * them. They take up space in the pipe until they are consumed. The next
 * ZPIPE_IOC_PEEK may change where they are, so only the views from the last call
 * are valid.
 *
 * When all descriptors and mappings of the window are gone, bytes in view return to
 * the front of the pipe. If several windows have bytes in view, they return in the
 * order in which the windows go.
 *
 * Errors, beside those of read(2):
 *
 * - EINVAL: @consume is more than is in view, and nothing was consumed. Or
 *   @nr_views is 0.
 * - EBUSY: Another thread is in ZPIPE_IOC_PEEK or ZPIPE_IOC_CONSUME.
 * - EAGAIN: The call would have to wait, and must not.
 * - EINTR: A signal came while the call waited.
 * - ENOBUFS: With ZPIPE_MORE, the window or the pipe has no space for more bytes
 *   until some are consumed.
 * - ENOMEM: Out of memory.
 * - EFAULT: Also if @views cannot be written: another call shows the same bytes
 *   again. Also if nothing is in view and the next bytes of the pipe are in bad
 *   memory.
 *
 * If @consume is 0 after an error, the bytes were consumed.
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

/* PEEK: wait for new bytes even if others are in view. */
#define ZPIPE_MORE		0x80

/**
 * struct zpipe_consume - ioctl(ZPIPE_IOC_CONSUME)
 * @size: sizeof(struct zpipe_consume)
 * @flags: Reserved, must be zero
 * @bytes: The number of bytes to consume, from the first one in view
 *
 * A command of a read window. It removes bytes in view from the pipe. From then on
 * the memory of the window where they were may be missing, or have other bytes.
 *
 * Errors:
 *
 * - EINVAL: Fewer bytes are in view.
 * - EBUSY: Another thread is in ZPIPE_IOC_PEEK or ZPIPE_IOC_CONSUME.
 */
struct zpipe_consume {
	__u32 size;
	__u32 flags;
	__u64 bytes;
};
#define ZPIPE_IOC_CONSUME	_IO(ZPIPE_IOC_TYPE, 0x34)

#endif /* _UAPI_LINUX_ZPIPE_H */
