/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Bytes that several writers send at once: words of eight bytes that hold the number of the
 * writer and the number of the word. Writes and reads are multiples of a word.
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

/* The words that a reader has received. */
struct words {
	unsigned long got[WRITERS];	/* number of words of each writer */
	unsigned long last;		/* writer of the last word */
	unsigned long run;		/* number of words of that writer in a row */
	unsigned char part[WORD];	/* the first bytes of an incomplete word */
	int parts;
};

/* Adds a word; true if it is the next one of its writer. */
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

/* Adds the next @len bytes; true if they complete the right words. */
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

/*
 * Reads once, at most @len bytes to @buf. Returns the result of read(2), or -EILSEQ if a word is
 * not the next one of its writer.
 */
static inline long words_read(struct words *w, int fd, void *buf, size_t len)
{
	long n = sys(read(fd, buf, len));

	return n > 0 && !words_take(w, buf, n) ? -EILSEQ : n;
}

/* The number of bytes that came from one writer. */
static inline long words_bytes(const struct words *w, int writer)
{
	return w->got[writer] * WORD;
}

#endif /* ZPIPE_TESTS_WORDS_H */
