// SPDX-License-Identifier: GPL-2.0-or-later
/* Events and dumps of conntrack to records that add up.
 *
 * The kernel's counters are read and never reset: a dump that resets them loses what it had no room to tell. A record has what a
 * flow has counted since its record before; all arithmetic is modulo 2^64, so a counter that somebody else has reset only moves
 * what it is compared with.
 *
 * A flow is its number, its original tuple, its zone and its beginning, as the kernel stamps it: the number alone is not unique, and
 * a tuple that comes again can get the number it had. Without stamps a flow is known by the rest. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <linux/netfilter/nf_conntrack_common.h>

#include "flow.h"
#include "flowtable.h"

#define BIT(n) (1ULL << NFL_FLOW_##n)
#define NS_PER_SEC 1000000000ULL
#define MULTIPLIER 0x9e3779b97f4a7c15ULL

/* So many events are foreseen. */
enum { AHEAD = 8 };

static inline uint64_t mix(uint64_t hash, uint64_t word)
{
	hash = (hash ^ word) * MULTIPLIER;
	return hash ^ hash >> 32;
}

static uint64_t key_of(const struct nfl_flowtable *table, const struct nfl_flow *f)
{
	uint64_t words[4], hash = table->seed;

	memcpy(words, f->orig_ip_saddr, sizeof(words));	/* and orig_ip_daddr, which follows */
	hash = mix(hash, (uint64_t)f->ct_id << 32 | (uint32_t)f->ct_zone << 16 | (uint32_t)f->orig_ip_protocol << 8 |
			 f->oob_family);
	hash = mix(hash, (uint64_t)f->orig_l4_sport << 48 | (uint64_t)f->orig_l4_dport << 32 |
			 (uint32_t)(f->icmp_id ^ f->icmpv6_id) << 16 | (uint32_t)(uint8_t)(f->icmp_type ^ f->icmpv6_type) << 8 |
			 (uint8_t)(f->icmp_code ^ f->icmpv6_code));
	hash = mix(hash, words[0]);
	if (f->valid & BIT(IP6))
		hash = mix(mix(hash, words[1]), words[3]);
	return mix(hash, words[2]);
}

_Static_assert(offsetof(struct nfl_flow, orig_ip_daddr) == offsetof(struct nfl_flow, orig_ip_saddr) + 16, "one piece");

static bool same_key(const struct nfl_flow *a, const struct nfl_flow *b)
{
	return a->ct_id == b->ct_id && a->orig_l4_sport == b->orig_l4_sport && a->orig_l4_dport == b->orig_l4_dport &&
	       a->ct_zone == b->ct_zone && a->orig_ip_protocol == b->orig_ip_protocol && a->oob_family == b->oob_family &&
	       a->icmp_id == b->icmp_id && a->icmp_type == b->icmp_type && a->icmp_code == b->icmp_code &&
	       a->icmpv6_id == b->icmpv6_id && a->icmpv6_type == b->icmpv6_type && a->icmpv6_code == b->icmpv6_code &&
	       !memcmp(a->orig_ip_saddr, b->orig_ip_saddr, 32);
}

static bool may_be_same(const struct nfl_flow *a, const struct nfl_flow *b)
{
	return !a->start_ns || !b->start_ns || a->start_ns == b->start_ns;
}

/* The entry of a flow, or NULL; *other: one of the same key that has begun before it, and so must have ended. */
static struct nfl_flow_entry *find(struct nfl_flowtable *table, const struct nfl_flow *f, uint32_t hash,
				   struct nfl_flow_entry **other)
{
	struct nfl_flow_entry *entry;
	uint32_t number;

	*other = NULL;
	if (!table->capacity)
		return NULL;
	for (number = table->heads[hash & table->mask]; number; number = entry->next) {
		entry = table->entries + number - 1;
		if (entry->hash != hash || !same_key(&entry->flow, f))
			continue;
		if (may_be_same(&entry->flow, f))
			return entry;
		if (entry->flow.start_ns < f->start_ns)
			*other = entry;
	}
	return NULL;
}

