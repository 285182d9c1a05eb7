// SPDX-License-Identifier: GPL-2.0-or-later
/* The prefilter: which packets a rule logs. Socket filters, as the xtables match `bpf` runs them: 1 is a match.
 *
 * A firewall's rule names `dispatch`, which never changes. It calls what is in the first slot: `filter` over a generation of
 * rules. A change of the rules is another generation, loaded beside the old one, that takes the slot by one store: a packet
 * sees the old rules or the new. Counters and what is known of sources and flows belong to all generations.
 *
 * A predicate of the user's own takes the first slot; it calls slot NFL_PREFILTER_BEHIND, where `filter` then is, or counts the
 * packet as NFL_FILTERED_PREDICATE and returns 0. */
#include "kernel.h"
#include "prefilter.h"
#include "packet.h"

const volatile struct nfl_rules rules SEC(".rodata");

#define MAP(name, type, key_size, value_size, entries, flags) \
	struct map_definition name SEC("maps") = { type, key_size, value_size, entries, flags }

/* Of a generation. Networks of few lengths are in hashes instead. */
MAP(networks4, MAP_LPM_TRIE, sizeof(struct nfl_network4), sizeof(uint32_t), 1, MAP_NO_PREALLOC);
MAP(networks6, MAP_LPM_TRIE, sizeof(struct nfl_network6), sizeof(uint32_t), 1, MAP_NO_PREALLOC);
MAP(port_sets, MAP_ARRAY, sizeof(uint32_t), sizeof(uint64_t), NFL_PREFILTER_SETS, MAP_READ_ONLY);
/* Of all generations. */
MAP(slots, MAP_PROG_ARRAY, sizeof(uint32_t), sizeof(uint32_t), NFL_PREFILTER_SLOTS, 0);
MAP(counters, MAP_PERCPU_ARRAY, sizeof(uint32_t), sizeof(struct nfl_cell), NFL_REASONS * NFL_CLASSES, 0);
MAP(state, MAP_PERCPU_ARRAY, sizeof(uint32_t), sizeof(struct nfl_state), 1, 0);
MAP(sources, MAP_LRU_HASH, sizeof(((struct nfl_flow_key *)0)->saddr), sizeof(struct nfl_source), 1, 0);
MAP(flows, MAP_LRU_HASH, sizeof(struct nfl_flow_key), sizeof(uint64_t), 1, 0);
MAP(ports_seen, MAP_ARRAY, sizeof(uint32_t), sizeof(uint64_t), 3 << 16, MAP_MMAPABLE);
MAP(global, MAP_ARRAY, sizeof(uint32_t), sizeof(uint64_t), 1, 0);
/* Of the tests. */
MAP(parsed, MAP_ARRAY, sizeof(uint32_t), sizeof(struct nfl_packet), 1, 0);

char _license[] SEC("license") = "GPL";

/* Sets are reached by keys or by constant offsets, not by a pointer with a variable one: to a process without CAP_PERFMON the
 * verifier then gives up before it is through. */
static inline bool in_protocols(uint8_t protocol)
{
	uint64_t word;

	if (protocol < 64)
		word = rules.protocols[0];
	else if (protocol < 128)
		word = rules.protocols[1];
	else if (protocol < 192)
		word = rules.protocols[2];
	else
		word = rules.protocols[3];
	return word >> (protocol & 63) & 1;
}

static inline bool in_ports(uint32_t set, uint16_t port)
{
	uint32_t key = set + (port >> 6);
	const uint64_t *word = map_lookup(&port_sets, &key);

	return word && *word >> (port & 63) & 1;
}

/* The steps that the networks around an address ask for. A trie costs a look at each of up to 15 nodes where there are
 * 10,000 networks, a hash one look per length of networks. */
static inline uint32_t networks4_around(uint32_t address)
{
	struct nfl_network4 key = { 32, address };
	const uint32_t *steps;

	if (!rules.prefixes4[0].used) {
		steps = map_lookup(&networks4, &key);
		return steps ? *steps : 0;
	}
#pragma unroll
	for (int i = 0; i < NFL_PREFILTER_PREFIXES; i++) {
		if (!rules.prefixes4[i].used)
			break;
		key.length = rules.prefixes4[i].length;
		key.address = address & rules.prefixes4[i].mask[0];
		steps = map_lookup(&networks4, &key);
		if (steps)
			return *steps;
	}
	return 0;
}

