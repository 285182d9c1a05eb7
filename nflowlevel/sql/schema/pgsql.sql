-- SPDX-License-Identifier: GPL-2.0-or-later
-- Tables of nflowlevel for PostgreSQL 14 or later: `packets` for logged packets, `flows` for what conntrack
-- knows of connections, `sums` for accounting.
--
-- A column has the name of its key with "_" for "." (docs/keys.md) and a type that holds all its values; `oob_time` is
-- oob.time.sec and oob.time.usec together. A stack fills the columns whose keys it has; the others are null and take no
-- room. You may drop columns that you do not need, and add columns for other keys, at any time.
--
-- All tables have a partition for each day (UTC). Rows of a day without a partition go into the one called
-- `..._default`. This file creates the partitions of the next 30 days. Executing it again does no harm. Once a week:
--
--     SELECT nflowlevel_make_partitions(30);          -- today and the next 29 days
--     SELECT nflowlevel_drop_partitions(90);          -- everything older than 90 days
--
-- Dropping a day takes no time and frees its disk space at once, which DELETE does not.
--
-- The only index is a BRIN, a summary of each 32 pages. It costs little when rows are stored. It finds times and single
-- addresses without reading the whole table:
--
--     SELECT * FROM packets WHERE oob_time >= now() - interval '1 hour' AND ip_saddr_str = '192.0.2.1';
--
-- VACUUM summarizes new rows, and ANALYZE informs the planner; PostgreSQL does both by itself. If you often search for
-- ports, prefixes or networks, add an index for that; a B-tree about halves the rows per second that can be stored.

CREATE TABLE IF NOT EXISTS packets (
    -- Wide types first: no bytes are lost to alignment.
    oob_time timestamptz,
    oob_mark bigint,
    oob_uid bigint,
    oob_gid bigint,
    tcp_seq bigint,
    tcp_ackseq bigint,
    ahesp_spi bigint,
    oob_protocol integer,
    vlan_id integer,
    ip_totlen integer,
    ip_id integer,
    ip_fragoff integer,
    ip6_payloadlen integer,
    tcp_sport integer,
    tcp_dport integer,
    tcp_window integer,
    udp_sport integer,
    udp_dport integer,
    sctp_sport integer,
    sctp_dport integer,
    icmp_echoid integer,
    icmp_echoseq integer,
    oob_hook smallint,
    oob_family smallint,
    raw_label smallint,
    ip_protocol smallint,
    ip_tos smallint,
    ip_ttl smallint,
    ip6_hoplimit smallint,
    icmp_type smallint,
    icmp_code smallint,
    icmpv6_type smallint,
    icmpv6_code smallint,
    tcp_syn boolean,
    tcp_ack boolean,
    tcp_fin boolean,
    tcp_rst boolean,
    tcp_psh boolean,
    tcp_urg boolean,
    oob_prefix text,
    oob_in text,
    oob_out text,
    oob_physin text,
    oob_physout text,
    ip_saddr_str inet,
    ip_daddr_str inet,
    arp_saddr_str inet,
    arp_daddr_str inet,
    -- Not macaddr: it holds six bytes, but a tunnel's address has four, and it costs a fifth of the rows per second.
    mac_saddr_str text,
    mac_daddr_str text
) PARTITION BY RANGE (oob_time);

CREATE TABLE IF NOT EXISTS sums (
    oob_time timestamptz,
    -- Counters of the kernel have 64 bits without a sign.
    sum_pkts numeric(20),
    sum_bytes numeric(20),
    sum_limit numeric(20),
    sum_name text
) PARTITION BY RANGE (oob_time);

CREATE TABLE IF NOT EXISTS flows (
    oob_time timestamptz,
    orig_raw_pktlen bigint,
    orig_raw_pktcount bigint,
    reply_raw_pktlen bigint,
    reply_raw_pktcount bigint,
    flow_start_sec bigint,
    flow_end_sec bigint,
    ct_id bigint,
    ct_mark bigint,
    ct_status bigint,
    flow_number bigint,
    flow_start_usec integer,
    flow_end_usec integer,
    orig_l4_sport integer,
    orig_l4_dport integer,
    reply_l4_sport integer,
    reply_l4_dport integer,
    nat_sport integer,
    nat_dport integer,
    ct_zone integer,
    ct_event smallint,
    oob_family smallint,
    orig_ip_protocol smallint,
    icmp_type smallint,
    icmp_code smallint,
    icmpv6_type smallint,
    icmpv6_code smallint,
    tcp_state smallint,
    flow_end_reason smallint,
    nat_event smallint,
    flow_last boolean,
    orig_ip_saddr_str inet,
    orig_ip_daddr_str inet,
    reply_ip_saddr_str inet,
    reply_ip_daddr_str inet,
    nat_saddr_str inet,
    nat_daddr_str inet,
    ct_helper text,
    community_id text
) PARTITION BY RANGE (oob_time);

