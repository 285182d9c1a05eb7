// SPDX-License-Identifier: GPL-2.0-or-later
/* Plain lines of JSON into columns. What is not plain is found at the first byte that is not, and its row is taken back. */
#include <stdint.h>
#include <string.h>
#include "jsonscan.h"

#define NONE UINT32_MAX

struct row {
	uint32_t sec, usec;
	uint8_t has_sec, has_usec;
	uint32_t touched;
	uint16_t columns[NFL_SCAN_COLUMNS_MAX];
};

uint32_t nfl_scan_hash(const char *name, uint32_t length)
{
	uint32_t hash = 2166136261u;

	for (uint32_t i = 0; i < length; i++)
		hash = (hash ^ (uint8_t)name[i]) * 16777619u;
	return hash ^ hash >> 15;
}

static const char *blanks(const char *p, const char *end)
{
	while (p < end && (*p == ' ' || *p == '\t' || *p == '\r'))
		p++;
	return p;
}

#define EACH(byte) (0x0101010101010101u * (byte))	/* eight of them */

/* Eight bytes, the first one lowest. */
static uint64_t eight(const char *p)
{
	uint64_t word;

	memcpy(&word, p, 8);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	word = __builtin_bswap64(word);
#endif
	return word;
}

static uint32_t four(const char *p)
{
	uint32_t word;

	memcpy(&word, p, 4);
	return word;
}

/* The same bytes: memcmp, which is not called for a few of them. */
static int is_same(const char *p, const char *other, uint32_t length)
{
	if (length >= 8) {
		for (uint32_t i = 0; i < length - 8; i += 8)
			if (eight(p + i) != eight(other + i))
				return 0;
		return eight(p + length - 8) == eight(other + length - 8);
	}
	if (length >= 4)
		return four(p) == four(other) && four(p + length - 4) == four(other + length - 4);
	for (uint32_t i = 0; i < length; i++)
		if (p[i] != other[i])
			return 0;
	return 1;
}

/* Where the text that begins at p ends: its quote; NULL where it is not plain. */
static const char *text_end(const char *p, const char *end)
{
	for (; end - p >= 8; p += 8) {
		uint64_t w = eight(p), quote = w ^ EACH('"'), back = w ^ EACH('\\');
		/* The top bit of each byte that is below 0x20, above 0x7e, a quote or a backslash. Of the bytes above the lowest
		 * such one it may be wrong. */
		uint64_t found = (((w - EACH(0x20)) & ~w) | w | (w + EACH(1)) | ((quote - EACH(1)) & ~quote) |
				  ((back - EACH(1)) & ~back)) & EACH(0x80);

		if (found) {
			p += __builtin_ctzll(found) / 8;
			return *p == '"' ? p : 0;
		}
	}
	for (; p < end; p++) {
		uint8_t c = (uint8_t)*p;

		if (c == '"')
			return p;
		if (c < 0x20 || c > 0x7e || c == '\\')
			return 0;
	}
	return 0;
}

/* A whole number; NULL where it is none. */
static const char *number(const char *p, const char *end, uint64_t *value)
{
	const char *start = p;
	uint64_t made = 0;

	for (; p < end && *p >= '0' && *p <= '9'; p++)
		made = made * 10 + (uint64_t)(*p - '0');
	/* 19 digits fit for certain; a number does not begin with 0. */
	if (p == start || p - start > 19 || (*start == '0' && p - start > 1))
		return 0;
	*value = made;
	return p;
}

static uint32_t find(const struct nfl_scan *s, const char *name, uint32_t length)
{
	for (uint32_t at = nfl_scan_hash(name, length) & s->mask;; at = (at + 1) & s->mask) {
		uint32_t member = s->table[at];

		if (member == NONE)
			return NONE;
		if (s->members[member].length == length && is_same(s->members[member].name, name, length))
			return member;
	}
}

/* Say that a column has a value in this row; 0 where it has one already. */
static int take(struct nfl_scan *s, struct row *row, uint32_t column)
{
	uint8_t *valid = &s->columns[column].valid[s->rows / 8], bit = (uint8_t)(1 << s->rows % 8);

	if (*valid & bit)
		return 0;
	*valid |= bit;
	row->columns[row->touched++] = (uint16_t)column;
	return 1;
}

/* Make a view of a text. Those of most columns come again in the next row: these are not copied again. 0: there is no room. */
static int view(struct nfl_scan *s, uint32_t column, const char *p, uint32_t length)
{
	uint8_t *out = s->columns[column].values + (size_t)s->rows * 16;
	uint32_t at[2] = { 0, s->texts_used };

	if (length <= 12) {
		memset(out, 0, 16);
		memcpy(out, &length, 4);
		for (uint32_t i = 0; i < length; i++)
			out[4 + i] = (uint8_t)p[i];
		return 1;
	}
	if (s->rows && s->columns[column].valid[(s->rows - 1) / 8] >> (s->rows - 1) % 8 & 1) {
		uint32_t before[4];

		memcpy(before, out - 16, 16);
		if (before[0] == length && is_same(s->texts + before[3], p, length)) {
			memcpy(out, before, 16);
			return 1;
		}
	}
	if (length > s->texts_room - s->texts_used)
		return 0;
	memcpy(s->texts + s->texts_used, p, length);
	s->texts_used += length;
	memcpy(out, &length, 4);
	memcpy(out + 4, p, 4);
	memcpy(out + 8, at, 8);
	return 1;
}

