// SPDX-License-Identifier: GPL-2.0-or-later
/* Flows to text. Where ulogd writes what a flow is not (docs/from-ulogd2.md), this writes what it is. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <netinet/in.h>
#include <linux/netfilter/nf_conntrack_common.h>

#include "record.h"
#include "flow.h"
#include "render.h"
#include "flowtext.h"
#include "put.h"

#define HAS(f, bit) ((f)->valid >> NFL_FLOW_##bit & 1)
/* A constant text. */
#define SAY(p, text) put(p, text, sizeof(text) - 1)
#define NS_PER_SEC 1000000000ULL

static const char unknown[] = "unknown";

const char *nfl_protocol_name(uint8_t protocol)
{
	switch (protocol) {
	case IPPROTO_TCP:
		return "tcp";
	case IPPROTO_UDP:
		return "udp";
	case IPPROTO_UDPLITE:
		return "udplite";
	case IPPROTO_ICMP:
		return "icmp";
	case IPPROTO_ICMPV6:
		return "icmpv6";
	case IPPROTO_SCTP:
		return "sctp";
	case IPPROTO_GRE:
		return "gre";
	case IPPROTO_DCCP:
		return "dccp";
	default:
		return unknown;
	}
}

/* One direction of a flow. */
struct way {
	const uint8_t *saddr, *daddr;
	uint16_t sport, dport;
	uint8_t protocol;
	uint64_t packets, bytes;
};

static struct way original(const struct nfl_flow *f)
{
	return (struct way){ f->orig_ip_saddr, f->orig_ip_daddr, f->orig_l4_sport, f->orig_l4_dport, f->orig_ip_protocol,
			     f->orig_raw_pktcount, f->orig_raw_pktlen };
}

static struct way reply(const struct nfl_flow *f)
{
	return (struct way){ f->reply_ip_saddr, f->reply_ip_daddr, f->reply_l4_sport, f->reply_l4_dport, f->reply_ip_protocol,
			     f->reply_raw_pktcount, f->reply_raw_pktlen };
}

static char *put_address(char *p, const struct nfl_flow *f, const uint8_t *address)
{
	return HAS(f, IP6) ? put_addr6(p, address) : put_addr4(p, address);
}

static char *put_event(char *p, const struct nfl_flow *f)
{
	if (!HAS(f, EVENT))
		return p;
	switch (f->ct_event) {
	case NFL_FLOW_NEW:
		return SAY(p, "[NEW] ");
	case NFL_FLOW_UPDATE:
		return SAY(p, "[UPDATE] ");
	case NFL_FLOW_DESTROY:
		return SAY(p, "[DESTROY] ");
	default:
		return p;
	}
}

static char *put_way(char *p, const struct nfl_flow *f, const struct way *way)
{
	p = put_address(SAY(p, "SRC="), f, way->saddr);
	p = put_address(SAY(p, " DST="), f, way->daddr);
	switch (way->protocol) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
		p = way->protocol == IPPROTO_TCP ? SAY(p, " PROTO=TCP SPT=") : SAY(p, " PROTO=UDP SPT=");
		p = put_u64(p, way->sport);
		p = put_u64(SAY(p, " DPT="), way->dport);
		break;
	case IPPROTO_ICMP:
		p = put_u8(SAY(p, " PROTO=ICMP TYPE="), f->icmp_type);
		p = put_u8(SAY(p, " CODE="), f->icmp_code);
		break;
	case IPPROTO_ESP:
		p = SAY(p, " PROTO=ESP");
		break;
	case IPPROTO_AH:
		p = SAY(p, " PROTO=AH");
		break;
	default:
		p = put_u8(SAY(p, " PROTO="), way->protocol);
	}
	p = put_u64(SAY(p, " PKTS="), way->packets);
	p = put_u64(SAY(p, " BYTES="), way->bytes);
	*p++ = ' ';
	return p;
}

char *nfl_flow_print(char *p, const struct nfl_flow *f)
{
	struct way there = original(f), back = reply(f);

	p = put_way(SAY(put_event(p, f), "ORIG: "), f, &there);
	p = put_way(SAY(p, ", REPLY: "), f, &back);
	*p++ = '\n';
	return p;
}

