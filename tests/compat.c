// SPDX-License-Identifier: GPL-2.0-only
/*
 * System calls of a 32-bit process. A 64-bit process makes them through the entry point
 * of 32-bit processes. All memory that they use is in the low 2 GiB, where 32-bit
 * pointers reach it.
 */
#include "oracle.h"
#include "child.h"

#if defined(__x86_64__)

/* Numbers of the i386 system calls. */
#define NR32_READ	3
#define NR32_WRITE	4
#define NR32_IOCTL	54
#define NR32_READV	145
#define NR32_WRITEV	146
#define NR32_POLL	168

static long call32(long nr, long a, long b, long c)
{
	register long r8 asm("r8") = 0;
	register long r9 asm("r9") = 0;
	register long r10 asm("r10") = 0;
	register long r11 asm("r11") = 0;
	int ret;

	asm volatile("int $0x80"
		     : "=a" (ret), "+r" (r8), "+r" (r9), "+r" (r10), "+r" (r11)
		     : "0" (nr), "b" (a), "c" (b), "d" (c)
		     : "memory");
	return ret;
}

static void *low_alloc(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);

	if (p == MAP_FAILED)
		abort();
	return p;
}

static long ioctl32(int fd, unsigned int cmd, void *arg)
{
	return call32(NR32_IOCTL, fd, cmd, (long)arg);
}

static long try_call32(struct child *c __maybe_unused)
{
	return call32(NR32_READ, -1, 0, 0) == -EBADF ? 0 : -1;
}

/* A kernel may be built or booted without support for 32-bit processes. */
static bool no_call32(void)
{
	struct child c;

	child_run(&c, try_call32, NULL);
	return child_join(&c) != 0;
}

TEST_F_TIMEOUT(all, read_and_write, TIMEOUT)
{
	unsigned char *buf = low_alloc(3 * PAGE);

	if (no_call32())
		SKIP(return, "no 32-bit processes here");
	stream_fill(buf, 0, 3 * PAGE);
	EXPECT_EQ(3 * PAGE, call32(NR32_WRITE, self->e.fd[1], (long)buf,
				   3 * PAGE));
	memset(buf, 0, 3 * PAGE);
	EXPECT_EQ(3 * PAGE, call32(NR32_READ, self->e.fd[0], (long)buf,
				   3 * PAGE));
	EXPECT_EQ(-1, stream_diff(buf, 0, 3 * PAGE));
}

TEST_F_TIMEOUT(all, readv_and_writev, TIMEOUT)
{
	unsigned char *buf = low_alloc(PAGE);
	struct {
		__u32 base;
		__u32 len;
	} *iov = low_alloc(PAGE);

	if (no_call32())
		SKIP(return, "no 32-bit processes here");
	stream_fill(buf, 0, 100);
	iov[0].base = (long)buf;
	iov[0].len = 30;
	iov[2].base = (long)buf + 30;
	iov[2].len = 70;
	EXPECT_EQ(100, call32(NR32_WRITEV, self->e.fd[1], (long)iov, 3));
	memset(buf, 0, 100);
	EXPECT_EQ(100, call32(NR32_READV, self->e.fd[0], (long)iov, 3));
	EXPECT_EQ(-1, stream_diff(buf, 0, 100));
}

TEST_F_TIMEOUT(all, poll, TIMEOUT)
{
	struct pollfd *p = low_alloc(PAGE);

	if (no_call32())
		SKIP(return, "no 32-bit processes here");
	p[0] = (struct pollfd) { .fd = self->e.fd[0], .events = POLLIN };
	p[1] = (struct pollfd) { .fd = self->e.fd[1], .events = POLLOUT };
	EXPECT_EQ(1, call32(NR32_POLL, (long)p, 2, 0));
	EXPECT_EQ(POLLOUT, p[1].revents);
}

TEST_F_TIMEOUT(all, fionread, TIMEOUT)
{
	int *n = low_alloc(PAGE);

	if (no_call32())
		SKIP(return, "no 32-bit processes here");
	ASSERT_EQ(100, stream_write(self->e.fd[1], 0, 100));
	EXPECT_EQ(0, ioctl32(self->e.fd[0], FIONREAD, n));
	EXPECT_EQ(100, *n);
	EXPECT_EQ(-EFAULT, ioctl32(self->e.fd[0], FIONREAD, NULL));
}

TEST_F_TIMEOUT(all, unknown_ioctl_enotty, TIMEOUT)
{
	if (no_call32())
		SKIP(return, "no 32-bit processes here");
	EXPECT_EQ(-ENOTTY, ioctl32(self->e.fd[0], 0x12345678, NULL));
	EXPECT_EQ(-ENOTTY, ioctl32(self->e.fd[0], ZPIPE_IOC_PIPE2, NULL));
}

/*
 * The ioctls of zpipe. Their structs have the same layout in 32-bit and 64-bit
 * processes.
 */
