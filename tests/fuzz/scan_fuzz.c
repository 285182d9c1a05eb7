// SPDX-License-Identifier: GPL-2.0-or-later
/* Mutates lines of JSON and reads them into columns. Every buffer is allocated to the byte, so that the sanitizers see each access
 * beyond what is there; what they cannot see is checked here: that each line is a row or handed back, that texts lie within
 * what was written of their copies, that a column is said to be what it is, and that nothing is left of a row that was taken back.
 *
 * scan_fuzz SEEDS COUNT SEED: the same arguments give the same lines. When something is found they are printed. */
#define PROGRAM "scan_fuzz"
#define SUBJECT "block of lines"
#define SEED_HEAD uint32_t length;
#define SEED_MIN 2
#define SEED_MAX 8192
#include "harness.h"
#include "jsonscan.h"

static const struct { const char *name; uint16_t kind; uint32_t width; } known[] = {
	{ "oob.time.sec", NFL_SCAN_SEC, 0 }, { "oob.time.usec", NFL_SCAN_USEC, 0 }, { "timestamp", NFL_SCAN_NONE, 0 },
	{ "sum.name", NFL_SCAN_ODD, 0 }, { "raw.label", NFL_SCAN_U8, 1 }, { "action", NFL_SCAN_ACTION, 1 },
	{ "tcp.window", NFL_SCAN_U16, 2 }, { "oob.mark", NFL_SCAN_U32, 4 }, { "orig.raw.pktlen", NFL_SCAN_U64, 8 },
	{ "oob.prefix", NFL_SCAN_TEXT, 16 }, { "src_ip", NFL_SCAN_TEXT, 16 },
};

static const char *const pieces[] = {
	"{", "}", "\"", ":", ",", "\n", " ", "\\\"", "\\u0041", "null", "-1", "0", "00", "255", "256", "65535", "65536", "4294967295",
	"4294967296", "9999999999999999999", "18446744073709551615", "18446744073709551616", "1e3", "[1]", "{}", "\"blocked\"",
	"\"allowed\"", "\"oob.time.sec\": 1", "\"oob.prefix\": \"twelve chars\"", "\"oob.prefix\": \"thirteen char\"", "\xc3\xbc",
};

static void mutate(struct seed *s)
{
	uint32_t at = below(s->length), from = below(s->length), size;
	const char *piece = pieces[below(ARRAY(pieces))];

	switch (below(5)) {
	case 0:
		s->data[at] = (uint8_t)any();
		break;
	case 1:		/* something of JSON in the place of what is there, or before it */
		size = (uint32_t)strlen(piece);
		if (s->length + size > SEED_MAX)
			break;
		if (one_in(2)) {
			memmove(s->data + at + size, s->data + at, s->length - at);
			s->length += size;
		} else if (at + size > s->length) {
			break;
		}
		memcpy(s->data + at, piece, size);
		break;
	case 2:
		if (at >= SEED_MIN)
			s->length = at;
		break;
	case 3:
		memmove(s->data + at, s->data + from, below(s->length - (at > from ? at : from)));
		break;
	case 4:		/* more lines behind it */
		if (one_in(2)) {
			const struct seed *other = seeds + below(seed_count);

			size = other->length < SEED_MAX - s->length ? other->length : SEED_MAX - s->length;
			memcpy(s->data + s->length, other->data, size);
			s->length += size;
		}
		break;
	}
}

static uint64_t rows_total, odd_total;

static void check_texts(const struct nfl_scan *s, uint32_t column)
{
	for (uint32_t row = 0; row < s->rows; row++) {
		uint32_t text[4];

		if (!(s->columns[column].valid[row / 8] >> row % 8 & 1))
			continue;
		memcpy(text, s->columns[column].values + 16 * row, 16);
		check(text[0] <= 12 || (!text[2] && text[3] <= s->texts_used && text[0] <= s->texts_used - text[3]),
		      "a text lies outside of the copies");
		check(text[0] <= 12 || !memcmp(&text[1], s->texts + text[3], 4), "a view does not begin as its text");
	}
}

static void check_state(const struct nfl_scan_column *column, uint32_t width, uint32_t rows)
{
	uint32_t filled = 0, same = 1;

	for (uint32_t row = 0; row < rows; row++) {
		if (!(column->valid[row / 8] >> row % 8 & 1))
			continue;
		filled++;
		same &= !memcmp(column->values, column->values + (size_t)row * width, width);
	}
	check(nfl_scan_state(column, width, rows) ==
	      (!filled ? NFL_SCAN_EMPTY : filled == rows && same ? NFL_SCAN_SAME : NFL_SCAN_MIXED), "a column is something else");
}

