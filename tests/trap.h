/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Memory whose page faults do not end until the tester resolves them. It is registered with
 * userfaultfd(2) and has missing pages, or it maps a file on a FUSE mount whose server does not
 * answer.
 */
#ifndef ZPIPE_TESTS_TRAP_H
#define ZPIPE_TESTS_TRAP_H

#include "oracle.h"
#include "child.h"

#include <linux/fuse.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sys/mount.h>
#include <sys/uio.h>

enum trap_type {
	UFFD,
	FUSE,
};

#define MAX_PENDING	64

/* A FUSE mount with one file. A thread is the server; it keeps reads until fuse_resolve(). */
struct fuse_mount {
	int fd;
	char dir[32];
	char file[48];
	unsigned long base;	/* stream offset of the file's first byte */
	pthread_t thread;
	pthread_mutex_t lock;	/* protects the fields below */
	bool answer;
	int pending;
	struct fuse_in_header in[MAX_PENDING];
	struct fuse_read_in read[MAX_PENDING];
	int nr_reads;
};

static inline void fuse_reply(struct fuse_mount *m,
			      const struct fuse_in_header *in, int error,
			      const void *out, size_t len)
{
	struct fuse_out_header head = {
		.len = sizeof(head) + len, .error = error, .unique = in->unique,
	};
	struct iovec iov[2] = { { &head, sizeof(head) }, { (void *)out, len } };

	/* The task that sent the request may have exited. */
	if (writev(m->fd, iov, len ? 2 : 1) < 0)
		return;
}

