// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which path leads to which pipe, and what a blocked open must not delay. A pipe
 * belongs to the inode of its node, as with fifo(7).
 */
#include "oracle.h"
#include "child.h"

#include <sys/mount.h>

static long open_now(const char *path, int flags)
{
	return sys(open(path, flags));
}

/*
 * Returns 1 if two paths lead to the same pipe: bytes written to the one can be read
 * from the other. Returns 0 if not, or -errno if an open or a call fails.
 */
static long same_pipe(const char *one, const char *two)
{
	int a = open(one, O_RDWR | O_NONBLOCK);
	int b = open(two, O_RDWR | O_NONBLOCK);
	long ret;

	if (a < 0 || b < 0)
		return -errno;
	ret = stream_write(a, 0, 10);
	if (ret == 10)
		ret = stream_read(b, 0, 10);
	close(a);
	close(b);
	return ret == 10 ? 1 : ret == -EAGAIN ? 0 : ret;
}

TEST_F_TIMEOUT(named, same_path_is_same_pipe, TIMEOUT)
{
	EXPECT_EQ(1, same_pipe(self->e.path, self->e.path));
}

TEST_F_TIMEOUT(named, second_node_is_another_pipe, TIMEOUT)
{
	char path[64];

	snprintf(path, sizeof(path), "%s/two", self->e.dir);
	ASSERT_EQ(0, make_node(variant->kind, path));
	EXPECT_EQ(0, same_pipe(self->e.path, path));
	unlink(path);
}

TEST(node_is_another_pipe_than_the_device)
{
	struct ends e;

	ASSERT_EQ(0, ends_make(&e, ZNODE));
	EXPECT_EQ(0, same_pipe(e.path, ZPIPE_DEV));
	ends_free(&e);
}

TEST_F_TIMEOUT(named, hard_link_is_same_pipe, TIMEOUT)
{
	char path[64];

	snprintf(path, sizeof(path), "%s/link", self->e.dir);
	ASSERT_EQ(0, link(self->e.path, path));
	EXPECT_EQ(1, same_pipe(self->e.path, path));
	unlink(path);
}

TEST_F_TIMEOUT(named, symlink_is_same_pipe, TIMEOUT)
{
	char path[64];

	snprintf(path, sizeof(path), "%s/link", self->e.dir);
	ASSERT_EQ(0, symlink(self->e.path, path));
	EXPECT_EQ(1, same_pipe(self->e.path, path));
	unlink(path);
}

TEST_F_TIMEOUT(named, renamed_node_is_same_pipe, TIMEOUT)
{
	char path[64];
	int fd = open(self->e.path, O_RDWR);

	snprintf(path, sizeof(path), "%s/new", self->e.dir);
	ASSERT_LE(0, fd);
	ASSERT_EQ(10, stream_write(fd, 0, 10));
	ASSERT_EQ(0, rename(self->e.path, path));
	fd = open(path, O_RDONLY);
	ASSERT_LE(0, fd);
	EXPECT_EQ(10, stream_read(fd, 0, 10));
	unlink(path);
}

TEST_F_TIMEOUT(named, node_in_place_of_unlinked_is_another_pipe, TIMEOUT)
{
	int old = open(self->e.path, O_RDWR | O_NONBLOCK);
	int new;

	ASSERT_LE(0, old);
	ASSERT_EQ(10, stream_write(old, 0, 10));
	ASSERT_EQ(0, unlink(self->e.path));
	ASSERT_EQ(0, make_node(variant->kind, self->e.path));
	new = open(self->e.path, O_RDWR | O_NONBLOCK);
	ASSERT_LE(0, new);
	EXPECT_EQ(-EAGAIN, stream_read(new, 0, 10));
	EXPECT_EQ(10, stream_read(old, 0, 10));
}

TEST_F_TIMEOUT(named, bind_mount_is_same_pipe, TIMEOUT)
{
	char path[64];

	snprintf(path, sizeof(path), "%s/bound", self->e.dir);
	ASSERT_EQ(0, unshare(CLONE_NEWNS));
	/* This fails, harmlessly, if the root file system is not a mount of its own. */
	mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
	ASSERT_EQ(0, mknod(path, S_IFREG | 0600, 0));
	ASSERT_EQ(0, mount(self->e.path, path, NULL, MS_BIND, NULL));
	EXPECT_EQ(1, same_pipe(self->e.path, path));
	umount(path);
	unlink(path);
}

static long write_in_chroot(struct child *c)
{
	int fd;

	if (chroot(c->arg) || chdir("/"))
		return -1;
	fd = open("/pipe", O_RDWR | O_NONBLOCK);
	if (fd < 0)
		return -1;
	return write(fd, "c", 1);
}

TEST_F_TIMEOUT(named, chroot_sees_same_pipe, TIMEOUT)
{
	int fd = open(self->e.path, O_RDWR | O_NONBLOCK);
	struct child c;

	ASSERT_LE(0, fd);
	child_run(&c, write_in_chroot, self->e.dir);
	ASSERT_EQ(1, child_join(&c));
	EXPECT_EQ(1, fionread(fd));
}

