// SPDX-License-Identifier: GPL-2.0-only
/*
 * Random operations on two pipes of different kinds at once. A controller
 * starts the same operations on both, one after the other, and some of them
 * block. When every worker has finished or sleeps, everything that can be seen
 * has to be the same. That is results, data, signals, blocked workers,
 * FIONREAD, capacity and poll masks.
 *
 * ZPIPE_SEED repeats a run; ZPIPE_DIFF_MS is how long each test takes.
 */
#include "oracle.h"
#include "child.h"
#include "model.h"

#include <linux/futex.h>
#include <sys/uio.h>

#define WORKERS		4	/* of each pipe */
#define FILES		6	/* open at a time, of each pipe */
/*
 * The size of a worker's buffer, which is followed by an inaccessible page. It
 * is not larger because zpipe deviates from its direct_min on. Then one call
 * may transfer more than the pipe holds, and only one large write is posted.
 * direct.c and direct_waits.c cover that.
 */
#define BUF_SIZE	(32 * PAGE)
#define SEGMENTS	5
#define PAST		40	/* steps that are printed if the pipes differ */

enum what {
	READ,
	WRITE,
	READV,
	WRITEV,
	OPEN,
	WHATS,
};

static const char * const names[] = {
	"read", "write", "readv", "writev", "open",
};

static const long numbers[] = {
	SYS_read, SYS_write, SYS_readv, SYS_writev, SYS_openat,
};

/* One operation of a worker and its result; in shared memory. */
struct job {
	int ready;		/* the worker waits for operations */
	int asked;		/* a futex: the number of operations assigned */
	int done;		/* the number of operations finished */
	enum what what;
	int fd;
	int flags;		/* of open(2) */
	size_t len;
	size_t good;		/* bytes of the buffer before the inaccessible page */
	size_t seg[SEGMENTS];
	char path[64];
	long ret;
	struct report report;	/* counts signals */
};

struct worker {
	pid_t pid;
	struct job *job;
	unsigned char *buf;	/* shared, BUF_SIZE bytes and an inaccessible page */
};

/* One of the two pipes. */
struct side {
	struct ends e;
	struct worker w[WORKERS];
	int fd[FILES];		/* or -1 */
	char path[64];
};

struct diff {
	struct side side[2];
	unsigned long dice;
	int mode[FILES];	/* O_RDONLY, O_WRONLY or O_RDWR */
	int file[WORKERS];	/* the file that a worker uses or opens */
	bool busy[WORKERS];
	unsigned long off;	/* stream offset of the next write */
	bool alone;		/* no worker may block: all files are non-blocking */
	int step;
	char log[400];
	char past[PAST][400];
};

static long do_job(struct worker *w)
{
	struct job *j = w->job;
	unsigned char *p = w->buf + BUF_SIZE - j->good;
	struct iovec iov[SEGMENTS];
	int i;

	for (i = 0; i < SEGMENTS; i++) {
		iov[i] = (struct iovec) { p, j->seg[i] };
		p += j->seg[i];
	}
	p = w->buf + BUF_SIZE - j->good;
	switch (j->what) {
	case READ:
		return read(j->fd, p, j->len);
	case WRITE:
		return write(j->fd, p, j->len);
	case READV:
		return readv(j->fd, iov, SEGMENTS);
	case WRITEV:
		return writev(j->fd, iov, SEGMENTS);
	default:
		return open(j->path, j->flags);
	}
}

static void work(struct worker *w)
{
	struct job *j = w->job;
	int n = 0;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	own_report = &j->report;
	/*
	 * Fault the buffer in. In zpipe a task that faults drops the inner
	 * lock, and tasks that wait behind it may pass it; see stuck.c.
	 */
	memset(w->buf, 0, BUF_SIZE);
	__atomic_store_n(&j->ready, 1, __ATOMIC_SEQ_CST);
	for (;;) {
		while (__atomic_load_n(&j->asked, __ATOMIC_SEQ_CST) == n)
			syscall(SYS_futex, &j->asked, FUTEX_WAIT, n, NULL);
		j->ret = sys(do_job(w));
		__atomic_store_n(&j->done, ++n, __ATOMIC_SEQ_CST);
	}
}

