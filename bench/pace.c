// SPDX-License-Identifier: GPL-2.0-only
/*
 * A sender that begins a message every so many microseconds. The times are fixed at the
 * start. A sender that falls behind catches up, and the latency of a message includes its
 * delay.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/prctl.h>
#include <time.h>

#include "stage.h"
#include "touch.h"

static void sleep_until(uint64_t ns)
{
	struct timespec then = { .tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000 };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &then, NULL) == EINTR)
		;
}

void send_paced(const struct run *run, struct channel *c, unsigned int index, uint64_t from,
		uint64_t to)
{
	uint64_t period = run->pace_us * 1000ULL, due = now_ns(), now;

	/* Wake as exactly as the machine can. */
	prctl(PR_SET_TIMERSLACK, 1);
	__atomic_store_n(&stage->first_due[index / 2], due, __ATOMIC_RELEASE);
	for (uint64_t i = from; i < to; i++, due += period) {
		now = now_ns();
		if (now < due) {
			sleep_until(due);
			now = now_ns();
		}
		stage->ends[index].late += now > due + period;
		put_now(run, c, i);
	}
}

static uint64_t stride(const struct run *run)
{
	return (run->messages + MAX_LATENCIES - 1) / MAX_LATENCIES;
}

unsigned int nr_latencies(const struct run *run)
{
	return run->pace_us ? (run->messages + stride(run) - 1) / stride(run) : 0;
}

/* Records the latency of message @n, which has arrived completely. */
void arrived(const struct run *run, unsigned int index, uint64_t n)
{
	uint64_t now = now_ns(), due;

	if (index / 2 || n % stride(run))
		return;
	due = __atomic_load_n(&stage->first_due[0], __ATOMIC_ACQUIRE) +
	      n * run->pace_us * 1000ULL;
	stage->latency_us[n / stride(run)] = (now - due) / 1e3;
}

void receive_paced(const struct run *run, struct channel *c, unsigned int index, uint64_t from,
		   uint64_t to)
{
	for (uint64_t i = from; i < to; i++) {
		void *msg;

		/* A message in pieces has arrived when all of it was checked. */
		if (c->mechanism->part) {
			get(run, c, i);
			arrived(run, index, i - from);
			continue;
		}
		msg = c->receive(c);
		arrived(run, index, i - from);
		check(run, msg, i);
		c->mechanism->release(c, msg);
	}
}
