// SPDX-License-Identifier: GPL-2.0-or-later
/* Packets to the text of the kernel's LOG target, in the form that ulogd 2 gave it, and lines of a log. Where ulogd writes what a packet does not
 * say (docs/from-ulogd2.md), this writes what it says. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <netinet/in.h>
#include <linux/if_ether.h>
#include <linux/netfilter.h>

#include "record.h"
#include "packet.h"
#include "report.h"
#include "flow.h"
#include "render.h"
#include "flowtext.h"
#include "print.h"
#include "put.h"

#define HAS(r, bit) ((r)->valid >> NFL_VALID_##bit & 1)
#define SAID(r, bit) ((r)->packet.valid >> NFL_REPORTED_##bit & 1)
/* A constant text. */
#define SAY(p, text) put(p, text, sizeof(text) - 1)

enum {
	/* All but the prefix and the link-layer header: the longest form is that of TCP over IPv6, with all numbers at their
	 * largest and two names of 32 control characters. */
	MOST_FIXED = 768,
	ESCAPED = 4,		/* characters of a control character */
	TIME_BYTES = 15		/* "Mmm dd hh:mm:ss" */
};

static const char upper[] = "0123456789ABCDEF";

static inline char *put_hex32(char *p, uint32_t n)
{
	if (n <= 0xffff)
		return put_hex16(p, n);
	p = put_hex16(p, n >> 16);
	p = put(p, hex2 + (n >> 8 & 0xff) * 2, 2);
	return put(p, hex2 + (n & 0xff) * 2, 2);
}

/* A control character could end the line, or make a terminal act. A tab does neither. */
static inline bool is_control(uint8_t c)
{
	return (c < 0x20 && c != '\t') || c == 0x7f;
}

/* Whether none of 8 bytes is below 0x20 or is 0x7f; says no to some that are neither, behind one that is. */
static inline bool plain(uint64_t bytes)
{
	const uint64_t each = 0x0101010101010101;
	uint64_t del = bytes ^ each * 0x7f;

	return !((((bytes - each * 0x20) & ~bytes) | ((del - each) & ~del)) & each * 0x80);
}

/* A text from outside, control characters as "\xNN", all else as it is. */
static char *put_text(char *p, const char *text, size_t length)
{
	const uint8_t *s = (const uint8_t *)text, *end = s + length;
	uint64_t some;

	while (s < end) {
		if (end - s >= (ptrdiff_t)sizeof(some)) {
			memcpy(&some, s, sizeof(some));
			if (plain(some)) {
				p = put(p, (const char *)s, sizeof(some));
				s += sizeof(some);
				continue;
			}
		}
		if (is_control(*s)) {
			p = SAY(p, "\\x");
			p = put(p, hex2 + *s++ * 2, 2);
		} else {
			*p++ = (char)*s++;
		}
	}
	return p;
}

static char *put_name(char *p, const struct nfl_batch *b, uint32_t index)
{
	const struct nfl_ifname *name = index ? find_name(b, index) : NULL;

	return name ? put_text(p, name->name, name->length) : p;
}

static char *put_ports(char *p, uint16_t sport, uint16_t dport)
{
	p = put_u64(SAY(p, "SPT="), sport);
	p = put_u64(SAY(p, " DPT="), dport);
	*p++ = ' ';
	return p;
}

static char *incomplete(char *p)
{
	return SAY(p, "INCOMPLETE ");
}

static char *tcp(char *p, const struct nfl_record *r)
{
	p = SAY(p, "PROTO=TCP ");
	if (!HAS(r, TCP))
		return incomplete(p);
	p = put_ports(p, r->tcp_sport, r->tcp_dport);
	p = put_u64(SAY(p, "SEQ="), r->tcp_seq);
	p = put_u64(SAY(p, " ACK="), r->tcp_ackseq);
	p = put_u64(SAY(p, " WINDOW="), r->tcp_window);
	*p++ = ' ';
	if (r->tcp_urg)
		p = SAY(p, "URG ");
	if (r->tcp_ack)
		p = SAY(p, "ACK ");
	if (r->tcp_psh)
		p = SAY(p, "PSH ");
	if (r->tcp_rst)
		p = SAY(p, "RST ");
	if (r->tcp_syn)
		p = SAY(p, "SYN ");
	if (r->tcp_fin)
		p = SAY(p, "FIN ");
	p = put_u64(SAY(p, "URGP="), r->tcp_urgp);
	*p++ = ' ';
	return p;
}

