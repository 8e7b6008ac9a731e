// SPDX-License-Identifier: GPL-2.0-only
/*
 * Huge pages that somebody holds or watches: a pipe, io_uring, direct I/O, a child or
 * userfaultfd; and memory of kinds that cannot be moved. One test gifts the page, another one
 * reads into it. The module must copy the page for the right reason, and the holder must find the
 * bytes that it would find with pipe(2). The next transfer must move the page if the holder has
 * let go of it.
 */
#include "oracle.h"
#include "child.h"
#include "gift.h"
#include "holder.h"

/*
 * Reads the stream into huge pages, which gifts can be moved to, and stores other bytes to each
 * page.
 */
static long read_pages(struct child *c)
{
	struct ends e = { .kind = c->flags, .fd = { c->fd, -1 } };
	struct talk *talk = c->arg;
	unsigned char *at = hole(2);
	size_t done;

	for (done = 0; done < c->len; done += HUGE_SIZE) {
		struct gifted g = fetch(&e, at + done, HUGE_SIZE, 0);

		if (g.ret != HUGE_SIZE)
			return g.ret;
		if (memcmp(at + done, stream + done, HUGE_SIZE))
			return -EILSEQ;
		memset(at + done, FOREIGN, HUGE_SIZE);
		__atomic_add_fetch(&talk->passed, 1, __ATOMIC_SEQ_CST);
	}
	return done;
}

/* Gifts pages that hold the stream, and stores other bytes to their replacements. */
static long gift_pages(struct child *c)
{
	struct ends e = { .kind = c->flags, .fd = { -1, c->fd } };
	unsigned char *at = hole(2);
	struct gifted g;

	memcpy(at, stream, c->len);
	made_huge(at, c->len);
	g = gift(&e, at, c->len);
	memset(at, FOREIGN, c->len);
	return g.ret;
}

/*
 * Starts the process at the other end, before the memory is mapped, so that it does not share
 * the pages. It transfers two pages, or one page on a pipe that moves none.
 */
static void partner_start(struct child *c, struct ends *e, bool reads, struct talk *talk)
{
	*c = (struct child) {
		.nr = -2, .fn = reads ? read_pages : gift_pages, .flags = e->kind,
		.fd = e->fd[!reads], .drop = e->fd[reads], .arg = talk,
		.len = moves(e) ? 2 * HUGE_SIZE : HUGE_SIZE,
	};
	/* This only makes the test faster. */
	if (!is_zpipe(e->kind))
		set_capacity(e->kind, e->fd[0], HUGE_SIZE / 2);
	child_start(c, 0);
}

/* Carries out a request; true or false for a check. */
static long do_op(struct hold *h, enum op op)
{
	const struct holder *type = h->type;

	switch (op) {
	case TAKE:
		return !type->take || type->take(h);
	case TOGGLE:
		return !mprotect(h->at, HUGE_SIZE, PROT_READ) &&
		       !mprotect(h->at, HUGE_SIZE, PROT_READ | PROT_WRITE);
	case TRANSFER:
		h->talk->gifted = h->gives ? gift(h->e, h->at, HUGE_SIZE) :
					     fetch(h->e, h->at, HUGE_SIZE, 0);
		return 0;
	case HAS_FIRST:
		return !memcmp(h->at, h->first, HUGE_SIZE);
	case HAS_STREAM:
		return !memcmp(h->at, stream, HUGE_SIZE);
	case STORE:
		memset(h->at, NEW, HUGE_SIZE);
		return true;
	case HAS_NEW:
		return is_filled(h->at, NEW, HUGE_SIZE);
	case AFTER:
		return !type->after || type->after(h);
	case LOOK:
		return (!type->look || type->look(h)) && memory_is_intact(&h->memory);
	case LET_GO:
		return (!type->let_go || type->let_go(h)) &&
		       (!h->memory.type->undo || h->memory.type->undo(&h->memory));
	case REFILL:
		memcpy(h->at, h->gives ? stream + HUGE_SIZE : old_bytes, HUGE_SIZE);
		return made_huge(h->at, HUGE_SIZE);
	case HAS_SECOND:
		return !memcmp(h->at, stream + HUGE_SIZE, HUGE_SIZE);
	case EXIT:
		break;
	}
	return 0;
}

