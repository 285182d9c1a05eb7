// SPDX-License-Identifier: GPL-2.0-or-later
/* Netlink messages of nf_conntrack_netlink to flows (attributes: net/netfilter/nf_conntrack_netlink.c, ctnetlink_fill_info and
 * ctnetlink_conntrack_event).
 *
 * No length in a message is believed: each read is checked against the bytes that are there. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <linux/netlink.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_conntrack_tcp.h>

#include "flow.h"

#define BIT(n) (1ULL << NFL_FLOW_##n)
#define NS_PER_SEC 1000000000ULL

/* Of kernel 6.4 and later; headers may be older. */
enum { TIMESTAMP_EVENT = 27 };

struct attribute {
	const uint8_t *value;
	uint32_t length;
	uint16_t type;
};

struct attributes {
	const uint8_t *at;
	uint32_t left;
	bool broken;
};

static inline uint16_t be16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static inline uint32_t be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline uint64_t be64(const uint8_t *p)
{
	return (uint64_t)be32(p) << 32 | be32(p + 4);
}

static bool next(struct attributes *all, struct attribute *a)
{
	struct nlattr head;
	uint32_t step;

	if (all->left < NLA_HDRLEN)
		return false;
	memcpy(&head, all->at, sizeof(head));
	if (head.nla_len < NLA_HDRLEN || head.nla_len > all->left) {
		all->broken = true;
		return false;
	}
	a->type = head.nla_type & NLA_TYPE_MASK;
	a->value = all->at + NLA_HDRLEN;
	a->length = head.nla_len - NLA_HDRLEN;
	step = NLA_ALIGN(head.nla_len);
	step = step < all->left ? step : all->left;
	all->at += step;
	all->left -= step;
	return true;
}

static struct attributes inside(const struct attribute *a)
{
	return (struct attributes){ a->value, a->length, false };
}

/* One direction of a flow, as its attributes say it. */
struct tuple {
	uint8_t saddr[16], daddr[16];
	uint16_t sport, dport, icmp_id, zone;
	uint8_t protocol, icmp_type, icmp_code;
	bool four, six, has_protocol, ports, icmp, icmpv6;
};

static void address(uint8_t *to, const struct attribute *a, uint32_t length, bool *seen)
{
	if (a->length < length)
		return;
	memcpy(to, a->value, length);
	*seen = true;
}

/* Both addresses are of one family. */
static void tuple_ip(struct tuple *t, const struct attribute *nest)
{
	struct attributes all = inside(nest);
	bool source4 = false, target4 = false, source6 = false, target6 = false;
	struct attribute a;

	while (next(&all, &a)) {
		switch (a.type) {
		case CTA_IP_V4_SRC:
			address(t->saddr, &a, 4, &source4);
			break;
		case CTA_IP_V4_DST:
			address(t->daddr, &a, 4, &target4);
			break;
		case CTA_IP_V6_SRC:
			address(t->saddr, &a, 16, &source6);
			break;
		case CTA_IP_V6_DST:
			address(t->daddr, &a, 16, &target6);
			break;
		}
	}
	t->four = source4 && target4 && !source6 && !target6;
	t->six = source6 && target6 && !source4 && !target4;
}

static void tuple_proto(struct tuple *t, const struct attribute *nest)
{
	struct attributes all = inside(nest);
	bool source = false, target = false;
	struct attribute a;

	while (next(&all, &a)) {
		switch (a.type) {
		case CTA_PROTO_NUM:
			t->has_protocol = a.length >= 1;
			t->protocol = a.length >= 1 ? a.value[0] : 0;
			break;
		case CTA_PROTO_SRC_PORT:
			source = a.length >= 2;
			t->sport = source ? be16(a.value) : 0;
			break;
		case CTA_PROTO_DST_PORT:
			target = a.length >= 2;
			t->dport = target ? be16(a.value) : 0;
			break;
		case CTA_PROTO_ICMP_ID:
		case CTA_PROTO_ICMPV6_ID:
			t->icmp_id = a.length >= 2 ? be16(a.value) : 0;
			break;
		case CTA_PROTO_ICMP_TYPE:
			t->icmp = a.length >= 1;
			t->icmp_type = t->icmp ? a.value[0] : 0;
			break;
		case CTA_PROTO_ICMPV6_TYPE:
			t->icmpv6 = a.length >= 1;
			t->icmp_type = t->icmpv6 ? a.value[0] : 0;
			break;
		case CTA_PROTO_ICMP_CODE:
		case CTA_PROTO_ICMPV6_CODE:
			t->icmp_code = a.length >= 1 ? a.value[0] : 0;
			break;
		}
	}
	t->ports = source && target;
	if (!t->ports)
		t->sport = t->dport = 0;
}