static void forget(struct nfl_flowtable *table, struct nfl_flow_entry *entry)
{
	uint32_t number = (uint32_t)(entry - table->entries) + 1;
	uint32_t *at = table->heads + (entry->hash & table->mask);

	while (*at != number)
		at = &table->entries[*at - 1].next;
	*at = entry->next;
	entry->next = table->free;
	table->old -= entry->state == NFL_FLOW_OLD;
	entry->state = NFL_FLOW_FREE;
	table->free = number;
	table->count--;
}

/* NULL: there is no room. */
static struct nfl_flow_entry *add(struct nfl_flowtable *table, const struct nfl_flow *f, uint32_t hash, uint32_t state)
{
	struct nfl_flow_entry *entry;
	uint32_t *head;

	if (table->free) {
		entry = table->entries + table->free - 1;
		table->free = entry->next;
	} else if (table->top < table->capacity) {
		entry = table->entries + table->top++;
	} else {
		table->untracked++;
		return NULL;
	}
	head = table->heads + (hash & table->mask);
	entry->flow = *f;
	entry->flow.flow_number = 0;	/* records made so far */
	memset(entry->reported, 0, sizeof(entry->reported));
	entry->since_ns = table->clock_ns;
	entry->hash = hash;
	entry->next = *head;
	entry->generation = table->generation;
	entry->state = state;
	*head = (uint32_t)(entry - table->entries) + 1;
	table->count++;
	table->old += state == NFL_FLOW_OLD;
	return entry;
}

static void copy_counters(struct nfl_flow *to, const struct nfl_flow *from)
{
	to->orig_raw_pktlen = from->orig_raw_pktlen;
	to->orig_raw_pktcount = from->orig_raw_pktcount;
	to->reply_raw_pktlen = from->reply_raw_pktlen;
	to->reply_raw_pktcount = from->reply_raw_pktcount;
}

static void subtract(struct nfl_flow *f, const uint64_t *reported)
{
	f->orig_raw_pktlen -= reported[0];
	f->orig_raw_pktcount -= reported[1];
	f->reply_raw_pktlen -= reported[2];
	f->reply_raw_pktcount -= reported[3];
}

/* Complete what a message says now by what was known before; counters are the kernel's on both sides. */
static void complete(struct nfl_flow *f, const struct nfl_flow *known)
{
	uint64_t missing = known->valid & ~f->valid;

	if (missing & BIT(COUNTED))
		copy_counters(f, known);
	if (missing & BIT(STATUS))
		f->ct_status = known->ct_status;
	if (missing & BIT(TIMEOUT))
		f->ct_timeout = known->ct_timeout;
	if (missing & BIT(TCP))
		f->tcp_state = known->tcp_state;
	if (missing & BIT(SCTP))
		f->sctp_state = known->sctp_state;
	if (missing & BIT(LABELS))
		memcpy(f->ct_labels, known->ct_labels, sizeof(f->ct_labels));
	if (missing & BIT(HELPER))
		memcpy(f->ct_helper, known->ct_helper, sizeof(f->ct_helper));
	/* The kernel's stamp goes before the time of an event, the first event before a later one. */
	if (known->valid & BIT(START) && !f->start_ns) {
		f->start_ns = known->start_ns;
		f->flow_start_sec = known->flow_start_sec;
		f->flow_start_usec = known->flow_start_usec;
		missing |= BIT(START);
	}
	f->valid |= missing & (BIT(COUNTED) | BIT(STATUS) | BIT(TIMEOUT) | BIT(TCP) | BIT(SCTP) | BIT(LABELS) | BIT(HELPER) |
			       BIT(START));
}

/* Counters fall where somebody else has set them to zero: what was not reported yet is added to what comes.
 *
 * They also seem to where a dump shows a flow between the event of its end and its removal, and a packet came after the event: a
 * dump is read before the events that wait. What was counted last is true. */
