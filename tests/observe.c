// SPDX-License-Identifier: GPL-2.0-only
/*
 * Two views of pipes beside their descriptors: the list of all pipes in
 * debugfs, and the tracepoints. Only zpipe has them. Needs root. That an open
 * list keeps the module loaded is tested in module.c.
 */
#include "oracle.h"
#include "child.h"
#include "debug.h"
#include "direct.h"

#define NOBODY		65534
#define LARGE		(1L << 20)

FIXTURE(zpipes) {
	struct ends e;
};

FIXTURE_VARIANT(zpipes) {
	enum kind kind;
};

FIXTURE_VARIANT_ADD(zpipes, zpair) { .kind = ZPAIR };
FIXTURE_VARIANT_ADD(zpipes, znode) { .kind = ZNODE };

FIXTURE_SETUP(zpipes)
{
	ASSERT_EQ(0, mount_debugfs());
	ASSERT_EQ(0, ends_make(&self->e, variant->kind));
	ASSERT_EQ(0, open_ends(&self->e, 0));
}

FIXTURE_TEARDOWN(zpipes)
{
	ends_free(&self->e);
}

FIXTURE(list) {
	struct ends e;
};

FIXTURE_SETUP(list)
{
	ASSERT_EQ(0, mount_debugfs());
	ASSERT_EQ(0, ends_make(&self->e, ZNODE));
}

FIXTURE_TEARDOWN(list)
{
	ends_free(&self->e);
}

/* The list in debugfs. */

/*
 * Reads a whole file, at most @size bytes in a call. The caller frees the text.
 */
static char *text_of(int fd, size_t size)
{
	size_t used = 0, space = size + 1;
	char *text = malloc(space);
	ssize_t n;

	while (fd >= 0 && (n = read(fd, text + used, size)) > 0) {
		used += n;
		space = used + size + 1;
		text = realloc(text, space);
	}
	text[used] = 0;
	return text;
}

static char *text_at(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	char *text = text_of(fd, PAGE);

	if (fd >= 0)
		close(fd);
	return text;
}

/*
 * How often @list has the pipe of an inode. If @own is not NULL, *@own is set
 * to the text behind the last such entry's head.
 */
static int times_in(const char *list, const struct stat *st, const char **own)
{
	char head[96];
	int n = 0;

	/* An entry begins at the start of the list or after an empty line. */
	snprintf(head, sizeof(head), "zpipe-inode:\t%lu\nzpipe-device:\t%u:%u\n",
		 (unsigned long)st->st_ino, major(st->st_dev),
		 minor(st->st_dev));
	for (const char *p = list; (p = strstr(p, head)); p++) {
		if (p != list && strncmp(p - 2, "\n\n", 2))
			continue;
		n++;
		if (own)
			*own = p + strlen(head);
	}
	return n;
}

static int times_listed(const struct stat *st)
{
	char *list = text_at(PIPES);
	int n = times_in(list, st, NULL);

	free(list);
	return n;
}

/* Checks that fdinfo and the list have the same lines of a pipe. */
static void same_as_fdinfo(struct __test_metadata *_metadata, int fd)
{
	char path[40], *info, *list, *lines, *end;
	const char *own = NULL;
	struct stat st;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	info = text_at(path);
	list = text_at(PIPES);
	lines = strstr(info, "zpipe-slots:");
	ASSERT_NE(NULL, lines);
	ASSERT_EQ(0, fstat(fd, &st));
	ASSERT_EQ(1, times_in(list, &st, &own));
	end = strstr(own, "\n\n");
	ASSERT_NE(NULL, end);
	end[1] = 0;
	EXPECT_STREQ(lines, own);
	free(info);
	free(list);
}

/* A number in the list's entry of a pipe, or -1. */
static long listed_number(int fd, const char *name)
{
	char line[64], *list = text_at(PIPES);
	const char *own = NULL, *p, *end;
	struct stat st;
	long n = -1;

	snprintf(line, sizeof(line), "\n%s:\t", name);
	if (!fstat(fd, &st) && times_in(list, &st, &own) == 1) {
		end = strstr(own, "\n\n");
		p = strstr(own - 1, line);
		if (p && p < end)
			n = strtol(p + strlen(line), NULL, 10);
	}
	free(list);
	return n;
}