/* False where it has no addresses or no protocol. */
static bool tuple(struct tuple *t, const struct attribute *nest)
{
	struct attributes all = inside(nest);
	struct attribute a;

	memset(t, 0, sizeof(*t));
	while (next(&all, &a)) {
		switch (a.type) {
		case CTA_TUPLE_IP:
			tuple_ip(t, &a);
			break;
		case CTA_TUPLE_PROTO:
			tuple_proto(t, &a);
			break;
		case CTA_TUPLE_ZONE:
			t->zone = a.length >= 2 ? be16(a.value) : 0;
			break;
		}
	}
	return t->four != t->six && t->has_protocol;
}

static void counters(const struct attribute *nest, uint64_t *packets, uint64_t *bytes, uint64_t *valid)
{
	struct attributes all = inside(nest);
	struct attribute a;

	while (next(&all, &a)) {
		if (a.type == CTA_COUNTERS_PACKETS && a.length >= 8)
			*packets = be64(a.value);
		else if (a.type == CTA_COUNTERS_BYTES && a.length >= 8)
			*bytes = be64(a.value);
		else
			continue;
		*valid |= BIT(COUNTED);
	}
}

static void state(struct nfl_flow *f, const struct attribute *nest)
{
	struct attributes all = inside(nest), parts;
	struct attribute a, part;

	while (next(&all, &a)) {
		parts = inside(&a);
		while (next(&parts, &part)) {
			if (part.length < 1)
				continue;
			if (a.type == CTA_PROTOINFO_TCP && part.type == CTA_PROTOINFO_TCP_STATE) {
				f->tcp_state = part.value[0];
				f->valid |= BIT(TCP);
			} else if (a.type == CTA_PROTOINFO_SCTP && part.type == CTA_PROTOINFO_SCTP_STATE) {
				f->sctp_state = part.value[0];
				f->valid |= BIT(SCTP);
			}
		}
	}
}

static void helper(struct nfl_flow *f, const struct attribute *nest)
{
	struct attributes all = inside(nest);
	struct attribute a;

	while (next(&all, &a)) {
		if (a.type != CTA_HELP_NAME)
			continue;
		memcpy(f->ct_helper, a.value, strnlen((const char *)a.value,
			a.length < NFL_FLOW_HELPER_BYTES - 1 ? a.length : NFL_FLOW_HELPER_BYTES - 1));
		f->valid |= BIT(HELPER);
	}
}

static void times(struct nfl_flow *f, const struct attribute *nest)
{
	struct attributes all = inside(nest);
	struct attribute a;

	while (next(&all, &a)) {
		if (a.type == CTA_TIMESTAMP_START && a.length >= 8)
			f->start_ns = be64(a.value);
		else if (a.type == CTA_TIMESTAMP_STOP && a.length >= 8)
			f->stop_ns = be64(a.value);
	}
}

uint32_t nfl_flow_seconds(uint64_t ns)
{
	uint64_t whole = ns / NS_PER_SEC;

	return whole > UINT32_MAX ? UINT32_MAX : (uint32_t)whole;
}

static void set_start(struct nfl_flow *f, uint64_t ns)
{
	f->flow_start_sec = nfl_flow_seconds(ns);
	f->flow_start_usec = (uint32_t)(ns % NS_PER_SEC / 1000);
	f->valid |= BIT(START);
}

static void set_end(struct nfl_flow *f, uint64_t ns)
{
	f->flow_end_sec = nfl_flow_seconds(ns);
	f->flow_end_usec = (uint32_t)(ns % NS_PER_SEC / 1000);
	f->valid |= BIT(END);
}

