// SPDX-License-Identifier: GPL-2.0-only
/*
 * The calls that a program makes on its pipes. tests/preload.sh runs this program
 * without libzpipe_preload.so and with it.
 *
 * The assertions are the same for both. Where the results differ, a comment starting
 * with DIFFERENCE: names the difference, which docs/zpipe-preload.7 lists. With
 * ZPIPE_EXPECT=zpipe pipes are expected to be private pairs of zpipe.
 */
#include "kselftest_harness.h"

#include "preload.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

static int count_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int count = 0;

	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

FIXTURE(pipe)
{
	int fd[2];
	char *buf;
};

FIXTURE_SETUP(pipe)
{
	ASSERT_EQ(0, pipe(self->fd));
	self->buf = malloc(2 * FULL);
}

FIXTURE_TEARDOWN(pipe)
{
	close(self->fd[0]);
	close(self->fd[1]);
	free(self->buf);
}

TEST_F(pipe, is_of_the_expected_kind)
{
	struct stat st;

	EXPECT_EQ(expected_file_system(), file_system(self->fd[0]));
	EXPECT_EQ(expected_file_system(), file_system(self->fd[1]));
	ASSERT_EQ(0, fstat(self->fd[0], &st));
	EXPECT_TRUE(S_ISFIFO(st.st_mode));
	EXPECT_EQ(0, fcntl(self->fd[0], F_GETFD));
	EXPECT_EQ(O_RDONLY, fcntl(self->fd[0], F_GETFL));
	EXPECT_EQ(O_WRONLY, fcntl(self->fd[1], F_GETFL));
	EXPECT_EQ(3, write(self->fd[1], "abc", 3));
	EXPECT_EQ(3, read(self->fd[0], self->buf, 10));
}

TEST(flags_of_pipe2)
{
	static const int flags[] = { O_CLOEXEC, O_NONBLOCK, O_DIRECT };
	int fd[2], set, i, want, end;

	for (set = 0; set < 8; set++) {
		want = 0;
		for (i = 0; i < 3; i++)
			if (set & 1 << i)
				want |= flags[i];
		ASSERT_EQ(0, pipe2(fd, want));
		for (end = 0; end < 2; end++) {
			EXPECT_EQ(expected_file_system(), file_system(fd[end]));
			EXPECT_EQ(want & O_CLOEXEC ? FD_CLOEXEC : 0, fcntl(fd[end], F_GETFD));
			EXPECT_EQ(want & O_NONBLOCK, fcntl(fd[end], F_GETFL) & O_NONBLOCK);
		}
		EXPECT_EQ(want & O_DIRECT, fcntl(fd[1], F_GETFL) & O_DIRECT);
		close(fd[0]);
		close(fd[1]);
	}
}

TEST(lowest_descriptors)
{
	int fd[2], i;

	for (i = 20; i < 30; i++)
		ASSERT_EQ(i, dup2(2, i));
	for (i = 3; i < 20; i++)
		dup2(2, i);
	close(4);
	close(9);
	close(21);
	ASSERT_EQ(0, pipe(fd));
	EXPECT_EQ(4, fd[0]);
	EXPECT_EQ(9, fd[1]);
	EXPECT_EQ(O_RDONLY, fcntl(4, F_GETFL));
	EXPECT_EQ(O_WRONLY, fcntl(9, F_GETFL));
	EXPECT_EQ(-1, fcntl(21, F_GETFD));
	close(4);
	close(0);
	ASSERT_EQ(0, pipe(fd));
	EXPECT_EQ(0, fd[0]);
	EXPECT_EQ(4, fd[1]);
}

TEST(flags_that_are_not_known)
{
	int fd[2] = { 77, 78 }, before = count_descriptors();

	EXPECT_EQ(-EINVAL, sys(pipe2(fd, O_APPEND)));
	EXPECT_EQ(-EINVAL, sys(pipe2(fd, 1 << 30)));
	EXPECT_EQ(-EINVAL, sys(pipe2(fd, -1)));
	EXPECT_EQ(77, fd[0]);
	EXPECT_EQ(78, fd[1]);
	EXPECT_EQ(before, count_descriptors());
}

