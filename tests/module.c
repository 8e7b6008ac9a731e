// SPDX-License-Identifier: GPL-2.0-only
/*
 * Loading and unloading the module. It can be unloaded exactly when nothing uses it,
 * and works after it was loaded again. Needs root and /zpipe.ko.
 *
 * Every test leaves the module loaded, but without the parameters that it had before,
 * since nobody can read those.
 */
#include "oracle.h"
#include "child.h"
#include "debug.h"
#include "fail.h"
#include "load.h"

#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/time.h>

FIXTURE(module) {
	struct ends node;
	struct ends pair;
};

FIXTURE_SETUP(module)
{
	ASSERT_EQ(0, access(MODULE, R_OK));
	ASSERT_EQ(0, ends_make(&self->node, ZNODE));
	ASSERT_EQ(0, ends_make(&self->pair, ZPAIR));
}

FIXTURE_TEARDOWN(module)
{
	ends_free(&self->node);
	ends_free(&self->pair);
	load();
}

/*
 * Expects that the module stays loaded while @fd is open, and can be unloaded
 * afterwards.
 */
static void in_use_by(struct __test_metadata *_metadata, int fd)
{
	ASSERT_LE(0, fd);
	EXPECT_EQ(IN_USE, unload());
	close(fd);
	EXPECT_EQ(0, unload_eventually());
}

TEST_F_TIMEOUT(module, unloads_and_loads, TIMEOUT)
{
	EXPECT_EQ(0, unload_eventually());
	EXPECT_EQ(-ENOENT, unload());
	EXPECT_EQ(-ENXIO, sys(open(self->node.path, O_RDWR)));
	EXPECT_NE(0, access(ZPIPE_DEV, F_OK));
	EXPECT_NE(0, access(ZPIPE_CONTROL, F_OK));
	ASSERT_EQ(0, load());
	EXPECT_EQ(-EEXIST, load());
	EXPECT_EQ(0, open_ends(&self->pair, 0));
	EXPECT_LE(0, open(ZPIPE_DEV, O_RDWR));
}

/*
 * Some memory passes the fault handler and yet cannot be written to. With cut_copies=2
 * all memory behaves so: each copy without page faults stops before its first byte.
 */
TEST_F_TIMEOUT(module, read_where_every_copy_fails, TIMEOUT)
{
	struct ends *e = &self->pair;

	EXPECT_EQ(0, unload_eventually());
	ASSERT_EQ(0, load_with("cut_copies=2"));
	EXPECT_EQ(0, open_ends(e, 0));
	EXPECT_EQ(5000, stream_write(e->fd[1], 0, 5000));
	EXPECT_EQ(-EFAULT, stream_read(e->fd[0], 0, 5000));
	EXPECT_EQ(5000, fionread(e->fd[0]));
	close_end(e, 0);
	close_end(e, 1);
	EXPECT_EQ(0, unload_eventually());
}

/* Nanoseconds of processor time that this thread has used. */
static long own_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return t.tv_sec * 1000000000L + t.tv_nsec;
}

static int compare_longs(const void *a, const void *b)
{
	long x = *(const long *)a, y = *(const long *)b;

	return (x > y) - (x < y);
}

/*
 * A reader spins for at most a millisecond, however large spin_us is. Each round waits
 * 200 ms for data that never comes, on a new pipe, where no spin has failed before. The
 * thread has a processor of its own. In half of the rounds nothing but the limit would
 * end a much longer spin.
 */
TEST_F_TIMEOUT(module, spinning_is_bounded, TIMEOUT)
{
	struct itimerval once = { .it_value = { 0, 200000 } };
	struct ends *e = &self->pair;
	cpu_set_t last;
	long ns[21];
	int i;

	CPU_ZERO(&last);
	CPU_SET(sysconf(_SC_NPROCESSORS_ONLN) - 1, &last);
	ASSERT_EQ(0, sched_setaffinity(0, sizeof(last), &last));
	ASSERT_EQ(0, catch_signal(SIGALRM, 0));
	EXPECT_EQ(0, unload_eventually());
	ASSERT_EQ(0, load_with("spin_us=4294967295"));
	for (i = 0; i < (int)ARRAY_SIZE(ns); i++) {
		ASSERT_EQ(0, open_ends(e, 0));
		ns[i] = own_ns();
		ASSERT_EQ(0, setitimer(ITIMER_REAL, &once, NULL));
		EXPECT_EQ(-EINTR, stream_read(e->fd[0], 0, 1));
		ns[i] = own_ns() - ns[i];
		close_end(e, 0);
		close_end(e, 1);
	}
	qsort(ns, ARRAY_SIZE(ns), sizeof(ns[0]), compare_longs);
	EXPECT_GT(6000000L * SLOWER, ns[ARRAY_SIZE(ns) / 2])
		TH_LOG("%ld to %ld ns", ns[0], ns[ARRAY_SIZE(ns) - 1]);
	EXPECT_EQ(0, unload_eventually());
}

