/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Memory that all processes of a measurement share. measure.c starts them, end.c runs them.
 */
#ifndef ZPIPE_BENCH_STAGE_H
#define ZPIPE_BENCH_STAGE_H

#include "bench.h"

struct end {
	uint64_t start, stop;
	struct counts before, after;
	double perf[NR_PERF];
	double thp_kb;
	uint64_t late;		/* messages */
};

struct stage {
	pid_t parent;
	/* Number of processes that have reached each step. Each word is a futex. */
	uint32_t ready, go, done, leave;
	struct end ends[2 * MAX_PAIRS];
	uint64_t first_due[MAX_PAIRS];	/* when each paced sender begins */
	float latency_us[MAX_LATENCIES];	/* of the first pair */
};

extern struct stage *stage;
void announce(uint32_t *word);
void await(uint32_t *word, uint32_t value);

/* end.c: one process of a measurement */
_Noreturn void play(const struct run *run, struct channel c[2], unsigned int index);

/* pace.c: messages that are due at fixed times */
void send_paced(const struct run *run, struct channel *c, unsigned int index, uint64_t from,
		uint64_t to);
void receive_paced(const struct run *run, struct channel *c, unsigned int index, uint64_t from,
		   uint64_t to);
void arrived(const struct run *run, unsigned int index, uint64_t n);
unsigned int nr_latencies(const struct run *run);

#endif
