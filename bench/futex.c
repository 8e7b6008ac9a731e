// SPDX-License-Identifier: GPL-2.0-only
/* Waiting for a word in memory that processes share. */
#define _GNU_SOURCE
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"

/* Returns when woken, after at most a second, on a signal, or spuriously. */
void futex_wait(uint32_t *word, uint32_t value)
{
	struct timespec second = { .tv_sec = 1 };

	syscall(SYS_futex, word, FUTEX_WAIT, value, &second, NULL, 0);
}

void futex_wake(uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* Pauses between two reads of a word that another processor writes. */
void relax(void)
{
#if __has_builtin(__builtin_ia32_pause)
	__builtin_ia32_pause();
#else
	__asm__ volatile("" ::: "memory");
#endif
}
