// SPDX-License-Identifier: GPL-2.0-only
/*
 * Private pairs: the properties of their descriptors, and opening them again through
 * /proc/self/fd.
 */
#include "oracle.h"
#include "child.h"

#include <sys/inotify.h>
#include <sys/uio.h>
#include <sys/vfs.h>

#define FULL		(SLOTS * PAGE)
#define LONER		54321

#ifndef PIPEFS_MAGIC
#define PIPEFS_MAGIC	0x50495045
#endif

/* The path of one of this process's descriptors. */
static const char *fd_path(int fd)
{
	static char path[4][40];
	static int next;

	next = (next + 1) % 4;
	snprintf(path[next], sizeof(path[next]), "/proc/self/fd/%d", fd);
	return path[next];
}

static long reopen(int fd, int flags)
{
	return sys(open(fd_path(fd), flags));
}

/* True if bytes written to @wr can be read from @rd. */
static bool joined(int wr, int rd)
{
	return stream_write(wr, 0, 10) == 10 && stream_read(rd, 0, 10) == 10;
}

TEST_F_TIMEOUT(unnamed, access_modes_and_flags, TIMEOUT)
{
	EXPECT_EQ(O_RDONLY, fcntl(self->e.fd[0], F_GETFL));
	EXPECT_EQ(O_WRONLY, fcntl(self->e.fd[1], F_GETFL));
	EXPECT_EQ(0, fcntl(self->e.fd[0], F_GETFD));
	EXPECT_EQ(0, fcntl(self->e.fd[1], F_GETFD));
}

TEST_F_TIMEOUT(unnamed, flags_of_pipe2_show, TIMEOUT)
{
	struct ends e;

	ASSERT_EQ(0, ends_make(&e, variant->kind));
	ASSERT_EQ(0, open_ends(&e, O_NONBLOCK | O_CLOEXEC));
	EXPECT_EQ(O_RDONLY | O_NONBLOCK, fcntl(e.fd[0], F_GETFL));
	EXPECT_EQ(O_WRONLY | O_NONBLOCK, fcntl(e.fd[1], F_GETFL));
	EXPECT_EQ(FD_CLOEXEC, fcntl(e.fd[0], F_GETFD));
	EXPECT_EQ(FD_CLOEXEC, fcntl(e.fd[1], F_GETFD));
	ends_free(&e);
}

TEST_F_TIMEOUT(unnamed, lowest_descriptors_in_order, TIMEOUT)
{
	int control = open(ZPIPE_CONTROL, O_RDWR);
	int fd[2], low[2];

	low[0] = dup(0);
	low[1] = dup(0);
	close(low[0]);
	close(low[1]);
	ASSERT_EQ(0, variant->kind == PIPE ? pipe(fd) :
					     zpipe_pipe2_on(control, fd, 0));
	EXPECT_EQ(low[0], fd[0]);
	EXPECT_EQ(low[1], fd[1]);
}

TEST_F_TIMEOUT(unnamed, fstat_says_fifo, TIMEOUT)
{
	struct stat st;
	int i;

	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, fstat(self->e.fd[i], &st));
		EXPECT_TRUE(S_ISFIFO(st.st_mode));
		EXPECT_EQ(0600U, st.st_mode & 07777);
		EXPECT_EQ(getuid(), st.st_uid);
		EXPECT_EQ(getgid(), st.st_gid);
		EXPECT_EQ(1U, st.st_nlink);
		EXPECT_EQ(0, st.st_size);
		EXPECT_EQ(PAGE, st.st_blksize);
		EXPECT_EQ(0U, st.st_rdev);
	}
}

TEST_F_TIMEOUT(unnamed, both_ends_are_one_inode, TIMEOUT)
{
	struct stat a, b;

	ASSERT_EQ(0, fstat(self->e.fd[0], &a));
	ASSERT_EQ(0, fstat(self->e.fd[1], &b));
	EXPECT_EQ(a.st_ino, b.st_ino);
	EXPECT_EQ(a.st_dev, b.st_dev);
}

TEST_F_TIMEOUT(unnamed, every_pair_has_its_inode, TIMEOUT)
{
	struct stat a, b;
	struct ends e;

	ASSERT_EQ(0, ends_make(&e, variant->kind));
	ASSERT_EQ(0, open_ends(&e, 0));
	ASSERT_EQ(0, fstat(self->e.fd[0], &a));
	ASSERT_EQ(0, fstat(e.fd[0], &b));
	EXPECT_NE(a.st_ino, b.st_ino);
	EXPECT_EQ(a.st_dev, b.st_dev);
	ends_free(&e);
}