TEST(addresses_that_are_not_valid)
{
	int before = count_descriptors();
	int *page = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int *volatile none = NULL;

	EXPECT_EQ(-EFAULT, sys(pipe(none)));
	EXPECT_EQ(-EFAULT, sys(pipe2(none, O_CLOEXEC)));
	EXPECT_EQ(-EFAULT, sys(pipe(page)));
	EXPECT_EQ(before, count_descriptors());
}

TEST(few_descriptors)
{
	struct rlimit limit, old;
	int fd[2] = { 77, 78 }, i, free_ones;

	ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &old));
	for (free_ones = 0; free_ones < 5; free_ones++) {
		limit = old;
		limit.rlim_cur = 20;
		ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &limit));
		for (i = 3; i < 20; i++)
			ASSERT_EQ(i, dup2(2, i));
		for (i = 0; i < free_ones; i++)
			close(10 + i);
		if (free_ones < 2) {
			EXPECT_EQ(-EMFILE, sys(pipe(fd)));
			EXPECT_EQ(77, fd[0]);
			EXPECT_EQ(78, fd[1]);
		} else {
			EXPECT_EQ(0, pipe(fd));
			EXPECT_EQ(10, fd[0]);
			EXPECT_EQ(11, fd[1]);
			/* DIFFERENCE: the library needs a third descriptor for a moment. */
			EXPECT_EQ(free_ones < 3 ? PIPEFS_MAGIC : expected_file_system(),
				  file_system(10));
			close(10);
			close(11);
		}
	}
}

TEST_F(pipe, errno_of_success)
{
	int file = make_file(10), fd[2];
	struct iovec iov = { self->buf, 10 };

	errno = ELOOP;
	EXPECT_EQ(0, pipe(fd));
	EXPECT_EQ(0, pipe2(fd, O_CLOEXEC));
	EXPECT_EQ(FULL, fcntl(self->fd[0], F_GETPIPE_SZ));
	EXPECT_EQ(2 * FULL, fcntl(self->fd[0], F_SETPIPE_SZ, 2 * FULL));
	EXPECT_EQ(10, sendfile(self->fd[1], file, NULL, 10));
	EXPECT_EQ(0, sendfile(self->fd[1], file, NULL, 10));
	EXPECT_EQ(10, vmsplice(self->fd[1], &iov, 1, 0));
	EXPECT_EQ(10, tee(self->fd[0], fd[1], 10, 0));
	EXPECT_EQ(5, splice(self->fd[0], NULL, fd[1], NULL, 5, 0));
	EXPECT_EQ(15, splice(fd[0], NULL, file, NULL, 20, 0));
	EXPECT_EQ(10, vmsplice(self->fd[0], &iov, 1, 0));
	EXPECT_EQ(ELOOP, errno);
}

TEST_F(pipe, capacity)
{
	int r = self->fd[0], w = self->fd[1];

	EXPECT_EQ(FULL, fcntl(r, F_GETPIPE_SZ));
	EXPECT_EQ(FULL, fcntl(w, F_GETPIPE_SZ));
	EXPECT_EQ(FULL, fcntl64(w, F_GETPIPE_SZ));
	EXPECT_EQ(1 << 20, fcntl(w, F_SETPIPE_SZ, 1 << 20));
	EXPECT_EQ(1 << 20, fcntl(r, F_GETPIPE_SZ));
	EXPECT_EQ(PAGE, fcntl(r, F_SETPIPE_SZ, 0));
	EXPECT_EQ(PAGE, fcntl(r, F_SETPIPE_SZ, 1));
	EXPECT_EQ(4 * PAGE, fcntl64(r, F_SETPIPE_SZ, 3 * PAGE));
	EXPECT_EQ(4 * PAGE, fcntl(r, F_SETPIPE_SZ, (1L << 32) + 3 * PAGE));
	ASSERT_EQ(3 * PAGE, write(w, self->buf, 3 * PAGE));
	EXPECT_EQ(-EBUSY, sys(fcntl(w, F_SETPIPE_SZ, PAGE)));
	EXPECT_EQ(-EINVAL, sys(fcntl(w, F_SETPIPE_SZ, 0x80000001)));
	EXPECT_EQ(-EINVAL, sys(fcntl(w, F_SETPIPE_SZ, -1)));
	EXPECT_EQ(4 * PAGE, fcntl(r, F_GETPIPE_SZ));
}

