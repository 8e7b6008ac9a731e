// SPDX-License-Identifier: GPL-2.0-only
/*
 * Transfers between a pipe and a file: counts, positions, offsets and errors. Over the kernel's own
 * pipes it is splice(2), over zpipe the commands ZPIPE_IOC_SPLICE_TO and ZPIPE_IOC_SPLICE_FROM.
 */
#include "splice_files.h"

#include <sys/mount.h>
#include <sys/resource.h>

/* Runs the rest of the test for a file on tmpfs, and for a memfd. */
#define EACH_FILE	for (int memfd = 0; memfd < 2; memfd++)

TEST_F_TIMEOUT(all, to_the_position, TIMEOUT)
{
	EACH_FILE {
		int fd = new_file(memfd);

		ASSERT_EQ(10000, stream_write(self->e.fd[1], 0, 10000));
		EXPECT_EQ(3000, to(&self->e, fd, 3000, 0));
		EXPECT_SIDE(0);
		EXPECT_EQ(3000, position(fd));
		EXPECT_EQ(7000, fionread(self->e.fd[0]));
		EXPECT_EQ(7000, to(&self->e, fd, FULL, 0));
		EXPECT_SIDE(ZPIPE_SIDE_PIPE);
		EXPECT_EQ(10000, position(fd));
		EXPECT_EQ(0, fionread(self->e.fd[0]));
		EXPECT_TRUE(file_has(fd, 0, 0, 10000));
		close(fd);
	}
}

TEST_F_TIMEOUT(all, to_an_offset, TIMEOUT)
{
	EACH_FILE {
		int fd = file_of(memfd, 3 * PAGE);
		loff_t off = PAGE + 1;

		ASSERT_EQ(5, lseek(fd, 5, SEEK_SET));
		ASSERT_EQ(5000, stream_write(self->e.fd[1], 100, 5000));
		EXPECT_EQ(77, transfer_at(&self->e, TO, fd, &off, 77, 0));
		EXPECT_EQ(PAGE + 78, off);
		EXPECT_EQ(4923, transfer_at(&self->e, TO, fd, &off, FULL, 0));
		EXPECT_EQ(PAGE + 5001, off);
		EXPECT_EQ(5, position(fd));
		EXPECT_TRUE(file_has(fd, 0, 0, PAGE + 1));
		EXPECT_TRUE(file_has(fd, PAGE + 1, 100, 5000));
		EXPECT_TRUE(file_has(fd, PAGE + 5001, PAGE + 5001, 2 * PAGE - 5001));
		/* Behind the end there is a hole. */
		ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
		off = 1 << 20;
		EXPECT_EQ(10, transfer_at(&self->e, TO, fd, &off, 10, 0));
		EXPECT_TRUE(file_has(fd, 1 << 20, 0, 10));
		close(fd);
	}
}

TEST_F_TIMEOUT(all, from_the_position, TIMEOUT)
{
	EACH_FILE {
		int fd = file_of(memfd, 10000);

		EXPECT_EQ(3000, from(&self->e, fd, 3000, 0));
		EXPECT_SIDE(0);
		EXPECT_EQ(3000, position(fd));
		EXPECT_EQ(3000, fionread(self->e.fd[0]));
		EXPECT_EQ(7000, from(&self->e, fd, FULL / 2, 0));
		EXPECT_SIDE(ZPIPE_SIDE_FILE);
		EXPECT_EQ(10000, position(fd));
		EXPECT_EQ(0, from(&self->e, fd, FULL / 2, 0));
		EXPECT_SIDE(ZPIPE_SIDE_FILE);
		EXPECT_EQ(10000, stream_read(self->e.fd[0], 0, FULL));
		close(fd);
	}
}

TEST_F_TIMEOUT(all, from_an_offset, TIMEOUT)
{
	EACH_FILE {
		int fd = file_of(memfd, 10000);
		loff_t off = PAGE + 1;

		EXPECT_EQ(3000, transfer_at(&self->e, FROM, fd, &off, 3000, 0));
		EXPECT_EQ(PAGE + 3001, off);
		EXPECT_EQ(10000 - PAGE - 3001, transfer_at(&self->e, FROM, fd, &off, FULL / 2, 0));
		EXPECT_EQ(10000, off);
		EXPECT_EQ(0, transfer_at(&self->e, FROM, fd, &off, FULL / 2, 0));
		EXPECT_EQ(10000, off);
		off = 1 << 20;
		EXPECT_EQ(0, transfer_at(&self->e, FROM, fd, &off, 10, 0));
		EXPECT_EQ(0, position(fd));
		EXPECT_EQ(10000 - PAGE - 1, stream_read(self->e.fd[0], PAGE + 1, FULL));
		close(fd);
	}
}