/* A TCP flow that was closed has finished; all others fell silent. The kernel does not say who deleted one. */
uint8_t nfl_flow_end_reason(const struct nfl_flow *f)
{
	if (f->valid & BIT(TCP))
		switch (f->tcp_state) {
		case TCP_CONNTRACK_LAST_ACK:
		case TCP_CONNTRACK_TIME_WAIT:
		case TCP_CONNTRACK_CLOSE:
			return NFL_FLOW_FINISHED;
		}
	return NFL_FLOW_IDLE;
}

static void happened(struct nfl_flow *f, uint32_t event, uint64_t now_ns)
{
	f->ct_event = event;
	f->flow_number = 1;
	f->valid |= BIT(EVENT);
	if (f->start_ns)
		set_start(f, f->start_ns);
	else if (event == NFL_FLOW_NEW)
		set_start(f, now_ns);
	if (event == NFL_FLOW_DESTROY) {
		set_end(f, f->stop_ns ? f->stop_ns : now_ns);
		f->flow_end_reason = nfl_flow_end_reason(f);
		f->flow_last = 1;
		f->valid |= BIT(REASON);
	}
}

/* What the answers come to is what the packets seem to come from, and the other way round: where they differ, NAT has been there. */
static void set_translated(struct nfl_flow *f, uint32_t length)
{
	bool ports = f->valid & BIT(PORTS);

	if (memcmp(f->orig_ip_saddr, f->reply_ip_daddr, length) || f->orig_l4_sport != f->reply_l4_dport)
		f->valid |= BIT(NAT) | BIT(SNAT) | (ports ? BIT(SNAT_PORTS) : 0);
	if (memcmp(f->orig_ip_daddr, f->reply_ip_saddr, length) || f->orig_l4_dport != f->reply_l4_sport)
		f->valid |= BIT(NAT) | BIT(DNAT) | (ports ? BIT(DNAT_PORTS) : 0);
}

static void set_tuples(struct nfl_flow *f, const struct tuple *orig, const struct tuple *reply)
{
	uint32_t length = orig->six ? 16 : 4;

	f->oob_family = orig->six ? AF_INET6 : AF_INET;
	f->valid |= orig->six ? BIT(IP6) : BIT(IP4);
	memcpy(f->orig_ip_saddr, orig->saddr, length);
	memcpy(f->orig_ip_daddr, orig->daddr, length);
	memcpy(f->reply_ip_saddr, reply->saddr, length);
	memcpy(f->reply_ip_daddr, reply->daddr, length);
	f->orig_ip_protocol = orig->protocol;
	f->reply_ip_protocol = reply->protocol;
	f->orig_l4_sport = orig->sport;
	f->orig_l4_dport = orig->dport;
	f->reply_l4_sport = reply->sport;
	f->reply_l4_dport = reply->dport;
	if (orig->ports && reply->ports)
		f->valid |= orig->protocol == IPPROTO_GRE ? BIT(GRE) : BIT(PORTS);
	if (orig->icmp) {
		f->icmp_type = orig->icmp_type;
		f->icmp_code = orig->icmp_code;
		f->icmp_id = orig->icmp_id;
		f->valid |= BIT(ICMP);
	} else if (orig->icmpv6) {
		f->icmpv6_type = orig->icmp_type;
		f->icmpv6_code = orig->icmp_code;
		f->icmpv6_id = orig->icmp_id;
		f->valid |= BIT(ICMPV6);
	}
	f->ct_zone = orig->zone;
	f->ct_zone_reply = reply->zone;
	set_translated(f, length);
}

