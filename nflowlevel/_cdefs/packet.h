/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Receive netlink datagrams of nfnetlink_log into one buffer and decode them into an array of records.
 * This file is read twice: by the C compiler and by cffi, which takes no preprocessor lines.
 */

/* Bit numbers of nfl_record.valid: what is known of a packet. One bit stands for all keys that come together
 * (keys.py says which, and has the same conditions in the same order); a field whose bit is not set is zero. */
enum nfl_valid {
	NFL_VALID_ALWAYS,
	/* from the NFLOG message */
	NFL_VALID_PACKET_HDR, NFL_VALID_HOOK, NFL_VALID_PAYLOAD, NFL_VALID_PREFIX, NFL_VALID_INDEV, NFL_VALID_OUTDEV,
	NFL_VALID_PHYSINDEV, NFL_VALID_PHYSOUTDEV, NFL_VALID_HWHEADER, NFL_VALID_HWADDR, NFL_VALID_SEQ,
	NFL_VALID_SEQ_GLOBAL, NFL_VALID_UID, NFL_VALID_GID, NFL_VALID_L2HDR, NFL_VALID_CT, NFL_VALID_VLAN,
	NFL_VALID_KERNEL_TIME,
	/* from the link-layer header */
	NFL_VALID_HWTYPE, NFL_VALID_MAC_SADDR, NFL_VALID_MAC_DADDR,
	/* from the packet */
	NFL_VALID_IP, NFL_VALID_PROTOCOL, NFL_VALID_IP4, NFL_VALID_IP6, NFL_VALID_IP6_FRAG,
	NFL_VALID_TCP, NFL_VALID_TCP_URGP, NFL_VALID_UDP, NFL_VALID_UDP_LEN, NFL_VALID_UDPLITE,
	NFL_VALID_ICMP, NFL_VALID_ICMP_ECHO, NFL_VALID_ICMP_GATEWAY, NFL_VALID_ICMP_FRAGMTU,
	NFL_VALID_ICMPV6, NFL_VALID_ICMPV6_ECHO, NFL_VALID_SCTP, NFL_VALID_SPI, NFL_VALID_ARP, NFL_VALID_ARP_ADDR
};

/* A packet, as a record (record.h). Numbers are in host order, addresses in network order. A field has the name of its key
 * with '_' for '.'; raw_pkt, oob_prefix, raw_mac, raw_l2hdr and ct are offsets into the buffer the message was received into. */
struct nfl_record {
	uint64_t valid;
	uint32_t raw_pkt, raw_pktlen;
	uint32_t oob_prefix, raw_mac, raw_l2hdr, ct;
	uint16_t oob_prefix_len, raw_mac_len, raw_l2hdr_len, ct_len;
	uint32_t oob_time_sec, oob_time_usec;
	uint32_t oob_mark, oob_ifindex_in, oob_ifindex_out, oob_physindev, oob_physoutdev;
	uint32_t oob_uid, oob_gid, oob_seq_local, oob_seq_global, raw_pktcount;
	uint16_t oob_protocol, raw_type;
	uint16_t hwhdr_protocol, hwhdr_type;	/* oob.protocol and raw.type as HWHDR publishes them */
	uint16_t raw_mac_addrlen, vlan_id, vlan_protocol;
	uint8_t vlan_priority, oob_hook, oob_family, raw_label;
	uint8_t raw_mac_saddr[8], mac_saddr[8], mac_daddr[6];
	uint8_t mac_saddr_len, mac_daddr_len;
	uint8_t vlan_dei, vlan_beside;	/* beside: the tag is not part of the packet */

	uint8_t ip_saddr[16], ip_daddr[16];	/* IPv4: the first 4 bytes */
	uint8_t ip_protocol, ip_tos, ip_ttl, ip_ihl;
	uint16_t ip_totlen, ip_csum, ip_id, ip_fragoff;
	uint16_t ip6_payloadlen, ip6_fragoff;
	uint32_t ip6_flowlabel, ip6_fragid;
	uint8_t ip6_priority, ip6_hoplimit, ip6_nexthdr;
	uint8_t is_esp;			/* ahesp_spi is ESP's: over IPv6 that of an AH before it would stand there as well */

