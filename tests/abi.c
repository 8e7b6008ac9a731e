// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tests of the ABI in include/uapi/linux/zpipe.h. Each input that the header says is
 * refused is tried alone, with all other input valid. A refused call must leave nothing
 * behind.
 */
#include "oracle.h"
#include "child.h"

#include <dirent.h>
#include <sys/resource.h>

#define LONER		54321
#define PIPE2_FLAGS	(O_CLOEXEC | O_NONBLOCK | O_DIRECT | ZPIPE_BUFFER_ONLY)

/* The control device, both ends of a node and both ends of a pair, all open. */
FIXTURE(abi) {
	struct ends node;
	struct ends pair;
	int control;
};

FIXTURE_SETUP(abi)
{
	self->control = open(ZPIPE_CONTROL, O_RDWR);
	ASSERT_LE(0, self->control);
	ASSERT_EQ(0, ends_make(&self->node, ZNODE));
	ASSERT_EQ(0, open_ends(&self->node, 0));
	ASSERT_EQ(0, ends_make(&self->pair, ZPAIR));
	ASSERT_EQ(0, open_ends(&self->pair, 0));
}

FIXTURE_TEARDOWN(abi)
{
	ends_free(&self->node);
	ends_free(&self->pair);
}

static int count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

/* Returns the reference count of the module, or -1. Each pipe holds a reference. */
static int module_refs(void)
{
	FILE *f = fopen("/sys/module/zpipe/refcnt", "r");
	int n = -1;

	if (!f)
		return -1;
	if (fscanf(f, "%d", &n) != 1)
		n = -1;
	fclose(f);
	return n;
}

/* Copies a struct to the end of a page. The page behind it cannot be accessed. */
static void *at_end_of_page(const void *arg, size_t len)
{
	char *p = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED || mprotect(p + PAGE, PAGE, PROT_NONE))
		abort();
	return memcpy(p + PAGE - len, arg, len);
}

/* Copies a struct to a zeroed buffer of @size bytes, or of @len if @size is smaller. */
static unsigned char *with_tail(const void *arg, size_t len, size_t size)
{
	unsigned char *p = calloc(1, size < len ? len : size);

	memcpy(p, arg, len);
	return p;
}

/* Calls PIPE2 with @buf as its argument, and closes the descriptors that it makes. */
static long pipe2_raw(int control, void *buf)
{
	struct zpipe_pipe2 *arg = buf;
	long ret = sys(ioctl(control, ZPIPE_IOC_PIPE2, buf));

	if (!ret) {
		close(arg->fds[0]);
		close(arg->fds[1]);
	}
	return ret;
}

static long pipe2_sized(int control, unsigned int size, unsigned int real)
{
	struct zpipe_pipe2 arg = { .size = size };

	return pipe2_raw(control, with_tail(&arg, sizeof(arg), real));
}

static long pipe2_flags(int control, unsigned int flags)
{
	struct zpipe_pipe2 arg = { .size = sizeof(arg), .flags = flags };

	return pipe2_raw(control, &arg);
}

TEST_F_TIMEOUT(abi, pipe2_known_flags, TIMEOUT)
{
	EXPECT_EQ(0, pipe2_flags(self->control, 0));
	EXPECT_EQ(0, pipe2_flags(self->control, PIPE2_FLAGS));
}

TEST_F_TIMEOUT(abi, pipe2_unknown_flags_einval, TIMEOUT)
{
	int bit;

	for (bit = 0; bit < 32; bit++) {
		if (PIPE2_FLAGS & 1U << bit)
			continue;
		EXPECT_EQ(-EINVAL, pipe2_flags(self->control, 1U << bit))
			TH_LOG("bit %d", bit);
		EXPECT_EQ(-EINVAL, pipe2_flags(self->control,
					       PIPE2_FLAGS | 1U << bit));
	}
}

