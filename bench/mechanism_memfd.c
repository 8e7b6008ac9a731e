// SPDX-License-Identifier: GPL-2.0-only
/*
 * A sealed memfd for every message, sent with SCM_RIGHTS: no copy, and data
 * that nobody can change afterwards, without any module.
 *
 * The sender makes its data in the file's pages, seals the file, and gives it
 * away; the receiver checks the seals, maps the file, reads it in place, unmaps
 * it. What it costs is a new file and new zeroed pages for each message.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench.h"

#define SEALS	(F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

/* Large messages are few at a time: each holds its own memory. */
#define LARGE	(64UL << 10)

static int memfd_open(struct channel *c)
{
	int fds[2], least = 1;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
		return -1;
	if (c->bytes > LARGE &&
	    setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &least, sizeof(least)))
		return -1;
	c->rx[0] = fds[0];
	c->tx[0] = fds[1];
	return 0;
}

static void memfd_end(struct channel *c)
{
	(void)c;
}

static void *memfd_claim(struct channel *c)
{
	void *msg;

	c->fd = memfd_create("zpipe-bench", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (c->fd < 0 || ftruncate(c->fd, c->bytes))
		fail("memfd_create: %s", strerror(errno));
	msg = mmap(NULL, c->bytes, PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_POPULATE, c->fd, 0);
	if (msg == MAP_FAILED)
		fail("mmap of a memfd: %s", strerror(errno));
	return msg;
}

union rights {
	struct cmsghdr head;
	char room[CMSG_SPACE(sizeof(int))];
};

static void memfd_send(struct channel *c, void *msg)
{
	union rights rights = { .head = {
		.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS,
		.cmsg_len = CMSG_LEN(sizeof(int)),
	} };
	struct iovec iov = { .iov_base = "", .iov_len = 1 };
	struct msghdr head = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = &rights, .msg_controllen = sizeof(rights),
	};

	memcpy(CMSG_DATA(&rights.head), &c->fd, sizeof(int));
	munmap(msg, c->bytes);
	if (fcntl(c->fd, F_ADD_SEALS, SEALS))
		fail("F_ADD_SEALS: %s", strerror(errno));
	if (sendmsg(c->tx[0], &head, 0) != 1)
		fail("sendmsg of a memfd: %s", strerror(errno));
	close(c->fd);
}

static void *memfd_receive(struct channel *c)
{
	union rights rights;
	char byte;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr head = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = &rights, .msg_controllen = sizeof(rights),
	};
	void *msg;

	if (recvmsg(c->rx[0], &head, MSG_CMSG_CLOEXEC) != 1 ||
	    head.msg_controllen < CMSG_LEN(sizeof(int)))
		fail("recvmsg of a memfd: %s", strerror(errno));
	memcpy(&c->fd, CMSG_DATA(&rights.head), sizeof(int));
	if ((fcntl(c->fd, F_GET_SEALS) & SEALS) != SEALS)
		fail("memfd without its seals");
	msg = mmap(NULL, c->bytes, PROT_READ, MAP_SHARED, c->fd, 0);
	if (msg == MAP_FAILED)
		fail("mmap of a sealed memfd: %s", strerror(errno));
	return msg;
}

static void memfd_release(struct channel *c, void *msg)
{
	munmap(msg, c->bytes);
	close(c->fd);
}

const struct mechanism mechanism_memfd = {
	.name = "memfd",
	.what = "a sealed memfd per message by SCM_RIGHTS",
	.open = memfd_open,
	.sender = memfd_end, .receiver = memfd_end,
	.claim = memfd_claim, .send = memfd_send,
	.receive = memfd_receive, .release = memfd_release,
};
