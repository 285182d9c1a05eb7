// SPDX-License-Identifier: GPL-2.0-or-later
/* Records to text: JSON lines (RFC 8259) in ulogd's layout, with `", "` between members and `": "` after names; rows for a
 * database; single columns. */
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "record.h"
#include "render.h"

#define HAS(record, bit) ((record)->valid >> (bit) & 1)

static const char digits2[] =
	"0001020304050607080910111213141516171819202122232425262728293031323334353637383940414243444546474849"
	"5051525354555657585960616263646566676869707172737475767778798081828384858687888990919293949596979899";

static inline char *put(char *p, const char *text, size_t length)
{
	memcpy(p, text, length);
	return p + length;
}

/* A short constant text that lies in NFL_LABEL_BYTES readable bytes, to where as many may be written: one copy of a fixed size
 * is a few instructions, one of a variable size is a call. */
static inline char *put_label(char *p, const char *text, uint32_t length)
{
	memcpy(p, text, NFL_LABEL_BYTES);
	if (__builtin_expect(length > NFL_LABEL_BYTES, 0))
		memcpy(p + NFL_LABEL_BYTES, text + NFL_LABEL_BYTES, length - NFL_LABEL_BYTES);
	return p + length;
}

static inline char *put2(char *p, uint32_t n)
{
	memcpy(p, digits2 + n * 2, 2);
	return p + 2;
}

static inline char *put_u8(char *p, uint8_t n)
{
	if (n >= 100) {
		*p++ = (char)('0' + n / 100);
		return put2(p, n % 100u);
	}
	if (n >= 10)
		return put2(p, n);
	*p++ = (char)('0' + n);
	return p;
}

static inline char *put_u16(char *p, uint32_t n)
{
	if (n >= 10000) {
		*p++ = (char)('0' + n / 10000);
		n %= 10000;
		return put2(put2(p, n / 100), n % 100);
	}
	if (n >= 1000)
		return put2(put2(p, n / 100), n % 100);
	if (n >= 100) {
		*p++ = (char)('0' + n / 100);
		return put2(p, n % 100);
	}
	return put_u8(p, (uint8_t)n);
}

static char *put_u64(char *p, uint64_t n)
{
	char text[20], *at = text + sizeof(text);

	if (n <= UINT16_MAX)
		return put_u16(p, (uint32_t)n);
	while (n >= 100) {
		at -= 2;
		put2(at, n % 100);
		n /= 100;
	}
	at -= n >= 10 ? 2 : 1;
	put_u8(at, (uint8_t)n);
	return put(p, at, (size_t)(text + sizeof(text) - at));
}

static const char hex[] = "0123456789abcdef";
static const char hex2[] =
	"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f3031"
	"32333435363738393a3b3c3d3e3f404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f60616263"
	"6465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f808182838485868788898a8b8c8d8e8f909192939495"
	"969798999a9b9c9d9e9fa0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebfc0c1c2c3c4c5c6c7"
	"c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d8d9dadbdcdddedfe0e1e2e3e4e5e6e7e8e9eaebecedeeeff0f1f2f3f4f5f6f7f8f9"
	"fafbfcfdfeff";

static char *put_hex16(char *p, uint16_t n)
{
	bool on = false;

	for (int shift = 12; shift >= 0; shift -= 4) {
		unsigned digit = n >> shift & 0xf;

		if (digit || on || !shift) {
			*p++ = hex[digit];
			on = true;
		}
	}
	return p;
}

static char *put_addr4(char *p, const uint8_t *a)
{
	for (int i = 0; i < 4; i++) {
		if (i)
			*p++ = '.';
		p = put_u8(p, a[i]);
	}
	return p;
}

