// SPDX-License-Identifier: GPL-2.0-only
/*
 * One measurement. Each end is a process, and so is each carrier. All are set up and warm
 * before the clock starts, and none exits before the counters are read.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "stage.h"

#define STUCK_NS	60000000000ULL	/* many times the planned time */

struct stage *stage;
static pid_t pids[2 * MAX_PAIRS];
static pid_t carriers[2 * MAX_PAIRS];
static unsigned int nr_carriers;

void announce(uint32_t *word)
{
	__atomic_add_fetch(word, 1, __ATOMIC_SEQ_CST);
	futex_wake(word);
}

void await(uint32_t *word, uint32_t value)
{
	uint32_t now;

	while ((now = __atomic_load_n(word, __ATOMIC_SEQ_CST)) != value)
		futex_wait(word, now);
}

static void interrupt_sleep(int sig)
{
	(void)sig;
}

/*
 * Waits until @n children have announced themselves. Returns -1 if a child died and stored
 * its refusal. Fails if a child died without one, or on a timeout.
 */
static int await_all(const struct run *run, uint32_t *word, unsigned int n)
{
	uint64_t limit = STUCK_NS + 40e9 * options.target_s;
	uint64_t start = now_ns();
	siginfo_t info;
	uint32_t now;

	while ((now = __atomic_load_n(word, __ATOMIC_SEQ_CST)) != n) {
		info.si_pid = 0;
		waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT);
		if (info.si_pid && __atomic_load_n(&refusal->error, __ATOMIC_SEQ_CST))
			return -1;
		if (info.si_pid || now_ns() - start > limit) {
			fail("%s, %zu bytes, %u pairs: %s", run->mechanism->name,
			     run->bytes, run->pairs,
			     info.si_pid ? "a process died" : "no progress");
		}
		futex_wait(word, now);
	}
	return 0;
}

static void add_up(const struct run *run, unsigned int n, struct sample *sample)
{
	uint64_t start = UINT64_MAX, stop = 0, late = 0;
	struct counts *sum = &sample->counts;

	for (unsigned int i = 0; i < n; i++) {
		const struct end *e = &stage->ends[i];
		double cpu_ns = e->after.cpu_ns - e->before.cpu_ns;

		start = e->start < start ? e->start : start;
		stop = e->stop > stop ? e->stop : stop;
		*(i % 2 ? &sample->rx_cpu_ns : &sample->tx_cpu_ns) += cpu_ns;
		sum->cpu_ns += cpu_ns;
		sum->ctxsw += e->after.ctxsw - e->before.ctxsw;
		sum->faults += e->after.faults - e->before.faults;
		sum->wakeups += e->after.wakeups - e->before.wakeups;
		sum->pulled += e->after.pulled - e->before.pulled;
		sum->pushed += e->after.pushed - e->before.pushed;
		sum->gifted += e->after.gifted - e->before.gifted;
		sum->moved += e->after.moved - e->before.moved;
		sum->spun_us += e->after.spun_us - e->before.spun_us;
		for (unsigned int k = 0; k < NR_PERF; k++)
			sample->perf[k] += e->perf[k];
		sample->thp_kb += e->thp_kb;
		late += e->late;
	}
	sample->seconds = (stop - start) / 1e9;
	sample->late = (double)late / run->pairs / run->messages;
	sample->latencies = nr_latencies(run);
	sample->latency_us = stage->latency_us;
}

