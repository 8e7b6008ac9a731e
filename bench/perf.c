// SPDX-License-Identifier: GPL-2.0-only
/*
 * perf_event_open(2), for each process, including the kernel: most events occur in system
 * calls. If only user space may be counted, nothing is counted.
 */
#define _GNU_SOURCE
#include <linux/perf_event.h>
#include <math.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bench.h"

static const uint64_t events[NR_PERF] = {
	[PERF_INSTRUCTIONS] = PERF_COUNT_HW_INSTRUCTIONS,
	[PERF_CYCLES] = PERF_COUNT_HW_CPU_CYCLES,
	[PERF_LLC_MISSES] = PERF_COUNT_HW_CACHE_MISSES,
};

static int fds[NR_PERF] = { -1, -1, -1 };

static int open_event(enum perf event)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_HARDWARE, .size = sizeof(attr),
		.config = events[event], .disabled = 1,
		.read_format = PERF_FORMAT_TOTAL_TIME_ENABLED |
			       PERF_FORMAT_TOTAL_TIME_RUNNING,
	};

	return syscall(SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
}

bool perf_allowed(void)
{
	int fd = open_event(PERF_INSTRUCTIONS);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

void perf_open(void)
{
	for (unsigned int i = 0; i < NR_PERF; i++)
		fds[i] = open_event(i);
}

void perf_start(void)
{
	for (unsigned int i = 0; i < NR_PERF; i++)
		if (fds[i] >= 0)
			ioctl(fds[i], PERF_EVENT_IOC_ENABLE, 0);
}

/*
 * NAN for events that could not be counted. Counters that shared the hardware are scaled.
 */
void perf_stop(double counts[NR_PERF])
{
	struct {
		uint64_t count, enabled, running;
	} got;

	for (unsigned int i = 0; i < NR_PERF; i++) {
		counts[i] = NAN;
		if (fds[i] < 0)
			continue;
		ioctl(fds[i], PERF_EVENT_IOC_DISABLE, 0);
		if (read(fds[i], &got, sizeof(got)) == sizeof(got) && got.running)
			counts[i] = (double)got.count * got.enabled / got.running;
	}
}