/* The text that inet_ntop(3) gives: the longest run of two or more zero groups is "::", IPv4 tails stay dotted. */
static char *put_addr6(char *p, const uint8_t *a)
{
	int best = -1, best_length = 1, run = 0;
	uint16_t group[8];

	for (int i = 0; i < 8; i++) {
		group[i] = (uint16_t)(a[2 * i] << 8 | a[2 * i + 1]);
		run = group[i] ? 0 : run + 1;
		if (run > best_length) {
			best_length = run;
			best = i - run + 1;
		}
	}
	for (int i = 0; i < 8; i++) {
		if (i == best) {
			*p++ = ':';
			i += best_length - 1;
			if (i == 7)
				*p++ = ':';
			continue;
		}
		if (i)
			*p++ = ':';
		if (i == 6 && best == 0 && (best_length == 6 || (best_length == 5 && group[5] == 0xffff)))
			return put_addr4(p, a + 12);
		p = put_hex16(p, group[i]);
	}
	return p;
}

static char *put_hex(char *p, const uint8_t *bytes, size_t length)
{
	for (size_t i = 0; i < length; i++)
		p = put(p, hex2 + bytes[i] * 2, 2);
	return p;
}

static char *put_addr_bin(char *p, const uint8_t *a, bool is6)
{
	p = put(p, "0x", 2);
	if (is6)
		return put_hex(p, a, 16);
	return put_hex(put(p, "00000000000000000000ffff", 24), a, 4);
}

static char *put_mac(char *p, const uint8_t *bytes, uint32_t length)
{
	for (uint32_t i = 0; i < length; i++) {
		memcpy(p, hex2 + bytes[i] * 2, 2);
		p[2] = ':';
		p += 3;
	}
	return length ? p - 1 : p;
}

/* Bytes of the well-formed UTF-8 sequence at p (Unicode, table 3-7); negative: the bytes of an ill-formed beginning. */
static int utf8(const uint8_t *p, size_t left)
{
	uint8_t low = 0x80, high = 0xbf;
	int more;

	if (p[0] >= 0xc2 && p[0] <= 0xdf)
		more = 1;
	else if (p[0] >= 0xe0 && p[0] <= 0xef)
		more = 2;
	else if (p[0] >= 0xf0 && p[0] <= 0xf4)
		more = 3;
	else
		return -1;
	if (p[0] == 0xe0)
		low = 0xa0;
	else if (p[0] == 0xed)
		high = 0x9f;
	else if (p[0] == 0xf0)
		low = 0x90;
	else if (p[0] == 0xf4)
		high = 0x8f;
	for (int i = 1; i <= more; i++) {
		if ((size_t)i >= left || p[i] < low || p[i] > high)
			return -i;
		low = 0x80;
		high = 0xbf;
	}
	return more + 1;
}

/* Text in quotes; what is not UTF-8 becomes U+FFFD, as Python's errors="replace" does. At most 6 bytes a byte, and 2. */
static char *put_string(char *p, const char *text, size_t length)
{
	const uint8_t *s = (const uint8_t *)text, *end = s + length;

	*p++ = '"';
	while (s < end) {
		if (*s >= 0x80) {
			int size = utf8(s, (size_t)(end - s));

			if (size > 0) {
				p = put(p, (const char *)s, (size_t)size);
				s += size;
			} else {
				p = put(p, "\xef\xbf\xbd", 3);
				s -= size;
			}
			continue;
		}
		if (*s >= 0x20 && *s != '"' && *s != '\\') {
			*p++ = (char)*s++;
			continue;
		}
		*p++ = '\\';
		switch (*s) {
		case '"': case '\\':
			*p++ = (char)*s;
			break;
		case '\b':
			*p++ = 'b';
			break;
		case '\f':
			*p++ = 'f';
			break;
		case '\n':
			*p++ = 'n';
			break;
		case '\r':
			*p++ = 'r';
			break;
		case '\t':
			*p++ = 't';
			break;
		default:
			p = put(p, "u00", 3);
			*p++ = hex[*s >> 4];
			*p++ = hex[*s & 0xf];
		}
		s++;
	}
	*p++ = '"';
	return p;
}

/* The value of a column that is text, unquoted: where it lies, or made in scratch. */
struct text {
	const char *at;
	size_t length;
	bool plain;	/* nothing in it needs escaping */
};