TEST_F_TIMEOUT(zpipes, list_says_what_fdinfo_says, TIMEOUT)
{
	struct ends *e = &self->e;
	struct child c;

	same_as_fdinfo(_metadata, e->fd[0]);
	ASSERT_EQ(5000, stream_write(e->fd[1], 0, 5000));
	same_as_fdinfo(_metadata, e->fd[1]);
	ASSERT_EQ(100, stream_read(e->fd[0], 0, 100));
	same_as_fdinfo(_metadata, e->fd[0]);
	ASSERT_EQ(32 * PAGE, set_capacity(e->kind, e->fd[0], 32 * PAGE));
	same_as_fdinfo(_metadata, e->fd[0]);
	child_write(&c, e, 5000, LARGE);
	ASSERT_TRUE(child_asleep(&c));
	same_as_fdinfo(_metadata, e->fd[0]);
	child_kill(&c);
	same_as_fdinfo(_metadata, e->fd[0]);
}

TEST_F_TIMEOUT(zpipes, list_counts_what_was_done, TIMEOUT)
{
	struct ends *e = &self->e;

	EXPECT_EQ(0, listed_number(e->fd[0], "zpipe-bytes-written"));
	EXPECT_EQ(0, listed_number(e->fd[0], "zpipe-reads"));
	EXPECT_EQ(0, listed_number(e->fd[0], "zpipe-slots"));
	ASSERT_EQ(5000, stream_write(e->fd[1], 0, 5000));
	ASSERT_EQ(10, stream_write(e->fd[1], 5000, 10));
	ASSERT_EQ(100, stream_read(e->fd[0], 0, 100));
	EXPECT_EQ(5010, listed_number(e->fd[0], "zpipe-bytes-written"));
	EXPECT_EQ(2, listed_number(e->fd[0], "zpipe-writes"));
	EXPECT_EQ(100, listed_number(e->fd[0], "zpipe-bytes-read"));
	EXPECT_EQ(1, listed_number(e->fd[0], "zpipe-reads"));
	EXPECT_EQ(4910, listed_number(e->fd[0], "zpipe-buffered"));
	EXPECT_EQ(2, listed_number(e->fd[0], "zpipe-slots"));
	EXPECT_EQ(1, listed_number(e->fd[0], "zpipe-readers"));
	close_end(e, 1);
	EXPECT_EQ(0, listed_number(e->fd[0], "zpipe-writers"));
}

TEST_F_TIMEOUT(zpipes, list_has_a_pipe_as_long_as_it_lives, TIMEOUT)
{
	struct stat st;
	int again, i;

	ASSERT_EQ(0, fstat(self->e.fd[0], &st));
	EXPECT_EQ(1, times_listed(&st));
	close_end(&self->e, 0);
	EXPECT_EQ(1, times_listed(&st));
	close_end(&self->e, 1);
	EXPECT_EQ(0, times_listed(&st));
	for (i = 0; i < 20; i++) {
		ASSERT_EQ(0, open_ends(&self->e, 0));
		ASSERT_EQ(0, fstat(self->e.fd[0], &st));
		again = dup(self->e.fd[1]);
		ASSERT_EQ(3 * PAGE, stream_write(again, 0, 3 * PAGE));
		close_end(&self->e, i & 1);
		close_end(&self->e, !(i & 1));
		EXPECT_EQ(1, times_listed(&st));
		close(again);
		EXPECT_EQ(0, times_listed(&st));
	}
}

