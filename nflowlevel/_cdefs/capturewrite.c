// SPDX-License-Identifier: GPL-2.0-or-later
/* Records to the packets of a capture file: pcap (draft-ietf-opsawg-pcap), pcapng (draft-ietf-opsawg-pcapng), and the link types
 * raw IP, NFLOG and Ethernet (www.tcpdump.org/linktypes). All numbers of the formats are in this machine's order.
 *
 * The heads of files, sections and interfaces are written in Python: they are few. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <arpa/inet.h>
#include <linux/if_arp.h>
#include <linux/if_ether.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_log.h>
#include <linux/netlink.h>

#include "record.h"
#include "packet.h"
#include "capture.h"
#include "capturewrite.h"

#define BIT(n) (1ULL << NFL_VALID_##n)
#define NETDEV_EGRESS 1		/* NF_NETDEV_EGRESS, absent from older headers */

enum {
	PCAP_HEAD = 16, INTERFACE = 1, PACKET = 6, SECTION_HEADER = 0x0a0d0d0a, PACKET_HEAD = 28, BLOCK_TAIL = 4,
	OPTION_END = 0, OPTION_COMMENT = 1, OPTION_FLAGS = 2,
	INBOUND = 1, OUTBOUND = 2,
	COMMENT_MAX = 1024,		/* the kernel's prefixes are shorter */
	ATTRIBUTE_MAX = 0xffff - NLA_HDRLEN,
	/* More than all that is written of a packet but for its bytes, its prefix and the pieces of the message. */
	FIXED = 768,
	NONE = 0xffffffff
};

/* The packet behind its link-layer header, wherever the kernel left that. */
struct network {
	const uint8_t *packet;
	const uint8_t *frame;		/* where the payload begins with an Ethernet header, that; else NULL */
	uint32_t length;
	uint16_t protocol;		/* EtherType of what is at `packet`; 0: nothing says */
};

static inline uint16_t be16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static inline bool is_tag(uint16_t ethertype)
{
	return ethertype == ETH_P_8021Q || ethertype == ETH_P_8021AD;
}

