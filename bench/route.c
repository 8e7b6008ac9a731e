// SPDX-License-Identifier: GPL-2.0-only
/* The ways to move bytes between a pipe and something else. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include <linux/zpipe.h>

#include "route.h"

#define COPY_BYTES	(128UL << 10)	/* of one read and one write */

static ssize_t by_splice(int from, int to, off_t *at, size_t len)
{
	return splice(from, at, to, NULL, len, 0);
}

static ssize_t by_sendfile(int from, int to, off_t *at, size_t len)
{
	return sendfile(to, from, at, len);
}

static ssize_t by_command(int end, unsigned int command, int file, off_t *at, size_t len)
{
	struct zpipe_splice arg = {
		.size = sizeof(arg), .fd = file, .flags = at ? ZPIPE_SPLICE_AT : 0,
		.offset = at ? *at : 0, .bytes = len,
	};

	if (ioctl(end, command, &arg))
		return -1;
	if (at)
		*at = arg.offset;
	return arg.bytes;
}

static ssize_t by_to(int from, int to, off_t *at, size_t len)
{
	return by_command(from, ZPIPE_IOC_SPLICE_TO, to, at, len);
}

static ssize_t by_from(int from, int to, off_t *at, size_t len)
{
	return by_command(to, ZPIPE_IOC_SPLICE_FROM, from, at, len);
}

static ssize_t by_copy(int from, int to, off_t *at, size_t len)
{
	static char buf[COPY_BYTES] __attribute__((aligned(PAGE)));
	size_t most = len < sizeof(buf) ? len : sizeof(buf);
	ssize_t n = at ? pread(from, buf, most, *at) : read(from, buf, most);

	if (n <= 0)
		return n;
	if (at)
		*at += n;
	write_all(to, buf, n);
	return n;
}

const struct mover mover_splice = { by_splice, "splice" };
const struct mover mover_sendfile = { by_sendfile, "sendfile" };
const struct mover mover_to = { by_to, "ZPIPE_IOC_SPLICE_TO" };
const struct mover mover_from = { by_from, "ZPIPE_IOC_SPLICE_FROM" };
const struct mover mover_copy = { by_copy, "read and write" };

/* Moves at least one byte. */
size_t move_some(const struct mover *mover, int from, int to, off_t *at, size_t len)
{
	ssize_t n = mover->move(from, to, at, len);

	/* A kernel or a module without the call. */
	if (n < 0 && (errno == EINVAL || errno == ENOTTY || errno == ENOSYS))
		give_up(mover->call);
	if (n <= 0)
		fail("%s of %zu: %s", mover->call, len, n ? strerror(errno) : "end of file");
	return n;
}

void move_all(const struct mover *mover, int from, int to, off_t *at, size_t len)
{
	while (len)
		len -= move_some(mover, from, to, at, len);
}

int open_either(struct channel *c)
{
	return c->mechanism->arg ? open_pipe(c) : zpipe_pair(c, 0);
}