/* DEVIATION: zpipe has no notification pipes, so it refuses the O_EXCL of pipe2(2). */
TEST_F_TIMEOUT(abi, pipe2_notification_pipe_einval, TIMEOUT)
{
	EXPECT_EQ(-EINVAL, pipe2_flags(self->control, O_EXCL));
}

TEST_F_TIMEOUT(abi, pipe2_short_einval, TIMEOUT)
{
	unsigned int size;

	for (size = 0; size < sizeof(struct zpipe_pipe2); size++)
		EXPECT_EQ(-EINVAL, pipe2_sized(self->control, size, 0));
}

TEST_F_TIMEOUT(abi, pipe2_long_with_zeroes, TIMEOUT)
{
	EXPECT_EQ(0, pipe2_sized(self->control, 17, 17));
	EXPECT_EQ(0, pipe2_sized(self->control, 24, 24));
	EXPECT_EQ(0, pipe2_sized(self->control, 100, 100));
	EXPECT_EQ(0, pipe2_sized(self->control, PAGE, PAGE));
}

TEST_F_TIMEOUT(abi, pipe2_long_with_nonzero_tail_e2big, TIMEOUT)
{
	struct zpipe_pipe2 arg = { .size = 300 };
	unsigned char *buf = with_tail(&arg, sizeof(arg), 300);
	int i;

	for (i = sizeof(arg); i < 300; i++) {
		buf[i] = 1;
		ASSERT_EQ(-E2BIG, pipe2_raw(self->control, buf))
			TH_LOG("byte %d", i);
		buf[i] = 0;
	}
	EXPECT_EQ(0, pipe2_raw(self->control, buf));
}

TEST_F_TIMEOUT(abi, pipe2_beyond_its_size_is_not_read, TIMEOUT)
{
	struct zpipe_pipe2 arg = { .size = 20 };
	unsigned char *buf = with_tail(&arg, sizeof(arg), 21);

	buf[20] = 1;
	EXPECT_EQ(0, pipe2_raw(self->control, buf));
}

TEST_F_TIMEOUT(abi, pipe2_longer_than_a_page_e2big, TIMEOUT)
{
	EXPECT_EQ(-E2BIG, pipe2_sized(self->control, PAGE + 1, 2 * PAGE));
	EXPECT_EQ(-E2BIG, pipe2_sized(self->control, UINT_MAX, 2 * PAGE));
}

TEST_F_TIMEOUT(abi, pipe2_ignores_fds_on_input, TIMEOUT)
{
	struct zpipe_pipe2 arg = { .size = sizeof(arg), .fds = { 12345, -7 } };

	EXPECT_EQ(0, pipe2_raw(self->control, &arg));
}

TEST_F_TIMEOUT(abi, pipe2_writes_only_fds, TIMEOUT)
{
	struct zpipe_pipe2 arg = { .size = 64, .flags = O_NONBLOCK };
	unsigned char *buf = with_tail(&arg, sizeof(arg), 65);
	struct zpipe_pipe2 *out = (void *)buf;
	int i;

	buf[64] = 0xcc;
	ASSERT_EQ(0, pipe2_raw(self->control, buf));
	EXPECT_EQ(64U, out->size);
	EXPECT_EQ((unsigned int)O_NONBLOCK, out->flags);
	for (i = sizeof(arg); i < 64; i++)
		EXPECT_EQ(0, buf[i]);
	EXPECT_EQ(0xcc, buf[64]);
}

TEST_F_TIMEOUT(abi, pipe2_refused_writes_nothing, TIMEOUT)
{
	struct zpipe_pipe2 arg = { .size = sizeof(arg), .flags = 1,
				   .fds = { -7, -8 } };

	ASSERT_EQ(-EINVAL, sys(ioctl(self->control, ZPIPE_IOC_PIPE2, &arg)));
	EXPECT_EQ(-7, arg.fds[0]);
	EXPECT_EQ(-8, arg.fds[1]);
}