TEST_F_TIMEOUT(named, node_in_chroot_is_another_pipe, TIMEOUT)
{
	int fd = open(self->e.path, O_RDWR | O_NONBLOCK);
	char root[64], path[80];
	struct child c;

	snprintf(root, sizeof(root), "%s/root", self->e.dir);
	snprintf(path, sizeof(path), "%s/pipe", root);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, mkdir(root, 0755));
	ASSERT_EQ(0, make_node(variant->kind, path));
	child_run(&c, write_in_chroot, root);
	EXPECT_EQ(1, child_join(&c));
	EXPECT_EQ(0, fionread(fd));
	unlink(path);
	rmdir(root);
}

/* Enters a new user namespace as its root user. */
static int enter_userns(void)
{
	int fd;

	if (unshare(CLONE_NEWUSER))
		return -1;
	fd = open("/proc/self/uid_map", O_WRONLY);
	if (fd < 0 || write(fd, "0 0 1", 5) != 5)
		return -1;
	return close(fd);
}

static long write_in_userns(struct child *c)
{
	int fd;

	if (enter_userns())
		return -1;
	fd = open(c->arg, O_RDWR | O_NONBLOCK);
	return fd < 0 ? -1 : write(fd, "c", 1);
}

TEST_F_TIMEOUT(named, user_namespace_sees_same_pipe, TIMEOUT)
{
	int fd = open(self->e.path, O_RDWR | O_NONBLOCK);
	struct child c;

	ASSERT_LE(0, fd);
	child_run(&c, write_in_userns, self->e.path);
	ASSERT_EQ(1, child_join(&c));
	EXPECT_EQ(1, fionread(fd));
}

static long mknod_in_userns(struct child *c)
{
	struct ends *e = c->arg;
	char path[64];
	long ret;

	snprintf(path, sizeof(path), "%s/two", e->dir);
	if (enter_userns())
		return -2;
	ret = make_node(e->kind, path);
	if (!ret)
		unlink(path);
	return ret;
}

/*
 * DEVIATION: a user namespace can make FIFOs, but no device nodes. Its processes can
 * use a node that the administrator made, or private pairs.
 */
TEST_F_TIMEOUT(named, user_namespace_makes_a_node, TIMEOUT)
{
	struct child c;

	child_run(&c, mknod_in_userns, &self->e);
	EXPECT_EQ(variant->kind == FIFO ? 0 : -EPERM, child_join(&c));
}

/* DEVIATION: fstat reports a node as a character device, not as a FIFO. */
TEST_F_TIMEOUT(named, type_of_node, TIMEOUT)
{
	struct stat st;
	int fd = open(self->e.path, O_RDWR);

	ASSERT_EQ(0, fstat(fd, &st));
	EXPECT_EQ(variant->kind == FIFO ? 1 : 0, S_ISFIFO(st.st_mode));
	EXPECT_EQ(variant->kind == FIFO ? 0 : 1, S_ISCHR(st.st_mode));
}

/*
 * A blocked open must not delay opens of other devices. /dev/fuse stands for any device
 * that a global lock would block. The test makes its node, since /dev may not have it.
 */
TEST_F_TIMEOUT(named, waiting_opener_does_not_hold_up_fuse, TIMEOUT)
{
	struct child c;
	char fuse[64];

	snprintf(fuse, sizeof(fuse), "%s/fuse", self->e.dir);
	ASSERT_EQ(0, mknod(fuse, S_IFCHR | 0600, makedev(10, 229)));
	child_open(&c, self->e.path, O_RDONLY);
	ASSERT_TRUE(child_asleep(&c));
	EXPECT_LE(0, open_now(fuse, O_RDWR));
	child_kill(&c);
	unlink(fuse);
}

TEST_F_TIMEOUT(named, waiting_opener_does_not_hold_up_another_node, TIMEOUT)
{
	struct child c;
	char path[64];

	snprintf(path, sizeof(path), "%s/two", self->e.dir);
	ASSERT_EQ(0, make_node(variant->kind, path));
	child_open(&c, self->e.path, O_RDONLY);
	ASSERT_TRUE(child_asleep(&c));
	EXPECT_EQ(1, same_pipe(path, path));
	child_kill(&c);
	unlink(path);
}

TEST_F_TIMEOUT(named, waiting_opener_does_not_hold_up_pairs, TIMEOUT)
{
	struct child c;
	struct ends e;

	ASSERT_EQ(0, ends_make(&e, variant->kind == FIFO ? PIPE : ZPAIR));
	child_open(&c, self->e.path, O_RDONLY);
	ASSERT_TRUE(child_asleep(&c));
	EXPECT_EQ(0, open_ends(&e, 0));
	child_kill(&c);
	ends_free(&e);
}

