// SPDX-License-Identifier: GPL-2.0-or-later
/* Encodes records of random bytes by random plans, and makes messages of the rows; also of rows that were changed. Every buffer
 * is allocated to the byte, so that the sanitizers see each read and write beyond; what they cannot see is checked here: that
 * each row is a line, that messages end where they say, keep the MTU and hold the records that went in, and that it goes on.
 *
 * ipfix_fuzz SEEDS COUNT SEED: the same arguments give the same rows. The seeds are messages of the kernel: their bytes fill
 * the records. When something is found the rows are printed. */
#define PROGRAM "ipfix_fuzz"
#define SUBJECT "rows"
#define SEED_HEAD uint32_t length;
#define SEED_MIN 1
#define SEED_MAX 65536
#include "harness.h"
#include "record.h"
#include "flow.h"
#include "ipfix.h"

enum { FIELDS = 24, RECORDS = 40, HEAD = 16 };

static uint64_t records_total, messages_total;

static void fill(uint8_t *p, size_t size)
{
	const struct seed *s = seeds + below(seed_count);

	for (size_t i = 0; i < size; i++)
		p[i] = one_in(8) ? '\n' : one_in(4) ? (uint8_t)any() : s->data[i % s->length];
}

/* A plan whose records are not too long, as Python makes no other. */
static uint32_t make_fields(struct nfl_ipfix_field *fields)
{
	static const uint8_t widths[] = { 1, 2, 4, 8 };
	uint32_t count = 1 + below(FIELDS), size = 0, i;

	for (i = 0; i < count; i++) {
		struct nfl_ipfix_field *f = fields + i;
		uint32_t most;

		memset(f, 0, sizeof(*f));
		f->kind = (uint8_t)below(NFL_IPFIX_TEXT);	/* not texts of a buffer: decode_fuzz sees where those lie */
		f->valid = (uint8_t)below(16);
		f->mask = one_in(2) ? 0 : (uint8_t)any();
		f->value = one_in(16) ? (uint8_t)any() : f->mask & (uint8_t)any();
		f->size = widths[below(4)];
		f->width = widths[below(4)];
		f->add = one_in(4) ? 40 : 0;
		f->otherwise = 255;
		f->field = (uint16_t)below(sizeof(struct nfl_flow) - 16);
		f->field2 = (uint16_t)below(sizeof(struct nfl_flow) - 16);
		if (f->kind == NFL_IPFIX_BYTES)
			f->width = (uint8_t)(1 + below(16));
		if (f->kind == NFL_IPFIX_PAIR)
			f->width = 2;
		if (f->kind == NFL_IPFIX_TCP_FLAGS || f->kind == NFL_IPFIX_NAT_EVENT)
			f->width = 1;
		if (f->kind == NFL_IPFIX_TIME && f->width != 4)
			f->width = 8;
		if (f->kind == NFL_IPFIX_CHARS)
			f->size = f->width = (uint8_t)(1 + below(16));
		most = f->width + (f->kind == NFL_IPFIX_CHARS);
		if (size + most > NFL_IPFIX_RECORD_MAX)
			break;
		size += most;
	}
	/* The time of one field may be that of a later one. */
	for (uint32_t at = 0; at < i; at++)
		if (fields[at].kind == NFL_IPFIX_TIME)
			for (uint32_t later = at + 1; later < i && one_in(2); later++)
				if (fields[later].kind == NFL_IPFIX_TIME)
					fields[at].otherwise = (uint8_t)later;
	return i;
}

static void make_templates(struct nfl_ipfix_template *templates, const struct nfl_ipfix_field *fields, uint32_t count,
			   const uint8_t *definition)
{
	for (uint32_t class = 0; class < NFL_IPFIX_CLASSES; class++) {
		struct nfl_ipfix_template *t = templates + class;
		uint32_t least = 0, most = 0, found = 0;

		for (const struct nfl_ipfix_field *f = fields; f < fields + count; f++) {
			if ((class & f->mask) != f->value)
				continue;
			least += f->kind == NFL_IPFIX_CHARS ? 1 : f->width;
			most += f->width + (f->kind == NFL_IPFIX_CHARS);
			found++;
		}
		*t = (struct nfl_ipfix_template){
			.definition = found ? definition : NULL, .size = (uint16_t)(4 + 4 * found), .id = (uint16_t)(256 + class),
			.least = (uint16_t)least, .most = (uint16_t)most,
		};
	}
}

static uint32_t get16(const uint8_t *p)
{
	return (uint32_t)p[0] << 8 | p[1];
}

/* Go through messages: they end where they say, and so do their sets. */
static uint32_t check_messages(const uint8_t *p, size_t size, uint32_t mtu, uint32_t longest)
{
	uint32_t count = 0;

	for (size_t at = 0; at < size; count++) {
		uint32_t length;

		check(size - at >= HEAD && get16(p + at) == 10, "a message does not begin with its version");
		length = get16(p + at + 2);
		check(length > HEAD && length <= size - at, "a message does not end where it says");
		check(length <= (mtu > longest ? mtu : longest), "a message is longer than the MTU");
		for (uint32_t set = HEAD; set < length;) {
			uint32_t set_length = get16(p + at + set + 2);

			check(length - set >= 4 && set_length > 4 && set_length <= length - set, "a set does not end where it says");
			set += set_length;
		}
		at += length;
	}
	return count;
}