TEST_F_TIMEOUT(abi, pipe2_unreadable_efault, TIMEOUT)
{
	struct zpipe_pipe2 arg = { .size = sizeof(arg) };

	EXPECT_EQ(-EFAULT, pipe2_raw(self->control, NULL));
	/* First only the start of the struct is readable. Then all but its tail is. */
	EXPECT_EQ(-EFAULT, pipe2_raw(self->control, at_end_of_page(&arg, 2)));
	EXPECT_EQ(-EFAULT, pipe2_raw(self->control, at_end_of_page(&arg, 8)));
	arg.size++;
	EXPECT_EQ(-EFAULT, pipe2_raw(self->control,
				     at_end_of_page(&arg, sizeof(arg))));
}

/*
 * Writing the descriptors to user memory is the last step of PIPE2. If it fails, both
 * descriptors must be closed again.
 */
TEST_F_TIMEOUT(abi, pipe2_unwritable_efault, TIMEOUT)
{
	struct zpipe_pipe2 arg = { .size = sizeof(arg) };
	int fds = count_fds(), refs = module_refs(), i;
	void *p = at_end_of_page(&arg, sizeof(arg));

	mprotect((void *)((long)p & -PAGE), PAGE, PROT_READ);
	for (i = 0; i < 100; i++)
		ASSERT_EQ(-EFAULT, pipe2_raw(self->control, p));
	EXPECT_EQ(fds, count_fds());
	EXPECT_TRUE(eventually(module_refs() == refs));
}

static void limit_fds(int n)
{
	struct rlimit lim = { n, 4096 };

	setrlimit(RLIMIT_NOFILE, &lim);
}

TEST_F_TIMEOUT(abi, pipe2_emfile_leaves_nothing, TIMEOUT)
{
	int fds = count_fds(), refs = module_refs(), i;
	int one = dup(0), two = dup(0);

	close(one);
	close(two);
	for (i = 0; i < 100; i++) {
		/* First no descriptor is free, then one. PIPE2 needs two. */
		limit_fds(one);
		ASSERT_EQ(-EMFILE, pipe2_flags(self->control, 0));
		limit_fds(two);
		ASSERT_EQ(-EMFILE, pipe2_flags(self->control, 0));
	}
	limit_fds(two + 1);
	EXPECT_EQ(0, pipe2_flags(self->control, 0));
	limit_fds(1024);
	EXPECT_EQ(fds, count_fds());
	EXPECT_TRUE(eventually(module_refs() == refs));
}

TEST_F_TIMEOUT(abi, pipe2_on_any_open_of_the_control, TIMEOUT)
{
	EXPECT_EQ(0, pipe2_flags(open(ZPIPE_CONTROL, O_RDONLY), 0));
	EXPECT_EQ(0, pipe2_flags(open(ZPIPE_CONTROL, O_WRONLY), 0));
	EXPECT_EQ(-EBADF, pipe2_flags(open(ZPIPE_CONTROL, O_PATH), 0));
}

/*
 * Returns the first command, other than the @nr commands in @cmds, that does not fail
 * with ENOTTY. Returns 0 if all do. Each command has a null argument.
 */
static long first_known(int fd, const unsigned int *cmds, int nr)
{
	unsigned int cmd, size, dir;
	int i;

	for (cmd = 0; cmd < 256; cmd++) {
		for (dir = 0; dir < 4; dir++) {
			for (size = 0; size <= 16; size += 8) {
				unsigned int full = _IOC(dir, ZPIPE_IOC_TYPE,
							 cmd, size);

				for (i = 0; i < nr; i++)
					if (full == cmds[i])
						break;
				if (i == nr &&
				    sys(ioctl(fd, full, 0)) != -ENOTTY)
					return full;
			}
		}
	}
	return 0;
}

