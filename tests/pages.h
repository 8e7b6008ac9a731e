/* SPDX-License-Identifier: GPL-2.0-only */
/* Contents and address of huge pages, and the kernel's counters for them. */
#ifndef ZPIPE_TESTS_PAGES_H
#define ZPIPE_TESTS_PAGES_H

#include "gift.h"

#define WORDS		(HUGE_SIZE / 8)
#define HUGE_KIB	(HUGE_SIZE / 1024)

/*
 * The words of a page count up, with the page's number in the upper half; number 0 means zeros.
 * To fill a page takes far less time than with the stream.
 */
static inline unsigned long page_word(unsigned long number, size_t i)
{
	return number ? number << 32 | i : 0;
}

static inline void page_fill(void *at, unsigned long number)
{
	unsigned long *words = at;
	size_t i;

	for (i = 0; i < WORDS; i++)
		words[i] = page_word(number, i);
}

/* True if @buf holds @bytes bytes from offset @off on of the page with that number. */
static inline bool part_is(const void *buf, unsigned long number, size_t off, size_t bytes)
{
	const unsigned char *p = buf;
	unsigned long word;
	size_t i, n;

	for (i = 0; i < bytes; i += n) {
		size_t in = (off + i) % 8;

		n = 8 - in < bytes - i ? 8 - in : bytes - i;
		word = page_word(number, (off + i) / 8);
		if (memcmp(p + i, (char *)&word + in, n))
			return false;
	}
	return true;
}

static inline bool page_is(const void *at, unsigned long number)
{
	const unsigned long *words = at;
	size_t i;

	for (i = 0; i < WORDS; i++)
		if (words[i] != page_word(number, i))
			return false;
	return true;
}

/* The line @name of the mapping of @at in smaps, in KiB; -1 if there is none. */
static inline long smaps_kib(const void *at, const char *name)
{
	unsigned long start, end, addr = (unsigned long)at;
	size_t len = strlen(name);
	char line[300];
	bool in = false;
	long n = -1;
	FILE *f = fopen("/proc/self/smaps", "r");

	while (f && n < 0 && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			in = start <= addr && addr < end;
		else if (in && !strncmp(line, name, len) && line[len] == ':')
			n = strtol(line + len + 1, NULL, 10);
	}
	if (f)
		fclose(f);
	return n;
}

/*
 * True if one entry of a page table maps the whole page. The page must be alone in its mapping.
 */
static inline bool is_whole(const void *at)
{
	return smaps_kib(at, "AnonHugePages") == HUGE_KIB;
}

/* A number of /proc/meminfo, in KiB. Flushes the counters of all processors first. */
static inline long meminfo(const char *name)
{
	write_line("/proc/sys/vm", "stat_refresh", "1");
	return number_in("/proc/meminfo", name);
}

/* A child's function: gifts pages of its own, with numbers from @c->arg on. */
static long give_numbers(struct child *c)
{
	struct ends e = { .kind = c->flags, .fd = { -1, c->fd } };
	unsigned char *at = hole(c->len);
	unsigned long i;

	for (i = 0; i < c->len; i++)
		page_fill(at + i * HUGE_SIZE, (unsigned long)c->arg + i);
	collapse(at, c->len * HUGE_SIZE);
	return gift(&e, at, c->len * HUGE_SIZE).ret;
}

static inline void child_give(struct child *c, struct ends *e, size_t pages,
			      unsigned long number)
{
	*c = (struct child) {
		.nr = is_zpipe(e->kind) ? SYS_ioctl : SYS_writev, .fn = give_numbers,
		.fd = e->fd[1], .drop = e->fd[0], .len = pages, .flags = e->kind,
		.arg = (void *)number,
	};
	child_start(c, 0);
}

/*
 * Gifts the page at @at, which has that @number, and reads as many bytes as the gift reported.
 * True if they are right and the pipe is empty then. Nobody reads during the gift: so a copy
 * stops when the pipe is full.
 */
static inline bool goes(struct ends *e, void *at, unsigned long number, struct gifted *g)
{
	struct iovec iov = { at, HUGE_SIZE };
	unsigned char *to = hole(2) + PAGE;
	bool right;

	*g = gift_flags(e, &iov, 1, ZPIPE_ALWAYS | ZPIPE_NONBLOCK);
	right = g->ret > 0 && fetch(e, to, g->ret, 0).ret == g->ret &&
		part_is(to, number, 0, g->ret) && !fionread(e->fd[0]);
	munmap(to - PAGE, 2 * HUGE_SIZE);
	if (!g->moved)
		tell_reasons(g);
	return right;
}

#endif
