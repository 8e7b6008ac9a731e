// SPDX-License-Identifier: GPL-2.0-only
/*
 * One measurement: a process for each end, all set up and warm before the
 * clock starts, none gone before the counters are read.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <math.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"

#define WARM_UP		2		/* messages */
#define STUCK_NS	60000000000ULL	/* nothing measured takes so long */

struct end {
	uint64_t start, stop;
	struct counts before, after;
};

/* What all processes of a measurement see. */
struct stage {
	pid_t parent;
	unsigned int ready, go, done, leave;
	struct end ends[2 * MAX_PAIRS];
};

static struct stage *stage;

static void futex_wake(unsigned int *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* Returns after a second at most, or a signal. */
static void futex_wait(unsigned int *word, unsigned int value)
{
	struct timespec second = { .tv_sec = 1 };

	syscall(SYS_futex, word, FUTEX_WAIT, value, &second, NULL, 0);
}

static void announce(unsigned int *word)
{
	__atomic_add_fetch(word, 1, __ATOMIC_SEQ_CST);
	futex_wake(word);
}

static void await(unsigned int *word, unsigned int value)
{
	unsigned int now;

	while ((now = __atomic_load_n(word, __ATOMIC_SEQ_CST)) != value)
		futex_wait(word, now);
}

/*
 * What is in a message: it differs between messages, between pages, and from
 * what fresh memory holds.
 */
static uint64_t word_at(uint64_t message, size_t offset)
{
	return (message + 1) * 0x9e3779b97f4a7c15ULL + offset;
}

static void fill(const struct run *run, void *msg, uint64_t message)
{
	size_t step = run->verify ? sizeof(uint64_t) : PAGE;

	for (size_t at = 0; at < run->bytes; at += step)
		*(volatile uint64_t *)((char *)msg + at) = word_at(message, at);
}

static void check(const struct run *run, const void *msg, uint64_t message)
{
	size_t step = run->verify ? sizeof(uint64_t) : PAGE;

	for (size_t at = 0; at < run->bytes; at += step)
		if (*(const volatile uint64_t *)((const char *)msg + at) !=
		    word_at(message, at))
			fail("%s: wrong data in message %llu of %zu at %zu",
			     run->mechanism->name, (unsigned long long)message,
			     run->bytes, at);
}

static void put(const struct run *run, struct channel *c, uint64_t message)
{
	void *msg = c->mechanism->claim(c);

	fill(run, msg, message);
	c->mechanism->send(c, msg);
}

static void get(const struct run *run, struct channel *c, uint64_t message)
{
	void *msg = c->mechanism->receive(c);

	check(run, msg, message);
	c->mechanism->release(c, msg);
}

static void transfer(const struct run *run, struct channel c[2], bool first,
		     uint64_t from, uint64_t to, bool timed)
{
	uint64_t start = 0;

	for (uint64_t i = from; i < to; i++) {
		if (run->turns == TURNS_ALONE) {
			put(run, &c[0], i);
			get(run, &c[1], i);
		} else if (!run->pingpong) {
			(first ? put : get)(run, &c[0], i);
		} else if (first) {
			if (timed)
				start = now_ns();
			put(run, &c[0], i);
			get(run, &c[1], i);
			if (timed)
				run->rounds_us[i - from] = (now_ns() - start) / 1e3;
		} else {
			get(run, &c[0], i);
			put(run, &c[1], i);
		}
	}
}

static void pin_to(unsigned int n)
{
	cpu_set_t have, want;

	if (sched_getaffinity(0, sizeof(have), &have))
		return;
	n %= CPU_COUNT(&have);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &have) || n--)
			continue;
		CPU_ZERO(&want);
		CPU_SET(cpu, &want);
		sched_setaffinity(0, sizeof(want), &want);
		return;
	}
}

/* Puts this process before the other one, on the processor that both have. */
static void take_turns(bool goes_first)
{
	struct sched_param priority = { .sched_priority = goes_first ? 2 : 1 };

	if (sched_setscheduler(0, SCHED_FIFO, &priority))
		fail("no realtime priority: %s", strerror(errno));
}

/* Each process keeps its side of a channel and nothing of the other. */
static void take_side(struct channel *c, bool sends)
{
	close_both(sends ? c->rx : c->tx);
	(sends ? c->mechanism->sender : c->mechanism->receiver)(c);
}