TEST_F_TIMEOUT(abi, unknown_commands_enotty, TIMEOUT)
{
	static const unsigned int control[] = { ZPIPE_IOC_PIPE2 };
	static const unsigned int pipe[] = {
		ZPIPE_IOC_GET_CAPACITY, ZPIPE_IOC_SET_CAPACITY,
		ZPIPE_IOC_GET_FLAGS, ZPIPE_IOC_SET_FLAGS,
		ZPIPE_IOC_GIFT, ZPIPE_IOC_MOVE, ZPIPE_IOC_SPLICE_TO,
		ZPIPE_IOC_SPLICE_FROM, ZPIPE_IOC_TEE, ZPIPE_IOC_WINDOW,
	};
	int nr = ARRAY_SIZE(pipe);

	EXPECT_EQ(0, first_known(self->control, control, 1));
	EXPECT_EQ(0, first_known(self->node.fd[0], pipe, nr));
	EXPECT_EQ(0, first_known(self->node.fd[1], pipe, nr));
	EXPECT_EQ(0, first_known(self->pair.fd[0], pipe, nr));
	EXPECT_EQ(0, first_known(self->pair.fd[1], pipe, nr));
}

/* Commands on a file of the wrong kind, with an argument that the right kind accepts. */
TEST_F_TIMEOUT(abi, commands_on_the_wrong_file_enotty, TIMEOUT)
{
	EXPECT_EQ(-ENOTTY, pipe2_flags(self->node.fd[0], 0));
	EXPECT_EQ(-ENOTTY, pipe2_flags(self->pair.fd[1], 0));
	EXPECT_EQ(-ENOTTY, get_capacity(ZNODE, self->control));
	EXPECT_EQ(-ENOTTY, set_capacity(ZNODE, self->control, PAGE));
	EXPECT_EQ(-ENOTTY, get_flags(self->control));
	EXPECT_EQ(-ENOTTY, set_flags(self->control, 0));
	EXPECT_EQ(-ENOTTY, fionread(self->control));
}

TEST(commands_on_other_files_enotty)
{
	int p[2];

	ASSERT_EQ(0, pipe(p));
	EXPECT_EQ(-ENOTTY, get_flags(p[0]));
	EXPECT_EQ(-ENOTTY, set_flags(p[0], 0));
	EXPECT_EQ(-ENOTTY, pipe2_flags(p[0], 0));
	EXPECT_EQ(-ENOTTY, get_capacity(ZNODE, p[0]));
	EXPECT_EQ(-ENOTTY, set_capacity(ZNODE, p[0], PAGE));
}

static long capacity_raw(int fd, bool set, void *buf)
{
	return sys(ioctl(fd, set ? ZPIPE_IOC_SET_CAPACITY :
				   ZPIPE_IOC_GET_CAPACITY, buf));
}

static long capacity_sized(int fd, bool set, unsigned int size)
{
	struct zpipe_capacity arg = { .size = size, .bytes = 2 * PAGE };

	return capacity_raw(fd, set, with_tail(&arg, sizeof(arg), size + 8));
}

TEST_F_TIMEOUT(abi, capacity_sizes, TIMEOUT)
{
	unsigned int size;
	int set;

	for (set = 0; set < 2; set++) {
		for (size = 0; size < sizeof(struct zpipe_capacity); size++)
			EXPECT_EQ(-EINVAL, capacity_sized(self->pair.fd[0],
							  set, size));
		EXPECT_EQ(0, capacity_sized(self->pair.fd[0], set, 16));
		EXPECT_EQ(0, capacity_sized(self->pair.fd[0], set, 17));
		EXPECT_EQ(0, capacity_sized(self->pair.fd[0], set, PAGE));
		EXPECT_EQ(-E2BIG, capacity_sized(self->pair.fd[0], set,
						 PAGE + 1));
	}
}