TEST_F_TIMEOUT(list, has_a_node_that_is_being_opened, TIMEOUT)
{
	struct stat st;
	struct child c;

	ASSERT_EQ(0, stat(self->e.path, &st));
	EXPECT_EQ(0, times_listed(&st));
	child_open(&c, self->e.path, O_RDONLY);
	ASSERT_TRUE(child_asleep(&c));
	EXPECT_EQ(1, times_listed(&st));
	EXPECT_EQ(KILLED(SIGKILL), child_kill(&c));
	EXPECT_EQ(0, times_listed(&st));
}

/* Opens a pair, or closes it if it is open. */
static int toggle(struct ends *e)
{
	e->kind = ZPAIR;
	if (e->fd[0] < 0)
		return open_ends(e, 0);
	close_end(e, 0);
	close_end(e, 1);
	return 0;
}

/*
 * The list is longer than a page and read in pieces, while other pipes are
 * opened and closed. Each pipe that stays open is listed once.
 */
TEST_F_TIMEOUT(list, has_each_pipe_once, 2 * TIMEOUT)
{
	static const size_t sizes[] = { 100, 1000, PAGE, 65536 };
	struct ends stay[150], others[16];
	struct stat st[ARRAY_SIZE(stay)];
	size_t used, s;
	char *text;
	int fd, i, round = 0;
	ssize_t n;

	/* The pipes that come and go are allocated between those that stay. */
	memset(others, -1, sizeof(others));
	memset(stay, -1, sizeof(stay));
	for (i = 0; i < ARRAY_SIZE(stay); i++) {
		ASSERT_EQ(0, toggle(&stay[i]));
		ASSERT_EQ(0, fstat(stay[i].fd[0], &st[i]));
		if (i % 10 == 5)
			ASSERT_EQ(0, toggle(&others[i / 10]));
	}
	text = malloc(LARGE);
	for (s = 0; s < ARRAY_SIZE(sizes); s++) {
		fd = open(PIPES, O_RDONLY);
		ASSERT_LE(0, fd);
		used = 0;
		while ((n = read(fd, text + used, sizes[s])) > 0) {
			used += n;
			ASSERT_GT(LARGE - 65536, used);
			ASSERT_EQ(0, toggle(&others[round++ % 16]));
		}
		ASSERT_EQ(0, n);
		close(fd);
		text[used] = 0;
		for (i = 0; i < ARRAY_SIZE(stay); i++)
			EXPECT_EQ(1, times_in(text, &st[i], NULL));
	}
	/* Read from the middle, and then again from the start. */
	fd = open(PIPES, O_RDONLY);
	ASSERT_LT(0, pread(fd, text, PAGE, 10000));
	ASSERT_EQ(0, lseek(fd, 0, SEEK_SET));
	free(text);
	text = text_of(fd, PAGE);
	for (i = 0; i < ARRAY_SIZE(stay); i++)
		EXPECT_EQ(1, times_in(text, &st[i], NULL));
	free(text);
}

/* Opens and closes pairs while the tester reads the list. */
static long come_and_go(struct child *c)
{
	struct ends e = { .kind = ZPAIR };
	int *stop = c->arg;

	while (!__atomic_load_n(stop, __ATOMIC_SEQ_CST)) {
		if (open_ends(&e, 0) ||
		    stream_write(e.fd[1], 0, 2 * PAGE) != 2 * PAGE ||
		    stream_read(e.fd[0], 0, 100) != 100) {
			errno = EIO;
			return -1;
		}
		close_end(&e, 1);
		close_end(&e, 0);
	}
	return 0;
}

TEST_F_TIMEOUT(zpipes, list_races_open_and_close, TIMEOUT)
{
	int *stop = shared_alloc(sizeof(*stop));
	struct child c[2];
	struct stat st;
	int i;

	ASSERT_EQ(0, fstat(self->e.fd[0], &st));
	for (i = 0; i < ARRAY_SIZE(c); i++)
		child_run(&c[i], come_and_go, stop);
	for (i = 0; i < 300; i++)
		EXPECT_EQ(1, times_listed(&st));
	__atomic_store_n(stop, 1, __ATOMIC_SEQ_CST);
	for (i = 0; i < ARRAY_SIZE(c); i++)
		EXPECT_EQ(0, child_join(&c[i]));
}

