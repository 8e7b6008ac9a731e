/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What bindgen reads: the ABI. Constants that are macros with casts become Rust
 * constants by way of a C one.
 */
#include <linux/zpipe.h>

const unsigned long PIPE2 = ZPIPE_IOC_PIPE2;
const unsigned long GET_CAPACITY = ZPIPE_IOC_GET_CAPACITY;
const unsigned long SET_CAPACITY = ZPIPE_IOC_SET_CAPACITY;
const long SUPER_MAGIC = ZPIPE_SUPER_MAGIC;
