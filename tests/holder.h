/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Holders of a huge page. A holder refers to the page, or watches it, while the page's owner
 * gifts it or reads into it.
 */
#ifndef ZPIPE_TESTS_HOLDER_H
#define ZPIPE_TESTS_HOLDER_H

#include "oracle.h"
#include "child.h"
#include "gift.h"
#include "memory.h"

#include <linux/fs.h>
#include <linux/io_uring.h>

#define HELD_AT		(100 * PAGE)	/* offset of the bytes that a holder compares */
#define HELD		(16 * PAGE)	/* number of these bytes: what a pipe can refer to */
#define CHUNK		(16 * PAGE)	/* bytes that one page fault brings */
#define CHUNKS		(HUGE_SIZE / CHUNK)
#define NEW		0xa5		/* byte that the owner stores after the transfer */
#define FOREIGN		0x66		/* byte that the process at the other end stores */
#define FROM_HOLDER	0x3c		/* byte that the holder stores */
#define FROM_CHILD	0x17		/* byte that a child stores to its own memory */

/* Two huge pages of the stream, and one of OLD. Shared memory, which forks do not copy. */
static unsigned char *stream;
static unsigned char *old_bytes;

static void __attribute__((constructor)) fill_once(void)
{
	stream = shared_alloc(2 * HUGE_SIZE);
	stream_fill(stream, 0, 2 * HUGE_SIZE);
	old_bytes = shared_alloc(HUGE_SIZE);
	memset(old_bytes, OLD, HUGE_SIZE);
}

/* The process that holds the page, and the process that transfers it. */
enum who {
	ONE_PROCESS,		/* one process holds and transfers */
	FORKED_AFTER,		/* the same; it forks a child after it took hold */
	FORKED_BEFORE,		/* the same; it forks a child before it takes hold */
	CHILD_HOLDS,		/* the child holds, the parent transfers */
	CHILD_GONE,		/* the child exits before the parent transfers */
	HELD_BEFORE_FORK,	/* the parent takes hold and unmaps, the child transfers */
	HELD_AFTER_FORK,	/* the same, but the parent takes hold after the fork */
};

/* A request to a process; do_op() carries it out. */
enum op {
	TAKE,			/* take hold */
	TOGGLE,			/* make the page read-only, and writable again */
	TRANSFER,		/* gift the page, or read into it */
	HAS_FIRST,		/* compare it with h->first */
	HAS_STREAM,		/* compare it with the stream */
	STORE,			/* fill it with NEW */
	HAS_NEW,		/* compare it with NEW */
	AFTER,			/* call the holder's after() */
	LOOK,			/* call the holder's look(), check others' bytes */
	LET_GO,			/* let go of the page, make its memory plain again */
	REFILL,			/* store bytes for the second transfer */
	HAS_SECOND,		/* compare it with the second page of the stream */
	EXIT,
};

/* Memory that all processes of a test share. */
struct talk {
	int asked;		/* number of the request */
	int answered;		/* number of the last request that was answered */
	enum op op;
	long answer;
	struct gifted gifted;	/* result of the last TRANSFER */
	int passed;		/* pages that the process at the other end has read */
};

struct hold;

struct holder {
	enum who who;
	bool toggles;		/* TOGGLE comes before the transfer */
	int arg;
	enum memory_kind kind;	/* of the memory: PLAIN is one huge page */
	/* Takes hold. False: this is not possible here. */
	bool (*take)(struct hold *h);
	/* True if all is right directly after the transfer. */
	bool (*after)(struct hold *h);
	/* True if the holder finds the right bytes, after the owner's stores. */
	bool (*look)(struct hold *h);
	/* Lets go. True if all is right then. NULL: the holder cannot let go. */
	bool (*let_go)(struct hold *h);
	unsigned int reason;	/* ZPIPE_REASON_* of the copy */
	unsigned int read_reason;	/* of a read, if that differs */
};

