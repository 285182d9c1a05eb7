-- SPDX-License-Identifier: GPL-2.0-or-later
-- Tables of nflowlevel for SQLite 3: `packets` for logged packets, `flows` for what conntrack knows of
-- connections, `sums` for accounting.
--
-- A column has the name of its key with "_" for "." (docs/keys.md). `oob_time` is oob.time.sec and oob.time.usec
-- together, as text in UTC like 2026-11-24 08:30:00.000250: SQLite's date functions take it, it sorts by time, and it
-- is readable. A stack fills the columns whose keys it has; the others are null. You may drop columns that you do not
-- need, and add columns for other keys, at any time. Executing this file again does no harm.
--
-- Delete old rows by time. The file does not shrink, but its room is used again:
--
--     DELETE FROM packets WHERE oob_time < datetime('now', '-90 days');

CREATE TABLE IF NOT EXISTS packets (
    oob_time TEXT,
    oob_prefix TEXT,
    oob_in TEXT,
    oob_out TEXT,
    oob_physin TEXT,
    oob_physout TEXT,
    oob_mark INTEGER,
    oob_uid INTEGER,
    oob_gid INTEGER,
    oob_hook INTEGER,
    oob_family INTEGER,
    oob_protocol INTEGER,
    raw_label INTEGER,
    mac_saddr_str TEXT,
    mac_daddr_str TEXT,
    vlan_id INTEGER,
    ip_saddr_str TEXT,
    ip_daddr_str TEXT,
    ip_protocol INTEGER,
    ip_tos INTEGER,
    ip_ttl INTEGER,
    ip_totlen INTEGER,
    ip_id INTEGER,
    ip_fragoff INTEGER,
    ip6_payloadlen INTEGER,
    ip6_hoplimit INTEGER,
    tcp_sport INTEGER,
    tcp_dport INTEGER,
    tcp_seq INTEGER,
    tcp_ackseq INTEGER,
    tcp_window INTEGER,
    tcp_syn INTEGER,
    tcp_ack INTEGER,
    tcp_fin INTEGER,
    tcp_rst INTEGER,
    tcp_psh INTEGER,
    tcp_urg INTEGER,
    udp_sport INTEGER,
    udp_dport INTEGER,
    sctp_sport INTEGER,
    sctp_dport INTEGER,
    icmp_type INTEGER,
    icmp_code INTEGER,
    icmp_echoid INTEGER,
    icmp_echoseq INTEGER,
    icmpv6_type INTEGER,
    icmpv6_code INTEGER,
    ahesp_spi INTEGER,
    arp_saddr_str TEXT,
    arp_daddr_str TEXT
);
CREATE INDEX IF NOT EXISTS packets_oob_time ON packets (oob_time);

CREATE TABLE IF NOT EXISTS flows (
    oob_time TEXT,
    ct_event INTEGER,
    oob_family INTEGER,
    orig_ip_saddr_str TEXT,
    orig_ip_daddr_str TEXT,
    orig_ip_protocol INTEGER,
    orig_l4_sport INTEGER,
    orig_l4_dport INTEGER,
    orig_raw_pktlen INTEGER,
    orig_raw_pktcount INTEGER,
    reply_ip_saddr_str TEXT,
    reply_ip_daddr_str TEXT,
    reply_l4_sport INTEGER,
    reply_l4_dport INTEGER,
    reply_raw_pktlen INTEGER,
    reply_raw_pktcount INTEGER,
    icmp_type INTEGER,
    icmp_code INTEGER,
    icmpv6_type INTEGER,
    icmpv6_code INTEGER,
    tcp_state INTEGER,
    ct_mark INTEGER,
    ct_id INTEGER,
    ct_zone INTEGER,
    ct_status INTEGER,
    ct_helper TEXT,
    flow_start_sec INTEGER,
    flow_start_usec INTEGER,
    flow_end_sec INTEGER,
    flow_end_usec INTEGER,
    flow_number INTEGER,
    flow_last INTEGER,
    flow_end_reason INTEGER,
    nat_saddr_str TEXT,
    nat_sport INTEGER,
    nat_daddr_str TEXT,
    nat_dport INTEGER,
    nat_event INTEGER,
    community_id TEXT
);
CREATE INDEX IF NOT EXISTS flows_oob_time ON flows (oob_time);

CREATE TABLE IF NOT EXISTS sums (
    oob_time TEXT,
    sum_name TEXT,
    sum_pkts INTEGER,
    sum_bytes INTEGER,
    sum_limit INTEGER
);
CREATE INDEX IF NOT EXISTS sums_oob_time ON sums (oob_time);
