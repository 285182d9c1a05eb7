// SPDX-License-Identifier: GPL-2.0-or-later
/* Records to text: lines in ulogd's layouts, such as JSON (RFC 8259) with `", "` between members and `": "` after names; rows for
 * a database; single columns. */
#include <endian.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "record.h"
#include "packet.h"
#include "flow.h"
#include "render.h"
#include "flowtext.h"
#include "print.h"
#include "put.h"

#define HAS(record, bit) ((record)->valid >> (bit) & 1)

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

/* Whether none of 8 bytes is a control character, above 0x7f, or one of three. */
static inline bool plain8_but(uint64_t bytes, char one, char two, char three)
{
	const uint64_t each = 0x0101010101010101;
	uint64_t bad = bytes | (bytes - each * 0x20);

	bad |= ((bytes ^ each * (uint8_t)one) - each) | ((bytes ^ each * (uint8_t)two) - each);
	return !((bad | ((bytes ^ each * (uint8_t)three) - each)) & each * 0x80);
}

/* Text as a value among items: control characters, the backslash and the separator in backslash escapes, so that a separator
 * in a line is one, and a newline the end of it. All other bytes as they are. At most 4 bytes a byte. */
static char *put_item(char *p, const char *text, size_t length, char separator)
{
	const uint8_t *s = (const uint8_t *)text, *end = s + length;

	while (s < end) {
		uint64_t some;

		if (end - s >= (ptrdiff_t)sizeof(some)) {
			memcpy(&some, s, sizeof(some));
			if (plain8_but(some, '\\', separator, 0x7f)) {
				p = put(p, (const char *)s, sizeof(some));
				s += sizeof(some);
				continue;
			}
		}
		if (*s >= 0x20 && *s != '\\' && *s != (uint8_t)separator && *s != 0x7f) {
			*p++ = (char)*s++;
			continue;
		}
		*p++ = '\\';
		switch (*s) {
		case '\\':
			*p++ = '\\';
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
			*p++ = 'x';
			p = put(p, hex2 + *s * 2, 2);
		}
		s++;
	}
	return p;
}

/* Bytes of the character of XML 1.0 that begins with a byte above 0x7f; negative: the bytes of what is none. */
static int xml_character(const uint8_t *p, size_t left)
{
	int size = utf8(p, left);

	/* U+FFFE and U+FFFF are no characters of XML. */
	return size == 3 && p[0] == 0xef && p[1] == 0xbf && p[2] >= 0xbe ? -3 : size;
}

/* Text as the content of an element, on one line. What XML 1.0 cannot hold, and what is not UTF-8, becomes U+FFFD. At most 5
 * bytes a byte. */
static char *put_xml(char *p, const char *text, size_t length)
{
	const uint8_t *s = (const uint8_t *)text, *end = s + length;

	while (s < end) {
		uint64_t some;

		if (end - s >= (ptrdiff_t)sizeof(some)) {
			memcpy(&some, s, sizeof(some));
			if (plain8_but(some, '&', '<', '>')) {
				p = put(p, (const char *)s, sizeof(some));
				s += sizeof(some);
				continue;
			}
		}
		if (*s >= 0x80) {
			int size = xml_character(s, (size_t)(end - s));

			p = size > 0 ? put(p, (const char *)s, (size_t)size) : put(p, "\xef\xbf\xbd", 3);
			s += size > 0 ? size : -size;
			continue;
		}
		switch (*s) {
		case '&':
			p = put(p, "&amp;", 5);
			break;
		case '<':
			p = put(p, "&lt;", 4);
			break;
		case '\n':
			p = put(p, "&#10;", 5);
			break;
		case '\r':
			p = put(p, "&#13;", 5);
			break;
		case '>':	/* it is text, but for the end of a CDATA section */
			if ((const char *)s - text >= 2 && s[-1] == ']' && s[-2] == ']')
				p = put(p, "&gt;", 4);
			else
				*p++ = '>';
			break;
		default:
			if (*s >= 0x20 || *s == '\t')
				*p++ = (char)*s;
			else
				p = put(p, "\xef\xbf\xbd", 3);
		}
		s++;
	}
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

/* The text of a record that C makes at p, and how many bytes it takes at most. */
static size_t most_printed(uint8_t kind, const struct nfl_any *r)
{
	return kind == NFL_PRINT ? nfl_print_most((const struct nfl_record *)r) : NFL_FLOW_TEXT_BYTES;
}

static char *put_printed(char *p, uint8_t kind, const struct nfl_batch *b, const struct nfl_any *r)
{
	switch (kind) {
	case NFL_PRINT_FLOW:
		return nfl_flow_print(p, (const struct nfl_flow *)r);
	case NFL_PRINT_NAT:
		return nfl_flow_translated(p, (const struct nfl_flow *)r);
	default:
		return nfl_print(p, b, (const struct nfl_record *)r);
	}
}

static inline bool is_printed(uint8_t kind)
{
	return kind >= NFL_PRINT && kind <= NFL_PRINT_NAT;
}

static struct text text_of(const struct nfl_column *c, const struct nfl_batch *b, const struct nfl_any *r, uint32_t row)
{
	const uint8_t *field = (const uint8_t *)r + c->field;
	const struct nfl_ifname *name;
	uint32_t at;
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
		name = find_name(b, at);
		if (name)
			return (struct text){ name->name, name->length };
		break;
	case NFL_ACTION:
		return (struct text){ *field ? "allowed" : "blocked", 7 };
	case NFL_PROTOCOL:
		return (struct text){ nfl_protocol_name(*field), strlen(nfl_protocol_name(*field)) };
	case NFL_ROW_TEXT: {
		const struct nfl_span *span = (const struct nfl_span *)c->values + row;

		return (struct text){ c->blob + span->at, span->length };
	}
	}
	return (struct text){ "", 0 };
}

