// SPDX-License-Identifier: GPL-2.0-only
/* The ends of what is written with write(2) and read with read(2). */
#define _GNU_SOURCE
#include "bench.h"

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
