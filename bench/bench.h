/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A benchmark of the ways to carry bytes from one process to another.
 *
 * A mechanism is one row of mechanisms[]. A cell is a message size, a number of pairs of
 * processes, and a pace. In each round every mechanism of every cell is measured once. The
 * mechanisms of a cell follow one another, in an order that rotates from round to round.
 * Ratios are taken within a round. So a disturbance of the machine affects both sides of a
 * ratio.
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
#define LINE		64UL
#define HUGE_PAGE	(2UL << 20)
#define SKEW		(32UL * PAGE)	/* see map_buffers() */
#define SPIN_US		50		/* of mechanisms that spin: the module's default */
#define MAX_PAIRS	64
#define MAX_ROUNDS	101
#define MAX_MECHANISMS	32
#define MAX_SIZES	32
#define MAX_EXTRA	32
#define MAX_LATENCIES	200		/* in one measurement */

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))

/* The words of a message that each end touches. */
enum touch {
	TOUCH_PAGE,		/* one word of each page */
	TOUCH_LINE,		/* one word of each cache line */
	TOUCH_SUM,		/* all words: the sender writes them, the receiver adds them up */
	TOUCH_NONE,		/* the sender the first one, the receiver none: it drops messages */
};

/* Where messages come from and go to. A route has mechanisms of its own. */
enum route {
	ROUTE_MEMORY,		/* from the sender's memory to the receiver's */
	ROUTE_NULL,		/* to /dev/null */
	ROUTE_FILE,		/* from a file in memory */
	ROUTE_TCP,		/* to a TCP connection */
};

/*
 * Which end of a pair runs if both could. It decides which path the bytes take, and so
 * their cost.
 */
enum turns {
	TURNS_FREE,		/* the scheduler decides */
	TURNS_WRITER,		/* the writer; both share one processor */
	TURNS_READER,		/* the reader; both share one processor */
	TURNS_ALONE,		/* one process writes, then reads its own bytes */
};

/* options.c: the command line */
struct options {
	const struct mechanism *mechanisms[MAX_MECHANISMS];
	size_t nr_mechanisms;
	size_t sizes[MAX_SIZES], nr_sizes;
	unsigned int pairs[MAX_SIZES], paces_us[MAX_SIZES];
	size_t nr_pairs, nr_paces;
	unsigned int rounds, rtt_messages;
	unsigned int first_round;	/* where the rotation of the rows starts */
	double target_s;
	bool roam;
	int processors[2];	/* of a single pair; -1: any */
	enum turns turns;
	enum touch touch;
	enum route route;
	bool huge;		/* huge pages for large buffers; false: none */
	size_t align;		/* offset of buffers from the start of a page */
	size_t read_bytes;	/* of each read of a stream; 0: a message */
	size_t working_set;	/* bytes of each end's buffers; 0: the least that suffices */
	unsigned int load;	/* number of other busy processes */
	const char *module, *module_args;
	uint64_t spin_ns;	/* how long rivals spin: as long as the module */
	const char *extra[MAX_EXTRA];
	size_t nr_extra;
	const char *model;
	FILE *to;
	char **argv;
};
extern struct options options;
void parse_options(int argc, char **argv);
const char *touch_name(enum touch touch);
const char *route_name(enum route route);

/* One connection from a sender to a receiver. open() opens it before fork(). */
struct channel {
	const struct mechanism *mechanism;
	size_t bytes;		/* of each message */
	int tx[2], rx[2];	/* descriptors of the sender and of the receiver; or -1 */
	int mid[2];		/* those of the carrier, or of another pipe; or -1 */
	struct ring *ring;	/* in shared memory; or NULL */
	long capacity;		/* maximum bytes that it holds, if known */
	/* These belong to one process: */
	void *(*receive)(struct channel *c);
	unsigned char *buf;
	size_t stride;		/* distance between buffers, if there are several */
	unsigned int buffers, next;
	uint32_t seen_sent, seen_released;	/* the ring's counters as last read */
	unsigned char *region;	/* memory of all buffers; shared if open() made it */
	size_t region_bytes;
	unsigned char *shared;	/* shm-copy: the shared region */
	size_t filled;		/* zpipe-window-gather: bytes not sent yet */
	int sink;		/* routes: the file of one end; or -1 */
	bool drops;		/* the receiver need not see messages */
};

struct mechanism {
	const char *name;
	const char *what;
	long arg;		/* of this mechanism: a capacity, flags */
	bool stable;		/* received data cannot change any more */
	bool spins;		/* tries again for some time before it sleeps */
	bool stream;		/* read(2) receives it, any number of bytes at a time */
	const char *parameters;	/* module parameters that it needs; or NULL */
	enum route route;
	const struct mover *mover;	/* of routes: see route.h */