static void look_for_reset(struct nfl_flowtable *table, struct nfl_flow_entry *entry, struct nfl_flow *now)
{
	const struct nfl_flow *seen = &entry->flow;

	if (!(now->valid & BIT(COUNTED)))
		return;
	if (now->orig_raw_pktlen >= seen->orig_raw_pktlen && now->orig_raw_pktcount >= seen->orig_raw_pktcount &&
	    now->reply_raw_pktlen >= seen->reply_raw_pktlen && now->reply_raw_pktcount >= seen->reply_raw_pktcount)
		return;
	if (seen->ct_status & IPS_DYING && now->ct_event == NFL_FLOW_DESTROY) {
		copy_counters(now, seen);
		return;
	}
	entry->reported[0] -= seen->orig_raw_pktlen;
	entry->reported[1] -= seen->orig_raw_pktcount;
	entry->reported[2] -= seen->reply_raw_pktlen;
	entry->reported[3] -= seen->reply_raw_pktcount;
	table->reset++;
}

static void refresh(struct nfl_flowtable *table, struct nfl_flow_entry *entry, const struct nfl_flow *now)
{
	uint32_t records = entry->flow.flow_number;
	struct nfl_flow f = *now;

	look_for_reset(table, entry, &f);
	complete(&f, &entry->flow);
	entry->flow = f;
	entry->flow.flow_number = records;
}

static bool counted_since(const struct nfl_flow_entry *entry)
{
	const struct nfl_flow *f = &entry->flow;

	return f->orig_raw_pktcount != entry->reported[1] || f->reply_raw_pktcount != entry->reported[3] ||
	       f->orig_raw_pktlen != entry->reported[0] || f->reply_raw_pktlen != entry->reported[2];
}

/* No record yet: where the kernel counts nothing, this is all that tells. */
static bool untold(const struct nfl_flow_entry *entry)
{
	return !entry->flow.flow_number;
}

static void made(struct nfl_flowtable *table, const struct nfl_flow *record)
{
	table->valid_any |= record->valid;
	table->valid_all &= record->valid;
}

/* A record of what was counted since the one before. */
static void report(struct nfl_flowtable *table, struct nfl_flow_entry *entry, uint32_t event, uint8_t reason, struct nfl_flow *out)
{
	struct nfl_flow *f = &entry->flow;

	f->flow_number++;
	*out = *f;
	subtract(out, entry->reported);
	entry->reported[0] = f->orig_raw_pktlen;
	entry->reported[1] = f->orig_raw_pktcount;
	entry->reported[2] = f->reply_raw_pktlen;
	entry->reported[3] = f->reply_raw_pktcount;
	entry->since_ns = table->clock_ns;
	out->ct_event = event;
	out->flow_end_reason = reason;
	out->flow_last = event == NFL_FLOW_DESTROY;
	out->valid |= BIT(EVENT) | BIT(REASON);
	made(table, out);
}

/* The end of a flow of which the kernel has not told. */
static void report_end(struct nfl_flowtable *table, struct nfl_flow_entry *entry, uint8_t reason, struct nfl_flow *out)
{
	report(table, entry, NFL_FLOW_DESTROY, reason, out);
	out->flow_end_sec = nfl_flow_seconds(table->real_ns);
	out->flow_end_usec = (uint32_t)(table->real_ns % NS_PER_SEC / 1000);
	out->valid |= BIT(END);
	table->valid_any |= BIT(END);
}

static void report_gone(struct nfl_flowtable *table, struct nfl_flow_entry *entry, struct nfl_flow *out)
{
	report_end(table, entry, nfl_flow_end_reason(&entry->flow), out);
}

/* -- ends that were told already: another listener that asks for repetition makes the kernel repeat to all ------------------------ */

