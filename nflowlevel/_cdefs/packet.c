// SPDX-License-Identifier: GPL-2.0-or-later
/* Netlink messages of nfnetlink_log to records (attributes: net/netfilter/nfnetlink_log.c, __build_packet_message),
 * and the packet in them to fields: RFC 791, 8200, 9293, 768, 3828, 792, 4443, 9260, 4302, 4303, 826, IEEE 802.1Q.
 *
 * No length in a message or packet is believed: each read is checked against the bytes that are there. */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <linux/if_arp.h>
#include <linux/if_ether.h>
#include <linux/netlink.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_log.h>

#include "packet.h"

#define BIT(n) (1ULL << NFL_VALID_##n)
#define NETDEV_EGRESS 1		/* NF_NETDEV_EGRESS, absent from older headers */

static inline uint16_t be16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static inline uint32_t be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void tcp(struct nfl_record *r, const uint8_t *p, uint32_t length)
{
	if (length < 20)
		return;
	r->tcp_sport = be16(p);
	r->tcp_dport = be16(p + 2);
	r->tcp_seq = be32(p + 4);
	r->tcp_ackseq = be32(p + 8);
	r->tcp_offset = p[12] >> 4;
	r->tcp_reserved = r->tcp_res1 = p[12] & 0xf;
	r->tcp_res2 = p[13] >> 6;
	r->tcp_urg = p[13] >> 5 & 1;
	r->tcp_ack = p[13] >> 4 & 1;
	r->tcp_psh = p[13] >> 3 & 1;
	r->tcp_rst = p[13] >> 2 & 1;
	r->tcp_syn = p[13] >> 1 & 1;
	r->tcp_fin = p[13] & 1;
	r->tcp_window = be16(p + 14);
	r->tcp_csum = be16(p + 16);
	r->valid |= BIT(TCP);
	if (r->tcp_urg) {
		r->tcp_urgp = be16(p + 18);
		r->valid |= BIT(TCP_URGP);
	}
}

static void udp(struct nfl_record *r, const uint8_t *p, uint32_t length, bool lite)
{
	if (length < 8)
		return;
	r->udp_sport = be16(p);
	r->udp_dport = be16(p + 2);
	r->udp_csum = be16(p + 6);
	if (lite)	/* RFC 3828: checksum coverage stands where UDP has its length */
		r->udplite_coverage = be16(p + 4);
	else
		r->udp_len = be16(p + 4);
	r->valid |= BIT(UDP) | (lite ? BIT(UDPLITE) : BIT(UDP_LEN));
}

static void icmp(struct nfl_record *r, const uint8_t *p, uint32_t length)
{
	if (length < 8)
		return;
	r->icmp_type = p[0];
	r->icmp_code = p[1];
	r->icmp_csum = be16(p + 2);
	r->valid |= BIT(ICMP);
	if (p[0] == 0 || p[0] == 8) {			/* echo reply, echo */
		r->icmp_echoid = be16(p + 4);
		r->icmp_echoseq = be16(p + 6);
		r->valid |= BIT(ICMP_ECHO);
	} else if (p[0] == 5 || p[0] == 12) {		/* redirect; parameter problem: the pointer is the first byte */
		memcpy(r->icmp_gateway, p + 4, 4);
		r->valid |= BIT(ICMP_GATEWAY);
	} else if (p[0] == 3 && p[1] == 4) {		/* fragmentation needed, RFC 1191 */
		r->icmp_fragmtu = be16(p + 6);
		r->valid |= BIT(ICMP_FRAGMTU);
	}
}

static void icmpv6(struct nfl_record *r, const uint8_t *p, uint32_t length)
{
	if (length < 8)
		return;
	r->icmpv6_type = p[0];
	r->icmpv6_code = p[1];
	r->icmpv6_csum = be16(p + 2);
	r->valid |= BIT(ICMPV6);
	if (p[0] == 128 || p[0] == 129) {		/* echo request, echo reply */
		r->icmpv6_echoid = be16(p + 4);
		r->icmpv6_echoseq = be16(p + 6);
		r->valid |= BIT(ICMPV6_ECHO);
	}
}

