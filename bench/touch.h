/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The words of messages, and how each end writes and checks them. The functions are inline
 * because the loops of end.c and pace.c call them for each message.
 */
#ifndef ZPIPE_BENCH_TOUCH_H
#define ZPIPE_BENCH_TOUCH_H

#include "bench.h"

/* Buffers may begin at any address. */
typedef uint64_t word_t __attribute__((aligned(1), may_alias));

/*
 * The word differs between messages, between pages, and from the content of fresh memory.
 */
static inline uint64_t word_at(uint64_t message, size_t offset)
{
	return (message + 1) * 0x9e3779b97f4a7c15ULL + offset;
}

static inline void fill(const struct run *run, void *msg, uint64_t message)
{
	if (run->sum) {
		for (size_t at = 0; at < run->bytes; at += sizeof(word_t))
			*(word_t *)((char *)msg + at) = word_at(message, at);
		return;
	}
	for (size_t at = 0; at < run->bytes; at += run->step)
		*(volatile word_t *)((char *)msg + at) = word_at(message, at);
}

/* Checks @part: @len bytes of @message, from offset @from on. */
static inline void check_part(const struct run *run, const void *part, uint64_t message,
			      size_t from, size_t len)
{
	size_t at = (from + run->step - 1) / run->step * run->step;

	for (; at < from + len; at += run->step)
		if (*(const volatile word_t *)((const char *)part + at - from) !=
		    word_at(message, at))
			fail("%s: wrong data in message %llu of %zu at %zu",
			     run->mechanism->name, (unsigned long long)message,
			     run->bytes, at);
}

static inline uint64_t sum_part(const void *part, size_t len)
{
	uint64_t sum = 0;

	for (size_t at = 0; at < len; at += sizeof(word_t))
		sum += *(const word_t *)((const char *)part + at);
	return sum;
}

/* Checks that all words of @message add up to @sum. */
static inline void check_sum(const struct run *run, uint64_t message, uint64_t sum)
{
	uint64_t n = run->bytes / sizeof(word_t);

	if (sum != n * word_at(message, 0) + sizeof(word_t) * (n * (n - 1) / 2))
		fail("%s: wrong sum of message %llu of %zu", run->mechanism->name,
		     (unsigned long long)message, run->bytes);
}

static inline void check(const struct run *run, const void *msg, uint64_t message)
{
	if (run->sum) {
		check_sum(run, message, sum_part(msg, run->bytes));
		return;
	}
	for (size_t at = 0; at < run->bytes; at += run->step)
		if (*(const volatile word_t *)((const char *)msg + at) !=
		    word_at(message, at))
			fail("%s: wrong data in message %llu of %zu at %zu",
			     run->mechanism->name, (unsigned long long)message,
			     run->bytes, at);
}

static inline void put(const struct run *run, struct channel *c, uint64_t message)
{
	void *msg = c->mechanism->claim(c);

	fill(run, msg, message);
	c->mechanism->send(c, msg);
}

static inline void flush(struct channel *c)
{
	if (c->mechanism->flush)
		c->mechanism->flush(c);
}

/* Like put(), for a message for which the receiver waits. */
static inline void put_now(const struct run *run, struct channel *c, uint64_t message)
{
	put(run, c, message);
	flush(c);
}

/* Checks each part in place. */
static inline void get_parts(const struct run *run, struct channel *c, uint64_t message)
{
	uint64_t sum = 0;
	size_t len;

	for (size_t at = 0; at < run->bytes; at += len) {
		const void *part = c->mechanism->part(c, run->bytes - at, &len);

		if (run->sum)
			sum += sum_part(part, len);
		else
			check_part(run, part, message, at, len);
	}
	if (run->sum)
		check_sum(run, message, sum);
}

static inline void get(const struct run *run, struct channel *c, uint64_t message)
{
	void *msg;

	if (c->mechanism->part) {
		get_parts(run, c, message);
		return;
	}
	msg = c->receive(c);
	if (!c->drops)
		check(run, msg, message);
	c->mechanism->release(c, msg);
}

#endif
