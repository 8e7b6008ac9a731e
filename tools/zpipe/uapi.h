/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The input of bindgen: the ABI. bindgen cannot convert macros with casts, so C constants
 * hold their values.
 */
#include <linux/zpipe.h>

const unsigned long PIPE2 = ZPIPE_IOC_PIPE2;
const unsigned long WINDOW = ZPIPE_IOC_WINDOW;
const unsigned long RESERVE = ZPIPE_IOC_RESERVE;
const unsigned long COMMIT = ZPIPE_IOC_COMMIT;
const unsigned long PEEK = ZPIPE_IOC_PEEK;
const unsigned long CONSUME = ZPIPE_IOC_CONSUME;
const long SUPER_MAGIC = ZPIPE_SUPER_MAGIC;
