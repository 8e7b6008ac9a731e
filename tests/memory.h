/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Kinds of memory that a large write comes from or a large read goes to.
 */
#ifndef ZPIPE_TESTS_MEMORY_H
#define ZPIPE_TESTS_MEMORY_H

#include "oracle.h"
#include "child.h"
#include "trap.h"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL	102
#endif

#define MIB		(1L << 20)
#define LEN		(MIB / 2)	/* what is carried */
#define BAD_AT		(40 * PAGE)	/* where what is only partly good ends */
#define OLD		0x5a		/* what lies where a read goes to */
#define ROM		0xf0000		/* the firmware's, in a PC */
#define ROM_LEN		(16 * PAGE)

enum memory_kind {
	PLAIN,
	FRESH,			/* never touched */
	ZERO_PAGE,		/* only ever read */
	LOCKED,			/* mlock(2) */
	HUGE,			/* a transparent huge page */
	HUGETLB,
	HUGETLB_SHARED,
	FILE_SHARED,
	FILE_PRIVATE,		/* nothing of it copied yet */
	FUSE_PRIVATE,		/* likewise, and nothing of it read yet */
	SECRET,			/* memfd_secret(2) */
	DEVICE,			/* in part: VM_PFNMAP, no struct page */
	STACK,			/* in part: below what there is of the stack */
	NEAR_STACK,		/* in part: MAP_GROWSDOWN, from a little below on */
	PKEY_ALLOWED,		/* with a protection key, and others lack it */
	COPIED,			/* a fork has it too */
	COPIED_WAITING,		/* likewise, but since the call has begun */
	PAGED_OUT,
	SWAPPED_IN,		/* was paged out, and then read */
	FREED,			/* MADV_FREE */
	UFFD_MISSING,		/* comes page by page, from a thread */
	UFFD_WP,		/* write-protected, page by page, likewise */
	/* From here on only what is before BAD_AT is good. */
	READ_ONLY,		/* bad only to be written to */
	HOLE,			/* PROT_NONE; good again a page later */
	UNMAPPED,		/* likewise */
	GUARD,			/* likewise, MADV_GUARD_INSTALL */
	POISON,			/* likewise, UFFDIO_POISON */
	FILE_ENDS,
	EXEC_ONLY,		/* where there are protection keys */
	PKEY_DENIED,		/* not for its owner, but for others */
};

/* Shared with the process that has a copy. */
struct copy_sync {
	int ready;		/* the copy is made */
	int look;		/* it is to be looked at */
};

struct memory {
	enum memory_kind kind;
	bool source;
	unsigned char *p;
	size_t head;		/* how much of it lies at @p */
	unsigned char *tail;	/* the rest */
	int fd;			/* of the file that is mapped, or of the uffd */
	int events;
	pthread_t thread;
	pid_t copy;		/* the process that has a copy */
	pid_t owner;		/* the thread whose call it is for */
	struct copy_sync *sync;
};

static inline bool is_bad(enum memory_kind kind, bool source)
{
	return kind == READ_ONLY ? !source : kind > READ_ONLY;
}

static inline unsigned char *memory_at(struct memory *m, size_t off)
{
	return off < m->head ? m->p + off : m->tail + (off - m->head);
}

static inline void memory_fill(void *buf, bool source, size_t off, size_t len)
{
	if (source)
		stream_fill(buf, off, len);
	else
		memset(buf, OLD, len);
}

static inline bool is_filled(const unsigned char *p, int byte, size_t len)
{
	return !len || (*p == byte && !memcmp(p, p + 1, len - 1));
}

static inline void *map_rom(void *at, int prot, int flags)
{
	int fd = open("/dev/mem", O_RDWR | O_CLOEXEC);
	void *p = mmap(at, ROM_LEN, prot, MAP_SHARED | flags, fd, ROM);

	close(fd);
	return p == MAP_FAILED ? NULL : p;
}

static inline bool grows(enum memory_kind kind)
{
	return kind == STACK || kind == NEAR_STACK;
}

/* Whether @len bytes are what comes from a source of this kind at @off. */
static inline bool comes_from(enum memory_kind kind, const unsigned char *buf,
			      size_t off, size_t len)
{
	unsigned char *rom;
	size_t i;

	switch (kind) {
	case FRESH:
	case ZERO_PAGE:
		return is_filled(buf, 0, len);
	case STACK:
	case NEAR_STACK:
		i = off < BAD_AT ? BAD_AT - off : 0;
		i = i < len ? i : len;
		return stream_diff(buf, off, i) < 0 &&
		       is_filled(buf + i, 0, len - i);
	case DEVICE:
		rom = map_rom(NULL, PROT_READ, 0);
		for (i = 0; i < len; i++)
			if (off + i >= BAD_AT && off + i < BAD_AT + ROM_LEN ?
			    buf[i] != rom[off + i - BAD_AT] :
			    buf[i] != stream_byte(off + i))
				break;
		munmap(rom, ROM_LEN);
		return i == len;
	default:
		return stream_diff(buf, off, len) < 0;
	}
}