static inline uint32_t least(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

static inline uint32_t most(uint32_t a, uint32_t b)
{
	return a > b ? a : b;
}

static inline char *put16(char *p, uint16_t n)
{
	memcpy(p, &n, sizeof(n));
	return p + sizeof(n);
}

static inline char *put32(char *p, uint32_t n)
{
	memcpy(p, &n, sizeof(n));
	return p + sizeof(n);
}

static inline char *put(char *p, const void *bytes, size_t length)
{
	memcpy(p, bytes, length);
	return p + length;
}

/* Zeros up to a multiple of 4 from `start`. */
static inline char *put_padding(char *p, const char *start)
{
	size_t length = (size_t)(start - p) & 3;

	memset(p, 0, 4);
	return p + length;
}

/* -- the packet ---------------------------------------------------------------------------------------------------- */

static struct network network_of(const struct nfl_record *r, const uint8_t *data)
{
	struct network n = { .packet = data + r->raw_pkt, .length = r->raw_pktlen };

	switch (r->oob_family) {
	case NFPROTO_IPV4:
		n.protocol = ETH_P_IP;
		return n;
	case NFPROTO_IPV6:
		n.protocol = ETH_P_IPV6;
		return n;
	case NFPROTO_ARP:
		n.protocol = ETH_P_ARP;
		return n;
	case NFPROTO_NETDEV:
		/* As in packet.c: at egress the packet begins with its Ethernet header, on devices that have one. */
		if (r->oob_hook == NETDEV_EGRESS && r->valid & BIT(L2HDR) && n.length >= ETH_HLEN) {
			n.frame = n.packet;
			n.protocol = be16(n.packet + 12);
			n.packet += ETH_HLEN;
			n.length -= ETH_HLEN;
			return n;
		}
	}
	n.protocol = r->oob_protocol;
	return n;
}

/* What is behind the VLAN tags that are part of the packet. */
static struct network untagged(struct network n)
{
	for (int tags = 0; tags < 2 && is_tag(n.protocol) && n.length >= 4; tags++) {
		n.protocol = be16(n.packet + 2);
		n.packet += 4;
		n.length -= 4;
	}
	return n;
}

/* Bytes that the packet had, as its header tells as far as it is there; 0 where it does not. A header may tell too little: of
 * segments that are not cut yet, of jumbograms, of frames with padding. */
static uint32_t told_length(const struct network *n)
{
	const uint8_t *p = n->packet;

	if (n->protocol == ETH_P_IP && n->length >= 4 && p[0] >> 4 == 4)
		return be16(p + 2);
	if (n->protocol == ETH_P_IPV6 && (!n->length || p[0] >> 4 == 6))
		return 40u + (n->length >= 6 ? be16(p + 4) : 0);
	return 0;
}

/* -- NFLOG: the head of nfnetlink_log and attributes in the kernel's order (__build_packet_message) ------------------------- */

static char *put_attribute_head(char *p, uint16_t type, uint32_t length)
{
	p = put16(p, (uint16_t)(NLA_HDRLEN + length));
	return put16(p, type);
}

static char *put_attribute(char *p, uint16_t type, const void *value, uint32_t length)
{
	const char *start = p;

	p = put_attribute_head(p, type, length);
	p = put(p, value, length);
	return put_padding(p, start);
}

static char *put_attribute32(char *p, uint16_t type, uint32_t value)
{
	value = htonl(value);
	return put_attribute(p, type, &value, sizeof(value));
}

static char *put_attribute16(char *p, uint16_t type, uint16_t value)
{
	value = htons(value);
	return put_attribute(p, type, &value, sizeof(value));
}

static char *put_prefix(char *p, const struct nfl_record *r, const uint8_t *data)
{
	uint32_t length = least(r->oob_prefix_len, ATTRIBUTE_MAX - 1);
	const char *start = p;

	p = put_attribute_head(p, NFULA_PREFIX, length + 1);
	p = put(p, data + r->oob_prefix, length);
	*p++ = 0;
	return put_padding(p, start);
}

static char *put_hardware(char *p, const struct nfl_record *r, const uint8_t *data)
{
	struct nfulnl_msg_packet_hw hw = { .hw_addrlen = htons(r->raw_mac_addrlen) };

	if (r->valid & BIT(HWADDR)) {
		memcpy(hw.hw_addr, r->raw_mac_saddr, sizeof(hw.hw_addr));
		p = put_attribute(p, NFULA_HWADDR, &hw, sizeof(hw));
	}
	if (r->valid & BIT(HWHEADER)) {
		p = put_attribute16(p, NFULA_HWTYPE, r->raw_type);
		p = put_attribute16(p, NFULA_HWLEN, r->raw_mac_len);
		p = put_attribute(p, NFULA_HWHEADER, data + r->raw_mac, least(r->raw_mac_len, ATTRIBUTE_MAX));
	}
	return p;
}

static uint16_t tci_of(const struct nfl_record *r)
{
	return (uint16_t)(r->vlan_priority << 13 | r->vlan_dei << 12 | r->vlan_id);
}

static char *put_vlan(char *p, const struct nfl_record *r)
{
	char nested[20], *end = nested;	/* padding is written as a whole word */

	end = put_attribute16(end, NFULA_VLAN_PROTO, r->vlan_protocol);
	end = put_attribute16(end, NFULA_VLAN_TCI, tci_of(r));
	return put_attribute(p, NFULA_VLAN | NLA_F_NESTED, nested, (uint32_t)(end - nested));
}

static char *put_nflog(char *p, const struct nfl_capture_writer *w, const struct nfl_record *r, const uint8_t *data)
{
	struct nfgenmsg head = { .nfgen_family = r->oob_family, .version = NFNETLINK_V0, .res_id = htons(w->group) };
	struct nfulnl_msg_packet_hdr packet = { .hw_protocol = htons(r->oob_protocol), .hook = r->oob_hook };
	uint32_t stamp[4] = { 0, htonl(r->oob_time_sec), 0, htonl(r->oob_time_usec) };

	p = put(p, &head, sizeof(head));
	if (r->valid & BIT(PACKET_HDR))
		p = put_attribute(p, NFULA_PACKET_HDR, &packet, sizeof(packet));
	if (r->valid & BIT(PREFIX))
		p = put_prefix(p, r, data);
	if (r->valid & BIT(PHYSINDEV))
		p = put_attribute32(p, NFULA_IFINDEX_PHYSINDEV, r->oob_physindev);
	if (r->valid & BIT(INDEV))
		p = put_attribute32(p, NFULA_IFINDEX_INDEV, r->oob_ifindex_in);
	if (r->valid & BIT(PHYSOUTDEV))
		p = put_attribute32(p, NFULA_IFINDEX_PHYSOUTDEV, r->oob_physoutdev);
	if (r->valid & BIT(OUTDEV))
		p = put_attribute32(p, NFULA_IFINDEX_OUTDEV, r->oob_ifindex_out);
	if (r->oob_mark)
		p = put_attribute32(p, NFULA_MARK, r->oob_mark);
	p = put_hardware(p, r, data);
	/* Of a packet that the kernel did not stamp the head of the record has the time. */
	if (r->valid & BIT(KERNEL_TIME))
		p = put_attribute(p, NFULA_TIMESTAMP, stamp, sizeof(stamp));
	if (r->valid & BIT(UID))
		p = put_attribute32(p, NFULA_UID, r->oob_uid);
	if (r->valid & BIT(GID))
		p = put_attribute32(p, NFULA_GID, r->oob_gid);
	if (r->valid & BIT(SEQ))
		p = put_attribute32(p, NFULA_SEQ, r->oob_seq_local);
	if (r->valid & BIT(SEQ_GLOBAL))
		p = put_attribute32(p, NFULA_SEQ_GLOBAL, r->oob_seq_global);
	if (r->valid & BIT(CT))
		p = put_attribute(p, NFULA_CT | NLA_F_NESTED, data + r->ct, least(r->ct_len, ATTRIBUTE_MAX));
	if (r->vlan_beside)
		p = put_vlan(p, r);
	if (r->valid & BIT(L2HDR))
		p = put_attribute(p, NFULA_L2HDR, data + r->raw_l2hdr, least(r->raw_l2hdr_len, ATTRIBUTE_MAX));
	return p;
}

/* -- Ethernet ------------------------------------------------------------------------------------------------------ */

/* An Ethernet header, with the tag that stood in it. */
static char *put_tagged(char *p, const struct nfl_record *r, const void *header)
{
	p = put(p, header, 2 * ETH_ALEN);
	if (r->vlan_beside) {
		p = put16(p, htons(r->vlan_protocol));
		p = put16(p, htons(tci_of(r)));
	}
	return put(p, (const char *)header + 2 * ETH_ALEN, 2);
}

/* The header as the kernel gave it, or one with what is known: the sender's address and the EtherType. */
static char *put_ethernet(char *p, const struct nfl_record *r, const uint8_t *data, const struct network *n)
{
	bool given = r->valid & BIT(HWHEADER) && r->raw_mac_len == ETH_HLEN &&
		     (r->raw_type == ARPHRD_ETHER || r->raw_type == ARPHRD_LOOPBACK);
	char header[ETH_HLEN] = { 0 };
	uint16_t ethertype = htons(n->protocol);

	if (given) {
		memcpy(header, data + r->raw_mac, ETH_HLEN);
	} else {
		if (r->valid & BIT(HWADDR) && r->raw_mac_addrlen == ETH_ALEN)
			memcpy(header + ETH_ALEN, r->raw_mac_saddr, ETH_ALEN);
		memcpy(header + 2 * ETH_ALEN, &ethertype, sizeof(ethertype));
	}
	return put_tagged(p, r, header);
}

/* -- pcapng: options of a packet ----------------------------------------------------------------------------------------- */

/* Length of the UTF-8 sequence at p (RFC 3629), 0 where there is none. */
static uint32_t utf8(const uint8_t *p, uint32_t left)
{
	uint32_t size = p[0] < 0x80 ? 1 : p[0] >= 0xc2 && p[0] < 0xe0 ? 2 : (p[0] & 0xf0) == 0xe0 ? 3 :
			p[0] >= 0xf0 && p[0] < 0xf5 ? 4 : 0;

	if (!size || size > left)
		return 0;
	for (uint32_t i = 1; i < size; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	}
	if (size == 3 && ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f)))
		return 0;
	if (size == 4 && ((p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f)))
		return 0;
	return size;
}

