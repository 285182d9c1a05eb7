// SPDX-License-Identifier: GPL-2.0-or-later
/* Mutates messages of conntrack, decodes them as events and as dumps, and has a small table of flows take them, in any order and
 * between scans. Every buffer is allocated to the byte, so that the sanitizers see each read beyond what is there; what they
 * cannot see is checked here: that there are no more records than room, and that the table is whole.
 *
 * flow_fuzz SEEDS COUNT SEED: the same arguments give the same messages. When something is found the datagram is printed. */
#define PROGRAM "flow_fuzz"
#define SUBJECT "datagram"
#define SEED_HEAD uint32_t length;
#define SEED_MIN 20
#define SEED_MAX 8192
#include "harness.h"
#include "flow.h"
#include "flowtable.h"

enum { CAPACITY = 7, HEADS = 4, PAST = 16, ROOM = 64 };

static const uint16_t lengths_of_interest[] = { 0, 1, 2, 3, 4, 5, 7, 8, 9, 12, 16, 20, 0x7f, 0xff, 0x7fff, 0x8000, 0xffff };

static void mutate(struct seed *s)
{
	uint32_t at = below(s->length), from = below(s->length), number;

	switch (below(8)) {
	case 0:
		s->data[at] = (uint8_t)any();
		break;
	case 1:
		s->data[at] ^= (uint8_t)(1 << below(8));
		break;
	case 2:		/* the length of an attribute */
		at &= ~3u;
		memcpy(s->data + at, lengths_of_interest + below(ARRAY(lengths_of_interest)), 2);
		break;
	case 3:		/* the length of the message */
		number = one_in(2) ? any() : s->length + below(9) - 4;
		memcpy(s->data, &number, sizeof(number));
		break;
	case 4:
		if (at >= SEED_MIN)
			s->length = at;
		break;
	case 5:
		memmove(s->data + at, s->data + from, below(s->length - (at > from ? at : from)));
		break;
	case 6:		/* another message behind it */
		if (one_in(2)) {
			const struct seed *other = seeds + below(seed_count);
			uint32_t size = other->length < SEED_MAX - s->length ? other->length : SEED_MAX - s->length;

			memcpy(s->data + s->length, other->data, size);
			s->length += size;
		}
		break;
	case 7:		/* type, flags or number of the message */
		s->data[4 + below(8)] = (uint8_t)below(4);
		break;
	}
}

static uint64_t records_total, reported_total;
static struct nfl_flowtable table;

static void make_table(void)
{
	for (uint32_t i = 0; i < 2; i++) {
		free(table.past[i]);
		table.past[i] = calloc(PAST, sizeof(uint64_t));
	}
	free(table.entries);
	free(table.heads);
	table = (struct nfl_flowtable){
		.entries = calloc(CAPACITY, sizeof(*table.entries)), .heads = calloc(HEADS, sizeof(uint32_t)),
		.past = { table.past[0], table.past[1] }, .seed = any(), .capacity = one_in(8) ? 0 : CAPACITY, .mask = HEADS - 1,
		.past_mask = PAST - 1, .sees_new = one_in(2),
	};
	table.keep = table.capacity > 0;
}

/* Every entry in use is in its chain and in no other, every other one is free or was never used. */
static void check_table(void)
{
	uint32_t chained = 0, unused = 0, number;

	for (uint32_t head = 0; head < HEADS; head++)
		for (number = table.heads[head]; number; number = table.entries[number - 1].next) {
			check(number <= table.top && ++chained <= table.count, "a chain leads nowhere");
			check((table.entries[number - 1].hash & table.mask) == head, "an entry is in the wrong chain");
			check(table.entries[number - 1].state != NFL_FLOW_FREE, "a free entry is in a chain");
		}
	for (number = table.free; number; number = table.entries[number - 1].next)
		check(number <= table.top && ++unused <= table.top && table.entries[number - 1].state == NFL_FLOW_FREE,
		      "what is free is in use");
	for (uint32_t i = number = 0; i < table.top; i++)
		number += table.entries[i].state == NFL_FLOW_OLD;
	check(number == table.old, "old flows are miscounted");
	check(chained == table.count && chained + unused == table.top && table.top <= table.capacity, "entries are missing");
}

static void check_reported(const struct nfl_flow *out, uint32_t count, uint32_t room)
{
	check(count <= room, "there are more records than room");
	for (uint32_t i = 0; i < count; i++) {
		check(out[i].valid & 1, "a record does not hold what always holds");
		check(!(out[i].valid & ~table.valid_any) && !(table.valid_all & ~out[i].valid), "valid_any or valid_all is wrong");
	}
	reported_total += count;
	check_table();
}