static struct text text_of(const struct nfl_column *c, const struct nfl_batch *b, const struct nfl_any *r, uint32_t row,
			   char *scratch)
{
	const uint8_t *field = (const uint8_t *)r + c->field;
	struct text made = { scratch, 0, true };
	uint32_t at, low = 0, high = b->ifname_count;
	uint16_t length;

	switch (c->kind) {
	case NFL_BYTES_TEXT:
		memcpy(&at, field, sizeof(at));
		memcpy(&length, (const uint8_t *)r + c->field2, sizeof(length));
		return (struct text){ (const char *)b->data + at, length, false };
	case NFL_CHARS:
		length = c->width;
		if (c->field2) {
			memcpy(&length, (const uint8_t *)r + c->field2, sizeof(length));
			length = length < c->width ? length : c->width;
		}
		return (struct text){ (const char *)field, strnlen((const char *)field, length), false };
	case NFL_ADDR:
		made.length = (size_t)((HAS(r, c->six) ? put_addr6 : put_addr4)(scratch, field) - scratch);
		return made;
	case NFL_ADDR_BIN:
		made.length = (size_t)(put_addr_bin(scratch, field, HAS(r, c->six)) - scratch);
		return made;
	case NFL_ADDR4:
		made.length = (size_t)(put_addr4(scratch, field) - scratch);
		return made;
	case NFL_MAC:
		made.length = (size_t)(put_mac(scratch, field, *((const uint8_t *)r + c->field2)) - scratch);
		return made;
	case NFL_IFNAME:
		memcpy(&at, field, sizeof(at));
		while (low < high) {
			uint32_t middle = (low + high) / 2;

			if (b->ifnames[middle].index == at)
				return (struct text){ b->ifnames[middle].name, b->ifnames[middle].length, false };
			if (b->ifnames[middle].index < at)
				low = middle + 1;
			else
				high = middle;
		}
		return made;
	case NFL_ACTION:
		return *field ? (struct text){ "allowed", 7, true } : (struct text){ "blocked", 7, true };
	case NFL_ROW_TEXT: {
		const struct nfl_span *span = (const struct nfl_span *)c->values + row;

		return (struct text){ c->blob + span->at, span->length, false };
	}
	}
	return made;
}

static bool holds(const struct nfl_column *c, const struct nfl_any *r, uint32_t row)
{
	if (c->kind >= NFL_ROW_INT)
		return c->kind != NFL_ROW_NONE && (!c->present || c->present[row]);
	return HAS(r, c->valid);
}

static char *put_number(char *p, const struct nfl_column *c, const struct nfl_any *r, uint32_t row)
{
	const uint8_t *field = (const uint8_t *)r + c->field;
	uint16_t u16;
	uint32_t u32;
	uint64_t u64;
	int64_t n;
	double f;

	switch (c->kind) {
	case NFL_U8:
		return put_u8(p, *field);
	case NFL_U16:
		memcpy(&u16, field, sizeof(u16));
		return put_u16(p, u16);
	case NFL_U32:
		memcpy(&u32, field, sizeof(u32));
		return put_u64(p, u32);
	case NFL_U64:
		memcpy(&u64, field, sizeof(u64));
		return put_u64(p, u64);
	case NFL_ROW_INT:
		n = ((const int64_t *)c->values)[row];
		if (n < 0)
			*p++ = '-';
		return put_u64(p, n < 0 ? 0 - (uint64_t)n : (uint64_t)n);
	case NFL_ROW_UINT:
		return put_u64(p, ((const uint64_t *)c->values)[row]);
	default:	/* NFL_ROW_FLOAT; JSON has no infinity */
		f = ((const double *)c->values)[row];
		return isfinite(f) ? p + snprintf(p, 32, "%.17g", f) : put(p, "null", 4);
	}
}