/* Forks a child that carries out requests until EXIT. */
static void fork_child(struct hold *h)
{
	struct talk *talk = h->talk;
	int seen = 0;

	h->child = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	if (h->child)
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		while (__atomic_load_n(&talk->asked, __ATOMIC_SEQ_CST) == seen)
			usleep(200);
		seen++;
		if (talk->op == EXIT)
			_exit(0);
		talk->answer = do_op(h, talk->op);
		__atomic_store_n(&talk->answered, seen, __ATOMIC_SEQ_CST);
	}
}

/* Sends a request to the child and waits; its result, or -1 if the child does not answer. */
static long ask_child(struct hold *h, enum op op)
{
	struct talk *talk = h->talk;
	int number = talk->asked + 1;

	talk->op = op;
	__atomic_store_n(&talk->asked, number, __ATOMIC_SEQ_CST);
	if (op == EXIT)
		return waitpid(h->child, NULL, 0);
	if (!eventually(__atomic_load_n(&talk->answered, __ATOMIC_SEQ_CST) == number))
		return -1;
	return talk->answer;
}

/* Asks the process that holds the page. */
static long ask_holder(struct hold *h, enum op op)
{
	return h->type->who == CHILD_HOLDS ? ask_child(h, op) : do_op(h, op);
}

/* Asks the process that transfers the page. */
static long ask_owner(struct hold *h, enum op op)
{
	bool child = h->type->who == HELD_BEFORE_FORK || h->type->who == HELD_AFTER_FORK;

	return child ? ask_child(h, op) : do_op(h, op);
}

/* Makes the memory and the holder's hold on it; false if that is not possible here. */
static bool held(struct hold *h)
{
	if (!memory_made(h))
		return false;
	switch (h->type->who) {
	case ONE_PROCESS:
		return do_op(h, TAKE);
	case FORKED_AFTER:
		if (!do_op(h, TAKE))
			return false;
		fork_child(h);
		return true;
	case FORKED_BEFORE:
		fork_child(h);
		return do_op(h, TAKE);
	case CHILD_HOLDS:
		fork_child(h);
		return ask_child(h, TAKE);
	case CHILD_GONE:
		fork_child(h);
		return ask_child(h, EXIT) > 0;
	case HELD_BEFORE_FORK: {
		/* pipe_take() would unmap the page before the child gets it. */
		struct iovec iov = { h->at + HELD_AT, HELD };
		int fd[2];

		if (pipe(fd) || vmsplice(fd[1], &iov, 1, 0) != HELD)
			return false;
		h->fd = fd[0];
		fork_child(h);
		return !munmap(h->at, HUGE_SIZE);
	}
	case HELD_AFTER_FORK:
		fork_child(h);
		return do_op(h, TAKE);
	}
	return false;
}

/* Expects that the page was moved, or copied for the holder's reason. */
static void expect_gifted(struct __test_metadata *_metadata, struct hold *h, bool moved)
{
	bool other = !h->gives && h->type->read_reason;
	unsigned int reason = other ? h->type->read_reason : h->type->reason;
	struct gifted *g = &h->talk->gifted;
	bool moves_here = moves(h->e);

	EXPECT_EQ(HUGE_SIZE, g->ret);
	EXPECT_EQ(moved && moves_here ? HUGE_SIZE : 0, g->moved) {
		tell_reasons(g);
	}
	EXPECT_EQ(HUGE_SIZE - g->moved, g->copied);
	if (!moved && moves_here) {
		EXPECT_EQ(1, g->why[reason]) {
			tell_reasons(g);
		}
	}
}

/* Transfers again after the holder let go. The page must move, if the memory is plain now. */
static void try_again(struct __test_metadata *_metadata, struct hold *h, struct child *partner)
{
	bool moves_here = moves(h->e);

	if (moves_here) {
		EXPECT_TRUE(ask_owner(h, REFILL));
		ask_owner(h, TRANSFER);
		expect_gifted(_metadata, h, becomes_plain(h));
		if (!h->gives)
			EXPECT_TRUE(ask_owner(h, HAS_SECOND));
	}
	if (h->gives || !moves_here)
		EXPECT_EQ(partner->len, child_join(partner));
}