static int put_number(struct nfl_scan *s, struct row *row, const struct nfl_scan_member *m, uint64_t value)
{
	uint8_t *values = m->kind >= NFL_SCAN_U8 && m->kind <= NFL_SCAN_U64 ? s->columns[m->column].values : 0;

	switch (m->kind) {
	case NFL_SCAN_NONE:
		return 1;
	case NFL_SCAN_U8:
		values[s->rows] = (uint8_t)value;
		return value <= UINT8_MAX && take(s, row, m->column);
	case NFL_SCAN_U16:
		((uint16_t *)values)[s->rows] = (uint16_t)value;
		return value <= UINT16_MAX && take(s, row, m->column);
	case NFL_SCAN_U32:
		((uint32_t *)values)[s->rows] = (uint32_t)value;
		return value <= UINT32_MAX && take(s, row, m->column);
	case NFL_SCAN_U64:
		((uint64_t *)values)[s->rows] = value;
		return take(s, row, m->column);
	case NFL_SCAN_SEC:
		if (row->has_sec++ || value > UINT32_MAX)
			return 0;
		row->sec = (uint32_t)value;
		return 1;
	case NFL_SCAN_USEC:
		if (row->has_usec++ || value > UINT32_MAX)
			return 0;
		row->usec = (uint32_t)value;
		return 1;
	default:
		return 0;
	}
}

static int put_text(struct nfl_scan *s, struct row *row, const struct nfl_scan_member *m, const char *p, uint32_t length)
{
	switch (m->kind) {
	case NFL_SCAN_NONE:
		return 1;
	case NFL_SCAN_TEXT:
		return view(s, m->column, p, length) && take(s, row, m->column);
	case NFL_SCAN_ACTION:
		if (length != 7 || (memcmp(p, "blocked", 7) && memcmp(p, "allowed", 7)))
			return 0;
		s->columns[m->column].values[s->rows] = *p == 'a';
		return take(s, row, m->column);
	default:
		return 0;
	}
}

/* Read one object; NULL where it is not plain. */
static const char *object(struct nfl_scan *s, struct row *row, const char *p, const char *end)
{
	static const struct nfl_scan_member unknown = { .kind = NFL_SCAN_NONE };
	uint32_t before = s->count;

	if (p == end || *p++ != '{')
		return 0;
	for (;;) {
		const struct nfl_scan_member *m;
		uint32_t next = s->members[before].next;
		uint64_t value;

		p = blanks(p, end);
		if (p == end || *p++ != '"')
			return 0;
		m = &s->members[next];
		if (next < s->count && m->length < (uint64_t)(end - p) && p[m->length] == '"' && is_same(p, m->name, m->length)) {
			p += m->length + 1;
		} else {
			const char *quote = text_end(p, end);

			if (!quote)
				return 0;
			next = find(s, p, (uint32_t)(quote - p));
			m = next == NONE ? &unknown : &s->members[next];
			if (next != NONE)
				s->members[before].next = next;
			p = quote + 1;
		}
		if (next != NONE)
			before = next;
		p = blanks(p, end);
		if (p == end || *p++ != ':')
			return 0;
		p = blanks(p, end);
		if (p == end)
			return 0;
		if (*p == '"') {
			const char *quote = text_end(++p, end);

			if (!quote || !put_text(s, row, m, p, (uint32_t)(quote - p)))
				return 0;
			p = quote + 1;
		} else {
			p = number(p, end, &value);
			if (!p || !put_number(s, row, m, value))
				return 0;
		}
		p = blanks(p, end);
		if (p == end)
			return 0;
		if (*p == '}')
			return p + 1;
		if (*p++ != ',')
			return 0;
	}
}

static void take_back(struct nfl_scan *s, const struct row *row)
{
	for (uint32_t i = 0; i < row->touched; i++)
		s->columns[row->columns[i]].valid[s->rows / 8] &= (uint8_t)~(1 << s->rows % 8);
}

uint32_t nfl_scan_lines(struct nfl_scan *s, const char *data, uint32_t size)
{
	const char *p = data, *end = data + size;

	s->rows = s->odds = s->texts_used = 0;
	while (p < end && s->rows < s->room && s->odds < s->odd_room) {
		const char *line = p, *newline, *after;
		struct row row;

		row.touched = row.has_sec = row.has_usec = row.sec = row.usec = 0;
		after = object(s, &row, p, end);
		if (after)
			after = blanks(after, end);
		if (after && (after == end || *after == '\n') && row.sec) {
			s->sec[s->rows] = row.sec + row.usec / 1000000;
			s->us[s->rows++] = (int64_t)row.sec * 1000000 + row.usec;
			p = after == end ? end : after + 1;
			continue;
		}
		take_back(s, &row);
		newline = memchr(line, '\n', (size_t)(end - line));
		p = newline ? newline + 1 : end;
		s->odd[s->odds].start = (uint32_t)(line - data);
		s->odd[s->odds++].length = (uint32_t)(p - line);
	}
	return (uint32_t)(p - data);
}

enum nfl_scan_state nfl_scan_state(const struct nfl_scan_column *column, uint32_t width, uint32_t rows)
{
	uint32_t bytes = rows / 8, rest = rows % 8;
	uint8_t any = 0, all = 0xff;

	for (uint32_t i = 0; i < bytes; i++) {
		any |= column->valid[i];
		all &= column->valid[i];
	}
	if (rest) {
		any |= column->valid[bytes];
		all &= (uint8_t)(column->valid[bytes] | 0xff << rest);
	}
	if (!any)
		return NFL_SCAN_EMPTY;
	if (all != 0xff || memcmp(column->values, column->values + width, (size_t)(rows - 1) * width))
		return NFL_SCAN_MIXED;
	return NFL_SCAN_SAME;
}
