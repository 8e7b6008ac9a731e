// SPDX-License-Identifier: GPL-2.0-only
/* Ends that use write(2) and read(2). */
#define _GNU_SOURCE
#include <fcntl.h>

#include "bench.h"

/* Opens both ends of the named pipe at @path. Neither open waits for the other. */
int open_path(struct channel *c, const char *path)
{
	int fds[2] = { open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC), -1 };
	int ret = 0;

	if (fds[0] >= 0)
		fds[1] = open(path, O_WRONLY | O_CLOEXEC);
	if (fds[1] < 0 || fcntl(fds[0], F_SETFL, 0))
		ret = cannot("open of a named pipe");
	take_ends(c, fds);
	return ret;
}

void stream_sender(struct channel *c)
{
	sender_buffers(c, 1);
}

void stream_send(struct channel *c, void *msg)
{
	write_all(c->tx[0], msg, c->bytes);
}

void *stream_receive(struct channel *c)
{
	read_all(c->rx[0], c->buf, c->bytes);
	return c->buf;
}

static void *receive_next(struct channel *c)
{
	void *msg = claim_buffer(c);

	read_all(c->rx[0], msg, c->bytes);
	return msg;
}

void stream_receiver(struct channel *c)
{
	receiver_buffers(c);
	if (c->buffers > 1)
		c->receive = receive_next;
}
