/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Children that make one system call and report its result. The tester waits
 * until /proc/PID/syscall shows that a child sleeps in its call. So no test
 * needs a fixed delay to order two processes.
 */
#ifndef ZPIPE_TESTS_CHILD_H
#define ZPIPE_TESTS_CHILD_H

#include "oracle.h"

#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

/* Results of child_join() for a child that did not report. */
#define KILLED(sig)	(-1000L - (sig))
#define NO_REPORT		(-2000L)
#define STUCK		(-3000L)

struct report {
	long ret;		/* result of the call, or -errno */
	int signals;		/* signals that count_signal() counted */
	int done;
};

struct child {
	pid_t pid;
	long nr;		/* the system call in which child_asleep() expects it */
	int fd;
	int drop;		/* a descriptor the child closes first, or -1 */
	int flags;
	size_t len;
	const char *path;
	void *arg;
	long (*fn)(struct child *c);
	struct report *report;	/* shared with the tester */
	unsigned char *buf;	/* often shared with the tester; @len bytes */
};

static struct report *own_report __maybe_unused;
static int signals_seen __maybe_unused;

/* A signal handler that counts: in the report of a child, or for the tester. */
static inline void count_signal(int sig __maybe_unused)
{
	int *count = own_report ? &own_report->signals : &signals_seen;

	__atomic_add_fetch(count, 1, __ATOMIC_SEQ_CST);
}

/* Installs count_signal(). @flags is SA_RESTART or 0. */
static inline int catch_signal(int sig, int flags)
{
	struct sigaction sa = { .sa_handler = count_signal, .sa_flags = flags };

	return sigaction(sig, &sa, NULL);
}