/* When a row was, in seconds since 1970; microseconds that are none mean that only the second is known. */
static int64_t time_of(const struct nfl_plan *plan, const struct nfl_batch *b, const struct nfl_any *r, uint32_t *usec)
{
	const uint8_t *record = (const uint8_t *)r;
	uint32_t second;
	uint64_t ns;

	switch (plan->clock) {
	case NFL_CLOCK_USEC:
		memcpy(&second, record + plan->time, sizeof(second));
		memcpy(usec, record + plan->time_usec, sizeof(*usec));
		return second;
	case NFL_CLOCK_NS:
		memcpy(&ns, record + plan->time, sizeof(ns));
		*usec = (uint32_t)(ns / 1000 % 1000000);
		return (int64_t)(ns / 1000000000);
	default:
		*usec = b->usec;
		return b->second;
	}
}

static char *put_usec(char *p, uint32_t usec)
{
	return put2(put2(put2(p, usec / 10000), usec / 100 % 100), usec % 100);
}

static void new_second(struct nfl_json *json, int64_t second)
{
	struct nfl_plan *plan = &json->plan;
	time_t when = (time_t)second;
	struct tm local;
	long minutes;

	localtime_r(&when, &local);
	minutes = local.tm_gmtoff / 60;
	plan->text_length = (uint32_t)strftime(plan->text, sizeof(plan->text), "%Y-%m-%dT%H:%M:%S", &local);
	snprintf(json->zone, sizeof(json->zone), "%c%02u%02u", minutes < 0 ? '-' : '+',
		 (unsigned)(minutes < 0 ? -minutes : minutes) / 60 % 100,
		 (unsigned)(minutes < 0 ? -minutes : minutes) % 60);
	plan->second = second;
}

static char *put_timestamp(char *p, struct nfl_json *json, const struct nfl_batch *b, const struct nfl_any *r)
{
	uint32_t usec;
	int64_t second = time_of(&json->plan, b, r, &usec);

	if (json->plan.second != second)
		new_second(json, second);
	p = put(p, json->plan.text, json->plan.text_length);
	if (json->plan.clock == NFL_CLOCK_BATCH && usec > 999999)
		return put(p, json->zone, 5);
	*p++ = '.';
	return put(put_usec(p, usec % 1000000), json->zone, 5);
}

/* One line at p, which has plan.fixed_size bytes and all up to end; NULL when it does not fit. */
static char *put_line(char *p, const char *end, struct nfl_json *json, const struct nfl_batch *b, const struct nfl_any *r,
		      uint32_t row)
{
	const struct nfl_plan *plan = &json->plan;
	char scratch[64];

	p = put(p, json->head, json->head_length);
	if (json->timestamp)
		p = put_timestamp(p, json, b, r);
	p = put(p, json->tail, json->tail_length);
	for (const struct nfl_column *c = plan->columns; c < plan->columns + plan->count; c++) {
		struct text text;

		if (!holds(c, r, row))
			continue;
		if (c->kind <= NFL_U64 || (c->kind >= NFL_ROW_INT && c->kind <= NFL_ROW_FLOAT)) {
			p = put_label(p, c->label, c->label_length);
			p = put_number(p, c, r, row);
			continue;
		}
		if (c->kind == NFL_MAC_BYTES) {
			uint32_t at;
			uint16_t length;

			memcpy(&at, (const uint8_t *)r + c->field, sizeof(at));
			memcpy(&length, (const uint8_t *)r + c->field2, sizeof(length));
			if ((size_t)(end - p) < plan->fixed_size + 3u * length)
				return NULL;
			p = put_label(p, c->label, c->label_length);
			*p++ = '"';
			p = put_mac(p, b->data + at, length);
			*p++ = '"';
			continue;
		}
		text = text_of(c, b, r, row, scratch);
		if ((size_t)(end - p) < plan->fixed_size + 6 * text.length)
			return NULL;
		p = put_label(p, c->label, c->label_length);
		if (text.plain) {
			*p++ = '"';
			p = put(p, text.at, text.length);
			*p++ = '"';
		} else {
			p = put_string(p, text.at, text.length);
		}
	}
	return put(p, "}\n", 2);
}

