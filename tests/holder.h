/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Holders of a huge page: what refers to the page, or watches it, while its owner
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

#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE	0x08
#endif

#define HELD_AT		(100 * PAGE)	/* where a holder looks */
#define HELD		(16 * PAGE)	/* how much a pipe can refer to */
#define CHUNK		(16 * PAGE)	/* what one fault brings */
#define CHUNKS		(HUGE_SIZE / CHUNK)
#define NEW		0xa5		/* what the owner stores after the transfer */
#define FOREIGN		0x66		/* what the process at the other end stores */
#define FROM_HOLDER	0x3c		/* what the holder stores */
#define FROM_CHILD	0x17		/* what a child stores to its own memory */

/* Two huge pages of the stream, and one of OLD. Shared, so that forks are cheap. */
static unsigned char *stream;
static unsigned char *old_bytes;

static void __attribute__((constructor)) fill_once(void)
{
	stream = shared_alloc(2 * HUGE_SIZE);
	stream_fill(stream, 0, 2 * HUGE_SIZE);
	old_bytes = shared_alloc(HUGE_SIZE);
	memset(old_bytes, OLD, HUGE_SIZE);
}

/* Which process holds the page, and which transfers it. */
enum who {
	ONE_PROCESS,		/* holds and transfers */
	FORKED_AFTER,		/* likewise, and forks a child in between that only looks */
	FORKED_BEFORE,		/* likewise, but the fork comes first */
	CHILD_HOLDS,		/* the parent transfers */
	CHILD_GONE,		/* the child exits before the transfer */
	HELD_BEFORE_FORK,	/* the parent holds and unmaps, the child transfers */
	HELD_AFTER_FORK,	/* likewise, but the parent takes hold after the fork */
};

/* What a process is asked to do. */
enum op {
	TAKE,
	TOGGLE,
	TRANSFER,
	HAS_FIRST,
	HAS_STREAM,
	STORE,
	HAS_NEW,
	AFTER,
	LOOK,
	LET_GO,
	REFILL,
	HAS_SECOND,
	EXIT,
};

/* Shared between all processes of a test. */
struct talk {
	int asked;		/* number of the request */
	int answered;		/* number of the last request that was answered */
	enum op op;
	long answer;
	struct gifted gifted;	/* by the last TRANSFER */
	int passed;		/* pages that are done with at the other end */
};

struct hold;

struct holder {
	enum who who;
	bool toggles;		/* the owner makes it read-only and writable again */
	int arg;
	/* Maps memory at h->at that holds h->first; a huge page if it is NULL. */
	bool (*make)(struct hold *h);
	/* False: not possible here. */
	bool (*take)(struct hold *h);
	/* True if all is right directly after the transfer. */
	bool (*after)(struct hold *h);
	/* True if the holder finds what it should find, after the owner's stores. */
	bool (*look)(struct hold *h);
	/* NULL: the memory stays what it is. True if all is right then. */
	bool (*let_go)(struct hold *h);
	unsigned int reason;
	unsigned int read_reason;	/* of a read, if that is another */
};

struct hold {
	const struct holder *type;
	struct ends *e;
	bool gives;			/* the page is gifted, else read into */
	unsigned char *at;		/* the huge page */
	const unsigned char *first;	/* what it holds before the transfer */
	struct talk *talk;
	pid_t child;
	int fd;
	unsigned char *other;		/* more memory, by kind */
	int chunks[CHUNKS];		/* faults told by userfaultfd, by place */
	pthread_t thread;
	long result;			/* of a call in that thread */
	struct fuse_mount mount;
	struct fuse_in_header request;
};

/*
 * References from a pipe, by vmsplice(2). A holder that maps the page, too, has to see
 * what is stored there; one whose mapping is gone must not.
 */