static void spi(struct nfl_record *r, const uint8_t *p)
{
	r->ahesp_spi = be32(p);
	r->valid |= BIT(SPI);
}

static void layer4(struct nfl_record *r, uint8_t protocol, const uint8_t *p, uint32_t length)
{
	bool ip6 = r->valid & BIT(IP6);

	switch (protocol) {
	case IPPROTO_TCP:
		tcp(r, p, length);
		break;
	case IPPROTO_UDP:
	case IPPROTO_UDPLITE:
		udp(r, p, length, protocol == IPPROTO_UDPLITE);
		break;
	case IPPROTO_ICMP:
		if (!ip6)
			icmp(r, p, length);
		break;
	case IPPROTO_ICMPV6:
		if (ip6)
			icmpv6(r, p, length);
		break;
	case IPPROTO_SCTP:
		if (length < 12)
			break;
		r->sctp_sport = be16(p);
		r->sctp_dport = be16(p + 2);
		r->sctp_csum = be32(p + 8);
		r->valid |= BIT(SCTP);
		break;
	case IPPROTO_ESP:
		if (length < 8)
			break;
		spi(r, p);
		r->is_esp = 1;
		break;
	case IPPROTO_AH:
		if (!ip6 && length >= 12)
			spi(r, p + 4);
		break;
	}
}

static void ip4(struct nfl_record *r, const uint8_t *p, uint32_t length)
{
	uint32_t header, end;

	if (length < 20 || p[0] >> 4 != 4)
		return;
	r->ip_ihl = p[0] & 0xf;
	r->ip_tos = p[1];
	r->ip_totlen = be16(p + 2);
	r->ip_id = be16(p + 4);
	r->ip_fragoff = be16(p + 6);
	r->ip_ttl = p[8];
	r->ip_protocol = p[9];
	r->ip_csum = be16(p + 10);
	memcpy(r->ip_saddr, p + 12, 4);
	memcpy(r->ip_daddr, p + 16, 4);
	r->valid |= BIT(IP) | BIT(IP4) | BIT(PROTOCOL);

	header = r->ip_ihl * 4u;
	end = length;
	if (r->ip_totlen && r->ip_totlen < length)	/* padding of the link layer; 0: a packet beyond 64 KiB (GSO) */
		end = r->ip_totlen;
	if (header >= 20 && header <= end && !(r->ip_fragoff & 0x1fff))
		layer4(r, r->ip_protocol, p + header, end - header);
}

/* Length of the extension header at p (length bytes are there) of type `next`; 0 where `next` is no such header or is cut. */
static uint32_t extension(uint8_t next, const uint8_t *p, uint32_t length, bool *is_extension)
{
	uint32_t size;

	*is_extension = true;
	switch (next) {
	case IPPROTO_HOPOPTS:
	case IPPROTO_ROUTING:
	case IPPROTO_DSTOPTS:
		size = 8;
		break;
	case IPPROTO_FRAGMENT:
		return length < 8 ? 0 : 8;
	case IPPROTO_AH:
		if (length < 8)
			return 0;
		size = (p[1] + 2) * 4u;
		return size >= 8 && size <= length ? size : 0;
	case 135:	/* mobility, RFC 6275; HIP, RFC 7401; shim6, RFC 5533: */
	case 139:	/* the packet's own protocol, unless another header follows */
	case 140:
		if (length >= 1 && p[0] == IPPROTO_NONE) {
			*is_extension = false;
			return 0;
		}
		break;
	default:
		*is_extension = false;
		return 0;
	}
	if (length < 8)
		return 0;
	size = (p[1] + 1) * 8u;
	return size <= length ? size : 0;
}

