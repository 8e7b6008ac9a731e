// SPDX-License-Identifier: GPL-2.0-only
/* What the kernel counts of a process and of the machine. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

uint64_t now_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

/* A file of /proc, from a buffer that the next call uses again. */
char *slurp(const char *path)
{
	static char text[256 << 10];
	size_t used = 0;
	ssize_t n;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return NULL;
	while (used < sizeof(text) - 1 &&
	       (n = read(fd, text + used, sizeof(text) - 1 - used)) > 0)
		used += n;
	close(fd);
	text[used] = '\0';
	return text;
}

static bool counting_wakeups;

/*
 * The scheduler counts the wakeups of a task only when told to, and that makes
 * each a little dearer: so it is on in rounds that are not timed.
 */
bool count_wakeups(bool on)
{
	static const char path[] = "/proc/sys/kernel/sched_schedstats";
	static char before = '0';
	const char *text = on ? slurp(path) : NULL;
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (text && *text)
		before = *text;
	counting_wakeups = fd >= 0 && write(fd, on ? "1" : &before, 1) == 1 && on;
	if (fd >= 0)
		close(fd);
	return counting_wakeups;
}

static double read_wakeups(void)
{
	char *text, *at;

	if (!counting_wakeups)
		return NAN;
	text = slurp("/proc/self/sched");
	at = text ? strstr(text, "nr_wakeups ") : NULL;
	at = at ? strchr(at, ':') : NULL;
	return at ? strtod(at + 1, NULL) : NAN;
}

/*
 * User plus system time is the same sum by either clock; this one has it in
 * nanoseconds.
 */
void read_counts(struct counts *counts)
{
	struct rusage usage;

	counts->wakeups = read_wakeups();
	getrusage(RUSAGE_SELF, &usage);
	counts->ctxsw = usage.ru_nvcsw + usage.ru_nivcsw;
	counts->faults = usage.ru_minflt + usage.ru_majflt;
	counts->cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}

/* What a line of @text that begins with @key says; NAN: there is none. */
static double value_of(const char *text, const char *key)
{
	const char *at = text ? strstr(text, key) : NULL;

	return at ? strtod(at + strlen(key), NULL) : NAN;
}

/*
 * By which path bytes came, and how long both ends spun: zpipe says so of a
 * descriptor. Nothing is added up where it does not count @here.
 */
void read_paths(struct counts *counts, bool here, int fd)
{
	char path[40], *text;

	counts->pulled = 0;
	counts->pushed = 0;
	counts->gifted = 0;
	counts->landed = 0;
	counts->spun_us = 0;
	if (!here)
		return;
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	text = slurp(path);
	counts->pulled = value_of(text, "zpipe-bytes-pulled:");
	counts->pushed = value_of(text, "zpipe-bytes-pushed:");
	counts->gifted = value_of(text, "zpipe-gifts:") * HUGE_PAGE +
			 value_of(text, "zpipe-small-gifts:") * PAGE;
	counts->landed = value_of(text, "zpipe-moves:") * HUGE_PAGE +
			 value_of(text, "zpipe-small-moves:") * PAGE;
	counts->spun_us = value_of(text, "zpipe-spun-us-read:") +
			  value_of(text, "zpipe-spun-us-write:");
}

/* How much of the memory at @at this process has in huge pages. */
double read_huge_kb(const void *at, size_t len)
{
	static const char * const keys[] = {
		"AnonHugePages:", "ShmemPmdMapped:", "FilePmdMapped:",
		"Shared_Hugetlb:", "Private_Hugetlb:",
	};
	unsigned long start, end, from = (unsigned long)at;
	char *line = slurp("/proc/self/smaps");
	bool ours = false;
	double kb = 0;

	for (; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			ours = start < from + len && end > from;
		for (size_t i = 0; ours && i < ARRAY_SIZE(keys); i++)
			if (!strncmp(line, keys[i], strlen(keys[i])))
				kb += strtod(line + strlen(keys[i]), NULL);
	}
	return kb;
}

/* Pages allocated since boot, of all zones and processors. */
double read_allocs(void)
{
	char *at = slurp("/proc/vmstat");
	double sum = 0;

	while (at && (at = strstr(at, "\npgalloc_"))) {
		at = strchr(at, ' ');
		sum += strtod(at, &at);
	}
	return sum;
}

/* The time, in ticks, that processors did nothing. */
static double read_idle(void)
{
	char *line = slurp("/proc/stat");
	double idle, iowait;

	if (!line || sscanf(line, "cpu %*f %*f %*f %lf %lf", &idle, &iowait) != 2)
		return NAN;
	return idle + iowait;
}

/*
 * A machine that was just booted has work of its own for some seconds, such as
 * trying its cryptographic algorithms. Waits until it has not.
 */
void settle(void)
{
	const struct timespec nap = { .tv_nsec = 300 * 1000 * 1000 };
	double all = 0.3 * sysconf(_SC_CLK_TCK) * sysconf(_SC_NPROCESSORS_ONLN);
	double before;

	for (int i = 0; i < 40; i++) {
		before = read_idle();
		nanosleep(&nap, NULL);
		if (!(read_idle() - before < 0.9 * all))
			return;
	}
	fprintf(stderr, "bench: this machine has other things to do\n");
}