/* Expects that the partner has gifted two pages before the owner reads. */
static void expect_two_gifts(struct __test_metadata *_metadata, struct hold *h,
			     struct child *partner)
{
	if (h->gives || !moves(h->e))
		return;
	EXPECT_EQ(2 * HUGE_SIZE, child_join(partner));
	EXPECT_EQ(2, fdinfo_number(h->e->fd[1], "zpipe-gifts"));
}

static void try_holder(struct __test_metadata *_metadata, struct ends *e,
		       const struct holder *type, bool gives)
{
	struct hold h = {
		.type = type, .e = e, .gives = gives, .first = gives ? stream : old_bytes,
		.talk = shared_alloc(sizeof(*h.talk)),
	};
	bool forks = type->who != ONE_PROCESS && type->who != CHILD_GONE;
	struct child partner;

	partner_start(&partner, e, gives, h.talk);
	if (!held(&h)) {
		child_kill(&partner);
		SKIP(return, "not possible here");
	}
	if (type->toggles)
		EXPECT_TRUE(ask_owner(&h, TOGGLE));
	expect_two_gifts(_metadata, &h, &partner);

	ask_owner(&h, TRANSFER);
	expect_gifted(_metadata, &h, false);
	EXPECT_TRUE(ask_holder(&h, AFTER));
	EXPECT_TRUE(ask_owner(&h, gives ? HAS_FIRST : HAS_STREAM));
	/* When a page has passed, the partner has stored to its own memory. */
	if (gives)
		EXPECT_TRUE(eventually(__atomic_load_n(&h.talk->passed, __ATOMIC_SEQ_CST)));
	ask_owner(&h, STORE);
	EXPECT_TRUE(ask_holder(&h, LOOK));
	if (type->who == FORKED_AFTER || type->who == FORKED_BEFORE)
		EXPECT_TRUE(ask_child(&h, HAS_FIRST));
	EXPECT_TRUE(ask_owner(&h, HAS_NEW));
	EXPECT_TRUE(ask_holder(&h, LET_GO));
	if (forks && type->who < HELD_BEFORE_FORK)
		ask_child(&h, EXIT);

	try_again(_metadata, &h, &partner);
	if (type->who >= HELD_BEFORE_FORK)
		ask_child(&h, EXIT);
}

/* Two tests of a holder: its page is gifted; its page is read into. */
#define TEST_HOLDER(name, ...)							\
static const struct holder holder_##name = { __VA_ARGS__ };			\
										\