/* DEVIATION: the name in /proc/PID/fd says zpipe instead of pipe. */
TEST_F_TIMEOUT(unnamed, name_in_proc, TIMEOUT)
{
	char want[40], name[40];
	struct stat st;
	ssize_t n;

	ASSERT_EQ(0, fstat(self->e.fd[0], &st));
	snprintf(want, sizeof(want), "%s:[%lu]",
		 variant->kind == PIPE ? "pipe" : "zpipe", st.st_ino);
	n = readlink(fd_path(self->e.fd[0]), name, sizeof(name) - 1);
	ASSERT_LT(0, n);
	name[n] = 0;
	EXPECT_STREQ(want, name);
}

/* DEVIATION: the magic number of the file system differs, too. */
TEST_F_TIMEOUT(unnamed, file_system, TIMEOUT)
{
	struct statfs fs;

	ASSERT_EQ(0, fstatfs(self->e.fd[0], &fs));
	EXPECT_EQ(variant->kind == PIPE ? PIPEFS_MAGIC : ZPIPE_SUPER_MAGIC,
		  fs.f_type);
}

TEST_F_TIMEOUT(unnamed, times_are_not_updated, TIMEOUT)
{
	static const struct timespec ago[2] = { { 1, 0 }, { 1, 0 } };
	struct stat st;

	ASSERT_EQ(0, futimens(self->e.fd[0], ago));
	ASSERT_TRUE(joined(self->e.fd[1], self->e.fd[0]));
	ASSERT_EQ(0, fstat(self->e.fd[0], &st));
	EXPECT_EQ(1, st.st_atime);
	EXPECT_EQ(1, st.st_mtime);
}

TEST_F_TIMEOUT(unnamed, reopened_read_end, TIMEOUT)
{
	int rd = reopen(self->e.fd[0], O_RDONLY);

	ASSERT_LE(0, rd);
	close_end(&self->e, 0);
	EXPECT_TRUE(joined(self->e.fd[1], rd));
}

TEST_F_TIMEOUT(unnamed, reopened_write_end, TIMEOUT)
{
	int wr = reopen(self->e.fd[1], O_WRONLY);

	ASSERT_LE(0, wr);
	close_end(&self->e, 1);
	EXPECT_TRUE(joined(wr, self->e.fd[0]));
	close(wr);
	EXPECT_EQ(0, stream_read(self->e.fd[0], 0, 1));
}

TEST_F_TIMEOUT(unnamed, reopened_the_other_way, TIMEOUT)
{
	int wr = reopen(self->e.fd[0], O_WRONLY);
	int rd = reopen(self->e.fd[1], O_RDONLY);

	ASSERT_LE(0, wr);
	ASSERT_LE(0, rd);
	EXPECT_TRUE(joined(wr, rd));
	EXPECT_TRUE(joined(self->e.fd[1], rd));
}

TEST_F_TIMEOUT(unnamed, reopened_both_ways, TIMEOUT)
{
	int fd = reopen(self->e.fd[0], O_RDWR);

	ASSERT_LE(0, fd);
	EXPECT_TRUE(joined(fd, fd));
	EXPECT_TRUE(joined(fd, self->e.fd[0]));
	EXPECT_TRUE(joined(self->e.fd[1], fd));
}

TEST_F_TIMEOUT(unnamed, reopen_without_partner_never_waits, TIMEOUT)
{
	int rd, wr;

	close_end(&self->e, 1);
	rd = reopen(self->e.fd[0], O_RDONLY);
	ASSERT_LE(0, rd);
	EXPECT_EQ(POLLHUP, poll_mask(rd));
	close(rd);
	wr = reopen(self->e.fd[0], O_WRONLY);
	ASSERT_LE(0, wr);
	EXPECT_EQ(0, poll_mask(self->e.fd[0]));
	close_end(&self->e, 0);
	/* Only a writer is left. Opening for writing does not fail with ENXIO, either. */
	EXPECT_LE(0, reopen(wr, O_WRONLY));
	EXPECT_LE(0, reopen(wr, O_WRONLY | O_NONBLOCK));
	EXPECT_EQ(POLLOUT | POLLERR, poll_mask(wr));
	EXPECT_LE(0, reopen(wr, O_RDONLY));
	EXPECT_EQ(POLLOUT, poll_mask(wr));
}

