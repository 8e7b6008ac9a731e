// SPDX-License-Identifier: GPL-2.0-only
/*
 * gift: a parent gifts its child a huge page through a private pair. Each prints which
 * physical page it has before and after, from /proc/PID/pagemap, which only root can read,
 * and the report of the transfer. Then the parent gifts a second page, and the first one
 * comes back.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "zpipe2.h"

#define HUGE_PAGE	(2UL << 20)

static char *huge_page(int filled_with)
{
	char *at = mmap(NULL, 2 * HUGE_PAGE, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED)
		fail("mmap");
	at += -(uintptr_t)at % HUGE_PAGE;
	madvise(at, HUGE_PAGE, MADV_HUGEPAGE);
	memset(at, filled_with, HUGE_PAGE);
	return at;
}

/* Returns the page frame number. */
static unsigned long frame(const char *at)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t entry = 0;

	if (pread(fd, &entry, sizeof(entry), (uintptr_t)at / 4096 * 8) != sizeof(entry))
		fail("pagemap");
	close(fd);
	return entry & ((1ULL << 55) - 1);
}

static struct zpipe_transfer transfer(int fd, unsigned long command, char *at,
				      size_t bytes, unsigned int flags)
{
	struct zpipe_iovec range = { .base = (uintptr_t)at, .bytes = bytes };
	struct zpipe_transfer args = {
		.size = sizeof(args), .flags = flags,
		.iov = (uintptr_t)&range, .iovcnt = 1,
	};

	if (ioctl(fd, command, &args))
		fail("ioctl");
	return args;
}

static void report(const char *who, const char *did, const struct zpipe_transfer *t)
{
	printf("  %s: %s %llu bytes: %llu moved, %llu copied", who, did,
	       (unsigned long long)t->done, (unsigned long long)t->moved,
	       (unsigned long long)t->copied);
	for (int i = 0; i < ZPIPE_REASONS; i++)
		if (t->why[i])
			printf(" (reason %d)", i);
	printf("\n");
	fflush(stdout);
}

/* Receives two huge pages, also if they had to be copied. */
static void child(int fd, int ready)
{
	char *at = huge_page('c');

	for (int i = 0; i < 2; i++) {
		unsigned long had = frame(at);
		struct zpipe_transfer t;
		unsigned long long done = 0;

		/* One transfer is enough, unless the page had to be copied. */
		while (done < HUGE_PAGE) {
			t = transfer(fd, ZPIPE_IOC_MOVE, at + done, HUGE_PAGE - done, ZPIPE_RETURN);
			done += t.done;
			report("child ", "got ", &t);
		}
		printf("  child : page %#lx was here, now it is %#lx, full of '%c'\n", had,
		       frame(at), at[HUGE_PAGE - 1]);
		fflush(stdout);
		if (write(ready, "", 1) != 1)
			fail("write");
	}
	exit(0);
}

int main(void)
{
	int fds[2], ready[2], status;
	char *at, byte;

	zpipe2(fds, 0);
	if (pipe(ready))
		fail("pipe");
	if (!fork()) {
		close(fds[1]);
		child(fds[0], ready[1]);
	}
	close(fds[0]);
	at = huge_page('a');
	for (int i = 0; i < 2; i++) {
		unsigned long had = frame(at);
		struct zpipe_transfer t;

		memset(at, 'a' + i, HUGE_PAGE);
		t = transfer(fds[1], ZPIPE_IOC_GIFT, at, HUGE_PAGE, ZPIPE_ANY);
		report("parent", "gave", &t);
		printf("  parent: page %#lx was here, now it is %#lx, full of '%c'\n", had,
		       frame(at), at[0] ? at[0] : '0');
		fflush(stdout);
		if (read(ready[0], &byte, 1) != 1)
			fail("read");
	}
	wait(&status);
	return status ? 1 : 0;
}