TEST_F_TIMEOUT(abi, capacity_long_with_nonzero_tail_e2big, TIMEOUT)
{
	struct zpipe_capacity arg = { .size = 24, .bytes = PAGE };
	unsigned char *buf = with_tail(&arg, sizeof(arg), 24);

	buf[23] = 1;
	EXPECT_EQ(-E2BIG, capacity_raw(self->pair.fd[0], true, buf));
	EXPECT_EQ(-E2BIG, capacity_raw(self->pair.fd[0], false, buf));
	EXPECT_EQ(SLOTS * PAGE, get_capacity(ZPAIR, self->pair.fd[0]));
}

TEST_F_TIMEOUT(abi, capacity_reserved_flags_einval, TIMEOUT)
{
	struct zpipe_capacity arg = { .size = sizeof(arg), .bytes = PAGE };
	int bit;

	for (bit = 0; bit < 32; bit++) {
		arg.flags = 1U << bit;
		EXPECT_EQ(-EINVAL, capacity_raw(self->pair.fd[0], true, &arg));
		EXPECT_EQ(-EINVAL, capacity_raw(self->pair.fd[0], false, &arg));
	}
	EXPECT_EQ(SLOTS * PAGE, get_capacity(ZPAIR, self->pair.fd[0]));
}

TEST_F_TIMEOUT(abi, capacity_efault, TIMEOUT)
{
	struct zpipe_capacity arg = { .size = sizeof(arg), .bytes = PAGE };
	void *p = at_end_of_page(&arg, sizeof(arg));

	EXPECT_EQ(-EFAULT, capacity_raw(self->pair.fd[0], true, NULL));
	EXPECT_EQ(-EFAULT, capacity_raw(self->pair.fd[0], false, NULL));
	EXPECT_EQ(-EFAULT, capacity_raw(self->pair.fd[0], true,
					at_end_of_page(&arg, 8)));
	mprotect((void *)((long)p & -PAGE), PAGE, PROT_READ);
	EXPECT_EQ(-EFAULT, capacity_raw(self->pair.fd[0], false, p));
}

TEST_F_TIMEOUT(abi, capacity_returns_the_capacity, TIMEOUT)
{
	struct zpipe_capacity arg = { .size = sizeof(arg), .bytes = 5000 };

	EXPECT_EQ(0, capacity_raw(self->pair.fd[0], true, &arg));
	EXPECT_EQ(2ULL * PAGE, arg.bytes);
	arg.bytes = 99;
	EXPECT_EQ(0, capacity_raw(self->pair.fd[1], false, &arg));
	EXPECT_EQ(2ULL * PAGE, arg.bytes);
	EXPECT_EQ(sizeof(arg), (size_t)arg.size);
}

static long flags_raw(int fd, bool set, void *buf)
{
	return sys(ioctl(fd, set ? ZPIPE_IOC_SET_FLAGS : ZPIPE_IOC_GET_FLAGS,
			 buf));
}

static long flags_sized(int fd, bool set, unsigned int size)
{
	struct zpipe_flags arg = { .size = size };

	return flags_raw(fd, set, with_tail(&arg, sizeof(arg), size + 8));
}

TEST_F_TIMEOUT(abi, flags_sizes, TIMEOUT)
{
	int fd = self->pair.fd[0], set;
	unsigned int size;

	for (set = 0; set < 2; set++) {
		for (size = 0; size < sizeof(struct zpipe_flags); size++)
			EXPECT_EQ(-EINVAL, flags_sized(fd, set, size));
		EXPECT_EQ(0, flags_sized(fd, set, 8));
		EXPECT_EQ(0, flags_sized(fd, set, 9));
		EXPECT_EQ(0, flags_sized(fd, set, 16));
		EXPECT_EQ(0, flags_sized(fd, set, PAGE));
		EXPECT_EQ(-E2BIG, flags_sized(fd, set, PAGE + 1));
	}
}

