/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A packet to its fields, as nflowlevel/_cdefs/batch.c reads them: RFC 791, 8200, 9293, 768, 3828, 792, 4443, 9260, 4302.
 * No length in it is believed: each is checked against the bytes that are there, and each read against the packet's end.
 *
 * Nothing on the stack is reached by a variable offset: without CAP_PERFMON the verifier would refuse that. */
#pragma once

/* Needs kernel.h (or what else has struct __sk_buff, the types, be16, be32 and skb_load) and prefilter.h before it. */
struct ip4_header {
	uint8_t version_ihl, tos;
	uint16_t totlen, id, fragoff;
	uint8_t ttl, protocol;
	uint16_t csum;
	uint32_t saddr, daddr;
};

struct ip6_header {
	uint8_t version_class, rest[3];
	uint16_t payloadlen;
	uint8_t nexthdr, hoplimit;
	uint32_t saddr[4], daddr[4];
};

struct ip6_extension {
	uint8_t nexthdr, length;
	uint16_t fragoff;
	uint32_t fragid;
};

/* Of TCP as far as the flags. */
struct tcp_start {
	uint16_t sport, dport, seq[2], ackseq[2];
	uint8_t offset, flags;
};

struct ports {
	uint16_t sport, dport;
};

/* Both headers of most packets, for one read instead of two: a read costs about what a rule does. */
struct ip4_start {
	struct ip4_header ip;
	struct tcp_start tcp;
	uint16_t window;
};

struct ip6_start {
	struct ip6_header ip;
	struct tcp_start tcp;
	uint16_t window;
};

static inline bool load(struct __sk_buff *skb, uint32_t at, void *to, uint32_t size)
{
	return skb_load(skb, at, to, size) == 0;
}

static inline void set_ports(struct nfl_packet *p, uint16_t sport, uint16_t dport)
{
	p->flow.sport = be16(sport);
	p->flow.dport = be16(dport);
	p->known |= NFL_KNOWN_PORTS;
}

/* `start`: the transport header's first bytes, where they have been read already. */
static inline void ports(struct __sk_buff *skb, struct nfl_packet *p, uint32_t at, const struct tcp_start *start)
{
	struct ports h;

	if (start)
		set_ports(p, start->sport, start->dport);
	else if (load(skb, at, &h, sizeof(h)))
		set_ports(p, h.sport, h.dport);
}

static inline void tcp(struct __sk_buff *skb, struct nfl_packet *p, uint32_t at, const struct tcp_start *start)
{
	struct tcp_start h;

	if (!start) {
		if (!load(skb, at, &h, sizeof(h)))
			return;
		start = &h;
	}
	set_ports(p, start->sport, start->dport);
	p->tcp_flags = start->flags;
	p->known |= NFL_KNOWN_FLAGS;
}

static inline void icmp(struct __sk_buff *skb, struct nfl_packet *p, uint32_t at)
{
	uint8_t h[2];

	if (!load(skb, at, h, sizeof(h)))
		return;
	p->icmp_type = h[0];
	p->icmp_code = h[1];
	p->known |= NFL_KNOWN_ICMP;
}

/* The transport header; one that is not there in full is none. */
static inline void layer4(struct __sk_buff *skb, struct nfl_packet *p, uint8_t protocol, uint32_t at, uint32_t length,
			  const struct tcp_start *start)
{
	p->flow.protocol = protocol;
	p->known |= NFL_KNOWN_PROTOCOL;
	if (protocol == PROTO_TCP) {
		if (length >= 20)
			tcp(skb, p, at, start);
	} else if (protocol == PROTO_UDP || protocol == PROTO_UDPLITE) {
		if (length >= 8)
			ports(skb, p, at, start);
	} else if (protocol == PROTO_SCTP) {
		if (length >= 12)
			ports(skb, p, at, start);
	} else if (protocol == (p->flow.family == 4 ? PROTO_ICMP : PROTO_ICMPV6)) {
		if (length >= 8)
			icmp(skb, p, at);
	}
}

static inline bool ip4(struct __sk_buff *skb, struct nfl_packet *p, uint32_t at)
{
	uint32_t header, totlen, end;
	struct ip4_start both;
	bool whole = load(skb, at, &both, sizeof(both));
	struct ip4_header h;

	if ((!whole && !load(skb, at, &both.ip, sizeof(both.ip))) || both.ip.version_ihl >> 4 != 4)
		return false;
	h = both.ip;
	p->flow.family = 4;
	p->flow.saddr[2] = p->flow.daddr[2] = be32(0xffff);
	p->flow.saddr[3] = h.saddr;
	p->flow.daddr[3] = h.daddr;
	p->ttl = h.ttl;
	p->length = end = skb->len - at;

	header = (h.version_ihl & 0xf) * 4;
	totlen = be16(h.totlen);
	if (totlen && totlen < end)	/* padding of the link layer; 0: a packet beyond 64 KiB (GSO) */
		end = totlen;
	if (header < 20 || header > end || h.fragoff & be16(0x1fff))
		end = header = 0;	/* wrong, or not the first fragment: its protocol is all there is */
	layer4(skb, p, h.protocol, at + header, end - header, whole && header == 20 ? &both.tcp : 0);
	return true;
}

