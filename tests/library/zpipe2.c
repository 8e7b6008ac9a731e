// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tests zpipe2(), with nothing but its header and plain C99. The flags and the fallback of the
 * header's example are tested by library.c, which may use more than C99.
 */
#include <zpipe2.h>
#include <stdio.h>
#include <string.h>

/* A device with this number is a zpipe, and so is a pair on the file system "zpipe". */
static int is_pair(int fd)
{
	char path[40], line[80];

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	FILE *info = fopen(path, "r");
	int found = 0;

	while (info && fgets(line, sizeof(line), info))
		found |= !strncmp(line, "zpipe-slots:", 12);
	if (info)
		fclose(info);
	return found;
}

int main(void)
{
	char bytes[9];
	int fds[2] = { -7, -8 };

	errno = 0;
	if (zpipe2(fds, 4) != -1 || errno != EINVAL || fds[0] != -7 || fds[1] != -8)
		return 1;
	if (zpipe2(fds, O_NONBLOCK))
		return 2;
	if (!is_pair(fds[0]) || !is_pair(fds[1]))
		return 3;
	if (read(fds[0], bytes, 9) != -1 || errno != EAGAIN)
		return 4;
	if (write(fds[1], "hello", 5) != 5 || read(fds[0], bytes, 9) != 5)
		return 5;
	if (memcmp(bytes, "hello", 5))
		return 6;
	/* The control device is closed. */
	if (fds[0] > 9 || fds[1] > 9 || dup(fds[0]) > 9)
		return 7;
	return 0;
}