static void ip6(struct nfl_record *r, const uint8_t *p, uint32_t length)
{
	uint32_t at = 40, end = length, size;
	bool is_extension;
	uint8_t next;

	if (length < 40 || p[0] >> 4 != 6)
		return;
	r->ip6_priority = (uint8_t)(p[0] << 4 | p[1] >> 4);
	r->ip6_flowlabel = be32(p) & 0xfffff;
	r->ip6_payloadlen = be16(p + 4);
	r->ip6_hoplimit = p[7];
	memcpy(r->ip_saddr, p + 8, 16);
	memcpy(r->ip_daddr, p + 24, 16);
	r->valid |= BIT(IP) | BIT(IP6);
	if (r->ip6_payloadlen && r->ip6_payloadlen < length - 40)
		end = 40u + r->ip6_payloadlen;

	for (next = p[6];; next = p[at], at += size) {
		r->ip6_nexthdr = next;
		size = extension(next, p + at, end - at, &is_extension);
		if (!is_extension)
			break;
		if (!size)
			return;
		if (next == IPPROTO_AH) {
			spi(r, p + at + 4);
		} else if (next == IPPROTO_FRAGMENT) {
			r->ip6_fragoff = be16(p + at + 2) & 0xfff8;
			r->ip6_fragid = be32(p + at + 4);
			r->valid |= BIT(IP6_FRAG);
			if (r->ip6_fragoff) {
				r->ip6_nexthdr = p[at];
				return;
			}
		}
	}
	r->ip_protocol = next;
	r->valid |= BIT(PROTOCOL);
	layer4(r, next, p + at, end - at);
}

static void arp(struct nfl_record *r, const uint8_t *p, uint32_t length)
{
	if (length < 8)
		return;
	r->arp_hwtype = be16(p);
	r->arp_protocoltype = be16(p + 2);
	r->arp_operation = be16(p + 6);
	r->valid |= BIT(ARP);
	if (length < 28 || r->arp_protocoltype != ETH_P_IP || p[4] != 6 || p[5] != 4)
		return;
	memcpy(r->arp_shwaddr, p + 8, 6);
	memcpy(r->arp_saddr, p + 14, 4);
	memcpy(r->arp_dhwaddr, p + 18, 6);
	memcpy(r->arp_daddr, p + 24, 4);
	r->valid |= BIT(ARP_ADDR);
}

static inline bool is_tag(uint16_t ethertype)
{
	return ethertype == ETH_P_8021Q || ethertype == ETH_P_8021AD;
}

static void vlan(struct nfl_record *r, uint16_t protocol, uint16_t tci)
{
	r->vlan_protocol = protocol;
	r->vlan_id = tci & 0xfff;
	r->vlan_priority = (uint8_t)(tci >> 13);
	r->vlan_dei = tci >> 12 & 1;
	r->valid |= BIT(VLAN);
}

static void ethertype(struct nfl_record *r, uint16_t protocol, const uint8_t *p, uint32_t length)
{
	for (int tags = 0; tags < 2 && is_tag(protocol) && length >= 4; tags++) {
		if (!(r->valid & BIT(VLAN)))
			vlan(r, protocol, be16(p));
		protocol = be16(p + 2);
		p += 4;
		length -= 4;
	}
	switch (protocol) {
	case ETH_P_IP:
		ip4(r, p, length);
		break;
	case ETH_P_IPV6:
		ip6(r, p, length);
		break;
	case ETH_P_ARP:
		arp(r, p, length);
		break;
	}
}

static void payload(struct nfl_record *r, const uint8_t *p)
{
	uint32_t length = r->raw_pktlen;
	uint16_t protocol = r->oob_protocol;

	switch (r->oob_family) {
	case NFPROTO_IPV4:
		ip4(r, p, length);
		break;
	case NFPROTO_IPV6:
		ip6(r, p, length);
		break;
	case NFPROTO_ARP:
		arp(r, p, length);
		break;
	case NFPROTO_NETDEV:
		/* At egress the packet begins with its Ethernet header already, on devices that have one. */
		if (r->oob_hook == NETDEV_EGRESS && r->valid & BIT(L2HDR) && length >= 14) {
			ethertype(r, be16(p + 12), p + 14, length - 14);
			break;
		}
		/* fall through */
	case NFPROTO_BRIDGE:
		ethertype(r, protocol, p, length);
		break;
	}
}