/*
 * Starts a worker that shares the controller's descriptors, as a thread would.
 */
static void start_worker(struct worker *w)
{
	w->job = shared_alloc(sizeof(*w->job));
	w->buf = shared_alloc(BUF_SIZE + PAGE);
	if (mprotect(w->buf + BUF_SIZE, PAGE, PROT_NONE))
		abort();
	w->pid = syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);
	if (w->pid < 0)
		abort();
	if (!w->pid)
		work(w);
	if (!eventually(__atomic_load_n(&w->job->ready, __ATOMIC_SEQ_CST)))
		abort();
}

static bool finished(struct worker *w)
{
	return __atomic_load_n(&w->job->done, __ATOMIC_SEQ_CST) ==
	       w->job->asked;
}

/*
 * How often a task has gone to sleep. If this is unchanged, the task has not
 * run.
 */
static long switches(pid_t pid)
{
	char name[40], line[128];
	long n = -1;
	FILE *f;

	snprintf(name, sizeof(name), "/proc/%d/status", pid);
	f = fopen(name, "r");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "voluntary_ctxt_switches: %ld", &n) == 1)
			break;
	if (f)
		fclose(f);
	return n;
}

/*
 * A number that stays the same while all workers sleep or have finished; -1 if
 * one runs.
 */
static long at_rest(struct diff *d)
{
	long sum = 0;
	int s, i;

	for (s = 0; s < 2; s++) {
		for (i = 0; i < WORKERS; i++) {
			struct worker *w = &d->side[s].w[i];

			if (!finished(w)) {
				if (task_syscall(w->pid) !=
				    numbers[w->job->what])
					return -1;
				sum += switches(w->pid);
			}
			sum += w->job->done;
		}
	}
	return sum;
}

/* True if the same workers of both sides have finished. */
static bool alike(struct diff *d)
{
	int i;

	for (i = 0; i < WORKERS; i++)
		if (finished(&d->side[0].w[i]) != finished(&d->side[1].w[i]))
			return false;
	return true;
}

/*
 * Waits until nothing happens any more. A worker that was woken may look asleep for as
 * long as its processor is not running. So if the two sides differ this waits longer.
 */
static bool settle(struct diff *d)
{
	long before, now = at_rest(d);
	int tries;

	for (tries = 0; tries < EVENT_MS; tries++) {
		before = now;
		now = at_rest(d);
		if (now >= 0 && now == before &&
		    (alike(d) || tries == EVENT_MS - 1))
			return true;
		if (tries > 20)
			usleep(1000);
	}
	return false;
}

static void start(struct diff *d, int i, int file)
{
	int s;

	d->busy[i] = true;
	d->file[i] = file;
	for (s = 0; s < 2; s++) {
		struct worker *w = &d->side[s].w[i];

		w->job->fd = d->side[s].fd[file];
		snprintf(w->job->path, sizeof(w->job->path), "%s",
			 d->side[s].path);
		__atomic_add_fetch(&w->job->asked, 1, __ATOMIC_SEQ_CST);
		syscall(SYS_futex, &w->job->asked, FUTEX_WAKE, 1);
	}
}

static int waiting_readers(struct diff *d)
{
	int i, n = 0;

	for (i = 0; i < WORKERS; i++)
		n += d->busy[i] && (d->side[0].w[i].job->what == READ ||
				    d->side[0].w[i].job->what == READV);
	return n;
}

/*
 * Assigns the same operation on the same file to worker @i of both pipes. A
 * write is small while several readers are blocked. A larger one would block
 * after it has woken the first reader, and then race with the next reader for
 * the rest.
 */
