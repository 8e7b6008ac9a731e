// SPDX-License-Identifier: GPL-2.0-only
/*
 * The route file: the sender's messages are in a file in memory, and it moves them to a pipe. The
 * receiver reads the pipe.
 *
 * With splice(2) and sendfile(2), a pipe of the kernel's own refers to pages of the file. A store
 * to such a page changes data that was "sent". It is safe here for the reason that
 * mechanism_vmsplice.c gives.
 */
#define _GNU_SOURCE
#include <sys/mman.h>
#include <unistd.h>

#include "route.h"

#define IN_FLIGHT	(64UL << 10)	/* bytes that a pipe refers to */

static void file_sender(struct channel *c)
{
	unsigned int least = (IN_FLIGHT + c->bytes - 1) / c->bytes + 1;

	c->stride = stride_for(c->bytes);
	c->buffers = options.working_set / c->stride;
	if (c->buffers < least)
		c->buffers = least;
	c->region_bytes = c->stride * c->buffers;
	c->region = reserve(&c->region_bytes);
	c->sink = memfd_create("bench", MFD_CLOEXEC);
	if (c->sink < 0 || ftruncate(c->sink, c->region_bytes) ||
	    map_shared(c, c->region, c->sink, c->region_bytes))
		give_up("memfd_create");
	populate_shared(c, c->region, c->region_bytes);
	c->buf = c->region + options.align;
}

static void file_send(struct channel *c, void *msg)
{
	off_t at = (unsigned char *)msg - c->region;

	move_all(c->mechanism->mover, c->sink, c->tx[0], &at, c->bytes);
}

#define FILE_ROUTE							\
	.stream = true, .route = ROUTE_FILE, .open = open_either,	\
	.sender = file_sender, .receiver = stream_receiver,		\
	.claim = claim_buffer, .send = file_send,			\
	.receive = stream_receive, .release = keep_buffer

const struct mechanism mechanism_file_pipe = {
	FILE_ROUTE, .arg = 64 << 10, .mover = &mover_splice,
	.name = "pipe", .what = "splice(2) to a pipe(2), read(2); the data is not stable",
};

const struct mechanism mechanism_file_pipe_again = {
	FILE_ROUTE, .arg = 64 << 10, .mover = &mover_splice,
	.name = "pipe-again", .what = "the same again: how far two equal rows differ",
};

const struct mechanism mechanism_file_pipe_sendfile = {
	FILE_ROUTE, .arg = 64 << 10, .mover = &mover_sendfile,
	.name = "pipe-sendfile", .what = "sendfile(2) to a pipe(2), read(2); not stable",
};

const struct mechanism mechanism_file_copy = {
	FILE_ROUTE, .arg = 64 << 10, .mover = &mover_copy, .stable = true,
	.name = "copy", .what = "read(2), write(2) to a pipe(2), read(2)",
};

const struct mechanism mechanism_file_zpipe = {
	FILE_ROUTE, .mover = &mover_from, .stable = true, .spins = true,
	.name = "zpipe", .what = "ZPIPE_IOC_SPLICE_FROM to a private zpipe, read(2)",
};

const struct mechanism mechanism_file_zpipe_sendfile = {
	FILE_ROUTE, .mover = &mover_sendfile, .stable = true, .spins = true,
	.name = "zpipe-sendfile", .what = "sendfile(2) to a private zpipe, read(2)",
};

const struct mechanism mechanism_file_zpipe_copy = {
	FILE_ROUTE, .mover = &mover_copy, .stable = true, .spins = true,
	.name = "zpipe-copy", .what = "read(2), write(2) to a private zpipe, read(2)",
};
