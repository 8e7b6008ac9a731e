/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A ring of messages in memory that one sender and one receiver share. It counts the
 * messages. The mechanism decides where their bytes are.
 */
#ifndef ZPIPE_BENCH_RING_H
#define ZPIPE_BENCH_RING_H

#include <stdint.h>
#include <sys/types.h>

#include "bench.h"

#define RING_SLOTS	1024	/* at most */

/*
 * The number of messages that one side is done with. The other side sleeps on @asleep,
 * which it sets to 1 before it reads @count the last time.
 */
struct ring_side {
	_Alignas(2 * LINE) uint32_t count;
	_Alignas(LINE) uint32_t asleep;
};

struct ring {
	struct ring_side sent, released;
	_Alignas(LINE) uint32_t slots;	/* a power of two */
	/* The sender's note on the message in each slot. */
	uint64_t notes[RING_SLOTS];
	pid_t sender;
};

int ring_open(struct channel *c, unsigned int slots);
size_t ring_stride(size_t bytes);
unsigned int ring_slots_for(size_t stride, unsigned int most);
void ring_end(struct channel *c);
uint32_t ring_claim(struct channel *c);
void ring_send(struct channel *c, uint64_t note);
uint64_t ring_receive(struct channel *c);
void ring_release(struct channel *c);

#endif