/* What the HWHDR filter publishes: addresses and EtherType of an Ethernet header. */
static void link_layer(struct nfl_record *r, const uint8_t *data)
{
	const uint8_t *header = data + r->raw_mac;
	bool ethernet = r->raw_type == ARPHRD_ETHER && r->raw_mac_len >= ETH_HLEN;

	r->hwhdr_protocol = r->oob_protocol;
	if (r->valid & BIT(HWHEADER)) {
		r->hwhdr_type = r->raw_type;
		r->valid |= BIT(HWTYPE);
	} else if (r->valid & BIT(HWADDR)) {
		r->hwhdr_type = ARPHRD_VOID;
		r->valid |= BIT(HWTYPE);
	}
	if (r->valid & BIT(HWADDR)) {
		memcpy(r->mac_saddr, r->raw_mac_saddr, sizeof(r->mac_saddr));
		r->mac_saddr_len = (uint8_t)r->raw_mac_addrlen;
		r->valid |= BIT(MAC_SADDR);
	} else if (ethernet) {
		memcpy(r->mac_saddr, header + ETH_ALEN, ETH_ALEN);
		r->mac_saddr_len = ETH_ALEN;
		r->valid |= BIT(MAC_SADDR);
	}
	if (ethernet) {
		memcpy(r->mac_daddr, header, ETH_ALEN);
		r->mac_daddr_len = ETH_ALEN;
		r->hwhdr_protocol = be16(header + 12);
		r->valid |= BIT(MAC_DADDR);
	}
}

/* Attributes in p[0, length): next() gives type and payload of each; `broken` where one does not fit. */
struct attributes {
	const uint8_t *p;
	uint32_t left;
	bool broken;
};

struct attribute {
	uint16_t type, length;
	const uint8_t *value;
};

static bool next(struct attributes *all, struct attribute *a)
{
	uint16_t head[2];
	uint32_t step;

	if (all->left < sizeof(head))
		return false;
	memcpy(head, all->p, sizeof(head));
	if (head[0] < sizeof(head) || head[0] > all->left) {
		all->broken = true;
		return false;
	}
	a->type = head[1] & (uint16_t)NLA_TYPE_MASK;
	a->length = (uint16_t)(head[0] - sizeof(head));
	a->value = all->p + sizeof(head);
	step = NLA_ALIGN(head[0]);
	if (step > all->left)
		step = all->left;
	all->p += step;
	all->left -= step;
	return true;
}

static void vlan_attribute(struct nfl_record *r, const struct attribute *outer)
{
	struct attributes all = { .p = outer->value, .left = outer->length };
	const uint8_t *protocol = NULL, *tci = NULL;
	struct attribute a;

	while (next(&all, &a)) {
		if (a.type == NFULA_VLAN_PROTO && a.length >= 2)
			protocol = a.value;
		else if (a.type == NFULA_VLAN_TCI && a.length >= 2)
			tci = a.value;
	}
	if (protocol && tci) {
		vlan(r, be16(protocol), be16(tci));
		r->vlan_beside = 1;
	}
}

static void u32_attribute(struct nfl_record *r, const struct attribute *a, uint32_t *field, uint64_t bit)
{
	if (a->length < 4)
		return;
	*field = be32(a->value);
	r->valid |= bit;
}

static void ifindex_attribute(struct nfl_record *r, const struct attribute *a, uint32_t *field, uint64_t bit)
{
	if (a->length < 4)
		return;
	*field = be32(a->value);
	r->valid = *field ? r->valid | bit : r->valid & ~bit;
}

static void timestamp(struct nfl_record *r, const struct attribute *a)
{
	if (a->length < 16)
		return;
	r->oob_time_sec = be32(a->value + 4);
	r->oob_time_usec = be32(a->value + 12);
	if (be32(a->value) || r->oob_time_sec)	/* 64-bit seconds */
		r->valid |= BIT(KERNEL_TIME);
	else
		r->valid &= ~BIT(KERNEL_TIME);
}