TEST_F_TIMEOUT(named, open_without_read_and_write_einval, TIMEOUT)
{
	EXPECT_EQ(-EINVAL, open_now(self->e.path, O_ACCMODE));
}

TEST_F_TIMEOUT(named, open_direct_einval, TIMEOUT)
{
	EXPECT_EQ(-EINVAL, open_now(self->e.path, O_RDWR | O_DIRECT));
}

TEST_F_TIMEOUT(named, refused_open_leaves_no_trace, TIMEOUT)
{
	EXPECT_EQ(-EINVAL, open_now(self->e.path,
				    O_RDONLY | O_NONBLOCK | O_DIRECT));
	EXPECT_EQ(-ENXIO, open_now(self->e.path, O_WRONLY | O_NONBLOCK));
}

TEST_F_TIMEOUT(named, open_trunc_drops_nothing, TIMEOUT)
{
	int fd = open(self->e.path, O_RDWR);

	ASSERT_LE(0, fd);
	ASSERT_EQ(10, stream_write(fd, 0, 10));
	ASSERT_LE(0, open_now(self->e.path, O_WRONLY | O_TRUNC));
	EXPECT_EQ(10, fionread(fd));
}

TEST_F_TIMEOUT(named, open_create_opens_the_existing_node, TIMEOUT)
{
	int fd = open(self->e.path, O_RDWR);

	ASSERT_LE(0, fd);
	ASSERT_EQ(10, stream_write(fd, 0, 10));
	fd = open(self->e.path, O_RDWR | O_CREAT, 0600);
	ASSERT_LE(0, fd);
	EXPECT_EQ(10, fionread(fd));
}

TEST_F_TIMEOUT(named, open_flags_show, TIMEOUT)
{
	int fd = open(self->e.path, O_RDWR | O_NONBLOCK | O_APPEND | O_CLOEXEC);

	ASSERT_LE(0, fd);
	EXPECT_EQ(O_RDWR | O_NONBLOCK | O_APPEND,
		  fcntl(fd, F_GETFL) & (O_ACCMODE | O_NONBLOCK | O_APPEND));
	EXPECT_EQ(FD_CLOEXEC, fcntl(fd, F_GETFD));
}

TEST_F_TIMEOUT(named, path_descriptor_is_no_reader, TIMEOUT)
{
	ASSERT_LE(0, open_now(self->e.path, O_PATH));
	EXPECT_EQ(-ENXIO, open_now(self->e.path, O_WRONLY | O_NONBLOCK));
}

static void fd_path(char *buf, size_t len, int fd)
{
	snprintf(buf, len, "/proc/self/fd/%d", fd);
}

TEST_F_TIMEOUT(named, path_descriptor_opens_same_pipe, TIMEOUT)
{
	char path[64];
	int fd = open(self->e.path, O_PATH);

	ASSERT_LE(0, fd);
	fd_path(path, sizeof(path), fd);
	EXPECT_EQ(1, same_pipe(path, self->e.path));
}

/* The open of a named pipe blocks even through /proc, unlike that of a private pair. */
TEST_F_TIMEOUT(named, reopen_through_proc_waits, TIMEOUT)
{
	struct child c;
	char path[64];
	int fd = open(self->e.path, O_RDONLY | O_NONBLOCK);

	ASSERT_LE(0, fd);
	fd_path(path, sizeof(path), fd);
	child_open(&c, path, O_RDONLY);
	ASSERT_TRUE(child_asleep(&c));
	EXPECT_LE(0, open_now(path, O_WRONLY));
	EXPECT_LE(0, child_join(&c));
}

TEST_F_TIMEOUT(named, reopen_through_proc_without_reader_enxio, TIMEOUT)
{
	char path[64];

	ASSERT_EQ(0, open_ends(&self->e, 0));
	close_end(&self->e, 0);
	fd_path(path, sizeof(path), self->e.fd[1]);
	EXPECT_EQ(-ENXIO, open_now(path, O_WRONLY | O_NONBLOCK));
}

static const struct timespec long_ago[2] = { { .tv_sec = 1 }, { .tv_sec = 1 } };

TEST_F_TIMEOUT(named, write_updates_mtime, TIMEOUT)
{
	struct stat st;
	int fd = open(self->e.path, O_RDWR);

	ASSERT_EQ(0, futimens(fd, long_ago));
	ASSERT_EQ(10, stream_write(fd, 0, 10));
	ASSERT_EQ(0, fstat(fd, &st));
	EXPECT_LT(1, st.st_mtime);
}

TEST_F_TIMEOUT(named, read_updates_atime, TIMEOUT)
{
	struct stat st;
	int fd = open(self->e.path, O_RDWR);

	ASSERT_EQ(10, stream_write(fd, 0, 10));
	ASSERT_EQ(0, futimens(fd, long_ago));
	ASSERT_EQ(10, stream_read(fd, 0, 10));
	ASSERT_EQ(0, fstat(fd, &st));
	EXPECT_LT(1, st.st_atime);
}

TEST_HARNESS_MAIN
