/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Routes with a pipe and something else: /dev/null behind it, a file before it, or TCP behind it.
 * The pipe is one of pipe(2) or a private pair.
 */
#ifndef ZPIPE_BENCH_ROUTE_H
#define ZPIPE_BENCH_ROUTE_H

#include "bench.h"

/* A way to move bytes between a pipe and something else. */
struct mover {
	/*
	 * Moves at most @len bytes from @from to @to, and waits for the first ones. @at is the
	 * offset in a file that is moved from, and is advanced; or NULL. Returns the number of
	 * bytes, or -1 with errno.
	 */
	ssize_t (*move)(int from, int to, off_t *at, size_t len);
	const char *call;	/* for messages */
};

extern const struct mover mover_splice;		/* splice(2) */
extern const struct mover mover_sendfile;	/* sendfile(2) */
extern const struct mover mover_to;		/* ZPIPE_IOC_SPLICE_TO */
extern const struct mover mover_from;		/* ZPIPE_IOC_SPLICE_FROM */
extern const struct mover mover_copy;		/* read(2) and write(2) */

size_t move_some(const struct mover *mover, int from, int to, off_t *at, size_t len);
void move_all(const struct mover *mover, int from, int to, off_t *at, size_t len);

/* Makes the pipe of a route. */
int open_either(struct channel *c);

#endif /* ZPIPE_BENCH_ROUTE_H */