static inline void *shared_alloc(size_t len)
{
	void *p = mmap(NULL, len ? len : 1, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		abort();
	return p;
}

/*
 * Starts fn(c) in a new process. With CLONE_FILES the child shares the tester's
 * descriptors, so a file that it opens stays open in the tester.
 */
static inline void child_start(struct child *c, int clone_flags)
{
	c->report = shared_alloc(sizeof(*c->report));
	c->report->ret = NO_REPORT;
	c->pid = syscall(SYS_clone, clone_flags | SIGCHLD, 0, 0, 0, 0);
	if (c->pid < 0)
		abort();
	if (c->pid)
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	own_report = c->report;
	if (c->drop >= 0 && !(clone_flags & CLONE_FILES))
		close(c->drop);
	c->report->ret = sys(c->fn(c));
	__atomic_store_n(&c->report->done, 1, __ATOMIC_SEQ_CST);
	_exit(0);
}

static inline bool child_done(struct child *c)
{
	return __atomic_load_n(&c->report->done, __ATOMIC_SEQ_CST);
}

/* The state letter of a task in /proc, or 0 if the task is gone. */
static inline char task_state(pid_t pid)
{
	char name[40], buf[256], *p;
	ssize_t n;
	int fd;

	snprintf(name, sizeof(name), "/proc/%d/stat", pid);
	fd = open(name, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	n = read(fd, buf, sizeof(buf) - 1);
	close(fd);
	if (n <= 0)
		return 0;
	buf[n] = 0;
	p = strrchr(buf, ')');
	return p ? p[2] : 0;
}

/* The system call in which a task sleeps, or -1 if it does not sleep in one. */
static inline long task_syscall(pid_t pid)
{
	char name[40], buf[256];
	ssize_t n;
	int fd;

	if (task_state(pid) != 'S')
		return -1;
	snprintf(name, sizeof(name), "/proc/%d/syscall", pid);
	fd = open(name, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	n = read(fd, buf, sizeof(buf) - 1);
	close(fd);
	if (n <= 0)
		return -1;
	buf[n] = 0;
	if (buf[0] < '0' || buf[0] > '9')
		return -1;
	return strtol(buf, NULL, 10);
}

/*
 * How often a task has gone to sleep, or -1. Each wakeup from a sleep that is
 * followed by another sleep adds one.
 */
static inline long task_sleeps(pid_t pid)
{
	char path[40];

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	return number_in(path, "voluntary_ctxt_switches");
}

/*
 * Waits until the child sleeps in its call; false if the call returned instead.
 */
static inline bool child_asleep(struct child *c)
{
	return eventually(child_done(c) || !task_state(c->pid) ||
			  task_state(c->pid) == 'Z' ||
			  task_syscall(c->pid) == c->nr) &&
	       !child_done(c) && task_syscall(c->pid) == c->nr;
}

/*
 * True if the child goes on sleeping in its call. It looks for 20 ms, so that
 * it would see a child that was woken by the tester's last action.
 */
static inline bool child_stays_asleep(struct child *c)
{
	int i;

	for (i = 0; i < 20; i++) {
		usleep(1000);
		if (!child_asleep(c))
			return false;
	}
	return true;
}

/*
 * Waits for the child to end. Returns the result of its call, -errno, or one of
 * the values above.
 */
static inline long child_join(struct child *c)
{
	siginfo_t info = {};
	bool ended;

	if (c->pid <= 0)
		return NO_REPORT;
	ended = eventually(waitid(P_PID, c->pid, &info,
				  WEXITED | WNOHANG | WNOWAIT) ||
			   info.si_pid == c->pid);
	if (!ended)
		kill(c->pid, SIGKILL);
	waitid(P_PID, c->pid, &info, WEXITED);
	c->pid = -1;
	if (!ended)
		return STUCK;
	if (info.si_code != CLD_EXITED)
		return KILLED(info.si_status);
	return c->report->ret;
}

/*
 * Sends a signal to the child. Does nothing after the child was waited for,
 * since its number may belong to another process.
 */
static inline void child_signal(struct child *c, int sig)
{
	if (c->pid > 0)
		kill(c->pid, sig);
}

/* Kills a child whose call has not returned, and waits for it. */
static inline long child_kill(struct child *c)
{
	child_signal(c, SIGKILL);
	return child_join(c);
}

/*
 * From now on new children run only while the tester sleeps: they share its
 * processor, and the tester has a real-time priority. A test can so act before
 * a woken child runs. No assertion may depend on this.
 */
static inline void run_first(void)
{
	struct sched_param fifo = { .sched_priority = 1 };
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(0, &one);
	sched_setaffinity(0, sizeof(one), &one);
	sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &fifo);
}

/* Does run_first(), and applies it to a child that runs already. */
static inline void hold_up(struct child *c)
{
	cpu_set_t one;

	run_first();
	CPU_ZERO(&one);
	CPU_SET(0, &one);
	sched_setaffinity(c->pid, sizeof(one), &one);
}

/*
 * Ends run_first() and hold_up() for the tester: it may use all processors
 * again, and has no real-time priority.
 */
static inline void let_go(void)
{
	struct sched_param other = {};
	cpu_set_t all;

	memset(&all, 0xff, sizeof(all));
	sched_setaffinity(0, sizeof(all), &all);
	sched_setscheduler(0, SCHED_OTHER, &other);
}

/*
 * Moves a child to processor 1, so that it can run while the tester and a child
 * that is held up share processor 0.
 */
static inline void run_beside(struct child *c)
{
	cpu_set_t other;

	CPU_ZERO(&other);
	CPU_SET(1, &other);
	sched_setaffinity(c->pid, sizeof(other), &other);
}

/*
 * How often a task has left its processor. The number does not change while the
 * task sleeps.
 */
static inline long task_runs(pid_t pid)
{
	char path[40];

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	return number_in(path, "voluntary_ctxt_switches") +
	       number_in(path, "nonvoluntary_ctxt_switches");
}

/*
 * Like eventually(), but does not sleep, so children that are held up do not
 * run. It waits for at most half a second.
 */
#define soon(cond)							\
({									\
	long __end = now_ms() + 500;					\
	bool __ok;							\
									\
	while (!(__ok = (cond)) && now_ms() < __end)			\
		;							\
	__ok;								\
})

static inline long child_do_read(struct child *c)
{
	return read(c->fd, c->buf, c->len);
}

static inline long child_do_write(struct child *c)
{
	return write(c->fd, c->buf, c->len);
}

/*
 * Like child_do_read() and child_do_write(), with the buffer faulted in first.
 * In zpipe a task that faults drops the inner lock, and tasks that wait behind
 * it may pass it; see stuck.c.
 */
static inline long child_read_resident(struct child *c)
{
	madvise(c->buf, c->len, MADV_POPULATE_WRITE);
	return child_do_read(c);
}

static inline long child_write_resident(struct child *c)
{
	madvise(c->buf, c->len, MADV_POPULATE_READ);
	return child_do_write(c);
}

static inline long child_do_open(struct child *c)
{
	return open(c->path, c->flags);
}

/*
 * Starts a child that reads once, into a buffer that the tester sees. The child
 * closes the write end.
 */
static inline void child_read(struct child *c, struct ends *e, size_t len)
{
	*c = (struct child) {
		.nr = SYS_read, .fn = child_read_resident,
		.fd = e->fd[0], .drop = e->fd[1],
		.len = len, .buf = shared_alloc(len),
	};
	child_start(c, 0);
}

/*
 * Starts a child that writes @len bytes of the stream from @off on. The child
 * closes the read end.
 */
static inline void child_write(struct child *c, struct ends *e,
			       unsigned long off, size_t len)
{
	*c = (struct child) {
		.nr = SYS_write, .fn = child_write_resident,
		.fd = e->fd[1], .drop = e->fd[0],
		.len = len, .buf = shared_alloc(len),
	};
	stream_fill(c->buf, off, len);
	child_start(c, 0);
}

/*
 * Starts a child that opens a path. It shares its descriptors with the tester,
 * so the file stays open after the child has ended.
 */
static inline void child_open(struct child *c, const char *path, int flags)
{
	*c = (struct child) {
		.nr = SYS_openat, .fn = child_do_open, .drop = -1,
		.path = path, .flags = flags,
	};
	child_start(c, CLONE_FILES);
}

/* Starts a child that runs @fn with one argument. */
static inline void child_run(struct child *c, long (*fn)(struct child *c),
			     void *arg)
{
	*c = (struct child) { .fn = fn, .arg = arg, .drop = -1, .nr = -2 };
	child_start(c, 0);
}

#endif /* ZPIPE_TESTS_CHILD_H */
