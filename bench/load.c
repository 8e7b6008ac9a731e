// SPDX-License-Identifier: GPL-2.0-only
/* Processes that are always busy, so that the ends of a pair have to share processors. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

static pid_t *busy;
static unsigned int nr_busy;

void start_load(unsigned int processes)
{
	pid_t parent = getpid();

	busy = calloc(processes + 1, sizeof(*busy));
	if (!busy)
		fail("no memory");
	for (; nr_busy < processes; nr_busy++) {
		pid_t pid = fork();

		if (pid < 0)
			fail("fork: %s", strerror(errno));
		if (!pid) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			/* Otherwise the scheduler would move it to another processor. */
			if (!options.roam)
				pin_to(nr_busy);
			while (getppid() == parent)
				for (volatile int i = 0; i < 10000000; i++)
					;
			_exit(0);
		}
		busy[nr_busy] = pid;
	}
}

void stop_load(void)
{
	while (nr_busy) {
		pid_t pid = busy[--nr_busy];

		kill(pid, SIGKILL);
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	free(busy);
}
