// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * window: a parent fills frames of a write window and commits them. Its child peeks at them
 * in a read window. The last 8 bytes of each frame are a sum of the other bytes. The child
 * checks it in place.
 */
#include <err.h>
#include <fcntl.h>
#include <linux/zpipe.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define WINDOW	(4 * ZPIPE_FRAME)	/* bytes of the windows */
#define SUMMED	(ZPIPE_FRAME - 8)	/* bytes of a frame that the sum covers */
#define FRAMES	32			/* number of frames to send */
#define FNV_1A	0xcbf29ce484222325	/* the sum of no bytes */

static uint64_t add(uint64_t sum, unsigned char byte)
{
	return (sum ^ byte) * 0x100000001b3;
}

static void command(int fd, unsigned long number, void *args, const char *what)
{
	if (ioctl(fd, number, args))
		err(1, "%s", what);
}

/*
 * Makes a window and maps it. The window is an end of the pipe itself, so @end is closed.
 */
static struct zpipe_window map(int end, int flag, int prot, unsigned char **at)
{
	struct zpipe_window args = {
		.size = sizeof(args), .flags = flag, .bytes = WINDOW,
	};

	command(end, ZPIPE_IOC_WINDOW, &args, "window");
	close(end);
	*at = mmap(NULL, args.bytes, prot, MAP_SHARED, args.fd, 0);
	if (*at == MAP_FAILED)
		err(1, "mmap");
	return args;
}

static void fill(unsigned char *frame, int n)
{
	uint64_t sum = FNV_1A + n;

	for (size_t i = 0; i < SUMMED; i++) {
		frame[i] = n + i / 251;
		sum = add(sum, frame[i]);
	}
	for (size_t i = 0; i < 8; i++)
		frame[SUMMED + i] = sum >> 8 * i;
}

static void writer(int end, pid_t child)
{
	struct zpipe_reserve reserve = { .size = sizeof(reserve) };
	struct zpipe_commit commit = { .size = sizeof(commit) };
	struct zpipe_window own;
	unsigned char *at;
	uint64_t moved = 0, copied = 0;
	int status;

	own = map(end, ZPIPE_WINDOW_WRITE, PROT_READ | PROT_WRITE, &at);
	for (int n = 0; n < FRAMES; n++) {
		reserve.offset = n * ZPIPE_FRAME % WINDOW;
		reserve.bytes = ZPIPE_FRAME;
		command(own.fd, ZPIPE_IOC_RESERVE, &reserve, "reserve");
		fill(at + reserve.offset, n);
		/* Like write(2), a commit may write less. */
		commit.offset = reserve.offset;
		commit.bytes = ZPIPE_FRAME;
		while (commit.bytes) {
			command(own.fd, ZPIPE_IOC_COMMIT, &commit, "commit");
			commit.offset += commit.done;
			commit.bytes -= commit.done;
			moved += commit.moved;
			copied += commit.copied;
		}
	}
	/* Closing the window ends the data. */
	munmap(at, own.bytes);
	close(own.fd);
	if (waitpid(child, &status, 0) != child || status)
		errx(1, "the reader failed");
	printf("C: %d frames: %ju bytes moved, %ju copied, all sums right\n",
	       FRAMES, moved, copied);
}

/*
 * Checks bytes that come after the first @all bytes. A view may begin and end anywhere in a
 * frame.
 */
static void check(uint64_t all, const unsigned char *at, uint64_t bytes)
{
	static uint64_t sum;

	for (const unsigned char *end = at + bytes; at < end; at++, all++) {
		uint64_t place = all % ZPIPE_FRAME, n = all / ZPIPE_FRAME;

		if (place < SUMMED)
			sum = add(place ? sum : FNV_1A + n, *at);
		else if (*at != (sum >> 8 * (place - SUMMED) & 0xff))
			errx(1, "frame %ju is wrong", n);
	}
}

static void reader(int end)
{
	struct zpipe_view views[16];
	struct zpipe_peek peek = { .size = sizeof(peek) };
	struct zpipe_window own;
	unsigned char *at;
	uint64_t all = 0;

	own = map(end, ZPIPE_WINDOW_READ, PROT_READ, &at);
	do {
		/* Consume the bytes in view, and show the next ones. */
		peek.consume = peek.bytes;
		peek.bytes = 0;
		peek.views = (uintptr_t)views;
		peek.nr_views = 16;
		command(own.fd, ZPIPE_IOC_PEEK, &peek, "peek");
		for (unsigned int i = 0; i < peek.nr_views; i++) {
			check(all, at + views[i].offset, views[i].bytes);
			all += views[i].bytes;
		}
	} while (peek.bytes);
	if (all != FRAMES * ZPIPE_FRAME)
		errx(1, "%ju bytes came", all);
}

int main(void)
{
	struct zpipe_pipe2 pair = { .size = sizeof(pair), .flags = O_CLOEXEC };
	int control = open("/dev/zpipe-control", O_RDWR | O_CLOEXEC);
	pid_t child;

	command(control, ZPIPE_IOC_PIPE2, &pair, "/dev/zpipe-control");
	/* fork() does not copy the mapping of a window, so each process makes its own. */
	child = fork();
	if (child < 0)
		err(1, "fork");
	close(pair.fds[child ? 0 : 1]);
	if (child)
		writer(pair.fds[1], child);
	else
		reader(pair.fds[0]);
	return 0;
}
