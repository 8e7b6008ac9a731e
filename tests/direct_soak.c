// SPDX-License-Identifier: GPL-2.0-only
/*
 * Large messages both ways between two processes, or between two threads of
 * one. Other threads map, unmap, protect, drop and page out memory meanwhile,
 * mostly the buffers of the messages. No task may hang, and every byte has to
 * arrive.
 *
 * ZPIPE_STRESS_MS is how long each test runs.
 */
#include "memory.h"
#include "model.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif

#define BUFFER		MIB
#define MAX_LEN		(600 * 1024L)

/*
 * A buffer for messages. A shared buffer is mapped twice, and the meddling
 * threads leave the second mapping (calm) alone.
 */
struct buffer {
	unsigned char *p;
	unsigned char *calm;
	int fd;
	pthread_mutex_t lock;	/* held while the mapping at p is changed */
};

struct peer {
	int to;
	int from;
	int other[2];		/* the ends that the peer does not use, or -1 */
	int *stop;
	bool shared;
	struct buffer out;
	struct buffer in;
	/* Results. */
	long sent;
	long got;
	long faults;
	long meddled;
};

static long duration_ms(void)
{
	const char *env = getenv("ZPIPE_STRESS_MS");

	return env ? atol(env) : 1500 * SLOWER;
}

static bool over(struct peer *p)
{
	return __atomic_load_n(p->stop, __ATOMIC_SEQ_CST);
}

static void buffer_make(struct buffer *b, bool shared)
{
	b->fd = -1;
	pthread_mutex_init(&b->lock, NULL);
	b->p = map_anonymous(BUFFER, 0);
	b->calm = b->p;
	if (!shared)
		return;
	b->fd = memfd_create("zpipe-test", MFD_CLOEXEC);
	if (ftruncate(b->fd, BUFFER))
		abort();
	b->p = mmap(b->p, BUFFER, PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_FIXED, b->fd, 0);
	b->calm = mmap(NULL, BUFFER, PROT_READ | PROT_WRITE, MAP_SHARED, b->fd,
		       0);
	if (b->p == MAP_FAILED || b->calm == MAP_FAILED)
		abort();
}

/* Changes the mapping of a shared buffer, but not its bytes. */
static void meddle_shared(struct buffer *b, size_t at, size_t len, int how)
{
	unsigned char *p = b->p + at;

	if (how < 2) {
		madvise(p, len, how ? MADV_PAGEOUT : MADV_DONTNEED);
		return;
	}
	pthread_mutex_lock(&b->lock);
	if (how == 4)
		/* Other threads could map something into a hole. */
		mmap(p, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
		     -1, 0);
	else
		mprotect(p, len, how == 2 ? PROT_READ : PROT_NONE);
	if (how == 4)
		mmap(p, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		     b->fd, at);
	else
		mprotect(p, len, PROT_READ | PROT_WRITE);
	pthread_mutex_unlock(&b->lock);
}

/*
 * Changes a private buffer. The owner's own stores must not fault for good, so
 * the outgoing buffer never becomes read-only.
 */
static void meddle_private(struct buffer *b, size_t at, size_t len, int how,
			   bool out)
{
	unsigned char *p = b->p + at;
	pid_t pid;

	switch (how) {
	case 0:
		madvise(p, len, MADV_COLLAPSE);
		break;
	case 1:
		if (!out) {
			mprotect(p, len, PROT_READ);
			mprotect(p, len, PROT_READ | PROT_WRITE);
		}
		break;
	case 2:
		/* After a fork each page is copied at the next store. */
		pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
		if (!pid)
			_exit(0);
		waitpid(pid, NULL, 0);
		break;
	default:
		madvise(p, len, MADV_PAGEOUT);
	}
}

static void *meddle(void *arg)
{
	struct peer *p = arg;
	unsigned long dice = p->to * 77 + 1;

	while (!over(p)) {
		bool out = rnd(&dice) % 2;
		struct buffer *b = out ? &p->out : &p->in;
		size_t at = rnd(&dice) % (BUFFER / PAGE);
		size_t nr = 1 + rnd(&dice) % (BUFFER / PAGE - at);

		if (p->shared)
			meddle_shared(b, at * PAGE, nr * PAGE, rnd(&dice) % 5);
		else
			meddle_private(b, at * PAGE, nr * PAGE, rnd(&dice) % 4,
				       out);
		p->meddled++;
		if (rnd(&dice) % 4 == 0)
			usleep(300);
	}
	return NULL;
}

/* Changes other memory of the same process. */
static void *map_and_unmap(void *arg)
{
	struct peer *p = arg;
	unsigned long dice = p->to;
	unsigned char *q;

	while (!over(p)) {
		size_t len = (1 + rnd(&dice) % 64) * PAGE;

		q = map_anonymous(len, rnd(&dice) % 2 ? MAP_POPULATE : 0);
		q[len / 2] = 1;
		mprotect(q, len / 2, PROT_READ);
		munmap(q, len);
		usleep(200);
	}
	return NULL;
}

/* Ends the process: without this peer the other one would wait for ever. */
static void give_up(const char *call, long ret)
{
	printf("# %s: %s\n", call, strerror(-ret));
	fflush(stdout);
	_exit(1);
}