TEST_F_TIMEOUT(unnamed, reopened_nonblock_is_its_own, TIMEOUT)
{
	int rd = reopen(self->e.fd[0], O_RDONLY | O_NONBLOCK);

	ASSERT_LE(0, rd);
	EXPECT_EQ(-EAGAIN, stream_read(rd, 0, 1));
	EXPECT_EQ(0, fcntl(self->e.fd[0], F_GETFL) & O_NONBLOCK);
}

TEST_F_TIMEOUT(unnamed, reopen_direct_einval, TIMEOUT)
{
	EXPECT_EQ(-EINVAL, reopen(self->e.fd[1], O_WRONLY | O_DIRECT));
	EXPECT_EQ(-EINVAL, reopen(self->e.fd[1], O_ACCMODE));
}

TEST_F_TIMEOUT(unnamed, reopened_nowait_eopnotsupp, TIMEOUT)
{
	struct iovec iov = { "x", 1 };
	int wr = reopen(self->e.fd[1], O_WRONLY);

	ASSERT_LE(0, wr);
	EXPECT_EQ(-EOPNOTSUPP, sys(pwritev2(wr, &iov, 1, -1, RWF_NOWAIT)));
}

/* Makes the links that udev makes, where they are missing. */
static void make_dev_links(void)
{
	if (symlink("/proc/self/fd", "/dev/fd"))
		return;
	if (symlink("/proc/self/fd/0", "/dev/stdin"))
		return;
}

TEST_F_TIMEOUT(unnamed, reopened_dev_fd, TIMEOUT)
{
	char path[40];
	int rd;

	make_dev_links();
	snprintf(path, sizeof(path), "/dev/fd/%d", self->e.fd[0]);
	rd = open(path, O_RDONLY);
	ASSERT_LE(0, rd);
	EXPECT_TRUE(joined(self->e.fd[1], rd));
}

TEST_F_TIMEOUT(unnamed, reopened_dev_stdin, TIMEOUT)
{
	int rd;

	make_dev_links();
	ASSERT_EQ(0, dup2(self->e.fd[0], 0));
	rd = open("/dev/stdin", O_RDONLY);
	ASSERT_LE(0, rd);
	EXPECT_TRUE(joined(self->e.fd[1], rd));
}

/* Another user can use the descriptors, but cannot open them again. */
static long reopen_as_loner(struct child *c)
{
	if (setuid(LONER))
		return -2;
	return open(fd_path(c->fd), O_WRONLY);
}

static long make_and_reopen_as_loner(struct child *c)
{
	struct ends e = { .kind = c->flags, .fd = { -1, -1 } };

	if (setgid(LONER) || setuid(LONER) || open_ends(&e, 0))
		return -2;
	return open(fd_path(e.fd[0]), O_WRONLY) < 0 ? -1 : 0;
}

TEST_F_TIMEOUT(unnamed, stranger_reopens_eacces, TIMEOUT)
{
	struct child c = {
		.fn = reopen_as_loner, .fd = self->e.fd[1], .drop = -1,
	};

	child_start(&c, 0);
	EXPECT_EQ(-EACCES, child_join(&c));
}

TEST_F_TIMEOUT(unnamed, stranger_reopens_after_fchmod, TIMEOUT)
{
	struct child c = {
		.fn = reopen_as_loner, .fd = self->e.fd[1], .drop = -1,
	};

	ASSERT_EQ(0, fchmod(self->e.fd[0], 0666));
	child_start(&c, 0);
	EXPECT_LE(0, child_join(&c));
}

TEST_F_TIMEOUT(unnamed, owner_without_privileges_reopens, TIMEOUT)
{
	struct child c = {
		.fn = make_and_reopen_as_loner, .flags = variant->kind,
		.drop = -1,
	};

	child_start(&c, 0);
	EXPECT_EQ(0, child_join(&c));
}

TEST_F_TIMEOUT(unnamed, path_descriptor_allows_only_fstat, TIMEOUT)
{
	struct stat st;
	int fd = reopen(self->e.fd[0], O_PATH);
	char b;

	ASSERT_LE(0, fd);
	EXPECT_EQ(-EBADF, sys(read(fd, &b, 1)));
	EXPECT_EQ(-EBADF, fionread(fd));
	EXPECT_EQ(0, fstat(fd, &st));
	EXPECT_TRUE(S_ISFIFO(st.st_mode));
}