TEST_F(pipe, capacity_without_privileges)
{
	ASSERT_EQ(0, setresuid(65534, 65534, 65534));
	EXPECT_EQ(1 << 20, fcntl(self->fd[1], F_SETPIPE_SZ, 1 << 20));
	EXPECT_EQ(-EPERM, sys(fcntl(self->fd[1], F_SETPIPE_SZ, 1 << 21)));
}

TEST_F(pipe, capacity_of_other_files)
{
	char path[64];
	int fd;

	EXPECT_EQ(-EBADF, sys(fcntl(-1, F_GETPIPE_SZ)));
	EXPECT_EQ(-EBADF, sys(fcntl(999, F_SETPIPE_SZ, PAGE)));
	fd = open("/dev/null", O_RDWR);
	EXPECT_EQ(-EBADF, sys(fcntl(fd, F_GETPIPE_SZ)));
	EXPECT_EQ(-EBADF, sys(fcntl(fd, F_SETPIPE_SZ, PAGE)));
	fd = make_file(1);
	EXPECT_EQ(-EBADF, sys(fcntl(fd, F_GETPIPE_SZ)));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", self->fd[0]);
	fd = open(path, O_PATH);
	ASSERT_LE(0, fd);
	EXPECT_EQ(-EBADF, sys(fcntl(fd, F_GETPIPE_SZ)));
	fd = open("/dev/zpipe-control", O_RDWR);
	EXPECT_EQ(-EBADF, sys(fcntl(fd, F_GETPIPE_SZ)));
}

TEST(capacity_of_the_node)
{
	int fd = open("/dev/zpipe", O_RDWR);

	/* DIFFERENCE: F_GETPIPE_SZ fails without the library, and without the device. */
	EXPECT_EQ(zpipe_expected() ? FULL : -EBADF, sys(fcntl(fd, F_GETPIPE_SZ)));
}

TEST_F(pipe, other_commands_of_fcntl)
{
	struct f_owner_ex owner = { F_OWNER_PID, getpid() }, got = {};
	struct flock lock = { .l_type = F_WRLCK };
	int file = make_file(10), fd;

	fd = fcntl(self->fd[0], F_DUPFD_CLOEXEC, 50);
	EXPECT_EQ(50, fd);
	EXPECT_EQ(FD_CLOEXEC, fcntl(fd, F_GETFD));
	EXPECT_EQ(0, fcntl(fd, F_SETFL, O_NONBLOCK));
	EXPECT_EQ(-EAGAIN, sys(read(self->fd[0], self->buf, 1)));
	EXPECT_EQ(0, fcntl(fd, F_SETOWN_EX, &owner));
	EXPECT_EQ(0, fcntl(fd, F_GETOWN_EX, &got));
	EXPECT_EQ(owner.pid, got.pid);
	EXPECT_EQ(owner.pid, fcntl(fd, F_GETOWN));
	EXPECT_EQ(0, fcntl(file, F_SETLK, &lock));
	EXPECT_EQ(0, fcntl64(file, F_OFD_GETLK, &lock));
	EXPECT_EQ(F_WRLCK, lock.l_type);
	EXPECT_EQ(-EINVAL, sys(fcntl(fd, 9999, 0)));
}

TEST_F(pipe, splice_from_a_file)
{
	int file = make_file(3 * FULL), r = self->fd[0], w = self->fd[1];
	off64_t off = 100;

	EXPECT_EQ(1000, splice(file, &off, w, NULL, 1000, 0));
	EXPECT_EQ(1100, off);
	EXPECT_EQ(0, lseek(file, 0, SEEK_CUR));
	EXPECT_EQ(1000, read(r, self->buf, FULL));
	EXPECT_TRUE(is_stream(self->buf, 100, 1000));

	EXPECT_EQ(5000, splice(file, NULL, w, NULL, 5000, SPLICE_F_MOVE | SPLICE_F_MORE));
	EXPECT_EQ(5000, lseek(file, 0, SEEK_CUR));
	EXPECT_EQ(5000, read(r, self->buf, FULL));
	EXPECT_TRUE(is_stream(self->buf, 0, 5000));

	/* The call writes what fits and does not wait for more. */
	off = 0;
	EXPECT_EQ(FULL, splice(file, &off, w, NULL, 3 * FULL, 0));
	EXPECT_EQ(FULL, off);
	EXPECT_EQ(-EAGAIN, sys(splice(file, &off, w, NULL, 1, SPLICE_F_NONBLOCK)));
	EXPECT_EQ(FULL, read(r, self->buf, 2 * FULL));
	EXPECT_TRUE(is_stream(self->buf, 0, FULL));

	off = 3 * FULL;
	EXPECT_EQ(0, splice(file, &off, w, NULL, 1, 0));
	EXPECT_EQ(0, splice(file, &off, w, NULL, 0, 0));
}