static long open_as_nobody(struct child *c)
{
	if (setresgid(NOBODY, NOBODY, NOBODY) ||
	    setresuid(NOBODY, NOBODY, NOBODY))
		return -1;
	/* Show that the directory can be searched, so only the file refuses. */
	if (faccessat(c->flags, ".", X_OK, 0))
		return -1;
	return openat(c->flags, "pipes", O_RDONLY);
}

TEST_F_TIMEOUT(list, is_for_root, TIMEOUT)
{
	struct child c = { .fn = open_as_nobody, .drop = -1 };
	struct stat st;
	int fd;

	ASSERT_EQ(0, stat(PIPES, &st));
	EXPECT_EQ(S_IFREG | 0400, st.st_mode);
	EXPECT_EQ(0, st.st_uid);
	c.flags = open(DEBUGFS "/zpipe", O_RDONLY | O_DIRECTORY);
	ASSERT_LE(0, c.flags);
	fd = openat(c.flags, "pipes", O_RDONLY);
	ASSERT_LE(0, fd);
	close(fd);
	child_start(&c, 0);
	EXPECT_EQ(-EACCES, child_join(&c));
	close(c.flags);
}

/* The tracepoints, in a trace instance of their own. */

FIXTURE(traced) {
	struct ends e;
	struct trace trace;
};

FIXTURE_VARIANT(traced) {
	enum kind kind;
};

FIXTURE_VARIANT_ADD(traced, zpair) { .kind = ZPAIR };
FIXTURE_VARIANT_ADD(traced, znode) { .kind = ZNODE };

FIXTURE_SETUP(traced)
{
	struct stat st;

	signal(SIGPIPE, SIG_IGN);
	ASSERT_EQ(0, ends_make(&self->e, variant->kind));
	ASSERT_EQ(0, open_ends(&self->e, 0));
	ASSERT_EQ(0, fstat(self->e.fd[0], &st));
	ASSERT_EQ(0, trace_start(&self->trace, &st));
}

FIXTURE_TEARDOWN(traced)
{
	trace_end(&self->trace);
	ends_free(&self->e);
}

#define NONE	(-1000000L)

/*
 * Finds the pipe's next event @name behind *@at, and advances *@at past it.
 * Returns the text behind " @field=", "" if the event has no such field, or
 * NULL if no event follows.
 */
static const char *event(const char **at, struct trace *t, const char *name,
			 const char *field)
{
	char head[128], word[32];
	const char *p, *end;

	snprintf(head, sizeof(head), ": %s: dev=%u:%u ino=%lu ", name,
		 major(t->st.st_dev), minor(t->st.st_dev),
		 (unsigned long)t->st.st_ino);
	snprintf(word, sizeof(word), " %s=", field);
	p = strstr(*at, head);
	if (!p)
		return NULL;
	p += strlen(head) - 1;
	end = strchr(p, '\n');
	*at = end ? end : p;
	p = strstr(p, word);
	return p && p < *at ? p + strlen(word) : "";
}

/* The same as a number, or NONE. */
static long event_number(const char **at, struct trace *t, const char *name,
			 const char *field)
{
	const char *p = event(at, t, name, field);

	return p ? strtol(p, NULL, 10) : NONE;
}

/* The number of events whose @field is @value, or of all if @value is NULL. */
static long event_count(const char *text, struct trace *t, const char *name,
			const char *field, const char *value)
{
	const char *p;
	long n = 0;

	while ((p = event(&text, t, name, field))) {
		size_t len = strcspn(p, "\n ");

		n += !value || (len == strlen(value) && !strncmp(p, value, len));
	}
	return n;
}

static long events_sum(const char *text, struct trace *t, const char *name,
		       const char *field)
{
	long n, sum = 0;

	while ((n = event_number(&text, t, name, field)) != NONE)
		sum += n > 0 ? n : 0;
	return sum;
}

