// SPDX-License-Identifier: GPL-2.0-or-later
/* Records to text: JSON lines (RFC 8259) in ulogd's layout, with `", "` between members and `": "` after names; rows for a
 * database; single columns. */
#include <endian.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
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

/* A number of up to 3 digits. Writes 4 bytes: the numbers of a record vary in length, and a wrong guess of the processor's
 * costs more than they do. */
static inline char *put_u8(char *p, uint32_t n)
{
	uint32_t hundreds = n / 100, zeros = (n < 100) + (n < 10), digits;
	uint16_t rest;

	memcpy(&rest, digits2 + (n - hundreds * 100) * 2, sizeof(rest));
	digits = htole32(('0' + hundreds + ((uint32_t)le16toh(rest) << 8)) >> 8 * zeros);
	memcpy(p, &digits, sizeof(digits));
	return p + 3 - zeros;
}

/* The 8 digits of a number below 10^8, one a byte, the first in the lowest: two halves of 4 digits, each into two of 2. */
static inline uint64_t digits8(uint32_t n)
{
	uint64_t fours = n / 10000 | (uint64_t)(n % 10000) << 32;
	uint64_t twos = (fours * 10486 >> 20) & 0x7f0000007f;
	uint64_t ones;

	twos |= (fours - twos * 100) << 16;
	ones = (twos * 103 >> 10) & 0xf000f000f000f;
	return ones | (twos - ones * 10) << 8;
}

static inline char *put_digits8(char *p, uint32_t n)
{
	uint64_t text = htole64(digits8(n) | 0x3030303030303030);

	memcpy(p, &text, sizeof(text));
	return p + 8;
}

/* A number below 10^8 without leading zeros. Writes 8 bytes. */
static inline char *put_below8(char *p, uint32_t n)
{
	uint64_t digits = digits8(n), text;
	unsigned zeros = (unsigned)__builtin_ctzll(digits | 1ULL << 56) / 8;

	text = htole64((digits | 0x3030303030303030) >> 8 * zeros);
	memcpy(p, &text, sizeof(text));
	return p + 8 - zeros;
}

static char *put_long(char *p, uint64_t n)
{
	uint64_t high = n / 100000000;

	if (high < 100000000)
		p = put_below8(p, (uint32_t)high);
	else
		p = put_digits8(put_below8(p, (uint32_t)(high / 100000000)), (uint32_t)(high % 100000000));
	return put_digits8(p, (uint32_t)(n % 100000000));
}

/* A number below 10,000. Writes 4 bytes. */
static inline char *put_below4(char *p, uint32_t n)
{
	uint32_t high = n / 100, zeros = (n < 1000) + (n < 100) + (n < 10), digits;
	uint16_t pair[2];

	memcpy(pair, digits2 + high * 2, sizeof(pair[0]));
	memcpy(pair + 1, digits2 + (n - high * 100) * 2, sizeof(pair[1]));
	digits = htole32((le16toh(pair[0]) | (uint32_t)le16toh(pair[1]) << 16) >> 8 * zeros);
	memcpy(p, &digits, sizeof(digits));
	return p + 4 - zeros;
}

/* Writes up to 8 bytes more than the number has. */
static inline char *put_u64(char *p, uint64_t n)
{
	if (n < 10000)
		return put_below4(p, (uint32_t)n);
	return n < 100000000 ? put_below8(p, (uint32_t)n) : put_long(p, n);
}

static const char hex[] = "0123456789abcdef";
static const char hex2[] =
	"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f3031"
	"32333435363738393a3b3c3d3e3f404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f60616263"
	"6465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f808182838485868788898a8b8c8d8e8f909192939495"
	"969798999a9b9c9d9e9fa0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebfc0c1c2c3c4c5c6c7"
	"c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d8d9dadbdcdddedfe0e1e2e3e4e5e6e7e8e9eaebecedeeeff0f1f2f3f4f5f6f7f8f9"
	"fafbfcfdfeff";

/* Writes 4 bytes. */
static inline char *put_hex16(char *p, uint32_t n)
{
	uint32_t zeros = (n < 0x1000) + (n < 0x100) + (n < 0x10), digits;
	uint16_t pair[2];

	memcpy(pair, hex2 + (n >> 8) * 2, 2);
	memcpy(pair + 1, hex2 + (n & 0xff) * 2, 2);
	digits = htole32((le16toh(pair[0]) | (uint32_t)le16toh(pair[1]) << 16) >> 8 * zeros);
	memcpy(p, &digits, sizeof(digits));
	return p + 4 - zeros;
}

static inline char *put_addr4(char *p, const uint8_t *a)
{
	p = put_u8(p, a[0]);
	*p++ = '.';
	p = put_u8(p, a[1]);
	*p++ = '.';
	p = put_u8(p, a[2]);
	*p++ = '.';
	return put_u8(p, a[3]);
}