static void assign(struct diff *d, int i, int file, enum what what)
{
	bool small = waiting_readers(d) > 1;
	size_t len = rnd_len(&d->dice, small ? PAGE : BUF_SIZE - PAGE) *
		     (rnd(&d->dice) % 12 != 0);
	size_t good = rnd(&d->dice) % 8 ? BUF_SIZE : rnd(&d->dice) % (len + 1);
	size_t seg[SEGMENTS] = {}, left = len;
	int s, k;

	for (k = 0; k < SEGMENTS; k++) {
		seg[k] = k == SEGMENTS - 1 ? left :
			 rnd(&d->dice) % 3 ? rnd(&d->dice) % (left + 1) : 0;
		left -= seg[k];
	}
	for (s = 0; s < 2; s++) {
		struct worker *w = &d->side[s].w[i];

		w->job->what = what;
		w->job->len = len;
		w->job->good = good;
		memcpy(w->job->seg, seg, sizeof(seg));
		if (what == WRITE || what == WRITEV)
			stream_fill(w->buf + BUF_SIZE - good, d->off,
				    good < len ? good : len);
		else
			memset(w->buf, 0xcc, BUF_SIZE);
	}
	snprintf(d->log, sizeof(d->log),
		 "worker %d: %s of %zu bytes, %zu good, file %d", i,
		 names[what], len, good, file);
	d->off += len;
	start(d, i, file);
}

static void assign_open(struct diff *d, int i, int file)
{
	static const int modes[] = { O_RDONLY, O_WRONLY, O_RDWR };
	int mode = modes[rnd(&d->dice) % 3];
	int flags = mode | (rnd(&d->dice) % 2 || d->alone ? O_NONBLOCK : 0);
	int s;

	for (s = 0; s < 2; s++) {
		d->side[s].w[i].job->what = OPEN;
		d->side[s].w[i].job->flags = flags;
	}
	d->mode[file] = mode;
	snprintf(d->log, sizeof(d->log), "worker %d: open(%#x) as file %d", i,
		 flags, file);
	start(d, i, file);
}

static bool in_use(struct diff *d, int file)
{
	int i;

	for (i = 0; i < WORKERS; i++)
		if (d->busy[i] && d->file[i] == file)
			return true;
	return false;
}

/*
 * A change by the controller, also to a file that a blocked worker uses. Such a
 * file is not closed: a restarted call would find another file under its
 * number.
 */
static void change(struct diff *d, int file, long ret[2])
{
	long bytes = (1L << rnd(&d->dice) % 7) * PAGE;
	int what = rnd(&d->dice) % (in_use(d, file) ? 3 : 6), s;

	for (s = 0; s < 2; s++) {
		int fd = d->side[s].fd[file];
		int flags = fcntl(fd, F_GETFL);

		switch (what) {
		case 0:
			ret[s] = set_capacity(d->side[s].e.kind, fd, bytes);
			break;
		case 1:
			flags ^= d->alone ? 0 : O_NONBLOCK;
			ret[s] = sys(fcntl(fd, F_SETFL, flags));
			break;
		case 2:
			ret[s] = sys(fcntl(fd, F_SETFL, flags ^ O_DIRECT));
			break;
		default:
			ret[s] = sys(close(fd));
			d->side[s].fd[file] = -1;
		}
	}
	snprintf(d->log, sizeof(d->log), "changed file %d in way %d (%ld)", file,
		 what, bytes);
}

static void interrupt(struct diff *d, int i)
{
	int sig = rnd(&d->dice) % 4 ? SIGUSR1 : SIGUSR2;
	int s;

	for (s = 0; s < 2; s++)
		if (d->side[s].w[i].pid > 0)
			kill(d->side[s].w[i].pid, sig);
	snprintf(d->log, sizeof(d->log), "signal %s to worker %d",
		 sig == SIGUSR1 ? "interrupts" : "restarts", i);
}

/*
 * One random step. The results of a change by the controller are stored in
 * @ret.
 */
static void step(struct diff *d, long ret[2])
{
	int i = rnd(&d->dice) % WORKERS, file = rnd(&d->dice) % FILES;
	enum what what = rnd(&d->dice) % OPEN;
	bool writes = what == WRITE || what == WRITEV;

	d->step++;
	if (d->busy[i]) {
		interrupt(d, i);
	} else if (d->side[0].fd[file] < 0) {
		if (!in_use(d, file))
			assign_open(d, i, file);
	} else if (rnd(&d->dice) % 8 == 0) {
		change(d, file, ret);
	} else {
		/* Mostly in a direction for which the file is open. */
		if (rnd(&d->dice) % 16 && d->mode[file] != O_RDWR)
			writes = d->mode[file] == O_WRONLY;
		what = writes ? what % 2 ? WRITE : WRITEV :
				what % 2 ? READ : READV;
		assign(d, i, file, what);
	}
}