/* Comments are UTF-8: U+FFFD for each byte that is not. */
static char *put_text(char *p, const uint8_t *text, uint32_t length)
{
	const char *end = p + COMMENT_MAX;
	uint32_t size;

	for (uint32_t at = 0; at < length; at += size) {
		size = utf8(text + at, length - at);
		if (p + (size ? size : 3) > end)
			break;
		p = size ? put(p, text + at, size) : put(p, "\xef\xbf\xbd", 3);
		size += !size;
	}
	return p;
}

static char *end_option(char *head, char *end, uint16_t code)
{
	put16(put16(head, code), (uint16_t)(end - head - 4));
	return put_padding(end, head);
}

static char *put_hex(char *p, uint32_t n)
{
	int shift = 28;

	while (shift && !(n >> shift))
		shift -= 4;
	p = put(p, "0x", 2);
	for (; shift >= 0; shift -= 4)
		*p++ = "0123456789abcdef"[n >> shift & 15];
	return p;
}

static const char *hook_name(const struct nfl_record *r)
{
	static const char *const netdev[] = { "ingress", "egress" };
	static const char *const arp[] = { "input", "output", "forward" };
	static const char *const others[] = { "prerouting", "input", "forward", "output", "postrouting", "ingress" };
	uint8_t hook = r->oob_hook;

	if (r->oob_family == NFPROTO_NETDEV)
		return hook < 2 ? netdev[hook] : NULL;
	if (r->oob_family == NFPROTO_ARP)
		return hook < 3 ? arp[hook] : NULL;
	return hook < 6 ? others[hook] : NULL;
}