static inline uint32_t networks6_around(const uint32_t *address)
{
	struct nfl_network6 key = { 128, { address[0], address[1], address[2], address[3] } };
	const uint32_t *steps;

	if (!rules.prefixes6[0].used) {
		steps = map_lookup(&networks6, &key);
		return steps ? *steps : 0;
	}
#pragma unroll
	for (int i = 0; i < NFL_PREFILTER_PREFIXES; i++) {
		if (!rules.prefixes6[i].used)
			break;
		key.length = rules.prefixes6[i].length;
		key.address[0] = address[0] & rules.prefixes6[i].mask[0];
		key.address[1] = address[1] & rules.prefixes6[i].mask[1];
		key.address[2] = address[2] & rules.prefixes6[i].mask[2];
		key.address[3] = address[3] & rules.prefixes6[i].mask[3];
		steps = map_lookup(&networks6, &key);
		if (steps)
			return *steps;
	}
	return 0;
}

static inline uint32_t networks(const struct nfl_packet *p, const uint32_t *address)
{
	if (p->flow.family == 4)
		return networks4_around(address[3]);
	return p->flow.family == 6 ? networks6_around(address) : 0;
}

/* What only looks at the packet: NFL_LOGGED, or why it is filtered. */
static inline enum nfl_reason fits(const struct nfl_packet *p)
{
	uint32_t steps = rules.steps, found = 0;

	if (steps & NFL_STEP_PROTOCOLS && !(p->known & NFL_KNOWN_PROTOCOL && in_protocols(p->flow.protocol)))
		return NFL_FILTERED_PROTOCOL;
	if (steps & NFL_STEP_DPORTS && !(p->known & NFL_KNOWN_PORTS && in_ports(NFL_PREFILTER_SETS / 2, p->flow.dport)))
		return NFL_FILTERED_PORT;
	if (steps & NFL_STEP_SPORTS && !(p->known & NFL_KNOWN_PORTS && in_ports(0, p->flow.sport)))
		return NFL_FILTERED_PORT;
	if (steps & NFL_STEP_FLAGS &&
	    !(p->known & NFL_KNOWN_FLAGS && (p->tcp_flags & rules.tcp_mask) == rules.tcp_flags))
		return NFL_FILTERED_FLAGS;
	if (steps & (NFL_STEP_IGNORE_SOURCE | NFL_STEP_ONLY_SOURCE))
		found = networks(p, p->flow.saddr) & (NFL_STEP_IGNORE_SOURCE | NFL_STEP_ONLY_SOURCE);
	if (steps & (NFL_STEP_IGNORE_DESTINATION | NFL_STEP_ONLY_DESTINATION))
		found |= networks(p, p->flow.daddr) & (NFL_STEP_IGNORE_DESTINATION | NFL_STEP_ONLY_DESTINATION);
	if (found & (NFL_STEP_IGNORE_SOURCE | NFL_STEP_IGNORE_DESTINATION))
		return NFL_FILTERED_IGNORED;
	if (steps & ~found & (NFL_STEP_ONLY_SOURCE | NFL_STEP_ONLY_DESTINATION))
		return NFL_FILTERED_OUTSIDE;
	return NFL_LOGGED;
}

/* A token bucket in one number (GCRA): the time when it is full again. What it cannot be under these rules is left from
 * others: it begins anew. After four lost races against other CPUs the packet is taken for one too many. */
static inline bool conforms(uint64_t *full_at, uint64_t now, uint64_t interval, uint64_t tolerance)
{
#pragma unroll
	for (int i = 0; i < 4; i++) {
		uint64_t old = *(volatile uint64_t *)full_at, base = old;

		if (old < now || old - now > tolerance + interval)
			base = now;
		if (base - now > tolerance)
			return false;
		if (__sync_val_compare_and_swap(full_at, old, base + interval) == old)
			return true;
	}
	return false;
}

/* What is known of the packet's source; NULL where there is no room for a new one. */
static inline struct nfl_source *source_of(const struct nfl_packet *p)
{
	struct nfl_source *source, fresh = { 0 };
	uint32_t key[4];

	if (p->flow.family == 4) {
		key[0] = key[1] = 0;
		key[2] = p->flow.saddr[2];
		key[3] = p->flow.saddr[3] & rules.source_mask4;
	} else {
		key[0] = p->flow.saddr[0] & rules.source_mask6[0];
		key[1] = p->flow.saddr[1] & rules.source_mask6[1];
		key[2] = p->flow.saddr[2] & rules.source_mask6[2];
		key[3] = p->flow.saddr[3] & rules.source_mask6[3];
	}
	source = map_lookup(&sources, key);
	if (source)
		return source;
	/* Another CPU may have been faster: then its entry stays. */
	map_update(&sources, key, &fresh, UPDATE_NOEXIST);
	return map_lookup(&sources, key);
}