static _Noreturn void child(const struct run *run, struct channel c[2],
			    unsigned int index)
{
	struct end *end = &stage->ends[index];
	bool first = index % 2 == 0;
	int counted;

	/* However the parent ends, fail() included. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != stage->parent)
		_exit(1);
	signal(SIGCHLD, SIG_DFL);
	if (run->turns != TURNS_FREE)
		pin_to(0);
	else if (run->pin)
		pin_to(index);
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
	transfer(run, c, first, 0, WARM_UP, false);
	counted = first && run->turns != TURNS_ALONE ? -1 : c[0].rx[0];

	/* Once before it counts: the files of /proc are opened and read alike. */
	read_counts(&end->before);
	read_paths(&end->before, counted);
	announce(&stage->ready);
	await(&stage->go, 1);
	read_counts(&end->before);
	end->start = now_ns();
	transfer(run, c, first, WARM_UP, WARM_UP + run->messages, true);
	end->stop = now_ns();
	read_counts(&end->after);
	read_paths(&end->after, counted);
	announce(&stage->done);
	await(&stage->leave, 1);
	_exit(0);
}

static void interrupt_sleep(int sig)
{
	(void)sig;
}

/* Waits until @n children have announced themselves, or one of them is dead. */
static void await_all(const struct run *run, unsigned int *word, unsigned int n)
{
	uint64_t start = now_ns();
	unsigned int now;
	siginfo_t info;

	while ((now = __atomic_load_n(word, __ATOMIC_SEQ_CST)) != n) {
		info.si_pid = 0;
		waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT);
		if (info.si_pid || now_ns() - start > STUCK_NS) {
			fail("%s, %zu bytes, %u pairs: %s", run->mechanism->name,
			     run->bytes, run->pairs,
			     info.si_pid ? "a process died" : "no progress");
		}
		futex_wait(word, now);
	}
}

static void add_up(const struct end *ends, unsigned int n, struct sample *sample)
{
	uint64_t start = UINT64_MAX, stop = 0;
	struct counts *sum = &sample->counts;

	for (const struct end *e = ends; e < ends + n; e++) {
		start = e->start < start ? e->start : start;
		stop = e->stop > stop ? e->stop : stop;
		sum->cpu_ns += e->after.cpu_ns - e->before.cpu_ns;
		sum->ctxsw += e->after.ctxsw - e->before.ctxsw;
		sum->faults += e->after.faults - e->before.faults;
		sum->wakeups += e->after.wakeups - e->before.wakeups;
		sum->pulled += e->after.pulled - e->before.pulled;
		sum->pushed += e->after.pushed - e->before.pushed;
	}
	sample->seconds = (stop - start) / 1e9;
}

void measure(const struct run *run, struct sample *sample)
{
	struct sigaction sa = { .sa_handler = interrupt_sleep };
	unsigned int n = run->turns == TURNS_ALONE ? 1 : 2 * run->pairs;
	unsigned int channels = run->pingpong ? 2 : 1;
	struct channel c[MAX_PAIRS][2];
	double allocs;

	if (!stage) {
		stage = mmap(NULL, sizeof(*stage), PROT_READ | PROT_WRITE,
			     MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
		if (stage == MAP_FAILED)
			fail("no memory");
		sigaction(SIGCHLD, &sa, NULL);
	}
	memset(stage, 0, sizeof(*stage));
	stage->parent = getpid();
	memset(sample, 0, sizeof(*sample));

	for (unsigned int i = 0; i < run->pairs; i++) {
		for (unsigned int k = 0; k < 2; k++) {
			channel_init(&c[i][k], run->mechanism, run->bytes);
			if (k < channels && run->mechanism->open(&c[i][k]))
				fail("%s cannot be had here: %s",
				     run->mechanism->name, strerror(errno));
		}
	}
	for (unsigned int i = 0; i < n; i++) {
		pid_t pid = fork();

		if (pid < 0)
			fail("fork: %s", strerror(errno));
		if (!pid) {
			for (unsigned int k = 0; k < run->pairs; k++) {
				if (k == i / 2)
					continue;
				channel_close(&c[k][0]);
				channel_close(&c[k][1]);
			}
			child(run, c[i / 2], i);
		}
	}
	for (unsigned int i = 0; i < run->pairs; i++) {
		channel_close(&c[i][0]);
		channel_close(&c[i][1]);
	}

	await_all(run, &stage->ready, n);
	allocs = read_allocs();
	announce(&stage->go);
	await_all(run, &stage->done, n);
	sample->allocs = read_allocs() - allocs;
	announce(&stage->leave);
	for (unsigned int i = 0; i < n; i++)
		while (wait(NULL) < 0 && errno == EINTR)
			;
	add_up(stage->ends, n, sample);
}