TEST_F_TIMEOUT(abi, flags_longer_than_a_page_e2big, TIMEOUT)
{
	struct zpipe_flags arg = { .size = UINT_MAX };
	unsigned char *buf = with_tail(&arg, sizeof(arg), 2 * PAGE);

	EXPECT_EQ(-E2BIG, flags_raw(self->pair.fd[0], true, buf));
	EXPECT_EQ(-E2BIG, flags_raw(self->pair.fd[0], false, buf));
}

TEST_F_TIMEOUT(abi, flags_long_with_nonzero_tail_e2big, TIMEOUT)
{
	struct zpipe_flags arg = { .size = 24, .flags = ZPIPE_BUFFER_ONLY };
	unsigned char *buf = with_tail(&arg, sizeof(arg), 25);
	int i;

	for (i = sizeof(arg); i < 24; i++) {
		buf[i] = 1;
		ASSERT_EQ(-E2BIG, flags_raw(self->pair.fd[0], true, buf))
			TH_LOG("byte %d", i);
		ASSERT_EQ(-E2BIG, flags_raw(self->pair.fd[0], false, buf));
		buf[i] = 0;
	}
	EXPECT_EQ(0, get_flags(self->pair.fd[0]));
	/* The kernel must not read beyond the size of the struct. */
	buf[24] = 1;
	EXPECT_EQ(0, flags_raw(self->pair.fd[0], true, buf));
	EXPECT_EQ(ZPIPE_BUFFER_ONLY, get_flags(self->pair.fd[0]));
}

TEST_F_TIMEOUT(abi, flags_unknown_einval, TIMEOUT)
{
	struct zpipe_flags arg = { .size = sizeof(arg) };
	int fd = self->pair.fd[0], bit, only;

	for (only = 0; only < 2; only++) {
		ASSERT_EQ(0, set_flags(fd, only ? ZPIPE_BUFFER_ONLY : 0));
		for (bit = 0; bit < 31; bit++) {
			arg.flags = 1U << bit;
			EXPECT_EQ(-EINVAL, flags_raw(fd, true, &arg));
			EXPECT_EQ(-EINVAL, flags_raw(fd, false, &arg));
			arg.flags |= ZPIPE_BUFFER_ONLY;
			EXPECT_EQ(-EINVAL, flags_raw(fd, true, &arg));
		}
		EXPECT_EQ(only ? ZPIPE_BUFFER_ONLY : 0, get_flags(fd));
	}
}

TEST_F_TIMEOUT(abi, flags_efault, TIMEOUT)
{
	struct zpipe_flags arg = {
		.size = sizeof(arg), .flags = ZPIPE_BUFFER_ONLY,
	};
	void *p = at_end_of_page(&arg, sizeof(arg));
	int fd = self->pair.fd[0];

	EXPECT_EQ(-EFAULT, flags_raw(fd, true, NULL));
	EXPECT_EQ(-EFAULT, flags_raw(fd, false, NULL));
	EXPECT_EQ(-EFAULT, flags_raw(fd, true, at_end_of_page(&arg, 2)));
	EXPECT_EQ(-EFAULT, flags_raw(fd, true, at_end_of_page(&arg, 4)));
	EXPECT_EQ(0, get_flags(fd));
	/* GET writes the struct, SET does not. */
	mprotect((void *)((long)p & -PAGE), PAGE, PROT_READ);
	EXPECT_EQ(-EFAULT, flags_raw(fd, false, p));
	EXPECT_EQ(0, flags_raw(fd, true, p));
	EXPECT_EQ(ZPIPE_BUFFER_ONLY, get_flags(fd));
}

