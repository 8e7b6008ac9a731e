/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The benchmark of ways to carry bytes from one process to another.
 *
 * A mechanism is one row of mechanisms[]. A cell is a message size and a number
 * of pairs of processes. In each round every mechanism of every cell is measured
 * once, those of a cell one after the other in an order that rotates from round
 * to round. Ratios are taken within a round, so that what slows the machine down
 * for a while slows both sides of them.
 */
#ifndef ZPIPE_BENCH_H
#define ZPIPE_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>

#define PAGE		4096UL
#define HUGE_PAGE	(2UL << 20)
#define SKEW		(32UL * PAGE)	/* see map_buffers() */
#define MAX_PAIRS	64
#define MAX_ROUNDS	101
#define MAX_MECHANISMS	32
#define MAX_SIZES	32

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))

/* One way from one process to another. What it opens, it opens before fork. */
struct channel {
	const struct mechanism *mechanism;
	size_t bytes;		/* of each message */
	int tx[2], rx[2];	/* the sender's descriptors, the receiver's; or -1 */
	/* Of one process: */
	unsigned char *buf;
	size_t stride;		/* from one buffer to the next, where there are several */
	unsigned int buffers, next;
	int fd;
};

struct mechanism {
	const char *name;
	const char *what;
	long arg;		/* of its own: a capacity, a window */

	/* Makes the channel; 0, or -1 with errno. */
	int (*open)(struct channel *c);
	/* In the process that sends, in the one that receives. */
	void (*sender)(struct channel *c);
	void (*receiver)(struct channel *c);

	/* Where the next message is to be written, then: send it. */
	void *(*claim)(struct channel *c);
	void (*send)(struct channel *c, void *msg);
	/* The next message, to be read in place until it is released. */
	void *(*receive)(struct channel *c);
	void (*release)(struct channel *c, void *msg);
};

extern const struct mechanism mechanism_pipe, mechanism_pipe_1m, mechanism_fifo,
	mechanism_unix, mechanism_zpipe, mechanism_zpipe_node, mechanism_vmsplice,
	mechanism_cma, mechanism_memfd;

/* channel.c: what mechanisms share */
void channel_init(struct channel *c, const struct mechanism *m, size_t bytes);
void channel_close(struct channel *c);
void close_both(int fds[2]);
void sender_buffers(struct channel *c, unsigned int buffers);
void receiver_buffer(struct channel *c);
void *claim_buffer(struct channel *c);
void keep_buffer(struct channel *c, void *msg);
void write_all(int fd, const void *buf, size_t len);
void read_all(int fd, void *buf, size_t len);
_Noreturn void fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* counts.c: what does not wobble */
struct counts {
	double cpu_ns;		/* user and system time */
	double ctxsw;		/* voluntary and not */
	double faults;		/* minor and major */
	double wakeups;		/* NAN if the kernel does not count them */
	double pulled, pushed;	/* bytes that went straight between processes */
};
void read_counts(struct counts *counts);
void read_paths(struct counts *counts, int fd);
double read_allocs(void);
bool count_wakeups(bool on);
void settle(void);
uint64_t now_ns(void);

/*
 * Who of a pair goes on when both could. Where that is left to the scheduler, so
 * is by which path bytes go, and with it what a message takes.
 */
enum turns {
	TURNS_FREE,		/* whom the scheduler picks */
	TURNS_WRITER,		/* the writer, on a processor that they share */
	TURNS_READER,		/* the reader, likewise */
	TURNS_ALONE,		/* one process writes, then reads what it wrote */
};

/* measure.c: one measurement */
struct run {
	const struct mechanism *mechanism;
	size_t bytes;
	unsigned int pairs;
	uint64_t messages;	/* per pair */
	bool verify;		/* every word; else one of each page */
	bool pin;		/* the two ends of a pair to two processors */
	enum turns turns;	/* all but TURNS_FREE: of a single pair */
	bool pingpong;		/* messages go there and back, one at a time */
	float *rounds_us;	/* pingpong: how long each round took */
};
struct sample {
	double seconds;
	double allocs;		/* pages, of the whole machine */
	struct counts counts;	/* of all processes together */
};
void measure(const struct run *run, struct sample *sample);

/* report.c: one mechanism in one cell, round by round */
struct result {
	const struct mechanism *mechanism;
	size_t bytes;
	unsigned int pairs;
	uint64_t messages;		/* per pair, in each measurement */
	unsigned int rounds, counted, rtt_rounds, rtt_messages;
	double gbps[MAX_ROUNDS];
	double cpu_ns_per_kib[MAX_ROUNDS];
	double ctxsw[MAX_ROUNDS];	/* this and the rest per MiB */
	double faults[MAX_ROUNDS];
	double allocs[MAX_ROUNDS];
	double wakeups[MAX_ROUNDS];
	double pulled[MAX_ROUNDS];	/* shares of all bytes */
	double pushed[MAX_ROUNDS];
	float *trips;			/* us, where round trips are measured */
};
void report(FILE *to, const char *model, const struct result *r);

#endif /* ZPIPE_BENCH_H */