TEST_F_TIMEOUT(unnamed, gift_##name, TIMEOUT)					\
{										\
	try_holder(_metadata, &self->e, &holder_##name, true);			\
}										\
										\
TEST_F_TIMEOUT(unnamed, read_into_##name, TIMEOUT)				\
{										\
	try_holder(_metadata, &self->e, &holder_##name, false);			\
}

/* A pipe refers to bytes of the page. */

TEST_HOLDER(vmspliced,
	    .take = pipe_take, .look = pipe_look, .let_go = fd_let_go,
	    .reason = ZPIPE_REASON_PINNED)

TEST_HOLDER(vmspliced_by_a_child,
	    .who = CHILD_HOLDS, .take = pipe_take, .look = pipe_look, .let_go = fd_let_go,
	    .reason = ZPIPE_REASON_SHARED)

TEST_HOLDER(vmspliced_by_a_child_toggled,
	    .who = CHILD_HOLDS, .toggles = true, .take = pipe_take, .look = pipe_look,
	    .let_go = fd_let_go, .reason = ZPIPE_REASON_SHARED)

TEST_HOLDER(vmspliced_before_fork,
	    .who = HELD_BEFORE_FORK, .look = pipe_look, .let_go = fd_let_go,
	    .reason = ZPIPE_REASON_SHARED)

TEST_HOLDER(vmspliced_before_fork_toggled,
	    .who = HELD_BEFORE_FORK, .toggles = true, .look = pipe_look, .let_go = fd_let_go,
	    .reason = ZPIPE_REASON_SHARED)

TEST_HOLDER(vmspliced_by_the_parent,
	    .who = HELD_AFTER_FORK, .take = pipe_take, .look = pipe_look, .let_go = fd_let_go,
	    .reason = ZPIPE_REASON_SHARED)

/* A child has the page mapped. */

TEST_HOLDER(child,
	    .who = CHILD_HOLDS, .look = child_look, .let_go = nothing_to_do,
	    .reason = ZPIPE_REASON_SHARED)

TEST_HOLDER(child_toggled,
	    .who = CHILD_HOLDS, .toggles = true, .look = child_look, .let_go = nothing_to_do,
	    .reason = ZPIPE_REASON_SHARED)

TEST_HOLDER(child_that_stored,
	    .who = CHILD_HOLDS, .take = child_store, .look = child_look_stored,
	    .let_go = nothing_to_do, .reason = ZPIPE_REASON_SHARED)

TEST_HOLDER(child_that_exited,
	    .who = CHILD_GONE, .let_go = nothing_to_do, .reason = ZPIPE_REASON_SHARED)

TEST_HOLDER(child_that_exited_toggled,
	    .who = CHILD_GONE, .toggles = true, .let_go = nothing_to_do,
	    .reason = ZPIPE_REASON_SHARED)

/*
 * The page is a registered buffer of io_uring. A fork of a pinned huge page splits its mapping,
 * and so does a pin of a page that a fork shares: then the page counts as small.
 */

TEST_HOLDER(registered,
	    .take = uring_take, .look = uring_look, .let_go = uring_let_go,
	    .reason = ZPIPE_REASON_PINNED)

TEST_HOLDER(registered_part,
	    .arg = true, .take = uring_take, .look = uring_look, .let_go = uring_let_go,
	    .reason = ZPIPE_REASON_PINNED)

TEST_HOLDER(registered_toggled,
	    .toggles = true, .take = uring_take, .look = uring_look, .let_go = uring_let_go,
	    .reason = ZPIPE_REASON_PINNED)

TEST_HOLDER(registered_after_fork,
	    .who = FORKED_BEFORE, .take = uring_take, .look = uring_look,
	    .let_go = uring_let_go, .reason = ZPIPE_REASON_SMALL)

TEST_HOLDER(registered_before_fork,
	    .who = FORKED_AFTER, .take = uring_take, .look = uring_look,
	    .let_go = uring_let_go, .reason = ZPIPE_REASON_SMALL)

/* Direct I/O from or to the page has not ended. */

TEST_HOLDER(direct_write,
	    .arg = FUSE_WRITE, .take = direct_take, .look = direct_look,
	    .let_go = direct_let_go, .reason = ZPIPE_REASON_PINNED)

TEST_HOLDER(direct_write_after_fork,
	    .who = FORKED_BEFORE, .arg = FUSE_WRITE, .take = direct_take,
	    .look = direct_look, .let_go = direct_let_go, .reason = ZPIPE_REASON_SHARED,
	    .read_reason = ZPIPE_REASON_SMALL)

TEST_HOLDER(direct_read,
	    .arg = FUSE_READ, .take = direct_take, .look = direct_look,
	    .let_go = direct_let_go, .reason = ZPIPE_REASON_PINNED)

/* A userfaultfd watches the memory. */

TEST_HOLDER(uffd_missing,
	    .arg = UFFDIO_REGISTER_MODE_MISSING, .kind = FRESH, .take = uffd_take,
	    .after = uffd_after, .look = uffd_look, .let_go = uffd_let_go,
	    .reason = ZPIPE_REASON_TRACKED)

TEST_HOLDER(uffd_wp,
	    .arg = UFFDIO_REGISTER_MODE_WP, .take = uffd_take, .after = uffd_after,
	    .look = uffd_look, .let_go = uffd_let_go, .reason = ZPIPE_REASON_TRACKED)

TEST_HOLDER(uffd_wp_async,
	    .take = async_take, .after = async_after, .look = async_look,
	    .let_go = uffd_let_go, .reason = ZPIPE_REASON_TRACKED)

TEST_HOLDER(uffd_minor,
	    .arg = UFFDIO_REGISTER_MODE_MINOR, .kind = FILE_SHARED, .take = uffd_take,
	    .after = uffd_after, .look = uffd_look, .reason = ZPIPE_REASON_MAPPING)

/* Kinds of memory that cannot be moved: those with a reason in the column gift of kinds.h. */
#define GIFT_NO_TEST(...)
#define GIFT_MAPPING TEST_MEMORY
#define GIFT_SMALL TEST_MEMORY
#define TEST_MEMORY(constant, name, why, ...)					\
	TEST_HOLDER(name, .kind = constant, .reason = why)

#define MEMKIND(constant, name, carry, push, gift, ...)				\
	GIFT_##gift(constant, name, gift, carry, push)
#include "kinds.h"

/*
 * The first bytes of the memory are a device's. A source holds the firmware there, and stores to
 * the firmware have no effect: so the comparisons of try_holder() do not fit.
 */
static void try_device(struct __test_metadata *_metadata, struct ends *e, bool gives)
{
	static const struct holder type = {
		.kind = DEVICE, .reason = ZPIPE_REASON_MAPPING,
	};
	struct hold h = {
		.type = &type, .e = e, .gives = gives, .first = old_bytes,
		.talk = shared_alloc(sizeof(*h.talk)),
	};
	unsigned char *rom = map_rom(NULL, PROT_READ, 0), *mixed;
	struct child partner;

	if (!rom)
		SKIP(return, "no memory of a device here");
	if (gives) {
		mixed = map_anonymous(2 * HUGE_SIZE, 0);
		memcpy(mixed, stream, 2 * HUGE_SIZE);
		memcpy(mixed, rom, ROM_LEN);
		stream = mixed;
		h.first = mixed;
	}
	partner_start(&partner, e, gives, h.talk);
	ASSERT_TRUE(memory_made(&h));
	expect_two_gifts(_metadata, &h, &partner);
	do_op(&h, TRANSFER);
	expect_gifted(_metadata, &h, false);
	EXPECT_EQ(0, memcmp(h.at + ROM_LEN, stream + ROM_LEN, HUGE_SIZE - ROM_LEN));
	ASSERT_TRUE(do_op(&h, LET_GO));
	try_again(_metadata, &h, &partner);
}

TEST_F_TIMEOUT(unnamed, gift_device, TIMEOUT)
{
	try_device(_metadata, &self->e, true);
}

TEST_F_TIMEOUT(unnamed, read_into_device, TIMEOUT)
{
	try_device(_metadata, &self->e, false);
}

/*
 * The owner forks after its page was gifted, or after a page came by a read. The child must have
 * the parent's bytes of that moment, and must not see later stores of any process.
 */
static void try_child_forked_later(struct __test_metadata *_metadata, struct ends *e, bool gives)
{
	static const struct holder type = { .look = child_look, .let_go = nothing_to_do };
	struct hold h = {
		.type = &type, .e = e, .gives = gives, .first = gives ? stream : old_bytes,
		.talk = shared_alloc(sizeof(*h.talk)),
	};
	struct child partner;

	partner_start(&partner, e, gives, h.talk);
	memory_made(&h);
	expect_two_gifts(_metadata, &h, &partner);
	do_op(&h, TRANSFER);
	expect_gifted(_metadata, &h, true);
	h.first = gives && moves(e) ? map_anonymous(HUGE_SIZE, 0) : stream;
	EXPECT_TRUE(do_op(&h, HAS_FIRST));
	fork_child(&h);
	if (gives)
		EXPECT_TRUE(eventually(__atomic_load_n(&h.talk->passed, __ATOMIC_SEQ_CST)));
	do_op(&h, STORE);
	EXPECT_TRUE(ask_child(&h, LOOK));
	EXPECT_TRUE(do_op(&h, HAS_NEW));
	try_again(_metadata, &h, &partner);
	ask_child(&h, EXIT);
}

TEST_F_TIMEOUT(unnamed, fork_after_gift, TIMEOUT)
{
	try_child_forked_later(_metadata, &self->e, true);
}

TEST_F_TIMEOUT(unnamed, fork_after_read, TIMEOUT)
{
	try_child_forked_later(_metadata, &self->e, false);
}

TEST_HARNESS_MAIN
