/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What the prefilter's programs and Python share: rules, counters and the parsed packet.
 * This file is read three times: by clang for BPF, by the C compiler and by cffi, which takes no preprocessor lines. */

enum nfl_prefilter_limits {
	NFL_PREFILTER_LAYOUT = 1,	/* of all that is pinned; another number is another layout */
	NFL_PREFILTER_SLOTS = 8,	/* programs behind the dispatcher; it calls number 0 */
	NFL_PREFILTER_BEHIND = 1,	/* where `filter` is when a predicate stands before it, in number 0 */
	NFL_PREFILTER_EXTENSIONS = 10,	/* IPv6 extension headers that are walked */
	NFL_PREFILTER_PREFIXES = 4,	/* lengths of networks that are looked for one by one, at most */
	NFL_PREFILTER_SETS = 2048	/* words of 64 ports: source ports, then destination ports */
};

/* What became of a packet, and why. The order is that of the decision from its end. */
enum nfl_reason {
	NFL_LOGGED,
	NFL_SAMPLED_OUT,
	NFL_LIMITED_SOURCE,		/* its source sends more than `rate` */
	NFL_LIMITED_GLOBAL,		/* all sources together send more than `global_rate` */
	NFL_LIMITED_FLOW,		/* one of its flow was logged within `first_of_flow` */
	NFL_FILTERED_IGNORED,		/* a network in `ignore` or `ignore_dst` */
	NFL_FILTERED_OUTSIDE,		/* no network in `only` or `only_dst` */
	NFL_FILTERED_PROTOCOL,
	NFL_FILTERED_PORT,
	NFL_FILTERED_FLAGS,
	NFL_FILTERED_PREDICATE,		/* a predicate of the user's own said no */
	NFL_REASONS
};

/* What packets are counted as. */
enum nfl_class {
	NFL_CLASS_TCP, NFL_CLASS_UDP, NFL_CLASS_ICMP, NFL_CLASS_ICMPV6, NFL_CLASS_SCTP,
	NFL_CLASS_OTHER,		/* IP with another protocol */
	NFL_CLASS_UNKNOWN,		/* no IP, or cut or wrong before its protocol is known */
	NFL_CLASS_RESERVED,
	NFL_CLASSES
};

/* Steps of the decision that are on: bits of nfl_rules.steps. */
enum nfl_step {
	NFL_STEP_IGNORE_SOURCE = 1, NFL_STEP_ONLY_SOURCE = 2, NFL_STEP_IGNORE_DESTINATION = 4,
	NFL_STEP_ONLY_DESTINATION = 8,	/* these four are also what a network's value holds */
	NFL_STEP_PROTOCOLS = 16, NFL_STEP_SPORTS = 32, NFL_STEP_DPORTS = 64, NFL_STEP_FLAGS = 128,
	NFL_STEP_SAMPLE = 256, NFL_STEP_RATE = 512, NFL_STEP_GLOBAL_RATE = 1024, NFL_STEP_FLOW = 2048,
	NFL_STEP_TOP = 4096,
	NFL_STEP_COARSE = 8192		/* the time of the last tick will do, at a fifth of the price */
};

/* A length that networks have, and its mask in network order; IPv4: in the first word. */
struct nfl_prefix {
	uint32_t used, length, mask[4];
};

/* A generation of the rules: read-only and frozen, so that the verifier sees constants and drops the steps that are off. */
struct nfl_rules {
	uint32_t steps;
	uint8_t tcp_mask, tcp_flags;		/* (flags & mask) == flags */
	uint16_t reserved;
	uint64_t sample;			/* 1 in so many */
	uint64_t interval_ns, tolerance_ns;	/* of a source: 1 / rate, and (burst - 1) / rate */
	uint64_t global_interval_ns, global_tolerance_ns;
	uint64_t flow_ns;
	uint32_t source_mask4;			/* network order, as the next */
	uint32_t source_mask6[4];
	uint32_t reserved2;
	uint64_t protocols[4];			/* bit n & 63 of word n >> 6 */
	/* All lengths of the networks, the longest first, where these are in a hash; none where they are in a trie. */
	struct nfl_prefix prefixes4[NFL_PREFILTER_PREFIXES], prefixes6[NFL_PREFILTER_PREFIXES];
};

/* Keys of the networks; the value is a uint32_t of steps, those of the networks around it included. */
struct nfl_network4 {
	uint32_t length;
	uint32_t address;
};

struct nfl_network6 {
	uint32_t length;
	uint32_t address[4];
};

/* Per CPU. Each packet is counted in one cell: reason * NFL_CLASSES + class. */
struct nfl_cell {
	uint64_t packets, bytes;
};

/* Per CPU. */
struct nfl_state {
	uint64_t ticks;				/* packets that came to the sampling */
	uint64_t zero;				/* always; the verifier does not know it */
};

/* What is known of a source; its key is an address of 16 bytes, IPv4 as ::ffff:a.b.c.d, cut to the prefix. */
struct nfl_source {
	uint64_t full_at;			/* GCRA: when its bucket is full again, by the monotonic clock */
	uint64_t packets, bytes;		/* what it sent since it is known, before sampling and limits */
};

/* Addresses and words of addresses are in network order; ports in host order, zero where there are none. */
struct nfl_flow_key {
	uint32_t saddr[4], daddr[4];		/* IPv4: as ::ffff:a.b.c.d */
	uint16_t sport, dport;
	uint8_t protocol;
	uint8_t family;				/* 4, 6, or 0: no IP */
	uint8_t zero[2];
};

enum nfl_known { NFL_KNOWN_PROTOCOL = 1, NFL_KNOWN_PORTS = 2, NFL_KNOWN_FLAGS = 4, NFL_KNOWN_ICMP = 8 };

/* A packet as the programs see it. */
struct nfl_packet {
	struct nfl_flow_key flow;
	uint32_t length;			/* bytes, from the network header on */
	uint8_t known;				/* nfl_known */
	uint8_t tcp_flags, ttl, icmp_type, icmp_code;
	uint8_t reserved[3];
};