static char *udp(char *p, const struct nfl_record *r)
{
	p = SAY(p, "PROTO=UDP ");
	if (!HAS(r, UDP))
		return incomplete(p);
	p = put_ports(p, r->udp_sport, r->udp_dport);
	p = put_u64(SAY(p, "LEN="), r->udp_len);
	*p++ = ' ';
	return p;
}

static char *sctp(char *p, const struct nfl_record *r)
{
	p = SAY(p, "PROTO=SCTP ");
	return HAS(r, SCTP) ? put_ports(p, r->sctp_sport, r->sctp_dport) : incomplete(p);
}

static char *spi(char *p, const struct nfl_record *r, bool known)
{
	if (!known)
		return incomplete(p);
	p = put_hex32(SAY(p, "SPI=0x"), r->ahesp_spi);
	*p++ = ' ';
	return p;
}

static char *echo(char *p, uint16_t id, uint16_t sequence)
{
	p = put_u64(SAY(p, "ID="), id);
	p = put_u64(SAY(p, " SEQ="), sequence);
	*p++ = ' ';
	return p;
}

static char *icmp(char *p, const struct nfl_record *r)
{
	p = SAY(p, "PROTO=ICMP ");
	if (!HAS(r, ICMP))
		return incomplete(p);
	p = put_u8(SAY(p, "TYPE="), r->icmp_type);
	p = put_u8(SAY(p, " CODE="), r->icmp_code);
	*p++ = ' ';
	if (HAS(r, ICMP_ECHO))
		return echo(p, r->icmp_echoid, r->icmp_echoseq);
	if (HAS(r, ICMP_FRAGMTU))
		p = put_u64(SAY(p, "MTU="), r->icmp_fragmtu);
	else if (HAS(r, ICMP_GATEWAY) && r->icmp_type == 12)	/* parameter problem: the pointer is the first byte */
		p = put_u8(SAY(p, "PARAMETER="), r->icmp_gateway[0]);
	else if (HAS(r, ICMP_GATEWAY))
		p = put_addr4(SAY(p, "GATEWAY="), r->icmp_gateway);
	else
		return p;
	*p++ = ' ';
	return p;
}

static char *icmpv6(char *p, const struct nfl_record *r)
{
	p = SAY(p, "PROTO=ICMPv6 ");
	if (!HAS(r, ICMPV6))
		return incomplete(p);
	p = put_u8(SAY(p, "TYPE="), r->icmpv6_type);
	p = put_u8(SAY(p, " CODE="), r->icmpv6_code);
	*p++ = ' ';
	return HAS(r, ICMPV6_ECHO) ? echo(p, r->icmpv6_echoid, r->icmpv6_echoseq) : p;
}

static char *protocol_number(char *p, uint16_t number)
{
	p = put_u64(SAY(p, "PROTO="), number);
	*p++ = ' ';
	return p;
}

static char *ip4(char *p, const struct nfl_record *r)
{
	if (HAS(r, IP4)) {
		p = put_addr4(SAY(p, "SRC="), r->ip_saddr);
		p = put_addr4(SAY(p, " DST="), r->ip_daddr);
		*p++ = ' ';
	}
	p = put_u64(SAY(p, "LEN="), r->ip_totlen);
	p = SAY(p, " TOS=");
	*p++ = upper[(r->ip_tos & 0x1e) >> 4];
	*p++ = upper[r->ip_tos & 0xe];
	p = SAY(p, " PREC=0x");
	*p++ = upper[(r->ip_tos & 0xe0) >> 4];
	p = put_u8(SAY(p, "0 TTL="), r->ip_ttl);
	p = put_u64(SAY(p, " ID="), r->ip_id);
	*p++ = ' ';
	if (r->ip_fragoff & 0x8000)
		p = SAY(p, "CE ");
	if (r->ip_fragoff & 0x4000)
		p = SAY(p, "DF ");
	if (r->ip_fragoff & 0x2000)
		p = SAY(p, "MF ");
	if (r->ip_fragoff & 0x1fff) {
		p = put_u64(SAY(p, "FRAG:"), r->ip_fragoff & 0x1fff);
		*p++ = ' ';
	}
	switch (r->ip_protocol) {
	case IPPROTO_TCP:
		return tcp(p, r);
	case IPPROTO_UDP:
		return udp(p, r);
	case IPPROTO_ICMP:
		return icmp(p, r);
	case IPPROTO_SCTP:
		return sctp(p, r);
	case IPPROTO_ESP:
		return spi(SAY(p, "PROTO=ESP "), r, HAS(r, SPI));
	case IPPROTO_AH:
		return spi(SAY(p, "PROTO=AH "), r, HAS(r, SPI));
	default:
		return protocol_number(p, r->ip_protocol);
	}
}

