/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The benchmark of ways to carry bytes from one process to another.
 *
 * A mechanism is one row of mechanisms[]. A cell is a message size, a number of
 * pairs of processes, and a pace. In each round every mechanism of every cell is
 * measured once, those of a cell one after the other in an order that rotates
 * from round to round. Ratios are taken within a round, so that what slows the
 * machine down for a while slows both sides of them.
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
#define SPIN_US		50		/* of what spins: the default of the module */
#define MAX_PAIRS	64
#define MAX_ROUNDS	101
#define MAX_MECHANISMS	32
#define MAX_SIZES	32
#define MAX_EXTRA	32
#define MAX_LATENCIES	200		/* of one measurement */

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))

/* How each end looks at a message. */
enum touch {
	TOUCH_PAGE,		/* a word of each page */
	TOUCH_LINE,		/* a word of each cache line */
	TOUCH_SUM,		/* all is written, all is added up */
};

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

/* options.c: what the command line says */
struct options {
	const struct mechanism *mechanisms[MAX_MECHANISMS];
	size_t nr_mechanisms;
	size_t sizes[MAX_SIZES], nr_sizes;
	unsigned int pairs[MAX_SIZES], paces_us[MAX_SIZES];
	size_t nr_pairs, nr_paces;
	unsigned int rounds, rtt_messages;
	unsigned int first_round;	/* whose turn it is in the first one */
	double target_s;
	bool roam;
	int processors[2];	/* of a single pair; -1: roam */
	enum turns turns;
	enum touch touch;
	bool huge;		/* large buffers are to be in huge pages, or else not */
	size_t align;		/* of buffers, beyond the start of a page */
	size_t read_bytes;	/* of each read of a stream; 0: of a message */
	size_t working_set;	/* bytes that each end goes round; 0: as few as will do */
	unsigned int load;	/* busy processes beside */
	const char *module, *module_args;
	uint64_t spin_ns;	/* of rivals, as long as the module does */
	const char *extra[MAX_EXTRA];
	size_t nr_extra;
	const char *model;
	FILE *to;
	char **argv;
};
extern struct options options;
void parse_options(int argc, char **argv);
const char *touch_name(enum touch touch);

/* One way from one process to another. What it opens, it opens before fork. */
struct channel {
	const struct mechanism *mechanism;
	size_t bytes;		/* of each message */
	int tx[2], rx[2];	/* the sender's descriptors, the receiver's; or -1 */
	struct ring *ring;	/* in memory that both see; or NULL */
	long capacity;		/* bytes that it holds at most, as far as is known */
	/* Of one process: */
	void *(*receive)(struct channel *c);
	unsigned char *buf;
	size_t stride;		/* from one buffer to the next, where there are several */
	unsigned int buffers, next;
	uint32_t seen_sent, seen_released;	/* of the ring, when last looked at */
	unsigned char *region;	/* all memory of buffers; shared where open() made it */
	size_t region_bytes;
	unsigned char *shared;	/* shm-copy: the region, beside the receiver's own */
	size_t filled;		/* zpipe-window-gather: bytes that are not sent yet */
};

struct mechanism {
	const char *name;
	const char *what;
	long arg;		/* of its own: a capacity, flags */
	bool stable;		/* what was received stays as it is */
	bool spins;		/* before it sleeps */
	bool stream;		/* received by read(2), of as many bytes as one likes */
	const char *parameters;	/* that the module is to be loaded with, if others */

	/* Makes the channel; 0, or what cannot() returns. */
	int (*open)(struct channel *c);
	/* In the process that sends, in the one that receives. */
	void (*sender)(struct channel *c);
	void (*receiver)(struct channel *c);

