/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The input of bindgen: the ABI. bindgen cannot convert macros with casts, so C constants
 * hold their values.
 */
#include <linux/zpipe.h>

const unsigned int PIPE2 = ZPIPE_IOC_PIPE2;
const unsigned int GET_CAPACITY = ZPIPE_IOC_GET_CAPACITY;
const unsigned int SET_CAPACITY = ZPIPE_IOC_SET_CAPACITY;
const unsigned int SPLICE_TO = ZPIPE_IOC_SPLICE_TO;
const unsigned int SPLICE_FROM = ZPIPE_IOC_SPLICE_FROM;
const unsigned int TEE = ZPIPE_IOC_TEE;
const unsigned int GIFT = ZPIPE_IOC_GIFT;
const unsigned int MOVE = ZPIPE_IOC_MOVE;
const long SUPER_MAGIC = ZPIPE_SUPER_MAGIC;
