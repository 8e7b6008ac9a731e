// SPDX-License-Identifier: GPL-2.0-only
/* Counts that the kernel keeps of a process and of the machine. */
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

/* Reads a file of /proc into a buffer that the next call overwrites. */
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
 * The scheduler counts the wakeups of a task only on request, and then each wakeup costs a
 * little more. So the counting is on only in rounds that are not timed.
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
 * User plus system time has the same sum by either clock. CLOCK_PROCESS_CPUTIME_ID has it
 * in nanoseconds.
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

/*
 * Returns the number in the line of @text that begins with @key; NAN if no such line
 * exists.
 */
static double value_of(const char *text, const char *key)
{
	const char *at = text ? strstr(text, key) : NULL;

	return at ? strtod(at + strlen(key), NULL) : NAN;
}

/*
 * Reads which path the bytes took and how long both ends spun. zpipe reports both in the
 * fdinfo of a descriptor. All are 0 if @here is false, since one end counts for both.
 */
void read_paths(struct counts *counts, bool here, int fd)
{
	char path[40], *text;

	counts->pulled = 0;
	counts->pushed = 0;
	counts->gifted = 0;
	counts->moved = 0;
	counts->spun_us = 0;
	if (!here)
		return;
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	text = slurp(path);
	counts->pulled = value_of(text, "zpipe-bytes-pulled:");
	counts->pushed = value_of(text, "zpipe-bytes-pushed:");
	counts->gifted = value_of(text, "zpipe-gifts:") * HUGE_PAGE +
			 value_of(text, "zpipe-small-gifts:") * PAGE;
	counts->moved = value_of(text, "zpipe-moves:") * HUGE_PAGE +
			 value_of(text, "zpipe-small-moves:") * PAGE;
	counts->spun_us = value_of(text, "zpipe-spun-us-read:") +
			  value_of(text, "zpipe-spun-us-write:");
}

/* Like read_counts(), of another process, without its page faults and wakeups. */
void read_counts_of(pid_t pid, struct counts *counts)
{
	char path[40], *text;
	clockid_t clock;

	memset(counts, 0, sizeof(*counts));
	counts->cpu_ns = clock_getcpuclockid(pid, &clock) ? NAN : clock_ns(clock);
	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	text = slurp(path);
	counts->ctxsw = value_of(text, "\nvoluntary_ctxt_switches:") +
			value_of(text, "nonvoluntary_ctxt_switches:");
}

/* Kilobytes of the memory at @at that this process has in huge pages. */
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

/* Ticks during which processors were idle. */
static double read_idle(void)
{
	char *line = slurp("/proc/stat");
	double idle, iowait;

	if (!line || sscanf(line, "cpu %*f %*f %*f %lf %lf", &idle, &iowait) != 2)
		return NAN;
	return idle + iowait;
}

/*
 * Waits until the machine is idle. After boot it is busy for some seconds, for example with
 * tests of its cryptographic algorithms.
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
	fprintf(stderr, "bench: this machine is busy with other work\n");
}