/*
 * True if worker @i of both pipes is in the same state with the same results.
 */
static bool same_worker(struct diff *d, int i, char *why, size_t len)
{
	struct worker *a = &d->side[0].w[i], *b = &d->side[1].w[i];
	size_t skip = BUF_SIZE - a->job->good;
	bool opened = a->job->what == OPEN && a->job->ret >= 0 &&
		      b->job->ret >= 0;
	bool got = (a->job->what == READ || a->job->what == READV) &&
		   a->job->ret > 0;

	if (finished(a) != finished(b)) {
		snprintf(why, len, "worker %d %s, the other %s", i,
			 finished(a) ? "came back" : "waits",
			 finished(b) ? "came back" : "waits");
		return false;
	}
	if (a->job->report.signals != b->job->report.signals) {
		snprintf(why, len, "worker %d had %d signals, the other %d", i,
			 a->job->report.signals, b->job->report.signals);
		return false;
	}
	if (!finished(a) || !d->busy[i])
		return true;
	d->busy[i] = false;
	if (!opened && a->job->ret != b->job->ret) {
		snprintf(why, len, "worker %d: %s gives %ld, the other %ld", i,
			 names[a->job->what], a->job->ret, b->job->ret);
		return false;
	}
	if (opened) {
		d->side[0].fd[d->file[i]] = a->job->ret;
		d->side[1].fd[d->file[i]] = b->job->ret;
	}
	/*
	 * The kernel may have stored bytes behind those that the read returned.
	 */
	if (got && memcmp(a->buf + skip, b->buf + skip, a->job->ret)) {
		snprintf(why, len, "worker %d: different data", i);
		return false;
	}
	return true;
}

static bool same_files(struct diff *d, char *why, size_t len)
{
	int i, s;

	for (i = 0; i < FILES; i++) {
		long seen[2][3];

		if (d->side[0].fd[i] < 0)
			continue;
		for (s = 0; s < 2; s++) {
			int fd = d->side[s].fd[i];

			seen[s][0] = fionread(fd);
			seen[s][1] = poll_mask(fd);
			seen[s][2] = get_capacity(d->side[s].e.kind, fd);
		}
		if (memcmp(seen[0], seen[1], sizeof(seen[0]))) {
			snprintf(why, len,
				 "file %d: FIONREAD %ld and %ld, poll %#lx and %#lx, capacity %ld and %ld",
				 i, seen[0][0], seen[1][0], seen[0][1],
				 seen[1][1], seen[0][2], seen[1][2]);
			return false;
		}
	}
	return true;
}

FIXTURE(diff) {
	struct diff *d;
};

FIXTURE_VARIANT(diff) {
	enum kind kind[2];
};

/* Comparing a pipe with itself shows that the test has no false failures. */
FIXTURE_VARIANT_ADD(diff, pipe) { .kind = { PIPE, PIPE } };
FIXTURE_VARIANT_ADD(diff, fifo) { .kind = { FIFO, FIFO } };
FIXTURE_VARIANT_ADD(diff, zpair) { .kind = { PIPE, ZPAIR } };
FIXTURE_VARIANT_ADD(diff, znode) { .kind = { FIFO, ZNODE } };