static inline void *map_anonymous(size_t len, int flags)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static inline void set_hugepages(const char *nr)
{
	if (write_line("/proc/sys/vm", "nr_hugepages", nr))
		printf("# no hugetlb pages\n");
}

/* A file that is mapped, and how; not one of its pages is. */
static inline void *map_file(struct memory *m, int fd, size_t size, int flags)
{
	void *p;

	m->fd = fd;
	if (fd < 0 || ftruncate(fd, size))
		return NULL;
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return NULL;
	memory_fill(p, m->source, 0, size < LEN ? size : LEN);
	munmap(p, size);
	p = mmap(NULL, size > LEN ? size : LEN, PROT_READ | PROT_WRITE, flags,
		 fd, 0);
	return p == MAP_FAILED ? NULL : p;
}

/* Where what is mapped there cannot be filled, it is already. */
static inline void *memory_map(struct memory *m, struct fuse_mount *mount)
{
	unsigned long p;
	void *q;

	switch (m->kind) {
	case HUGE:
		p = (unsigned long)map_anonymous(4 * MIB, 0);
		p = (p + 2 * MIB - 1) & -(2 * MIB);
		madvise((void *)p, 2 * MIB, MADV_HUGEPAGE);
		return (void *)p;
	case HUGETLB:
		set_hugepages("4");
		return map_anonymous(2 * MIB, MAP_HUGETLB);
	case HUGETLB_SHARED:
		set_hugepages("4");
		return map_file(m, memfd_create("zpipe-test", MFD_HUGETLB),
				2 * MIB, MAP_SHARED);
	case FILE_SHARED:
		return map_file(m, memfd_create("zpipe-test", 0), LEN,
				MAP_SHARED);
	case FILE_PRIVATE:
		return map_file(m, memfd_create("zpipe-test", 0), LEN,
				MAP_PRIVATE);
	case FILE_ENDS:
		return map_file(m, memfd_create("zpipe-test", 0), BAD_AT,
				MAP_SHARED);
	case SECRET:
		return map_file(m, syscall(SYS_memfd_secret, 0), LEN,
				MAP_SHARED);
	case FUSE_PRIVATE:
		m->fd = open(mount->file, O_RDWR);
		q = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE, m->fd,
			 0);
		return q == MAP_FAILED ? NULL : q;
	case LOCKED:
		q = map_anonymous(LEN, 0);
		return mlock(q, LEN) ? NULL : q;
	default:
		return map_anonymous(LEN, 0);
	}
}

/* How many of its pages are there. */
static inline long pages_there(void *p, size_t len)
{
	unsigned long entry[512], first = (unsigned long)p / PAGE;
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	size_t pages = len / PAGE, i, j, n;
	long there = 0;

	for (i = 0; i < pages; i += n) {
		n = pages - i < ARRAY_SIZE(entry) ? pages - i :
						    ARRAY_SIZE(entry);
		if (pread(fd, entry, n * 8, (first + i) * 8) != n * 8)
			break;
		for (j = 0; j < n; j++)
			there += entry[j] >> 63;
	}
	close(fd);
	return i < pages ? -1 : there;
}

/* All but a few, which may be in use for a moment. */
static inline bool page_out(void *p, size_t len)
{
	long few = len / PAGE / 20;
	int i;

	if (!has_swap())
		return false;
	for (i = 0; i < 20; i++) {
		if (madvise(p, len, MADV_PAGEOUT))
			return false;
		if (pages_there(p, len) <= few)
			return true;
		usleep(1000);
	}
	return false;
}

/*
 * Bytes of which most pages are one word, which compresses well, and tell whose
 * they are and where they belong; one in 16 is the stream.
 */
static inline void pages_fill(unsigned char *buf, unsigned long id, size_t off,
			      size_t len)
{
	unsigned long *word;
	size_t i, j;

	for (i = 0; i < len; i += PAGE) {
		word = (void *)(buf + i);
		if ((off + i) / PAGE % 16 == 0)
			stream_fill(word, (id << 40) + off + i, PAGE);
		else
			for (j = 0; j < PAGE / 8; j++)
				word[j] = (id << 40) + off + i;
	}
}

static inline bool pages_right(const unsigned char *buf, unsigned long id,
			       size_t off, size_t len)
{
	unsigned char page[PAGE];
	size_t i, n, at;

	for (i = 0; i < len; i += n) {
		at = (off + i) % PAGE;
		n = PAGE - at < len - i ? PAGE - at : len - i;
		pages_fill(page, id, off + i - at, PAGE);
		if (memcmp(buf + i, page + at, n))
			return false;
	}
	return true;
}