TEST_F_TIMEOUT(unnamed, path_descriptor_is_no_reader, TIMEOUT)
{
	signal(SIGPIPE, SIG_IGN);
	ASSERT_LE(0, reopen(self->e.fd[0], O_PATH));
	close_end(&self->e, 0);
	EXPECT_EQ(-EPIPE, stream_write(self->e.fd[1], 0, 1));
}

TEST_F_TIMEOUT(unnamed, path_descriptor_opens_the_pipe, TIMEOUT)
{
	int path = reopen(self->e.fd[0], O_PATH);
	int rd;

	ASSERT_LE(0, path);
	rd = reopen(path, O_RDONLY);
	ASSERT_LE(0, rd);
	EXPECT_TRUE(joined(self->e.fd[1], rd));
}

/*
 * The O_PATH descriptor holds the inode, so it can be opened. The pipe and its data
 * were freed with the last end.
 */
TEST_F_TIMEOUT(unnamed, path_descriptor_outlives_the_data, TIMEOUT)
{
	int path = reopen(self->e.fd[0], O_PATH);
	int fd;

	ASSERT_LE(0, path);
	ASSERT_EQ(2 * PAGE, set_capacity(variant->kind, self->e.fd[0],
					 2 * PAGE));
	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	close_end(&self->e, 0);
	close_end(&self->e, 1);
	fd = reopen(path, O_RDWR | O_NONBLOCK);
	ASSERT_LE(0, fd);
	EXPECT_EQ(-EAGAIN, stream_read(fd, 0, 10));
	EXPECT_EQ(FULL, get_capacity(variant->kind, fd));
	EXPECT_TRUE(joined(fd, fd));
}

/* A watch of inotify(7) on a pair reports modifications, accesses and closes. */
TEST_F_TIMEOUT(unnamed, inotify_events, TIMEOUT)
{
	long buf[512];
	struct inotify_event *ev;
	int ino = inotify_init1(IN_NONBLOCK);
	unsigned int seen = 0;
	ssize_t n, at;

	ASSERT_LE(0, inotify_add_watch(ino, fd_path(self->e.fd[0]),
				       IN_ALL_EVENTS));
	ASSERT_TRUE(joined(self->e.fd[1], self->e.fd[0]));
	close_end(&self->e, 1);
	n = read(ino, buf, sizeof(buf));
	for (at = 0; at < n; at += sizeof(*ev) + ev->len) {
		ev = (void *)((char *)buf + at);
		seen |= ev->mask;
	}
	EXPECT_EQ(IN_MODIFY | IN_ACCESS | IN_CLOSE_WRITE, (int)seen);
}

/*
 * Another process opens a descriptor of this process by its number. Meanwhile pairs are
 * made and closed under that number. Each open must give a working pipe or a plain
 * error.
 */
#define RACES		1500
#define RACED_FD	200

struct race {
	int stop;
	int opened;
};

static long open_raced_fd(struct child *c)
{
	struct race *race = c->arg;
	char path[40];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", getppid(), RACED_FD);
	while (!__atomic_load_n(&race->stop, __ATOMIC_SEQ_CST)) {
		fd = open(path, O_RDWR | O_NONBLOCK);
		if (fd < 0 && (errno == ENOENT || errno == ENXIO))
			continue;
		if (fd < 0)
			return -1;
		if (!joined(fd, fd)) {
			errno = EIO;
			return -1;
		}
		close(fd);
		__atomic_add_fetch(&race->opened, 1, __ATOMIC_SEQ_CST);
	}
	return 0;
}

TEST_F_TIMEOUT(unnamed, reopen_races_the_last_close, TIMEOUT)
{
	struct race *race = shared_alloc(sizeof(*race));
	struct child c = {
		.fn = open_raced_fd, .drop = -1, .arg = race,
	};
	struct ends e;
	int i;

	ASSERT_EQ(0, ends_make(&e, variant->kind));
	child_start(&c, 0);
	/* Go on until the open has won the race a number of times. */
	for (i = 0; i < RACES || (race->opened < 50 && i < 50 * RACES); i++) {
		ASSERT_EQ(0, open_ends(&e, 0));
		ASSERT_EQ(RACED_FD, dup2(e.fd[0], RACED_FD));
		close_end(&e, 1);
		close_end(&e, 0);
		sched_yield();
		ASSERT_EQ(0, close(RACED_FD));
	}
	__atomic_store_n(&race->stop, 1, __ATOMIC_SEQ_CST);
	EXPECT_EQ(0, child_join(&c));
	EXPECT_LE(50, race->opened);
}

TEST_HARNESS_MAIN