/* One attribute into the record; `data` is the buffer that offsets count from. */
static void attribute(struct nfl_record *r, const struct attribute *a, const uint8_t *data, uint16_t *hwlen)
{
	uint32_t at = (uint32_t)(a->value - data);

	switch (a->type) {
	case NFULA_PACKET_HDR:
		if (a->length < sizeof(struct nfulnl_msg_packet_hdr))
			break;
		r->oob_protocol = be16(a->value);
		r->oob_hook = a->value[2];
		r->valid |= BIT(PACKET_HDR) | BIT(HOOK);
		break;
	case NFULA_PAYLOAD:
		r->raw_pkt = at;
		r->raw_pktlen = a->length;
		r->valid |= BIT(PAYLOAD);
		break;
	case NFULA_PREFIX:
		r->oob_prefix = at;
		r->oob_prefix_len = (uint16_t)strnlen((const char *)a->value, a->length);
		r->valid |= BIT(PREFIX);
		break;
	case NFULA_TIMESTAMP:
		timestamp(r, a);
		break;
	case NFULA_MARK:
		u32_attribute(r, a, &r->oob_mark, 0);
		break;
	case NFULA_IFINDEX_INDEV:
		ifindex_attribute(r, a, &r->oob_ifindex_in, BIT(INDEV));
		break;
	case NFULA_IFINDEX_OUTDEV:
		ifindex_attribute(r, a, &r->oob_ifindex_out, BIT(OUTDEV));
		break;
	case NFULA_IFINDEX_PHYSINDEV:
		ifindex_attribute(r, a, &r->oob_physindev, BIT(PHYSINDEV));
		break;
	case NFULA_IFINDEX_PHYSOUTDEV:
		ifindex_attribute(r, a, &r->oob_physoutdev, BIT(PHYSOUTDEV));
		break;
	case NFULA_UID:
		u32_attribute(r, a, &r->oob_uid, BIT(UID));
		break;
	case NFULA_GID:
		u32_attribute(r, a, &r->oob_gid, BIT(GID));
		break;
	case NFULA_SEQ:
		u32_attribute(r, a, &r->oob_seq_local, BIT(SEQ));
		break;
	case NFULA_SEQ_GLOBAL:
		u32_attribute(r, a, &r->oob_seq_global, BIT(SEQ_GLOBAL));
		break;
	case NFULA_HWADDR:
		if (a->length < sizeof(struct nfulnl_msg_packet_hw))
			break;
		r->raw_mac_addrlen = be16(a->value);
		if (r->raw_mac_addrlen > sizeof(r->raw_mac_saddr))
			r->raw_mac_addrlen = sizeof(r->raw_mac_saddr);
		memset(r->raw_mac_saddr, 0, sizeof(r->raw_mac_saddr));
		memcpy(r->raw_mac_saddr, a->value + 4, r->raw_mac_addrlen);
		r->valid = r->raw_mac_addrlen ? r->valid | BIT(HWADDR) : r->valid & ~BIT(HWADDR);
		break;
	case NFULA_HWHEADER:
		r->raw_mac = at;
		r->raw_mac_len = a->length;
		break;
	case NFULA_HWLEN:
		if (a->length >= 2)
			*hwlen = be16(a->value);
		break;
	case NFULA_HWTYPE:
		if (a->length >= 2)
			r->raw_type = be16(a->value);
		break;
	case NFULA_L2HDR:
		r->raw_l2hdr = at;
		r->raw_l2hdr_len = a->length;
		r->valid |= BIT(L2HDR);
		break;
	case NFULA_CT:
		r->ct = at;
		r->ct_len = a->length;
		r->valid |= BIT(CT);
		break;
	case NFULA_VLAN:
		vlan_attribute(r, a);
		break;
	}
}

void nfl_record_begin(struct nfl_record *r, uint8_t label, uint8_t family)
{
	memset(r, 0, sizeof(*r));
	r->valid = BIT(ALWAYS);
	r->oob_family = family;
	r->raw_label = label;
	r->raw_pktcount = 1;
}

int nfl_record_attributes(struct nfl_record *r, const uint8_t *data, const uint8_t *attributes, uint32_t length)
{
	struct attributes all = { .p = attributes, .left = length };
	struct attribute a;
	uint16_t hwlen = 0;

	while (next(&all, &a))
		attribute(r, &a, data, &hwlen);
	if (all.broken)
		return 0;

	if (r->raw_mac_len > hwlen)
		r->raw_mac_len = hwlen;
	if (r->raw_mac_len)
		r->valid |= BIT(HWHEADER);
	else
		r->raw_mac = r->raw_type = 0;
	return 1;
}