	/* Makes the channel. Returns 0, or the result of cannot(). */
	int (*open)(struct channel *c);
	/* Prepare the sending and the receiving process. */
	void (*sender)(struct channel *c);
	void (*receiver)(struct channel *c);

	/* A process between the two ends: it runs until it is killed; or NULL. */
	void (*carry)(struct channel *c);

	/* claim() returns the address for the next message. send() sends it. */
	void *(*claim)(struct channel *c);
	void (*send)(struct channel *c, void *msg);
	/*
	 * Sends the messages that send() kept back to send several together; or NULL.
	 * Called at the end of a run, and after each message for which the receiver waits.
	 */
	void (*flush)(struct channel *c);
	/* Returns the next message. The receiver reads it in place until release(). */
	void *(*receive)(struct channel *c);
	void (*release)(struct channel *c, void *msg);
	/*
	 * Replaces receive() and release() where a message may be in several pieces.
	 * Returns the next piece, of at most @most bytes. The receiver reads it in place
	 * until the next call.
	 */
	const void *(*part)(struct channel *c, size_t most, size_t *len);
};

extern const struct mechanism mechanism_pipe, mechanism_pipe_again, mechanism_pipe_1m,
	mechanism_pipe_spin, mechanism_fifo, mechanism_unix, mechanism_vmsplice,
	mechanism_cma, mechanism_memfd, mechanism_shm, mechanism_shm_copy,
	mechanism_zpipe, mechanism_zpipe_1m, mechanism_zpipe_node, mechanism_zpipe_nospin,
	mechanism_zpipe_nodirect, mechanism_zpipe_neither,
	mechanism_zpipe_gift, mechanism_zpipe_gift_read, mechanism_zpipe_exchange,
	mechanism_zpipe_fresh, mechanism_zpipe_gift_small,
	mechanism_zpipe_window, mechanism_zpipe_commit_read, mechanism_zpipe_write_peek,
	mechanism_zpipe_window_gather,
	mechanism_null_pipe, mechanism_null_pipe_again, mechanism_null_pipe_direct,
	mechanism_null_copy, mechanism_null_zpipe, mechanism_null_zpipe_direct,
	mechanism_null_zpipe_copy,
	mechanism_file_pipe, mechanism_file_pipe_again, mechanism_file_pipe_sendfile,
	mechanism_file_copy, mechanism_file_zpipe, mechanism_file_zpipe_sendfile,
	mechanism_file_zpipe_copy,
	mechanism_tcp_pipe, mechanism_tcp_pipe_again, mechanism_tcp_copy,
	mechanism_tcp_zpipe, mechanism_tcp_zpipe_copy;

/* mechanisms.c: all mechanisms; ratios are to the first of each route */
extern const struct mechanism * const mechanisms[];
extern const size_t nr_mechanisms;

/* channel.c: functions for all mechanisms */
void channel_init(struct channel *c, const struct mechanism *m, size_t bytes);
void channel_close(struct channel *c);
void close_both(int fds[2]);
int take_ends(struct channel *c, const int fds[2]);
size_t stride_for(size_t bytes);
void sender_buffers(struct channel *c, unsigned int least);
void receiver_buffers(struct channel *c);
void aligned_buffers(struct channel *c, unsigned int least);
unsigned char *reserve(size_t *len);
bool wants_huge(const struct channel *c);
int map_shared(const struct channel *c, void *at, int fd, size_t len);
void populate(void *at, size_t len);
void populate_shared(const struct channel *c, void *at, size_t len);
void *claim_buffer(struct channel *c);
void keep_buffer(struct channel *c, void *msg);
void write_all(int fd, const void *buf, size_t len);
void read_all(int fd, void *buf, size_t len);
_Noreturn void fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* mechanism_zpipe.c: makes a private pair with these flags; returns 0 or cannot() */
int zpipe_pair(struct channel *c, unsigned int flags);

/* mechanism_pipe.c: makes a pipe(2) whose capacity is the mechanism's argument */
int open_pipe(struct channel *c);

/* stream.c: ends that use write(2) and read(2) */
#define STREAM							\
	.stable = true, .stream = true,				\
	.sender = stream_sender, .receiver = stream_receiver,	\
	.claim = claim_buffer, .send = stream_send,		\
	.receive = stream_receive, .release = keep_buffer
int open_path(struct channel *c, const char *path);
void stream_sender(struct channel *c);
void stream_send(struct channel *c, void *msg);
void stream_receiver(struct channel *c);
void *stream_receive(struct channel *c);

/* futex.c: waiting for words in shared memory */
void futex_wait(uint32_t *word, uint32_t value);
void futex_wake(uint32_t *word);
void relax(void);

/*
 * refuse.c: mechanisms that cannot run here. cannot() stores errno and @what in shared
 * memory and returns -1. give_up() does the same and ends the process of a measurement.
 */