static void expect_transfer(struct __test_metadata *_metadata,
			    struct trace *t, const char **at, const char *name,
			    long asked, long result)
{
	const char *asked_at = *at;

	EXPECT_EQ(asked, event_number(&asked_at, t, name, "asked"));
	EXPECT_EQ(result, event_number(at, t, name, "result"));
}

TEST_F_TIMEOUT(traced, reads_and_writes, TIMEOUT)
{
	struct ends *e = &self->e;
	struct trace *t = &self->trace;
	char *text;
	const char *at;

	ASSERT_EQ(0, set_nonblock(e->fd[0], true));
	ASSERT_EQ(-EAGAIN, stream_read(e->fd[0], 0, 50));
	ASSERT_EQ(100, stream_write(e->fd[1], 0, 100));
	ASSERT_EQ(100, stream_read(e->fd[0], 0, 200));
	ASSERT_EQ(3 * PAGE + 1, stream_write(e->fd[1], 0, 3 * PAGE + 1));
	ASSERT_EQ(2 * PAGE, stream_read(e->fd[0], 0, 2 * PAGE));
	close_end(e, 0);
	ASSERT_EQ(-EPIPE, stream_write(e->fd[1], 0, 7));

	text = trace_text(t);
	at = text;
	expect_transfer(_metadata, t, &at, "zpipe_read", 50, -EAGAIN);
	expect_transfer(_metadata, t, &at, "zpipe_write", 100, 100);
	expect_transfer(_metadata, t, &at, "zpipe_read", 200, 100);
	expect_transfer(_metadata, t, &at, "zpipe_write", 3 * PAGE + 1,
			3 * PAGE + 1);
	expect_transfer(_metadata, t, &at, "zpipe_read", 2 * PAGE, 2 * PAGE);
	expect_transfer(_metadata, t, &at, "zpipe_write", 7, -EPIPE);
	EXPECT_EQ(3, event_count(text, t, "zpipe_read", "result", NULL));
	EXPECT_EQ(3, event_count(text, t, "zpipe_write", "result", NULL));
	EXPECT_EQ(0, event_count(text, t, "zpipe_post", "bytes", NULL));
	EXPECT_EQ(0, event_count(text, t, "zpipe_pull", "bytes", NULL));
	EXPECT_EQ(0, event_count(text, t, "zpipe_wait", "who", NULL));
	free(text);
}

TEST_F_TIMEOUT(traced, a_reader_that_waits, TIMEOUT)
{
	struct ends *e = &self->e;
	struct trace *t = &self->trace;
	const char *at, *p;
	struct child c;
	char *text;

	child_read(&c, e, 100);
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_EQ(10, stream_write(e->fd[1], 0, 10));
	EXPECT_EQ(10, child_join(&c));

	/* The events have this order. */
	text = trace_text(t);
	at = text;
	p = event(&at, t, "zpipe_wait", "who");
	ASSERT_NE(NULL, p);
	EXPECT_EQ(0, strncmp(p, "reader\n", 7));
	p = event(&at, t, "zpipe_wake", "who");
	ASSERT_NE(NULL, p);
	EXPECT_EQ(0, strncmp(p, "reader\n", 7));
	expect_transfer(_metadata, t, &at, "zpipe_read", 100, 10);
	EXPECT_EQ(fdinfo_number(e->fd[0], "zpipe-read-waits"),
		  event_count(text, t, "zpipe_wait", "who", "reader"));
	free(text);
}