void nfl_record_headers(struct nfl_record *r, const uint8_t *data)
{
	link_layer(r, data);
	if (r->valid & BIT(PAYLOAD))
		payload(r, data + r->raw_pkt);
}

/* One packet message of `length` bytes (nlmsghdr and nfgenmsg included); false when it is malformed. */
static bool packet(struct nfl_record *r, uint8_t label, const uint8_t *data, const uint8_t *message, uint32_t length)
{
	nfl_record_begin(r, label, message[NLMSG_HDRLEN]);
	if (!nfl_record_attributes(r, data, message + NFL_MESSAGE_MIN, length - NFL_MESSAGE_MIN))
		return false;
	nfl_record_headers(r, data);
	return true;
}

static void answer(struct nfl_receiver *r, const uint8_t *message, uint32_t length)
{
	struct nlmsgerr error;

	if (length < NLMSG_HDRLEN + sizeof(error)) {
		r->malformed++;
		return;
	}
	memcpy(&error, message + NLMSG_HDRLEN, sizeof(error));
	r->acked = 1;
	r->ack_seq = error.msg.nlmsg_seq;
	r->ack_error = error.error;
}

uint32_t nfl_decode(struct nfl_receiver *r, const uint8_t *data, uint32_t at, uint32_t length,
		    uint32_t now_sec, uint32_t now_usec, struct nfl_record *records, uint32_t room)
{
	const uint32_t end = at + length;
	uint32_t count = 0, step;
	struct nlmsghdr head;
	struct nfl_record *record;

	while (end - at >= sizeof(head)) {
		memcpy(&head, data + at, sizeof(head));
		if (head.nlmsg_len < sizeof(head) || head.nlmsg_len > end - at) {
			r->malformed++;
			break;
		}
		if (head.nlmsg_type == (NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_PACKET)) {
			record = records + count;
			if (count == room || head.nlmsg_len < NFL_MESSAGE_MIN ||
			    !packet(record, r->label, data, data + at, head.nlmsg_len)) {
				r->malformed++;
			} else {
				if (!(record->valid & BIT(KERNEL_TIME))) {
					record->oob_time_sec = now_sec;
					record->oob_time_usec = now_usec;
				}
				if (record->valid & BIT(SEQ)) {
					r->gap += record->oob_seq_local - r->next_seq;
					r->next_seq = record->oob_seq_local + 1;
				}
				r->valid_any |= record->valid;
				r->valid_all &= record->valid;
				count++;
			}
		} else if (head.nlmsg_type == NLMSG_ERROR) {
			answer(r, data + at, head.nlmsg_len);
		} else if (head.nlmsg_type >= NLMSG_MIN_TYPE) {
			r->foreign++;
		}
		step = NLMSG_ALIGN(head.nlmsg_len);
		at = step < end - at ? at + step : end;
	}
	r->received += count;
	return count;
}

int nfl_receive(struct nfl_receiver *r, uint8_t *data, uint32_t size, struct nfl_record *records, uint32_t room,
		uint32_t enough)
{
	uint32_t count = 0;
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	r->used = 0;
	r->valid_any = 0;
	r->valid_all = ~0ULL;
	r->overran = 0;
	for (;;) {
		uint32_t room_left = size - r->used;
		ssize_t got;

		r->more = count >= enough || room_left < NFL_DATAGRAM_MAX;
		if (r->more)
			return (int)count;
		/* MSG_TRUNC: the datagram's whole length, also of one that does not fit. */
		got = recv(r->fd, data + r->used, room_left, MSG_DONTWAIT | MSG_TRUNC);
		if (got < 0) {
			if (errno == EINTR)
				continue;
			if (errno == EAGAIN)
				return (int)count;
			if (errno != ENOBUFS)
				return count ? (int)count : -errno;
			r->overrun++;
			r->overran = 1;
			continue;
		}
		r->datagrams++;
		r->bytes += (uint64_t)got;
		if ((uint64_t)got > room_left) {
			r->truncated++;
			continue;
		}
		count += nfl_decode(r, data, r->used, (uint32_t)got, (uint32_t)now.tv_sec,
				    (uint32_t)(now.tv_nsec / 1000), records + count, room - count);
		r->used += NLMSG_ALIGN((uint32_t)got);
	}
}