static bool pipe_take(struct hold *h)
{
	struct iovec iov = { h->at + HELD_AT, HELD };
	int fd[2];

	if (pipe(fd) || vmsplice(fd[1], &iov, 1, 0) != HELD)
		return false;
	h->fd = fd[0];
	/* The reference alone is left. */
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

/* A child has the page mapped. */
static bool child_look(struct hold *h)
{
	bool right = !memcmp(h->at, h->first, HUGE_SIZE);

	memset(h->at, FROM_CHILD, HUGE_SIZE);
	return right;
}

/* The child has stored to its page before. */
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

/* Registered buffers of io_uring; the ring makes one call at a time. */

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

/* The result of a read or write of the held bytes by the registered buffer. */
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

/* The buffer is the owner's memory, to write from and to read into. */
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
	/* What the owner is asked for later. */
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
 * O_DIRECT reads and writes of a FUSE file: the page is pinned until the server has
 * answered, which is this program.
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
	/* From now on requests wait until they are asked for. */
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

/* What was there when the write began; and nothing has been read so far. */
static bool direct_look(struct hold *h)
{
	size_t before = sizeof(struct fuse_in_header) + sizeof(struct fuse_write_in);

	return h->type->arg == FUSE_WRITE ?
	       !memcmp(fuse_buf + before, h->first + HELD_AT, PAGE) :
	       is_filled(h->at, NEW, HUGE_SIZE);
}

/* What is read comes to the owner's memory. */
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
	/* The close is a request, too. */
	pthread_create(&h->mount.thread, NULL, fuse_serve, &h->mount);
	close(h->fd);
	fuse_stop(&h->mount);
	return right && h->result == PAGE;
}

/* userfaultfd(2): each place has its fault told once, whoever comes upon it. */

static void *answer_faults(void *arg)
{
	struct hold *h = arg;
	struct uffd_msg msg;

	while (read(h->fd, &msg, sizeof(msg)) == sizeof(msg)) {
		unsigned long at = msg.arg.pagefault.address & -CHUNK;
		size_t off = at - (unsigned long)h->at;
		struct uffdio_range range = { at, CHUNK };

		__atomic_add_fetch(&h->chunks[off / CHUNK], 1, __ATOMIC_SEQ_CST);
		switch (h->type->arg) {
		case UFFDIO_REGISTER_MODE_MISSING: {
			struct uffdio_copy copy = {
				.dst = at, .src = (unsigned long)h->first + off, .len = CHUNK,
			};

			ioctl(h->fd, UFFDIO_COPY, &copy);
			break;
		}
		case UFFDIO_REGISTER_MODE_WP: {
			struct uffdio_writeprotect unprotect = { .range = range };

			ioctl(h->fd, UFFDIO_WRITEPROTECT, &unprotect);
			break;
		}
		default: {
			struct uffdio_continue go_on = { .range = range };

			ioctl(h->fd, UFFDIO_CONTINUE, &go_on);
		}
		}
	}
	return NULL;
}

static bool uffd_register(struct hold *h, int mode, int features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	struct uffdio_register reg = {
		.range = { (unsigned long)h->at, HUGE_SIZE }, .mode = mode,
	};
	struct uffdio_writeprotect protect = {
		.range = reg.range, .mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};

	h->fd = syscall(SYS_userfaultfd, O_CLOEXEC);
	if (h->fd < 0 || ioctl(h->fd, UFFDIO_API, &api) || ioctl(h->fd, UFFDIO_REGISTER, &reg))
		return false;
	return mode != UFFDIO_REGISTER_MODE_WP || !ioctl(h->fd, UFFDIO_WRITEPROTECT, &protect);
}

