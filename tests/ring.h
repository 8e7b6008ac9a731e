/* SPDX-License-Identifier: GPL-2.0-only */
/* A minimal io_uring(7) instance. */
#ifndef ZPIPE_TESTS_RING_H
#define ZPIPE_TESTS_RING_H

#include "oracle.h"

#include <linux/io_uring.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define ENTRIES		8

struct ring {
	int fd;
	unsigned int *sq_tail;
	unsigned int *sq_mask;
	unsigned int *sq_array;
	unsigned int *cq_head;
	unsigned int *cq_tail;
	unsigned int *cq_mask;
	struct io_uring_sqe *sqes;
	struct io_uring_cqe *cqes;
};

static inline int ring_make(struct ring *r)
{
	struct io_uring_params p = {};
	char *sq, *cq;

	r->fd = syscall(SYS_io_uring_setup, ENTRIES, &p);
	if (r->fd < 0)
		return -errno;
	sq = mmap(NULL, p.sq_off.array + ENTRIES * sizeof(int),
		  PROT_READ | PROT_WRITE, MAP_SHARED, r->fd,
		  IORING_OFF_SQ_RING);
	cq = mmap(NULL, p.cq_off.cqes + p.cq_entries * sizeof(*r->cqes),
		  PROT_READ | PROT_WRITE, MAP_SHARED, r->fd,
		  IORING_OFF_CQ_RING);
	r->sqes = mmap(NULL, ENTRIES * sizeof(*r->sqes), PROT_READ | PROT_WRITE,
		       MAP_SHARED, r->fd, IORING_OFF_SQES);
	if (sq == MAP_FAILED || cq == MAP_FAILED || r->sqes == MAP_FAILED)
		return -errno;
	r->sq_tail = (void *)(sq + p.sq_off.tail);
	r->sq_mask = (void *)(sq + p.sq_off.ring_mask);
	r->sq_array = (void *)(sq + p.sq_off.array);
	r->cq_head = (void *)(cq + p.cq_off.head);
	r->cq_tail = (void *)(cq + p.cq_off.tail);
	r->cq_mask = (void *)(cq + p.cq_off.ring_mask);
	r->cqes = (void *)(cq + p.cq_off.cqes);
	return 0;
}

static inline int submit_sqe(struct ring *r, const struct io_uring_sqe *sqe)
{
	unsigned int tail = *r->sq_tail, at = tail & *r->sq_mask;

	r->sqes[at] = *sqe;
	r->sq_array[at] = at;
	__atomic_store_n(r->sq_tail, tail + 1, __ATOMIC_RELEASE);
	return sys(syscall(SYS_io_uring_enter, r->fd, 1, 0, 0, NULL, 0));
}

#define NOTHING		(-10000)	/* no operation has completed */

/*
 * Returns the result of the next completion, and its user data in @data. Returns
 * NOTHING if there is none.
 */
static inline long completed(struct ring *r, __u64 *data)
{
	unsigned int head = *r->cq_head;
	struct io_uring_cqe *cqe = &r->cqes[head & *r->cq_mask];
	long ret;

	/* Operations on polled files complete only when this task enters the kernel. */
	syscall(SYS_io_uring_enter, r->fd, 0, 0, IORING_ENTER_GETEVENTS, NULL,
		0);
	if (__atomic_load_n(r->cq_tail, __ATOMIC_ACQUIRE) == head)
		return NOTHING;
	ret = cqe->res;
	if (data)
		*data = cqe->user_data;
	__atomic_store_n(r->cq_head, head + 1, __ATOMIC_RELEASE);
	return ret;
}

static inline long complete(struct ring *r, __u64 *data)
{
	long ret;

	eventually((ret = completed(r, data)) != NOTHING);
	return ret;
}

/* True if no operation completes within 20 ms. */
static inline bool waits(struct ring *r)
{
	int i;

	for (i = 0; i < 20; i++) {
		if (completed(r, NULL) != NOTHING)
			return false;
		usleep(1000);
	}
	return true;
}

#endif /* ZPIPE_TESTS_RING_H */