struct refusal {
	int error;		/* 0: no refusal */
	char what[80];
};
extern struct refusal *refusal;
void refuse_init(void);
int cannot(const char *what);
_Noreturn void give_up(const char *what);

/* counts.c: counts that vary little from run to run */
struct counts {
	double cpu_ns;		/* user and system time */
	double ctxsw;		/* voluntary and involuntary */
	double faults;		/* minor and major */
	double wakeups;		/* NAN if the kernel does not count them */
	double pulled, pushed;	/* bytes of direct transfers */
	double gifted, moved;	/* bytes of pages that were gifted and moved */
	double spun_us;		/* time that the module spun; NAN: unknown */
};
char *slurp(const char *path);
void read_counts(struct counts *counts);
void read_counts_of(pid_t pid, struct counts *counts);
void read_paths(struct counts *counts, bool here, int fd);
double read_allocs(void);
double read_huge_kb(const void *at, size_t len);
bool count_wakeups(bool on);
void settle(void);
uint64_t now_ns(void);

/* perf.c: hardware counters of a process, where the kernel permits them */
enum perf {
	PERF_INSTRUCTIONS,
	PERF_CYCLES,
	PERF_LLC_MISSES,
	NR_PERF,
};
bool perf_allowed(void);
void perf_open(void);
void perf_start(void);
void perf_stop(double counts[NR_PERF]);

/* measure.c: one measurement */
struct run {
	const struct mechanism *mechanism;
	size_t bytes;
	unsigned int pairs, pace_us;
	uint64_t messages;	/* per pair */
	size_t step;		/* distance of the words that are touched */
	bool sum;		/* the receiver adds words up instead of comparing them */
	bool look;		/* also read how much of the buffers is in huge pages */
	bool perf;		/* read the hardware counters */
	bool pin;		/* pin the two ends of a pair to two processors */
	enum turns turns;	/* other than TURNS_FREE: for a single pair only */
	bool pingpong;		/* messages go there and back, one at a time */
	float *rounds_us;	/* pingpong: time of each round trip */
};
struct sample {
	double seconds;
	double allocs;		/* pages allocated by the whole machine */
	double tx_cpu_ns, mid_cpu_ns, rx_cpu_ns;
	struct counts counts;	/* sum over all processes */
	double perf[NR_PERF];
	double thp_kb;
	long capacity;
	double late;		/* share of messages */
	unsigned int latencies;
	const float *latency_us;	/* valid until the next measurement */
};
int measure(const struct run *run, struct sample *sample);

/* end.c: pins this process to the processor of the given end; returns 0 or -1 */
int pin_to(unsigned int end);

/* load.c: other busy processes */
void start_load(unsigned int processes);
void stop_load(void);

/* module.c: loads the module with other parameters */
int module_for(const struct mechanism *m);
void module_restore(void);

/* machine.c: the first line of the results */
const char *this_machine(void);
void report_run(FILE *to);

/* json.c: JSON output */
void json_string(FILE *to, const char *text);
void json_list(FILE *to, const char *key, const double *v, unsigned int n);
void json_floats(FILE *to, const char *key, const float *v, unsigned int lists,
		 const unsigned int *each, unsigned int stride);

/* report.c: results of one mechanism in one cell, round by round */
struct result {
	const struct mechanism *mechanism;
	size_t bytes;
	unsigned int pairs, pace_us;
	uint64_t messages;		/* per pair, in each measurement */
	struct refusal refusal;
	unsigned int rounds, counted, rtt_rounds, rtt_messages;
	double gbps[MAX_ROUNDS];
	double cpu_ns_per_kib[MAX_ROUNDS];
	/* shares of the measurement's time */
	double tx_cpu[MAX_ROUNDS], mid_cpu[MAX_ROUNDS], rx_cpu[MAX_ROUNDS];
	double ctxsw[MAX_ROUNDS];	/* per MiB, as the following ones */
	double faults[MAX_ROUNDS];
	double allocs[MAX_ROUNDS];
	double wakeups[MAX_ROUNDS];
	double spun[MAX_ROUNDS];
	double pulled[MAX_ROUNDS];	/* shares of all bytes, as the next three */
	double pushed[MAX_ROUNDS];
	double gifted[MAX_ROUNDS];
	double moved[MAX_ROUNDS];
	double late[MAX_ROUNDS];	/* share of messages, if paced */
	double perf[NR_PERF][MAX_ROUNDS];
	double thp_kb;
	long capacity;
	float *trips;			/* us, if round trips are measured */
	float *latencies;		/* us, MAX_LATENCIES per round, if paced */
	unsigned int nr_latencies[MAX_ROUNDS];
};
void report(FILE *to, const struct result *r);

#endif /* ZPIPE_BENCH_H */
