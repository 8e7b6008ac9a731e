/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Helpers of the programs that tests/preload.sh runs without libzpipe_preload.so and with it.
 * With ZPIPE_EXPECT=zpipe pipes are expected to be private pairs of zpipe.
 */
#ifndef ZPIPE_TESTS_PRELOAD_H
#define ZPIPE_TESTS_PRELOAD_H

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <linux/magic.h>
#include <linux/zpipe.h>

/* musl lacks these names. Its fcntl() and off_t have 64 bits, too. */
#ifndef __GLIBC__
#define off64_t		off_t
#define fcntl64		fcntl
#define sendfile64	sendfile
#define closefrom(first)	syscall(SYS_close_range, first, -1, 0)
#define close_range(first, last, flags)	syscall(SYS_close_range, first, last, flags)
#endif

#define PAGE	4096
#define FULL	(16 * PAGE)

static inline bool zpipe_expected(void)
{
	const char *expect = getenv("ZPIPE_EXPECT");

	return expect && strcmp(expect, "zpipe") == 0;
}

static inline long file_system(int fd)
{
	struct statfs fs;

	return fstatfs(fd, &fs) ? -errno : (long)fs.f_type;
}

static inline long expected_file_system(void)
{
	return zpipe_expected() ? ZPIPE_SUPER_MAGIC : PIPEFS_MAGIC;
}

static inline long sys(long ret)
{
	return ret < 0 ? -errno : ret;
}

static inline int buffered(int fd)
{
	int bytes = -1;

	return ioctl(fd, FIONREAD, &bytes) ? -errno : bytes;
}

/* The byte that the stream has at @off. */
static inline char byte_at(long off)
{
	return off * 7 + off / 251;
}

static inline bool is_stream(const char *buf, long off, long len)
{
	long i;

	for (i = 0; i < len; i++)
		if (buf[i] != byte_at(off + i))
			return false;
	return true;
}

static inline int make_file(long len)
{
	int fd = memfd_create("file", MFD_CLOEXEC);
	char *buf = malloc(len);
	long i;

	for (i = 0; i < len; i++)
		buf[i] = byte_at(i);
	if (write(fd, buf, len) != len || lseek(fd, 0, SEEK_SET))
		fd = -1;
	free(buf);
	return fd;
}

#endif /* ZPIPE_TESTS_PRELOAD_H */