TEST_F(pipe, splice_refused)
{
	int file = make_file(10), r = self->fd[0], w = self->fd[1];
	off64_t off = 0;

	EXPECT_EQ(-ESPIPE, sys(splice(file, NULL, w, &off, 10, 0)));
	EXPECT_EQ(-ESPIPE, sys(splice(r, &off, file, NULL, 10, 0)));
	EXPECT_EQ(-EINVAL, sys(splice(file, NULL, file, NULL, 10, 0)));
	EXPECT_EQ(-EINVAL, sys(splice(file, NULL, w, NULL, 10, 1 << 20)));
	EXPECT_EQ(-EBADF, sys(splice(file, NULL, -1, NULL, 10, 0)));
	EXPECT_EQ(-EBADF, sys(splice(w, NULL, file, NULL, 10, 0)));
	EXPECT_EQ(-EBADF, sys(splice(file, NULL, r, NULL, 10, 0)));
	EXPECT_EQ(-EFAULT, sys(splice(file, (void *)8, w, NULL, 10, 0)));
	EXPECT_EQ(0, buffered(r));
}

TEST_F(pipe, splice_to_a_file)
{
	int file = make_file(10);
	off64_t off = 2;

	ASSERT_EQ(10, write(self->fd[1], "0123456789", 10));
	EXPECT_EQ(4, splice(self->fd[0], NULL, file, NULL, 4, 0));
	EXPECT_EQ(4, lseek(file, 0, SEEK_CUR));
	EXPECT_EQ(4, splice(self->fd[0], NULL, file, &off, 4, 0));
	EXPECT_EQ(6, off);
	EXPECT_EQ(2, buffered(self->fd[0]));
	EXPECT_EQ(6, pread(file, self->buf, 6, 0));
	EXPECT_EQ(0, memcmp(self->buf, "014567", 6));
}

TEST_F(pipe, splice_and_tee_between_pipes)
{
	int fd[2];

	ASSERT_EQ(0, pipe(fd));
	ASSERT_EQ(10, write(self->fd[1], "0123456789", 10));
	EXPECT_EQ(10, tee(self->fd[0], fd[1], 20, 0));
	EXPECT_EQ(10, buffered(self->fd[0]));
	EXPECT_EQ(4, splice(self->fd[0], NULL, fd[1], NULL, 4, 0));
	EXPECT_EQ(6, buffered(self->fd[0]));
	EXPECT_EQ(14, read(fd[0], self->buf, 100));
	EXPECT_EQ(0, memcmp(self->buf, "01234567890123", 14));
}

TEST_F(pipe, sendfile_from_a_file)
{
	int file = make_file(3 * FULL), r = self->fd[0], w = self->fd[1];
	off_t off = 50;

	EXPECT_EQ(70, sendfile(w, file, &off, 70));
	EXPECT_EQ(120, off);
	EXPECT_EQ(70, sendfile64(w, file, NULL, 70));
	EXPECT_EQ(70, lseek(file, 0, SEEK_CUR));
	EXPECT_EQ(140, read(r, self->buf, FULL));
	EXPECT_TRUE(is_stream(self->buf, 50, 70));
	EXPECT_TRUE(is_stream(self->buf + 70, 0, 70));

	/* Without O_NONBLOCK it waits, see waits.c. */
	off = 0;
	ASSERT_EQ(0, fcntl(w, F_SETFL, O_NONBLOCK));
	EXPECT_EQ(FULL, sendfile(w, file, &off, 3 * FULL));
	EXPECT_EQ(-EAGAIN, sys(sendfile(w, file, &off, 1)));
	EXPECT_EQ(FULL, read(r, self->buf, 2 * FULL));
	EXPECT_TRUE(is_stream(self->buf, 0, FULL));

	off = 3 * FULL;
	EXPECT_EQ(0, sendfile(w, file, &off, 100));
	EXPECT_EQ(-EINVAL, sys(sendfile(file, r, NULL, 100)));
	EXPECT_EQ(-EBADF, sys(sendfile(r, file, NULL, 100)));
	EXPECT_EQ(-EFAULT, sys(sendfile(w, file, (void *)8, 100)));
}

