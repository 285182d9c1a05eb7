-- SPDX-License-Identifier: GPL-2.0-or-later
-- Tables of nflowlevel for MariaDB and MySQL: `packets` for logged packets, `flows` for what conntrack knows of
-- connections, `sums` for accounting.
--
-- A column has the name of its key with "_" for "." (docs/keys.md) and a type that holds all its values; `oob_time` is
-- oob.time.sec and oob.time.usec together, in UTC whatever the session's time zone is. A stack fills the columns whose
-- keys it has; the others are null. You may drop columns that you do not need, and add columns for other keys, at any
-- time. Executing this file again does no harm.
--
-- Delete old rows by time, in portions that do not keep the output waiting. Repeat this until none is left:
--
--     DELETE FROM packets WHERE oob_time < utc_timestamp() - INTERVAL 90 DAY LIMIT 10000;
--
-- The only index is the one on the time. Each further index, such as (ip_saddr_str, oob_time), costs rows per second.

CREATE TABLE IF NOT EXISTS packets (
    _id bigint unsigned NOT NULL AUTO_INCREMENT PRIMARY KEY,
    oob_time datetime(6),
    oob_prefix varchar(255),
    oob_in varchar(32),
    oob_out varchar(32),
    oob_physin varchar(32),
    oob_physout varchar(32),
    oob_mark int unsigned,
    oob_uid int unsigned,
    oob_gid int unsigned,
    oob_hook tinyint unsigned,
    oob_family tinyint unsigned,
    oob_protocol smallint unsigned,
    raw_label tinyint unsigned,
    -- Not 17 characters: a FireWire address has 23.
    mac_saddr_str varchar(24) CHARACTER SET ascii,
    mac_daddr_str varchar(24) CHARACTER SET ascii,
    vlan_id smallint unsigned,
    ip_saddr_str varchar(45) CHARACTER SET ascii,
    ip_daddr_str varchar(45) CHARACTER SET ascii,
    ip_protocol tinyint unsigned,
    ip_tos tinyint unsigned,
    ip_ttl tinyint unsigned,
    ip_totlen smallint unsigned,
    ip_id smallint unsigned,
    ip_fragoff smallint unsigned,
    ip6_payloadlen smallint unsigned,
    ip6_hoplimit tinyint unsigned,
    tcp_sport smallint unsigned,
    tcp_dport smallint unsigned,
    tcp_seq int unsigned,
    tcp_ackseq int unsigned,
    tcp_window smallint unsigned,
    tcp_syn boolean,
    tcp_ack boolean,
    tcp_fin boolean,
    tcp_rst boolean,
    tcp_psh boolean,
    tcp_urg boolean,
    udp_sport smallint unsigned,
    udp_dport smallint unsigned,
    sctp_sport smallint unsigned,
    sctp_dport smallint unsigned,
    icmp_type tinyint unsigned,
    icmp_code tinyint unsigned,
    icmp_echoid smallint unsigned,
    icmp_echoseq smallint unsigned,
    icmpv6_type tinyint unsigned,
    icmpv6_code tinyint unsigned,
    ahesp_spi int unsigned,
    arp_saddr_str varchar(15) CHARACTER SET ascii,
    arp_daddr_str varchar(15) CHARACTER SET ascii,
    KEY oob_time (oob_time)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4;

CREATE TABLE IF NOT EXISTS flows (
    _id bigint unsigned NOT NULL AUTO_INCREMENT PRIMARY KEY,
    oob_time datetime(6),
    ct_event tinyint unsigned,
    oob_family tinyint unsigned,
    orig_ip_saddr_str varchar(45) CHARACTER SET ascii,
    orig_ip_daddr_str varchar(45) CHARACTER SET ascii,
    orig_ip_protocol tinyint unsigned,
    orig_l4_sport smallint unsigned,
    orig_l4_dport smallint unsigned,
    orig_raw_pktlen bigint unsigned,
    orig_raw_pktcount bigint unsigned,
    reply_ip_saddr_str varchar(45) CHARACTER SET ascii,
    reply_ip_daddr_str varchar(45) CHARACTER SET ascii,
    reply_l4_sport smallint unsigned,
    reply_l4_dport smallint unsigned,
    reply_raw_pktlen bigint unsigned,
    reply_raw_pktcount bigint unsigned,
    icmp_type tinyint unsigned,
    icmp_code tinyint unsigned,
    icmpv6_type tinyint unsigned,
    icmpv6_code tinyint unsigned,
    tcp_state tinyint unsigned,
    ct_mark int unsigned,
    ct_id int unsigned,
    ct_zone smallint unsigned,
    ct_status int unsigned,
    ct_helper varchar(16),
    flow_start_sec int unsigned,
    flow_start_usec int unsigned,
    flow_end_sec int unsigned,
    flow_end_usec int unsigned,
    flow_number int unsigned,
    flow_last boolean,
    flow_end_reason tinyint unsigned,
    nat_saddr_str varchar(45) CHARACTER SET ascii,
    nat_sport smallint unsigned,
    nat_daddr_str varchar(45) CHARACTER SET ascii,
    nat_dport smallint unsigned,
    nat_event tinyint unsigned,
    community_id varchar(30) CHARACTER SET ascii,
    KEY oob_time (oob_time)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4;

CREATE TABLE IF NOT EXISTS sums (
    _id bigint unsigned NOT NULL AUTO_INCREMENT PRIMARY KEY,
    oob_time datetime(6),
    sum_name varchar(600),
    sum_pkts bigint unsigned,
    sum_bytes bigint unsigned,
    sum_limit bigint unsigned,
    KEY oob_time (oob_time)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4;
