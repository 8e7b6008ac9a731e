// SPDX-License-Identifier: GPL-2.0-only
/*
 * A program with a dlsym() of its own, as tracers and overlays have one. It calls the C library's,
 * which takes RTLD_NEXT as seen from this program. So libzpipe_preload.so finds its own functions,
 * and must make the system calls. tests/preload.sh runs this without the library and with it.
 */
#include "kselftest_harness.h"

#include "preload.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

/* How often the library looked for a function, and how often it found the one that is first. */
static int lookups, firsts;

void *dlsym(void *handle, const char *name)
{
	void *(*real)(void *handle, const char *name) = dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.2.5");
	void *found = real(handle, name);

	lookups++;
	firsts += found && found == real(RTLD_DEFAULT, name);
	return found;
}

FIXTURE(own_dlsym)
{
	int fd[2], other[2];
};

FIXTURE_SETUP(own_dlsym)
{
	ASSERT_EQ(0, pipe(self->fd));
	ASSERT_EQ(0, pipe2(self->other, O_NONBLOCK));
}

FIXTURE_TEARDOWN(own_dlsym)
{
}

/* Shows that the library was given its own functions. */
TEST_F(own_dlsym, finds_the_librarys)
{
	const char *preload = getenv("LD_PRELOAD");

	if (preload && *preload) {
		EXPECT_LT(0, lookups);
		EXPECT_EQ(lookups, firsts);
	} else {
		EXPECT_EQ(0, lookups);
	}
}

TEST_F(own_dlsym, pipes_are_of_the_expected_kind)
{
	EXPECT_EQ(expected_file_system(), file_system(self->fd[0]));
	EXPECT_EQ(expected_file_system(), file_system(self->other[0]));
	EXPECT_EQ(-EFAULT, sys(pipe((int *)PAGE)));
	EXPECT_EQ(-EINVAL, sys(pipe2(self->fd, -1)));
}

TEST_F(own_dlsym, fcntl)
{
	EXPECT_EQ(FULL, fcntl(self->fd[0], F_GETPIPE_SZ));
	EXPECT_EQ(FULL, fcntl64(self->fd[1], F_GETPIPE_SZ));
	EXPECT_EQ(O_WRONLY | O_NONBLOCK, fcntl(self->other[1], F_GETFL));
	EXPECT_EQ(O_WRONLY | O_NONBLOCK, fcntl64(self->other[1], F_GETFL));
	EXPECT_EQ(-EBADF, sys(fcntl(-1, F_GETFL)));
}

/* The system call returns the number of a small group as it returns an error. */
TEST_F(own_dlsym, owner)
{
	pid_t group = getpgrp();

	EXPECT_EQ(0, fcntl(self->fd[0], F_GETOWN));
	EXPECT_EQ(0, fcntl(self->fd[0], F_SETOWN, getpid()));
	EXPECT_EQ(getpid(), fcntl(self->fd[0], F_GETOWN));
	EXPECT_EQ(0, fcntl(self->fd[0], F_SETOWN, -group));
	errno = 0;
	EXPECT_EQ(-group, fcntl(self->fd[0], F_GETOWN));
	EXPECT_EQ(-group, fcntl64(self->fd[0], F_GETOWN));
	EXPECT_EQ(0, errno);
	EXPECT_EQ(-EBADF, sys(fcntl(-1, F_GETOWN)));
}

TEST_F(own_dlsym, transfers)
{
	struct iovec iov = { .iov_base = "abc", .iov_len = 3 };
	int file = make_file(10);
	char buf[20];

	EXPECT_EQ(3, vmsplice(self->fd[1], &iov, 1, 0));
	EXPECT_EQ(3, tee(self->fd[0], self->other[1], 10, 0));
	EXPECT_EQ(3, splice(self->fd[0], NULL, self->other[1], NULL, 10, 0));
	EXPECT_EQ(6, read(self->other[0], buf, sizeof(buf)));
	EXPECT_EQ(0, memcmp(buf, "abcabc", 6));
	EXPECT_EQ(10, sendfile64(self->fd[1], file, NULL, 20));
	EXPECT_EQ(10, read(self->fd[0], buf, sizeof(buf)));
	EXPECT_TRUE(is_stream(buf, 0, 10));
}

TEST_HARNESS_MAIN
