/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Kinds of memory that a test transfers from or to. The table of all kinds is kinds.h. The
 * functions here make memory of a kind, fill it, and check it after a transfer.
 */
#ifndef ZPIPE_TESTS_MEMORY_H
#define ZPIPE_TESTS_MEMORY_H

#include "oracle.h"
#include "child.h"
#include "trap.h"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL	102
#endif

#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE	0x08
#endif

#define MIB		(1L << 20)
#define LEN		(MIB / 2)	/* bytes that direct_memory.c transfers */
#define BAD_AT		(40 * PAGE)	/* offset of the special part there */
#define OLD		0x5a		/* byte that fills a destination at first */
#define ROM		0xf0000		/* physical address of a PC's firmware */
#define ROM_LEN		(16 * PAGE)
#define KSM_PAGES	32		/* pages of the memory that KSM merges with */

#define MEMKIND(constant, ...) constant,

enum memory_kind {
#include "kinds.h"
};

/* The words of the columns of kinds.h. */
enum memory_carry {
	NO_TEST,
	SOURCE,
	DESTINATION,
	BOTH,
};

enum memory_push {
	NOTHING = 1,
	HALF,
	ALL,
};

enum memory_gift {
	SMALL = ZPIPE_REASON_SMALL,
	MAPPING = ZPIPE_REASON_MAPPING,
};

/* When a system call fails with EFAULT at the part. */
enum memory_bad {
	GOOD,
	BAD_TO_WRITE,
	BAD,
};

/* The bytes that a reader gets if a writer sends memory of a kind. */
enum memory_bytes {
	STREAM,
	ZEROS,
	PART_ZEROS,		/* the stream up to the part, zeros from there on */
	FIRMWARE,		/* the stream, and in the part the firmware's bytes */
};

/* A process that has a copy of the memory shares this with the tester. */
struct copy_sync {
	int ready;		/* the process has its copy */
	int look;		/* the process shall compare its copy now, and exit */
};

struct memory;

struct memory_type {
	const char *name;
	/* Columns of kinds.h; 0: no test case. */
	unsigned int carry, push, gift;
	/* Maps the memory, at m->p if that is not NULL; NULL: this is not possible here. */
	void *(*map)(struct memory *m);
	bool untouched;		/* the owner does not fill it through the mapping */
	/* Makes filled memory the kind that it shall be; false: not possible here. */
	bool (*change)(struct memory *m);
	/* Makes it plain memory again. */
	bool (*undo)(struct memory *m);
	/* True if a transfer of all of @m had the effects elsewhere that it must have. */
	bool (*check)(struct memory *m, enum memory_kind from);
	/* True if others that share pages of @m still have the bytes that they had. */
	bool (*intact)(struct memory *m);
	enum memory_bad bad;
	enum memory_bytes bytes;
	bool rest;		/* the part extends to the end, otherwise it is a page */
	bool grows;		/* the part is m->tail, in an area that grows on a fault */
	bool logs;		/* a fault of another task in it would make the kernel log */
	bool waits;		/* it changes as soon as its owner waits */
	bool hugetlb;		/* it takes pages that the tester has to reserve */
	bool fuse;		/* it needs m->mount */
	int prot;
	int advice, advice_back;
};

/*
 * Memory of one process. The caller of memory_make() sets the fields up to @sync, and
 * leaves those 0 that do not matter.
 */
struct memory {
	enum memory_kind kind;
	bool source;			/* a writer's memory, otherwise a reader's */
	bool huge;			/* of huge pages, if it is anonymous */
	size_t len;
	unsigned char *p;		/* where to map it; NULL: anywhere */
	const unsigned char *first;	/* initial bytes; NULL: a source's stream, or OLD */
	size_t part;			/* offset of the part that differs, if one does */
	size_t part_len;		/* 0: as the kind has it */
	struct fuse_mount *mount;
	struct copy_sync *sync;