static bool is_past(struct nfl_flowtable *table, uint32_t which, uint64_t print, bool put)
{
	uint64_t *prints = table->past[which];
	uint32_t at = (uint32_t)print & table->past_mask;

	for (; prints[at]; at = (at + 1) & table->past_mask)
		if (prints[at] == print)
			return true;
	if (put) {
		prints[at] = print;
		table->past_count++;
	}
	return false;
}

/* Whether an end that was told can be known again. */
static bool leaves_print(const struct nfl_flowtable *table, const struct nfl_flow *f)
{
	return table->past_mask && (f->start_ns || table->sees_new);
}

static uint64_t print_of(const struct nfl_flow *f, uint64_t key)
{
	uint64_t print = mix(key, f->start_ns);

	if (!f->start_ns)	/* two flows after each other may be alike but for what they carried */
		print = mix(mix(print, f->orig_raw_pktlen), f->reply_raw_pktlen);
	return print | !print;
}

/* Whether the end of this flow was told already; from now on it was. */
static bool told_before(struct nfl_flowtable *table, const struct nfl_flow *f, uint64_t key, bool known)
{
	uint64_t print;
	bool before;

	if (!leaves_print(table, f))
		return false;
	print = print_of(f, key);
	before = is_past(table, table->past_now, print, true);
	if (!before)
		before = is_past(table, !table->past_now, print, false);
	if (table->past_count > table->past_mask / 2) {
		table->past_now = !table->past_now;
		table->past_count = 0;
		memset(table->past[table->past_now], 0, ((size_t)table->past_mask + 1) * sizeof(uint64_t));
	}
	/* Without a stamp: of a flow that is known, and has begun, this is the end, even if one was like it. */
	return before && (f->start_ns || !known);
}

/* -- events ---------------------------------------------------------------------------------------------------------------------- */

/* The end of a flow; the number of records made. */
static uint32_t end(struct nfl_flowtable *table, const struct nfl_flow *event, uint64_t key, struct nfl_flow *out)
{
	struct nfl_flow_entry *other, *entry = find(table, event, (uint32_t)(key >> 32), &other);
	uint32_t count = 0;
	bool more;

	if (told_before(table, event, key, entry != NULL)) {
		table->repeated++;
		return 0;
	}
	if (other && other->state != NFL_FLOW_ENDED) {
		report_gone(table, other, out + count++);
		table->replaced++;
	}
	if (other)
		forget(table, other);
	out += count;
	if (!entry) {
		table->unmatched += table->keep && table->sees_new;
		if (out != event)
			*out = *event;
		made(table, out);
		return count + 1;
	}
	refresh(table, entry, event);
	more = counted_since(entry);
	if (entry->state == NFL_FLOW_ENDED)
		table->returned += more;
	if (entry->state != NFL_FLOW_ENDED || more) {
		report(table, entry, NFL_FLOW_DESTROY, event->flow_end_reason, out);
		out->flow_end_sec = event->flow_end_sec;
		out->flow_end_usec = event->flow_end_usec;
		count++;
	}
	forget(table, entry);
	return count;
}

/* A flow begins or changes; the number of records made. */
static uint32_t begin(struct nfl_flowtable *table, const struct nfl_flow *event, uint64_t key, struct nfl_flow *out)
{
	uint32_t hash = (uint32_t)(key >> 32), count = 0;
	struct nfl_flow_entry *other, *entry = find(table, event, hash, &other);

	if (entry && entry->state == NFL_FLOW_ENDED && event->ct_event == NFL_FLOW_NEW) {
		forget(table, entry);
		entry = NULL;
	}
	if (other) {
		if (other->state != NFL_FLOW_ENDED) {
			report_gone(table, other, out + count++);
			table->replaced++;
		}
		forget(table, other);
	}
	if (!entry) {
		add(table, event, hash, NFL_FLOW_LIVE);
		return count;
	}
	refresh(table, entry, event);
	entry->generation = table->generation;
	if (entry->state == NFL_FLOW_ENDED)
		entry->state = NFL_FLOW_LIVE;
	return count;
}

