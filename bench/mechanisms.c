// SPDX-License-Identifier: GPL-2.0-only
#include "bench.h"

const struct mechanism * const mechanisms[] = {
	&mechanism_pipe,
	&mechanism_pipe_again,
	&mechanism_pipe_1m,
	&mechanism_pipe_spin,
	&mechanism_fifo,
	&mechanism_vmsplice,
	&mechanism_cma,
	&mechanism_unix,
	&mechanism_memfd,
	&mechanism_shm,
	&mechanism_shm_copy,
	&mechanism_zpipe,
	&mechanism_zpipe_1m,
	&mechanism_zpipe_node,
	&mechanism_zpipe_nospin,
	&mechanism_zpipe_nodirect,
	&mechanism_zpipe_neither,
	&mechanism_zpipe_gift,
	&mechanism_zpipe_gift_read,
	&mechanism_zpipe_exchange,
	&mechanism_zpipe_fresh,
	&mechanism_zpipe_gift_small,
	&mechanism_zpipe_window,
	&mechanism_zpipe_commit_read,
	&mechanism_zpipe_write_peek,
	&mechanism_zpipe_window_gather,
};
const size_t nr_mechanisms = ARRAY_SIZE(mechanisms);
