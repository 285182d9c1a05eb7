// SPDX-License-Identifier: GPL-2.0-or-later
/* Packets of capture files to records: pcap (draft-ietf-opsawg-pcap), pcapng (draft-ietf-opsawg-pcapng), and the link types
 * Ethernet, raw IP, NFLOG, SLL and SLL2 (www.tcpdump.org/linktypes).
 *
 * No length in a file is believed: each read is checked against the bytes that are there. */
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <linux/if_arp.h>
#include <linux/if_ether.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink_log.h>
#include <linux/netlink.h>

#include "packet.h"
#include "capture.h"

#define BIT(n) (1ULL << NFL_VALID_##n)

enum {
	PCAP_HEAD = 16,
	SECTION_HEADER = 0x0a0d0d0a, INTERFACE = 1, OLD_PACKET = 2, SIMPLE_PACKET = 3, PACKET = 6,	/* types of blocks */
	BLOCK_MIN = 12, SIMPLE_HEAD = 12, PACKET_HEAD = 28, BLOCK_TAIL = 4,
	OPTION_END = 0, OPTION_FLAGS = 2,
	FLAGS_FCS_SHIFT = 5, FLAGS_FCS_MASK = 15,	/* bytes of checksum; 0: the interface knows */
	SLL_HEAD = 16, SLL2_HEAD = 20, SLL_OUTGOING = 4,
	NFLOG_HEAD = 4
};

enum direction { UNKNOWN, INBOUND, OUTBOUND };

/* A packet as the file describes it. */
struct found {
	const struct nfl_interface *interface;
	uint64_t time;
	uint32_t at, length, original;	/* original: bytes it had on the wire */
	uint32_t flags;			/* of pcapng, 0 where there are none */
	enum direction direction;
};

static inline uint16_t be16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static inline uint32_t be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline uint16_t number16(const struct nfl_capture *c, const uint8_t *p)
{
	uint16_t number;

	memcpy(&number, p, sizeof(number));
	return c->swapped ? __builtin_bswap16(number) : number;
}

static inline uint32_t number32(const struct nfl_capture *c, const uint8_t *p)
{
	uint32_t number;

	memcpy(&number, p, sizeof(number));
	return c->swapped ? __builtin_bswap32(number) : number;
}

/* -- time and interface -------------------------------------------------------------------------------------------- */

static void stamp(struct nfl_record *r, const struct found *f)
{
	uint64_t units = f->interface->units, seconds, rest;

	/* The usual ones as constants: a division by a variable costs as much as the decoding of a header. */
	if (units == 1000000) {
		seconds = f->time / 1000000;
		rest = f->time % 1000000;
	} else if (units == 1000000000) {
		seconds = f->time / 1000000000;
		rest = f->time % 1000000000 / 1000;
	} else {
		seconds = f->time / units;
		rest = (uint64_t)((unsigned __int128)(f->time % units) * 1000000 / units);
	}
	r->oob_time_sec = (uint32_t)(seconds + (uint64_t)f->interface->offset);
	r->oob_time_usec = (uint32_t)rest;
	r->valid |= BIT(KERNEL_TIME);
}

/* Which way a packet went is not always known: then it came in. */
static void interface(struct nfl_record *r, uint32_t index, enum direction direction)
{
	if (!index)
		return;
	if (direction == OUTBOUND) {
		r->oob_ifindex_out = index;
		r->valid |= BIT(OUTDEV);
	} else {
		r->oob_ifindex_in = index;
		r->valid |= BIT(INDEV);
	}
}

/* -- link types ---------------------------------------------------------------------------------------------------------- */

static inline bool is_tag(uint16_t ethertype)
{
	return ethertype == ETH_P_8021Q || ethertype == ETH_P_8021AD;
}