static void scan(const struct seed *s)
{
	struct nfl_scan_member members[ARRAY(known) + 1];
	struct nfl_scan_column columns[ARRAY(known)];
	uint32_t widths[ARRAY(known)], table[32], room = 1 + below(20), odd_room = 1 + below(20), at = 0, count = 0;
	struct nfl_scan plan = {
		.members = members, .count = ARRAY(known), .mask = ARRAY(table) - 1, .table = table, .columns = columns,
		.room = room, .odd_room = odd_room,
	};
	uint8_t *data = exactly(s->length, s->data);

	tried = data;
	tried_length = s->length;
	memset(table, 0xff, sizeof(table));
	for (uint32_t i = 0; i < ARRAY(known); i++) {
		uint32_t length = (uint32_t)strlen(known[i].name), place = nfl_scan_hash(known[i].name, length) & plan.mask;

		while (table[place] != UINT32_MAX)
			place = (place + 1) & plan.mask;
		table[place] = i;
		members[i] = (struct nfl_scan_member){ exactly(length, known[i].name), length, known[i].kind, 0, i + 1 };
		if (!known[i].width)
			continue;
		/* A label and an action are one column. */
		members[i].column = (uint16_t)(known[i].kind == NFL_SCAN_ACTION ? count - 1 : count);
		if (known[i].kind != NFL_SCAN_ACTION) {
			widths[count] = known[i].width;
			columns[count].valid = exactly((room + 7) / 8, NULL);
			columns[count++].values = exactly((size_t)room * known[i].width, NULL);
		}
	}
	members[ARRAY(known)] = (struct nfl_scan_member){ .next = below(ARRAY(known) + 1) };
	plan.columns_count = count;
	plan.sec = exactly(room * sizeof(int64_t), NULL);
	plan.us = exactly(room * sizeof(int64_t), NULL);
	plan.odd = exactly(odd_room * sizeof(*plan.odd), NULL);
	while (at < s->length) {
		uint32_t left = s->length - at, size, odd = 0;

		for (uint32_t i = 0; i < count; i++)
			memset(columns[i].valid, 0, (room + 7) / 8);
		/* Sometimes too little, which the caller never gives. */
		plan.texts_room = one_in(8) ? below(left) : left;
		plan.texts = exactly(plan.texts_room, NULL);
		size = nfl_scan_lines(&plan, (const char *)data + at, left);
		check(size && size <= left, "it does not go on, or beyond the end");
		check(plan.rows <= room && plan.odds <= odd_room, "there are more rows or odd lines than room");
		for (uint32_t i = 0; i < plan.odds; i++) {
			check(plan.odd[i].start >= odd && plan.odd[i].length && plan.odd[i].start + plan.odd[i].length <= size,
			      "an odd line lies outside of what was read");
			odd = plan.odd[i].start + plan.odd[i].length;
			check(data[at + odd - 1] == '\n' || at + odd == s->length, "an odd line is in parts");
		}
		for (uint32_t i = 0; i < count; i++)
			for (uint32_t row = plan.rows; row < room; row++)
				check(!(columns[i].valid[row / 8] >> row % 8 & 1), "something is left of a row that was taken back");
		check(plan.texts_used <= plan.texts_room, "there are more texts than room");
		check_texts(&plan, count - 1);
		check_texts(&plan, count - 2);
		if (plan.rows)
			for (uint32_t i = 0; i < count; i++)
				check_state(columns + i, widths[i], plan.rows);
		free(plan.texts);
		for (uint32_t row = 0; row < plan.rows; row++)
			check(plan.sec[row] == plan.us[row] / 1000000 && plan.sec[row] > 0, "the times of a row differ");
		rows_total += plan.rows;
		odd_total += plan.odds;
		at += size;
	}
	for (uint32_t i = 0; i < ARRAY(known); i++)
		free((void *)members[i].name);
	for (uint32_t i = 0; i < count; i++) {
		free(columns[i].valid);
		free(columns[i].values);
	}
	free(plan.sec);
	free(plan.us);
	free(plan.odd);
	free(data);
}

int main(int argc, char **argv)
{
	uint64_t wanted = start(argc, argv);
	static struct seed lines;

	for (tried_number = 0; tried_number < wanted; tried_number++) {
		memcpy(&lines, seeds + below(seed_count), sizeof(lines));
		for (uint32_t times = below(6); times; times--)
			mutate(&lines);
		scan(&lines);
	}
	printf("%llu mutated blocks of lines, %llu rows, %llu handed back, %.1f seconds\n", (unsigned long long)wanted,
	       (unsigned long long)rows_total, (unsigned long long)odd_total, seconds());
	free(seeds);
	return 0;
}
