/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Transfers between a pipe and another file: splice(2) or tee(2) with a pipe of the kernel's own,
 * the commands of struct zpipe_splice with a zpipe.
 */
#ifndef ZPIPE_TESTS_SPLICE_FILES_H
#define ZPIPE_TESTS_SPLICE_FILES_H

#include "oracle.h"
#include "child.h"
#include "large.h"

/* The member @side of the last command. */
static int side __maybe_unused;

/* Over zpipe, expects that this side ended the last transfer. */
#define EXPECT_SIDE(want)						\
do {									\
	if (is_zpipe(variant->kind))					\
		EXPECT_EQ(want, side);					\
} while (0)

enum direction {
	TO,
	FROM,
};

/*
 * Transfers up to @len bytes at the position of the file, or at *@off. @flags are those of the
 * command. Returns the number of bytes, or -errno.
 */
static inline long transfer_at(struct ends *e, enum direction dir, int fd, loff_t *off,
			       size_t len, unsigned int flags)
{
	struct zpipe_splice arg = {
		.size = sizeof(arg), .flags = flags | (off ? ZPIPE_SPLICE_AT : 0), .fd = fd,
		.offset = off ? *off : 0, .bytes = len, .side = 99,
	};
	long ret;

	if (!is_zpipe(e->kind)) {
		int f = (flags & ZPIPE_NONBLOCK ? SPLICE_F_NONBLOCK : 0) |
			(flags & ZPIPE_SPLICE_MORE ? SPLICE_F_MORE : 0);

		return sys(dir == TO ? splice(e->fd[0], NULL, fd, off, len, f) :
				       splice(fd, off, e->fd[1], NULL, len, f));
	}
	ret = sys(ioctl(e->fd[dir], dir == TO ? ZPIPE_IOC_SPLICE_TO : ZPIPE_IOC_SPLICE_FROM,
			&arg));
	side = arg.side;
	if (ret)
		return ret;
	if (off)
		*off = arg.offset;
	return arg.bytes;
}

static inline long to(struct ends *e, int fd, size_t len, unsigned int flags)
{
	return transfer_at(e, TO, fd, NULL, len, flags);
}

static inline long from(struct ends *e, int fd, size_t len, unsigned int flags)
{
	return transfer_at(e, FROM, fd, NULL, len, flags);
}

/* The system call in which a transfer sleeps. */
static inline long transfer_nr(struct ends *e)
{
	return is_zpipe(e->kind) ? SYS_ioctl : SYS_splice;
}

/* A child that transfers once, to @c->fd or, with a flag above those of the ABI, from it. */
#define CHILD_FROM	(1 << 30)

static inline long child_do_transfer(struct child *c)
{
	struct ends *e = c->arg;
	enum direction dir = c->flags & CHILD_FROM ? FROM : TO;
	long ret;

	close(e->fd[!dir]);
	ret = transfer_at(e, dir, c->fd, NULL, c->len, c->flags & ~CHILD_FROM);
	errno = -ret;
	return ret < 0 ? -1 : ret;
}

static inline void child_transfer(struct child *c, struct ends *e, int fd, size_t len,
				  unsigned int flags)
{
	*c = (struct child) {
		.nr = transfer_nr(e), .fn = child_do_transfer, .arg = e, .fd = fd, .drop = -1,
		.len = len, .flags = flags,
	};
	child_start(c, 0);
}

/* A new file: on tmpfs, or of memfd_create(2). */
static inline int new_file(int memfd)
{
	int fd = memfd ? memfd_create("file", MFD_ALLOW_SEALING) :
			 open("/tmp", O_TMPFILE | O_RDWR, 0600);

	if (fd < 0)
		abort();
	return fd;
}

/* A new file that holds @len bytes of the stream, at position 0. */
static inline int file_of(int memfd, size_t len)
{
	int fd = new_file(memfd);

	if (stream_write(fd, 0, len) != (long)len || lseek(fd, 0, SEEK_SET))
		abort();
	return fd;
}

static inline long position(int fd)
{
	return lseek(fd, 0, SEEK_CUR);
}

/* True if the file has @len bytes of the stream at @at, which begin at @off in the stream. */
static inline bool file_has(int fd, long at, unsigned long off, size_t len)
{
	unsigned char *buf = malloc(len + 1);
	bool right = pread(fd, buf, len, at) == (ssize_t)len && stream_diff(buf, off, len) == -1;

	free(buf);
	return right;
}

#endif /* ZPIPE_TESTS_SPLICE_FILES_H */