TEST_F(pipe, vmsplice_both_ways)
{
	char *buf = self->buf;
	struct iovec in[4] = {
		{ buf, 5000 }, { NULL, 0 }, { buf + 5000, 1 }, { buf + 5001, 4999 },
	};
	struct iovec out[2] = { { buf + FULL, 3000 }, { buf + FULL + 3000, 10000 } };
	long i;

	for (i = 0; i < 10000; i++)
		buf[i] = byte_at(i);
	EXPECT_EQ(10000, vmsplice(self->fd[1], in, 4, SPLICE_F_GIFT));
	EXPECT_EQ(10000, buffered(self->fd[0]));
	EXPECT_EQ(10000, vmsplice(self->fd[0], out, 2, 0));
	EXPECT_TRUE(is_stream(buf + FULL, 0, 10000));
	EXPECT_EQ(-EAGAIN, sys(vmsplice(self->fd[0], out, 2, SPLICE_F_NONBLOCK)));
	EXPECT_EQ(0, vmsplice(self->fd[1], in + 1, 1, 0));
	EXPECT_EQ(0, vmsplice(self->fd[1], in, 0, 0));
}

TEST_F(pipe, vmsplice_writes_what_fits)
{
	char *buf = mmap(NULL, 2 * FULL, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	struct iovec iov[2] = { { buf, PAGE }, { buf + PAGE, 2 * FULL - PAGE } };

	EXPECT_EQ(FULL, vmsplice(self->fd[1], iov, 2, 0));
	EXPECT_EQ(-EAGAIN, sys(vmsplice(self->fd[1], iov, 2, SPLICE_F_NONBLOCK)));
	EXPECT_EQ(PAGE, read(self->fd[0], self->buf, PAGE));
	EXPECT_EQ(PAGE, vmsplice(self->fd[1], iov, 2, SPLICE_F_NONBLOCK));
}

TEST_F(pipe, vmsplice_refused)
{
	struct iovec good = { self->buf, 10 }, bad = { (void *)8, 10 };
	int file = make_file(10);

	EXPECT_EQ(-EBADF, sys(vmsplice(file, &good, 1, 0)));
	EXPECT_EQ(-EBADF, sys(vmsplice(-1, &good, 1, 0)));
	EXPECT_EQ(-EINVAL, sys(vmsplice(self->fd[1], &good, 1, 1 << 20)));
	EXPECT_EQ(-EINVAL, sys(vmsplice(self->fd[1], &good, 100000, 0)));
	EXPECT_EQ(-EFAULT, sys(vmsplice(self->fd[1], (void *)8, 1, 0)));
	EXPECT_EQ(-EFAULT, sys(vmsplice(self->fd[1], &bad, 1, 0)));
	EXPECT_EQ(0, buffered(self->fd[0]));
	signal(SIGPIPE, SIG_IGN);
	close(self->fd[0]);
	EXPECT_EQ(-EPIPE, sys(vmsplice(self->fd[1], &good, 1, 0)));
	EXPECT_EQ(-EPIPE, sys(sendfile(self->fd[1], file, NULL, 10)));
	self->fd[0] = -1;
}

TEST_F(pipe, splicing_to_an_end_opened_again)
{
	struct iovec out = { self->buf, 2 * FULL }, in = { self->buf, 30000 };
	int file = make_file(3 * FULL), r, w, nonblock;
	char path[64];
	off_t off;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", self->fd[0]);
	r = open(path, O_RDONLY);
	w = open(path, O_WRONLY);
	for (nonblock = 0; nonblock < 2; nonblock++) {
		int flags = nonblock ? SPLICE_F_NONBLOCK : 0;

		EXPECT_EQ(30000, vmsplice(w, &in, 1, flags));
		EXPECT_EQ(30000, vmsplice(r, &out, 1, flags));
		off = 0;
		EXPECT_EQ(20000, splice(file, &off, w, NULL, 20000, flags));
		EXPECT_EQ(10000, sendfile(w, file, &off, 10000));
		EXPECT_EQ(30000, vmsplice(r, &out, 1, flags));
		EXPECT_TRUE(is_stream(self->buf, 0, 30000));
	}
	EXPECT_EQ(-EAGAIN, sys(vmsplice(r, &out, 1, SPLICE_F_NONBLOCK)));
	ASSERT_EQ(FULL, write(w, self->buf, FULL));
	EXPECT_EQ(-EAGAIN, sys(vmsplice(w, &in, 1, SPLICE_F_NONBLOCK)));
	EXPECT_EQ(-EAGAIN, sys(splice(file, NULL, w, NULL, 1, SPLICE_F_NONBLOCK)));
}

/* Bytes that are spliced into a packet pipe are not packets. */
TEST(packet_pipe)
{
	struct iovec iov = { "vmsplice", 8 };
	int file = make_file(10), fd[2], before;
	char buf[100];

	ASSERT_EQ(0, pipe2(fd, O_DIRECT));
	before = count_descriptors();
	ASSERT_EQ(3, write(fd[1], "one", 3));
	EXPECT_EQ(8, vmsplice(fd[1], &iov, 1, 0));
	EXPECT_EQ(10, sendfile(fd[1], file, NULL, 10));
	ASSERT_EQ(3, write(fd[1], "two", 3));
	EXPECT_EQ(3, read(fd[0], buf, 100));
	EXPECT_EQ(5, read(fd[0], buf, 5));
	EXPECT_EQ(16, read(fd[0], buf, 100));
	EXPECT_EQ(0, memcmp(buf, "ice", 3));
	EXPECT_TRUE(is_stream(buf + 3, 0, 10));
	EXPECT_EQ(8, vmsplice(fd[1], &iov, 1, SPLICE_F_NONBLOCK));
	EXPECT_EQ(8, read(fd[0], buf, 100));
	EXPECT_EQ(O_DIRECT, fcntl(fd[1], F_GETFL) & O_DIRECT);
	EXPECT_EQ(before, count_descriptors());
}

/*
 * libfuse changes the header of a reply after it has put it into a pipe. Such a message of 16
 * bytes is refused, so libfuse copies the reply itself.
 */
TEST_F(pipe, vmsplice_of_a_fuse_header)
{
	struct iovec iov[2] = { { self->buf, 16 }, { self->buf + 100, 40 } };
	bool refused = zpipe_expected();
	int nonblock[2], i;

	ASSERT_EQ(0, pipe2(nonblock, O_NONBLOCK));
	for (i = 1; i <= 2; i++) {
		int len = i == 1 ? 16 : 56;

		EXPECT_EQ(refused ? -EINVAL : len,
			  sys(vmsplice(nonblock[1], iov, i, SPLICE_F_NONBLOCK)));
		EXPECT_EQ(refused ? -EAGAIN : len, sys(read(nonblock[0], self->buf, FULL)));
		/* Not without both flags, and only in front of other bytes. */
		EXPECT_EQ(len, vmsplice(nonblock[1], iov, i, 0));
		EXPECT_EQ(len, vmsplice(self->fd[1], iov, i, SPLICE_F_NONBLOCK));
		EXPECT_EQ(40, vmsplice(nonblock[1], iov + 1, 1, SPLICE_F_NONBLOCK));
		EXPECT_EQ(len + 40, read(nonblock[0], self->buf, FULL));
	}
}

static void nothing(int sig)
{
}

/*
 * Starts a child that blocks in a vmsplice to a full pipe. It exits with 100 if the
 * vmsplice wrote a page, 101 for EINTR, or 102 otherwise.
 */
static pid_t vmsplice_later(int fd[2], int sa_flags)
{
	struct sigaction sa = { .sa_handler = nothing, .sa_flags = sa_flags };
	static char page[PAGE];
	struct iovec iov = { page, PAGE };
	pid_t pid = fork();
	long ret;

	if (pid)
		return pid;
	sigaction(SIGUSR1, &sa, NULL);
	close(fd[0]);
	ret = sys(vmsplice(fd[1], &iov, 1, 0));
	_exit(ret == PAGE ? 100 : ret == -EINTR ? 101 : 102);
}

/*
 * Waits until the child sleeps in poll(2), or, with @polls unset, also in a call that
 * may implement vmsplice(2). Returns 0 or -1.
 */
static int wait_asleep(pid_t pid, bool polls)
{
	char path[64], line[64], *end;
	int tries, fd;
	ssize_t len;
	long nr;

	snprintf(path, sizeof(path), "/proc/%d/syscall", pid);
	for (tries = 0; tries < 5000; tries++) {
		fd = open(path, O_RDONLY);
		len = read(fd, line, sizeof(line) - 1);
		close(fd);
		line[len > 0 ? len : 0] = 0;
		nr = strtol(line, &end, 10);
		if (end != line &&
		    (nr == SYS_poll ||
		     (!polls && (nr == SYS_vmsplice || nr == SYS_pwritev2))))
			return 0;
		usleep(2000);
	}
	return -1;
}

TEST_F(pipe, vmsplice_waits_and_signals)
{
	int nonblock, restart, status;
	pid_t pid;

	for (nonblock = 0; nonblock < 2; nonblock++)
		for (restart = 0; restart < 2; restart++) {
			ASSERT_EQ(0, fcntl(self->fd[1], F_SETFL, nonblock ? O_NONBLOCK : 0));
			ASSERT_EQ(FULL, write(self->fd[1], self->buf, FULL));
			pid = vmsplice_later(self->fd, restart ? SA_RESTART : 0);
			EXPECT_EQ(0, wait_asleep(pid, nonblock && zpipe_expected()));
			kill(pid, SIGUSR1);
			usleep(50000);
			EXPECT_EQ(FULL, read(self->fd[0], self->buf, FULL));
			ASSERT_EQ(pid, waitpid(pid, &status, 0));
			/* DIFFERENCE: with O_NONBLOCK the library waits in poll(2). */
			EXPECT_EQ(restart && !(nonblock && zpipe_expected()) ? 100 : 101,
				  WEXITSTATUS(status));
			while (buffered(self->fd[0]) > 0)
				read(self->fd[0], self->buf, FULL);
		}
}

/* In musl neither call is a cancellation point. */
#ifdef __GLIBC__

static void *cancelled_splice(void *arg)
{
	int *fd = arg;

	splice(fd[0], NULL, fd[1], NULL, 100, 0);
	return NULL;
}

static void *cancelled_lock(void *arg)
{
	struct flock lock = { .l_type = F_WRLCK };

	fcntl(*(int *)arg, F_OFD_SETLKW, &lock);
	return NULL;
}

TEST(cancelled_threads)
{
	struct flock lock = { .l_type = F_WRLCK };
	int sock[2], kernel[2], fd[2], file;
	char path[64];
	pthread_t thread;
	void *result;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sock));
	ASSERT_EQ(0, syscall(SYS_pipe2, kernel, 0));
	fd[0] = sock[0];
	fd[1] = kernel[1];
	ASSERT_EQ(0, pthread_create(&thread, NULL, cancelled_splice, fd));
	usleep(100000);
	EXPECT_EQ(0, pthread_cancel(thread));
	EXPECT_EQ(0, pthread_join(thread, &result));
	EXPECT_EQ(PTHREAD_CANCELED, result);

	file = make_file(1);
	ASSERT_EQ(0, fcntl(file, F_OFD_SETLK, &lock));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
	file = open(path, O_RDWR);
	ASSERT_EQ(0, pthread_create(&thread, NULL, cancelled_lock, &file));
	usleep(100000);
	EXPECT_EQ(0, pthread_cancel(thread));
	EXPECT_EQ(0, pthread_join(thread, &result));
	EXPECT_EQ(PTHREAD_CANCELED, result);
}

