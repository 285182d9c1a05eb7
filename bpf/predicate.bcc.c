// SPDX-License-Identifier: GPL-2.0-or-later
/* A predicate of the user's own before the rules: it takes the prefilter's first slot, see prefilter.bpf.c. bcc compiles it at
 * run time; nflowlevel/prefilter/predicate.py puts the condition in the place of the word PREDICATE, which is not to be alone on another
 * line, and nflowlevel/prefilter/compiling.py puts the maps in the place of their numbers. */

/* bcc has included the kernel's headers before this: what kernel.h says again is to be something else. */
#define __sk_buff nfl_sk_buff
#define uint64_t nfl_uint64
#undef inline
#include "kernel.h"
#include "prefilter.h"
#include "packet.h"

/* compiling.py has the same names in the same order. */
enum { MAP_STATE = 0x6e666c00, MAP_SLOTS, MAP_COUNTERS };
#define MAP(number) ((const void *)bpf_pseudo_fd(1, number))

static inline bool agrees(const struct nfl_packet *p)
{
	return
PREDICATE
	;
}

int predicate(struct __sk_buff *skb)
{
	uint32_t only = 0, key;
	struct nfl_state *mine;
	struct nfl_cell *cell;
	struct nfl_packet p;

	mine = map_lookup(MAP(MAP_STATE), &only);
	if (!mine)
		return 0;
	parse(skb, &p, mine->zero);
	if (agrees(&p)) {
		tail_call(skb, MAP(MAP_SLOTS), NFL_PREFILTER_BEHIND);
		return 0;	/* taken out at this moment: then it is in no count */
	}
	key = NFL_FILTERED_PREDICATE * NFL_CLASSES + class_of(&p);
	cell = map_lookup(MAP(MAP_COUNTERS), &key);
	if (cell) {
		__sync_fetch_and_add(&cell->packets, 1);
		__sync_fetch_and_add(&cell->bytes, p.length);
	}
	return 0;
}