CREATE TABLE IF NOT EXISTS packets_default PARTITION OF packets DEFAULT;
CREATE TABLE IF NOT EXISTS sums_default PARTITION OF sums DEFAULT;
CREATE TABLE IF NOT EXISTS flows_default PARTITION OF flows DEFAULT;

CREATE INDEX IF NOT EXISTS packets_brin ON packets
    USING brin (oob_time, ip_saddr_str inet_bloom_ops, ip_daddr_str inet_bloom_ops) WITH (pages_per_range = 32);
-- The second address of a flow's reply is the public one of who sits behind NAT.
CREATE INDEX IF NOT EXISTS flows_brin ON flows
    USING brin (
        oob_time, orig_ip_saddr_str inet_bloom_ops, orig_ip_daddr_str inet_bloom_ops, reply_ip_daddr_str inet_bloom_ops
    ) WITH (pages_per_range = 32);
CREATE INDEX IF NOT EXISTS sums_brin ON sums USING brin (oob_time) WITH (pages_per_range = 32);

-- Create the missing partitions of today and the following days; return how many were created.
CREATE OR REPLACE FUNCTION nflowlevel_make_partitions(days integer) RETURNS integer
LANGUAGE plpgsql SET search_path FROM CURRENT SET timezone = 'UTC' AS $$
DECLARE
    parent text;
    partition text;
    columns text;
    day date;
    made integer := 0;
BEGIN
    FOREACH parent IN ARRAY ARRAY['packets', 'flows', 'sums'] LOOP
        -- This does not keep anyone waiting who stores rows, only another call.
        EXECUTE format('LOCK TABLE ONLY %I IN SHARE UPDATE EXCLUSIVE MODE', parent);
        SELECT string_agg(quote_ident(attname), ', ') INTO columns
        FROM pg_attribute
        WHERE attrelid = parent::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '';
        FOR day IN SELECT current_date + n FROM generate_series(0, days - 1) AS n LOOP
            partition := parent || to_char(day, '"_"YYYYMMDD');
            CONTINUE WHEN to_regclass(partition) IS NOT NULL;
            -- Summarize earlier than by default, which waits until a fifth of a day's rows is new.
            EXECUTE format(
                'CREATE TABLE %I (LIKE %I INCLUDING ALL EXCLUDING INDEXES EXCLUDING IDENTITY) '
                'WITH (autovacuum_vacuum_insert_scale_factor = 0.02, autovacuum_vacuum_insert_threshold = 100000)',
                partition, parent
            );
            -- The default partition may not keep rows that belong in another.
            EXECUTE format(
                'WITH moved AS (DELETE FROM %1$I WHERE oob_time >= $1 AND oob_time < $2 RETURNING *) '
                'INSERT INTO %2$I (%3$s) SELECT %3$s FROM moved', parent || '_default', partition, columns
            ) USING day::timestamptz, (day + 1)::timestamptz;
            EXECUTE format(
                'ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                parent, partition, day::timestamptz, (day + 1)::timestamptz
            );
            made := made + 1;
        END LOOP;
    END LOOP;
    RETURN made;
END
$$;

-- Drop partitions older than so many days; return how many were dropped.
CREATE OR REPLACE FUNCTION nflowlevel_drop_partitions(days integer) RETURNS integer
LANGUAGE plpgsql SET search_path FROM CURRENT SET timezone = 'UTC' AS $$
DECLARE
    parent text;
    partition regclass;
    dropped integer := 0;
BEGIN
    FOREACH parent IN ARRAY ARRAY['packets', 'flows', 'sums'] LOOP
        FOR partition IN
            SELECT c.oid
            FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
            WHERE i.inhparent = parent::regclass
                AND to_date(substring(c.relname FROM '_(\d{8})$'), 'YYYYMMDD') < current_date - days
        LOOP
            EXECUTE format('DROP TABLE %s', partition);
            dropped := dropped + 1;
        END LOOP;
        EXECUTE format('DELETE FROM %I WHERE oob_time < $1', parent || '_default')
            USING (current_date - days)::timestamptz;
    END LOOP;
    RETURN dropped;
END
$$;

SELECT nflowlevel_make_partitions(30);