TEST_F_TIMEOUT(module, in_use_by_a_node, TIMEOUT)
{
	in_use_by(_metadata, open(self->node.path, O_RDWR));
}

TEST_F_TIMEOUT(module, in_use_by_a_reader_of_a_node, TIMEOUT)
{
	in_use_by(_metadata, open(self->node.path, O_RDONLY | O_NONBLOCK));
}

TEST_F_TIMEOUT(module, in_use_by_the_control, TIMEOUT)
{
	in_use_by(_metadata, open(ZPIPE_CONTROL, O_RDWR));
}

TEST_F_TIMEOUT(module, in_use_by_a_read_end, TIMEOUT)
{
	ASSERT_EQ(0, open_ends(&self->pair, 0));
	close_end(&self->pair, 1);
	in_use_by(_metadata, self->pair.fd[0]);
}

TEST_F_TIMEOUT(module, in_use_by_a_write_end, TIMEOUT)
{
	ASSERT_EQ(0, open_ends(&self->pair, 0));
	close_end(&self->pair, 0);
	in_use_by(_metadata, self->pair.fd[1]);
}

TEST_F_TIMEOUT(module, in_use_by_data_nobody_reads, TIMEOUT)
{
	ASSERT_EQ(0, open_ends(&self->pair, 0));
	ASSERT_EQ(SLOTS * PAGE, stream_write(self->pair.fd[1], 0,
					     SLOTS * PAGE));
	close_end(&self->pair, 1);
	EXPECT_EQ(IN_USE, unload());
	close_end(&self->pair, 0);
	EXPECT_EQ(0, unload_eventually());
}

static int fd_path_open(int fd, int flags)
{
	char path[40];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, flags);
}

/* The kernel calls no function of the module for an O_PATH descriptor. */
TEST_F_TIMEOUT(module, in_use_by_a_path_descriptor_of_a_pair, TIMEOUT)
{
	int fd;

	ASSERT_EQ(0, open_ends(&self->pair, 0));
	fd = fd_path_open(self->pair.fd[0], O_PATH);
	close_end(&self->pair, 0);
	close_end(&self->pair, 1);
	in_use_by(_metadata, fd);
}

TEST_F_TIMEOUT(module, refused_unload_breaks_nothing, TIMEOUT)
{
	int fd;

	ASSERT_EQ(0, open_ends(&self->pair, 0));
	fd = fd_path_open(self->pair.fd[0], O_PATH);
	close_end(&self->pair, 0);
	close_end(&self->pair, 1);
	ASSERT_EQ(IN_USE, unload());
	fd = fd_path_open(fd, O_RDWR);
	ASSERT_LE(0, fd);
	EXPECT_EQ(10, stream_write(fd, 0, 10));
	EXPECT_EQ(10, stream_read(fd, 0, 10));
	EXPECT_EQ(0, open_ends(&self->pair, 0));
	EXPECT_LE(0, open(self->node.path, O_RDWR));
}

/*
 * DEVIATION: an O_PATH descriptor of a node does not keep the module loaded, unlike one
 * of a FIFO. After the unload, opening it fails as for any device without a driver.
 */
TEST_F_TIMEOUT(module, path_descriptor_of_a_node, TIMEOUT)
{
	int path = open(self->node.path, O_PATH);
	int fd;

	ASSERT_LE(0, path);
	fd = fd_path_open(path, O_RDWR);
	ASSERT_LE(0, fd);
	close(fd);
	ASSERT_EQ(0, unload_eventually());
	EXPECT_EQ(-ENXIO, sys(fd_path_open(path, O_RDWR)));
	ASSERT_EQ(0, load());
	/* The device numbers may have changed. The call must do no harm. */
	fd_path_open(path, O_RDWR);
}

