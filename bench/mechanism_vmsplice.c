// SPDX-License-Identifier: GPL-2.0-only
/*
 * vmsplice(2) into a pipe, read(2) out of it: one copy.
 *
 * The pipe refers to the writer's pages and copies nothing, so the reader gets
 * what is in them when it reads. vmsplice(2) returns as soon as the pages are
 * in the pipe, and nothing tells the writer when they are out: what it writes
 * there meanwhile changes data it has "sent". It is safe here for two reasons
 * that hold for few programs: this writer goes round as many buffers as the
 * pipe has slots and one more, so that the page it writes to next was pushed
 * out by those after it, and this reader copies. A reader that splices or tees
 * the pages elsewhere keeps them for as long as it likes.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "bench.h"

/* Every message begins on a page of its own, so it takes as many slots at least. */
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