/* The lowest address of the stack that there is so far. */
static inline unsigned char *stack_start(void)
{
	unsigned long start = 0;
	char line[300];
	FILE *f = fopen("/proc/self/maps", "r");

	while (f && fgets(line, sizeof(line), f))
		if (strstr(line, "[stack]"))
			start = strtoul(line, NULL, 16);
	if (f)
		fclose(f);
	return (void *)start;
}

/* What another process makes of its copy: it must be nobody else's. */
static inline int copy_run(struct memory *m)
{
	unsigned char *p = m->p;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	close_range(3, ~0U, 0);
	if (m->source)
		memset(p, ~OLD, LEN);
	__atomic_store_n(&m->sync->ready, 1, __ATOMIC_SEQ_CST);
	while (!__atomic_load_n(&m->sync->look, __ATOMIC_SEQ_CST))
		usleep(1000);
	return !is_filled(p, m->source ? (unsigned char)~OLD : OLD, LEN);
}

static inline void copy_start(struct memory *m)
{
	m->copy = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	if (!m->copy)
		_exit(copy_run(m));
}

static inline bool copy_is_good(struct memory *m)
{
	int status = -1;

	__atomic_store_n(&m->sync->look, 1, __ATOMIC_SEQ_CST);
	return waitpid(m->copy, &status, 0) == m->copy && !status;
}

/* Forks when the owner's call waits. The child dies with this thread. */
static inline void *copy_later(void *arg)
{
	struct memory *m = arg;

	if (!eventually(task_syscall(m->owner) ==
			(m->source ? SYS_write : SYS_read)))
		return (void *)1;
	copy_start(m);
	while (!__atomic_load_n(&m->sync->look, __ATOMIC_SEQ_CST))
		usleep(1000);
	return (void *)(long)!copy_is_good(m);
}

/* Answers each fault for one page. */
static inline void *serve_faults(void *arg)
{
	struct memory *m = arg;
	static unsigned char page[PAGE];
	struct uffd_msg msg;

	for (;;) {
		unsigned long at;
		struct uffdio_writeprotect unprotect;
		struct uffdio_copy copy;

		if (read(m->fd, &msg, sizeof(msg)) != sizeof(msg))
			return NULL;
		at = msg.arg.pagefault.address & -PAGE;
		m->events++;
		if (m->kind == UFFD_WP) {
			unprotect = (struct uffdio_writeprotect) {
				.range = { at, PAGE },
			};
			ioctl(m->fd, UFFDIO_WRITEPROTECT, &unprotect);
			continue;
		}
		memory_fill(page, m->source, at - (unsigned long)m->p, PAGE);
		copy = (struct uffdio_copy) {
			.dst = at, .src = (unsigned long)page, .len = PAGE,
		};
		ioctl(m->fd, UFFDIO_COPY, &copy);
	}
}

static inline bool uffd_make(struct memory *m, void *at, size_t len, int mode,
			     int features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	struct uffdio_register reg = {
		.range = { (unsigned long)at, len }, .mode = mode,
	};

	m->fd = syscall(SYS_userfaultfd, O_CLOEXEC);
	madvise(at, len, MADV_NOHUGEPAGE);
	if (mode == UFFDIO_REGISTER_MODE_MISSING)
		madvise(at, len, MADV_DONTNEED);
	return m->fd >= 0 && !ioctl(m->fd, UFFDIO_API, &api) &&
	       !ioctl(m->fd, UFFDIO_REGISTER, &reg);
}

static inline bool poison(struct memory *m, void *at)
{
	struct uffdio_poison arg = { .range = { (unsigned long)at, PAGE } };

	return uffd_make(m, at, PAGE, UFFDIO_REGISTER_MODE_MISSING,
			 UFFD_FEATURE_POISON) &&
	       !ioctl(m->fd, UFFDIO_POISON, &arg);
}

static inline bool protect_writes(struct memory *m)
{
	struct uffdio_writeprotect arg = {
		.range = { (unsigned long)m->p, LEN },
		.mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};

	return uffd_make(m, m->p, LEN, UFFDIO_REGISTER_MODE_WP,
			 UFFD_FEATURE_PAGEFAULT_FLAG_WP) &&
	       !ioctl(m->fd, UFFDIO_WRITEPROTECT, &arg) &&
	       !pthread_create(&m->thread, NULL, serve_faults, m);
}

/* Puts a key on it; whether there was one. */
static inline bool lock_up(void *p, size_t len, int rights)
{
	int key = pkey_alloc(0, 0);

	return key >= 0 && !pkey_mprotect(p, len, PROT_READ | PROT_WRITE, key) &&
	       !pkey_set(key, rights);
}