/* The text that inet_ntop(3) gives: the longest run of two or more zero groups is "::", IPv4 tails stay dotted. */
static char *put_addr6(char *p, const uint8_t *a)
{
	int best = -1, best_length = 1, run = 0;
	uint16_t group[8];
	unsigned zero = 0;

	for (int i = 0; i < 8; i++) {
		group[i] = (uint16_t)(a[2 * i] << 8 | a[2 * i + 1]);
		zero |= (unsigned)!group[i] << i;
	}
	for (int i = 0; (zero & zero >> 1) && i < 8; i++) {
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

/* Whether none of 8 bytes is a control character, a quote, a backslash or above 0x7f. */
static inline bool plain8(uint64_t bytes)
{
	const uint64_t each = 0x0101010101010101;

	return !((bytes | (bytes - each * 0x20) | ((bytes ^ each * '"') - each) | ((bytes ^ each * '\\') - each)) & each * 0x80);
}

/* Text in quotes; what is not UTF-8 becomes U+FFFD, as Python's errors="replace" does. At most 6 bytes a byte, and 2. */
static char *put_string(char *p, const char *text, size_t length)
{
	const uint8_t *s = (const uint8_t *)text, *end = s + length;

	*p++ = '"';
	while (s < end) {
		uint64_t some;

		if (end - s >= (ptrdiff_t)sizeof(some)) {
			memcpy(&some, s, sizeof(some));
			if (plain8(some)) {
				p = put(p, (const char *)s, sizeof(some));
				s += sizeof(some);
				continue;
			}
		}
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

/* An address or hardware address at p, at most ADDRESS_BYTES: nothing in it needs escaping. */
enum { ADDRESS_BYTES = 64 };

static char *put_address(char *p, const struct nfl_column *c, const struct nfl_any *r)
{
	const uint8_t *field = (const uint8_t *)r + c->field;
	uint8_t length;

	switch (c->kind) {
	case NFL_ADDR:
		return HAS(r, c->six) ? put_addr6(p, field) : put_addr4(p, field);
	case NFL_ADDR4:
		return put_addr4(p, field);
	case NFL_ADDR_BIN:
		return put_addr_bin(p, field, HAS(r, c->six));
	default:	/* NFL_MAC; its field has at most 20 bytes */
		length = *((const uint8_t *)r + c->field2);
		return put_mac(p, field, length < c->width ? length : c->width);
	}
}

/* The bytes of a column of kind NFL_MAC_BYTES. */
static const uint8_t *mac_bytes(const struct nfl_column *c, const struct nfl_batch *b, const struct nfl_any *r, uint16_t *length)
{
	uint32_t at;

	memcpy(&at, (const uint8_t *)r + c->field, sizeof(at));
	memcpy(length, (const uint8_t *)r + c->field2, sizeof(*length));
	return b->data + at;
}

/* The value of a column that is text, unquoted. */
struct text {
	const char *at;
	size_t length;
};

static struct text text_of(const struct nfl_column *c, const struct nfl_batch *b, const struct nfl_any *r, uint32_t row)
{
	const uint8_t *field = (const uint8_t *)r + c->field;
	uint32_t at, low = 0, high = b->ifname_count;
	uint16_t length;

	switch (c->kind) {
	case NFL_BYTES_TEXT:
		memcpy(&at, field, sizeof(at));
		memcpy(&length, (const uint8_t *)r + c->field2, sizeof(length));
		return (struct text){ (const char *)b->data + at, length };
	case NFL_CHARS:
		length = c->width;
		if (c->field2) {
			memcpy(&length, (const uint8_t *)r + c->field2, sizeof(length));
			length = length < c->width ? length : c->width;
		}
		return (struct text){ (const char *)field, strnlen((const char *)field, length) };
	case NFL_IFNAME:
		memcpy(&at, field, sizeof(at));
		while (low < high) {
			uint32_t middle = (low + high) / 2;

			if (b->ifnames[middle].index == at)
				return (struct text){ b->ifnames[middle].name, b->ifnames[middle].length };
			if (b->ifnames[middle].index < at)
				low = middle + 1;
			else
				high = middle;
		}
		break;
	case NFL_ACTION:
		return (struct text){ *field ? "allowed" : "blocked", 7 };
	case NFL_ROW_TEXT: {
		const struct nfl_span *span = (const struct nfl_span *)c->values + row;

		return (struct text){ c->blob + span->at, span->length };
	}
	}
	return (struct text){ "", 0 };
}

/* Whether a row has a value in a column; `valid` is its record's word, or 0. */
static inline bool holds(const struct nfl_column *c, uint64_t valid, uint32_t row)
{
	if (c->kind < NFL_ROW_INT)
		return valid >> c->valid & 1;
	return c->kind != NFL_ROW_NONE && (!c->present || c->present[row]);
}

static inline uint64_t valid_of(const struct nfl_any *r)
{
	return r ? r->valid : 0;
}

static inline __attribute__((always_inline)) char *put_number(char *p, const struct nfl_column *c, const struct nfl_any *r,
							      uint32_t row)
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
		return put_u64(p, u16);
	case NFL_U32:
		memcpy(&u32, field, sizeof(u32));
		return put_u64(p, u32);
	case NFL_U64:
		memcpy(&u64, field, sizeof(u64));
		/* A counter may have any number of digits: one way for all up to 8 is faster than put_u64. */
		return u64 < 100000000 ? put_below8(p, (uint32_t)u64) : put_long(p, u64);
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
	case NFL_CLOCK_MAYBE_USEC:
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
	if (json->plan.clock == NFL_CLOCK_BATCH ? usec > 999999 : json->plan.clock == NFL_CLOCK_MAYBE_USEC && usec == NFL_NO_FRACTION)
		return put(p, json->zone, 5);
	*p++ = '.';
	return put(put_usec(p, usec % 1000000), json->zone, 5);
}

/* One line at p, which has plan.fixed_size bytes and all up to end; NULL when it does not fit. */
static char *put_line(char *p, const char *end, struct nfl_json *json, const struct nfl_batch *b, const struct nfl_any *r,
		      uint32_t row)
{
	const struct nfl_column *c = json->plan.columns, *last = c + json->plan.count;
	const size_t fixed_size = json->plan.fixed_size;
	const uint64_t valid = valid_of(r);

	p = put(p, json->head, json->head_length);
	if (json->timestamp)
		p = put_timestamp(p, json, b, r);
	p = put(p, json->tail, json->tail_length);
	for (; c < last; c++) {
		struct text text;

		if (!holds(c, valid, row))
			continue;
		if (c->kind <= NFL_U64 || (c->kind >= NFL_ROW_INT && c->kind <= NFL_ROW_FLOAT)) {
			p = put_label(p, c->label, c->label_length);
			p = put_number(p, c, r, row);
			continue;
		}
		if (c->kind >= NFL_ADDR && c->kind <= NFL_MAC) {
			p = put_label(p, c->label, c->label_length);
			*p++ = '"';
			p = put_address(p, c, r);
			*p++ = '"';
			continue;
		}
		if (c->kind == NFL_MAC_BYTES) {
			uint16_t length;
			const uint8_t *bytes = mac_bytes(c, b, r, &length);

			if ((size_t)(end - p) < fixed_size + 3u * length)
				return NULL;
			p = put_label(p, c->label, c->label_length);
			*p++ = '"';
			p = put_mac(p, bytes, length);
			*p++ = '"';
			continue;
		}
		text = text_of(c, b, r, row);
		if ((size_t)(end - p) < fixed_size + 6 * text.length)
			return NULL;
		p = put_string(put_label(p, c->label, c->label_length), text.at, text.length);
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
		uint64_t some;

		if (end - s >= (ptrdiff_t)sizeof(some)) {
			memcpy(&some, s, sizeof(some));
			if (plain8(some)) {
				p = put(p, (const char *)s, sizeof(some));
				s += sizeof(some);
				continue;
			}
		}
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
	struct text text;
	const uint8_t *bytes;
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
	case NFL_ADDR: case NFL_ADDR4: case NFL_ADDR_BIN: case NFL_MAC:
		return put_address(p, c, r);
	case NFL_MAC_BYTES:
		bytes = mac_bytes(c, b, r, &narrow);
		if ((size_t)(end - p) < plan->fixed_size + 3u * narrow)
			return NULL;
		return put_mac(p, bytes, narrow);
	}
	text = text_of(c, b, r, row);
	if ((size_t)(end - p) < plan->fixed_size + 3 * text.length)
		return NULL;
	return put_copy_text(p, text.at, text.length);
}

static inline bool has_field(const struct nfl_column *c, uint64_t valid, uint32_t row)
{
	if (c->kind == NFL_TIME)
		return true;
	return holds(c, valid, row) && !(c->kind == NFL_ADDR_NUMBER && c->width > 4 && (valid >> c->six & 1));
}

static char *put_row(char *p, const char *end, struct nfl_plan *plan, const struct nfl_batch *b, const struct nfl_any *r,
		     uint32_t row)
{
	const struct nfl_column *c = plan->columns, *last = c + plan->count;
	const uint64_t valid = valid_of(r);

	for (; c < last; c++) {
		if (has_field(c, valid, row)) {
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
	char *p = out, *end = out + size, scratch[ADDRESS_BYTES];

	for (*done = first; *done < batch->count; (*done)++) {
		uint32_t row = batch->rows ? batch->rows[*done] : *done;
		const struct nfl_any *r = record_of(batch, row);
		struct text text = { scratch, 0 };

		if (!holds(column, valid_of(r), row)) {
			;	/* an empty text */
		} else if (column->kind == NFL_MAC_BYTES) {
			uint16_t length;
			const uint8_t *bytes = mac_bytes(column, batch, r, &length);

			if ((size_t)(end - p) < 3u * length + 1)
				break;
			p = put_mac(p, bytes, length);
		} else if (column->kind >= NFL_ADDR && column->kind <= NFL_MAC) {
			text.length = (size_t)(put_address(scratch, column, r) - scratch);
		} else {
			text = text_of(column, batch, r, row);
		}
		if ((size_t)(end - p) < text.length + 1)
			break;
		p = put(p, text.at, text.length);
		*p++ = '\0';
	}
	return (size_t)(p - out);
}