static void use(struct nfl_flow *flows, uint32_t count, bool dump)
{
	bool in_place = !dump && !table.capacity && one_in(2);
	uint32_t room = dump || in_place ? count : 2 * count;
	struct nfl_flow *out = in_place ? flows : exactly(room * sizeof(*out), NULL);

	table.valid_any = 0;
	table.valid_all = ~0ULL;
	table.clock_ns++;
	table.real_ns += 1000000000;
	if (dump) {
		if (one_in(2))
			nfl_flowtable_begin(&table);
		count = nfl_flowtable_list(&table, flows, count, one_in(2) ? any() : 0, out);
	} else {
		count = nfl_flowtable_take(&table, flows, count, out);
	}
	check_reported(out, count, room);
	if (!in_place)
		free(out);
	if (one_in(4)) {
		struct nfl_flow_scan scan = {
			.since_ns = one_in(2) ? below(4) : ~0ULL, .forget_ns = one_in(2) ? 0 : table.clock_ns, .gone = one_in(2),
			.wait = one_in(2), .idle = one_in(2), .reason = (uint8_t)below(6), .ends = one_in(8),
		};

		room = 1 + below(3);
		out = exactly(room * sizeof(*out), NULL);
		for (table.cursor = 0; table.cursor < table.top;)
			check_reported(out, nfl_flowtable_scan(&table, &scan, out, room), room);
		free(out);
	}
}

/* A table that knows what was saved, by it or by anybody. */
static void save_and_restore(void)
{
	uint32_t room = 1 + below(3), count, known;
	struct nfl_flow_kept *kept = exactly(room * sizeof(*kept), NULL);

	table.cursor = 0;
	count = nfl_flowtable_save(&table, kept, room);
	check(count <= room, "there are more saved flows than room");
	if (one_in(2))
		make_table();
	for (uint32_t times = below(4); count && times; times--)
		((uint8_t *)kept)[below(count * sizeof(*kept))] = (uint8_t)any();
	known = nfl_flowtable_restore(&table, kept, count);
	check(known <= count, "there are more known flows than were saved");
	check_table();
	free(kept);
}

static void decode(const struct seed *s)
{
	uint32_t room = one_in(4) ? below(3) : ROOM, count, kept;
	bool dump = one_in(3);
	struct nfl_flows flows = { .seq = dump ? below(2) : 0, .events = one_in(4) ? below(8) : 7, .valid_all = ~0ULL };
	struct nfl_flow *records = exactly(room * sizeof(*records), NULL);
	struct nfl_flow_network networks[2] = { { 2, { 10 }, { 255 } }, { 10, { 0xfd }, { 0xff } } };
	struct nfl_flow_accept accept = { networks, networks + 1, below(3), below(2), one_in(2), { [6] = 1, [17] = 1 } };
	uint8_t *data = exactly(s->length, s->data);

	tried = data;
	tried_length = s->length;
	count = nfl_flows_decode(&flows, data, s->length, 12345678901, records, room);
	check(count <= room && count == flows.received, "there are more records than room, or they are not counted");
	for (uint32_t i = 0; i < count; i++) {
		check(records[i].oob_family == 2 || records[i].oob_family == 10, "a flow has no family");
		check(!(records[i].valid & ~flows.valid_any) && !(flows.valid_all & ~records[i].valid),
		      "valid_any or valid_all is wrong");
		check(!records[i].ct_helper[15], "the name of a helper has no end");
	}
	records_total += count;
	kept = one_in(4) ? nfl_flows_accept(&accept, records, count) : count;
	check(kept <= count, "more flows are wanted than there are");
	use(records, kept, dump);
	if (one_in(16))
		save_and_restore();
	free(records);
	free(data);
}

int main(int argc, char **argv)
{
	uint64_t wanted = start(argc, argv);
	static struct seed datagram;

	for (tried_number = 0; tried_number < wanted; tried_number++) {
		if (!(tried_number & 1023))
			make_table();
		memcpy(&datagram, seeds + below(seed_count), sizeof(datagram));
		for (uint32_t times = below(4); times; times--)
			mutate(&datagram);
		decode(&datagram);
	}
	printf("%llu mutated messages of flows, %llu flows, %llu reported, %.1f seconds\n", (unsigned long long)wanted,
	       (unsigned long long)records_total, (unsigned long long)reported_total, seconds());
	free(seeds);
	return 0;
}