TEST_F_TIMEOUT(module, in_use_by_a_descriptor_in_flight, TIMEOUT)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} u;
	struct iovec iov = { "x", 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = u.buf, .msg_controllen = sizeof(u.buf),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
	int sock[2];

	ASSERT_EQ(0, open_ends(&self->pair, 0));
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sock));
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &self->pair.fd[0], sizeof(int));
	ASSERT_EQ(1, sendmsg(sock[0], &msg, 0));
	close_end(&self->pair, 0);
	close_end(&self->pair, 1);
	EXPECT_EQ(IN_USE, unload());
	close(sock[0]);
	close(sock[1]);
	EXPECT_EQ(0, unload_eventually());
}

TEST_F_TIMEOUT(module, in_use_by_the_list_of_pipes, TIMEOUT)
{
	char text[PAGE];
	int fd;

	ASSERT_EQ(0, mount_debugfs());
	fd = open(PIPES, O_RDONLY);
	ASSERT_LE(0, fd);
	EXPECT_EQ(IN_USE, unload());
	ASSERT_EQ(0, open_ends(&self->pair, 0));
	EXPECT_LT(0, read(fd, text, sizeof(text)));
	close_end(&self->pair, 0);
	close_end(&self->pair, 1);
	in_use_by(_metadata, fd);
	EXPECT_NE(0, access(DEBUGFS "/zpipe", F_OK));
	ASSERT_EQ(0, load());
	EXPECT_EQ(0, access(PIPES, R_OK));
}

/* Debugfs does not notice O_PATH descriptors, so they do not keep the module loaded. */
TEST_F_TIMEOUT(module, path_descriptor_of_the_list_of_pipes, TIMEOUT)
{
	int path;

	ASSERT_EQ(0, mount_debugfs());
	path = open(PIPES, O_PATH);
	ASSERT_LE(0, path);
	close(fd_path_open(path, O_RDONLY));
	ASSERT_EQ(0, unload_eventually());
	EXPECT_EQ(-ENOENT, sys(fd_path_open(path, O_RDONLY)));
	ASSERT_EQ(0, load());
	EXPECT_EQ(-ENOENT, sys(fd_path_open(path, O_RDONLY)));
	close(path);
}

TEST_F_TIMEOUT(module, not_in_use_by_tracepoints_that_are_on, TIMEOUT)
{
	struct stat st = {};
	struct trace t;

	ASSERT_EQ(0, trace_start(&t, &st));
	ASSERT_EQ(0, open_ends(&self->pair, 0));
	EXPECT_EQ(10, stream_write(self->pair.fd[1], 0, 10));
	close_end(&self->pair, 0);
	close_end(&self->pair, 1);
	EXPECT_EQ(0, unload_eventually());
	EXPECT_NE(0, trace_enable(&t, "zpipe", true));
	ASSERT_EQ(0, load());
	EXPECT_EQ(0, trace_enable(&t, "zpipe", true));
	trace_end(&t);
}

TEST_F_TIMEOUT(module, in_use_by_a_waiting_opener, TIMEOUT)
{
	struct child c;

	child_open(&c, self->node.path, O_RDONLY);
	ASSERT_TRUE(child_asleep(&c));
	EXPECT_EQ(IN_USE, unload());
	EXPECT_EQ(KILLED(SIGKILL), child_kill(&c));
	EXPECT_EQ(0, unload_eventually());
}

TEST_F_TIMEOUT(module, in_use_by_a_blocked_writer, TIMEOUT)
{
	struct child c;

	ASSERT_EQ(0, open_ends(&self->pair, 0));
	child_write(&c, &self->pair, 0, 3 * SLOTS * PAGE);
	ASSERT_TRUE(child_asleep(&c));
	EXPECT_EQ(IN_USE, unload());
	child_kill(&c);
	close_end(&self->pair, 0);
	close_end(&self->pair, 1);
	EXPECT_EQ(0, unload_eventually());
}

