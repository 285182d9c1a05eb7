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

/* Where the text that begins at p ends: its quote; NULL where it is not plain. */
static const char *text_end(const char *p, const char *end)
{
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
		if (s->members[member].length == length && !memcmp(s->members[member].name, name, length))
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

static void view(uint8_t *out, const char *data, const char *p, uint32_t length)
{
	uint32_t at[2] = { 0, (uint32_t)(p - data) };

	memcpy(out, &length, 4);
	memset(out + 4, 0, 12);
	if (length <= 12) {
		memcpy(out + 4, p, length);
	} else {
		memcpy(out + 4, p, 4);
		memcpy(out + 8, at, 8);
	}
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

static int put_text(struct nfl_scan *s, struct row *row, const struct nfl_scan_member *m, const char *data, const char *p,
		    uint32_t length)
{
	switch (m->kind) {
	case NFL_SCAN_NONE:
		return 1;
	case NFL_SCAN_TEXT:
		view(s->columns[m->column].values + (size_t)s->rows * 16, data, p, length);
		return take(s, row, m->column);
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
static const char *object(struct nfl_scan *s, struct row *row, const char *data, const char *p, const char *end)
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
		if (next < s->count && m->length < (uint64_t)(end - p) && p[m->length] == '"' && !memcmp(p, m->name, m->length)) {
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

			if (!quote || !put_text(s, row, m, data, p, (uint32_t)(quote - p)))
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

	s->rows = s->odds = 0;
	while (p < end && s->rows < s->room && s->odds < s->odd_room) {
		const char *line = p, *newline, *after;
		struct row row;

		row.touched = row.has_sec = row.has_usec = row.sec = row.usec = 0;
		after = object(s, &row, data, p, end);
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