TEST_F_TIMEOUT(abi, flags_belong_to_the_pipe, TIMEOUT)
{
	struct ends *ends[] = { &self->pair, &self->node };
	size_t i;
	int end;

	for (i = 0; i < 2; i++) {
		int *fd = ends[i]->fd;

		for (end = 0; end < 2; end++)
			EXPECT_EQ(0, get_flags(fd[end]));
		EXPECT_EQ(0, fdinfo_number(fd[1], "zpipe-buffer-only"));
		ASSERT_EQ(0, set_flags(fd[0], ZPIPE_BUFFER_ONLY));
		for (end = 0; end < 2; end++) {
			EXPECT_EQ(ZPIPE_BUFFER_ONLY, get_flags(fd[end]));
			EXPECT_EQ(1, fdinfo_number(fd[end],
						   "zpipe-buffer-only"));
		}
		/* Setting the flag twice changes nothing. Then it is cleared. */
		EXPECT_EQ(0, set_flags(fd[0], ZPIPE_BUFFER_ONLY));
		EXPECT_EQ(ZPIPE_BUFFER_ONLY, get_flags(fd[0]));
		EXPECT_EQ(0, set_flags(fd[0], 0));
		EXPECT_EQ(0, get_flags(fd[1]));
		EXPECT_EQ(0, fdinfo_number(fd[1], "zpipe-buffer-only"));
	}
}

/* The flag protects readers from writers, so only readers may change it. */
TEST_F_TIMEOUT(abi, flags_set_by_a_writer_ebadf, TIMEOUT)
{
	int fds[] = { self->pair.fd[1], self->node.fd[1], -1 };
	char path[48];
	int i;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", self->pair.fd[0]);
	fds[2] = open(path, O_WRONLY);
	ASSERT_LE(0, fds[2]);
	for (i = 0; i < 3; i++) {
		EXPECT_EQ(-EBADF, set_flags(fds[i], ZPIPE_BUFFER_ONLY));
		EXPECT_EQ(-EBADF, set_flags(fds[i], 0));
		EXPECT_EQ(0, get_flags(fds[i]));
	}
	EXPECT_EQ(-EBADF, set_flags(open(path, O_PATH), 0));
	EXPECT_EQ(-EBADF, get_flags(open(path, O_PATH)));
	ASSERT_EQ(0, set_flags(self->pair.fd[0], ZPIPE_BUFFER_ONLY));
	EXPECT_EQ(-EBADF, set_flags(self->pair.fd[1], 0));
	EXPECT_EQ(ZPIPE_BUFFER_ONLY, get_flags(self->pair.fd[1]));
}

TEST_F_TIMEOUT(abi, flags_set_by_a_reader_that_also_writes, TIMEOUT)
{
	int fd = open(self->node.path, O_RDWR);

	ASSERT_LE(0, fd);
	EXPECT_EQ(0, set_flags(fd, ZPIPE_BUFFER_ONLY));
	EXPECT_EQ(ZPIPE_BUFFER_ONLY, get_flags(self->node.fd[1]));
	/* The flag belongs to the pipe, so it outlives the file that set it. */
	close(fd);
	EXPECT_EQ(ZPIPE_BUFFER_ONLY, get_flags(self->node.fd[1]));
}

TEST_F_TIMEOUT(abi, flags_of_a_node_last_until_its_last_close, TIMEOUT)
{
	struct ends *e = &self->node;

	ASSERT_EQ(0, set_flags(e->fd[0], ZPIPE_BUFFER_ONLY));
	close_end(e, 0);
	EXPECT_EQ(ZPIPE_BUFFER_ONLY, get_flags(e->fd[1]));
	e->fd[0] = open(e->path, O_RDONLY);
	EXPECT_EQ(ZPIPE_BUFFER_ONLY, get_flags(e->fd[0]));
	close_end(e, 0);
	close_end(e, 1);
	ASSERT_EQ(0, open_ends(e, 0));
	EXPECT_EQ(0, get_flags(e->fd[0]));
	/* The flag of another pipe has not changed. */
	EXPECT_EQ(0, get_flags(self->pair.fd[0]));
}

