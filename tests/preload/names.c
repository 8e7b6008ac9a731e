// SPDX-License-Identifier: GPL-2.0-only
/*
 * A program with functions of its own that have names of the C library. tests/preload.sh runs it
 * with libzpipe_preload.so, which must not call them.
 */
#include "kselftest_harness.h"

#include "preload.h"

#include <fcntl.h>
#include <sys/sendfile.h>

static int calls;

/* A program for systems without pipe2() may bring this one. */
int pipe2(int fd[2], int flags)
{
	calls++;
	return pipe(fd);
}

/* These two only share the name. They have an asm name because headers declare the others. */
int send_a_file(const char *path, int times) __asm__("sendfile");
int send_a_file(const char *path, int times)
{
	calls++;
	return strlen(path) * times;
}

const char *first_control(const char *text) __asm__("fcntl");
const char *first_control(const char *text)
{
	calls++;
	return text + strlen(text);
}

FIXTURE(names)
{
	int fd[2];
};

FIXTURE_SETUP(names)
{
	calls = 0;
}

FIXTURE_TEARDOWN(names)
{
}

TEST_F(names, pipe_is_the_librarys)
{
	ASSERT_EQ(0, pipe(self->fd));
	EXPECT_EQ(0, calls);
	EXPECT_EQ(expected_file_system(), file_system(self->fd[0]));
}

TEST_F(names, pipe2_is_the_programs)
{
	ASSERT_EQ(0, pipe2(self->fd, 0));
	EXPECT_EQ(1, calls);
	EXPECT_EQ(expected_file_system(), file_system(self->fd[0]));
}

TEST_F(names, sendfile64_is_the_librarys)
{
	off64_t offset = 1;

	ASSERT_EQ(0, pipe(self->fd));
	EXPECT_EQ(5, sendfile64(self->fd[1], make_file(6), &offset, 10));
	EXPECT_EQ(6, offset);
	EXPECT_EQ(0, calls);
	EXPECT_EQ(6, send_a_file("abc", 2));
	EXPECT_EQ(1, calls);
}

TEST_F(names, fcntl64_is_the_librarys)
{
	ASSERT_EQ(0, pipe(self->fd));
	EXPECT_EQ(FULL, fcntl64(self->fd[0], F_GETPIPE_SZ));
	EXPECT_EQ(0, fcntl64(self->fd[0], F_GETFD));
	EXPECT_EQ(0, calls);
	EXPECT_EQ(0, *first_control("abc"));
	EXPECT_EQ(1, calls);
}

TEST_HARNESS_MAIN