static bool uffd_take(struct hold *h)
{
	return uffd_register(h, h->type->arg, 0) &&
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

/* The transfer reads from the page, or writes to it. */
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

/* Writes are noted and nobody waits: which pages were written to is asked for. */
static bool async_take(struct hold *h)
{
	return uffd_register(h, UFFDIO_REGISTER_MODE_WP, UFFD_FEATURE_WP_ASYNC);
}

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

/*
 * Makes huge pages of what is there, unless it is memory that there are none for. Fails
 * for a moment while somebody else has a page of it, as who drains a list may.
 */
static bool made_huge(void *at, size_t bytes)
{
	return eventually(!madvise(at, bytes, MADV_COLLAPSE) || errno == EINVAL);
}

/* Kinds of memory. */

/* Maps what @fd and @flags say at a huge page's address. */
static bool map_huge(struct hold *h, int flags, int fd)
{
	h->fd = fd;
	h->at = huge_addresses(1);
	return mmap(h->at, HUGE_SIZE, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, 0) == h->at;
}

static bool huge_make(struct hold *h)
{
	h->at = hole(1);
	memcpy(h->at, h->first, HUGE_SIZE);
	return made_huge(h->at, HUGE_SIZE);
}

/* Nothing is there yet. */
static bool hole_make(struct hold *h)
{
	h->at = hole(1);
	return true;
}

/* A file in memory that holds the bytes. */
static int file_of(struct hold *h)
{
	int fd = memfd_create("zpipe-test", 0);

	if (fd < 0 || pwrite(fd, h->first, HUGE_SIZE, 0) != HUGE_SIZE)
		abort();
	return fd;
}

static bool shmem_make(struct hold *h)
{
	return map_huge(h, MAP_SHARED, file_of(h));
}

static bool secret_make(struct hold *h)
{
	int fd = syscall(SYS_memfd_secret, 0);

	if (fd < 0 || ftruncate(fd, HUGE_SIZE) || !map_huge(h, MAP_SHARED, fd))
		return false;
	memcpy(h->at, h->first, HUGE_SIZE);
	return true;
}

static bool hugetlb_make(struct hold *h)
{
	set_hugepages("4");
	if (!map_huge(h, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1))
		return false;
	memcpy(h->at, h->first, HUGE_SIZE);
	return true;
}

static bool droppable_make(struct hold *h)
{
	if (!map_huge(h, MAP_DROPPABLE | MAP_ANONYMOUS, -1))
		return false;
	madvise(h->at, HUGE_SIZE, MADV_HUGEPAGE);
	memcpy(h->at, h->first, HUGE_SIZE);
	return true;
}

/* A private mapping of a file; with an argument all of it was copied on write. */
static bool file_make(struct hold *h)
{
	if (!map_huge(h, MAP_PRIVATE, file_of(h)))
		return false;
	if (h->type->arg)
		memcpy(h->at, h->first, HUGE_SIZE);
	return true;
}

static bool file_look(struct hold *h)
{
	unsigned char *bytes = map_anonymous(HUGE_SIZE, 0);

	return pread(h->fd, bytes, HUGE_SIZE, 0) == HUGE_SIZE &&
	       !memcmp(bytes, h->first, HUGE_SIZE);
}

/* Pages that KSM has merged with those of other memory. */

#define MERGED	32	/* pages of the other memory */

static bool ksm_make(struct hold *h)
{
	static const char dir[] = "/sys/kernel/mm/ksm";

	if (!map_huge(h, MAP_PRIVATE | MAP_ANONYMOUS, -1) ||
	    write_line(dir, "pages_to_scan", "2000") || write_line(dir, "sleep_millisecs", "1"))
		return false;
	madvise(h->at, HUGE_SIZE, MADV_NOHUGEPAGE);
	memcpy(h->at, h->first, HUGE_SIZE);
	h->other = map_anonymous(MERGED * PAGE, 0);
	memcpy(h->other, h->first, MERGED * PAGE);
	return !madvise(h->at, HUGE_SIZE, MADV_MERGEABLE) &&
	       !madvise(h->other, MERGED * PAGE, MADV_MERGEABLE) &&
	       !write_line(dir, "run", "1") &&
	       eventually(number_in("/proc/self/ksm_merging_pages", "") >= 2 * MERGED) &&
	       !write_line(dir, "run", "0");
}

static bool ksm_look(struct hold *h)
{
	return !memcmp(h->other, h->first, MERGED * PAGE);
}

static bool ksm_let_go(struct hold *h)
{
	return !madvise(h->at, HUGE_SIZE, MADV_UNMERGEABLE) &&
	       !madvise(h->at, HUGE_SIZE, MADV_HUGEPAGE);
}

/* Marks of a mapping, and what takes them away. */

static bool pkey_take(struct hold *h)
{
	return lock_up(h->at, HUGE_SIZE, 0);
}

static bool pkey_let_go(struct hold *h)
{
	return !pkey_mprotect(h->at, HUGE_SIZE, PROT_READ | PROT_WRITE, 0);
}

static bool mark_take(struct hold *h)
{
	return !madvise(h->at, HUGE_SIZE, h->type->arg);
}

static bool mark_let_go(struct hold *h)
{
	int undo = h->type->arg == MADV_WIPEONFORK ? MADV_KEEPONFORK :
		   h->type->arg == MADV_DONTFORK ? MADV_DOFORK : MADV_DODUMP;

	return !madvise(h->at, HUGE_SIZE, undo);
}

#endif /* ZPIPE_TESTS_HOLDER_H */
