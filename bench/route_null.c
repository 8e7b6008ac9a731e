// SPDX-License-Identifier: GPL-2.0-only
/*
 * The route null: a pipe whose reader moves the bytes to /dev/null, either directly or through
 * another pipe of the kernel's own.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <unistd.h>

#include "route.h"

#define HOP_BYTES	(64 << 10)	/* the capacity of the other pipe */

static void null_receiver(struct channel *c)
{
	receiver_buffers(c);
	c->sink = open("/dev/null", O_WRONLY | O_CLOEXEC);
	if (c->sink < 0)
		give_up("/dev/null");
}

static void hop_receiver(struct channel *c)
{
	null_receiver(c);
	if (pipe2(c->mid, O_CLOEXEC) || fcntl(c->mid[1], F_SETPIPE_SZ, HOP_BYTES) < 0)
		give_up("pipe2");
}

static void *hop_receive(struct channel *c)
{
	for (size_t done = 0, n; done < c->bytes; done += n) {
		n = move_some(c->mechanism->mover, c->rx[0], c->mid[1], NULL, c->bytes - done);
		if (c->drops)
			move_all(&mover_splice, c->mid[0], c->sink, NULL, n);
		else
			read_all(c->mid[0], c->buf + done, n);
	}
	return c->buf;
}

static void *null_receive(struct channel *c)
{
	if (c->drops)
		move_all(c->mechanism->mover, c->rx[0], c->sink, NULL, c->bytes);
	else
		read_all(c->rx[0], c->buf, c->bytes);
	return c->buf;
}

#define SENDER								\
	.stable = true, .route = ROUTE_NULL, .open = open_either,	\
	.sender = stream_sender, .claim = claim_buffer,			\
	.send = stream_send, .release = keep_buffer
#define HOP	SENDER, .receiver = hop_receiver, .receive = hop_receive, .mover = &mover_splice
#define DIRECT	SENDER, .receiver = null_receiver, .receive = null_receive

const struct mechanism mechanism_null_pipe = {
	HOP, .arg = 64 << 10,
	.name = "pipe", .what = "pipe(2), splice(2) to a pipe, splice(2) to /dev/null",
};

const struct mechanism mechanism_null_pipe_again = {
	HOP, .arg = 64 << 10,
	.name = "pipe-again", .what = "the same again: how far two equal rows differ",
};

const struct mechanism mechanism_null_zpipe = {
	HOP, .spins = true,
	.name = "zpipe", .what = "private zpipe, splice(2) to a pipe, splice(2) to /dev/null",
};

const struct mechanism mechanism_null_pipe_direct = {
	DIRECT, .arg = 64 << 10, .mover = &mover_splice,
	.name = "pipe-direct", .what = "pipe(2), splice(2) to /dev/null",
};

const struct mechanism mechanism_null_zpipe_direct = {
	DIRECT, .spins = true, .mover = &mover_to,
	.name = "zpipe-direct", .what = "private zpipe, ZPIPE_IOC_SPLICE_TO /dev/null",
};

const struct mechanism mechanism_null_copy = {
	DIRECT, .arg = 64 << 10, .mover = &mover_copy,
	.name = "copy", .what = "pipe(2), read(2), write(2) to /dev/null",
};

const struct mechanism mechanism_null_zpipe_copy = {
	DIRECT, .spins = true, .mover = &mover_copy,
	.name = "zpipe-copy", .what = "private zpipe, read(2), write(2) to /dev/null",
};