/* One message of `length` bytes (nlmsghdr and nfgenmsg included); false when it is malformed. `event` 0: it is of a dump. */
static bool flow(struct nfl_flow *f, const uint8_t *message, uint32_t length, uint32_t event, uint64_t now_ns)
{
	struct attributes all = { message + NFL_FLOW_MESSAGE_MIN, length - NFL_FLOW_MESSAGE_MIN, false };
	struct tuple orig, reply;
	bool has_orig = false, has_reply = false, zoned = false;
	uint16_t zone = 0;
	struct attribute a;

	memset(f, 0, sizeof(*f));
	f->valid = BIT(ALWAYS);
	while (next(&all, &a)) {
		switch (a.type) {
		case CTA_TUPLE_ORIG:
			has_orig = tuple(&orig, &a);
			break;
		case CTA_TUPLE_REPLY:
			has_reply = tuple(&reply, &a);
			break;
		case CTA_STATUS:
			if (a.length >= 4) {
				f->ct_status = be32(a.value);
				f->valid |= BIT(STATUS);
			}
			break;
		case CTA_TIMEOUT:
			if (a.length >= 4) {
				f->ct_timeout = be32(a.value);
				f->valid |= BIT(TIMEOUT);
			}
			break;
		case CTA_MARK:
			f->ct_mark = a.length >= 4 ? be32(a.value) : 0;
			break;
		case CTA_ID:
			f->ct_id = a.length >= 4 ? be32(a.value) : 0;
			break;
		case CTA_ZONE:
			zoned = a.length >= 2;
			zone = zoned ? be16(a.value) : 0;
			break;
		case CTA_COUNTERS_ORIG:
			counters(&a, &f->orig_raw_pktcount, &f->orig_raw_pktlen, &f->valid);
			break;
		case CTA_COUNTERS_REPLY:
			counters(&a, &f->reply_raw_pktcount, &f->reply_raw_pktlen, &f->valid);
			break;
		case CTA_PROTOINFO:
			state(f, &a);
			break;
		case CTA_HELP:
			helper(f, &a);
			break;
		case CTA_TIMESTAMP:
			times(f, &a);
			break;
		case TIMESTAMP_EVENT:
			now_ns = a.length >= 8 && be64(a.value) ? be64(a.value) : now_ns;
			break;
		case CTA_LABELS:
			memcpy(f->ct_labels, a.value, a.length < NFL_FLOW_LABELS_BYTES ? a.length : NFL_FLOW_LABELS_BYTES);
			f->valid |= BIT(LABELS);
			break;
		}
	}
	if (all.broken || !has_orig || !has_reply || orig.six != reply.six)
		return false;
	set_tuples(f, &orig, &reply);
	if (zoned)
		f->ct_zone = f->ct_zone_reply = zone;
	if (event)
		happened(f, event, now_ns);
	else if (f->start_ns)
		set_start(f, f->start_ns);
	return true;
}

/* What NLMSG_ERROR and NLMSG_DONE carry: 0 or -errno. */
static int result(const uint8_t *message, uint32_t length)
{
	int32_t error = 0;

	if (length >= NLMSG_HDRLEN + sizeof(error))
		memcpy(&error, message + NLMSG_HDRLEN, sizeof(error));
	return error < 0 ? error : 0;
}

/* What a message says that has happened; 0: nothing, it is of a dump or of something else. */
static uint32_t event_of(const struct nlmsghdr *head)
{
	if (head->nlmsg_type == (NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE))
		return NFL_FLOW_DESTROY;
	return head->nlmsg_flags & (NLM_F_CREATE | NLM_F_EXCL) ? NFL_FLOW_NEW : NFL_FLOW_UPDATE;
}

static void count_event(struct nfl_flows *flows, uint32_t event)
{
	flows->created += event == NFL_FLOW_NEW;
	flows->updated += event == NFL_FLOW_UPDATE;
	flows->destroyed += event == NFL_FLOW_DESTROY;
}

uint32_t nfl_flows_decode(struct nfl_flows *flows, const uint8_t *data, uint32_t length, uint64_t now_ns,
			  struct nfl_flow *records, uint32_t room)
{
	uint32_t at = 0, count = 0, event, step;
	struct nlmsghdr head;

	while (length - at >= sizeof(head)) {
		memcpy(&head, data + at, sizeof(head));
		if (head.nlmsg_len < sizeof(head) || head.nlmsg_len > length - at) {
			flows->malformed++;
			break;
		}
		if (head.nlmsg_seq != flows->seq) {
			/* What is left of a dump that was given up has another number. */
			flows->foreign++;
		} else if (head.nlmsg_type == NLMSG_ERROR || head.nlmsg_type == NLMSG_DONE) {
			flows->done = 1;
			flows->error = result(data + at, head.nlmsg_len);
		} else if (head.nlmsg_type >> 8 != NFNL_SUBSYS_CTNETLINK ||
			   ((head.nlmsg_type & 0xff) != IPCTNL_MSG_CT_NEW &&
			    (head.nlmsg_type & 0xff) != IPCTNL_MSG_CT_DELETE)) {
			flows->foreign += head.nlmsg_type >= NLMSG_MIN_TYPE;
		} else {
			event = flows->seq ? 0 : event_of(&head);
			if (flows->seq && head.nlmsg_flags & NLM_F_DUMP_INTR)
				flows->interrupted = 1;
			if (event && !(event & flows->events)) {
				flows->unwanted++;
			} else if (count == room || head.nlmsg_len < NFL_FLOW_MESSAGE_MIN ||
				   !flow(records + count, data + at, head.nlmsg_len, event, now_ns)) {
				flows->malformed++;
			} else {
				flows->valid_any |= records[count].valid;
				flows->valid_all &= records[count].valid;
				count_event(flows, event);
				count++;
			}
		}
		step = NLMSG_ALIGN(head.nlmsg_len);
		at = step < length - at ? at + step : length;
	}
	flows->received += count;
	return count;
}