static void network(struct nfl_record *r, uint16_t ethertype, uint32_t at, uint32_t length)
{
	r->raw_pkt = at;
	r->raw_pktlen = length;
	r->oob_protocol = ethertype;
	r->oob_family = ethertype == ETH_P_IP ? NFPROTO_IPV4 : ethertype == ETH_P_IPV6 ? NFPROTO_IPV6 :
			ethertype == ETH_P_ARP ? NFPROTO_ARP : NFPROTO_BRIDGE;
	r->valid |= BIT(PAYLOAD) | BIT(PACKET_HDR);
}

/* The kernel's protocol of a frame (eth_type_trans): a length in the place of an EtherType means 802.2, or Novell's 802.3. */
static uint16_t protocol_of(const uint8_t *ethertype, uint32_t length)
{
	if (be16(ethertype) >= ETH_P_802_3_MIN)
		return be16(ethertype);
	return length >= 2 && ethertype[2] == 0xff && ethertype[3] == 0xff ? ETH_P_802_3 : ETH_P_802_2;
}

/* What is behind a link-layer header that says `ethertype`; the outermost VLAN tag is not part of it. */
static uint32_t untagged(struct nfl_record *r, uint16_t ethertype, const uint8_t *data, uint32_t at, uint32_t length)
{
	if (!is_tag(ethertype) || length < 4) {
		network(r, ethertype, at, length);
		return 0;
	}
	r->vlan_protocol = ethertype;
	r->vlan_id = be16(data + at) & 0xfff;
	r->vlan_priority = data[at] >> 5;
	r->vlan_dei = data[at] >> 4 & 1;
	r->vlan_beside = 1;
	r->valid |= BIT(VLAN);
	network(r, protocol_of(data + at + 2, length - 4), at + 4, length - 4);
	return 4;
}

/* Leave the frame's checksum out, of which a snaplen may have left nothing: drivers take it off before Netfilter sees a packet. */
static void without_fcs(struct found *f)
{
	uint32_t fcs = f->flags >> FLAGS_FCS_SHIFT & FLAGS_FCS_MASK, whole;

	if (!fcs)
		fcs = f->interface->fcs;
	whole = f->original > f->length ? f->original : f->length;
	whole = fcs < whole ? whole - fcs : 0;
	if (f->length > whole)
		f->length = whole;
	if (f->original > whole)
		f->original = whole;
}

static bool ethernet(struct nfl_record *r, uint8_t *data, uint32_t at, uint32_t length)
{
	if (length < ETH_HLEN)
		return false;
	r->raw_mac = at;
	if (untagged(r, protocol_of(data + at + 12, length - ETH_HLEN), data, at + ETH_HLEN, length - ETH_HLEN)) {
		/* As the kernel does it: the addresses move up to the EtherType of what the tag was around. */
		memmove(data + at + 4, data + at, 2 * ETH_ALEN);
		r->raw_mac = at + 4;
	}
	r->raw_mac_len = ETH_HLEN;
	r->raw_type = ARPHRD_ETHER;
	r->raw_mac_addrlen = ETH_ALEN;
	memcpy(r->raw_mac_saddr, data + r->raw_mac + ETH_ALEN, ETH_ALEN);
	r->valid |= BIT(HWHEADER) | BIT(HWADDR);
	return true;
}

/* Nothing but the first byte says what follows. */
static void raw(struct nfl_record *r, const uint8_t *data, uint32_t at, uint32_t length)
{
	uint8_t version = length ? data[at] >> 4 : 0;

	network(r, version == 6 ? ETH_P_IPV6 : ETH_P_IP, at, length);
	if (version != 4 && version != 6) {
		r->oob_family = NFPROTO_UNSPEC;
		r->oob_protocol = 0;
		r->valid &= ~BIT(PACKET_HDR);
	}
}

static void cooked(struct nfl_record *r, uint16_t type, uint16_t protocol, uint32_t addrlen, const uint8_t *address,
		   const uint8_t *data, uint32_t at, uint32_t length)
{
	r->raw_mac_addrlen = (uint16_t)(addrlen < sizeof(r->raw_mac_saddr) ? addrlen : sizeof(r->raw_mac_saddr));
	if (r->raw_mac_addrlen) {
		memcpy(r->raw_mac_saddr, address, r->raw_mac_addrlen);
		r->valid |= BIT(HWADDR);
	}
	if (type == ARPHRD_NETLINK || type == ARPHRD_IEEE80211_RADIOTAP || type == ARPHRD_FRAD) {
		/* The protocol is no EtherType. */
		r->raw_pkt = at;
		r->raw_pktlen = length;
		r->valid |= BIT(PAYLOAD);
		return;
	}
	untagged(r, protocol, data, at, length);
}