/* The record of a row, or NULL. */
static const struct nfl_any *record_of(const struct nfl_batch *b, uint32_t row)
{
	return b->records ? (const void *)((const uint8_t *)b->records + (size_t)row * b->stride) : NULL;
}

size_t nfl_json_render(struct nfl_json *json, const struct nfl_batch *batch, uint32_t first, char *out, size_t size,
		       uint32_t *done)
{
	char *p = out, *end = out + size, *after;

	for (*done = first; *done < batch->count; (*done)++) {
		uint32_t row = batch->rows ? batch->rows[*done] : *done;

		if ((size_t)(end - p) < json->plan.fixed_size)
			break;
		after = put_line(p, end, json, batch, record_of(batch, row), row);
		if (!after)
			break;
		p = after;
	}
	return (size_t)(p - out);
}

/* Text with what COPY reads as a separator, an escape or an end in its escapes. What is not UTF-8, and NUL, which PostgreSQL
 * cannot store, becomes U+FFFD. At most 3 bytes a byte. */
static char *put_copy_text(char *p, const char *text, size_t length)
{
	const uint8_t *s = (const uint8_t *)text, *end = s + length;

	while (s < end) {
		if (*s > '\r' && *s < 0x80 && *s != '\\') {
			*p++ = (char)*s++;
		} else if (*s >= 0x80) {
			int size = utf8(s, (size_t)(end - s));

			p = size > 0 ? put(p, (const char *)s, (size_t)size) : put(p, "\xef\xbf\xbd", 3);
			s += size > 0 ? size : -size;
		} else if (!*s) {
			p = put(p, "\xef\xbf\xbd", 3);
			s++;
		} else {
			if (*s == '\\' || *s >= '\b')
				*p++ = '\\';
			*p++ = *s == '\\' || *s < '\b' ? (char)*s : "btnvfr"[*s - '\b'];
			s++;
		}
	}
	return p;
}

static char *put_time(char *p, struct nfl_plan *plan, const struct nfl_batch *b, const struct nfl_any *r)
{
	uint32_t usec;
	int64_t second = time_of(plan, b, r, &usec);

	if (plan->second != second) {
		time_t when = (time_t)second;
		struct tm utc;

		gmtime_r(&when, &utc);
		plan->text_length = (uint32_t)strftime(plan->text, sizeof(plan->text), "%Y-%m-%d %H:%M:%S.", &utc);
		plan->second = second;
	}
	p = put(p, plan->text, plan->text_length);
	return put(put_usec(p, usec > 999999 ? 0 : usec), "+00", 3);
}

/* Where the bytes of a column lie that are written as hex digits. */
static const uint8_t *bytes_of(const struct nfl_column *c, const struct nfl_any *r, const uint8_t *data, size_t *length)
{
	const uint8_t *record = (const uint8_t *)r;
	uint16_t narrow = 0;
	uint32_t at, wide = 0;

	if (c->kind == NFL_FIXED_HEX) {
		if (c->field2)
			memcpy(&narrow, record + c->field2, sizeof(narrow));
		*length = c->field2 && narrow < c->width ? narrow : c->width;
		return record + c->field;
	}
	memcpy(&at, record + c->field, sizeof(at));
	if (c->width == sizeof(wide))
		memcpy(&wide, record + c->field2, sizeof(wide));
	else
		memcpy(&narrow, record + c->field2, sizeof(narrow));
	*length = c->width == sizeof(wide) ? wide : narrow;
	return data + at;
}

