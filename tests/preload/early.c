// SPDX-License-Identifier: GPL-2.0-only
/*
 * A program that makes pipes before any library is initialised. Initialisers of other libraries
 * may do this, too. These pipes are the kernel's. tests/preload.sh runs this without
 * libzpipe_preload.so and with it.
 */
#include "kselftest_harness.h"

#include "preload.h"

#include <fcntl.h>

static struct {
	bool ran;
	int status, fd[2], status2, fd2[2];
} early;

static void make_pipes(void)
{
	early.ran = true;
	early.status = pipe(early.fd);
	early.status2 = pipe2(early.fd2, O_CLOEXEC);
}

/* The dynamic linker calls these before the initialisers of libraries. */
static void (*const preinit)(void) __attribute__((used, section(".preinit_array"))) = make_pipes;

TEST(early_pipes_are_the_kernels)
{
	char buf[4];

	ASSERT_TRUE(early.ran);
	ASSERT_EQ(0, early.status);
	ASSERT_EQ(0, early.status2);
	EXPECT_EQ(PIPEFS_MAGIC, file_system(early.fd[0]));
	EXPECT_EQ(PIPEFS_MAGIC, file_system(early.fd2[0]));
	EXPECT_EQ(0, fcntl(early.fd[0], F_GETFD));
	EXPECT_EQ(FD_CLOEXEC, fcntl(early.fd2[0], F_GETFD));
	EXPECT_EQ(3, write(early.fd[1], "abc", 3));
	EXPECT_EQ(3, read(early.fd[0], buf, sizeof(buf)));
}

TEST(later_pipes_are_of_the_expected_kind)
{
	int fd[2];

	ASSERT_EQ(0, pipe(fd));
	EXPECT_EQ(expected_file_system(), file_system(fd[0]));
}

TEST_HARNESS_MAIN
