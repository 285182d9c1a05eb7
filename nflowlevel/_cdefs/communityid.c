// SPDX-License-Identifier: GPL-2.0-or-later
/* Community IDs: SHA-1 (RFC 3174) of a seed, both ends and the protocol, in base64. What is hashed always fits into one block. */
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <netinet/in.h>

#include "record.h"
#include "packet.h"
#include "flow.h"
#include "communityid.h"

#define HAS(r, bit) ((r)->valid >> NFL_VALID_##bit & 1)
#define FLOW_HAS(f, bit) ((f)->valid >> NFL_FLOW_##bit & 1)

enum { BLOCK_BYTES = 64, WORDS = 5, ROUNDS = 80 };

/* What an ID is made of. */
struct ends {
	const uint8_t *saddr, *daddr;
	uint8_t length;			/* of an address; 0: there is no ID */
	uint8_t protocol;
	uint16_t first, second;		/* ports, or type and code */
};

static inline uint32_t rotated(uint32_t n, int by)
{
	return n << by | n >> (32 - by);
}

static void sha1_of_block(uint32_t hash[WORDS], const uint8_t *block)
{
	static const uint32_t constants[] = { 0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6 };
	uint32_t w[ROUNDS], a, b, c, d, e, f, next;

	for (int i = 0; i < 16; i++, block += 4)
		w[i] = (uint32_t)block[0] << 24 | (uint32_t)block[1] << 16 | (uint32_t)block[2] << 8 | block[3];
	for (int i = 16; i < ROUNDS; i++)
		w[i] = rotated(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
	a = hash[0] = 0x67452301;
	b = hash[1] = 0xefcdab89;
	c = hash[2] = 0x98badcfe;
	d = hash[3] = 0x10325476;
	e = hash[4] = 0xc3d2e1f0;
	for (int i = 0; i < ROUNDS; i++) {
		f = i < 20 ? (b & c) | (~b & d) : i >= 40 && i < 60 ? (b & c) | (b & d) | (c & d) : b ^ c ^ d;
		next = rotated(a, 5) + f + e + w[i] + constants[i / 20];
		e = d;
		d = c;
		c = rotated(b, 30);
		b = a;
		a = next;
	}
	hash[0] += a;
	hash[1] += b;
	hash[2] += c;
	hash[3] += d;
	hash[4] += e;
}

/* The type that answers a type, or -1 where none does. */
static int answer(uint8_t protocol, uint16_t type)
{
	static const uint8_t four[][2] = { { 8, 0 }, { 10, 9 }, { 13, 14 }, { 15, 16 }, { 17, 18 } };
	static const uint8_t six[][2] = { { 128, 129 }, { 130, 131 }, { 133, 134 }, { 135, 136 }, { 139, 140 }, { 144, 145 } };
	const uint8_t (*pairs)[2] = protocol == IPPROTO_ICMP ? four : six;
	size_t count = protocol == IPPROTO_ICMP ? sizeof(four) / sizeof(four[0]) : sizeof(six) / sizeof(six[0]);

	for (size_t i = 0; i < count; i++) {
		if (pairs[i][0] == type)
			return pairs[i][1];
		if (pairs[i][1] == type)
			return pairs[i][0];
	}
	return -1;
}

static bool is_icmp(uint8_t protocol)
{
	return protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6;
}

static bool has_ports(uint8_t protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_SCTP;
}

static void put16(uint8_t *p, uint16_t n)
{
	p[0] = (uint8_t)(n >> 8);
	p[1] = (uint8_t)n;
}

/* "1:" and the base64 of a hash, whose last three characters stand for two bytes. */
static void put_id(char *p, const uint32_t hash[WORDS])
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	uint8_t bytes[4 * WORDS + 1];

	for (int i = 0; i < WORDS; i++) {
		put16(bytes + 4 * i, (uint16_t)(hash[i] >> 16));
		put16(bytes + 4 * i + 2, (uint16_t)hash[i]);
	}
	bytes[4 * WORDS] = 0;
	*p++ = '1';
	*p++ = ':';
	for (int i = 0; i < 4 * WORDS; i += 3) {
		uint32_t three = (uint32_t)bytes[i] << 16 | (uint32_t)bytes[i + 1] << 8 | bytes[i + 2];

		for (int shift = 18; shift >= 0; shift -= 6)
			*p++ = digits[three >> shift & 0x3f];
	}
	p[-1] = '=';
}

