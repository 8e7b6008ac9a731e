// SPDX-License-Identifier: GPL-2.0-only
/*
 * The route tcp: a third process, the carrier, reads a pipe and moves the bytes to a TCP
 * connection of this machine. The receiver has the other end of that.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "route.h"

#define CARRY_BYTES	(1UL << 20)	/* that the carrier asks for in one call */

/* Sets @fds to both ends of a connection. */
static int connect_tcp(int fds[2])
{
	struct sockaddr_in addr = {
		.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	int at = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(addr);

	fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (at < 0 || fds[0] < 0 || bind(at, (void *)&addr, len) || listen(at, 1) ||
	    getsockname(at, (void *)&addr, &len) || connect(fds[0], (void *)&addr, len))
		return cannot("a TCP connection over loopback");
	fds[1] = accept4(at, NULL, NULL, SOCK_CLOEXEC);
	close(at);
	return fds[1] < 0 ? cannot("accept") : 0;
}

static int open_tcp(struct channel *c)
{
	int fds[2] = { -1, -1 }, ret = open_either(c);

	if (!ret)
		ret = connect_tcp(fds);
	if (ret)
		return ret;
	c->mid[0] = c->rx[0];
	c->mid[1] = fds[0];
	c->rx[0] = fds[1];
	return 0;
}

static void carry(struct channel *c)
{
	for (;;)
		move_some(c->mechanism->mover, c->mid[0], c->mid[1], NULL, CARRY_BYTES);
}

/* Without an address, a socket drops the bytes instead of copying them. */
static void *tcp_receive(struct channel *c)
{
	size_t left = c->bytes;
	ssize_t n;

	if (!c->drops)
		return stream_receive(c);
	for (; left; left -= n) {
		n = recv(c->rx[0], NULL, left, MSG_TRUNC);
		if (n <= 0)
			fail("recv of %zu: %s", left, n ? strerror(errno) : "end of file");
	}
	return c->buf;
}

#define TCP_ROUTE							\
	.stable = true, .route = ROUTE_TCP, .open = open_tcp,		\
	.sender = stream_sender, .carry = carry,			\
	.receiver = stream_receiver, .claim = claim_buffer,		\
	.send = stream_send, .receive = tcp_receive, .release = keep_buffer

const struct mechanism mechanism_tcp_pipe = {
	TCP_ROUTE, .arg = 64 << 10, .mover = &mover_splice,
	.name = "pipe", .what = "pipe(2), splice(2) to TCP",
};

const struct mechanism mechanism_tcp_pipe_again = {
	TCP_ROUTE, .arg = 64 << 10, .mover = &mover_splice,
	.name = "pipe-again", .what = "the same again: how far two equal rows differ",
};

const struct mechanism mechanism_tcp_copy = {
	TCP_ROUTE, .arg = 64 << 10, .mover = &mover_copy,
	.name = "copy", .what = "pipe(2), read(2), write(2) to TCP",
};

const struct mechanism mechanism_tcp_zpipe = {
	TCP_ROUTE, .mover = &mover_to, .spins = true,
	.name = "zpipe", .what = "private zpipe, ZPIPE_IOC_SPLICE_TO TCP",
};

const struct mechanism mechanism_tcp_zpipe_copy = {
	TCP_ROUTE, .mover = &mover_copy, .spins = true,
	.name = "zpipe-copy", .what = "private zpipe, read(2), write(2) to TCP",
};
