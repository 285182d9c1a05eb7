/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Receive netlink messages of nf_conntrack_netlink (events and dumps) and decode them into an array of records.
 * This file is read twice: by the C compiler and by cffi, which takes no preprocessor lines.
 */

/* Bit numbers of nfl_flow.valid: what is known of a flow (FlowCondition of records/keys.py has the same in the same
 * order). */
enum nfl_flow_valid {
	NFL_FLOW_ALWAYS,
	NFL_FLOW_IP6, NFL_FLOW_PORTS, NFL_FLOW_ICMP, NFL_FLOW_ICMPV6,
	NFL_FLOW_COUNTED,		/* the kernel gave counters */
	NFL_FLOW_EVENT, NFL_FLOW_START, NFL_FLOW_END, NFL_FLOW_REASON,
	NFL_FLOW_STATUS, NFL_FLOW_TIMEOUT, NFL_FLOW_TCP, NFL_FLOW_SCTP, NFL_FLOW_LABELS, NFL_FLOW_HELPER,
	NFL_FLOW_IP4,
	NFL_FLOW_NAT,			/* translated at either end */
	NFL_FLOW_SNAT, NFL_FLOW_DNAT, NFL_FLOW_SNAT_PORTS, NFL_FLOW_DNAT_PORTS,
	NFL_FLOW_GRE			/* the fields of ports are its keys */
};

enum nfl_flow_limits {
	NFL_FLOW_LABELS_BYTES = 16,	/* XT_CONNLABEL_MAXBIT */
	NFL_FLOW_HELPER_BYTES = 16,	/* NF_CT_HELPER_NAME_LEN */
	NFL_FLOW_MESSAGE_MIN = 20,	/* nlmsghdr and nfgenmsg */
	NFL_FLOW_DATAGRAM_MAX = 65536,	/* a dump fills at most 32 KiB, an event is smaller */
	/* An event has a few hundred bytes, and perhaps a security context of up to a page. No power of two, or all would compete for
	 * the same lines of the cache. */
	NFL_FLOWS_EVENT_ROOM = 8192 + 320,
	NFL_FLOWS_AT_ONCE = 32
};

/* What happened to a flow, as ulogd2 numbers it. */
enum nfl_flow_event { NFL_FLOW_NEW = 1, NFL_FLOW_UPDATE = 2, NFL_FLOW_DESTROY = 4 };

/* Why a flow ended: flowEndReason of IPFIX (RFC 5102, 5.11.3). */
enum nfl_flow_end {
	NFL_FLOW_IDLE = 1, NFL_FLOW_ACTIVE = 2, NFL_FLOW_FINISHED = 3, NFL_FLOW_FORCED = 4, NFL_FLOW_LACK = 5
};

/* A flow, as a record (record.h). Numbers are in host order, addresses in network order. A field has the name of its key with
 * '_' for '.'. It refers to nothing outside of itself. */
struct nfl_flow {
	uint64_t valid;
	uint8_t orig_ip_saddr[16], orig_ip_daddr[16], reply_ip_saddr[16], reply_ip_daddr[16];	/* IPv4: the first 4 bytes */
	uint64_t orig_raw_pktlen, orig_raw_pktcount, reply_raw_pktlen, reply_raw_pktcount;
	uint64_t start_ns, stop_ns;	/* of the kernel (nf_conntrack_timestamp), since 1970; 0: not known */
	uint32_t flow_start_sec, flow_start_usec, flow_end_sec, flow_end_usec;
	uint32_t ct_mark, ct_id, ct_event, ct_status, ct_timeout;
	uint32_t flow_number;		/* of this record within its flow, from 1 */
	uint16_t orig_l4_sport, orig_l4_dport, reply_l4_sport, reply_l4_dport;
	uint16_t ct_zone, ct_zone_reply, icmp_id, icmpv6_id;
	uint8_t orig_ip_protocol, reply_ip_protocol, icmp_type, icmp_code, icmpv6_type, icmpv6_code;
	uint8_t oob_family, oob_protocol;	/* oob_protocol: 0, as ulogd2 has it */
	uint8_t tcp_state, sctp_state, flow_last, flow_end_reason;
	uint8_t unused[4];
	uint8_t ct_labels[16];
	char ct_helper[16];
};

/* What one listener, or one dump, knows and has counted. Zeroed by its owner. */
struct nfl_flows {
	uint32_t seq;			/* of the dump that is read; 0: events */
	uint32_t events;		/* those of enum nfl_flow_event that are wanted; others are `unwanted` */
	uint32_t used;			/* bytes of the last datagram; what is read for a dump makes its next one as long */
	int32_t error;			/* how a dump ended: 0 or -errno */
	uint8_t overran;		/* the last receive met ENOBUFS */
	uint8_t more;			/* the last receive stopped because there was no room */
	uint8_t done;			/* the end of a dump was met */
	uint8_t interrupted;		/* the table changed while it was dumped (NLM_F_DUMP_INTR) */
	uint64_t valid_any, valid_all;	/* nfl_flow.valid of the records, joined by or and by and; the owner sets them */
	uint64_t received, created, updated, destroyed, unwanted, overrun, truncated, malformed, foreign, datagrams, bytes;
};

/* Decode one netlink datagram into at most `room` records; the number of records. `now_ns`: time of events that the kernel did
 * not stamp. A message that does not fit is counted as malformed: an event is one message, a dump at most
 * NFL_FLOW_DATAGRAM_MAX / NFL_FLOW_MESSAGE_MIN of them. */
uint32_t nfl_flows_decode(struct nfl_flows *flows, const uint8_t *data, uint32_t length, uint64_t now_ns,
			  struct nfl_flow *records, uint32_t room);

/* Receive without blocking until nothing is left, the dump has ended, or fewer than `least` records are free; the number of
 * records, or -errno. A datagram of a dump is read into scratch; of events as many at once as it has room for, at
 * NFL_FLOWS_EVENT_ROOM each, up to NFL_FLOWS_AT_ONCE. */
int nfl_flows_receive(struct nfl_flows *flows, int fd, uint8_t *scratch, uint32_t size, struct nfl_flow *records,
		      uint32_t room, uint32_t least);

/* Whole seconds of a time since 1970. After 2106, as a clock may be that was never set, the last that there is, rather than one
 * near 1970. */
uint32_t nfl_flow_seconds(uint64_t ns);

/* Why a flow has ended, as far as its state tells: enum nfl_flow_end. */
uint8_t nfl_flow_end_reason(const struct nfl_flow *flow);
