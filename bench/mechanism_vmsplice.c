// SPDX-License-Identifier: GPL-2.0-only
/*
 * vmsplice(2) into a pipe, read(2) out of it: one copy.
 *
 * The pipe refers to the writer's pages and copies nothing, so the reader gets the bytes
 * that are in them at the time of the read. vmsplice(2) returns as soon as the pages are in
 * the pipe. The writer cannot learn when they have left it. A store to such a page
 * meanwhile changes data that was "sent".
 *
 * It is safe here for two reasons that hold for few programs. This writer's buffers have
 * more pages than the pipe has slots, by one message. So later messages have pushed the
 * next buffer out of the pipe before the writer uses it again. And this reader copies. A
 * reader that splices or tees the pages elsewhere keeps them for any time.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "bench.h"

/* Every message begins on its own page, so it uses a slot for each of its pages. */
static void vmsplice_sender(struct channel *c)
{
	unsigned int slots = c->capacity / PAGE;
	unsigned int each = (c->bytes + PAGE - 1) / PAGE;

	sender_buffers(c, (slots + each - 1) / each + 1);
}

static void vmsplice_send(struct channel *c, void *msg)
{
	struct iovec iov = { .iov_base = msg, .iov_len = c->bytes };
	ssize_t n;

	while (iov.iov_len) {
		n = vmsplice(c->tx[0], &iov, 1, 0);
		if (n <= 0)
			give_up("vmsplice");
		iov.iov_base = (char *)iov.iov_base + n;
		iov.iov_len -= n;
	}
}

const struct mechanism mechanism_vmsplice = {
	.name = "vmsplice",
	.what = "vmsplice(2) and read(2), 1 MiB; the data is not stable",
	.arg = 1 << 20, .stream = true,
	.open = open_pipe,
	.sender = vmsplice_sender, .receiver = stream_receiver,
	.claim = claim_buffer, .send = vmsplice_send,
	.receive = stream_receive, .release = keep_buffer,
};