static void *send_stream(void *arg)
{
	struct peer *p = arg;
	unsigned long dice = p->from;
	size_t at, len, done;
	long n;

	while (!over(p)) {
		len = 131072 + rnd(&dice) % (MAX_LEN - 131072);
		at = rnd(&dice) % (BUFFER - len);
		stream_fill(p->out.calm + at, p->sent, len);
		for (done = 0; done < len; done += n) {
			n = sys(write(p->to, p->out.p + at + done, len - done));
			if (n == -EFAULT && p->shared) {
				__atomic_add_fetch(&p->faults, 1,
						   __ATOMIC_SEQ_CST);
				n = 0;
			}
			if (n < 0)
				give_up("write", n);
		}
		p->sent += len;
	}
	close(p->to);
	return NULL;
}

static long receive_stream(struct peer *p)
{
	unsigned long dice = p->to + 5;
	size_t at, len;
	long n;

	for (;;) {
		len = 1 + rnd(&dice) % BUFFER;
		at = rnd(&dice) % (BUFFER - len + 1);
		n = sys(read(p->from, p->in.p + at, len));
		if (n == -EFAULT) {
			__atomic_add_fetch(&p->faults, 1, __ATOMIC_SEQ_CST);
			continue;
		}
		if (n <= 0)
			return n;
		if (stream_diff(p->in.calm + at, p->got, n) >= 0)
			return -EILSEQ;
		p->got += n;
	}
}

static void peer_run(struct peer *p)
{
	void *(*const also[])(void *) = { meddle, meddle, map_and_unmap };
	pthread_t sender, thread[ARRAY_SIZE(also)];
	long ret;
	int i;

	for (i = 0; i < 2; i++)
		if (p->other[i] >= 0)
			close(p->other[i]);
	buffer_make(&p->out, p->shared);
	buffer_make(&p->in, p->shared);
	for (i = 0; i < ARRAY_SIZE(also); i++)
		pthread_create(&thread[i], NULL, also[i], p);
	pthread_create(&sender, NULL, send_stream, p);
	ret = receive_stream(p);
	if (ret)
		give_up("read", ret);
	pthread_join(sender, NULL);
	for (i = 0; i < ARRAY_SIZE(also); i++)
		pthread_join(thread[i], NULL);
}

static long process_run(struct child *c)
{
	peer_run(c->arg);
	return 0;
}

static void *thread_run(void *arg)
{
	peer_run(arg);
	return NULL;
}

/* Runs both peers in one process. */
static long both_run(struct child *c)
{
	struct peer *p = c->arg;
	pthread_t other;

	pthread_create(&other, NULL, thread_run, p + 1);
	peer_run(p);
	pthread_join(other, NULL);
	return 0;
}

static void soak(struct __test_metadata *_metadata, struct ends *there,
		 bool shared, bool one_process)
{
	struct peer *p = shared_alloc(2 * sizeof(*p));
	int *stop = shared_alloc(sizeof(*stop)), i;
	struct child c[2];
	struct ends back;

	ASSERT_EQ(0, ends_make(&back, there->kind));
	ASSERT_EQ(0, open_ends(&back, 0));
	p[0] = (struct peer) {
		.to = there->fd[1], .from = back.fd[0], .stop = stop,
		.other = { there->fd[0], back.fd[1] }, .shared = shared,
	};
	p[1] = (struct peer) {
		.to = back.fd[1], .from = there->fd[0], .stop = stop,
		.other = { back.fd[0], there->fd[1] }, .shared = shared,
	};
	for (i = 0; one_process && i < 2; i++)
		memset(p[i].other, -1, sizeof(p[i].other));
	child_run(&c[0], one_process ? both_run : process_run, &p[0]);
	if (!one_process)
		child_run(&c[1], process_run, &p[1]);
	close_end(there, 1);
	close_end(&back, 1);
	usleep(duration_ms() * 1000);
	__atomic_store_n(stop, 1, __ATOMIC_SEQ_CST);
	for (i = 0; i < (one_process ? 1 : 2); i++)
		EXPECT_EQ(0, child_join(&c[i]));
	EXPECT_EQ(p[0].sent, p[1].got);
	EXPECT_EQ(p[1].sent, p[0].got);
	for (i = 0; i < 2; i++) {
		EXPECT_LT(0, p[i].sent);
		EXPECT_LT(0, p[i].meddled);
		printf("# %ld KiB sent, %ld times meddled with, %ld EFAULT\n",
		       p[i].sent / 1024, p[i].meddled, p[i].faults);
	}
	ends_free(&back);
}

TEST_F_TIMEOUT(all, shared_memory, 4 * TIMEOUT)
{
	soak(_metadata, &self->e, true, false);
}

TEST_F_TIMEOUT(all, private_memory, 4 * TIMEOUT)
{
	soak(_metadata, &self->e, false, false);
}

TEST_F_TIMEOUT(all, shared_memory_of_one_process, 4 * TIMEOUT)
{
	soak(_metadata, &self->e, true, true);
}

TEST_F_TIMEOUT(all, private_memory_of_one_process, 4 * TIMEOUT)
{
	soak(_metadata, &self->e, false, true);
}

TEST_HARNESS_MAIN