static char *ip6(char *p, const struct nfl_record *r)
{
	if (HAS(r, IP6)) {
		p = put_addr6(SAY(p, "SRC="), r->ip_saddr);
		p = put_addr6(SAY(p, " DST="), r->ip_daddr);
		p = put_u64(SAY(p, " LEN="), r->ip6_payloadlen + 40u);
		p = put_u8(SAY(p, " TC="), r->ip6_priority);
		p = put_u8(SAY(p, " HOPLIMIT="), r->ip6_hoplimit);
		p = put_u64(SAY(p, " FLOWLBL="), r->ip6_flowlabel);
		*p++ = ' ';
	}
	if (HAS(r, IP6_FRAG)) {
		p = put_u64(SAY(p, "FRAG: "), r->ip6_fragoff);
		p = SAY(p, " ID: ");
		for (int shift = 24; shift >= 0; shift -= 8)
			p = put(p, hex2 + (r->ip6_fragid >> shift & 0xff) * 2, 2);
		*p++ = ' ';
	}
	switch (r->ip6_nexthdr) {
	case IPPROTO_TCP:
		return tcp(p, r);
	case IPPROTO_UDP:
		return udp(p, r);
	case IPPROTO_ICMPV6:
		return icmpv6(p, r);
	case IPPROTO_SCTP:
		return sctp(p, r);
	case IPPROTO_ESP:
		return spi(SAY(p, "PROTO=ESP "), r, r->is_esp);
	case IPPROTO_AH:	/* one that is there in full is followed by another header, which would stand here */
		return spi(SAY(p, "PROTO=AH "), r, false);
	default:
		return protocol_number(p, r->ip6_nexthdr);
	}
}

static char *arp(char *p, const struct nfl_record *r)
{
	if (HAS(r, ARP_ADDR)) {
		p = put_addr4(SAY(p, "SRC="), r->arp_saddr);
		p = put_addr4(SAY(p, " DST="), r->arp_daddr);
		*p++ = ' ';
	}
	p = SAY(p, "PROTO=ARP ");
	if (!HAS(r, ARP))
		return p;
	switch (r->arp_operation) {
	case 1:
		return SAY(p, "REQUEST ");
	case 2:
		p = SAY(p, "REPLY ");
		if (!HAS(r, ARP_ADDR))
			return p;
		p = put_mac(SAY(p, "REPLY_MAC="), r->arp_shwaddr, sizeof(r->arp_shwaddr));
		break;
	case 10:
		return SAY(p, "NAK ");
	default:
		p = put_u64(SAY(p, "CODE="), r->arp_operation);
	}
	*p++ = ' ';
	return p;
}

/* What was found in the packet, else what should have been there. */
static char *network(char *p, const struct nfl_record *r)
{
	uint16_t ethertype = r->oob_protocol;

	if (HAS(r, IP4))
		return ip4(p, r);
	if (HAS(r, IP6))
		return ip6(p, r);
	if (HAS(r, ARP))
		return arp(p, r);
	switch (r->oob_family) {
	case NFPROTO_IPV4:
		return ip4(p, r);
	case NFPROTO_IPV6:
		return ip6(p, r);
	case NFPROTO_ARP:
		return arp(p, r);
	case NFPROTO_BRIDGE:
	case NFPROTO_NETDEV:
		return ethertype == ETH_P_IP ? ip4(p, r) : ethertype == ETH_P_IPV6 ? ip6(p, r) :
			ethertype == ETH_P_ARP ? arp(p, r) : protocol_number(p, ethertype);
	default:
		return p;
	}
}

/* A packet as a program has reported it, NULL where the kernel logged it. */
static const struct nfl_reported *reported(const struct nfl_record *r)
{
	return r->valid >> NFL_REPORTED_ALWAYS & 1 ? (const struct nfl_reported *)r : NULL;
}

size_t nfl_print_most(const struct nfl_record *r)
{
	const struct nfl_reported *said = reported(r);
	size_t names = said ? (size_t)said->oob_in_len + said->oob_out_len : 0;

	return MOST_FIXED + ESCAPED * (r->oob_prefix_len + names) + 3 * (size_t)r->raw_mac_len;
}

