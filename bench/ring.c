// SPDX-License-Identifier: GPL-2.0-only
/*
 * The ring that shm, memfd and cma share. It has two counters, and each is written by one
 * side only. A side that has to wait spins for a while and then sleeps. Only a sleeping
 * side is woken. So two sides that keep up with each other make no system call.
 *
 * No wakeup is lost. The sleeper sets @asleep and then reads @count. The other side changes
 * @count and then reads @asleep. Both sides see these four accesses in the same order. The
 * futex is @asleep itself: once it is 0 again, futex_wait() returns at once.
 */
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ring.h"

#define RING_BYTES	(1UL << 20)	/* of messages, unless two are more */
#define LOOKS		64		/* between two readings of the clock */

/* Small messages are adjacent. Large ones begin on pages of their own. */
size_t ring_stride(size_t bytes)
{
	if (bytes + options.align < PAGE)
		return (bytes + options.align + LINE - 1) / LINE * LINE;
	return stride_for(bytes);
}

/*
 * Number of slots of @stride bytes: a power of two, at least 2, enough for the wanted
 * bytes.
 */
unsigned int ring_slots_for(size_t stride, unsigned int most)
{
	size_t bytes = options.working_set ? options.working_set : RING_BYTES;
	unsigned int slots = 2;

	while (slots < most && slots * stride < bytes)
		slots *= 2;
	return slots;
}

int ring_open(struct channel *c, unsigned int slots)
{
	c->ring = mmap(NULL, sizeof(*c->ring), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (c->ring == MAP_FAILED) {
		c->ring = NULL;
		return cannot("mmap of a ring");
	}
	c->ring->slots = slots;
	return 0;
}

/* Maps all of the ring in the page table of this end. */
void ring_end(struct channel *c)
{
	populate(c->ring, sizeof(*c->ring));
}

static uint32_t get(uint32_t *word)
{
	return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

/* Waits until the count of @side differs from @seen. Returns the new count. */
static uint32_t wait_for(struct ring_side *side, uint32_t seen)
{
	uint32_t now = get(&side->count);
	uint64_t start;

	if (now != seen)
		return now;
	start = now_ns();
	do {
		for (int i = 0; i < LOOKS; i++) {
			now = get(&side->count);
			if (now != seen)
				return now;
			relax();
		}
	} while (now_ns() - start < options.spin_ns);
	for (;;) {
		__atomic_store_n(&side->asleep, 1, __ATOMIC_SEQ_CST);
		now = __atomic_load_n(&side->count, __ATOMIC_SEQ_CST);
		if (now != seen)
			break;
		futex_wait(&side->asleep, 1);
	}
	__atomic_store_n(&side->asleep, 0, __ATOMIC_RELAXED);
	return now;
}

/* Increments the count of @side and wakes the other end if it sleeps. */
static void advance(struct ring_side *side)
{
	__atomic_store_n(&side->count, side->count + 1, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&side->asleep, __ATOMIC_SEQ_CST) &&
	    __atomic_exchange_n(&side->asleep, 0, __ATOMIC_SEQ_CST))
		futex_wake(&side->asleep);
}

/*
 * Returns the slot of the next message, after the receiver has released the previous one in
 * it. Each end reads the other end's counter only when it has to, because the cache line of
 * that counter is with the other processor.
 */
uint32_t ring_claim(struct channel *c)
{
	struct ring *ring = c->ring;
	uint32_t sent = ring->sent.count;

	if (sent - c->seen_released == ring->slots)
		c->seen_released = wait_for(&ring->released, sent - ring->slots);
	return sent & (ring->slots - 1);
}

void ring_send(struct channel *c, uint64_t note)
{
	struct ring *ring = c->ring;

	ring->notes[ring->sent.count & (ring->slots - 1)] = note;
	advance(&ring->sent);
}

/* Waits for the next message. Returns the sender's note on it. */
uint64_t ring_receive(struct channel *c)
{
	struct ring *ring = c->ring;
	uint32_t next = ring->released.count;

	if (c->seen_sent == next)
		c->seen_sent = wait_for(&ring->sent, next);
	return ring->notes[next & (ring->slots - 1)];
}

void ring_release(struct channel *c)
{
	advance(&c->ring->released);
}