/* A watch holds the inode of a pair, but not its file system. */
TEST_F_TIMEOUT(module, not_in_use_by_a_watch, TIMEOUT)
{
	int ino = inotify_init();
	char path[40];

	ASSERT_EQ(0, open_ends(&self->pair, 0));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", self->pair.fd[0]);
	ASSERT_LE(0, inotify_add_watch(ino, path, IN_ALL_EVENTS));
	close_end(&self->pair, 0);
	close_end(&self->pair, 1);
	EXPECT_EQ(0, unload_eventually());
}

/*
 * Opens pipes while the module is unloaded and loaded. Each open must give a working
 * pipe or a plain error.
 */
static long open_all_the_time(struct child *c)
{
	struct ends e = { .kind = ZPAIR, .fd = { -1, -1 } };
	int *stop = c->arg;
	int fd;

	while (!__atomic_load_n(stop, __ATOMIC_SEQ_CST)) {
		fd = open(c->path, O_RDWR | O_NONBLOCK);
		if (fd >= 0 && (stream_write(fd, 0, 10) != 10 ||
				stream_read(fd, 0, 10) != 10)) {
			errno = EIO;
			return -1;
		}
		if (fd < 0 && errno != ENXIO && errno != ENODEV)
			return -1;
		if (fd >= 0)
			close(fd);
		if (!open_ends(&e, 0)) {
			close_end(&e, 0);
			close_end(&e, 1);
		}
	}
	return 0;
}

/* Opens a node all the time and counts the successful opens. */
static long count_opens(struct child *c)
{
	int *count = c->arg;
	int fd;

	for (;;) {
		fd = open(c->path, O_RDWR | O_NONBLOCK);
		if (fd < 0)
			continue;
		__atomic_add_fetch(count, 1, __ATOMIC_SEQ_CST);
		close(fd);
	}
	return 0;
}

/* With @only, makes only the allocations of sysfs entries fail. Without, undoes that. */
static bool only_sysfs_fails(bool only)
{
	return put_all(!only) &&
	       !write_line("/sys/kernel/slab/kernfs_node_cache", "failslab",
			   only ? "1" : "0") &&
	       !write_line(DEBUGFS, "failslab/cache-filter", only ? "Y" : "N") &&
	       !write_line(DEBUGFS, "fail_page_alloc/ignore-gfp-wait", "Y");
}

/*
 * If the init function of a module fails, the kernel frees the module even while files
 * hold it. So no open may succeed before the last step that can fail.
 *
 * The allocations that fail here are those of sysfs entries. First come the entries of
 * the module itself, then those of its class and devices.
 */
TEST_F_TIMEOUT(module, no_open_while_loading_can_fail, 3 * TIMEOUT)
{
	/*
	 * The last 24 allocations are about half of those for the class and the
	 * devices. Every fourth of them is made to fail.
	 */
	const int many = 1000, last = 24, step = 4;
	int nth = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	int *opens = shared_alloc(sizeof(*opens));
	struct child c = {
		.fn = count_opens, .arg = opens, .drop = -1,
		.path = self->node.path,
	};
	int n, points, before, failed = 0;
	long ret;

	if (nth < 0)
		SKIP(return, "a kernel without fault injection");
	ASSERT_TRUE(only_sysfs_fails(true));
	ASSERT_EQ(0, unload_eventually());
	arm(nth, many);
	ret = load();
	points = many - disarm_left(nth);
	ASSERT_EQ(0, ret);
	child_start(&c, 0);
	EXPECT_TRUE(eventually(__atomic_load_n(opens, __ATOMIC_SEQ_CST)));
	for (n = points; n > points - last; n -= step) {
		if (!ret)
			ASSERT_EQ(0, unload_eventually());
		before = __atomic_load_n(opens, __ATOMIC_SEQ_CST);
		arm(nth, n);
		ret = load();
		disarm(nth);
		if (!ret)
			continue;
		failed++;
		EXPECT_EQ(before, __atomic_load_n(opens, __ATOMIC_SEQ_CST))
			TH_LOG("failure %d of %d: %ld", n, points, ret);
	}
	EXPECT_TRUE(only_sysfs_fails(false));
	EXPECT_LT(last / step / 2, failed)
		TH_LOG("%d of %d", failed, points);
	child_kill(&c);
}