/* What the link type has no place for: the prefix, alone, and then hook and mark. */
static char *put_comments(char *p, const struct nfl_record *r, const uint8_t *data)
{
	const char *hook = r->valid & BIT(HOOK) ? hook_name(r) : NULL;
	char *head = p;

	if (r->valid & BIT(PREFIX) && r->oob_prefix_len) {
		p = put_text(p + 4, data + r->oob_prefix, r->oob_prefix_len);
		p = end_option(head, p, OPTION_COMMENT);
	}
	if (!hook && !r->oob_mark)
		return p;
	head = p;
	p += 4;
	if (hook) {
		p = put(p, "hook ", 5);
		p = put(p, hook, strlen(hook));
	}
	if (r->oob_mark) {
		p = hook ? put(p, ", mark ", 7) : put(p, "mark ", 5);
		p = put_hex(p, r->oob_mark);
	}
	return end_option(head, p, OPTION_COMMENT);
}

/* Which way a packet goes at its hook; and so which of its interfaces is the one that saw it. */
static uint32_t direction(const struct nfl_record *r, uint32_t *index)
{
	bool leaves;

	if (r->oob_family == NFPROTO_NETDEV || r->oob_family == NFPROTO_ARP)
		leaves = r->oob_hook == 1;
	else
		leaves = r->oob_hook == NF_INET_LOCAL_OUT || r->oob_hook == NF_INET_POST_ROUTING;
	if (!(r->valid & BIT(HOOK)) || !(r->valid & (leaves ? BIT(OUTDEV) : BIT(INDEV))))
		leaves = !(r->valid & BIT(INDEV));
	*index = leaves ? r->oob_ifindex_out : r->oob_ifindex_in;
	return !*index ? 0 : leaves ? OUTBOUND : INBOUND;
}

static uint32_t described(const struct nfl_capture_writer *w, uint32_t index)
{
	uint32_t low = 0, high = w->interface_count;

	while (low < high) {
		uint32_t middle = (low + high) / 2;

		if (w->interfaces[middle].index < index)
			low = middle + 1;
		else
			high = middle;
	}
	return low < w->interface_count && w->interfaces[low].index == index ? w->interfaces[low].id : NONE;
}

