// SPDX-License-Identifier: GPL-2.0-only
/*
 * A ring of messages in shared memory. The sender makes its data in the ring. The receiver
 * reads it in place and trusts the sender not to change it, or copies it out first. Only a
 * side that sleeps, or wakes the other, makes a system call.
 */
#define _GNU_SOURCE
#include <string.h>

#include "ring.h"

static int shm_open_ring(struct channel *c)
{
	size_t stride = ring_stride(c->bytes);
	unsigned int slots = ring_slots_for(stride, RING_SLOTS);

	c->region_bytes = slots * stride;
	c->region = reserve(&c->region_bytes);
	if (map_shared(c, c->region, -1, c->region_bytes))
		return cannot("mmap of shared memory");
	c->stride = stride;
	c->capacity = slots * stride;
	return ring_open(c, slots);
}

static void shm_end(struct channel *c)
{
	ring_end(c);
	populate_shared(c, c->region, c->region_bytes);
}

static void *shm_claim(struct channel *c)
{
	return c->region + ring_claim(c) * c->stride + options.align;
}

static void shm_send(struct channel *c, void *msg)
{
	ring_send(c, (unsigned char *)msg - c->region);
}

static void *shm_receive(struct channel *c)
{
	return c->region + ring_receive(c);
}

static void shm_release(struct channel *c, void *msg)
{
	(void)msg;
	ring_release(c);
}

/* The receiver's buffers replace the region in @c. The region stays mapped. */
static void copy_receiver(struct channel *c)
{
	c->shared = c->region;
	shm_end(c);
	receiver_buffers(c);
}

static void *copy_receive(struct channel *c)
{
	void *msg = claim_buffer(c);

	memcpy(msg, c->shared + ring_receive(c), c->bytes);
	ring_release(c);
	return msg;
}

const struct mechanism mechanism_shm = {
	.name = "shm", .what = "ring in shared memory, read in place; the data is not stable",
	.spins = true,
	.open = shm_open_ring, .sender = shm_end, .receiver = shm_end,
	.claim = shm_claim, .send = shm_send,
	.receive = shm_receive, .release = shm_release,
};

const struct mechanism mechanism_shm_copy = {
	.name = "shm-copy", .what = "ring in shared memory, copied out",
	.spins = true, .stable = true,
	.open = shm_open_ring, .sender = shm_end, .receiver = copy_receiver,
	.claim = shm_claim, .send = shm_send,
	.receive = copy_receive, .release = keep_buffer,
};