/* What one system call receives: a datagram into each part of scratch. */
struct pieces {
	struct mmsghdr datagrams[NFL_FLOWS_AT_ONCE];
	struct iovec parts[NFL_FLOWS_AT_ONCE];
	struct sockaddr_nl senders[NFL_FLOWS_AT_ONCE];
	uint32_t count;
};

/* An event is small, so there is room for many; what belongs to a dump may need all of it. */
static void divide(struct pieces *pieces, uint8_t *scratch, uint32_t size, bool events)
{
	uint32_t count = events ? size / NFL_FLOWS_EVENT_ROOM : 1, i;

	count = count < 1 ? 1 : count > NFL_FLOWS_AT_ONCE ? NFL_FLOWS_AT_ONCE : count;
	for (i = 0; i < count; i++) {
		pieces->parts[i].iov_base = scratch + (size_t)i * NFL_FLOWS_EVENT_ROOM;
		pieces->parts[i].iov_len = count > 1 ? NFL_FLOWS_EVENT_ROOM : size;
		pieces->senders[i] = (struct sockaddr_nl){ .nl_family = AF_UNSPEC };
		pieces->datagrams[i].msg_hdr = (struct msghdr){ .msg_name = pieces->senders + i,
								.msg_namelen = sizeof(pieces->senders[i]),
								.msg_iov = pieces->parts + i,
								.msg_iovlen = 1 };
	}
	pieces->count = count;
}

int nfl_flows_receive(struct nfl_flows *flows, int fd, uint8_t *scratch, uint32_t size, struct nfl_flow *records,
		      uint32_t room, uint32_t least)
{
	struct pieces pieces;
	uint32_t count = 0, free, length;
	struct timespec now;
	int got, i;

	clock_gettime(CLOCK_REALTIME, &now);
	divide(&pieces, scratch, size, !flows->seq);
	flows->overran = 0;
	for (;;) {
		flows->more = room - count < least;
		if (flows->more || flows->done)
			return (int)count;
		free = room - count - least + 1;
		/* MSG_TRUNC: a datagram's whole length, also of one that does not fit. */
		got = recvmmsg(fd, pieces.datagrams, free < pieces.count ? free : pieces.count, MSG_DONTWAIT | MSG_TRUNC, NULL);
		if (got < 0) {
			if (errno == EINTR)
				continue;
			if (errno == EAGAIN)
				return (int)count;
			if (errno != ENOBUFS)
				return count ? (int)count : -errno;
			flows->overrun++;
			flows->overran = 1;
			continue;
		}
		for (i = 0; i < got; i++) {
			length = pieces.datagrams[i].msg_len;
			pieces.datagrams[i].msg_hdr.msg_namelen = sizeof(pieces.senders[i]);	/* the kernel changes it */
			flows->datagrams++;
			flows->bytes += length;
			flows->used = length;
			/* Whoever has CAP_NET_ADMIN in the namespace can send to the groups of events. */
			if (pieces.senders[i].nl_family == AF_NETLINK && pieces.senders[i].nl_pid) {
				flows->foreign++;
				continue;
			}
			if (length > pieces.parts[i].iov_len) {
				flows->truncated++;
				continue;
			}
			count += nfl_flows_decode(flows, pieces.parts[i].iov_base, length,
						  (uint64_t)now.tv_sec * NS_PER_SEC + (uint64_t)now.tv_nsec,
						  records + count, room - count);
		}
	}
}