#endif

/* A pending cancellation must not end the thread in pipe(2). */
static void *pipe_while_cancelled(void *arg)
{
	int fd[2];

	pthread_cancel(pthread_self());
	if (pipe(fd) || file_system(fd[0]) != expected_file_system())
		return NULL;
	*(int *)arg = 1;
	pthread_testcancel();
	return NULL;
}

TEST(no_cancellation_point)
{
	pthread_t thread;
	void *result;
	int done = 0;

	ASSERT_EQ(0, pthread_create(&thread, NULL, pipe_while_cancelled, &done));
	EXPECT_EQ(0, pthread_join(thread, &result));
	EXPECT_EQ(PTHREAD_CANCELED, result);
	EXPECT_EQ(1, done);
}

static __attribute__((noinline)) pid_t vfork_and_pipe(int fd[2])
{
	pid_t pid = vfork();

	if (pid == 0)
		_exit(pipe(fd) || write(fd[1], "x", 1) != 1 ||
		      fcntl(fd[0], F_GETPIPE_SZ) != FULL);
	return pid;
}

TEST(child_of_vfork)
{
	int fd[2], status, before = count_descriptors();
	pid_t pid = vfork_and_pipe(fd);

	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(before, count_descriptors());
}

TEST(after_closing_everything)
{
	int fd[2], i;

	closefrom(3);
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, pipe(fd));
		EXPECT_EQ(3, fd[0]);
		EXPECT_EQ(4, fd[1]);
		EXPECT_EQ(expected_file_system(), file_system(fd[1]));
		closefrom(3);
	}
}