/* -- records ------------------------------------------------------------------------------------------------------- */

/* What stands before the packet's bytes under this link type; *told is what all had, where the packet's header tells. */
static char *put_link_layer(char *p, const struct nfl_capture_writer *w, const struct nfl_record *r, const uint8_t *data,
			    struct network *n, uint32_t *told)
{
	const char *start = p;

	if (w->linktype == NFL_LINK_NFLOG) {
		struct network inner = untagged(*n);

		p = put_nflog(p, w, r, data);
		*told = told_length(&inner);
		*told += *told ? (uint32_t)(inner.packet - (data + r->raw_pkt)) : 0;
		*told = NLA_ALIGN(most(*told, r->raw_pktlen));
		n->packet = data + r->raw_pkt;
		n->length = least(r->raw_pktlen, ATTRIBUTE_MAX);
		if (r->valid & BIT(PAYLOAD))
			p = put_attribute_head(p, NFULA_PAYLOAD, n->length);
		*told += (uint32_t)(p - start);
	} else if (w->linktype == NFL_LINK_ETHERNET) {
		struct network inner = untagged(*n);
		uint32_t tags = (uint32_t)(inner.packet - n->packet);

		*told = told_length(&inner);
		*told += *told ? tags : 0;
		p = n->frame ? put_tagged(p, r, n->frame) : put_ethernet(p, r, data, n);
		*told += *told ? (uint32_t)(p - start) : 0;
	} else {
		*told = told_length(n);
	}
	return p;
}

/* Whether the link type can hold the packet; `n` is what it holds. */
static bool fits(const struct nfl_capture_writer *w, const struct nfl_record *r, const uint8_t *data, struct network *n)
{
	*n = network_of(r, data);
	if (w->linktype == NFL_LINK_NFLOG)
		return true;
	if (w->linktype == NFL_LINK_ETHERNET)
		return n->protocol != 0;
	*n = untagged(*n);
	return n->protocol == ETH_P_IP || n->protocol == ETH_P_IPV6;
}

/* One record at p, where there is room for it; `id`: the interface's number in the file. */
static char *put_record(char *p, const struct nfl_capture_writer *w, const struct nfl_record *r, const uint8_t *data,
			struct network *n, uint32_t id, uint32_t flags)
{
	char *head = p, *start = p + (w->blocks ? PACKET_HEAD : PCAP_HEAD);
	/* A message may say more microseconds than a second has. */
	uint64_t stamp = (uint64_t)r->oob_time_sec * 1000000 + r->oob_time_usec;
	uint32_t told, captured;

	p = put_link_layer(start, w, r, data, n, &told);
	p = put(p, n->packet, n->length);
	if (w->linktype == NFL_LINK_NFLOG)
		p = put_padding(p, start);
	told = most(told, (uint32_t)(p - start));
	captured = least((uint32_t)(p - start), w->snaplen);
	p = start + captured;
	if (!w->blocks) {
		head = put32(head, (uint32_t)(stamp / 1000000));
		head = put32(head, (uint32_t)(stamp % 1000000));
		put32(put32(head, captured), told);
		return p;
	}
	p = put_padding(p, start);
	if (w->linktype != NFL_LINK_NFLOG)
		p = put_comments(p, r, data);
	if (flags) {
		p = put16(put16(p, OPTION_FLAGS), 4);
		p = put32(p, flags);
	}
	p = put32(p, OPTION_END);
	put32(p, (uint32_t)(p - head) + BLOCK_TAIL);
	p += BLOCK_TAIL;
	put32(put32(head, PACKET), (uint32_t)(p - head));
	put32(put32(put32(head + 8, id), (uint32_t)(stamp >> 32)), (uint32_t)stamp);
	put32(put32(head + 20, captured), told);
	return p;
}

/* The most that a record can take. */
static size_t room_for(const struct nfl_record *r)
{
	return (size_t)FIXED + 2 * COMMENT_MAX + r->raw_pktlen + r->oob_prefix_len + r->raw_mac_len + r->raw_l2hdr_len + r->ct_len;
}

