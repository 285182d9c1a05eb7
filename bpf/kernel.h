/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What of the kernel's interface the programs use, so that clang alone builds them: no kernel headers, no libbpf.
 * Numbers are those of include/uapi/linux/bpf.h, if_ether.h and in.h, which never change. */
#pragma once

typedef __UINT8_TYPE__ uint8_t;
typedef __UINT16_TYPE__ uint16_t;
typedef __UINT32_TYPE__ uint32_t;
typedef __UINT64_TYPE__ uint64_t;
typedef _Bool bool;

#define true 1
#define false 0
#define NULL ((void *)0)

#define SEC(name) __attribute__((section(name), used))
#define inline inline __attribute__((always_inline))

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define be16(x) __builtin_bswap16(x)
#define be32(x) __builtin_bswap32(x)
#else
#define be16(x) (x)
#define be32(x) (x)
#endif

/* struct __sk_buff: only its beginning, as far as the programs look. */
struct __sk_buff {
	uint32_t len, pkt_type, mark, queue_mapping, protocol;
};

/* What binding/elf.py reads in the section "maps". */
struct map_definition {
	uint32_t type, key_size, value_size, max_entries, flags;
};

enum { MAP_ARRAY = 2, MAP_PROG_ARRAY = 3, MAP_PERCPU_ARRAY = 6, MAP_LRU_HASH = 9, MAP_LPM_TRIE = 11 };
enum { MAP_NO_PREALLOC = 1, MAP_READ_ONLY = 128, MAP_MMAPABLE = 1024 };	/* BPF_F_NO_PREALLOC, _RDONLY_PROG, _MMAPABLE */
enum { UPDATE_ANY = 0, UPDATE_NOEXIST = 1 };	/* BPF_ANY, BPF_NOEXIST */

enum { TYPE_IPV4 = 0x0800, TYPE_VLAN = 0x8100, TYPE_IPV6 = 0x86dd, TYPE_QINQ = 0x88a8 };

enum {
	PROTO_HOPOPTS = 0, PROTO_ICMP = 1, PROTO_TCP = 6, PROTO_UDP = 17, PROTO_ROUTING = 43, PROTO_FRAGMENT = 44,
	PROTO_AH = 51, PROTO_ICMPV6 = 58, PROTO_NONE = 59, PROTO_DSTOPTS = 60, PROTO_SCTP = 132, PROTO_MOBILITY = 135,
	PROTO_UDPLITE = 136, PROTO_HIP = 139, PROTO_SHIM6 = 140
};

static void *(*map_lookup)(const void *map, const void *key) = (void *)1;
static long (*map_update)(const void *map, const void *key, const void *value, uint64_t flags) = (void *)2;
static uint64_t (*now_ns)(void) = (void *)5;
static uint64_t (*now_coarse_ns)(void) = (void *)160;	/* Linux 5.11: the same clock as of the last tick */
static long (*tail_call)(void *ctx, const void *programs, uint32_t index) = (void *)12;
static long (*skb_load)(const void *skb, uint32_t offset, void *to, uint32_t length) = (void *)26;