static void make_id(char *p, const struct ends *ends, uint16_t seed)
{
	uint8_t block[BLOCK_BYTES] = { 0 }, *at = block + 2;
	const uint8_t *saddr = ends->saddr, *daddr = ends->daddr;
	uint16_t first = ends->first, second = ends->second;
	int order = memcmp(daddr, saddr, ends->length), other;
	bool numbers = has_ports(ends->protocol) || is_icmp(ends->protocol), swap = order < 0;
	uint32_t hash[WORDS];

	if (is_icmp(ends->protocol)) {
		other = answer(ends->protocol, first);
		second = other < 0 ? second : (uint16_t)other;
		swap = other >= 0 && (order < 0 || (!order && second < first));
	} else if (numbers) {
		swap = order < 0 || (!order && second < first);
	}
	put16(block, seed);
	memcpy(at, swap ? daddr : saddr, ends->length);
	memcpy(at + ends->length, swap ? saddr : daddr, ends->length);
	at += 2 * ends->length;
	*at = ends->protocol;
	at += 2;
	if (numbers) {
		put16(at, swap ? second : first);
		put16(at + 2, swap ? first : second);
		at += 4;
	}
	*at = 0x80;
	put16(block + BLOCK_BYTES - 2, (uint16_t)(8 * (at - block)));
	sha1_of_block(hash, block);
	put_id(p, hash);
}

static struct ends of_flow(const struct nfl_flow *f)
{
	struct ends ends = { f->orig_ip_saddr, f->orig_ip_daddr, FLOW_HAS(f, IP6) ? 16 : 4, f->orig_ip_protocol,
			     f->orig_l4_sport, f->orig_l4_dport };

	if (FLOW_HAS(f, ICMP)) {
		ends.first = f->icmp_type;
		ends.second = f->icmp_code;
	} else if (FLOW_HAS(f, ICMPV6)) {
		ends.first = f->icmpv6_type;
		ends.second = f->icmpv6_code;
	}
	if ((has_ports(ends.protocol) && !FLOW_HAS(f, PORTS)) ||
	    (is_icmp(ends.protocol) && !FLOW_HAS(f, ICMP) && !FLOW_HAS(f, ICMPV6)))
		ends.length = 0;
	return ends;
}

/* A packet whose header of transport is not there has no ID: it would be another flow's. */
static struct ends of_packet(const struct nfl_record *r)
{
	struct ends ends = { r->ip_saddr, r->ip_daddr, HAS(r, IP6) ? 16 : 4, r->ip_protocol, 0, 0 };
	bool known = true;

	switch (r->ip_protocol) {
	case IPPROTO_TCP:
		known = HAS(r, TCP);
		ends.first = r->tcp_sport;
		ends.second = r->tcp_dport;
		break;
	case IPPROTO_UDP:
		known = HAS(r, UDP);
		ends.first = r->udp_sport;
		ends.second = r->udp_dport;
		break;
	case IPPROTO_SCTP:
		known = HAS(r, SCTP);
		ends.first = r->sctp_sport;
		ends.second = r->sctp_dport;
		break;
	case IPPROTO_ICMP:
		known = HAS(r, ICMP);
		ends.first = r->icmp_type;
		ends.second = r->icmp_code;
		break;
	case IPPROTO_ICMPV6:
		known = HAS(r, ICMPV6);
		ends.first = r->icmpv6_type;
		ends.second = r->icmpv6_code;
		break;
	}
	if (!known || !HAS(r, IP) || !HAS(r, PROTOCOL))
		ends.length = 0;
	return ends;
}

void nfl_community_ids(const struct nfl_batch *batch, uint8_t of_flows, uint16_t seed, char *ids, uint8_t *present)
{
	for (uint32_t i = 0; i < batch->count; i++, ids += NFL_COMMUNITY_ID_BYTES) {
		uint32_t row = batch->rows ? batch->rows[i] : i;
		const void *record = (const uint8_t *)batch->records + (size_t)row * batch->stride;
		struct ends ends = of_flows ? of_flow(record) : of_packet(record);

		present[i] = ends.length != 0;
		if (present[i])
			make_id(ids, &ends, seed);
		else
			memset(ids, ' ', NFL_COMMUNITY_ID_BYTES);
	}
}