	uint8_t tcp_offset, tcp_reserved;
	uint8_t tcp_urg, tcp_ack, tcp_psh, tcp_rst, tcp_syn, tcp_fin, tcp_res1, tcp_res2;
	uint8_t icmp_type, icmp_code, icmpv6_type, icmpv6_code;
	uint16_t tcp_sport, tcp_dport, tcp_window, tcp_urgp, tcp_csum;
	uint32_t tcp_seq, tcp_ackseq;
	uint16_t udp_sport, udp_dport, udp_len, udp_csum, udplite_coverage;
	uint16_t icmp_echoid, icmp_echoseq, icmp_fragmtu, icmp_csum;
	uint16_t icmpv6_echoid, icmpv6_echoseq, icmpv6_csum;
	uint16_t sctp_sport, sctp_dport;
	uint32_t sctp_csum, ahesp_spi;
	uint8_t icmp_gateway[4];
	uint16_t arp_hwtype, arp_protocoltype, arp_operation;
	uint8_t arp_shwaddr[6], arp_saddr[4], arp_dhwaddr[6], arp_daddr[4];
};

enum nfl_limits {
	NFL_DATAGRAM_MAX = 270336,	/* 264 KiB: with nlbufsiz 128 KiB the kernel fills 261 KiB (slab rounding) */
	NFL_MESSAGE_MIN = 20		/* nlmsghdr and nfgenmsg */
};

/* What one receiver knows and has counted. Zeroed by its owner, who sets fd and label. */
struct nfl_receiver {
	int fd;
	uint8_t label;			/* becomes raw.label */
	uint8_t more;			/* the last receive stopped because the buffer was full */
	uint8_t overran;		/* the last receive met ENOBUFS */
	uint8_t acked;			/* an answer to request ack_seq was met; ack_error is 0 or -errno */
	uint32_t ack_seq;
	int32_t ack_error;
	uint32_t next_seq;		/* the NFULA_SEQ expected next */
	uint32_t used;			/* bytes of the buffer taken by the last receive */
	uint64_t valid_any, valid_all;	/* nfl_record.valid of the last receive's records, joined by or and by and */
	uint64_t received, gap, overrun, truncated, malformed, foreign, datagrams, bytes;
};

/* The parts of that, for sources other than the kernel: begin a record; take in attributes (0 when one does not fit), which
 * may be left out; then read the headers of what was filled in: link layer, and the packet at data + raw_pkt by oob_family. */
void nfl_record_begin(struct nfl_record *r, uint8_t label, uint8_t family);
int nfl_record_attributes(struct nfl_record *r, const uint8_t *data, const uint8_t *attributes, uint32_t length);
void nfl_record_headers(struct nfl_record *r, const uint8_t *data);

/* Decode the netlink datagram data[at, at + length) into at most `room` records; the number of records.
 * `now_sec`, `now_usec`: time of packets the kernel did not stamp. */
uint32_t nfl_decode(struct nfl_receiver *r, const uint8_t *data, uint32_t at, uint32_t length,
		    uint32_t now_sec, uint32_t now_usec, struct nfl_record *records, uint32_t room);

/* The socket is connected to the kernel, so that nobody else's datagrams reach it (netlink(7); af_netlink.c refuses them).
 * Receive without blocking until nothing is left, `enough` records are decoded or the buffer is full; the number of
 * records, or -errno. size >= NFL_DATAGRAM_MAX; room >= enough + NFL_DATAGRAM_MAX / NFL_MESSAGE_MIN. */
int nfl_receive(struct nfl_receiver *r, uint8_t *data, uint32_t size, struct nfl_record *records, uint32_t room,
		uint32_t enough);
