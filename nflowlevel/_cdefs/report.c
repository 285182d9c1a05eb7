// SPDX-License-Identifier: GPL-2.0-or-later
/* Reports of packets, as ulogd's input UNIXSOCK takes them, to records: see report.h for their form.
 *
 * No length in a report is believed: each read is checked against the bytes that are there. */
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <linux/if_ether.h>
#include <linux/netfilter.h>

#include "packet.h"
#include "report.h"

#define BIT(n) (1ULL << NFL_VALID_##n)
#define SAID(n) (1ULL << NFL_REPORTED_##n)

enum { LENGTH_END = 6, OPTION_HEAD = 8 };

static const uint8_t marker[4] = { 0x41, 0xc9, 0x0f, 0xd4 };

static inline uint16_t be16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static inline uint32_t be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* `length`, which is at most `left`, filled up to a multiple of 8, and no more than that. */
static inline uint32_t filled(uint32_t length, uint32_t left)
{
	uint32_t padding = -length & 7;

	return length + (padding < left - length ? padding : left - length);
}

struct option {
	const uint8_t *value;
	uint32_t id, length;
};

static void text(struct nfl_reported *r, const uint8_t *data, const struct option *o, uint64_t bit, uint32_t *at, uint16_t *length)
{
	const uint8_t *nul = memchr(o->value, 0, o->length);

	*at = (uint32_t)(o->value - data);
	*length = (uint16_t)(nul ? nul - o->value : o->length);
	r->packet.valid |= bit;
}

static bool number32(struct nfl_reported *r, const struct option *o, uint64_t bit, uint32_t *number)
{
	if (o->length < sizeof(*number))
		return false;
	memcpy(number, o->value, sizeof(*number));
	r->packet.valid |= bit;
	return true;
}

/* Take in one option; false where its value is too short. */
static bool take(struct nfl_reports *reports, struct nfl_reported *r, const uint8_t *data, const struct option *o)
{
	switch (o->id) {
	case NFL_REPORT_OPTION_PREFIX:
		text(r, data, o, BIT(PREFIX) | SAID(PREFIX), &r->packet.oob_prefix, &r->packet.oob_prefix_len);
		break;
	case NFL_REPORT_OPTION_IN:
		text(r, data, o, SAID(IN), &r->oob_in, &r->oob_in_len);
		break;
	case NFL_REPORT_OPTION_OUT:
		text(r, data, o, SAID(OUT), &r->oob_out, &r->oob_out_len);
		break;
	case NFL_REPORT_OPTION_SECONDS:
		if (!number32(r, o, SAID(SECONDS), &r->packet.oob_time_sec))
			return false;
		r->packet.oob_time_usec = 0;
		break;
	case NFL_REPORT_OPTION_USER_NAME:
		text(r, data, o, SAID(USER_NAME), &r->nufw_user_name, &r->nufw_user_name_len);
		break;
	case NFL_REPORT_OPTION_USER_ID:
		return number32(r, o, SAID(USER_ID), &r->nufw_user_id);
	case NFL_REPORT_OPTION_OS_NAME:
		text(r, data, o, SAID(OS_NAME), &r->nufw_os_name, &r->nufw_os_name_len);
		break;
	case NFL_REPORT_OPTION_OS_REL:
		text(r, data, o, SAID(OS_REL), &r->nufw_os_rel, &r->nufw_os_rel_len);
		break;
	case NFL_REPORT_OPTION_OS_VERS:
		text(r, data, o, SAID(OS_VERS), &r->nufw_os_vers, &r->nufw_os_vers_len);
		break;
	case NFL_REPORT_OPTION_APP_NAME:
		text(r, data, o, SAID(APP_NAME), &r->nufw_app_name, &r->nufw_app_name_len);
		break;
	case NFL_REPORT_OPTION_STATE:
		if (!o->length)
			return false;
		r->packet.raw_label = *o->value;
		r->packet.valid |= SAID(STATE);
		break;
	default:
		reports->unknown++;
		reports->unknown_id = o->id;
	}
	return true;
}

static void options(struct nfl_reports *reports, struct nfl_reported *r, const uint8_t *data, const uint8_t *p, uint32_t left)
{
	struct option o;
	uint32_t step;

	while (left) {
		if (left < OPTION_HEAD || be32(p + 4) > left - OPTION_HEAD) {
			reports->cut++;
			return;
		}
		o = (struct option){ .value = p + OPTION_HEAD, .id = be32(p), .length = be32(p + 4) };
		if (!take(reports, r, data, &o))
			reports->cut++;
		step = OPTION_HEAD + filled(o.length, left - OPTION_HEAD);
		p += step;
		left -= step;
	}
}

/* Nothing but the first byte says what the packet is. */
static void network(struct nfl_record *r, const uint8_t *packet, uint32_t length)
{
	uint8_t version = length ? packet[0] >> 4 : 0;

	if (version == 4 || version == 6) {
		r->oob_family = version == 4 ? NFPROTO_IPV4 : NFPROTO_IPV6;
		r->oob_protocol = version == 4 ? ETH_P_IP : ETH_P_IPV6;
		r->valid |= BIT(PACKET_HDR) | SAID(PROTOCOL);
	}
}

/* One report of `size` bytes; false where its packet is longer than it is. */
static bool decode(struct nfl_reports *reports, struct nfl_reported *r, const uint8_t *data, const uint8_t *p, uint32_t size,
		   uint32_t now_sec, uint32_t now_usec)
{
	uint32_t length = be16(p + 10), left = size - NFL_REPORT_MIN, step;

	if (length > left)
		return false;
	memset((uint8_t *)r + sizeof(r->packet), 0, sizeof(*r) - sizeof(r->packet));
	nfl_record_begin(&r->packet, 0, NFPROTO_UNSPEC);
	r->packet.oob_time_sec = now_sec;
	r->packet.oob_time_usec = now_usec;
	p += NFL_REPORT_MIN;
	r->packet.raw_pkt = (uint32_t)(p - data);
	r->packet.raw_pktlen = length;
	r->packet.valid |= BIT(PAYLOAD) | SAID(ALWAYS);
	network(&r->packet, p, length);
	step = filled(length, left);
	options(reports, r, data, p + step, left - step);
	nfl_record_headers(&r->packet, data);
	return true;
}

uint32_t nfl_report_decode(struct nfl_reports *reports, const uint8_t *data, uint32_t *position, uint32_t end,
			   uint32_t now_sec, uint32_t now_usec, struct nfl_reported *records, uint32_t room)
{
	uint32_t at = *position, count = 0, left, size;

	for (;; at += size) {
		const uint8_t *p = data + at;

		left = end - at;
		if (memcmp(p, marker, left < sizeof(marker) ? left : sizeof(marker))) {
			reports->stop = NFL_REPORT_BROKEN;
			break;
		}
		reports->stop = NFL_REPORT_MORE;
		if (left < LENGTH_END)
			break;
		size = be16(p + sizeof(marker)) + (uint32_t)sizeof(marker);
		if (size < NFL_REPORT_MIN) {
			reports->stop = NFL_REPORT_BROKEN;
			break;
		}
		if (left < size)
			break;
		if (count == room) {
			reports->stop = NFL_REPORT_FULL;
			break;
		}
		if (decode(reports, records + count, data, p, size, now_sec, now_usec)) {
			reports->valid_any |= records[count].packet.valid;
			reports->valid_all &= records[count].packet.valid;
			count++;
		} else {
			reports->malformed++;
		}
	}
	*position = at;
	reports->received += count;
	return count;
}