/* The key of an event that comes soon. What will be looked at for it is fetched meanwhile: it is seldom in the cache. */
static uint64_t foresee(const struct nfl_flowtable *table, const struct nfl_flow *event)
{
	uint64_t key = key_of(table, event), print;

	if (table->capacity)
		__builtin_prefetch(table->heads + (key >> 32 & table->mask));
	if (event->ct_event == NFL_FLOW_DESTROY && leaves_print(table, event)) {
		print = print_of(event, key);
		__builtin_prefetch(table->past[0] + (print & table->past_mask));
		__builtin_prefetch(table->past[1] + (print & table->past_mask));
	}
	return key;
}

uint32_t nfl_flowtable_take(struct nfl_flowtable *table, const struct nfl_flow *events, uint32_t count, struct nfl_flow *out)
{
	uint32_t i, records = 0;
	uint64_t keys[AHEAD], key;

	for (i = 0; i < count && i < AHEAD; i++)
		keys[i] = foresee(table, events + i);
	for (i = 0; i < count; i++) {
		key = keys[i % AHEAD];
		if (count - i > AHEAD)
			keys[i % AHEAD] = foresee(table, events + i + AHEAD);
		if (events[i].ct_event == NFL_FLOW_DESTROY) {
			records += end(table, events + i, key, out + records);
		} else if (table->keep) {
			records += begin(table, events + i, key, out + records);
		} else {
			if (out + records != events + i)
				out[records] = events[i];
			made(table, out + records++);
		}
	}
	return records;
}

/* -- dumps ----------------------------------------------------------------------------------------------------------------------- */

void nfl_flowtable_begin(struct nfl_flowtable *table)
{
	table->generation++;
	table->cursor = 0;
}

uint32_t nfl_flowtable_list(struct nfl_flowtable *table, const struct nfl_flow *flows, uint32_t count, uint64_t listening_ns,
			    struct nfl_flow *out)
{
	struct nfl_flow_entry *entry, *other;
	uint32_t i, hash, records = 0;
	bool old;

	for (i = 0; i < count; i++) {
		hash = (uint32_t)(key_of(table, flows + i) >> 32);
		entry = find(table, flows + i, hash, &other);
		if (other) {
			if (other->state != NFL_FLOW_ENDED) {
				report_gone(table, other, out + records++);
				table->replaced++;
			}
			forget(table, other);
		}
		if (!entry) {
			/* Of one that is dying the event may have been taken already. */
			if (flows[i].ct_status & IPS_DYING)
				continue;
			/* One that begins in the future has begun before the clock was set back. */
			old = flows[i].start_ns < listening_ns || flows[i].start_ns > table->real_ns;
			add(table, flows + i, hash, old ? NFL_FLOW_OLD : NFL_FLOW_LIVE);
			continue;
		}
		refresh(table, entry, flows + i);
		entry->generation = table->generation;
		if (entry->state == NFL_FLOW_ENDED) {	/* a dump can miss one while the kernel's table is resized */
			entry->state = NFL_FLOW_LIVE;
			table->returned++;
		}
	}
	return records;
}

uint32_t nfl_flowtable_scan(struct nfl_flowtable *table, const struct nfl_flow_scan *scan, struct nfl_flow *out, uint32_t room)
{
	struct nfl_flow_entry *entry;
	uint32_t records = 0;

	for (; table->cursor < table->top && records < room; table->cursor++) {
		entry = table->entries + table->cursor;
		if (entry->state == NFL_FLOW_FREE)
			continue;
		if (entry->state == NFL_FLOW_ENDED) {
			if (entry->since_ns < scan->forget_ns)
				forget(table, entry);
		} else if (entry->generation != table->generation) {
			if (!scan->gone || (scan->wait && entry->state != NFL_FLOW_OLD))
				continue;
			report_gone(table, entry, out + records++);
			table->old -= entry->state == NFL_FLOW_OLD;
			entry->state = NFL_FLOW_ENDED;
			table->presumed++;
		} else if (scan->ends) {
			report_end(table, entry, scan->reason, out + records++);
			forget(table, entry);
		} else if (entry->since_ns <= scan->since_ns && scan->since_ns &&
			   (scan->idle || untold(entry) || counted_since(entry))) {
			report(table, entry, NFL_FLOW_UPDATE, scan->reason, out + records++);
		}
	}
	return records;
}