/* The interfaces, and a blank; of a reported packet only where both were told, as in ulogd. */
static char *interfaces(char *p, const struct nfl_batch *batch, const struct nfl_record *r, const struct nfl_reported *said)
{
	const char *data = (const char *)batch->data;

	if (!said) {
		p = put_name(SAY(p, "IN="), batch, r->oob_ifindex_in);
		p = put_name(SAY(p, " OUT="), batch, r->oob_ifindex_out);
	} else if (SAID(said, IN) && SAID(said, OUT)) {
		p = put_text(SAY(p, "IN="), data + said->oob_in, said->oob_in_len);
		p = put_text(SAY(p, " OUT="), data + said->oob_out, said->oob_out_len);
	} else {
		return p;
	}
	*p++ = ' ';
	return p;
}

char *nfl_print(char *p, const struct nfl_batch *batch, const struct nfl_record *r)
{
	const struct nfl_reported *said = reported(r);

	if (said ? SAID(said, PREFIX) : HAS(r, PREFIX)) {
		p = put_text(p, (const char *)batch->data + r->oob_prefix, r->oob_prefix_len);
		*p++ = ' ';
	}
	p = interfaces(p, batch, r, said);
	p = put_mac(SAY(p, "MAC="), batch->data + r->raw_mac, r->raw_mac_len);
	*p++ = ' ';
	p = network(p, r);
	if (HAS(r, UID)) {
		p = put_u64(SAY(p, "UID="), r->oob_uid);
		*p++ = ' ';
	}
	if (HAS(r, GID)) {
		p = put_u64(SAY(p, "GID="), r->oob_gid);
		*p++ = ' ';
	}
	if (!said) {
		p = put_hex32(SAY(p, "MARK=0x"), r->oob_mark);
		*p++ = ' ';
	}
	*p++ = '\n';
	return p;
}

static void new_second(struct nfl_log *log, int64_t second)
{
	static const char months[][4] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
	time_t when = (time_t)second;
	char *p = log->time;
	struct tm local;

	localtime_r(&when, &local);
	p = put(p, months[(unsigned)local.tm_mon % 12], 3);
	*p++ = ' ';
	*p++ = local.tm_mday < 10 ? ' ' : (char)('0' + local.tm_mday / 10);
	*p++ = (char)('0' + local.tm_mday % 10);
	*p++ = ' ';
	p = put2(p, (uint32_t)local.tm_hour);
	*p++ = ':';
	p = put2(p, (uint32_t)local.tm_min);
	*p++ = ':';
	put2(p, (uint32_t)local.tm_sec);
	log->second = second;
}

static char *put_time(char *p, struct nfl_log *log, int64_t second)
{
	if (log->second != second)
		new_second(log, second);
	p = put(p, log->before, log->before_length);
	p = put(p, log->time, TIME_BYTES);
	return put(p, log->after, log->after_length);
}

/* The line of a flow, if it has one. Flows have the time of their batch. */
static char *flow_line(char *p, struct nfl_log *log, const struct nfl_batch *batch, const struct nfl_flow *f)
{
	switch (log->text) {
	case NFL_LOG_ACCOUNT:
		return f->ct_event == NFL_FLOW_NEW ? p : nfl_flow_account(p, f);
	case NFL_LOG_NAT:
		return f->valid >> NFL_FLOW_NAT & 1 ? nfl_flow_translated(put_time(p, log, batch->second), f) : p;
	default:
		return nfl_flow_print(put_time(p, log, batch->second), f);
	}
}

size_t nfl_log_render(struct nfl_log *log, const struct nfl_batch *batch, uint32_t first, char *out, size_t size, uint32_t *done)
{
	const size_t head = (size_t)log->before_length + TIME_BYTES + log->after_length;
	char *p = out, *end = out + size, *start;

	log->lines = 0;
	for (*done = first; *done < batch->count; (*done)++) {
		uint32_t row = batch->rows ? batch->rows[*done] : *done;
		const void *r = (const uint8_t *)batch->records + (size_t)row * batch->stride;
		const struct nfl_record *packet = r;

		start = p;
		if (log->text != NFL_LOG_PACKET) {
			if ((size_t)(end - p) < head + NFL_FLOW_TEXT_BYTES)
				break;
			p = flow_line(p, log, batch, r);
		} else {
			if ((size_t)(end - p) < head + nfl_print_most(packet))
				break;
			p = nfl_print(put_time(p, log, packet->oob_time_sec), batch, packet);
		}
		log->lines += p > start;
	}
	return (size_t)(p - out);
}
