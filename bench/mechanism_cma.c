// SPDX-License-Identifier: GPL-2.0-only
/*
 * process_vm_readv(2): the receiver copies from the sender's memory, once.
 *
 * A small message on a pipe says where, and another on a second pipe says that
 * it was taken. As with write(2), the sender goes on when it may use its buffer
 * again. The receiver needs the right to trace the sender, so this is for
 * processes that trust each other.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "bench.h"

struct offer {
	void *from;
	pid_t pid;
};

static int cma_open(struct channel *c)
{
	int offers[2], answers[2];

	if (pipe2(offers, O_CLOEXEC) || pipe2(answers, O_CLOEXEC))
		return -1;
	c->rx[0] = offers[0];
	c->tx[0] = offers[1];
	c->tx[1] = answers[0];
	c->rx[1] = answers[1];
	return 0;
}

static void cma_sender(struct channel *c)
{
	sender_buffers(c, 1);
	/* Where Yama allows only what is declared; fails where there is none. */
	prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
}

static void cma_send(struct channel *c, void *msg)
{
	struct offer offer = { .from = msg, .pid = getpid() };
	char taken;

	write_all(c->tx[0], &offer, sizeof(offer));
	read_all(c->tx[1], &taken, 1);
}

static void *cma_receive(struct channel *c)
{
	struct iovec to = { .iov_base = c->buf, .iov_len = c->bytes };
	struct iovec from = { .iov_len = c->bytes };
	struct offer offer;
	ssize_t n;

	read_all(c->rx[0], &offer, sizeof(offer));
	from.iov_base = offer.from;
	n = process_vm_readv(offer.pid, &to, 1, &from, 1, 0);
	if (n != (ssize_t)c->bytes)
		fail("process_vm_readv: %s", n < 0 ? strerror(errno) : "short");
	write_all(c->rx[1], "", 1);
	return c->buf;
}

const struct mechanism mechanism_cma = {
	.name = "cma",
	.what = "process_vm_readv(2), told where by a pipe",
	.open = cma_open,
	.sender = cma_sender, .receiver = receiver_buffer,
	.claim = claim_buffer, .send = cma_send,
	.receive = cma_receive, .release = keep_buffer,
};
