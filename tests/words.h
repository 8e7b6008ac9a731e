/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What several writers send at once: words of eight bytes that say whose they
 * are and which in the order. Writes and reads are multiples of a word.
 */
#ifndef ZPIPE_TESTS_WORDS_H
#define ZPIPE_TESTS_WORDS_H

#include "oracle.h"

#define WORD		8
#define WRITERS		4

static inline void words_fill(void *buf, unsigned long writer,
			      unsigned long first, size_t len)
{
	unsigned long *word = buf;
	size_t i;

	for (i = 0; i < len / WORD; i++)
		word[i] = writer << 56 | (first + i);
}

/* What a reader got so far. */
struct words {
	unsigned long got[WRITERS];	/* words of each writer */
	unsigned long last;		/* whose word it was */
	unsigned long run;		/* words of that writer in a row */
	unsigned char part[WORD];	/* of a word that is not complete */
	int parts;
};

/* One more; whether it is the next of its writer. */
static inline bool words_one(struct words *w, unsigned long word)
{
	unsigned long writer = word >> 56;

	if (writer >= WRITERS || (word & (-1UL >> 8)) != w->got[writer])
		return false;
	w->got[writer]++;
	w->run = writer == w->last ? w->run + 1 : 1;
	w->last = writer;
	return true;
}

/* The next @len bytes; whether they are right. */
static inline bool words_take(struct words *w, const unsigned char *buf,
			      size_t len)
{
	unsigned long word;

	while (len--) {
		w->part[w->parts++] = *buf++;
		if (w->parts < WORD)
			continue;
		w->parts = 0;
		memcpy(&word, w->part, WORD);
		if (!words_one(w, word))
			return false;
	}
	return true;
}

/* Reads once, at most @len bytes of @buf; -EILSEQ if a word is not the next. */
static inline long words_read(struct words *w, int fd, void *buf, size_t len)
{
	long n = sys(read(fd, buf, len));

	return n > 0 && !words_take(w, buf, n) ? -EILSEQ : n;
}

/* Bytes that came from one writer. */
static inline long words_bytes(const struct words *w, int writer)
{
	return w->got[writer] * WORD;
}

#endif /* ZPIPE_TESTS_WORDS_H */
