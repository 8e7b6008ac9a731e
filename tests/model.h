/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A model of the ring of fs/pipe.c, which assigns the bytes of writes to slots.
 * It knows only lengths; the tests compare the bytes with the stream.
 */
#ifndef ZPIPE_TESTS_MODEL_H
#define ZPIPE_TESTS_MODEL_H

#include "oracle.h"

#define MODEL_SLOTS	256

struct model_slot {
	int off;
	int len;
	bool packet;
};

struct model {
	struct model_slot slot[MODEL_SLOTS];
	unsigned int head;
	unsigned int tail;
	unsigned int max;
};

static inline bool model_empty(const struct model *m)
{
	return m->head == m->tail;
}

static inline bool model_full(const struct model *m)
{
	return m->head - m->tail >= m->max;
}

static inline struct model_slot *model_slot(struct model *m, unsigned int i)
{
	return &m->slot[i % MODEL_SLOTS];
}

static inline long model_fionread(struct model *m)
{
	unsigned int i;
	long n = 0;

	for (i = m->tail; i != m->head; i++)
		n += model_slot(m, i)->len;
	return n;
}

/* Fills free slots; returns how many of @len bytes fitted. */
static inline long model_fill(struct model *m, long len, bool packet)
{
	long ret = 0;

	while (ret < len && !model_full(m)) {
		int n = len - ret < PAGE ? len - ret : PAGE;

		*model_slot(m, m->head++) = (struct model_slot) {
			.len = n, .packet = packet,
		};
		ret += n;
	}
	return ret;
}

/*
 * A write that does not block; returns how many bytes it writes. The bytes
 * beyond whole pages are merged into the last slot if all of them fit there.
 */
static inline long model_write(struct model *m, long len, bool packet)
{
	int chars = len % PAGE;
	long ret = 0;

	if (chars && !model_empty(m)) {
		struct model_slot *last = model_slot(m, m->head - 1);

		if (!last->packet && last->off + last->len + chars <= PAGE) {
			last->len += chars;
			ret = chars;
		}
	}
	return ret + model_fill(m, len - ret, packet);
}

/*
 * A read that does not block; returns how many bytes it reads. It ends at the
 * end of a packet.
 */
static inline long model_read(struct model *m, long len)
{
	long ret = 0;

	while (ret < len && !model_empty(m)) {
		struct model_slot *s = model_slot(m, m->tail);
		int n = s->len < len - ret ? s->len : len - ret;

		s->off += n;
		s->len -= n;
		ret += n;
		if (s->packet || !s->len)
			m->tail++;
		if (s->packet)
			break;
	}
	return ret;
}

/* Sets the capacity to @slots; false if more slots are used. */
static inline bool model_resize(struct model *m, unsigned int slots)
{
	if (m->head - m->tail > slots)
		return false;
	m->max = slots;
	return true;
}

/*
 * The events that poll(2) reports of the read end (@end is 0) or of the write
 * end, with both ends open.
 */
static inline int model_poll(const struct model *m, int end)
{
	if (!end)
		return model_empty(m) ? 0 : POLLIN;
	return model_full(m) ? 0 : POLLOUT;
}

/* A pseudo-random number; the sequence is the same on every machine. */
static inline unsigned int rnd(unsigned long *state)
{
	*state = *state * 6364136223846793005UL + 1442695040888963407UL;
	return *state >> 33;
}

/*
 * The random seed: ZPIPE_SEED, or else @def. It is printed, so that a failure can
 * be repeated.
 */
static inline unsigned long seed(unsigned long def)
{
	const char *env = getenv("ZPIPE_SEED");

	if (env)
		def = strtoul(env, NULL, 0);
	printf("# ZPIPE_SEED=%lu\n", def);
	return def;
}

/* A random length from 1 to @max, often near a multiple of a page. */
static inline long rnd_len(unsigned long *state, long max)
{
	long len;

	switch (rnd(state) % 4) {
	case 0:
		len = 1 + rnd(state) % 200;
		break;
	case 1:
		len = PAGE * (1 + rnd(state) % 4) + rnd(state) % 7 - 3;
		break;
	case 2:
		len = 1 + rnd(state) % (2 * PAGE);
		break;
	default:
		len = 1 + rnd(state) % max;
	}
	return len < max ? len : max;
}

#endif /* ZPIPE_TESTS_MODEL_H */