/* One field at p, which has plan->fixed_size bytes and all up to end; NULL when it does not fit. */
static char *put_field(char *p, const char *end, struct nfl_plan *plan, const struct nfl_column *c, const struct nfl_batch *b,
		       const struct nfl_any *r, uint32_t row)
{
	char scratch[64];
	struct text text;
	const uint8_t *bytes;
	uint32_t at;
	uint16_t narrow;
	size_t length;

	switch (c->kind) {
	case NFL_U8: case NFL_U16: case NFL_U32: case NFL_U64: case NFL_ROW_INT: case NFL_ROW_UINT:
		return put_number(p, c, r, row);
	case NFL_ROW_FLOAT: {
		double f = ((const double *)c->values)[row];

		/* %.17g writes "nan", "inf" and "-inf", which PostgreSQL reads. */
		return p + snprintf(p, 32, "%.17g", f);
	}
	case NFL_TIME:
		return put_time(p, plan, b, r);
	case NFL_ADDR_NUMBER:
		bytes = (const uint8_t *)r + c->field;
		return put_u64(p, (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3]);
	case NFL_BYTES_HEX: case NFL_FIXED_HEX:
		bytes = bytes_of(c, r, b->data, &length);
		if ((size_t)(end - p) < plan->fixed_size + 2 * length)
			return NULL;
		return put_hex(put(p, "\\\\x", 3), bytes, length);
	case NFL_MAC_BYTES:
		memcpy(&at, (const uint8_t *)r + c->field, sizeof(at));
		memcpy(&narrow, (const uint8_t *)r + c->field2, sizeof(narrow));
		if ((size_t)(end - p) < plan->fixed_size + 3u * narrow)
			return NULL;
		return put_mac(p, b->data + at, narrow);
	}
	text = text_of(c, b, r, row, scratch);
	if ((size_t)(end - p) < plan->fixed_size + 3 * text.length)
		return NULL;
	return text.plain ? put(p, text.at, text.length) : put_copy_text(p, text.at, text.length);
}

static bool has_field(const struct nfl_column *c, const struct nfl_any *r, uint32_t row)
{
	if (c->kind == NFL_TIME)
		return true;
	return holds(c, r, row) && !(c->kind == NFL_ADDR_NUMBER && c->width > 4 && HAS(r, c->six));
}

static char *put_row(char *p, const char *end, struct nfl_plan *plan, const struct nfl_batch *b, const struct nfl_any *r,
		     uint32_t row)
{
	for (const struct nfl_column *c = plan->columns; c < plan->columns + plan->count; c++) {
		if (has_field(c, r, row)) {
			p = put_field(p, end, plan, c, b, r, row);
			if (!p)
				return NULL;
		} else {
			p = put(p, "\\N", 2);
		}
		*p++ = '\t';
	}
	p[-1] = '\n';
	return p;
}

size_t nfl_copy_render(struct nfl_plan *plan, const struct nfl_batch *batch, uint32_t first, char *out, size_t size,
		       uint32_t *done)
{
	char *p = out, *end = out + size, *after;

	for (*done = first; *done < batch->count; (*done)++) {
		uint32_t row = batch->rows ? batch->rows[*done] : *done;

		if ((size_t)(end - p) < plan->fixed_size)
			break;
		after = put_row(p, end, plan, batch, record_of(batch, row), row);
		if (!after)
			break;
		p = after;
	}
	return (size_t)(p - out);
}

size_t nfl_text_render(const struct nfl_column *column, const struct nfl_batch *batch, uint32_t first, char *out,
		       size_t size, uint32_t *done)
{
	char *p = out, *end = out + size, scratch[64];

	for (*done = first; *done < batch->count; (*done)++) {
		uint32_t row = batch->rows ? batch->rows[*done] : *done;
		const struct nfl_any *r = record_of(batch, row);
		struct text text = { scratch, 0, true };

		if (holds(column, r, row)) {
			if (column->kind == NFL_MAC_BYTES) {
				uint32_t at;
				uint16_t length;

				memcpy(&at, (const uint8_t *)r + column->field, sizeof(at));
				memcpy(&length, (const uint8_t *)r + column->field2, sizeof(length));
				if ((size_t)(end - p) < 3u * length + 1)
					break;
				p = put_mac(p, batch->data + at, length);
			} else {
				text = text_of(column, batch, r, row, scratch);
			}
		}
		if ((size_t)(end - p) < text.length + 1)
			break;
		p = put(p, text.at, text.length);
		*p++ = '\0';
	}
	return (size_t)(p - out);
}