/* All combinations of odd sizes. */
TEST_F_TIMEOUT(all, bytes_are_exact, TIMEOUT)
{
	static const size_t lens[] = { 1, 100, PAGE - 1, PAGE, PAGE + 1, 20000, FULL };
	unsigned int i, j;

	EACH_FILE {
		for (i = 0; i < ARRAY_SIZE(lens); i++) {
			for (j = 0; j < ARRAY_SIZE(lens); j++) {
				int fd = new_file(memfd);
				size_t done = 0, back = 0;
				long n;

				if (lens[i] / lens[j] > 100)
					continue;
				ASSERT_EQ(lens[i], stream_write(self->e.fd[1], 0, lens[i]));
				for (; done < lens[i]; done += n) {
					n = to(&self->e, fd, lens[j], 0);
					ASSERT_LT(0, n);
				}
				ASSERT_TRUE(file_has(fd, 0, 0, lens[i]));
				ASSERT_EQ(0, lseek(fd, 0, SEEK_SET));
				for (; back < lens[i]; back += n) {
					n = from(&self->e, fd, lens[j], 0);
					ASSERT_LT(0, n);
					ASSERT_EQ(n, stream_read(self->e.fd[0], back, n));
				}
				ASSERT_EQ(lens[i], back);
				close(fd);
			}
		}
	}
}

TEST_F_TIMEOUT(all, from_as_far_as_slots_are_free, TIMEOUT)
{
	int fd = file_of(0, 4 * PAGE);

	ASSERT_EQ(FULL - 2 * PAGE, stream_write(self->e.fd[1], 0, FULL - 2 * PAGE));
	EXPECT_EQ(2 * PAGE, from(&self->e, fd, 4 * PAGE, 0));
	EXPECT_SIDE(ZPIPE_SIDE_PIPE);
	EXPECT_EQ(2 * PAGE, position(fd));
	EXPECT_EQ(-EAGAIN, from(&self->e, fd, 4 * PAGE, ZPIPE_NONBLOCK));
	EXPECT_SIDE(ZPIPE_SIDE_PIPE);
	ASSERT_EQ(0, set_nonblock(self->e.fd[1], true));
	EXPECT_EQ(-EAGAIN, from(&self->e, fd, 4 * PAGE, 0));
	EXPECT_EQ(2 * PAGE, position(fd));
	EXPECT_EQ(FULL - 2 * PAGE, stream_read(self->e.fd[0], 0, FULL - 2 * PAGE));
	EXPECT_EQ(2 * PAGE, stream_read(self->e.fd[0], 0, FULL));
}

TEST_F_TIMEOUT(all, from_waits_for_a_free_slot, TIMEOUT)
{
	int fd = file_of(0, 4 * PAGE);
	struct child c;

	ASSERT_EQ(FULL, stream_write(self->e.fd[1], 0, FULL));
	child_transfer(&c, &self->e, fd, 4 * PAGE, CHILD_FROM);
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_EQ(PAGE, stream_read(self->e.fd[0], 0, PAGE));
	EXPECT_EQ(PAGE, child_join(&c));
	EXPECT_EQ(PAGE, position(fd));
}

TEST_F_TIMEOUT(all, from_without_a_reader, TIMEOUT)
{
	int fd = file_of(0, PAGE);

	catch_signal(SIGPIPE, 0);
	close_end(&self->e, 0);
	EXPECT_EQ(-EPIPE, from(&self->e, fd, PAGE, 0));
	EXPECT_SIDE(ZPIPE_SIDE_PIPE);
	EXPECT_EQ(1, signals_seen);
	EXPECT_EQ(0, position(fd));
}

TEST_F_TIMEOUT(all, to_from_an_empty_pipe, TIMEOUT)
{
	int fd = new_file(0);
	struct child c;

	EXPECT_EQ(-EAGAIN, to(&self->e, fd, 10, ZPIPE_NONBLOCK));
	EXPECT_SIDE(ZPIPE_SIDE_PIPE);
	ASSERT_EQ(0, set_nonblock(self->e.fd[0], true));
	EXPECT_EQ(-EAGAIN, to(&self->e, fd, 10, 0));
	ASSERT_EQ(0, set_nonblock(self->e.fd[0], false));
	child_transfer(&c, &self->e, fd, FULL, 0);
	ASSERT_TRUE(child_asleep(&c));
	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	EXPECT_EQ(10, child_join(&c));
	EXPECT_TRUE(file_has(fd, 0, 0, 10));
	close_end(&self->e, 1);
	EXPECT_EQ(0, to(&self->e, fd, 10, 0));
	EXPECT_SIDE(ZPIPE_SIDE_PIPE);
	EXPECT_EQ(10, position(fd));
}