/* The value as text_of gives it, or false where `room` bytes at p do not hold `times` its length besides `fixed`. A text that
 * is not there yet is made at the end of the room: what is made of it comes from the other end. */
static bool fit_text(struct text *text, const struct nfl_column *c, const struct nfl_batch *b, const struct nfl_any *r,
		     uint32_t row, char *p, size_t room, size_t fixed, size_t times)
{
	if (is_printed(c->kind)) {
		size_t most = most_printed(c->kind, r);
		char *at;

		if (room < fixed + (times + 1) * most)
			return false;
		at = p + room - most;
		*text = (struct text){ at, (size_t)(put_printed(at, c->kind, b, r) - at) };
		return true;
	}
	*text = text_of(c, b, r, row);
	return room >= fixed + times * text->length;
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
							      uint32_t row, bool json)
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
		return json && !isfinite(f) ? put(p, "null", 4) : p + snprintf(p, 32, "%.17g", f);
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

static void new_second(struct nfl_lines *json, int64_t second)
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

static char *put_timestamp(char *p, struct nfl_lines *json, const struct nfl_batch *b, const struct nfl_any *r)
{
	uint32_t usec;
	int64_t second = time_of(&json->plan, b, r, &usec);

	if (json->plan.second != second)
		new_second(json, second);
	p = put(p, json->plan.text, json->plan.text_length);
	if (json->plan.clock == NFL_CLOCK_BATCH ? usec > 999999 : json->plan.whole && (valid_of(r) >> json->plan.whole & 1))
		return put(p, json->zone, 5);
	*p++ = '.';
	return put(put_usec(p, usec % 1000000), json->zone, 5);
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

/* The local time of a record as elements: as libnetfilter_log and libnetfilter_acct write it, Sunday is day 1. */
static char *put_when(char *p, struct nfl_lines *lines, const struct nfl_batch *b, const struct nfl_any *r)
{
	uint32_t usec;
	int64_t second = time_of(&lines->plan, b, r, &usec);

	if (lines->plan.second != second) {
		time_t when = (time_t)second;
		struct tm local;
		int length;

		localtime_r(&when, &local);
		length = snprintf(lines->when, sizeof(lines->when),
				  "<hour>%d</hour><min>%02d</min><sec>%02d</sec><wday>%d</wday><day>%d</day><month>%d</month>"
				  "<year>%d</year>",
				  local.tm_hour, local.tm_min, local.tm_sec, local.tm_wday + 1, local.tm_mday, local.tm_mon + 1,
				  1900 + local.tm_year);
		lines->when_length = (uint32_t)length;
		lines->plan.second = second;
	}
	return put(p, lines->when, lines->when_length);
}

/* A number with 20 digits. */
static char *put_20(char *p, uint64_t n)
{
	p = put2(put2(p, (uint32_t)(n / 1000000000000000000)), (uint32_t)(n / 10000000000000000 % 100));
	return put_digits8(put_digits8(p, (uint32_t)(n / 100000000 % 100000000)), (uint32_t)(n % 100000000));
}

/* What only elements of XML are: numbers of a fixed width, bytes, the time; NULL when it does not fit. */
static char *put_element(char *p, const char *end, struct nfl_lines *lines, const struct nfl_column *c,
			 const struct nfl_batch *b, const struct nfl_any *r)
{
	const uint8_t *field = (const uint8_t *)r + c->field, *bytes;
	uint16_t u16;
	uint64_t u64;
	size_t length;

	switch (c->kind) {
	case NFL_HEX16:
		memcpy(&u16, field, sizeof(u16));
		return put(put(p, hex2 + (u16 >> 8) * 2, 2), hex2 + (u16 & 0xff) * 2, 2);
	case NFL_U64_LONG:
		memcpy(&u64, field, sizeof(u64));
		return put_20(p, u64);
	case NFL_WHEN:
		return put_when(p, lines, b, r);
	case NFL_FLOW_ELEMENT:
		if ((size_t)(end - p) < lines->plan.fixed_size + NFL_FLOW_XML_BYTES)
			return NULL;
		return nfl_flow_xml(p, (const struct nfl_flow *)r, b->second);
	default:	/* NFL_BYTES_HEX, NFL_FIXED_HEX */
		bytes = bytes_of(c, r, b->data, &length);
		if ((size_t)(end - p) < lines->plan.fixed_size + 2 * length)
			return NULL;
		return put_hex(p, bytes, length);
	}
}

static inline bool is_element(uint8_t kind)
{
	return kind == NFL_BYTES_HEX || kind == NFL_FIXED_HEX || (kind >= NFL_HEX16 && kind <= NFL_WHEN);
}

static inline char *put_quote(char *p, const enum nfl_form form)
{
	if (form == NFL_JSON)
		*p++ = '"';
	return p;
}

/* An IPv4 address as a number. */
static char *put_address_number(char *p, const struct nfl_column *c, const struct nfl_any *r)
{
	const uint8_t *bytes = (const uint8_t *)r + c->field;

	return put_u64(p, (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3]);
}

/* What stands behind a value. */
static inline char *put_after(char *p, const struct nfl_lines *lines, const struct nfl_column *c, const enum nfl_form form)
{
	if (form == NFL_ITEMS)
		*p++ = lines->separator;
	return form == NFL_XML ? put(p, c->after, c->after_length) : p;
}

/* One line at p, which has plan.fixed_size bytes and all up to end; NULL when it does not fit. Compiled once for each form. */
static inline __attribute__((always_inline)) char *put_line(char *p, const char *end, struct nfl_lines *lines,
							    const struct nfl_batch *b, const struct nfl_any *r, uint32_t row,
							    const enum nfl_form form)
{
	const struct nfl_column *c = lines->plan.columns, *last = c + lines->plan.count;
	const size_t fixed_size = lines->plan.fixed_size;
	const uint64_t valid = valid_of(r);
	const char *start = p;

	p = put(p, lines->head, lines->head_length);
	if (form == NFL_JSON) {
		if (lines->timestamp)
			p = put_timestamp(p, lines, b, r);
		p = put(p, lines->tail, lines->tail_length);
	}
	for (; c < last; c++) {
		struct text text;

		if (!holds(c, valid, row))
			continue;
		if (c->kind <= NFL_U64 || (c->kind >= NFL_ROW_INT && c->kind <= NFL_ROW_FLOAT)) {
			p = put_label(p, c->label, c->label_length);
			if (form == NFL_XML && c->kind == NFL_ROW_UINT && c->width)
				p = put_20(p, ((const uint64_t *)c->values)[row]);
			else
				p = put_number(p, c, r, row, form == NFL_JSON);
			p = put_after(p, lines, c, form);
			continue;
		}
		if (c->kind >= NFL_ADDR && c->kind <= NFL_MAC) {
			p = put_quote(put_label(p, c->label, c->label_length), form);
			p = put_quote(put_address(p, c, r), form);
			p = put_after(p, lines, c, form);
			continue;
		}
		if (c->kind == NFL_MAC_BYTES) {
			uint16_t length;
			const uint8_t *bytes = mac_bytes(c, b, r, &length);

			if ((size_t)(end - p) < fixed_size + 3u * length)
				return NULL;
			p = put_quote(put_label(p, c->label, c->label_length), form);
			p = put_quote(put_mac(p, bytes, length), form);
			p = put_after(p, lines, c, form);
			continue;
		}
		if (form != NFL_JSON && c->kind == NFL_WORD) {
			p = put_after(put_label(p, c->label, c->label_length), lines, c, form);
			continue;
		}
		if (form == NFL_ITEMS && c->kind == NFL_ADDR_NUMBER) {
			p = put_after(put_address_number(put_label(p, c->label, c->label_length), c, r), lines, c, form);
			continue;
		}
		if (form == NFL_XML && c->kind == NFL_U32_SET) {
			uint32_t u32;

			memcpy(&u32, (const uint8_t *)r + c->field, sizeof(u32));
			if (u32)
				p = put_after(put_u64(put_label(p, c->label, c->label_length), u32), lines, c, form);
			continue;
		}
		if (form == NFL_XML && is_element(c->kind)) {
			p = put_element(put_label(p, c->label, c->label_length), end, lines, c, b, r);
			if (!p)
				return NULL;
			p = put_after(p, lines, c, form);
			continue;
		}
		if (!fit_text(&text, c, b, r, row, p, (size_t)(end - p), fixed_size, 6))
			return NULL;
		p = put_label(p, c->label, c->label_length);
		if (form == NFL_JSON)
			p = put_string(p, text.at, text.length);
		else if (form == NFL_ITEMS)
			p = put_item(p, text.at, text.length, lines->separator);
		else
			p = put_xml(p, text.at, text.length);
		p = put_after(p, lines, c, form);
	}
	if (form == NFL_JSON)
		return put(p, "}\n", 2);
	if (form == NFL_XML)
		return put(p, lines->foot, lines->foot_length);
	/* In the place of the last separator. */
	p = p > start ? p : p + 1;
	p[-1] = '\n';
	return p;
}

/* The record of a row, or NULL. */
static const struct nfl_any *record_of(const struct nfl_batch *b, uint32_t row)
{
	return b->records ? (const void *)((const uint8_t *)b->records + (size_t)row * b->stride) : NULL;
}

static inline __attribute__((always_inline)) size_t render_lines(struct nfl_lines *lines, const struct nfl_batch *batch,
								 uint32_t first, char *out, size_t size, uint32_t *done,
								 const enum nfl_form form)
{
	char *p = out, *end = out + size, *after;

	for (*done = first; *done < batch->count; (*done)++) {
		uint32_t row = batch->rows ? batch->rows[*done] : *done;

		if ((size_t)(end - p) < lines->plan.fixed_size)
			break;
		after = put_line(p, end, lines, batch, record_of(batch, row), row, form);
		if (!after)
			break;
		p = after;
	}
	return (size_t)(p - out);
}

size_t nfl_lines_render(struct nfl_lines *lines, const struct nfl_batch *batch, uint32_t first, char *out, size_t size,
			uint32_t *done)
{
	switch (lines->form) {
	case NFL_ITEMS:
		return render_lines(lines, batch, first, out, size, done, NFL_ITEMS);
	case NFL_XML:
		return render_lines(lines, batch, first, out, size, done, NFL_XML);
	default:
		return render_lines(lines, batch, first, out, size, done, NFL_JSON);
	}
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

/* One field at p, which has plan->fixed_size bytes and all up to end; NULL when it does not fit. */
static char *put_field(char *p, const char *end, struct nfl_plan *plan, const struct nfl_column *c, const struct nfl_batch *b,
		       const struct nfl_any *r, uint32_t row)
{
	struct text text;
	const uint8_t *bytes;
	uint16_t narrow;
	size_t length;

	switch (c->kind) {
	case NFL_U8: case NFL_U16: case NFL_U32: case NFL_U64: case NFL_ROW_INT: case NFL_ROW_UINT: case NFL_ROW_FLOAT:
		/* Of fractions that are no numbers it writes "nan", "inf" and "-inf", which PostgreSQL reads. */
		return put_number(p, c, r, row, false);
	case NFL_TIME:
		return put_time(p, plan, b, r);
	case NFL_ADDR_NUMBER:
		return put_address_number(p, c, r);
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
	if (!fit_text(&text, c, b, r, row, p, (size_t)(end - p), plan->fixed_size, 3))
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
		} else if (!fit_text(&text, column, batch, r, row, p, (size_t)(end - p), 1, 1)) {
			break;
		}
		if ((size_t)(end - p) < text.length + 1)
			break;
		p = put(p, text.at, text.length);
		*p++ = '\0';
	}
	return (size_t)(p - out);
}