	/* Where the next message is to be written, then: send it. */
	void *(*claim)(struct channel *c);
	void (*send)(struct channel *c, void *msg);
	/*
	 * Where send() may keep a message back to send it with others: send it now. Done
	 * at the end of a run, and after each message whose arrival is waited for.
	 */
	void (*flush)(struct channel *c);
	/* The next message, to be read in place until it is released. */
	void *(*receive)(struct channel *c);
	void (*release)(struct channel *c, void *msg);
	/*
	 * Instead of these two, where a message need not be in one piece: its next part, of
	 * at most @most bytes, to be read in place until the next call.
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
	mechanism_zpipe_window_gather;

/* mechanisms.c: all of them; the first is what the others are compared with */
extern const struct mechanism * const mechanisms[];
extern const size_t nr_mechanisms;

/* channel.c: what mechanisms share */
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

/* mechanism_zpipe.c: a private pair, with those flags; 0, or what cannot() returns */
int zpipe_pair(struct channel *c, unsigned int flags);

/* mechanism_pipe.c: a pipe(2) of the capacity that is the mechanism's argument */
int open_pipe(struct channel *c);

/* stream.c: ends that write(2) and read(2) */
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

/* futex.c: words in memory that processes share */
void futex_wait(uint32_t *word, uint32_t value);
void futex_wake(uint32_t *word);
void relax(void);

/*
 * refuse.c: a mechanism that cannot run here. cannot() keeps errno and what failed
 * where all processes see it, and returns -1; give_up() is the same, and the end
 * of a process of a measurement.
 */
struct refusal {
	int error;		/* 0: none */
	char what[80];
};
extern struct refusal *refusal;
void refuse_init(void);
int cannot(const char *what);
_Noreturn void give_up(const char *what);

/* counts.c: what does not wobble */
struct counts {
	double cpu_ns;		/* user and system time */
	double ctxsw;		/* voluntary and not */
	double faults;		/* minor and major */
	double wakeups;		/* NAN if the kernel does not count them */
	double pulled, pushed;	/* bytes that went straight between processes */
	double gifted, landed;	/* bytes of pages that left the sender, and that came */
	double spun_us;		/* time spent spinning, by the module; NAN: not known */
};
char *slurp(const char *path);
void read_counts(struct counts *counts);
void read_paths(struct counts *counts, bool here, int fd);
double read_allocs(void);
double read_huge_kb(const void *at, size_t len);
bool count_wakeups(bool on);
void settle(void);
uint64_t now_ns(void);

/* perf.c: what the processor counts of a process, where one may ask it */
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
	size_t step;		/* from one word that is touched to the next */
	bool sum;		/* the receiver adds up instead of comparing */
	bool look;		/* at the buffers, once */
	bool perf;		/* have the processor count */
	bool pin;		/* the two ends of a pair to two processors */
	enum turns turns;	/* all but TURNS_FREE: of a single pair */
	bool pingpong;		/* messages go there and back, one at a time */
	float *rounds_us;	/* pingpong: how long each round took */
};
struct sample {
	double seconds;
	double allocs;		/* pages, of the whole machine */
	double tx_cpu_ns, rx_cpu_ns;
	struct counts counts;	/* of all processes together */
	double perf[NR_PERF];
	double thp_kb;
	long capacity;
	double late;		/* share of messages */
	unsigned int latencies;
	const float *latency_us;	/* until the next measurement */
};
int measure(const struct run *run, struct sample *sample);

/* end.c: this process to the processor of that end, where a pair has them; or -1 */
int pin_to(unsigned int end);

/* load.c: other work for the machine */
void start_load(unsigned int processes);
void stop_load(void);

/* module.c: the module, loaded with other parameters */
int module_for(const struct mechanism *m);
void module_restore(void);

/* machine.c: the first line of what is written */
const char *this_machine(void);
void report_run(FILE *to);

/* json.c */
void json_string(FILE *to, const char *text);
void json_list(FILE *to, const char *key, const double *v, unsigned int n);
void json_floats(FILE *to, const char *key, const float *v, unsigned int lists,
		 const unsigned int *each, unsigned int stride);

/* report.c: one mechanism in one cell, round by round */
struct result {
	const struct mechanism *mechanism;
	size_t bytes;
	unsigned int pairs, pace_us;
	uint64_t messages;		/* per pair, in each measurement */
	struct refusal refusal;
	unsigned int rounds, counted, rtt_rounds, rtt_messages;
	double gbps[MAX_ROUNDS];
	double cpu_ns_per_kib[MAX_ROUNDS];
	double tx_cpu[MAX_ROUNDS], rx_cpu[MAX_ROUNDS];	/* shares of the time */
	double ctxsw[MAX_ROUNDS];	/* this and the rest per MiB */
	double faults[MAX_ROUNDS];
	double allocs[MAX_ROUNDS];
	double wakeups[MAX_ROUNDS];
	double spun[MAX_ROUNDS];
	double pulled[MAX_ROUNDS];	/* shares of all bytes */
	double pushed[MAX_ROUNDS];
	double gifted[MAX_ROUNDS];
	double landed[MAX_ROUNDS];
	double late[MAX_ROUNDS];	/* share of messages, where they are paced */
	double perf[NR_PERF][MAX_ROUNDS];
	double thp_kb;
	long capacity;
	float *trips;			/* us, where round trips are measured */
	float *latencies;		/* us, MAX_LATENCIES a round, where paced */
	unsigned int nr_latencies[MAX_ROUNDS];
};
void report(FILE *to, const struct result *r);

#endif /* ZPIPE_BENCH_H */