TEST_F_TIMEOUT(all, signal_while_waiting, TIMEOUT)
{
	int fd = file_of(0, PAGE), dir;
	struct child c;

	catch_signal(SIGUSR1, 0);
	for (dir = 0; dir < 2; dir++) {
		if (dir)
			ASSERT_EQ(FULL, stream_write(self->e.fd[1], 0, FULL));
		child_transfer(&c, &self->e, fd, PAGE, dir ? CHILD_FROM : 0);
		ASSERT_TRUE(child_asleep(&c));
		child_signal(&c, SIGUSR1);
		EXPECT_EQ(-EINTR, child_join(&c));
		EXPECT_EQ(0, position(fd));
		EXPECT_EQ(dir ? FULL : 0, fionread(self->e.fd[0]));
	}
}

/* Packets are bytes for a file, and bytes of a file are no packets. */
TEST_F_TIMEOUT(all, packets, TIMEOUT)
{
	int fd = new_file(0);

	ASSERT_EQ(0, fcntl(self->e.fd[1], F_SETFL, O_DIRECT));
	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	ASSERT_EQ(PAGE, stream_write(self->e.fd[1], 10, PAGE));
	ASSERT_EQ(20, stream_write(self->e.fd[1], 10 + PAGE, 20));
	EXPECT_EQ(30 + PAGE, to(&self->e, fd, FULL, 0));
	EXPECT_TRUE(file_has(fd, 0, 0, 30 + PAGE));
	ASSERT_EQ(0, lseek(fd, 0, SEEK_SET));
	EXPECT_EQ(100, from(&self->e, fd, 100, 0));
	EXPECT_EQ(10, stream_read(self->e.fd[0], 0, 10));
	EXPECT_EQ(90, stream_read(self->e.fd[0], 10, FULL));
}

TEST_F_TIMEOUT(all, hole_of_a_file, TIMEOUT)
{
	static char zeros[3 * PAGE], got[4 * PAGE];

	EACH_FILE {
		int fd = new_file(memfd);

		ASSERT_EQ(0, ftruncate(fd, 3 * PAGE));
		memset(got, 1, sizeof(got));
		EXPECT_EQ(3 * PAGE, from(&self->e, fd, FULL, 0));
		EXPECT_EQ(3 * PAGE, sys(read(self->e.fd[0], got, 4 * PAGE)));
		EXPECT_EQ(0, memcmp(zeros, got, 3 * PAGE));
		close(fd);
	}
}

/* /dev/null can be read, but not spliced from. */
TEST_F_TIMEOUT(all, dev_null_and_dev_zero, TIMEOUT)
{
	static char zeros[FULL], got[FULL + 1];
	int null = open("/dev/null", O_RDWR), zero = open("/dev/zero", O_RDWR);
	long n;

	ASSERT_LE(0, null);
	ASSERT_LE(0, zero);
	ASSERT_EQ(5000, stream_write(self->e.fd[1], 0, 5000));
	EXPECT_EQ(1000, to(&self->e, null, 1000, 0));
	EXPECT_EQ(3000, to(&self->e, zero, 3000, 0));
	EXPECT_EQ(1000, stream_read(self->e.fd[0], 4000, FULL));
	EXPECT_EQ(-EINVAL, from(&self->e, null, 100, 0));
	EXPECT_SIDE(ZPIPE_SIDE_FILE);
	/* The kernel may read less, because it could not allocate all pages at once. */
	n = from(&self->e, zero, 2 * FULL, 0);
	EXPECT_LT(0, n);
	if (n == FULL)
		EXPECT_SIDE(ZPIPE_SIDE_PIPE);
	EXPECT_EQ(n, sys(read(self->e.fd[0], got, FULL + 1)));
	EXPECT_EQ(0, memcmp(zeros, got, n));
}

