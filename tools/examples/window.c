// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * window: a parent fills frames of a write window and commits them; its child
 * looks at them in a read window. The last 8 bytes of each frame are a sum of
 * the others, which the child checks where they are.
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
#define FRAMES	32			/* that are sent */
#define SUMMED	(ZPIPE_FRAME - 8)	/* bytes of a frame that the sum is of */
#define NO_SUM	0xcbf29ce484222325

static uint64_t add(uint64_t sum, unsigned char byte)
{
	return (sum ^ byte) * 0x100000001b3;	/* FNV-1a */
}

/* Makes a window and maps it. It is an end of the pipe itself, so @end is closed. */
static struct zpipe_window window(int end, unsigned int flag, int access, unsigned char **at)
{
	struct zpipe_window args = { .size = sizeof(args), .flags = flag, .bytes = WINDOW };

	if (ioctl(end, ZPIPE_IOC_WINDOW, &args))
		err(1, "ZPIPE_IOC_WINDOW");
	*at = mmap(NULL, args.bytes, access, MAP_SHARED, args.fd, 0);
	if (*at == MAP_FAILED)
		err(1, "mmap");
	close(end);
	return args;
}

static void writer(int end, pid_t child)
{
	unsigned long long moved = 0, copied = 0;
	struct zpipe_window own;
	unsigned char *at;
	int status;

	own = window(end, ZPIPE_WINDOW_WRITE, PROT_READ | PROT_WRITE, &at);
	for (int n = 0; n < FRAMES; n++) {
		struct zpipe_reserve reserve = { .size = sizeof(reserve), .bytes = ZPIPE_FRAME };
		struct zpipe_commit commit = { .size = sizeof(commit), .bytes = ZPIPE_FRAME };
		unsigned char *frame = at + n * ZPIPE_FRAME % WINDOW;
		uint64_t sum = NO_SUM;

		reserve.offset = frame - at;
		if (ioctl(own.fd, ZPIPE_IOC_RESERVE, &reserve))
			err(1, "ZPIPE_IOC_RESERVE");
		for (size_t i = 0; i < SUMMED; i++) {
			frame[i] = n + i / 251;
			sum = add(sum, frame[i]);
		}
		for (size_t i = 0; i < 8; i++)
			frame[SUMMED + i] = sum >> 8 * i;
		/* As write(2), it may write less. */
		commit.offset = reserve.offset;
		for (; commit.bytes; commit.bytes -= commit.done) {
			if (ioctl(own.fd, ZPIPE_IOC_COMMIT, &commit))
				err(1, "ZPIPE_IOC_COMMIT");
			moved += commit.moved;
			copied += commit.copied;
			commit.offset += commit.done;
		}
	}
	/* The end of the data. */
	munmap(at, own.bytes);
	close(own.fd);
	if (waitpid(child, &status, 0) != child || status)
		errx(1, "the reader failed");
	printf("C: %d frames: %llu bytes moved, %llu copied, all sums right\n", FRAMES, moved,
	       copied);
}

static void reader(int end)
{
	struct zpipe_view views[16];
	struct zpipe_peek peek = { .size = sizeof(peek), .views = (uintptr_t)views };
	uint64_t bytes = 0, sum = NO_SUM;
	unsigned char *at;
	struct zpipe_window own = window(end, ZPIPE_WINDOW_READ, PROT_READ, &at);

	do {
		/* What was shown is done with, and all that is behind it may be shown. */
		peek.consume = peek.bytes;
		peek.bytes = 0;
		peek.nr_views = 16;
		if (ioctl(own.fd, ZPIPE_IOC_PEEK, &peek))
			err(1, "ZPIPE_IOC_PEEK");
		/* A view ends at the end of a frame, or anywhere if its bytes were copied. */
		for (struct zpipe_view *view = views; view < views + peek.nr_views; view++) {
			for (uint64_t i = 0; i < view->bytes; i++, bytes++) {
				unsigned char byte = at[view->offset + i];
				uint64_t place = bytes % ZPIPE_FRAME;

				if (!place)
					sum = NO_SUM;
				if (place < SUMMED)
					sum = add(sum, byte);
				else if (byte != (sum >> 8 * (place - SUMMED) & 0xff))
					errx(1, "frame %ju is wrong", bytes / ZPIPE_FRAME);
			}
		}
	} while (peek.bytes);
	if (bytes != FRAMES * ZPIPE_FRAME)
		errx(1, "%ju bytes came", bytes);
}

int main(void)
{
	struct zpipe_pipe2 pair = { .size = sizeof(pair), .flags = O_CLOEXEC };
	int control = open("/dev/zpipe-control", O_RDWR | O_CLOEXEC);
	pid_t child;

	if (control < 0 || ioctl(control, ZPIPE_IOC_PIPE2, &pair))
		err(1, "/dev/zpipe-control");
	/* The mapping of a window is not inherited: each has to make its own. */
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
