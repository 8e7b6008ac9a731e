// SPDX-License-Identifier: GPL-2.0-only
/*
 * process_vm_readv(2): the receiver copies from the sender's memory, once.
 *
 * A ring in shared memory carries the addresses and says which messages were received. The
 * sender has at least two buffers: it fills one while the receiver copies the other. The
 * receiver needs the right to trace the sender, so the two processes have to trust each
 * other.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "ring.h"

#define AHEAD	2

static int cma_open(struct channel *c)
{
	c->capacity = AHEAD * c->bytes;
	return ring_open(c, AHEAD);
}

static void cma_sender(struct channel *c)
{
	ring_end(c);
	sender_buffers(c, AHEAD);
	/* With Yama, only declared processes may trace this one. Without Yama it fails. */
	prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
	c->ring->sender = getpid();
}

static void cma_receiver(struct channel *c)
{
	ring_end(c);
	receiver_buffers(c);
}

static void *cma_claim(struct channel *c)
{
	ring_claim(c);
	return claim_buffer(c);
}

static void cma_send(struct channel *c, void *msg)
{
	ring_send(c, (uintptr_t)msg);
}

static void *cma_receive(struct channel *c)
{
	void *msg = claim_buffer(c);
	struct iovec to = { .iov_base = msg, .iov_len = c->bytes };
	struct iovec from = { .iov_len = c->bytes };
	ssize_t n;

	from.iov_base = (void *)(uintptr_t)ring_receive(c);
	n = process_vm_readv(c->ring->sender, &to, 1, &from, 1, 0);
	if (n < 0)
		give_up("process_vm_readv");
	if (n != (ssize_t)c->bytes)
		fail("process_vm_readv: %zd of %zu", n, c->bytes);
	ring_release(c);
	return msg;
}

const struct mechanism mechanism_cma = {
	.name = "cma", .what = "process_vm_readv(2), told where by a ring in shared memory",
	.stable = true, .spins = true,
	.open = cma_open,
	.sender = cma_sender, .receiver = cma_receiver,
	.claim = cma_claim, .send = cma_send,
	.receive = cma_receive, .release = keep_buffer,
};