static bool sll(struct nfl_record *r, const uint8_t *data, struct found *f)
{
	const uint8_t *head = data + f->at;

	if (f->length < SLL_HEAD)
		return false;
	f->direction = be16(head) == SLL_OUTGOING ? OUTBOUND : INBOUND;
	cooked(r, be16(head + 2), be16(head + 14), be16(head + 4), head + 6, data, f->at + SLL_HEAD, f->length - SLL_HEAD);
	return true;
}

static bool sll2(struct nfl_record *r, const uint8_t *data, struct found *f, uint32_t *index)
{
	const uint8_t *head = data + f->at;

	if (f->length < SLL2_HEAD)
		return false;
	*index = be32(head + 4);
	f->direction = head[10] == SLL_OUTGOING ? OUTBOUND : INBOUND;
	cooked(r, be16(head + 8), be16(head), head[11], head + 12, data, f->at + SLL2_HEAD, f->length - SLL2_HEAD);
	return true;
}

/* Attributes in p[0, length), their heads brought to this machine's order; returns how much of them can be used. Where the file
 * has not all of the packet, the attribute that is cut holds what is there, if it is the payload. */
static uint32_t straightened(const struct nfl_capture *c, uint8_t *p, uint32_t length, bool cut, bool nested)
{
	uint32_t at = 0, step;
	uint16_t head[2];

	while (length - at >= sizeof(head)) {
		head[0] = number16(c, p + at);
		head[1] = number16(c, p + at + 2);
		if (cut && head[0] > length - at) {
			if ((head[1] & NLA_TYPE_MASK) != NFULA_PAYLOAD)
				return at;
			head[0] = (uint16_t)(length - at);
		}
		memcpy(p + at, head, sizeof(head));
		if (head[0] < sizeof(head) || head[0] > length - at)
			return length;		/* nfl_record_attributes will refuse it */
		if (!nested && (head[1] & NLA_TYPE_MASK) == NFULA_VLAN)
			straightened(c, p + at + sizeof(head), (uint32_t)(head[0] - sizeof(head)), false, true);
		step = NLA_ALIGN(head[0]);
		at = step < length - at ? at + step : length;
	}
	return length;
}

static bool nflog(const struct nfl_capture *c, struct nfl_record *r, uint8_t *data, const struct found *f)
{
	uint8_t *head = data + f->at;
	uint32_t length;

	if (f->length < NFLOG_HEAD || head[1])	/* version 0 is the only one there is */
		return false;
	length = straightened(c, head + NFLOG_HEAD, f->length - NFLOG_HEAD, f->length < f->original, false);
	r->oob_family = head[0];
	return nfl_record_attributes(r, data, head + NFLOG_HEAD, length);
}

/* One packet; false where its link-layer header is not whole or is wrong. */
static bool decode(struct nfl_capture *c, struct nfl_record *r, uint8_t *data, struct found *f)
{
	uint32_t index = f->interface->index;
	bool good = true;

	nfl_record_begin(r, c->label, NFPROTO_UNSPEC);
	switch (f->interface->linktype) {
	case NFL_LINK_ETHERNET:
		without_fcs(f);
		good = ethernet(r, data, f->at, f->length);
		break;
	case NFL_LINK_IPV4:
		network(r, ETH_P_IP, f->at, f->length);
		break;
	case NFL_LINK_IPV6:
		network(r, ETH_P_IPV6, f->at, f->length);
		break;
	case NFL_LINK_NFLOG:
		good = nflog(c, r, data, f);
		index = 0;
		break;
	case NFL_LINK_SLL:
		good = sll(r, data, f);
		break;
	case NFL_LINK_SLL2:
		good = sll2(r, data, f, &index);
		break;
	default:
		raw(r, data, f->at, f->length);
	}
	if (!good)
		return false;
	interface(r, index, f->direction);
	if (!(r->valid & BIT(KERNEL_TIME)))
		stamp(r, f);
	nfl_record_headers(r, data);
	return true;
}

