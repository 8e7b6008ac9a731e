// SPDX-License-Identifier: GPL-2.0-only
/*
 * zpipe with windows: the sender makes its data in frames of a write window and commits
 * them. The receiver peeks at the bytes and consumes them.
 *
 * A write window has space for two messages: one can be filled while the other is in the
 * pipe. A read window is as large as one message and shows the part of it that the pipe
 * holds: a pipe holds few frames. One call consumes the bytes in view and waits for the
 * next ones.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <linux/zpipe.h>

#include "bench.h"

#define LEAST		(2 * ZPIPE_FRAME)	/* bytes of a window */
#define VIEWS		64	/* of one peek */

/* The bytes in view of this process. It receives on at most one channel. */
static struct {
	struct zpipe_view views[VIEWS];
	unsigned int nr, next;	/* number of views; the view that is read now */
	size_t offset;		/* in that view */
	size_t bytes;		/* in all views */
} shown;

static int open_frames(struct channel *c)
{
	if (c->bytes % ZPIPE_FRAME) {
		errno = EMSGSIZE;
		return cannot("messages of no whole frames");
	}
	return zpipe_pair(c, 0);
}

static int open_any(struct channel *c)
{
	return zpipe_pair(c, 0);
}

static size_t frames_for(size_t bytes)
{
	return (bytes + ZPIPE_FRAME - 1) / ZPIPE_FRAME * ZPIPE_FRAME;
}

/*
 * Makes a window of at least @bytes bytes and maps it as the region. Returns its
 * descriptor.
 */
static int make_window(struct channel *c, int end, unsigned int flags, size_t bytes)
{
	struct zpipe_window arg = {
		.size = sizeof(arg), .flags = flags,
		.bytes = bytes < LEAST ? LEAST : bytes,
	};
	int prot = PROT_READ | (flags & ZPIPE_WINDOW_WRITE ? PROT_WRITE : 0);

	if (ioctl(end, ZPIPE_IOC_WINDOW, &arg))
		give_up("ZPIPE_IOC_WINDOW");
	c->region_bytes = arg.bytes;
	c->region = reserve(&c->region_bytes);
	if (mmap(c->region, arg.bytes, prot, MAP_SHARED | MAP_FIXED, arg.fd, 0) ==
	    MAP_FAILED)
		give_up("mmap of a window");
	return arg.fd;
}

static void window_sender(struct channel *c)
{
	c->stride = frames_for(c->bytes + options.align);
	c->buffers = options.working_set / c->stride;
	if (c->buffers < 2)
		c->buffers = 2;
	c->tx[1] = make_window(c, c->tx[0], ZPIPE_WINDOW_WRITE, c->stride * c->buffers);
	c->buf = c->region + options.align;
}

static void commit(struct channel *c, size_t offset, size_t bytes)
{
	while (bytes) {
		struct zpipe_commit arg = {
			.size = sizeof(arg), .offset = offset, .bytes = bytes,
		};

		if (ioctl(c->tx[1], ZPIPE_IOC_COMMIT, &arg) || !arg.done)
			fail("commit of %zu: %s", bytes, strerror(errno));
		offset += arg.done;
		bytes -= arg.done;
	}
}

static void window_send(struct channel *c, void *msg)
{
	commit(c, (unsigned char *)msg - c->region, c->bytes);
}

static void window_receiver(struct channel *c)
{
	c->rx[1] = make_window(c, c->rx[0], ZPIPE_WINDOW_READ, frames_for(c->bytes));
}

/* Consumes the bytes in view and waits for more. */
static void show_next(struct channel *c)
{
	struct zpipe_peek arg = {
		.size = sizeof(arg), .consume = shown.bytes,
		.views = (uintptr_t)shown.views, .nr_views = VIEWS,
	};

	if (ioctl(c->rx[1], ZPIPE_IOC_PEEK, &arg) || !arg.bytes)
		fail("peek: %s", strerror(errno));
	shown.nr = arg.nr_views;
	shown.next = 0;
	shown.offset = 0;
	shown.bytes = arg.bytes;
}

static const void *window_part(struct channel *c, size_t most, size_t *len)
{
	const struct zpipe_view *view;
	const void *at;

	if (shown.next == shown.nr)
		show_next(c);
	view = &shown.views[shown.next];
	at = c->region + view->offset + shown.offset;
	*len = view->bytes - shown.offset < most ? view->bytes - shown.offset : most;
	shown.offset += *len;
	if (shown.offset == view->bytes) {
		shown.next++;
		shown.offset = 0;
	}
	return at;
}

/*
 * zpipe-window-gather: small messages side by side in a frame. The frame is committed when
 * no further message fits.
 */

static int open_gather(struct channel *c)
{
	if (c->bytes >= ZPIPE_FRAME) {
		errno = EMSGSIZE;
		return cannot("messages that fill a frame");
	}
	if (options.align) {
		errno = EINVAL;
		return cannot("messages that begin somewhere else");
	}
	return zpipe_pair(c, 0);
}

static void gather_sender(struct channel *c)
{
	c->tx[1] = make_window(c, c->tx[0], ZPIPE_WINDOW_WRITE, options.working_set);
	c->stride = ZPIPE_FRAME;
	c->buffers = c->region_bytes / c->stride;
	c->buf = c->region;
}

/* Returns the address of the next message in the frame at @c->buf. */
static void *gather_claim(struct channel *c)
{
	return c->buf + c->filled;
}

static void gather_flush(struct channel *c)
{
	if (!c->filled)
		return;
	commit(c, c->buf - c->region, c->filled);
	c->filled = 0;
	c->next = (c->next + 1) % c->buffers;
	c->buf = c->region + c->next * c->stride;
}

static void gather_send(struct channel *c, void *msg)
{
	(void)msg;
	c->filled += c->bytes;
	if (c->filled + c->bytes > c->stride)
		gather_flush(c);
}

const struct mechanism mechanism_zpipe_window = {
	.name = "zpipe-window",
	.what = "made in a write window, looked at in a read window",
	.stable = true, .spins = true,
	.open = open_frames, .sender = window_sender, .receiver = window_receiver,
	.claim = claim_buffer, .send = window_send, .part = window_part,
};

const struct mechanism mechanism_zpipe_commit_read = {
	.name = "zpipe-commit-read",
	.what = "made in a write window, and read(2), which copies",
	.stable = true, .spins = true, .stream = true,
	.open = open_frames, .sender = window_sender, .receiver = stream_receiver,
	.claim = claim_buffer, .send = window_send,
	.receive = stream_receive, .release = keep_buffer,
};

const struct mechanism mechanism_zpipe_write_peek = {
	.name = "zpipe-write-peek",
	.what = "write(2), looked at in a read window",
	.stable = true, .spins = true,
	.open = open_any, .sender = stream_sender, .receiver = window_receiver,
	.claim = claim_buffer, .send = stream_send, .part = window_part,
};

const struct mechanism mechanism_zpipe_window_gather = {
	.name = "zpipe-window-gather",
	.what = "zpipe-window of small messages, as many at a time as fill a frame",
	.stable = true, .spins = true,
	.open = open_gather, .sender = gather_sender, .receiver = window_receiver,
	.claim = gather_claim, .send = gather_send, .flush = gather_flush,
	.part = window_part,
};