/* -- from run to run ------------------------------------------------------------------------------------------------------------- */

uint32_t nfl_flowtable_save(struct nfl_flowtable *table, struct nfl_flow_kept *out, uint32_t room)
{
	struct nfl_flow_entry *entry;
	uint32_t count = 0;

	for (; table->cursor < table->top && count < room; table->cursor++) {
		entry = table->entries + table->cursor;
		if (entry->state == NFL_FLOW_FREE || entry->state == NFL_FLOW_ENDED || !entry->flow.flow_number)
			continue;
		out[count].flow = entry->flow;
		memcpy(out[count++].reported, entry->reported, sizeof(entry->reported));
	}
	return count;
}

/* What was kept may be of anybody: whether a run can have left it. */
static bool is_kept(const struct nfl_flow_kept *kept)
{
	const struct nfl_flow *f = &kept->flow;
	const uint64_t counted[4] = { f->orig_raw_pktlen, f->orig_raw_pktcount, f->reply_raw_pktlen, f->reply_raw_pktcount };
	uint64_t family = f->oob_family == AF_INET ? BIT(IP4) : f->oob_family == AF_INET6 ? BIT(IP6) : 0;
	uint32_t i;

	for (i = 0; i < 4; i++)
		if ((int64_t)(counted[i] - kept->reported[i]) < 0)
			return false;
	return f->valid & BIT(ALWAYS) && family && (f->valid & (BIT(IP4) | BIT(IP6))) == family && f->flow_number;
}

uint32_t nfl_flowtable_restore(struct nfl_flowtable *table, const struct nfl_flow_kept *kept, uint32_t count)
{
	struct nfl_flow_entry *entry, *other;
	uint32_t i, hash, known = 0;

	for (i = 0; i < count; i++) {
		if (!is_kept(kept + i))
			continue;
		hash = (uint32_t)(key_of(table, &kept[i].flow) >> 32);
		if (find(table, &kept[i].flow, hash, &other))
			continue;
		entry = add(table, &kept[i].flow, hash, NFL_FLOW_OLD);
		if (!entry)
			continue;
		entry->flow.flow_number = kept[i].flow.flow_number;
		entry->flow.ct_helper[NFL_FLOW_HELPER_BYTES - 1] = 0;
		memcpy(entry->reported, kept[i].reported, sizeof(entry->reported));
		known++;
	}
	return known;
}

/* -- which are wanted ------------------------------------------------------------------------------------------------------------ */

static bool within(const struct nfl_flow_network *networks, uint32_t count, const uint8_t *address, uint8_t family)
{
	uint32_t i, k;
	uint8_t differs;

	for (i = 0; i < count; i++) {
		if (networks[i].family != family)
			continue;
		for (k = 0, differs = 0; k < 16; k++)
			differs |= (uint8_t)((address[k] ^ networks[i].address[k]) & networks[i].mask[k]);
		if (!differs)
			return true;
	}
	return !count;
}

uint32_t nfl_flows_accept(const struct nfl_flow_accept *accept, struct nfl_flow *records, uint32_t count)
{
	uint32_t i, kept = 0;

	for (i = 0; i < count; i++) {
		const struct nfl_flow *f = records + i;

		if ((!accept->any_protocol && !accept->protocols[f->orig_ip_protocol]) ||
		    !within(accept->sources, accept->source_count, f->orig_ip_saddr, f->oob_family) ||
		    !within(accept->targets, accept->target_count, f->orig_ip_daddr, f->oob_family))
			continue;
		if (kept != i)
			records[kept] = *f;
		kept++;
	}
	return kept;
}