static void set_up(struct sample *sample)
{
	struct sigaction sa = { .sa_handler = interrupt_sleep };

	if (!stage) {
		stage = mmap(NULL, sizeof(*stage), PROT_READ | PROT_WRITE,
			     MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
		if (stage == MAP_FAILED)
			fail("no memory");
		sigaction(SIGCHLD, &sa, NULL);
	}
	memset(stage, 0, sizeof(*stage));
	stage->parent = getpid();
	memset(refusal, 0, sizeof(*refusal));
	memset(sample, 0, sizeof(*sample));
}

static void close_channels(struct channel c[][2], unsigned int from, unsigned int to)
{
	for (unsigned int i = from; i < to; i++) {
		channel_close(&c[i][0]);
		channel_close(&c[i][1]);
	}
}

static int open_channels(const struct run *run, struct channel c[][2])
{
	unsigned int channels = run->pingpong ? 2 : 1;
	int ret = 0;

	for (unsigned int i = 0; i < run->pairs; i++) {
		for (unsigned int k = 0; k < 2; k++) {
			channel_init(&c[i][k], run->mechanism, run->bytes);
			if (k < channels && !ret)
				ret = run->mechanism->open(&c[i][k]);
		}
	}
	if (ret)
		close_channels(c, 0, run->pairs);
	return ret;
}

static void start(const struct run *run, struct channel c[][2], unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		pids[i] = fork();
		if (pids[i] < 0)
			fail("fork: %s", strerror(errno));
		if (pids[i])
			continue;
		close_channels(c, 0, i / 2);
		close_channels(c, i / 2 + 1, run->pairs);
		play(run, c[i / 2], i);
	}
}

static void start_carrier(const struct run *run, struct channel c)
{
	pid_t pid = fork();

	if (pid < 0)
		fail("fork: %s", strerror(errno));
	if (pid) {
		carriers[nr_carriers++] = pid;
		return;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != stage->parent)
		_exit(1);
	signal(SIGCHLD, SIG_DFL);
	close_both(c.tx);
	close_both(c.rx);
	run->mechanism->carry(&c);
	_exit(0);
}

/* Starts the processes between the ends. */
static void start_carriers(const struct run *run, struct channel c[][2])
{
	unsigned int channels = run->pingpong ? 2 : 1;

	nr_carriers = 0;
	if (!run->mechanism->carry)
		return;
	for (unsigned int i = 0; i < run->pairs; i++)
		for (unsigned int k = 0; k < channels; k++)
			start_carrier(run, c[i][k]);
}

/* Adds @factor times what the carriers have used so far. */
static void add_carriers(struct sample *sample, int factor)
{
	struct counts counts;

	for (unsigned int i = 0; i < nr_carriers; i++) {
		read_counts_of(carriers[i], &counts);
		sample->mid_cpu_ns += factor * counts.cpu_ns;
		sample->counts.cpu_ns += factor * counts.cpu_ns;
		sample->counts.ctxsw += factor * counts.ctxsw;
	}
}

static void end(pid_t pid, int sig)
{
	if (sig)
		kill(pid, sig);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

/* Ends them before the ends of their channels, whose end they would notice. */
static void stop_carriers(void)
{
	for (unsigned int i = 0; i < nr_carriers; i++)
		end(carriers[i], SIGKILL);
}

static void reap(unsigned int n, int sig)
{
	for (unsigned int i = 0; i < n; i++)
		end(pids[i], sig);
}

/* Returns 0, or -1 if the mechanism cannot run here: see refusal. */
int measure(const struct run *run, struct sample *sample)
{
	unsigned int n = run->turns == TURNS_ALONE ? 1 : 2 * run->pairs;
	struct channel c[MAX_PAIRS][2];
	double allocs;
	int ret;

	set_up(sample);
	ret = open_channels(run, c);
	if (ret)
		return ret;
	sample->capacity = c[0][0].capacity;
	start(run, c, n);
	start_carriers(run, c);
	close_channels(c, 0, run->pairs);

	ret = await_all(run, &stage->ready, n);
	if (!ret) {
		allocs = read_allocs();
		add_carriers(sample, -1);
		announce(&stage->go);
		ret = await_all(run, &stage->done, n);
		add_carriers(sample, 1);
		sample->allocs = read_allocs() - allocs;
	}
	stop_carriers();
	if (ret) {
		reap(n, SIGKILL);
		return ret;
	}
	announce(&stage->leave);
	reap(n, 0);
	add_up(run, n, sample);
	return 0;
}
