// SPDX-License-Identifier: GPL-2.0-only
/*
 * What is written with write(2) and read with read(2): the kernel's pipe and
 * FIFO, a UNIX stream socket, zpipe as a private pair and as a node.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/zpipe.h>

#include "bench.h"

static int take_ends(struct channel *c, const int fds[2])
{
	c->rx[0] = fds[0];
	c->tx[0] = fds[1];
	return 0;
}

static int open_pipe(struct channel *c)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) ||
	    fcntl(fds[1], F_SETPIPE_SZ, c->mechanism->arg) < 0)
		return -1;
	return take_ends(c, fds);
}

/* Both ends of the named pipe at @path without waiting for one another. */
static int open_path(struct channel *c, const char *path)
{
	int fds[2];

	fds[0] = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fds[0] < 0)
		return -1;
	fds[1] = open(path, O_WRONLY | O_CLOEXEC);
	if (fds[1] < 0)
		return -1;
	if (fcntl(fds[0], F_SETFL, 0))
		return -1;
	return take_ends(c, fds);
}

/* A node of its own for each channel: fifo(7), or that of a device. */
static int open_node(struct channel *c, mode_t mode, dev_t dev)
{
	char dir[] = "/tmp/zpipe-bench.XXXXXX", path[sizeof(dir) + 8];
	int ret, err;

	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/node", dir);
	ret = mknod(path, mode | 0600, dev);
	if (!ret)
		ret = open_path(c, path);
	err = errno;
	unlink(path);
	rmdir(dir);
	errno = err;
	return ret;
}

static int open_fifo(struct channel *c)
{
	return open_node(c, S_IFIFO, 0);
}

static int open_unix(struct channel *c)
{
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
		return -1;
	return take_ends(c, fds);
}

static int open_zpipe(struct channel *c)
{
	struct zpipe_pipe2 arg = { .size = sizeof(arg), .flags = O_CLOEXEC };
	int control = open("/dev/zpipe-control", O_RDWR | O_CLOEXEC);
	int ret;

	if (control < 0)
		return -1;
	ret = ioctl(control, ZPIPE_IOC_PIPE2, &arg);
	close(control);
	return ret ? -1 : take_ends(c, arg.fds);
}

static int open_zpipe_node(struct channel *c)
{
	struct stat st;

	if (stat("/dev/zpipe", &st))
		return -1;
	return open_node(c, S_IFCHR, st.st_rdev);
}

static void stream_sender(struct channel *c)
{
	sender_buffers(c, 1);
}

static void stream_send(struct channel *c, void *msg)
{
	write_all(c->tx[0], msg, c->bytes);
}

static void *stream_receive(struct channel *c)
{
	read_all(c->rx[0], c->buf, c->bytes);
	return c->buf;
}

#define STREAM(_name, _open, _arg, _what)			\
	{							\
		.name = _name, .what = _what,			\
		.open = _open, .arg = _arg,			\
		.sender = stream_sender, .receiver = receiver_buffer,\
		.claim = claim_buffer, .send = stream_send,	\
		.receive = stream_receive, .release = keep_buffer, \
	}

const struct mechanism mechanism_pipe =
	STREAM("pipe", open_pipe, 64 << 10, "pipe(2), 64 KiB");
const struct mechanism mechanism_pipe_1m =
	STREAM("pipe-1m", open_pipe, 1 << 20, "pipe(2), 1 MiB by F_SETPIPE_SZ");
const struct mechanism mechanism_fifo =
	STREAM("fifo", open_fifo, 0, "fifo(7)");
const struct mechanism mechanism_unix =
	STREAM("unix", open_unix, 0, "AF_UNIX stream socket");
const struct mechanism mechanism_zpipe =
	STREAM("zpipe", open_zpipe, 0, "private zpipe at its default");
const struct mechanism mechanism_zpipe_node =
	STREAM("zpipe-node", open_zpipe_node, 0, "/dev/zpipe at its default");