/* A blocked large write goes into a file, and a file feeds a blocked large read. */
TEST_F_TIMEOUT(all, beside_direct_transfers, TIMEOUT)
{
	int fd = new_file(0);
	struct child c;
	long done, n;

	child_write(&c, &self->e, 0, MIB);
	ASSERT_TRUE(child_asleep(&c));
	for (done = 0; done < MIB; done += n) {
		n = to(&self->e, fd, MIB, 0);
		ASSERT_LT(0, n);
	}
	EXPECT_EQ(MIB, child_join(&c));
	EXPECT_TRUE(file_has(fd, 0, 0, MIB));
	ASSERT_EQ(0, lseek(fd, 0, SEEK_SET));
	child_read(&c, &self->e, MIB);
	ASSERT_TRUE(child_asleep(&c));
	n = from(&self->e, fd, 3 * PAGE, 0);
	EXPECT_EQ(3 * PAGE, n);
	done = child_join(&c);
	ASSERT_LT(0, done);
	EXPECT_EQ(-1, stream_diff(c.buf, 0, done));
	EXPECT_EQ(n - done, fionread(self->e.fd[0]));
}

/* Bytes of a blocked write that poll has announced are transferred without waiting. */
TEST_F_TIMEOUT(all, announced_bytes_without_waiting, TIMEOUT)
{
	int fd = new_file(0);
	struct child c;
	long n;

	child_write(&c, &self->e, 0, MIB);
	ASSERT_TRUE(child_asleep(&c));
	EXPECT_EQ(POLLIN, poll_mask(self->e.fd[0]));
	n = to(&self->e, fd, FULL, ZPIPE_NONBLOCK);
	ASSERT_LT(0, n);
	EXPECT_TRUE(file_has(fd, 0, 0, n));
	EXPECT_EQ(MIB - n, drain(self->e.fd[0], n, MIB - n, FULL));
	EXPECT_EQ(MIB, child_join(&c));
}

/* A loop of poll and transfers comes to an end, also with edge-triggered events. */
TEST_F_TIMEOUT(all, polled_transfers_of_a_blocked_write, TIMEOUT)
{
	int edge;

	for (edge = 0; edge < 2; edge++) {
		int fd = new_file(0), ep = watch(self->e.fd[0], EPOLLIN | (edge ? EPOLLET : 0));
		struct epoll_event ev;
		struct child c;
		long done = 0, n;

		child_write(&c, &self->e, 0, MIB);
		while (done < MIB) {
			ASSERT_EQ(1, epoll_wait(ep, &ev, 1, EVENT_MS))
				TH_LOG("edge %d, after %ld bytes", edge, done);
			while ((n = to(&self->e, fd, 50000, ZPIPE_NONBLOCK)) > 0)
				done += n;
			ASSERT_EQ(-EAGAIN, n);
		}
		EXPECT_TRUE(file_has(fd, 0, 0, MIB));
		EXPECT_EQ(MIB, child_join(&c));
		close(fd);
		close(ep);
	}
}

TEST_F_TIMEOUT(all, append_einval, TIMEOUT)
{
	int fd = new_file(0);
	loff_t off = 0;

	ASSERT_EQ(0, fcntl(fd, F_SETFL, O_APPEND));
	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	EXPECT_EQ(-EINVAL, to(&self->e, fd, 10, 0));
	EXPECT_EQ(-EINVAL, transfer_at(&self->e, TO, fd, &off, 10, 0));
	EXPECT_EQ(10, fionread(self->e.fd[0]));
	EXPECT_EQ(0, lseek(fd, 0, SEEK_END));
	/* It does not matter for reading. */
	ASSERT_EQ(10, stream_read(self->e.fd[0], 0, 20));
	ASSERT_EQ(10, stream_write(fd, 0, 10));
	off = 0;
	EXPECT_EQ(10, transfer_at(&self->e, FROM, fd, &off, 10, 0));
}

TEST_F_TIMEOUT(all, wrong_files, TIMEOUT)
{
	int fd = file_of(0, PAGE), ro, wo, path, dir = open("/tmp", O_RDONLY | O_DIRECTORY);
	char name[40];
	loff_t off = -1;

	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	ro = open(name, O_RDONLY);
	wo = open(name, O_WRONLY);
	path = open(name, O_PATH);
	ASSERT_LE(0, ro | wo | path | dir);
	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	EXPECT_EQ(-EBADF, to(&self->e, ro, 10, 0));
	EXPECT_EQ(-EBADF, from(&self->e, wo, 10, 0));
	EXPECT_EQ(-EBADF, to(&self->e, path, 10, 0));
	EXPECT_EQ(-EBADF, from(&self->e, path, 10, 0));
	EXPECT_EQ(-EBADF, to(&self->e, 12345, 10, 0));
	EXPECT_EQ(-EBADF, from(&self->e, -1, 10, 0));
	EXPECT_EQ(-EINVAL, from(&self->e, dir, 10, 0));
	EXPECT_EQ(-EINVAL, transfer_at(&self->e, TO, fd, &off, 10, 0));
	EXPECT_EQ(-EINVAL, transfer_at(&self->e, FROM, fd, &off, 10, 0));
	EXPECT_EQ(10, stream_read(self->e.fd[0], 0, FULL));
	EXPECT_EQ(0, position(fd));
}