FIXTURE_SETUP(diff)
{
	struct diff *d = calloc(1, sizeof(*d));
	int s, i;

	self->d = d;
	d->alone = copies_are_cut(variant->kind[1]);
	catch_signal(SIGPIPE, 0);
	catch_signal(SIGUSR1, 0);
	catch_signal(SIGUSR2, SA_RESTART);
	for (s = 0; s < 2; s++) {
		struct side *side = &d->side[s];

		ASSERT_EQ(0, ends_make(&side->e, variant->kind[s]));
		snprintf(side->path, sizeof(side->path), "%s", side->e.path);
		for (i = 0; i < FILES; i++)
			side->fd[i] = -1;
		for (i = 0; i < WORKERS; i++)
			start_worker(&side->w[i]);
		if (is_named(variant->kind[s]))
			continue;
		/*
		 * Further files are opened through the inode. The first two
		 * ends are files 0 and 1.
		 */
		ASSERT_EQ(0, open_ends(&side->e, d->alone ? O_NONBLOCK : 0));
		snprintf(side->path, sizeof(side->path), "/proc/self/fd/%d",
			 side->e.fd[0]);
		i = open(side->path, O_PATH);
		ASSERT_LE(0, i);
		snprintf(side->path, sizeof(side->path), "/proc/self/fd/%d", i);
		side->fd[0] = side->e.fd[0];
		side->fd[1] = side->e.fd[1];
		side->e.fd[0] = -1;
		side->e.fd[1] = -1;
		d->mode[0] = O_RDONLY;
		d->mode[1] = O_WRONLY;
	}
}

FIXTURE_TEARDOWN(diff)
{
	int s, i;

	for (s = 0; s < 2; s++) {
		for (i = 0; i < WORKERS; i++)
			if (self->d->side[s].w[i].pid > 0)
				kill(self->d->side[s].w[i].pid, SIGKILL);
		ends_free(&self->d->side[s].e);
	}
}

/* Keeps the text of a step and the state of all workers after it. */
static void remember(struct diff *d)
{
	char *text = d->past[d->step % PAST];
	int i, s, n = snprintf(text, sizeof(d->past[0]), "step %d: %s;", d->step, d->log);

	for (i = 0; i < WORKERS; i++) {
		for (s = 0; s < 2 && n < (int)sizeof(d->past[0]); s++) {
			struct worker *w = &d->side[s].w[i];

			n += snprintf(text + n, sizeof(d->past[0]) - n,
				      finished(w) ? " %ld" : " waits", w->job->ret);
		}
	}
}

/* Prints the steps that led to a difference. */
static void print_past(struct diff *d)
{
	int i;

	for (i = 1; i <= PAST; i++)
		if (d->past[(d->step + i) % PAST][0])
			printf("# %s\n", d->past[(d->step + i) % PAST]);
}

static void run(struct __test_metadata *_metadata, struct diff *d,
		unsigned long s)
{
	const char *env = getenv("ZPIPE_DIFF_MS");
	char why[300] = "";
	long end, ret[2];
	bool same = true;
	int i;

	d->dice = s;
	end = now_ms() + (env ? atoi(env) : 500 * (1 + SLOWER));
	while (same && now_ms() < end) {
		ret[0] = 0;
		ret[1] = 0;
		step(d, ret);
		ASSERT_TRUE(settle(d))
			TH_LOG("seed %lu, step %d: %s", s, d->step, d->log);
		remember(d);
		if (ret[0] != ret[1]) {
			snprintf(why, sizeof(why), "%ld and %ld", ret[0],
				 ret[1]);
			same = false;
		}
		for (i = 0; same && i < WORKERS; i++)
			same = same_worker(d, i, why, sizeof(why));
		same = same && same_files(d, why, sizeof(why));
	}
	if (!same)
		print_past(d);
	EXPECT_TRUE(same)
		TH_LOG("seed %lu, step %d: %s: %s", s, d->step, d->log, why);
	/* The run made progress at all. */
	EXPECT_LT(20, d->step);
	printf("# %d steps\n", d->step);
}

TEST_F_TIMEOUT(diff, one_seed, TIMEOUT)
{
	run(_metadata, self->d, seed(4));
}

TEST_F_TIMEOUT(diff, another_seed, TIMEOUT)
{
	run(_metadata, self->d, seed(time(NULL)));
}

TEST_F_TIMEOUT(diff, a_third_seed, TIMEOUT)
{
	run(_metadata, self->d, seed(time(NULL) ^ getpid() << 16));
}

TEST_HARNESS_MAIN
