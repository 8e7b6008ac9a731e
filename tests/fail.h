/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Failures on demand: /proc/thread-self/fail-nth makes the n-th allocation, or copy from or to
 * user memory, of a call fail. This needs a kernel with fault injection.
 */
#ifndef ZPIPE_TESTS_FAIL_H
#define ZPIPE_TESTS_FAIL_H

#include "oracle.h"

#define DEBUGFS		"/sys/kernel/debug"

static const struct {
	const char *file, *value, *restored;
} fail_settings[] = {
	/* By default only allocations that may not sleep count for fail-nth. */
	{ "failslab/ignore-gfp-wait", "N", "Y" },
	{ "fail_page_alloc/ignore-gfp-wait", "N", "Y" },
	{ "fail_page_alloc/ignore-gfp-highmem", "N", "Y" },
	{ "fail_page_alloc/min-order", "0", "1" },
	{ "failslab/verbose", "0", "2" },
	{ "fail_page_alloc/verbose", "0", "2" },
	{ "fail_usercopy/verbose", "0", "2" },
	/* Random failures are for tasks that set /proc/self/make-it-fail. */
	{ "failslab/task-filter", "Y", "N" },
	{ "fail_page_alloc/task-filter", "Y", "N" },
	{ "fail_usercopy/task-filter", "Y", "N" },
	{ "failslab/times", "-1", "1" },
	{ "fail_page_alloc/times", "-1", "1" },
	{ "fail_usercopy/times", "-1", "1" },
};

static inline bool put_all(bool restore)
{
	bool done = true;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(fail_settings); i++)
		done &= !write_line(DEBUGFS, fail_settings[i].file,
				    restore ? fail_settings[i].restored :
					      fail_settings[i].value);
	return done;
}

/* Makes the @n-th place that can fail do so, from here on. */
static inline void arm(int nth, int n)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%d", n);

	if (pwrite(nth, text, len, 0) != len)
		abort();
}

/*
 * Ends arm(). Returns 0 if the failure came, otherwise how many more places the call would have
 * needed. The read and the write here contain copies that can fail, too. If such a copy takes
 * the failure, the call before had fewer than n places: the read fails, and this returns 1. A
 * write that fails is repeated.
 */
static inline int disarm_left(int nth)
{
	char text[16] = "";
	ssize_t n = pread(nth, text, sizeof(text) - 1, 0);

	if (pwrite(nth, "0", 1, 0) != 1 && pwrite(nth, "0", 1, 0) != 1)
		abort();
	return n > 0 ? atoi(text) : 1;
}

/* Ends arm(); true if the failure came. */
static inline bool disarm(int nth)
{
	return !disarm_left(nth);
}

#endif /* ZPIPE_TESTS_FAIL_H */