struct hold {
	const struct holder *type;
	struct ends *e;
	bool gives;			/* the owner gifts the page, otherwise it reads */
	struct memory memory;
	unsigned char *at;		/* the huge page */
	const unsigned char *first;	/* its bytes before the transfer */
	struct talk *talk;
	pid_t child;
	int fd;				/* the descriptor that holds the page */
	int chunks[CHUNKS];		/* faults in each chunk that userfaultfd reported */
	pthread_t thread;
	long result;			/* of a call in that thread */
	struct fuse_mount mount;
	struct fuse_in_header request;
};

/* Maps and fills a huge page's worth of memory of the holder's kind. */
static bool memory_made(struct hold *h)
{
	h->memory = (struct memory) {
		.kind = h->type->kind, .source = h->gives, .huge = true,
		.len = HUGE_SIZE, .p = huge_addresses(1), .first = h->first,
	};
	h->at = h->memory.p;
	return memory_make(&h->memory);
}

/* True if the page can be moved once the holder has let go. */
static bool becomes_plain(const struct hold *h)
{
	return h->type->let_go || h->memory.type->undo;
}

/*
 * References from a pipe, by vmsplice(2). A holder that also maps the page has to see the owner's
 * stores. A holder whose mapping is gone must not see them.
 */
static bool pipe_take(struct hold *h)
{
	struct iovec iov = { h->at + HELD_AT, HELD };
	int fd[2];

	if (pipe(fd) || vmsplice(fd[1], &iov, 1, 0) != HELD)
		return false;
	h->fd = fd[0];
	/* Another process's page: only the reference is left. */
	return h->type->who == ONE_PROCESS || !munmap(h->at, HUGE_SIZE);
}

static bool pipe_look(struct hold *h)
{
	bool own = h->type->who == ONE_PROCESS;
	static unsigned char buf[HELD];

	return read(h->fd, buf, HELD) == HELD &&
	       !memcmp(buf, (own ? h->at : h->first) + HELD_AT, HELD);
}

static bool fd_let_go(struct hold *h)
{
	return !close(h->fd);
}

/* A child maps the page. */
static bool child_look(struct hold *h)
{
	bool right = !memcmp(h->at, h->first, HUGE_SIZE);

	memset(h->at, FROM_CHILD, HUGE_SIZE);
	return right;
}

/* The child stores to its page before the transfer. */
static bool child_store(struct hold *h)
{
	memset(h->at, FROM_CHILD, HUGE_SIZE);
	return true;
}

static bool child_look_stored(struct hold *h)
{
	return is_filled(h->at, FROM_CHILD, HUGE_SIZE);
}

static bool nothing_to_do(struct hold *h __maybe_unused)
{
	return true;
}

/* Registered buffers of io_uring. The ring carries out one request at a time. */

struct ring {
	struct io_uring_params p;
	struct io_uring_sqe *sqe;
	char *sq;
	char *cq;
};

static struct ring ring;

static bool uring_take(struct hold *h)
{
	bool part = h->type->arg;
	struct iovec iov = { h->at + (part ? HELD_AT : 0), part ? HELD : HUGE_SIZE };

	h->fd = syscall(SYS_io_uring_setup, 1, &ring.p);
	if (h->fd < 0)
		return false;
	ring.sq = mmap(NULL, ring.p.sq_off.array + sizeof(int), PROT_READ | PROT_WRITE,
		       MAP_SHARED, h->fd, IORING_OFF_SQ_RING);
	ring.cq = mmap(NULL, ring.p.cq_off.cqes + ring.p.cq_entries * sizeof(struct io_uring_cqe),
		       PROT_READ | PROT_WRITE, MAP_SHARED, h->fd, IORING_OFF_CQ_RING);
	ring.sqe = mmap(NULL, sizeof(*ring.sqe), PROT_READ | PROT_WRITE, MAP_SHARED, h->fd,
			IORING_OFF_SQES);
	return !syscall(SYS_io_uring_register, h->fd, IORING_REGISTER_BUFFERS, &iov, 1);
}