static inline void fuse_answer_read(struct fuse_mount *m,
				    const struct fuse_in_header *in,
				    const struct fuse_read_in *read)
{
	void *buf = mmap(NULL, read->size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	stream_fill(buf, m->base + read->offset, read->size);
	fuse_reply(m, in, 0, buf, read->size);
	munmap(buf, read->size);
}

static inline void fuse_handle(struct fuse_mount *m, struct fuse_in_header *in)
{
	void *arg = in + 1;
	union {
		struct fuse_init_out init;
		struct fuse_entry_out entry;
		struct fuse_attr_out attr;
		struct fuse_open_out open;
	} out = {};
	bool root = in->nodeid == FUSE_ROOT_ID;
	struct fuse_attr attr = {
		.ino = root ? 1 : 2, .size = root ? 0 : 1 << 20, .nlink = 1,
		.mode = root ? S_IFDIR | 0755 : S_IFREG | 0666,
	};

	switch (in->opcode) {
	case FUSE_INIT:
		out.init.major = FUSE_KERNEL_VERSION;
		out.init.minor = FUSE_KERNEL_MINOR_VERSION;
		/* With this flag, SIGKILL ends a task that waits for a read. */
		out.init.flags = FUSE_ASYNC_READ;
		out.init.max_readahead = 1 << 16;
		out.init.max_write = PAGE;
		out.init.max_background = 32;
		fuse_reply(m, in, 0, &out.init, sizeof(out.init));
		break;
	case FUSE_LOOKUP:
		out.entry.nodeid = 2;
		out.entry.attr = attr;
		out.entry.attr.ino = 2;
		out.entry.attr.mode = S_IFREG | 0666;
		out.entry.attr.size = 1 << 20;
		out.entry.entry_valid = 3600;
		out.entry.attr_valid = 3600;
		fuse_reply(m, in, 0, &out.entry, sizeof(out.entry));
		break;
	case FUSE_GETATTR:
		out.attr.attr = attr;
		out.attr.attr_valid = 3600;
		fuse_reply(m, in, 0, &out.attr, sizeof(out.attr));
		break;
	case FUSE_OPEN:
		out.open.fh = 1;
		fuse_reply(m, in, 0, &out.open, sizeof(out.open));
		break;
	case FUSE_READ:
		pthread_mutex_lock(&m->lock);
		if (m->answer || m->pending == MAX_PENDING) {
			fuse_answer_read(m, in, arg);
		} else {
			m->in[m->pending] = *in;
			memcpy(&m->read[m->pending], arg, sizeof(m->read[0]));
			m->pending++;
		}
		__atomic_add_fetch(&m->nr_reads, 1, __ATOMIC_SEQ_CST);
		pthread_mutex_unlock(&m->lock);
		break;
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_INTERRUPT:
		break;
	case FUSE_FLUSH:
	case FUSE_RELEASE:
		fuse_reply(m, in, 0, NULL, 0);
		break;
	default:
		fuse_reply(m, in, -EOPNOTSUPP, NULL, 0);
	}
}

static inline void *fuse_serve(void *arg)
{
	static long buf[(1 << 17) / sizeof(long)];
	struct fuse_mount *m = arg;
	ssize_t n;

	for (;;) {
		n = read(m->fd, buf, sizeof(buf));
		if (n < 0 && (errno == EINTR || errno == ENOENT))
			continue;
		if (n < (ssize_t)sizeof(struct fuse_in_header))
			return NULL;
		fuse_handle(m, (void *)buf);
	}
}

/*
 * Mounts the file system and starts the server's thread; 0 or -errno. The thread serves until
 * fuse_stop().
 */
static inline int fuse_start(struct fuse_mount *m)
{
	char options[80], device[64];
	sigset_t all, old;
	int ret;

	memset(m, 0, sizeof(*m));
	pthread_mutex_init(&m->lock, NULL);
	snprintf(m->dir, sizeof(m->dir), "/tmp/zpipe-fuse.XXXXXX");
	if (!mkdtemp(m->dir))
		return -errno;
	snprintf(device, sizeof(device), "%s/fuse", m->dir);
	if (mknod(device, S_IFCHR | 0600, makedev(10, 229)))
		return -errno;
	m->fd = open(device, O_RDWR | O_CLOEXEC);
	unlink(device);
	if (m->fd < 0)
		return -errno;
	snprintf(options, sizeof(options),
		 "fd=%d,rootmode=40000,user_id=0,group_id=0", m->fd);
	if (mount("zpipe-test", m->dir, "fuse", MS_NOSUID | MS_NODEV, options))
		return -errno;
	snprintf(m->file, sizeof(m->file), "%s/file", m->dir);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	ret = pthread_create(&m->thread, NULL, fuse_serve, m);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return -ret;
}

/* Answers all reads that were kept, and from now on every read at once. */
static inline void fuse_resolve(struct fuse_mount *m)
{
	pthread_mutex_lock(&m->lock);
	m->answer = true;
	while (m->pending--)
		fuse_answer_read(m, &m->in[m->pending], &m->read[m->pending]);
	m->pending = 0;
	pthread_mutex_unlock(&m->lock);
}

static inline void fuse_stop(struct fuse_mount *m)
{
	if (!m->thread)
		return;
	fuse_resolve(m);
	umount2(m->dir, MNT_DETACH);
	rmdir(m->dir);
}

/*
 * A child whose read or write meets trapped memory. @good pages of its buffer are ordinary
 * memory, and the @bad pages behind them are trapped. A writer's buffer holds the stream from
 * @off on; the trapped pages hold it, too, once their fault is resolved.
 */
struct stuck {
	struct child c;
	enum trap_type type;
	struct fuse_mount *mount;
	struct ends *e;
	bool writes;
	bool fresh;		/* the good pages are not resident yet */
	bool later;		/* the bad pages are good until stuck_take_away() */
	int good;
	int bad;
	size_t skip;		/* offset in the buffer where the call begins */
	size_t len;
	unsigned long off;
	struct {
		int uffd;
		unsigned long addr;	/* of the first bad page */
		int ready;
		int take_away;		/* the tester asks for stuck_take_away() */
		int gone;		/* the child has dropped the pages */
	} *shared;
	int uffd;		/* the tester's descriptor of it */
};

static inline int trap_uffd(struct stuck *s, void *bad)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = {
		.range = { (unsigned long)bad, (unsigned long)s->bad * PAGE },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	/* A blocking userfaultfd always polls as POLLERR. */
	s->shared->uffd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (s->shared->uffd < 0 ||
	    ioctl(s->shared->uffd, UFFDIO_API, &api))
		return -1;
	return ioctl(s->shared->uffd, UFFDIO_REGISTER, &reg);
}

static inline int trap_fuse(struct stuck *s, void *bad)
{
	int fd = open(s->mount->file, O_RDWR);
	void *p;

	if (fd < 0)
		return -1;
	p = mmap(bad, (size_t)s->bad * PAGE, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_FIXED, fd, 0);
	return p == MAP_FAILED ? -1 : 0;
}

/* Waits for stuck_take_away(), and drops the bad pages then. */
static inline void *do_take_away(void *arg)
{
	struct stuck *s = arg;

	while (!__atomic_load_n(&s->shared->take_away, __ATOMIC_SEQ_CST))
		usleep(1000);
	if (!madvise((void *)s->shared->addr, (size_t)s->bad * PAGE,
		     MADV_DONTNEED))
		__atomic_store_n(&s->shared->gone, 1, __ATOMIC_SEQ_CST);
	return NULL;
}

static inline long stuck_run(struct child *c)
{
	struct stuck *s = c->arg;
	size_t good = (size_t)s->good * PAGE;
	char *p = mmap(NULL, good + (size_t)s->bad * PAGE,
		       PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		       -1, 0);
	pthread_t thread;
	long ret;

	/* A huge page would also make the bad pages resident. */
	madvise(p, good + (size_t)s->bad * PAGE, MADV_NOHUGEPAGE);
	close(s->e->fd[s->writes ? 0 : 1]);
	stream_fill(p, s->off - s->skip,
		    good + (s->later ? (size_t)s->bad * PAGE : 0));
	if (s->fresh && madvise(p, good, MADV_DONTNEED))
		return -1;
	if (s->type == UFFD ? trap_uffd(s, p + good) : trap_fuse(s, p + good))
		return -1;
	s->shared->addr = (unsigned long)p + good;
	if (s->later && pthread_create(&thread, NULL, do_take_away, s))
		return -1;
	__atomic_store_n(&s->shared->ready, 1, __ATOMIC_SEQ_CST);
	ret = s->writes ? write(s->e->fd[1], p + s->skip, s->len) :
			  read(s->e->fd[0], p + s->skip, s->len);
	if (!s->writes && ret > 0)
		memcpy(c->buf, p + s->skip, ret);
	return ret;
}

/*
 * Starts the child. A reader meets the trap only once the pipe holds enough bytes, and a writer
 * once the pipe has enough free slots.
 */
static inline void stuck_start(struct stuck *s)
{
	s->shared = shared_alloc(sizeof(*s->shared));
	s->uffd = -1;
	s->c = (struct child) {
		.fn = stuck_run, .arg = s, .drop = -1,
		.nr = s->writes ? SYS_write : SYS_read,
		.len = s->len, .buf = shared_alloc(s->len),
	};
	if (s->mount)
		s->mount->base = s->off - s->skip + s->good * PAGE;
	child_start(&s->c, 0);
}

/*
 * Waits until the trap is set. The child may not have reached it yet. False if the child ended.
 */
static inline bool stuck_ready(struct stuck *s)
{
	int pidfd;

	if (!eventually(child_done(&s->c) ||
			__atomic_load_n(&s->shared->ready, __ATOMIC_SEQ_CST)) ||
	    child_done(&s->c))
		return false;
	if (s->type != UFFD || s->uffd >= 0)
		return true;
	pidfd = syscall(SYS_pidfd_open, s->c.pid, 0);
	s->uffd = syscall(SYS_pidfd_getfd, pidfd, s->shared->uffd, 0);
	close(pidfd);
	return s->uffd >= 0;
}

/* Drops the bad pages, which are trapped from then on. */
static inline bool stuck_take_away(struct stuck *s)
{
	__atomic_store_n(&s->shared->take_away, 1, __ATOMIC_SEQ_CST);
	return eventually(__atomic_load_n(&s->shared->gone, __ATOMIC_SEQ_CST));
}

/* Waits until the child is stuck in a page fault of its own. */
static inline bool stuck_is(struct stuck *s)
{
	struct pollfd p;

	if (!stuck_ready(s))
		return false;
	if (s->type == FUSE)
		return eventually(__atomic_load_n(&s->mount->nr_reads,
						  __ATOMIC_SEQ_CST) > 0) &&
		       !child_done(&s->c);
	p = (struct pollfd) { .fd = s->uffd, .events = POLLIN };
	return poll(&p, 1, EVENT_MS) == 1 && (p.revents & POLLIN);
}

/* Resolves the page fault, and those of all other bad pages. */
static inline void stuck_resolve(struct stuck *s)
{
	unsigned long at = s->off - s->skip + s->good * PAGE;
	char *page;
	int i;

	if (s->type == FUSE) {
		fuse_resolve(s->mount);
		return;
	}
	page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (i = 0; i < s->bad; i++) {
		struct uffdio_copy copy = {
			.dst = s->shared->addr + i * PAGE,
			.src = (unsigned long)page, .len = PAGE,
		};

		stream_fill(page, at + i * PAGE, PAGE);
		ioctl(s->uffd, UFFDIO_COPY, &copy);
	}
	munmap(page, PAGE);
}

#endif /* ZPIPE_TESTS_TRAP_H */