/* What makes filled memory the kind it is to be. */
static inline bool memory_turn(struct memory *m)
{
	unsigned char *bad = m->p + BAD_AT;
	int key;

	switch (m->kind) {
	case DEVICE:
		return map_rom(bad, PROT_READ | (m->source ? 0 : PROT_WRITE),
			       MAP_FIXED);
	case STACK:
		m->head = BAD_AT;
		m->tail = stack_start() - (LEN - BAD_AT);
		return stack_start();
	case NEAR_STACK:
		m->head = BAD_AT;
		m->tail = map_anonymous(LEN, MAP_GROWSDOWN);
		if (m->tail)
			m->tail -= 8 * PAGE;
		return m->tail;
	case PKEY_ALLOWED:
		return lock_up(m->p, LEN, 0);
	case COPIED:
		copy_start(m);
		return eventually(__atomic_load_n(&m->sync->ready,
						  __ATOMIC_SEQ_CST));
	case COPIED_WAITING:
		return !pthread_create(&m->thread, NULL, copy_later, m);
	case PAGED_OUT:
		return page_out(m->p, LEN);
	case SWAPPED_IN:
		return page_out(m->p, LEN) &&
		       (m->source ? stream_diff(m->p, 0, LEN) < 0 :
				    is_filled(m->p, OLD, LEN));
	case FREED:
		return !madvise(m->p, LEN, MADV_FREE);
	case UFFD_MISSING:
		return uffd_make(m, m->p, LEN, UFFDIO_REGISTER_MODE_MISSING,
				 0) &&
		       !pthread_create(&m->thread, NULL, serve_faults, m);
	case UFFD_WP:
		return protect_writes(m);
	case READ_ONLY:
		return !mprotect(bad, LEN - BAD_AT, PROT_READ);
	case HOLE:
		return !mprotect(bad, PAGE, PROT_NONE);
	case UNMAPPED:
		return !munmap(bad, PAGE);
	case GUARD:
		return !madvise(bad, PAGE, MADV_GUARD_INSTALL);
	case POISON:
		return poison(m, bad);
	case EXEC_ONLY:
		key = pkey_alloc(0, 0);
		return key >= 0 && !pkey_free(key) &&
		       !mprotect(bad, LEN - BAD_AT, PROT_EXEC);
	case PKEY_DENIED:
		return lock_up(bad, LEN - BAD_AT, m->source ?
			       PKEY_DISABLE_ACCESS : PKEY_DISABLE_WRITE);
	default:
		return true;
	}
}

/* Makes it for a call of this thread; false if there is no such here. */
static inline bool memory_make(struct memory *m, enum memory_kind kind,
			       bool source, struct fuse_mount *mount,
			       struct copy_sync *sync)
{
	size_t i;

	*m = (struct memory) {
		.kind = kind, .source = source, .head = LEN, .fd = -1,
		.owner = syscall(SYS_gettid), .sync = sync,
	};
	m->p = memory_map(m, mount);
	if (!m->p)
		return false;
	if (kind == ZERO_PAGE)
		for (i = 0; i < LEN; i += PAGE)
			if (((volatile unsigned char *)m->p)[i])
				return false;
	if (m->fd < 0 && kind != FRESH && kind != ZERO_PAGE)
		memory_fill(m->p, source, 0, LEN);
	return memory_turn(m);
}

/* Whether what else should be so afterwards is so; all of it was carried. */
static inline bool memory_after(struct memory *m, enum memory_kind from)
{
	unsigned char *file;
	void *bad = NULL;

	switch (m->kind) {
	case COPIED:
		return copy_is_good(m);
	case COPIED_WAITING:
		__atomic_store_n(&m->sync->look, 1, __ATOMIC_SEQ_CST);
		pthread_join(m->thread, &bad);
		return !bad;
	case UFFD_MISSING:
		return m->events >= LEN / PAGE;
	case UFFD_WP:
		return m->source ? !m->events : m->events >= LEN / PAGE;
	default:
		break;
	}
	if (m->source)
		return true;
	switch (m->kind) {
	case ZERO_PAGE:
		return is_filled(map_anonymous(LEN, 0), 0, LEN);
	case FILE_SHARED:
	case FILE_PRIVATE:
	case HUGETLB_SHARED:
		file = map_anonymous(LEN, 0);
		if (pread(m->fd, file, LEN, 0) != LEN)
			return false;
		return m->kind == FILE_PRIVATE ? is_filled(file, OLD, LEN) :
						 comes_from(from, file, 0, LEN);
	case PAGED_OUT:
	case SWAPPED_IN:
	case FREED:
		/* It must not be taken for what is in swap, or for nothing. */
		madvise(m->p, LEN, MADV_PAGEOUT);
		return comes_from(from, m->p, 0, LEN);
	default:
		return true;
	}
}

#endif /* ZPIPE_TESTS_MEMORY_H */
