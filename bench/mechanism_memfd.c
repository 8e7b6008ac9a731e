// SPDX-License-Identifier: GPL-2.0-only
/*
 * Buffers in a memfd. SCM_RIGHTS passes the memfd once, and each message names a buffer by
 * its number. So a message needs no copy, and no new file or page. The sender makes its
 * data in a buffer, and the receiver reads it there. The file is sealed against shrinking,
 * which would kill the receiver. The sender keeps its mapping, so it can change the data
 * while the receiver reads it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ring.h"

static int memfd_open(struct channel *c)
{
	size_t stride = ring_stride(c->bytes);
	unsigned int slots = ring_slots_for(stride, RING_SLOTS);
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds))
		return cannot("socketpair");
	take_ends(c, fds);
	c->capacity = slots * stride;
	return ring_open(c, slots);
}

/* Makes a file as large as the mapping will be, in huge pages if possible. */
static int new_file(const struct channel *c, size_t len)
{
	unsigned int flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
	int fd = -1;

	if (wants_huge(c) && len % HUGE_PAGE == 0) {
		fd = memfd_create("zpipe-bench", flags | MFD_HUGETLB);
		if (fd >= 0 && (ftruncate(fd, len) || fallocate(fd, 0, 0, len))) {
			close(fd);
			fd = -1;
		}
	}
	if (fd < 0) {
		fd = memfd_create("zpipe-bench", flags);
		if (fd < 0 || ftruncate(fd, len))
			give_up("memfd_create");
	}
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW))
		give_up("F_ADD_SEALS");
	return fd;
}

union rights {
	struct cmsghdr head;
	char control[CMSG_SPACE(sizeof(int))];
};

static void give(int socket, int fd)
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

	memcpy(CMSG_DATA(&rights.head), &fd, sizeof(int));
	if (sendmsg(socket, &head, 0) != 1)
		give_up("sendmsg of a memfd");
}

static int take(int socket)
{
	union rights rights;
	char byte;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr head = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = &rights, .msg_controllen = sizeof(rights),
	};
	ssize_t n = recvmsg(socket, &head, MSG_CMSG_CLOEXEC);
	int fd;

	if (n < 0)
		give_up("recvmsg of a memfd");
	if (!n)
		_exit(1);	/* the sender exited and stored its refusal */
	if (head.msg_controllen < CMSG_LEN(sizeof(int)))
		fail("recvmsg without a memfd");
	memcpy(&fd, CMSG_DATA(&rights.head), sizeof(int));
	return fd;
}

/* Maps the file that the sender makes and the receiver is passed. */
static void map_file(struct channel *c, bool sends)
{
	int fd;

	ring_end(c);
	c->stride = ring_stride(c->bytes);
	c->region_bytes = c->ring->slots * c->stride;
	c->region = reserve(&c->region_bytes);
	if (sends) {
		fd = new_file(c, c->region_bytes);
		give(c->tx[0], fd);
	} else {
		fd = take(c->rx[0]);
	}
	if (map_shared(c, c->region, fd, c->region_bytes))
		give_up("mmap of a memfd");
	close(fd);
	populate_shared(c, c->region, c->region_bytes);
}

static void memfd_sender(struct channel *c)
{
	map_file(c, true);
}

static void memfd_receiver(struct channel *c)
{
	map_file(c, false);
}

static void *memfd_claim(struct channel *c)
{
	c->next = ring_claim(c);
	return c->region + c->next * c->stride + options.align;
}

static void memfd_send(struct channel *c, void *msg)
{
	(void)msg;
	ring_send(c, c->next);
}

static void *memfd_receive(struct channel *c)
{
	return c->region + ring_receive(c) * c->stride + options.align;
}

static void memfd_release(struct channel *c, void *msg)
{
	(void)msg;
	ring_release(c);
}

const struct mechanism mechanism_memfd = {
	.name = "memfd", .what = "buffers in a memfd, passed by number; the data is not stable",
	.spins = true,
	.open = memfd_open, .sender = memfd_sender, .receiver = memfd_receiver,
	.claim = memfd_claim, .send = memfd_send,
	.receive = memfd_receive, .release = memfd_release,
};