size_t nfl_capture_write(struct nfl_capture_writer *w, const struct nfl_batch *batch, uint32_t first, char *out, size_t size,
			 uint32_t *done)
{
	const uint8_t *records = batch->records, *data = batch->data;
	uint32_t row, index = 0, id = 0, flags = 0;
	struct network n;
	char *p = out;

	w->undescribed = NONE;
	w->written = w->unfit = 0;
	for (row = first; row < batch->count; row++) {
		const struct nfl_record *r;

		r = (const void *)(records + (size_t)(batch->rows ? batch->rows[row] : row) * batch->stride);
		if (!fits(w, r, data, &n)) {
			w->unfit++;
			continue;
		}
		if ((size_t)(out + size - p) < room_for(r))
			break;
		if (w->blocks) {
			flags = direction(r, &index);
			id = described(w, index);
			if (id == NONE) {
				w->undescribed = index;
				break;
			}
		}
		p = put_record(p, w, r, data, &n, id, flags);
		w->written++;
	}
	*done = row;
	return (size_t)(p - out);
}

/* -- the end of a file --------------------------------------------------------------------------------------------- */

static inline uint32_t number(const uint8_t *p)
{
	uint32_t n;

	memcpy(&n, p, sizeof(n));
	return n;
}

/* How many bytes the record or block at p has, of which `left` are there: 0 where that is not there yet, NONE where there cannot
 * be one. `strictly`: also by what is not needed to go on. */
static uint32_t size_of(uint8_t blocks, uint32_t snaplen, const uint8_t *p, uint32_t left, bool strictly)
{
	uint32_t size;

	if (blocks) {
		if (left < 8)
			return 0;
		size = number(p + 4);
		if (size < 12 || size & 3 || size > NFL_CAPTURE_BLOCK_MAX)
			return NONE;
		if (strictly && !(number(p) - 1 < 6) && number(p) != SECTION_HEADER)
			return NONE;
		return size > left || number(p + size - 4) == size ? size : NONE;
	}
	if (left < PCAP_HEAD)
		return 0;
	size = number(p + 8);
	if (!number(p) && !size && !number(p + 12))
		return NONE;		/* zeros, as a power failure leaves them */
	if (size > snaplen)
		return NONE;
	/* Else the same 16 bytes, read from the second or third number on, may be a head as well. */
	if (strictly && (!number(p) || number(p + 4) >= 1000000 || number(p + 12) > NFL_CAPTURE_PACKET_MAX))
		return NONE;
	return PCAP_HEAD + size;
}

uint32_t nfl_capture_follow(uint8_t blocks, uint32_t snaplen, const uint8_t *data, uint32_t length, uint64_t *packets,
			    uint8_t *broken, uint32_t *places, uint32_t room, uint32_t *found)
{
	uint32_t at = 0, size, type;

	*broken = 0;
	while (at < length) {
		size = size_of(blocks, snaplen, data + at, length - at, false);
		*broken = size == NONE;
		if (!size || size > length - at)
			break;
		type = blocks ? number(data + at) : PACKET;
		*packets += type == PACKET;
		if (found && (type == INTERFACE || type == SECTION_HEADER)) {
			if (*found < room)
				places[*found] = at;
			++*found;
		}
		at += size;
	}
	return at;
}

uint32_t nfl_capture_last(uint8_t blocks, uint32_t snaplen, const uint8_t *data, uint32_t length, uint32_t window, uint32_t *ends)
{
	uint32_t found = NONE, size;

	/* ends[at]: where the last whole record ends of those that begin at `at`; NONE: none begins there. */
	ends[length] = length;
	for (uint32_t at = length; at-- > 0;) {
		size = size_of(blocks, snaplen, data + at, length - at, true);
		ends[at] = !size ? at : size == NONE ? NONE : size > length - at ? at : ends[at + size];
	}
	for (uint32_t at = 0; at < window && at < length; at++) {
		if (ends[at] == NONE)
			continue;
		if (found != NONE && ends[at] != found)
			return NONE;
		found = ends[at];
	}
	return found;
}