/* Reads or writes the held bytes by way of the registered buffer; the request's result. */
static long uring_fixed(struct hold *h, int op, int file)
{
	unsigned int *tail = (void *)(ring.sq + ring.p.sq_off.tail);
	unsigned int *head = (void *)(ring.cq + ring.p.cq_off.head);
	struct io_uring_cqe *cqe = (void *)(ring.cq + ring.p.cq_off.cqes);
	unsigned int mask = *(unsigned int *)(ring.cq + ring.p.cq_off.ring_mask);
	long ret;

	*ring.sqe = (struct io_uring_sqe) {
		.opcode = op, .fd = file, .len = HELD,
		.addr = (unsigned long)h->at + HELD_AT,
	};
	*(unsigned int *)(ring.sq + ring.p.sq_off.array) = 0;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, h->fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) != 1)
		return -errno;
	ret = cqe[*head & mask].res;
	__atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
	return ret;
}

/* The registered buffer must be the owner's memory, for writes and for reads. */
static bool uring_look(struct hold *h)
{
	int file = memfd_create("zpipe-test", 0);
	unsigned char *buf = map_anonymous(HELD, 0);
	bool right;

	right = uring_fixed(h, IORING_OP_WRITE_FIXED, file) == HELD &&
		pread(file, buf, HELD, 0) == HELD &&
		!memcmp(buf, h->at + HELD_AT, HELD);
	memset(buf, FROM_HOLDER, HELD);
	right = right && pwrite(file, buf, HELD, 0) == HELD &&
		uring_fixed(h, IORING_OP_READ_FIXED, file) == HELD &&
		is_filled(h->at + HELD_AT, FROM_HOLDER, HELD) &&
		is_filled(h->at, NEW, HELD_AT);
	/* The bytes that HAS_NEW expects. */
	memset(h->at, NEW, HUGE_SIZE);
	close(file);
	return right;
}

static bool uring_let_go(struct hold *h)
{
	return !syscall(SYS_io_uring_register, h->fd, IORING_UNREGISTER_BUFFERS, NULL, 0) &&
	       !close(h->fd);
}

/*
 * O_DIRECT reads and writes of a FUSE file. The page is pinned until the FUSE server, which is
 * this program, answers the request.
 */

static unsigned char fuse_buf[1 << 16];

static void *direct_io(void *arg)
{
	struct hold *h = arg;

	h->result = h->type->arg == FUSE_WRITE ? pwrite(h->fd, h->at + HELD_AT, PAGE, 0) :
						 pread(h->fd, h->at + HELD_AT, PAGE, 0);
	return NULL;
}

static bool direct_take(struct hold *h)
{
	struct fuse_in_header *in = (void *)fuse_buf;

	if (fuse_start(&h->mount))
		return false;
	h->fd = open(h->mount.file, O_RDWR | O_DIRECT);
	/* From here on this function reads the requests, and no thread answers them. */
	pthread_cancel(h->mount.thread);
	pthread_join(h->mount.thread, NULL);
	if (h->fd < 0 || pthread_create(&h->thread, NULL, direct_io, h))
		return false;
	for (;;) {
		if (read(h->mount.fd, fuse_buf, sizeof(fuse_buf)) < (ssize_t)sizeof(*in))
			return false;
		if (in->opcode == h->type->arg)
			break;
		fuse_handle(&h->mount, in);
	}
	h->request = *in;
	return true;
}

/*
 * A write must have sent the bytes from before the transfer. A read must not have stored
 * anything yet.
 */
static bool direct_look(struct hold *h)
{
	size_t before = sizeof(struct fuse_in_header) + sizeof(struct fuse_write_in);

	return h->type->arg == FUSE_WRITE ?
	       !memcmp(fuse_buf + before, h->first + HELD_AT, PAGE) :
	       is_filled(h->at, NEW, HUGE_SIZE);
}

/* Answers the request. The bytes of a read must arrive in the owner's memory. */
static bool direct_let_go(struct hold *h)
{
	struct fuse_write_out out = { .size = PAGE };
	unsigned char page[PAGE];
	bool right = true;

	memset(page, FROM_HOLDER, PAGE);
	if (h->type->arg == FUSE_WRITE)
		fuse_reply(&h->mount, &h->request, 0, &out, sizeof(out));
	else
		fuse_reply(&h->mount, &h->request, 0, page, PAGE);
	pthread_join(h->thread, NULL);
	if (h->type->arg == FUSE_READ)
		right = is_filled(h->at + HELD_AT, FROM_HOLDER, PAGE) &&
			is_filled(h->at, NEW, HELD_AT);
	/* The close sends a request, which the thread answers. */
	pthread_create(&h->mount.thread, NULL, fuse_serve, &h->mount);
	close(h->fd);
	fuse_stop(&h->mount);
	return right && h->result == PAGE;
}