static bool is_known(uint32_t linktype)
{
	switch (linktype) {
	case NFL_LINK_ETHERNET:
	case NFL_LINK_DLT_RAW:
	case NFL_LINK_DLT_RAW_OPENBSD:
	case NFL_LINK_RAW:
	case NFL_LINK_SLL:
	case NFL_LINK_IPV4:
	case NFL_LINK_IPV6:
	case NFL_LINK_NFLOG:
	case NFL_LINK_SLL2:
		return true;
	}
	return false;
}

/* Records of one batch have their names from one table: indexes the kernel gave and those of the file do not mix. */
static bool other_names(struct nfl_capture *c, const struct nfl_interface *i)
{
	uint8_t kernel = i->linktype == NFL_LINK_NFLOG || i->linktype == NFL_LINK_SLL2;

	if (c->named && c->kernel_indexes != kernel)
		return true;
	c->named = 1;
	c->kernel_indexes = kernel;
	return false;
}

/* Take in a packet that was found; 1 where it is a record, 0 where it is none, -1 where it must wait for another batch. */
static int take(struct nfl_capture *c, struct nfl_record *r, uint8_t *data, struct found *f)
{
	if (!is_known(f->interface->linktype)) {
		c->foreign++;
		return 0;
	}
	if (other_names(c, f->interface))
		return -1;
	if (!decode(c, r, data, f)) {
		c->malformed++;
		return 0;
	}
	c->snapped += f->length < f->original;
	c->valid_any |= r->valid;
	c->valid_all &= r->valid;
	return 1;
}

/* -- file formats ---------------------------------------------------------------------------------------------------------- */

/* What one step brought: how far to go, and a packet where `f->interface` is set. False: it stops here, c->stop says why. */
static bool pcap_step(struct nfl_capture *c, const uint8_t *data, uint32_t at, uint32_t left, struct found *f, uint64_t *step)
{
	const uint8_t *head = data + at;

	c->stop = NFL_CAPTURE_MORE;
	c->wanted = PCAP_HEAD;
	if (left < PCAP_HEAD)
		return false;
	f->length = number32(c, head + 8);
	if (f->length > NFL_CAPTURE_PACKET_MAX) {
		c->stop = NFL_CAPTURE_BROKEN;
		return false;
	}
	c->wanted = PCAP_HEAD + f->length;
	if (left < c->wanted)
		return false;
	f->interface = c->interfaces;
	f->at = at + PCAP_HEAD;
	f->original = number32(c, head + 12);
	f->time = number32(c, head) * f->interface->units + number32(c, head + 4);
	f->direction = UNKNOWN;
	*step = c->wanted;
	return true;
}

/* The flags among the options p[0, length) of a packet: its direction, and how long its checksum is. */
static uint32_t flags(const struct nfl_capture *c, const uint8_t *p, uint32_t length)
{
	uint32_t at = 0, size, step;
	uint16_t code;

	while (length - at >= 4) {
		code = number16(c, p + at);
		size = number16(c, p + at + 2);
		if (code == OPTION_END || size > length - at - 4)
			break;
		if (code == OPTION_FLAGS && size >= 4)
			return number32(c, p + at + 4);
		step = 4 + ((size + 3) & ~3u);
		at = step < length - at ? at + step : length;
	}
	return 0;
}