static void pipe_in_handler(int sig)
{
	int fd[2];

	if (pipe(fd) || write(fd[1], "x", 1) != 1)
		_exit(55);
	close(fd[0]);
	close(fd[1]);
}

TEST(in_a_signal_handler)
{
	int i, before = count_descriptors();

	signal(SIGUSR1, pipe_in_handler);
	errno = ELOOP;
	for (i = 0; i < 200; i++) {
		free(malloc(100000));
		raise(SIGUSR1);
	}
	EXPECT_EQ(ELOOP, errno);
	EXPECT_EQ(before, count_descriptors());
}

static void *many_pipes(void *arg)
{
	int i, fd[2];
	long in = (long)arg, out;

	for (i = 0; i < 300; i++) {
		in++;
		if (pipe2(fd, i & 1 ? O_CLOEXEC : 0) ||
		    write(fd[1], &in, sizeof(in)) != sizeof(in) ||
		    read(fd[0], &out, sizeof(out)) != sizeof(out) || in != out ||
		    fcntl(fd[0], F_GETFD) != (i & 1) || fcntl(fd[1], F_GETFD) != (i & 1) ||
		    close(fd[1]) || read(fd[0], &out, sizeof(out)) || close(fd[0]))
			return "wrong";
	}
	return NULL;
}