/*
 * userfaultfd(2): it must report one fault for each chunk, whether the module or the owner
 * accesses the chunk first.
 */

static void *answer_faults(void *arg)
{
	struct hold *h = arg;
	struct uffd_msg msg;

	while (read(h->fd, &msg, sizeof(msg)) == sizeof(msg)) {
		unsigned long at = msg.arg.pagefault.address & -CHUNK;
		size_t off = at - (unsigned long)h->at;

		__atomic_add_fetch(&h->chunks[off / CHUNK], 1, __ATOMIC_SEQ_CST);
		switch (h->type->arg) {
		case UFFDIO_REGISTER_MODE_MISSING: {
			struct uffdio_copy copy = {
				.dst = at, .src = (unsigned long)h->first + off, .len = CHUNK,
			};

			ioctl(h->fd, UFFDIO_COPY, &copy);
			break;
		}
		case UFFDIO_REGISTER_MODE_WP:
			uffd_protect(h->fd, at, CHUNK, false);
			break;
		default: {
			struct uffdio_continue go_on = { .range = { at, CHUNK } };

			ioctl(h->fd, UFFDIO_CONTINUE, &go_on);
		}
		}
	}
	return NULL;
}

static bool watch_page(struct hold *h, int mode, int features)
{
	h->fd = uffd_register(h->at, HUGE_SIZE, mode, features);
	return h->fd >= 0 && (mode != UFFDIO_REGISTER_MODE_WP ||
			      !uffd_protect(h->fd, (unsigned long)h->at, HUGE_SIZE, true));
}

static bool uffd_take(struct hold *h)
{
	return watch_page(h, h->type->arg, 0) &&
	       !pthread_create(&h->thread, NULL, answer_faults, h);
}

static bool each_chunk(struct hold *h, int faults)
{
	int i;

	for (i = 0; i < CHUNKS; i++)
		if (__atomic_load_n(&h->chunks[i], __ATOMIC_SEQ_CST) != faults)
			return false;
	return true;
}

/* A gift reads from the page and a read writes to it: only writes meet write protection. */
static bool uffd_after(struct hold *h)
{
	bool writes = h->type->arg == UFFDIO_REGISTER_MODE_WP;

	return each_chunk(h, writes && h->gives ? 0 : 1);
}

static bool uffd_look(struct hold *h)
{
	return each_chunk(h, 1);
}

static bool uffd_let_go(struct hold *h)
{
	struct uffdio_range range = { (unsigned long)h->at, HUGE_SIZE };

	return !ioctl(h->fd, UFFDIO_UNREGISTER, &range);
}

/*
 * UFFD_FEATURE_WP_ASYNC: the kernel notes stores and reports no faults. PAGEMAP_SCAN returns the
 * pages that were stored to.
 */
static bool async_take(struct hold *h)
{
	return watch_page(h, UFFDIO_REGISTER_MODE_WP, UFFD_FEATURE_WP_ASYNC);
}

/* The number of pages that were stored to since async_take(). */
static long pages_written(struct hold *h)
{
	struct page_region region[8] = {};
	struct pm_scan_arg arg = {
		.size = sizeof(arg), .vec = (unsigned long)region, .vec_len = 8,
		.start = (unsigned long)h->at, .end = (unsigned long)h->at + HUGE_SIZE,
		.category_mask = PAGE_IS_WRITTEN, .return_mask = PAGE_IS_WRITTEN,
	};
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	long n = ioctl(fd, PAGEMAP_SCAN, &arg), pages = 0;

	close(fd);
	while (n-- > 0)
		pages += (region[n].end - region[n].start) / PAGE;
	return pages;
}

static bool async_after(struct hold *h)
{
	return pages_written(h) == (h->gives ? 0 : HUGE_SIZE / PAGE);
}

static bool async_look(struct hold *h)
{
	return pages_written(h) == HUGE_SIZE / PAGE;
}

#endif /* ZPIPE_TESTS_HOLDER_H */