TEST(abi_pipe2)
{
	struct zpipe_pipe2 *arg = low_alloc(PAGE);
	int control = open(ZPIPE_CONTROL, O_RDWR);

	if (no_call32())
		SKIP(return, "no 32-bit processes here");
	arg->size = sizeof(*arg);
	arg->flags = O_NONBLOCK;
	ASSERT_EQ(0, ioctl32(control, ZPIPE_IOC_PIPE2, arg));
	EXPECT_EQ(10, stream_write(arg->fds[1], 0, 10));
	EXPECT_EQ(10, stream_read(arg->fds[0], 0, 10));
	EXPECT_EQ(-EAGAIN, stream_read(arg->fds[0], 0, 10));
}

TEST(abi_pipe2_refused)
{
	struct zpipe_pipe2 *arg = low_alloc(PAGE);
	int control = open(ZPIPE_CONTROL, O_RDWR);

	if (no_call32())
		SKIP(return, "no 32-bit processes here");
	ASSERT_LE(0, control);
	arg->size = sizeof(*arg);
	arg->flags = 1;
	EXPECT_EQ(-EINVAL, ioctl32(control, ZPIPE_IOC_PIPE2, arg));
	arg->flags = 0;
	arg->size = 15;
	EXPECT_EQ(-EINVAL, ioctl32(control, ZPIPE_IOC_PIPE2, arg));
	arg->size = PAGE + 1;
	EXPECT_EQ(-E2BIG, ioctl32(control, ZPIPE_IOC_PIPE2, arg));
	EXPECT_EQ(-EFAULT, ioctl32(control, ZPIPE_IOC_PIPE2, NULL));
	EXPECT_EQ(-ENOTTY, ioctl32(control, ZPIPE_IOC_PIPE2 + 1, arg));
}

TEST(abi_capacity)
{
	struct zpipe_capacity *arg = low_alloc(PAGE);
	int fd[2];

	if (no_call32())
		SKIP(return, "no 32-bit processes here");
	ASSERT_EQ(0, zpipe_pipe2(fd, 0));
	arg->size = sizeof(*arg);
	arg->bytes = 5000;
	ASSERT_EQ(0, ioctl32(fd[0], ZPIPE_IOC_SET_CAPACITY, arg));
	EXPECT_EQ(2ULL * PAGE, arg->bytes);
	arg->bytes = (1ULL << 32) + PAGE;
	EXPECT_EQ(-EINVAL, ioctl32(fd[0], ZPIPE_IOC_SET_CAPACITY, arg));
	ASSERT_EQ(0, ioctl32(fd[1], ZPIPE_IOC_GET_CAPACITY, arg));
	EXPECT_EQ(2ULL * PAGE, arg->bytes);
}

TEST(abi_flags)
{
	struct zpipe_flags *arg = low_alloc(PAGE);
	int fd[2];

	if (no_call32())
		SKIP(return, "no 32-bit processes here");
	ASSERT_EQ(0, zpipe_pipe2(fd, 0));
	arg->size = sizeof(*arg);
	arg->flags = ZPIPE_BUFFER_ONLY;
	EXPECT_EQ(-EBADF, ioctl32(fd[1], ZPIPE_IOC_SET_FLAGS, arg));
	ASSERT_EQ(0, ioctl32(fd[0], ZPIPE_IOC_SET_FLAGS, arg));
	arg->flags = 0;
	ASSERT_EQ(0, ioctl32(fd[1], ZPIPE_IOC_GET_FLAGS, arg));
	EXPECT_EQ(ZPIPE_BUFFER_ONLY, arg->flags);
	EXPECT_EQ(ZPIPE_BUFFER_ONLY, get_flags(fd[0]));
}

TEST(abi_transfer)
{
	struct zpipe_transfer *arg = low_alloc(PAGE);
	struct zpipe_iovec *range = low_alloc(PAGE);
	char *buf = low_alloc(PAGE);
	int fd[2];

	if (no_call32())
		SKIP(return, "no 32-bit processes here");
	ASSERT_EQ(0, zpipe_pipe2(fd, 0));
	memcpy(buf, "transfer", 8);
	*range = (struct zpipe_iovec) { .base = (unsigned long)buf, .bytes = 8 };
	*arg = (struct zpipe_transfer) {
		.size = sizeof(*arg), .iov = (unsigned long)range, .iovcnt = 1,
	};
	ASSERT_EQ(0, ioctl32(fd[1], ZPIPE_IOC_GIFT, arg));
	EXPECT_EQ(8ULL, arg->done);
	EXPECT_EQ(8ULL, arg->copied);
	memset(buf, 0, 8);
	ASSERT_EQ(0, ioctl32(fd[0], ZPIPE_IOC_MOVE, arg));
	EXPECT_EQ(8ULL, arg->done);
	EXPECT_EQ(0, memcmp(buf, "transfer", 8));
}

#endif /* __x86_64__ */

TEST_HARNESS_MAIN