/* A time of the flow as UTC (RFC 3339): who asks for the log later may sit in another zone. */
static char *put_utc(char *p, uint32_t second)
{
	time_t when = (time_t)second;
	struct tm utc;

	gmtime_r(&when, &utc);
	p = put_u64(p, (uint64_t)utc.tm_year + 1900);
	*p++ = '-';
	p = put2(p, (uint32_t)utc.tm_mon + 1);
	*p++ = '-';
	p = put2(p, (uint32_t)utc.tm_mday);
	*p++ = 'T';
	p = put2(p, (uint32_t)utc.tm_hour);
	*p++ = ':';
	p = put2(p, (uint32_t)utc.tm_min);
	*p++ = ':';
	p = put2(p, (uint32_t)utc.tm_sec);
	*p++ = 'Z';
	return p;
}

static char *put_protocol(char *p, uint8_t protocol)
{
	const char *name = nfl_protocol_name(protocol);

	if (name == unknown)
		return put_u8(p, protocol);
	for (; *name; name++)
		*p++ = (char)(*name >= 'a' && *name <= 'z' ? *name - 'a' + 'A' : *name);
	return p;
}

char *nfl_flow_translated(char *p, const struct nfl_flow *f)
{
	struct way there = original(f), back = reply(f);

	p = put_protocol(SAY(put_event(p, f), "PROTO="), there.protocol);
	p = put_address(SAY(p, " SRC="), f, there.saddr);
	if (HAS(f, PORTS))
		p = put_u64(SAY(p, " SPT="), there.sport);
	if (HAS(f, SNAT)) {
		p = put_address(SAY(p, " NATSRC="), f, back.daddr);
		if (HAS(f, PORTS))
			p = put_u64(SAY(p, " NATSPT="), back.dport);
	}
	p = put_address(SAY(p, " DST="), f, there.daddr);
	if (HAS(f, PORTS))
		p = put_u64(SAY(p, " DPT="), there.dport);
	if (HAS(f, DNAT)) {
		p = put_address(SAY(p, " NATDST="), f, back.saddr);
		if (HAS(f, PORTS))
			p = put_u64(SAY(p, " NATDPT="), back.sport);
	}
	if (f->ct_zone)
		p = put_u64(SAY(p, " ZONE="), f->ct_zone);
	if (HAS(f, START))
		p = put_utc(SAY(p, " START="), f->flow_start_sec);
	if (HAS(f, END))
		p = put_utc(SAY(p, " END="), f->flow_end_sec);
	*p++ = ' ';
	*p++ = '\n';
	return p;
}

char *nfl_flow_account(char *p, const struct nfl_flow *f)
{
	/* ICMP has its type and code where others have ports; what a flow does not have is 0. */
	uint16_t first = HAS(f, PORTS) ? f->orig_l4_sport : HAS(f, ICMP) ? f->icmp_type : f->icmpv6_type;
	uint16_t second = HAS(f, PORTS) ? f->orig_l4_dport : HAS(f, ICMP) ? f->icmp_code : f->icmpv6_code;

	p = put_u64(p, f->flow_end_sec);
	*p++ = '\t';
	p = put_u8(p, f->orig_ip_protocol);
	*p++ = '\t';
	p = put_address(p, f, f->orig_ip_saddr);
	*p++ = '\t';
	p = put_u64(p, first);
	*p++ = '\t';
	p = put_address(p, f, f->orig_ip_daddr);
	*p++ = '\t';
	p = put_u64(p, second);
	*p++ = '\t';
	p = put_u64(p, f->reply_raw_pktcount);
	*p++ = '\t';
	p = put_u64(p, f->reply_raw_pktlen);
	*p++ = '\n';
	return p;
}

static char *put_word(char *p, const char *word)
{
	return put(p, word, strlen(word));
}

/* An attribute of libnetfilter_conntrack's: a number and its name. */
static char *put_named(char *p, uint8_t number, const char *name)
{
	p = put_u8(SAY(p, " protonum=\""), number);
	p = put_word(SAY(p, "\" protoname=\""), name);
	return SAY(p, "\">");
}

/* A key of GRE. */
static char *put_key(char *p, uint16_t key)
{
	return put_hex16(SAY(p, "0x"), key);
}