TEST_F_TIMEOUT(traced, a_writer_that_waits, TIMEOUT)
{
	struct ends *e = &self->e;
	struct trace *t = &self->trace;
	const char *at, *p;
	struct child c;
	char *text;

	ASSERT_EQ(SLOTS * PAGE, stream_write(e->fd[1], 0, SLOTS * PAGE));
	child_write(&c, e, SLOTS * PAGE, 100);
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_EQ(PAGE, stream_read(e->fd[0], 0, PAGE));
	EXPECT_EQ(100, child_join(&c));

	/*
	 * The events have this order. The woken writer wakes the next one if a
	 * slot is still free, so there may be more.
	 */
	text = trace_text(t);
	at = text;
	p = event(&at, t, "zpipe_wait", "who");
	ASSERT_NE(NULL, p);
	EXPECT_EQ(0, strncmp(p, "writer\n", 7));
	p = event(&at, t, "zpipe_wake", "who");
	ASSERT_NE(NULL, p);
	EXPECT_EQ(0, strncmp(p, "writer\n", 7));
	expect_transfer(_metadata, t, &at, "zpipe_write", 100, 100);
	EXPECT_LE(1, fdinfo_number(e->fd[0], "zpipe-write-waits"));
	EXPECT_EQ(fdinfo_number(e->fd[0], "zpipe-write-waits"),
		  event_count(text, t, "zpipe_wait", "who", "writer"));
	free(text);
}

/* The events of posted writes and pulls agree with the counters. */
TEST_F_TIMEOUT(traced, posts_and_pulls, TIMEOUT)
{
	static const char * const misses[] = { "busy", "mapping", "page" };
	struct ends *e = &self->e;
	struct trace *t = &self->trace;
	long done = 0, n, posts;
	char name[32], *text;
	struct child c;
	size_t i;

	child_write_private(&c, e, 0, LARGE);
	ASSERT_TRUE(child_asleep(&c));
	while (done < LARGE) {
		n = stream_read(e->fd[0], done, 65536);
		ASSERT_LT(0, n);
		done += n;
	}
	EXPECT_EQ(LARGE, child_join(&c));

	text = trace_text(t);
	posts = fdinfo_number(e->fd[0], "zpipe-posted-writes");
	EXPECT_LE(1, posts);
	EXPECT_EQ(posts, event_count(text, t, "zpipe_post", "bytes", NULL));
	EXPECT_EQ(posts, event_count(text, t, "zpipe_wait", "who", "owner"));
	EXPECT_LE(LARGE, events_sum(text, t, "zpipe_post", "bytes"));
	EXPECT_LT(0, events_sum(text, t, "zpipe_pull", "bytes"));
	EXPECT_EQ(fdinfo_number(e->fd[0], "zpipe-bytes-pulled"),
		  events_sum(text, t, "zpipe_pull", "bytes"));
	EXPECT_LE(1, event_count(text, t, "zpipe_wake", "who", "owner"));
	for (i = 0; i < ARRAY_SIZE(misses); i++) {
		snprintf(name, sizeof(name), "zpipe-pull-misses-%s", misses[i]);
		EXPECT_EQ(fdinfo_number(e->fd[0], name),
			  event_count(text, t, "zpipe_pull", "outcome", misses[i]));
	}
	EXPECT_EQ(LARGE, events_sum(text, t, "zpipe_read", "result"));
	EXPECT_EQ(1, event_count(text, t, "zpipe_write", "result", "1048576"));
	free(text);
}

TEST_F_TIMEOUT(traced, nothing_when_off, TIMEOUT)
{
	struct ends *e = &self->e;
	struct trace *t = &self->trace;
	char *text;

	ASSERT_EQ(100, stream_write(e->fd[1], 0, 100));
	ASSERT_EQ(0, trace_enable(t, "zpipe", false));
	ASSERT_EQ(100, stream_read(e->fd[0], 0, 100));
	ASSERT_EQ(200, stream_write(e->fd[1], 0, 200));
	/* Turn on one tracepoint alone. */
	ASSERT_EQ(0, trace_enable(t, "zpipe/zpipe_read", true));
	ASSERT_EQ(200, stream_read(e->fd[0], 0, 200));
	ASSERT_EQ(300, stream_write(e->fd[1], 0, 300));

	text = trace_text(t);
	EXPECT_EQ(100, events_sum(text, t, "zpipe_write", "result"));
	EXPECT_EQ(200, events_sum(text, t, "zpipe_read", "result"));
	free(text);
}

TEST_HARNESS_MAIN