	const struct memory_type *type;
	size_t head;			/* bytes at @p */
	unsigned char *tail;		/* the other bytes */
	int fd;				/* of the mapped file or of the userfaultfd */
	int events;			/* page faults that the userfaultfd reported */
	pthread_t thread;
	pid_t copy;			/* the process that has a copy */
	pid_t owner;			/* the thread that called memory_make() */
	unsigned char *other;		/* memory that KSM merges with it */
};

static inline unsigned char *memory_at(struct memory *m, size_t off)
{
	return off < m->head ? m->p + off : m->tail + (off - m->head);
}

static inline size_t memory_part_len(struct memory *m)
{
	return m->part_len ?: m->type->rest ? m->len - m->part : PAGE;
}

static inline bool is_filled(const unsigned char *p, int byte, size_t len)
{
	return !len || (*p == byte && !memcmp(p, p + 1, len - 1));
}

/* Fills @buf with the initial bytes of the memory from @off on. */
static inline void memory_fill(struct memory *m, void *buf, size_t off, size_t len)
{
	if (m->first)
		memcpy(buf, m->first + off, len);
	else if (m->source)
		stream_fill(buf, off, len);
	else
		memset(buf, OLD, len);
}

/* True if @buf holds the initial bytes of the memory. */
static inline bool memory_is_first(struct memory *m, const unsigned char *buf, size_t len)
{
	if (m->first)
		return !memcmp(buf, m->first, len);
	return m->source ? stream_diff(buf, 0, len) < 0 : is_filled(buf, OLD, len);
}