static char *xml_way(char *p, const struct nfl_flow *f, const struct way *way)
{
	p = put_named(SAY(p, "<layer3"), f->oob_family, HAS(f, IP6) ? "ipv6" : "ipv4");
	p = put_address(SAY(p, "<src>"), f, way->saddr);
	p = put_address(SAY(p, "</src><dst>"), f, way->daddr);
	p = SAY(p, "</dst></layer3>");
	p = put_named(SAY(p, "<layer4"), way->protocol, nfl_protocol_name(way->protocol));
	if (HAS(f, PORTS)) {
		p = put_u64(SAY(p, "<sport>"), way->sport);
		p = put_u64(SAY(p, "</sport><dport>"), way->dport);
		p = SAY(p, "</dport>");
	} else if (HAS(f, GRE)) {
		p = put_key(SAY(p, "<srckey>"), way->sport);
		p = put_key(SAY(p, "</srckey><dstkey>"), way->dport);
		p = SAY(p, "</dstkey>");
	}
	p = SAY(p, "</layer4>");
	if (HAS(f, COUNTED)) {
		p = put_u64(SAY(p, "<counters><packets>"), way->packets);
		p = put_u64(SAY(p, "</packets><bytes>"), way->bytes);
		p = SAY(p, "</bytes></counters>");
	}
	return SAY(p, "</meta>");
}

/* The kernel's names of states (nf_conntrack_proto_tcp.c, nf_conntrack_proto_sctp.c). */
static const char *const tcp_states[] = { "NONE", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "CLOSE_WAIT", "LAST_ACK",
					  "TIME_WAIT", "CLOSE", "SYN_SENT2" };
static const char *const sctp_states[] = { "NONE", "CLOSED", "COOKIE_WAIT", "COOKIE_ECHOED", "ESTABLISHED", "SHUTDOWN_SENT",
					   "SHUTDOWN_RECD", "SHUTDOWN_ACK_SENT" };

static char *put_state(char *p, const char *const *states, uint8_t count, uint8_t state)
{
	p = put_word(SAY(p, "<state>"), states[state < count ? state : 0]);
	return SAY(p, "</state>");
}

/* Seconds of the flow by the kernel's own times: whole ones, and until now where it goes on. */
static char *put_duration(char *p, const struct nfl_flow *f, int64_t now)
{
	uint64_t seconds = 0;
	int64_t start = (int64_t)(f->start_ns / NS_PER_SEC);

	if (!f->start_ns)
		return p;
	if (f->stop_ns > f->start_ns)
		seconds = (f->stop_ns - f->start_ns) / NS_PER_SEC;
	else if (!f->stop_ns && now > start)
		seconds = (uint64_t)(now - start);
	p = put_u64(SAY(p, "<deltatime>"), seconds);
	return SAY(p, "</deltatime>");
}

char *nfl_flow_xml(char *p, const struct nfl_flow *f, int64_t now)
{
	struct way there = original(f), back = reply(f);

	p = xml_way(SAY(p, "<meta direction=\"original\">"), f, &there);
	p = xml_way(SAY(p, "<meta direction=\"reply\">"), f, &back);
	p = SAY(p, "<meta direction=\"independent\">");
	if (HAS(f, TCP))
		p = put_state(p, tcp_states, sizeof(tcp_states) / sizeof(tcp_states[0]), f->tcp_state);
	else if (HAS(f, SCTP))
		p = put_state(p, sctp_states, sizeof(sctp_states) / sizeof(sctp_states[0]), f->sctp_state);
	if (HAS(f, TIMEOUT)) {
		p = put_u64(SAY(p, "<timeout>"), f->ct_timeout);
		p = SAY(p, "</timeout>");
	}
	if (f->ct_mark) {
		p = put_u64(SAY(p, "<mark>"), f->ct_mark);
		p = SAY(p, "</mark>");
	}
	if (f->ct_zone) {
		p = put_u64(SAY(p, "<zone>"), f->ct_zone);
		p = SAY(p, "</zone>");
	}
	p = put_u64(SAY(p, "<id>"), f->ct_id);
	p = SAY(p, "</id>");
	if (HAS(f, STATUS) && f->ct_status & IPS_ASSURED)
		p = SAY(p, "<assured/>");
	if (HAS(f, STATUS) && !(f->ct_status & IPS_SEEN_REPLY))
		p = SAY(p, "<unreplied/>");
	return put_duration(p, f, now);
}