/* Bytes that a file does not take stay in the pipe: here it may not be written any more. */
TEST_F_TIMEOUT(all, sealed_file_eperm, TIMEOUT)
{
	int fd = new_file(1);

	ASSERT_EQ(0, fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
	ASSERT_EQ(5000, stream_write(self->e.fd[1], 0, 5000));
	EXPECT_EQ(-EPERM, to(&self->e, fd, 5000, 0));
	EXPECT_SIDE(ZPIPE_SIDE_FILE);
	EXPECT_EQ(5000, stream_read(self->e.fd[0], 0, FULL));
}

/* The limit is inside the second page. */
TEST_F_TIMEOUT(all, file_size_limit, TIMEOUT)
{
	struct rlimit limit = { PAGE + 100, RLIM_INFINITY };
	int fd = new_file(0);

	catch_signal(SIGXFSZ, 0);
	ASSERT_EQ(0, setrlimit(RLIMIT_FSIZE, &limit));
	ASSERT_EQ(3 * PAGE, stream_write(self->e.fd[1], 0, 3 * PAGE));
	EXPECT_EQ(PAGE + 100, to(&self->e, fd, 3 * PAGE, 0));
	EXPECT_SIDE(ZPIPE_SIDE_FILE);
	EXPECT_EQ(1, signals_seen);
	EXPECT_EQ(PAGE + 100, position(fd));
	EXPECT_EQ(2 * PAGE - 100, fionread(self->e.fd[0]));
	EXPECT_EQ(-EFBIG, to(&self->e, fd, 3 * PAGE, 0));
	EXPECT_SIDE(ZPIPE_SIDE_FILE);
	EXPECT_EQ(2, signals_seen);
	EXPECT_EQ(PAGE + 100, position(fd));
	EXPECT_TRUE(file_has(fd, 0, 0, PAGE + 100));
	EXPECT_EQ(2 * PAGE - 100, stream_read(self->e.fd[0], PAGE + 100, FULL));
}

/* A file system with five pages. A posted write has to keep its bytes, too. */
TEST_F_TIMEOUT(all, full_file_system, TIMEOUT)
{
	char dir[] = "/tmp/zpipe-small.XXXXXX", name[40];
	struct child c;
	int fd;

	ASSERT_NE(NULL, mkdtemp(dir));
	ASSERT_EQ(0, mount("zpipe-test", dir, "tmpfs", 0, "size=20480"));
	snprintf(name, sizeof(name), "%s/file", dir);
	fd = open(name, O_RDWR | O_CREAT, 0600);
	unlink(name);
	ASSERT_EQ(0, umount2(dir, MNT_DETACH));
	rmdir(dir);
	ASSERT_LE(0, fd);
	child_write(&c, &self->e, 0, 8 * PAGE);
	ASSERT_EQ(8 * PAGE, child_join(&c));
	EXPECT_EQ(5 * PAGE, to(&self->e, fd, 8 * PAGE, 0));
	EXPECT_SIDE(ZPIPE_SIDE_FILE);
	EXPECT_EQ(-ENOSPC, to(&self->e, fd, 8 * PAGE, 0));
	EXPECT_SIDE(ZPIPE_SIDE_FILE);
	EXPECT_EQ(5 * PAGE, position(fd));
	EXPECT_EQ(3 * PAGE, stream_read(self->e.fd[0], 5 * PAGE, FULL));
	child_write(&c, &self->e, 0, MIB);
	ASSERT_TRUE(child_asleep(&c));
	EXPECT_EQ(-ENOSPC, to(&self->e, fd, MIB, 0));
	EXPECT_EQ(MIB, drain(self->e.fd[0], 0, MIB, 50000));
	EXPECT_EQ(MIB, child_join(&c));
}

/* No bytes, and more than there can be. */
TEST_F_TIMEOUT(all, nothing_to_transfer, TIMEOUT)
{
	int fd = file_of(0, 10);

	EXPECT_EQ(0, from(&self->e, fd, 0, 0));
	EXPECT_EQ(0, to(&self->e, fd, 0, 0));
	ASSERT_EQ(10, stream_write(self->e.fd[1], 0, 10));
	EXPECT_EQ(0, to(&self->e, fd, 0, 0));
	EXPECT_EQ(10, fionread(self->e.fd[0]));
	EXPECT_EQ(10, to(&self->e, fd, 1UL << 40, 0));
}

TEST_HARNESS_MAIN
