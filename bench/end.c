// SPDX-License-Identifier: GPL-2.0-only
/* One process of a measurement: the sender or the receiver of a pair, or both. */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "stage.h"
#include "touch.h"

#define WARM_UP		2		/* messages */

/*
 * Receives a stream, a fixed number of bytes at a time. A read may end within a message or
 * span two. Each part is checked in the read's buffer.
 */
static void receive_pieces(const struct run *run, struct channel *c, unsigned int index,
			   uint64_t from, uint64_t to, bool paced)
{
	size_t left = (to - from) * run->bytes, offset = 0;
	uint64_t message = from, sum = 0;

	while (left) {
		size_t n = options.read_bytes < left ? options.read_bytes : left;
		const char *part = claim_buffer(c);

		read_all(c->rx[0], (void *)part, n);
		left -= n;
		while (n) {
			size_t rest = run->bytes - offset;
			size_t len = n < rest ? n : rest;

			if (run->sum)
				sum += sum_part(part, len);
			else
				check_part(run, part, message, offset, len);
			part += len;
			n -= len;
			offset += len;
			if (offset < run->bytes)
				continue;
			if (run->sum)
				check_sum(run, message, sum);
			if (paced)
				arrived(run, index, message - from);
			message++;
			offset = 0;
			sum = 0;
		}
	}
}

static bool in_pieces(const struct channel *c)
{
	return options.read_bytes && c->mechanism->stream;
}

static void get_any(const struct run *run, struct channel *c, uint64_t message)
{
	if (in_pieces(c))
		receive_pieces(run, c, 0, message, message + 1, false);
	else
		get(run, c, message);
}

static void alone(const struct run *run, struct channel c[2], uint64_t from, uint64_t to)
{
	if (in_pieces(&c[1])) {
		for (uint64_t i = from; i < to; i++) {
			put_now(run, &c[0], i);
			receive_pieces(run, &c[1], 0, i, i + 1, false);
		}
		return;
	}
	for (uint64_t i = from; i < to; i++) {
		put_now(run, &c[0], i);
		get(run, &c[1], i);
	}
}

static void ping(const struct run *run, struct channel c[2], uint64_t from, uint64_t to,
		 bool timed)
{
	uint64_t start;

	for (uint64_t i = from; i < to; i++) {
		start = timed ? now_ns() : 0;
		put_now(run, &c[0], i);
		get_any(run, &c[1], i);
		if (timed)
			run->rounds_us[i - from] = (now_ns() - start) / 1e3;
	}
}

static void pong(const struct run *run, struct channel c[2], uint64_t from, uint64_t to)
{
	for (uint64_t i = from; i < to; i++) {
		get_any(run, &c[0], i);
		put_now(run, &c[1], i);
	}
}

static void one_way(const struct run *run, struct channel *c, unsigned int index, uint64_t from,
		    uint64_t to, bool paced)
{
	if (index % 2 == 0) {
		if (paced) {
			send_paced(run, c, index, from, to);
		} else {
			for (uint64_t i = from; i < to; i++)
				put(run, c, i);
			flush(c);
		}
	} else if (in_pieces(c)) {
		receive_pieces(run, c, index, from, to, paced);
	} else if (paced) {
		receive_paced(run, c, index, from, to);
	} else {
		for (uint64_t i = from; i < to; i++)
			get(run, c, i);
	}
}

static void transfer(const struct run *run, struct channel c[2], unsigned int index,
		     uint64_t from, uint64_t to, bool timed)
{
	if (run->turns == TURNS_ALONE)
		alone(run, c, from, to);
	else if (!run->pingpong)
		one_way(run, &c[0], index, from, to, timed && run->pace_us);
	else if (index % 2 == 0)
		ping(run, c, from, to, timed);
	else
		pong(run, c, from, to);
}

int pin_to(unsigned int end)
{
	cpu_set_t want;

	CPU_ZERO(&want);
	CPU_SET(options.processors[end % 2], &want);
	return sched_setaffinity(0, sizeof(want), &want);
}

/*
 * Sets the real-time priority of this process on the processor that both ends share. The
 * end that goes first has the higher one.
 */
static void take_turns(bool goes_first)
{
	struct sched_param priority = { .sched_priority = goes_first ? 2 : 1 };

	if (sched_setscheduler(0, SCHED_FIFO, &priority))
		give_up("SCHED_FIFO");
}

/* Sets up this process's side of a channel and closes the other side. */
static void take_side(struct channel *c, bool sends)
{
	close_both(sends ? c->rx : c->tx);
	close_both(c->mid);
	(sends ? c->mechanism->sender : c->mechanism->receiver)(c);
}

/* In the round that compares all words, the receiver sees all messages. */
static bool drops(const struct run *run)
{
	return options.touch == TOUCH_NONE && run->step >= run->bytes;
}

static void take_place(const struct run *run, struct channel c[2], unsigned int index)
{
	bool first = index % 2 == 0;
	int ret = 0;

	c[0].drops = drops(run);
	c[1].drops = drops(run);
	if (run->turns != TURNS_FREE)
		ret = pin_to(0);
	else if (run->pin)
		ret = pin_to(index);
	if (ret)
		give_up("sched_setaffinity");
	if (run->turns == TURNS_ALONE) {
		c[1] = c[0];
		run->mechanism->sender(&c[0]);
		run->mechanism->receiver(&c[1]);
	} else {
		take_side(&c[0], first);
		if (run->pingpong)
			take_side(&c[1], !first);
	}
	if (run->turns == TURNS_WRITER || run->turns == TURNS_READER)
		take_turns(first == (run->turns == TURNS_WRITER));
}

void play(const struct run *run, struct channel c[2], unsigned int index)
{
	bool counts = index % 2 || run->turns == TURNS_ALONE;
	struct end *end = &stage->ends[index];

	/* Kills this process when the parent ends, also by fail(). */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != stage->parent)
		_exit(1);
	signal(SIGCHLD, SIG_DFL);
	populate(stage, sizeof(*stage));
	take_place(run, c, index);
	if (run->perf)
		perf_open();
	transfer(run, c, index, 0, WARM_UP, false);
	if (run->look)
		end->thp_kb = read_huge_kb(c[0].region, c[0].region_bytes);

	/*
	 * A first reading that does not count, so that both readings open the files of
	 * /proc alike.
	 */
	read_counts(&end->before);
	read_paths(&end->before, counts, c[0].rx[0]);
	announce(&stage->ready);
	await(&stage->go, 1);
	read_counts(&end->before);
	if (run->perf)
		perf_start();
	end->start = now_ns();
	transfer(run, c, index, WARM_UP, WARM_UP + run->messages, true);
	end->stop = now_ns();
	if (run->perf)
		perf_stop(end->perf);
	read_counts(&end->after);
	read_paths(&end->after, counts, c[0].rx[0]);
	announce(&stage->done);
	await(&stage->leave, 1);
	_exit(0);
}