static inline void count_port(const struct nfl_packet *p)
{
	uint32_t index = p->flow.dport;
	uint64_t *packets;

	if (p->flow.protocol == PROTO_UDP)
		index |= 1 << 16;
	else if (p->flow.protocol == PROTO_SCTP)
		index |= 2 << 16;
	else if (p->flow.protocol != PROTO_TCP)
		return;
	packets = map_lookup(&ports_seen, &index);
	if (packets)
		__sync_fetch_and_add(packets, 1);
}

/* What remembers: sampling, limits, flows. A token is spent even where a later step refuses the packet; a flow begins only
 * with a packet that is logged. */
static inline enum nfl_reason thin(const struct nfl_packet *p, struct nfl_state *mine)
{
	uint64_t now = 0, seen_at = 0, *logged_at = NULL, *full_at;
	uint32_t steps = rules.steps, only = 0;
	struct nfl_source *source = NULL;

	if (steps & NFL_STEP_TOP) {
		source = source_of(p);
		if (source) {
			__sync_fetch_and_add(&source->packets, 1);
			__sync_fetch_and_add(&source->bytes, p->length);
		}
		if (p->known & NFL_KNOWN_PORTS)
			count_port(p);
	}
	/* Divided in 32 bits, which is faster: once in 4 billion packets one sample comes early. */
	if (steps & NFL_STEP_SAMPLE && (uint32_t)__sync_fetch_and_add(&mine->ticks, 1) % (uint32_t)rules.sample)
		return NFL_SAMPLED_OUT;
	if (steps & (NFL_STEP_FLOW | NFL_STEP_RATE | NFL_STEP_GLOBAL_RATE))
		now = steps & NFL_STEP_COARSE ? now_coarse_ns() : now_ns();
	if (steps & NFL_STEP_FLOW) {
		logged_at = map_lookup(&flows, &p->flow);
		if (logged_at) {
			seen_at = *(volatile uint64_t *)logged_at;
			if (now - seen_at < rules.flow_ns)
				return NFL_LIMITED_FLOW;
		}
	}
	if (steps & NFL_STEP_RATE) {
		if (!source)
			source = source_of(p);
		if (source && !conforms(&source->full_at, now, rules.interval_ns, rules.tolerance_ns))
			return NFL_LIMITED_SOURCE;
	}
	if (steps & NFL_STEP_GLOBAL_RATE) {
		full_at = map_lookup(&global, &only);
		if (full_at && !conforms(full_at, now, rules.global_interval_ns, rules.global_tolerance_ns))
			return NFL_LIMITED_GLOBAL;
	}
	if (steps & NFL_STEP_FLOW) {
		if (!logged_at)
			map_update(&flows, &p->flow, &now, UPDATE_ANY);
		else if (__sync_val_compare_and_swap(logged_at, seen_at, now) != seen_at)
			return NFL_LIMITED_FLOW;
	}
	return NFL_LOGGED;
}

/* Atomic although it is this CPU's own: in OUTPUT a packet of a process may be interrupted by one that comes in. */
static inline void count(const struct nfl_packet *p, enum nfl_reason reason)
{
	uint32_t key = reason * NFL_CLASSES + class_of(p);
	struct nfl_cell *cell = map_lookup(&counters, &key);

	if (!cell)
		return;
	__sync_fetch_and_add(&cell->packets, 1);
	__sync_fetch_and_add(&cell->bytes, p->length);
}

SEC("socket/filter")
int filter(struct __sk_buff *skb)
{
	enum nfl_reason reason;
	struct nfl_state *mine;
	uint32_t only = 0;
	struct nfl_packet p;

	mine = map_lookup(&state, &only);
	if (!mine)
		return 0;
	parse(skb, &p, mine->zero);
	reason = fits(&p);
	if (reason == NFL_LOGGED)
		reason = thin(&p, mine);
	count(&p, reason);
	return reason == NFL_LOGGED;
}

SEC("socket/dispatch")
int dispatch(struct __sk_buff *skb)
{
	tail_call(skb, &slots, 0);
	return 0;
}

/* For the tests: what `filter` knows of a packet. */
SEC("socket/parse")
int parse_only(struct __sk_buff *skb)
{
	uint32_t only = 0;
	struct nfl_packet p;

	parse(skb, &p, 0);
	map_update(&parsed, &only, &p, UPDATE_ANY);
	return 1;
}