static void packet_block(struct nfl_capture *c, const uint8_t *data, uint32_t at, uint32_t total, uint32_t type, struct found *f)
{
	const uint8_t *head = data + at;
	uint32_t id, room, padded;

	if (total < PACKET_HEAD + BLOCK_TAIL) {
		c->malformed++;
		return;
	}
	id = type == OLD_PACKET ? number16(c, head + 8) : number32(c, head + 8);
	room = total - PACKET_HEAD - BLOCK_TAIL;
	f->length = number32(c, head + 20);
	if (id >= c->interface_count || f->length > room || f->length > NFL_CAPTURE_PACKET_MAX) {
		c->malformed++;
		return;
	}
	f->interface = c->interfaces + id;
	f->at = at + PACKET_HEAD;
	f->original = number32(c, head + 24);
	f->time = (uint64_t)number32(c, head + 12) << 32 | number32(c, head + 16);
	padded = (f->length + 3) & ~3u;		/* it fits: room is a multiple of 4 */
	f->flags = room > padded ? flags(c, head + PACKET_HEAD + padded, room - padded) : 0;
	f->direction = (f->flags & 3) == OUTBOUND ? OUTBOUND : INBOUND;
}

static void simple_block(struct nfl_capture *c, const uint8_t *data, uint32_t at, uint32_t total, struct found *f)
{
	if (total < SIMPLE_HEAD + BLOCK_TAIL || !c->interface_count) {
		c->malformed++;
		return;
	}
	f->length = f->original = number32(c, data + at + 8);
	if (c->interfaces->snaplen && f->length > c->interfaces->snaplen)
		f->length = c->interfaces->snaplen;
	if (f->length > total - SIMPLE_HEAD - BLOCK_TAIL || f->length > NFL_CAPTURE_PACKET_MAX) {
		c->malformed++;
		return;
	}
	f->interface = c->interfaces;
	f->at = at + SIMPLE_HEAD;
	f->time = 0;
	f->direction = UNKNOWN;
}

static bool block_step(struct nfl_capture *c, const uint8_t *data, uint32_t at, uint32_t left, struct found *f, uint64_t *step)
{
	uint32_t type, total;
	bool passed_over;

	c->stop = NFL_CAPTURE_MORE;
	c->wanted = BLOCK_MIN;
	if (left < BLOCK_MIN)
		return false;
	type = number32(c, data + at);
	if (type == SECTION_HEADER || type == INTERFACE) {
		c->stop = NFL_CAPTURE_BLOCK;
		return false;
	}
	total = number32(c, data + at + 4);
	passed_over = type != PACKET && type != SIMPLE_PACKET && type != OLD_PACKET;
	if (total < BLOCK_MIN || total & 3 || (!passed_over && total > NFL_CAPTURE_BLOCK_MAX)) {
		c->stop = NFL_CAPTURE_BROKEN;
		return false;
	}
	*step = c->wanted = total;
	if (total > left)
		return passed_over;
	if (number32(c, data + at + total - BLOCK_TAIL) != total) {
		c->stop = NFL_CAPTURE_BROKEN;
		return false;
	}
	if (type == SIMPLE_PACKET)
		simple_block(c, data, at, total, f);
	else if (!passed_over)
		packet_block(c, data, at, total, type, f);
	return true;
}

uint32_t nfl_capture_decode(struct nfl_capture *c, uint8_t *data, uint64_t *position, uint32_t length,
			    struct nfl_record *records, uint32_t room)
{
	uint64_t at = *position, step;
	uint32_t count = 0, left;
	int taken;

	while (at <= length) {
		struct found f = { .interface = NULL };

		left = length - (uint32_t)at;
		if (!(c->blocks ? block_step(c, data, (uint32_t)at, left, &f, &step) :
				  pcap_step(c, data, (uint32_t)at, left, &f, &step)))
			break;
		if (f.interface) {
			if (count == room) {
				c->stop = NFL_CAPTURE_FULL;
				break;
			}
			taken = take(c, records + count, data, &f);
			if (taken < 0) {
				c->stop = NFL_CAPTURE_NAMES;
				break;
			}
			count += (uint32_t)taken;
		}
		at += step;
	}
	if (at > length) {
		c->stop = NFL_CAPTURE_MORE;
		c->wanted = 0;
	}
	*position = at;
	c->received += count;
	return count;
}
