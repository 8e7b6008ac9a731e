// SPDX-License-Identifier: GPL-2.0-only
/*
 * zpipe with gifts and moves: the sender gifts pages, and the receiver copies or moves
 * them.
 *
 * Each side has one buffer, as with write(2) and read(2). After a call the sender's buffer
 * holds bytes of other messages, or zeros.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <linux/zpipe.h>

#include "bench.h"

/* The flags of each side; whether the receiver reads or moves, and to fresh memory. */
struct way {
	unsigned int gives, takes;
	bool reads, fresh, small;
};

static const struct way gift = { 0 };
static const struct way gift_read = { .reads = true };
static const struct way exchange = { .gives = ZPIPE_ANY, .takes = ZPIPE_RETURN };
static const struct way fresh = { .fresh = true };
static const struct way small = {
	.gives = ZPIPE_SMALL, .takes = ZPIPE_SMALL, .small = true,
};

static const struct way *way_of(const struct channel *c)
{
	return (const struct way *)c->mechanism->arg;
}

static int open_gift(struct channel *c)
{
	if (c->bytes < HUGE_PAGE && !way_of(c)->small) {
		errno = EMSGSIZE;
		return cannot("messages of less than a huge page");
	}
	return zpipe_pair(c, 0);
}

static void gift_sender(struct channel *c)
{
	sender_buffers(c, 1);
}

static void gift_receiver(struct channel *c)
{
	if (way_of(c)->reads)
		receiver_buffers(c);
	else
		aligned_buffers(c, 1);
}

static void transfer(int fd, unsigned int cmd, void *msg, size_t len, unsigned int flags)
{
	while (len) {
		struct zpipe_iovec range = { .base = (uintptr_t)msg, .bytes = len };
		struct zpipe_transfer arg = {
			.size = sizeof(arg), .flags = flags,
			.iov = (uintptr_t)&range, .iovcnt = 1,
		};

		if (ioctl(fd, cmd, &arg) || !arg.done)
			fail("transfer of %zu: %s", len, strerror(errno));
		msg = (char *)msg + arg.done;
		len -= arg.done;
	}
}

static void gift_send(struct channel *c, void *msg)
{
	transfer(c->tx[0], ZPIPE_IOC_GIFT, msg, c->bytes, way_of(c)->gives);
}

static void *gift_receive(struct channel *c)
{
	const struct way *way = way_of(c);
	void *msg = claim_buffer(c);

	if (way->reads) {
		read_all(c->rx[0], msg, c->bytes);
		return msg;
	}
	if (way->fresh)
		madvise(msg, c->bytes, MADV_DONTNEED);
	transfer(c->rx[0], ZPIPE_IOC_MOVE, msg, c->bytes, way->takes);
	return msg;
}

#define GIFT(w)							\
	.arg = (long)&(w), .stable = true, .spins = true,	\
	.open = open_gift,					\
	.sender = gift_sender, .receiver = gift_receiver,	\
	.claim = claim_buffer, .send = gift_send,		\
	.receive = gift_receive, .release = keep_buffer

const struct mechanism mechanism_zpipe_gift = {
	GIFT(gift),
	.name = "zpipe-gift", .what = "GIFT and MOVE; each replacement is cleared",
};

const struct mechanism mechanism_zpipe_gift_read = {
	GIFT(gift_read),
	.name = "zpipe-gift-read", .what = "GIFT, and read(2) to unaligned memory, which copies",
};

const struct mechanism mechanism_zpipe_exchange = {
	GIFT(exchange),
	.name = "zpipe-exchange", .what = "GIFT of any page, and MOVE that returns pages",
};

const struct mechanism mechanism_zpipe_fresh = {
	GIFT(fresh),
	.name = "zpipe-fresh", .what = "GIFT, and MOVE to memory without pages",
};

const struct mechanism mechanism_zpipe_gift_small = {
	GIFT(small),
	.name = "zpipe-gift-small", .what = "GIFT and MOVE of pages of 4 KiB: with -H off",
};
