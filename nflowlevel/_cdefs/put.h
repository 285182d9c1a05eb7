/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Numbers, addresses and bytes as text: what is written at p, and the place behind it is returned. Some write more bytes
 * than their text has, which the next writer overwrites: PUT_SLACK bytes behind the longest text have to be writable.
 * Include render.h before it, which has no guard because cffi reads it too. */
#ifndef NFL_PUT_H
#define NFL_PUT_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { PUT_SLACK = 8 };

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

static inline char *put_long(char *p, uint64_t n)
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
static inline char *put_addr6(char *p, const uint8_t *a)
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

static inline char *put_hex(char *p, const uint8_t *bytes, size_t length)
{
	for (size_t i = 0; i < length; i++)
		p = put(p, hex2 + bytes[i] * 2, 2);
	return p;
}

static inline char *put_addr_bin(char *p, const uint8_t *a, bool is6)
{
	p = put(p, "0x", 2);
	if (is6)
		return put_hex(p, a, 16);
	return put_hex(put(p, "00000000000000000000ffff", 24), a, 4);
}

static inline char *put_mac(char *p, const uint8_t *bytes, uint32_t length)
{
	for (uint32_t i = 0; i < length; i++) {
		memcpy(p, hex2 + bytes[i] * 2, 2);
		p[2] = ':';
		p += 3;
	}
	return length ? p - 1 : p;
}

static inline char *put_usec(char *p, uint32_t usec)
{
	return put2(put2(put2(p, usec / 10000), usec / 100 % 100), usec % 100);
}

/* The name of an interface, or NULL. */
static inline const struct nfl_ifname *find_name(const struct nfl_batch *b, uint32_t index)
{
	uint32_t low = 0, high = b->ifname_count;

	while (low < high) {
		uint32_t middle = (low + high) / 2;

		if (b->ifnames[middle].index == index)
			return b->ifnames + middle;
		if (b->ifnames[middle].index < index)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

#endif
