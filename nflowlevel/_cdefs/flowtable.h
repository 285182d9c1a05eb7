/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A table of flows: what was last known of each, and what was reported of it. It turns events and dumps of conntrack into records
 * whose sum is what the kernel has counted. It allocates nothing: its owner gives it the memory, zeroed.
 * This file is read twice: by the C compiler and by cffi, which takes no preprocessor lines.
 */

enum nfl_flow_entry_state {
	NFL_FLOW_FREE,
	NFL_FLOW_LIVE,
	NFL_FLOW_OLD,		/* live, and older than the listener: the kernel may never tell of its end */
	NFL_FLOW_ENDED		/* reported as ended without the kernel's word; kept in case that comes */
};

struct nfl_flow_entry {
	struct nfl_flow flow;	/* as last seen: counters are the kernel's */
	uint64_t reported[4];	/* orig bytes, orig packets, reply bytes, reply packets; a record has the difference, modulo 2^64 */
	uint64_t since_ns;	/* when the last record was made, or when it became known; of nfl_flowtable.clock_ns */
	uint32_t hash;
	uint32_t next;		/* in its chain, or of the free ones: number + 1 */
	uint32_t generation;	/* of the dump in which it was seen last, or during which it became known */
	uint32_t state;
};

struct nfl_flowtable {
	struct nfl_flow_entry *entries;	/* `capacity` */
	uint32_t *heads;		/* mask + 1: number + 1 of the first entry of a chain */
	uint64_t *past[2];		/* past_mask + 1 each: fingerprints of flows whose end was reported */
	uint64_t seed;
	uint64_t real_ns, clock_ns;	/* now: since 1970, and of a clock that is never set. The owner sets both before each call */
	uint64_t valid_any, valid_all;	/* nfl_flow.valid of the records made, joined by or and by and. The owner sets them */
	uint32_t capacity, mask, past_mask;
	uint32_t keep;			/* 0: nothing is known, each event is a record */
	uint32_t sees_new;		/* NEW is listened for: an end without a beginning may be told from one told twice */
	uint32_t top;			/* entries below were used */
	uint32_t free;			/* number + 1 of the first free one */
	uint32_t count;			/* entries in use */
	uint32_t old;			/* of those: older than the listener */
	uint32_t generation;		/* of the last dump that was begun */
	uint32_t cursor;		/* where nfl_flowtable_scan goes on; it is through when this is not below top */
	uint32_t past_count, past_now;
	uint64_t unmatched;		/* ends of flows that were not known */
	uint64_t untracked;		/* flows for which there was no room */
	uint64_t repeated;		/* ends that were told more than once */
	uint64_t replaced;		/* flows that another one of the same number and tuple has replaced */
	uint64_t presumed;		/* flows that a dump did not show, reported with what was known */
	uint64_t returned;		/* of those: the kernel had more to tell after all */
	uint64_t reset;			/* counters that fell: another program has set them to zero */
};

/* What nfl_flowtable_scan looks for. */
struct nfl_flow_scan {
	uint64_t since_ns;		/* report what goes on and has had no record since; 0: nothing, UINT64_MAX: all */
	uint64_t forget_ns;		/* forget what has ended before, of clock_ns */
	uint8_t gone;			/* report, and end, what the last dump has not shown */
	uint8_t wait;			/* but wait for the kernel's word where it must come */
	uint8_t idle;			/* report also what has counted nothing since */
	uint8_t reason;			/* enum nfl_flow_end, for what goes on */
	uint8_t ends;			/* what goes on ends here: its records are the last */
};

/* Take events in their order; the number of records made. `out` has room for 2 * count; where nothing is kept, it may be `events`. */
uint32_t nfl_flowtable_take(struct nfl_flowtable *table, const struct nfl_flow *events, uint32_t count, struct nfl_flow *out);

/* A dump begins. */
void nfl_flowtable_begin(struct nfl_flowtable *table);

/* Take a piece of a dump; the number of records made. `out` has room for `count`. The kernel may never tell of the end of a flow that
 * began before `listening_ns`, since 1970. */
uint32_t nfl_flowtable_list(struct nfl_flowtable *table, const struct nfl_flow *flows, uint32_t count, uint64_t listening_ns,
			    struct nfl_flow *out);

/* Go on from the cursor until the table's end, or until `out` is full; the number of records made. */
uint32_t nfl_flowtable_scan(struct nfl_flowtable *table, const struct nfl_flow_scan *scan, struct nfl_flow *out, uint32_t room);

/* What has to be known of a flow that was reported in part, when somebody else goes on with it. */
struct nfl_flow_kept {
	struct nfl_flow flow;
	uint64_t reported[4];
};

/* Save what goes on and was reported in part, from the cursor on; the number of flows. */
uint32_t nfl_flowtable_save(struct nfl_flowtable *table, struct nfl_flow_kept *out, uint32_t room);

/* Know what was saved; before the first dump. The number of flows that there was room for; what no run can have saved is left out. */
uint32_t nfl_flowtable_restore(struct nfl_flowtable *table, const struct nfl_flow_kept *kept, uint32_t count);

/* Which flows are wanted: those whose original direction is from one of the sources, to one of the targets and of one of the
 * protocols. An empty list wants all. */
struct nfl_flow_network { uint8_t family, address[16], mask[16]; };

struct nfl_flow_accept {
	const struct nfl_flow_network *sources, *targets;
	uint32_t source_count, target_count;
	uint8_t any_protocol;
	uint8_t protocols[256];
};

/* Move the wanted ones together; their number. */
uint32_t nfl_flows_accept(const struct nfl_flow_accept *accept, struct nfl_flow *records, uint32_t count);
