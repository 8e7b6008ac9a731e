// SPDX-License-Identifier: GPL-2.0-only
/* Mechanisms that cannot run on this machine, and the reasons. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench.h"

struct refusal *refusal;

void refuse_init(void)
{
	refusal = mmap(NULL, sizeof(*refusal), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (refusal == MAP_FAILED)
		fail("no memory");
}

/* If several processes cannot go on, the first reason is kept. */
int cannot(const char *what)
{
	int none = 0, error = errno ? errno : EIO;

	if (__atomic_compare_exchange_n(&refusal->error, &none, error, false,
					__ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		snprintf(refusal->what, sizeof(refusal->what), "%s", what);
	return -1;
}

void give_up(const char *what)
{
	cannot(what);
	_exit(1);
}
