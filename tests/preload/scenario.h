/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Scenarios for programs that tests/preload.sh runs without libzpipe_preload.so and with it.
 *
 * A scenario runs twice: with a pipe of the kernel, which the program makes with the system
 * call, and with one that pipe2(3) makes. With the library that is a zpipe. The scenario logs
 * all that it sees, and both logs must be the same. Where they are not, a comment starting
 * with DIFFERENCE: names the difference, which docs/zpipe-preload.7 lists.
 */
#ifndef ZPIPE_TESTS_SCENARIO_H
#define ZPIPE_TESTS_SCENARIO_H

#include "preload.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/time.h>

#ifndef SLOWER
#define SLOWER		1
#endif
#define TIMEOUT		(120 * SLOWER)
#define ENTRIES		512
/* A call that waits longer than this, in milliseconds, is interrupted. */
#define TOO_LONG	(2000 * SLOWER)
#define SOON		(100 * SLOWER)

struct log {
	bool kernel;
	int entries;
	const char *what[ENTRIES];
	long value[ENTRIES];
};

typedef void scenario(struct log *log, const void *arg);

static inline void note(struct log *log, const char *what, long value)
{
	if (log->entries == ENTRIES)
		abort();
	log->what[log->entries] = what;
	log->value[log->entries++] = value;
}

/* Logs a call. If it waits too long, a signal ends it. */
#define NOTE(call)						\
	do {							\
		alarm_after(TOO_LONG);				\
		note(log, #call, sys(call));			\
		alarm_after(0);					\
		note(log, #call ", signals", alarms);		\
	} while (0)

static int sigpipes, alarms;

static inline void count_alarm(int sig)
{
	alarms++;
}

static inline void count_sigpipe(int sig)
{
	sigpipes++;
}

static inline void alarm_after(int ms)
{
	struct itimerval timer = {
		.it_value = { ms / 1000, ms % 1000 * 1000 },
	};

	setitimer(ITIMER_REAL, &timer, NULL);
}

static inline void handle_alarm(int flags)
{
	struct sigaction sa = { .sa_handler = count_alarm, .sa_flags = flags };

	sigaction(SIGALRM, &sa, NULL);
}

/* Runs a scenario twice and prints where the logs differ. Returns true if they do not. */
static inline bool same(scenario *run, const void *arg, const char *name)
{
	static struct log logs[2];
	struct sigaction sa = { .sa_handler = count_sigpipe };
	int i, first;

	sigaction(SIGPIPE, &sa, NULL);
	for (i = 0; i < 2; i++) {
		logs[i].kernel = i == 0;
		logs[i].entries = 0;
		sigpipes = 0;
		alarms = 0;
		handle_alarm(0);
		/* The lowest free descriptor: all above it are the scenario's. */
		first = open("/dev/null", O_RDONLY);
		run(&logs[i], arg);
		note(&logs[i], "SIGPIPEs", sigpipes);
		close_range(first, ~0U, 0);
	}
	for (i = 0; i < logs[0].entries && i < logs[1].entries; i++) {
		if (logs[0].value[i] == logs[1].value[i])
			continue;
		printf("# %s: entry %d, %s: %ld with the kernel's pipe, %ld with pipe2()\n", name,
		       i, logs[0].what[i], logs[0].value[i], logs[1].value[i]);
		return false;
	}
	return logs[0].entries == logs[1].entries;
}

static inline void make_pipe(struct log *log, int fd[2], int flags)
{
	if (log->kernel ? syscall(SYS_pipe2, fd, flags) : pipe2(fd, flags))
		abort();
	if (!log->kernel && zpipe_expected() && file_system(fd[0]) != ZPIPE_SUPER_MAGIC)
		abort();
}

static inline int again(int fd, int flags)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, flags);
}

static char stream[2 * FULL] __attribute__((aligned(PAGE))), buf[4 * FULL];

/* Writes bytes of the stream, from its start. */
static inline void fill(int fd, long bytes)
{
	long i;

	for (i = 0; i < bytes; i++)
		stream[i] = byte_at(i);
	if (write(fd, stream, bytes) != bytes)
		abort();
}

static inline long sum(const char *bytes, long len)
{
	unsigned long hash = 14695981039346656037UL;

	while (len-- > 0)
		hash = (hash ^ (unsigned char)*bytes++) * 1099511628211UL;
	return hash >> 1;
}

/* Reads and logs all that a pipe holds. */
static inline void note_pipe(struct log *log, int fd)
{
	int bytes = buffered(fd), got = 0;

	note(log, "bytes in the pipe", bytes);
	while (got < bytes) {
		ssize_t ret = read(fd, buf + got, bytes - got);

		if (ret <= 0)
			break;
		got += ret;
	}
	note(log, "bytes read", got);
	note(log, "sum of the pipe", sum(buf, got));
}

#endif /* ZPIPE_TESTS_SCENARIO_H */