TEST(many_threads)
{
	int before = count_descriptors();
	pthread_t threads[4];
	void *result;
	long i;

	for (i = 0; i < 4; i++)
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, many_pipes, (void *)(i << 32)));
	for (i = 0; i < 4; i++) {
		ASSERT_EQ(0, pthread_join(threads[i], &result));
		EXPECT_EQ(NULL, result);
	}
	EXPECT_EQ(before, count_descriptors());
}

TEST_F(pipe, opened_again)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", self->fd[0]);
	fd = open(path, O_WRONLY);
	ASSERT_LE(0, fd);
	EXPECT_EQ(FULL, fcntl(fd, F_GETPIPE_SZ));
	EXPECT_EQ(2, write(fd, "hi", 2));
	fd = open(path, O_RDONLY);
	EXPECT_EQ(2, read(fd, self->buf, 10));
}

TEST(popen_works)
{
	FILE *out = popen("echo hello", "r");
	char line[20] = "";

	ASSERT_NE(NULL, out);
	EXPECT_NE(NULL, fgets(line, sizeof(line), out));
	EXPECT_STREQ("hello\n", line);
	/* DIFFERENCE: the C library does not call pipe2(2) through its public name. */
	EXPECT_EQ(PIPEFS_MAGIC, file_system(fileno(out)));
	EXPECT_EQ(0, pclose(out));
}

TEST_HARNESS_MAIN