static void pack(struct nfl_ipfix_session *s, const uint8_t *rows, size_t size, uint32_t expected, bool good)
{
	uint32_t longest = HEAD + 4 + 4 + 4 * FIELDS + 4 + NFL_IPFIX_RECORD_MAX, packed = 0, before = s->sequence;
	size_t at = 0;

	while (at < size) {
		size_t room = (s->mtu > longest ? s->mtu : longest) + below(2000), used, made;
		uint8_t *exact = exactly(size - at, rows + at), *out = exactly(room, NULL);

		made = nfl_ipfix_pack(s, exact, size - at, out, room, &used);
		check(made <= room && used <= size - at, "it wrote or read too much");
		check(check_messages(out, made, s->mtu, longest) == s->messages, "there are not as many messages as it says");
		packed += s->records;
		messages_total += s->messages;
		free(exact);
		free(out);
		at += used;
		check(s->broken ? !good : used > 0, good ? "a good row is refused, or it makes no progress" : "it makes no progress");
		if (s->broken)
			break;
	}
	check(s->sequence - before == packed, "the sequence does not count the records");
	check(!good || packed == expected, "records are missing");
	records_total += packed;
}

static void once(void)
{
	struct nfl_ipfix_field fields[FIELDS];
	struct nfl_ipfix_template templates[NFL_IPFIX_CLASSES];
	uint8_t definition[4 + 4 * FIELDS];
	struct nfl_ipfix_plan plan = { .fields = fields, .count = make_fields(fields), .condition_count = below(9) };
	struct nfl_ipfix_session session = {
		.templates = templates, .mtu = (uint16_t)(one_in(4) ? any() : 128 + below(1400)),
		.announce = (uint8_t)below(3), .round = 1, .sequence = any(),
	};
	uint32_t count = 1 + below(RECORDS), done = 0, lines = 0, selected[RECORDS];
	struct nfl_flow *records = exactly(count * sizeof(*records), NULL);
	struct nfl_batch batch = { .records = records, .stride = sizeof(*records), .count = count, .second = (int64_t)any() - 9 };
	size_t size = (size_t)count * NFL_IPFIX_ROW_MAX, used;
	uint8_t *rows = exactly(size, NULL), *copy;
	bool has_all = true;

	memset(definition, 0, sizeof(definition));
	fill((uint8_t *)records, count * sizeof(*records));
	for (uint32_t i = 0; i < count; i++) {
		records[i].valid |= 1;
		selected[i] = below(count);
	}
	if (one_in(4))
		batch.rows = selected;
	for (uint32_t i = 0; i < plan.condition_count; i++)
		plan.conditions[i] = (uint8_t)(one_in(4) ? NFL_IPFIX_TRANSLATED + below(2) : below(64));
	make_templates(templates, fields, plan.count, definition);
	for (used = 0; done < count;) {
		size_t room = NFL_IPFIX_ROW_MAX + below(500), made;
		uint8_t *out = exactly(room, NULL);
		uint32_t first = done;

		made = nfl_ipfix_encode(&plan, &batch, first, out, room, &done);
		check(made <= room && done > first && used + made <= size, "rows do not fit that must");
		memcpy(rows + used, out, made);
		used += made;
		free(out);
	}
	tried = rows;
	tried_length = (uint32_t)used;
	for (size_t i = 0; i < used; i++)
		lines += rows[i] == '\n';
	check(lines == count && rows[used - 1] == '\n', "there are not as many lines as records");
	for (const uint8_t *row = rows; row < rows + used; row = (uint8_t *)memchr(row, '\n', (size_t)(rows + used - row)) + 1) {
		/* The class, or what stands in its place where it is a newline, is the second byte. */
		uint8_t class = (row[0] ^ '\n') == 1 ? '\n' : row[1];

		has_all &= templates[class].definition != NULL;
	}
	pack(&session, rows, used, count, has_all);
	/* Changed rows: nobody knows what comes, but it ends. */
	copy = exactly(used, rows);
	for (uint32_t times = 1 + below(4); times; times--)
		copy[below((uint32_t)used)] = one_in(2) ? '\n' : (uint8_t)any();
	tried = copy;
	pack(&session, copy, one_in(2) ? used : 1 + below((uint32_t)used), 0, false);
	free(copy);
	free(rows);
	free(records);
}

int main(int argc, char **argv)
{
	uint64_t wanted = start(argc, argv);

	for (tried_number = 0; tried_number < wanted; tried_number++)
		once();
	printf("%llu batches for IPFIX, %llu records, %llu messages, %.1f seconds\n", (unsigned long long)wanted,
	       (unsigned long long)records_total, (unsigned long long)messages_total, seconds());
	free(seeds);
	return 0;
}