TEST_F_TIMEOUT(abi, pipe2_buffer_only, TIMEOUT)
{
	static const unsigned int flags[] = {
		0, O_NONBLOCK, O_DIRECT | O_CLOEXEC,
	};
	size_t i;
	int fd[2];

	for (i = 0; i < ARRAY_SIZE(flags); i++) {
		ASSERT_EQ(0, zpipe_pipe2_on(self->control, fd,
					    flags[i] | ZPIPE_BUFFER_ONLY));
		EXPECT_EQ(ZPIPE_BUFFER_ONLY, get_flags(fd[0]));
		EXPECT_EQ(ZPIPE_BUFFER_ONLY, get_flags(fd[1]));
		/* ZPIPE_BUFFER_ONLY is not among the flags of the files. */
		EXPECT_EQ(O_RDONLY | (flags[i] & O_NONBLOCK),
			  fcntl(fd[0], F_GETFL) & ~O_DIRECT);
		EXPECT_EQ(0, set_flags(fd[0], 0));
		EXPECT_EQ(0, get_flags(fd[1]));
		close(fd[0]);
		close(fd[1]);
		ASSERT_EQ(0, zpipe_pipe2_on(self->control, fd, flags[i]));
		EXPECT_EQ(0, get_flags(fd[0]));
		close(fd[0]);
		close(fd[1]);
	}
}

TEST_F_TIMEOUT(abi, fdinfo_counters, TIMEOUT)
{
	int fd = self->pair.fd[0];

	ASSERT_EQ(5000, stream_write(self->pair.fd[1], 0, 5000));
	ASSERT_EQ(100, stream_read(fd, 0, 100));
	EXPECT_EQ(2, fdinfo_number(fd, "zpipe-slots"));
	EXPECT_EQ(4900, fdinfo_number(fd, "zpipe-buffered"));
	EXPECT_EQ(1, fdinfo_number(fd, "zpipe-readers"));
	EXPECT_EQ(1, fdinfo_number(fd, "zpipe-writers"));
	EXPECT_EQ(5000, fdinfo_number(fd, "zpipe-bytes-written"));
	EXPECT_EQ(100, fdinfo_number(fd, "zpipe-bytes-read"));
	EXPECT_EQ(1, fdinfo_number(fd, "zpipe-writes"));
	EXPECT_EQ(1, fdinfo_number(fd, "zpipe-reads"));
	EXPECT_EQ(0, fdinfo_number(fd, "zpipe-write-waits"));
	EXPECT_EQ(0, fdinfo_number(fd, "zpipe-read-waits"));
	EXPECT_EQ(0, fdinfo_number(fd, "zpipe-buffer-only"));
}

TEST_F_TIMEOUT(abi, control_is_no_pipe, TIMEOUT)
{
	char b;

	EXPECT_EQ(-EINVAL, sys(read(self->control, &b, 1)));
	EXPECT_EQ(-EINVAL, sys(write(self->control, &b, 1)));
	EXPECT_EQ(-ESPIPE, sys(lseek(self->control, 0, SEEK_SET)));
}

/*
 * A node connects different users, so its group controls access. Anybody may make a
 * pair.
 */
TEST_F_TIMEOUT(abi, modes_of_the_devices, TIMEOUT)
{
	struct stat st;

	ASSERT_EQ(0, stat(ZPIPE_DEV, &st));
	EXPECT_EQ(S_IFCHR | 0660U, st.st_mode);
	ASSERT_EQ(0, stat(ZPIPE_CONTROL, &st));
	EXPECT_EQ(S_IFCHR | 0666U, st.st_mode);
}

static long pair_as_loner(struct child *c __maybe_unused)
{
	int fd[2];

	if (setgid(LONER) || setuid(LONER))
		return -2;
	if (open(ZPIPE_DEV, O_RDWR) >= 0 || errno != EACCES)
		return -2;
	return zpipe_pipe2(fd, 0);
}

TEST_F_TIMEOUT(abi, anybody_makes_pairs, TIMEOUT)
{
	struct child c;

	child_run(&c, pair_as_loner, NULL);
	EXPECT_EQ(0, child_join(&c));
}

TEST_HARNESS_MAIN
