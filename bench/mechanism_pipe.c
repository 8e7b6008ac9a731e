// SPDX-License-Identifier: GPL-2.0-only
/* The kernel's own streams, each set up for speed: pipe, FIFO, UNIX socket. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench.h"

#define PIECE		(64UL << 10)	/* bytes of one write to a large pipe */
#define UNIX_BYTES	(2 << 20)

int open_pipe(struct channel *c)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC))
		return cannot("pipe2");
	take_ends(c, fds);
	if (fcntl(fds[1], F_SETPIPE_SZ, c->mechanism->arg) < 0)
		return cannot("F_SETPIPE_SZ");
	c->capacity = fcntl(fds[1], F_GETPIPE_SZ);
	return 0;
}

/* Writes in pieces, so that the reader begins before the last one is written. */
static void send_pieces(struct channel *c, void *msg)
{
	size_t left = c->bytes;

	for (; left > PIECE; left -= PIECE) {
		write_all(c->tx[0], msg, PIECE);
		msg = (char *)msg + PIECE;
	}
	write_all(c->tx[0], msg, left);
}

static int open_spin(struct channel *c)
{
	int ret = open_pipe(c);

	if (!ret && (fcntl(c->tx[0], F_SETFL, O_NONBLOCK) ||
		     fcntl(c->rx[0], F_SETFL, O_NONBLOCK)))
		return cannot("O_NONBLOCK");
	return ret;
}

/*
 * Handles an attempt that failed with EAGAIN. @since is 0 for the first one of a row, else
 * the time of the first one. Sleeps in poll(2) once spin_ns have passed. Returns the new
 * value of @since.
 */
static uint64_t spin(int fd, short events, uint64_t since, const char *what)
{
	struct pollfd end = { .fd = fd, .events = events };

	if (errno != EAGAIN)
		fail("%s: %s", what, strerror(errno));
	if (!since)
		return now_ns();
	if (now_ns() - since < options.spin_ns)
		return since;
	poll(&end, 1, -1);
	return 0;
}

static void spin_send(struct channel *c, void *msg)
{
	size_t left = c->bytes;
	uint64_t since = 0;
	ssize_t n;

	while (left) {
		n = write(c->tx[0], msg, left);
		if (n > 0) {
			msg = (char *)msg + n;
			left -= n;
			since = 0;
		} else {
			since = spin(c->tx[0], POLLOUT, since, "write");
		}
	}
}

static void *spin_receive(struct channel *c)
{
	size_t done = 0;
	uint64_t since = 0;
	char *msg = claim_buffer(c);
	ssize_t n;

	while (done < c->bytes) {
		n = read(c->rx[0], msg + done, c->bytes - done);
		if (!n)
			fail("read: end of file");
		if (n > 0) {
			done += n;
			since = 0;
		} else {
			since = spin(c->rx[0], POLLIN, since, "read");
		}
	}
	return msg;
}

/* Each channel has a FIFO of its own. */
static int open_fifo(struct channel *c)
{
	char dir[] = "/tmp/zpipe-bench.XXXXXX", path[sizeof(dir) + 8];
	int ret;

	if (!mkdtemp(dir))
		return cannot("mkdtemp in /tmp");
	snprintf(path, sizeof(path), "%s/fifo", dir);
	ret = mkfifo(path, 0600) ? cannot("mkfifo in /tmp") : open_path(c, path);
	if (!ret)
		c->capacity = fcntl(c->tx[0], F_GETPIPE_SZ);
	unlink(path);
	rmdir(dir);
	return ret;
}

/* Asks for the full size. Only root may exceed net.core.wmem_max. */
static int grow(int fd, int forced, int option)
{
	int bytes = UNIX_BYTES;

	if (!setsockopt(fd, SOL_SOCKET, forced, &bytes, sizeof(bytes)))
		return 0;
	return setsockopt(fd, SOL_SOCKET, option, &bytes, sizeof(bytes));
}

static int open_unix(struct channel *c)
{
	socklen_t len = sizeof(int);
	int fds[2], got = 0;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
		return cannot("socketpair");
	take_ends(c, fds);
	if (grow(fds[1], SO_SNDBUFFORCE, SO_SNDBUF) ||
	    grow(fds[0], SO_RCVBUFFORCE, SO_RCVBUF) ||
	    getsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &got, &len))
		return cannot("SO_SNDBUF");
	c->capacity = got;
	return 0;
}

const struct mechanism mechanism_pipe = {
	STREAM, .open = open_pipe, .arg = 64 << 10,
	.name = "pipe", .what = "pipe(2), 64 KiB",
};

const struct mechanism mechanism_pipe_again = {
	STREAM, .open = open_pipe, .arg = 64 << 10,
	.name = "pipe-again", .what = "the same again: how far two equal rows differ",
};

const struct mechanism mechanism_pipe_1m = {
	.stable = true, .stream = true,
	.open = open_pipe, .arg = 1 << 20,
	.sender = stream_sender, .receiver = stream_receiver,
	.claim = claim_buffer, .send = send_pieces,
	.receive = stream_receive, .release = keep_buffer,
	.name = "pipe-1m", .what = "pipe(2), 1 MiB, written 64 KiB at a time",
};

const struct mechanism mechanism_pipe_spin = {
	.stable = true, .spins = true,
	.open = open_spin, .arg = 64 << 10,
	.sender = stream_sender, .receiver = receiver_buffers,
	.claim = claim_buffer, .send = spin_send,
	.receive = spin_receive, .release = keep_buffer,
	.name = "pipe-spin", .what = "pipe(2), 64 KiB, tried again for 50 us before they sleep",
};

const struct mechanism mechanism_fifo = {
	STREAM, .open = open_fifo,
	.name = "fifo", .what = "fifo(7)",
};

const struct mechanism mechanism_unix = {
	STREAM, .open = open_unix,
	.name = "unix", .what = "AF_UNIX stream socket, 2 MiB",
};