/* Maps the firmware; NULL if /dev/mem does not allow it. */
static inline void *map_rom(void *at, int prot, int flags)
{
	int fd = open("/dev/mem", O_RDWR | O_CLOEXEC);
	void *p = mmap(at, ROM_LEN, prot, MAP_SHARED | flags, fd, ROM);

	close(fd);
	return p == MAP_FAILED ? NULL : p;
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

/*
 * Collapses memory to huge pages. True if that worked, and for memory that cannot have huge
 * pages (EINVAL). Retries, since another task may refer to a page for a moment: one that
 * drains a per-processor list, for instance.
 */
static inline bool made_huge(void *at, size_t bytes)
{
	return eventually(!madvise(at, bytes, MADV_COLLAPSE) || errno == EINVAL);
}

/*
 * How memory of each kind is mapped.
 */

static inline void *map_memory(struct memory *m, size_t len, int flags, int fd)
{
	void *p = mmap(m->p, len, PROT_READ | PROT_WRITE, flags | (m->p ? MAP_FIXED : 0), fd, 0);

	return p == MAP_FAILED ? NULL : p;
}

static inline void *map_plain(struct memory *m)
{
	void *p = map_memory(m, m->len, MAP_PRIVATE | MAP_ANONYMOUS, -1);

	if (p && m->huge)
		madvise(p, m->len, MADV_HUGEPAGE);
	return p;
}

/* Maps memory without huge pages: a fault brings one page. */
static inline void *map_small(struct memory *m)
{
	void *p = map_plain(m);

	if (p)
		madvise(p, m->len, MADV_NOHUGEPAGE);
	return p;
}

static inline void *map_fresh(struct memory *m)
{
	return m->huge ? map_plain(m) : map_small(m);
}

static inline void *map_half(struct memory *m)
{
	void *p = map_small(m);

	if (p)
		memory_fill(m, p, 0, (m->len / 2) & -PAGE);
	return p;
}

static inline void *map_zero_page(struct memory *m)
{
	volatile unsigned char *p = map_small(m);
	size_t i;

	for (i = 0; p && i < m->len; i += PAGE)
		if (p[i])
			return NULL;
	return (void *)p;
}

static inline void *map_locked(struct memory *m)
{
	void *p = map_plain(m);

	return p && !mlock(p, m->len) ? p : NULL;
}

static inline size_t whole_huge_pages(struct memory *m)
{
	return (m->len + 2 * MIB - 1) & -(2 * MIB);
}

static inline void *map_huge(struct memory *m)
{
	size_t len = whole_huge_pages(m);
	unsigned long p;

	if (m->p) {
		p = (unsigned long)map_memory(m, len, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	} else {
		p = (unsigned long)map_anonymous(len + 2 * MIB, 0);
		p = (p + 2 * MIB - 1) & -(2 * MIB);
	}
	madvise((void *)p, len, MADV_HUGEPAGE);
	return (void *)p;
}

static inline void *map_shared(struct memory *m)
{
	return map_memory(m, m->len, MAP_SHARED | MAP_ANONYMOUS, -1);
}

static inline void *map_droppable(struct memory *m)
{
	void *p = map_memory(m, m->len, MAP_DROPPABLE | MAP_ANONYMOUS, -1);

	if (p && m->huge)
		madvise(p, m->len, MADV_HUGEPAGE);
	return p;
}

static inline void *map_hugetlb(struct memory *m)
{
	set_hugepages("4");
	return map_memory(m, whole_huge_pages(m), MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1);
}

/*
 * Maps a file of @size bytes that holds the initial bytes. The file is filled through another
 * mapping, so that the new one has no page in the page table.
 */
static inline void *map_file(struct memory *m, int fd, size_t size, int flags)
{
	void *p;

	m->fd = fd;
	if (fd < 0 || ftruncate(fd, size))
		return NULL;
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return NULL;
	memory_fill(m, p, 0, size < m->len ? size : m->len);
	munmap(p, size);
	return map_memory(m, size > m->len ? size : m->len, flags, fd);
}

static inline void *map_hugetlb_file(struct memory *m)
{
	set_hugepages("4");
	return map_file(m, memfd_create("zpipe-test", MFD_HUGETLB), whole_huge_pages(m),
			MAP_SHARED);
}

static inline void *map_file_shared(struct memory *m)
{
	return map_file(m, memfd_create("zpipe-test", 0), m->len, MAP_SHARED);
}

static inline void *map_file_private(struct memory *m)
{
	return map_file(m, memfd_create("zpipe-test", 0), m->len, MAP_PRIVATE);
}

static inline void *map_short_file(struct memory *m)
{
	return map_file(m, memfd_create("zpipe-test", 0), m->part, MAP_SHARED);
}

static inline void *map_secret(struct memory *m)
{
	return map_file(m, syscall(SYS_memfd_secret, 0), m->len, MAP_SHARED);
}

static inline void *map_fuse(struct memory *m)
{
	m->fd = open(m->mount->file, O_RDWR);
	return map_memory(m, m->len, MAP_PRIVATE, m->fd);
}

/* How many pages from @p on are resident; -1 if pagemap cannot be read. */
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

/*
 * Pages out all pages but at most one in 20, which the kernel may be using at the moment. False
 * if there is no swap, or if more pages stay resident.
 */
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
 * Fills @buf with bytes that compress well, for tests that swap much memory. Each word of a page
 * is the page's offset, with @id in its upper bits. One page in 16 holds the stream instead.
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

/* True if @buf holds what pages_fill() writes at @off. */
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

/* The lowest mapped address of the process stack. */
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

/*
 * How filled memory becomes memory of its kind.
 */

static inline bool map_part_to_device(struct memory *m)
{
	return map_rom(m->p + m->part, PROT_READ | (m->source ? 0 : PROT_WRITE), MAP_FIXED);
}

static inline bool map_part_to_memory(struct memory *m)
{
	unsigned char *part = m->p + m->part;

	if (mmap(part, ROM_LEN, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != part)
		return false;
	if (m->huge)
		madvise(m->p, m->len, MADV_HUGEPAGE);
	return true;
}

static inline bool put_tail_on_stack(struct memory *m)
{
	m->head = m->part;
	m->tail = stack_start() - (m->len - m->part);
	return stack_start();
}

static inline bool put_tail_below_mapping(struct memory *m)
{
	m->head = m->part;
	m->tail = map_anonymous(m->len, MAP_GROWSDOWN);
	if (m->tail)
		m->tail -= 8 * PAGE;
	return m->tail;
}

/* Sets a new protection key with these rights; false if there are no keys. */
static inline bool lock_up(void *p, size_t len, int rights)
{
	int key = pkey_alloc(0, 0);

	return key >= 0 && !pkey_mprotect(p, len, PROT_READ | PROT_WRITE, key) &&
	       !pkey_set(key, rights);
}

static inline bool set_pkey(struct memory *m)
{
	return lock_up(m->p, m->len, 0);
}

static inline bool unset_pkey(struct memory *m)
{
	return !pkey_mprotect(m->p, m->len, PROT_READ | PROT_WRITE, 0);
}

static inline bool deny_part(struct memory *m)
{
	return lock_up(m->p + m->part, memory_part_len(m),
		       m->source ? PKEY_DISABLE_ACCESS : PKEY_DISABLE_WRITE);
}

static inline bool protect_part(struct memory *m)
{
	return !mprotect(m->p + m->part, memory_part_len(m), m->type->prot);
}

/* Without protection keys, PROT_EXEC memory is readable on x86. */
static inline bool protect_part_by_key(struct memory *m)
{
	int key = pkey_alloc(0, 0);

	return key >= 0 && !pkey_free(key) &&
	       !mprotect(m->p + m->part, memory_part_len(m), PROT_EXEC);
}

static inline bool unmap_part(struct memory *m)
{
	return !munmap(m->p + m->part, memory_part_len(m));
}

static inline bool guard_part(struct memory *m)
{
	return !madvise(m->p + m->part, memory_part_len(m), MADV_GUARD_INSTALL);
}

static inline bool advise(struct memory *m)
{
	return !madvise(m->p, m->len, m->type->advice);
}

static inline bool advise_back(struct memory *m)
{
	return !madvise(m->p, m->len, m->type->advice_back);
}

static inline bool page_all_out(struct memory *m)
{
	return page_out(m->p, m->len);
}

static inline bool swap_in(struct memory *m)
{
	return page_out(m->p, m->len) && memory_is_first(m, m->p, m->len);
}

/* Merges the first pages with those of other memory that holds the same bytes. */
static inline bool merge(struct memory *m)
{
	static const char dir[] = "/sys/kernel/mm/ksm";

	if (write_line(dir, "pages_to_scan", "2000") || write_line(dir, "sleep_millisecs", "1"))
		return false;
	m->other = map_anonymous(KSM_PAGES * PAGE, 0);
	memory_fill(m, m->other, 0, KSM_PAGES * PAGE);
	return !madvise(m->p, m->len, MADV_MERGEABLE) &&
	       !madvise(m->other, KSM_PAGES * PAGE, MADV_MERGEABLE) &&
	       !write_line(dir, "run", "1") &&
	       eventually(number_in("/proc/self/ksm_merging_pages", "") >= 2 * KSM_PAGES) &&
	       !write_line(dir, "run", "0");
}

static inline bool unmerge(struct memory *m)
{
	return !madvise(m->p, m->len, MADV_UNMERGEABLE) &&
	       !madvise(m->p, m->len, MADV_HUGEPAGE);
}

static inline bool other_is_intact(struct memory *m)
{
	return memory_is_first(m, m->other, KSM_PAGES * PAGE);
}

/*
 * The process that has a copy. A source's copy is overwritten before the transfer, a destination's
 * stays as it was. When the tester asks, the process checks that nobody else stored to it.
 */
static inline int copy_run(struct memory *m)
{
	unsigned char *p = m->p;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	close_range(3, ~0U, 0);
	if (m->source)
		memset(p, ~OLD, m->len);
	__atomic_store_n(&m->sync->ready, 1, __ATOMIC_SEQ_CST);
	while (!__atomic_load_n(&m->sync->look, __ATOMIC_SEQ_CST))
		usleep(1000);
	return !is_filled(p, m->source ? (unsigned char)~OLD : OLD, m->len);
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

static inline bool fork_now(struct memory *m)
{
	copy_start(m);
	return eventually(__atomic_load_n(&m->sync->ready, __ATOMIC_SEQ_CST));
}

/* A thread that forks once the owner waits in its call. The child dies with this thread. */
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

static inline bool fork_later(struct memory *m)
{
	return !pthread_create(&m->thread, NULL, copy_later, m);
}

static inline bool later_copy_is_good(struct memory *m)
{
	void *bad = NULL;

	__atomic_store_n(&m->sync->look, 1, __ATOMIC_SEQ_CST);
	pthread_join(m->thread, &bad);
	return !bad;
}

/* Registers memory with a new userfaultfd; the descriptor, or -1. */
static inline int uffd_register(void *at, size_t len, int mode, int features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	struct uffdio_register reg = {
		.range = { (unsigned long)at, len }, .mode = mode,
	};
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC);

	return fd >= 0 && !ioctl(fd, UFFDIO_API, &api) && !ioctl(fd, UFFDIO_REGISTER, &reg) ?
	       fd : -1;
}

/* Write-protects memory that is registered, or unprotects it; 0 or -1. */
static inline int uffd_protect(int fd, unsigned long at, size_t len, bool protect)
{
	struct uffdio_writeprotect arg = {
		.range = { at, len }, .mode = protect ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
	};

	return ioctl(fd, UFFDIO_WRITEPROTECT, &arg);
}

/* A thread that resolves each page fault for one page. */
static inline void *serve_faults(void *arg)
{
	struct memory *m = arg;
	static unsigned char page[PAGE];
	struct uffd_msg msg;

	for (;;) {
		struct uffdio_copy copy;
		unsigned long at;

		if (read(m->fd, &msg, sizeof(msg)) != sizeof(msg))
			return NULL;
		at = msg.arg.pagefault.address & -PAGE;
		m->events++;
		if (m->kind == UFFD_WP) {
			uffd_protect(m->fd, at, PAGE, false);
			continue;
		}
		memory_fill(m, page, at - (unsigned long)m->p, PAGE);
		copy = (struct uffdio_copy) {
			.dst = at, .src = (unsigned long)page, .len = PAGE,
		};
		ioctl(m->fd, UFFDIO_COPY, &copy);
	}
}

static inline bool serve_missing(struct memory *m)
{
	madvise(m->p, m->len, MADV_NOHUGEPAGE);
	madvise(m->p, m->len, MADV_DONTNEED);
	m->fd = uffd_register(m->p, m->len, UFFDIO_REGISTER_MODE_MISSING, 0);
	return m->fd >= 0 && !pthread_create(&m->thread, NULL, serve_faults, m);
}

static inline bool serve_protected(struct memory *m)
{
	madvise(m->p, m->len, MADV_NOHUGEPAGE);
	m->fd = uffd_register(m->p, m->len, UFFDIO_REGISTER_MODE_WP,
			      UFFD_FEATURE_PAGEFAULT_FLAG_WP);
	return m->fd >= 0 && !uffd_protect(m->fd, (unsigned long)m->p, m->len, true) &&
	       !pthread_create(&m->thread, NULL, serve_faults, m);
}

static inline bool poison_part(struct memory *m)
{
	unsigned char *part = m->p + m->part;
	size_t len = memory_part_len(m);
	struct uffdio_poison arg = { .range = { (unsigned long)part, len } };

	madvise(part, len, MADV_NOHUGEPAGE);
	madvise(part, len, MADV_DONTNEED);
	m->fd = uffd_register(part, len, UFFDIO_REGISTER_MODE_MISSING, UFFD_FEATURE_POISON);
	return m->fd >= 0 && !ioctl(m->fd, UFFDIO_POISON, &arg);
}

/*
 * What has to be right elsewhere after a transfer.
 */

static inline bool comes_from(enum memory_kind kind, const unsigned char *buf,
			      size_t off, size_t len);

static inline bool each_page_was_missing(struct memory *m, enum memory_kind from)
{
	return m->events >= m->len / PAGE;
}

static inline bool stores_were_told(struct memory *m, enum memory_kind from)
{
	return m->source ? !m->events : m->events >= m->len / PAGE;
}

/* The kernel's zero page still holds zeros. */
static inline bool zero_page_is_zero(struct memory *m)
{
	return is_filled(map_anonymous(m->len, 0), 0, m->len);
}

/* The mapped file holds the bytes that a reader's memory received. */
static inline bool file_has_arrived(struct memory *m, enum memory_kind from)
{
	unsigned char *file = map_anonymous(m->len, 0);

	return m->source || (pread(m->fd, file, m->len, 0) == m->len &&
			     comes_from(from, file, 0, m->len));
}

static inline bool file_is_intact(struct memory *m)
{
	unsigned char *file = map_anonymous(m->len, 0);

	return pread(m->fd, file, m->len, 0) == m->len && memory_is_first(m, file, m->len);
}

/*
 * The reader's pages are dirty after the transfer: paging them out must not drop them for the
 * old copy in swap, nor as lazily freed.
 */
static inline bool swap_is_right(struct memory *m, enum memory_kind from)
{
	if (m->source)
		return true;
	madvise(m->p, m->len, MADV_PAGEOUT);
	return comes_from(from, m->p, 0, m->len);
}

#define MEMKIND(constant, name_, carry_, push_, gift_, ...)			\
	[constant] = {							\
		.name = #name_, .carry = carry_, .push = push_,		\
		.gift = gift_, __VA_ARGS__				\
	},

static const struct memory_type memory_types[] = {
#include "kinds.h"
};

/* True if a call fails with EFAULT at the part of such memory. */
static inline bool is_bad(enum memory_kind kind, bool source)
{
	enum memory_bad bad = memory_types[kind].bad;

	return bad == BAD || (bad == BAD_TO_WRITE && !source);
}

/*
 * True if @buf holds the bytes that a reader gets from @off on of a source of that kind. The
 * source's part is at BAD_AT.
 */
static inline bool comes_from(enum memory_kind kind, const unsigned char *buf,
			      size_t off, size_t len)
{
	unsigned char *rom;
	size_t i;

	switch (memory_types[kind].bytes) {
	case ZEROS:
		return is_filled(buf, 0, len);
	case PART_ZEROS:
		i = off < BAD_AT ? BAD_AT - off : 0;
		i = i < len ? i : len;
		return stream_diff(buf, off, i) < 0 &&
		       is_filled(buf + i, 0, len - i);
	case FIRMWARE:
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

/*
 * Makes memory of m->kind for a call of this thread, filled with its initial bytes. False if that
 * is not possible here.
 */
static inline bool memory_make(struct memory *m)
{
	m->type = &memory_types[m->kind];
	m->head = m->len;
	m->fd = -1;
	m->owner = syscall(SYS_gettid);
	m->p = m->type->map(m);
	if (!m->p)
		return false;
	if (!m->type->untouched)
		memory_fill(m, m->p, 0, m->len);
	if (m->huge && m->type->map == map_plain && !made_huge(m->p, m->len))
		return false;
	return !m->type->change || m->type->change(m);
}

/* True if others that share pages of @m still have the bytes that they had. */
static inline bool memory_is_intact(struct memory *m)
{
	return !m->type->intact || m->type->intact(m);
}

/* True if a transfer of all of @m left everything right that is not in @m. */
static inline bool memory_after(struct memory *m, enum memory_kind from)
{
	return (!m->type->check || m->type->check(m, from)) && memory_is_intact(m);
}

#endif /* ZPIPE_TESTS_MEMORY_H */
