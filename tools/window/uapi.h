/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What bindgen reads: the ABI. Constants that are macros with casts become Rust
 * constants by way of a C one.
 */
#include <linux/zpipe.h>

const unsigned long PIPE2 = ZPIPE_IOC_PIPE2;
const unsigned long WINDOW = ZPIPE_IOC_WINDOW;
const unsigned long RESERVE = ZPIPE_IOC_RESERVE;
const unsigned long COMMIT = ZPIPE_IOC_COMMIT;
const unsigned long PEEK = ZPIPE_IOC_PEEK;
const unsigned long CONSUME = ZPIPE_IOC_CONSUME;
const long SUPER_MAGIC = ZPIPE_SUPER_MAGIC;