/* Walk from the header `next` at `at` to the transport header; `left` bytes are there. */
static inline void ip6_chain(struct __sk_buff *skb, struct nfl_packet *p, uint8_t next, uint32_t at, uint32_t left)
{
	struct ip6_extension h;
	uint32_t size;
	uint8_t first;

#pragma unroll
	for (int i = 0; i <= NFL_PREFILTER_EXTENSIONS; i++) {
		switch (next) {
		case PROTO_MOBILITY:	/* RFC 6275, 7401, 5533: the packet's own protocol, unless another header follows */
		case PROTO_HIP:
		case PROTO_SHIM6:
			if (left >= 1 && load(skb, at, &first, 1) && first == PROTO_NONE)
				goto found;
			break;
		case PROTO_HOPOPTS:
		case PROTO_ROUTING:
		case PROTO_FRAGMENT:
		case PROTO_AH:
		case PROTO_DSTOPTS:
			break;
		default:
			goto found;
		}
		if (left < sizeof(h) || !load(skb, at, &h, sizeof(h)))
			return;
		if (next == PROTO_FRAGMENT) {
			if (h.fragoff & be16(0xfff8))
				return;
			size = 8;
		} else if (next == PROTO_AH) {
			size = (h.length + 2) * 4;
		} else {
			size = (h.length + 1) * 8;
		}
		if (size > left)
			return;
		next = h.nexthdr;
		at += size;
		left -= size;
	}
	return;
found:
	layer4(skb, p, next, at, left, 0);
}

static inline bool ip6(struct __sk_buff *skb, struct nfl_packet *p, uint32_t at)
{
	uint32_t left, payloadlen;
	struct ip6_start both;
	bool whole = load(skb, at, &both, sizeof(both));
	struct ip6_header h;

	if ((!whole && !load(skb, at, &both.ip, sizeof(both.ip))) || both.ip.version_class >> 4 != 6)
		return false;
	h = both.ip;
	p->flow.family = 6;
	__builtin_memcpy(p->flow.saddr, h.saddr, sizeof(h.saddr));
	__builtin_memcpy(p->flow.daddr, h.daddr, sizeof(h.daddr));
	p->ttl = h.hoplimit;
	p->length = skb->len - at;

	left = p->length - sizeof(h);
	payloadlen = be16(h.payloadlen);
	if (payloadlen && payloadlen < left)
		left = payloadlen;
	if (whole && (h.nexthdr == PROTO_TCP || h.nexthdr == PROTO_UDP))
		layer4(skb, p, h.nexthdr, at + sizeof(h), left, &both.tcp);
	else
		ip6_chain(skb, p, h.nexthdr, at + sizeof(h), left);
	return true;
}

static inline bool network(struct __sk_buff *skb, struct nfl_packet *p, uint16_t type, uint32_t at)
{
	uint16_t tag[2];

#pragma unroll
	for (int i = 0; i < 2; i++) {
		if (type != TYPE_VLAN && type != TYPE_QINQ)
			break;
		if (!load(skb, at, tag, sizeof(tag)))
			return false;
		type = be16(tag[1]);
		at += sizeof(tag);
	}
	if (type == TYPE_IPV4)
		return ip4(skb, p, at);
	if (type == TYPE_IPV6)
		return ip6(skb, p, at);
	return false;
}

/* Netfilter's hooks and BPF_PROG_TEST_RUN show a packet from its network header on (a tag in the packet is before that),
 * packet sockets from its Ethernet header on. The kernel says what it is, so only where the bytes are not that, and an
 * Ethernet header says the same, is it taken for one.
 *
 * `zero` is a zero that the verifier does not know. With it, it forgets which way each number was found, or it would follow
 * all ways separately through all that comes after: some 190 ms instead of a few. */
static inline void parse(struct __sk_buff *skb, struct nfl_packet *p, uint64_t zero)
{
	uint16_t type = (uint16_t)skb->protocol, at_12;
	uint32_t at = 0;

	__builtin_memset(p, 0, sizeof(*p));
	p->length = skb->len;
#pragma clang loop unroll(disable)
	while (!network(skb, p, be16(type), at)) {
		if (at || !load(skb, 12, &at_12, sizeof(at_12)) || at_12 != type)
			break;
		at = 14;
	}
	p->known |= zero;
	p->flow.family |= zero;
	p->flow.protocol |= zero;
	p->flow.sport |= zero;
	p->flow.dport |= zero;
	p->tcp_flags |= zero;
}

static inline enum nfl_class class_of(const struct nfl_packet *p)
{
	if (!(p->known & NFL_KNOWN_PROTOCOL))
		return NFL_CLASS_UNKNOWN;
	switch (p->flow.protocol) {
	case PROTO_TCP:
		return NFL_CLASS_TCP;
	case PROTO_UDP:
		return NFL_CLASS_UDP;
	case PROTO_ICMP:
		return NFL_CLASS_ICMP;
	case PROTO_ICMPV6:
		return NFL_CLASS_ICMPV6;
	case PROTO_SCTP:
		return NFL_CLASS_SCTP;
	}
	return NFL_CLASS_OTHER;
}