TEST_F_TIMEOUT(module, unload_races_open, TIMEOUT)
{
	const int cycles = SLOWER > 1 ? 5 : 20;
	int *stop = shared_alloc(sizeof(*stop));
	struct child c = {
		.fn = open_all_the_time, .arg = stop, .drop = -1,
		.path = self->node.path,
	};
	int i;

	child_start(&c, 0);
	for (i = 0; i < cycles; i++) {
		ASSERT_EQ(0, unload_eventually());
		ASSERT_EQ(0, load());
	}
	__atomic_store_n(stop, 1, __ATOMIC_SEQ_CST);
	EXPECT_EQ(0, child_join(&c));
}

/*
 * Drops the caches, then sums up the numbers after @name in the lines of a file.
 * Returns -1 if it cannot drop them.
 */
static long counted(const char *path, const char *name)
{
	char line[256], *p;
	long sum = 0;
	FILE *f;

	if (write_line("/proc/sys/vm", "drop_caches", "3"))
		return -1;
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f)) {
		p = line + strspn(line, " ");
		if (!strncmp(p, name, strlen(name)))
			sum += strtol(p + strlen(name), NULL, 10);
	}
	if (f)
		fclose(f);
	return sum;
}

/* Free pages, including those on the lists of each processor. */
static long free_pages(void)
{
	return counted("/proc/zoneinfo", "pages free ") +
	       counted("/proc/zoneinfo", "count: ");
}

static long slab_kib(void)
{
	return counted("/proc/meminfo", "SUnreclaim:");
}

static int use_pipes(const char *node, int rounds)
{
	struct ends e = { .kind = ZPAIR };
	int fd;

	while (rounds--) {
		if (open_ends(&e, 0) ||
		    stream_write(e.fd[1], 0, 3 * PAGE) != 3 * PAGE ||
		    stream_read(e.fd[0], 0, PAGE + 1) != PAGE + 1 ||
		    set_capacity(ZPAIR, e.fd[0], 64 * PAGE) != 64 * PAGE)
			return -1;
		close_end(&e, 0);
		close_end(&e, 1);
		fd = open(node, O_RDWR | O_NONBLOCK);
		if (stream_write(fd, 0, 3 * PAGE) != 3 * PAGE ||
		    stream_read(fd, 0, 10) != 10 || poll_mask(fd) < 0)
			return -1;
		close(fd);
	}
	return 0;
}

/*
 * 4000 pipes may cost at most 400 pages, which is 400 bytes for each. A leaked page,
 * ring or inode would cost more. Half-empty slabs were seen to keep up to 130 pages.
 * They have reached that size after the first 400 pipes.
 */
TEST_F_TIMEOUT(module, pipes_lose_no_memory, TIMEOUT)
{
	long before;

	ASSERT_EQ(0, use_pipes(self->node.path, 200));
	before = free_pages();
	ASSERT_LT(0, before);
	ASSERT_EQ(0, use_pipes(self->node.path, 2000));
	EXPECT_TRUE(eventually(before - free_pages() < 400))
		TH_LOG("%ld pages of %ld", free_pages(), before);
}

/*
 * Here free pages are no measure: the kernel keeps the memory of modules in pieces of
 * some MiB and frees it at any time later. Slab memory is a measure. 150 cycles may
 * cost at most 300 KiB, which is less than the class and both devices in each cycle.
 */
TEST_F_TIMEOUT(module, cycles_lose_no_memory, 3 * TIMEOUT)
{
	/*
	 * Loading is very slow on kernels that check everything. Their slabs also grow
	 * by megabytes, since the checks keep freed objects. Those kernels find the
	 * leaks of a few cycles by other means, see verdict.c.
	 */
	const int cycles = SLOWER > 1 ? 4 : 200;
	long before = 0;
	int i;

	ASSERT_EQ(0, unload_eventually());
	for (i = 0; i < cycles; i++) {
		if (i == cycles / 4)
			before = slab_kib();
		ASSERT_EQ(0, load());
		ASSERT_EQ(0, use_pipes(self->node.path, 3));
		ASSERT_EQ(0, unload_eventually());
	}
	ASSERT_LT(0, before);
	if (SLOWER == 1)
		EXPECT_TRUE(eventually(slab_kib() - before < 300))
			TH_LOG("%ld KiB, before %ld", slab_kib(), before);
}

TEST_HARNESS_MAIN
