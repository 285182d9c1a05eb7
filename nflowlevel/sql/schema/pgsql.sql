-- SPDX-License-Identifier: GPL-2.0-or-later
-- Tables of our own for PostgreSQL 14 or later: `packets` for logged packets, `sums` for accounting.
--
-- A column has the name of its key with "_" for "." (docs/keys.md) and a type that holds every value of it; `oob_time`
-- is oob.time.sec and oob.time.usec together. A stack fills the columns whose keys it has, the others are null and take
-- no room. Columns nobody needs may be dropped, and those for other keys added, at any time.
--
-- Both tables consist of a partition for each day (UTC); rows of a day that has none go into the one called
-- `..._default`. This file makes those of the next 30 days, and does no harm when it is executed again. Once a week:
--
--     SELECT nflowlevel_make_partitions(30);          -- today and the 29 days after it
--     SELECT nflowlevel_drop_partitions(90);          -- what is older than 90 days
--
-- Dropping a day takes no time and gives its disk space back at once, which DELETE does not.
--
-- The one index is a BRIN, a summary of each 32 pages. It costs little when rows are stored, and finds times and single
-- addresses without reading all of a table:
--
--     SELECT * FROM packets WHERE oob_time >= now() - interval '1 hour' AND ip_saddr_str = '192.0.2.1';
--
-- VACUUM summarizes what is new, ANALYZE lets the planner know; PostgreSQL does both by itself. Who searches for ports,
-- prefixes or networks all day adds an index for that; a B-tree about halves the rows per second that can be stored.

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
    -- Not macaddr: it holds six bytes, those of a tunnel are four, and it costs a fifth of the rows per second.
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

CREATE TABLE IF NOT EXISTS packets_default PARTITION OF packets DEFAULT;
CREATE TABLE IF NOT EXISTS sums_default PARTITION OF sums DEFAULT;

CREATE INDEX IF NOT EXISTS packets_brin ON packets
    USING brin (oob_time, ip_saddr_str inet_bloom_ops, ip_daddr_str inet_bloom_ops) WITH (pages_per_range = 32);
CREATE INDEX IF NOT EXISTS sums_brin ON sums USING brin (oob_time) WITH (pages_per_range = 32);

-- Make the partitions of today and the days after it that are missing, and return how many were made.
CREATE OR REPLACE FUNCTION nflowlevel_make_partitions(days integer) RETURNS integer
LANGUAGE plpgsql SET search_path FROM CURRENT SET timezone = 'UTC' AS $$
DECLARE
    parent text;
    partition text;
    columns text;
    day date;
    made integer := 0;
BEGIN
    FOREACH parent IN ARRAY ARRAY['packets', 'sums'] LOOP
        -- Whoever stores rows is not kept waiting by this, only another call.
        EXECUTE format('LOCK TABLE ONLY %I IN SHARE UPDATE EXCLUSIVE MODE', parent);
        SELECT string_agg(quote_ident(attname), ', ') INTO columns
        FROM pg_attribute
        WHERE attrelid = parent::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '';
        FOR day IN SELECT current_date + n FROM generate_series(0, days - 1) AS n LOOP
            partition := parent || to_char(day, '"_"YYYYMMDD');
            CONTINUE WHEN to_regclass(partition) IS NOT NULL;
            -- Summarize before a fifth of a day's rows is new, as it would be otherwise.
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

-- Drop what is older than so many days, and return how many partitions were dropped.
CREATE OR REPLACE FUNCTION nflowlevel_drop_partitions(days integer) RETURNS integer
LANGUAGE plpgsql SET search_path FROM CURRENT SET timezone = 'UTC' AS $$
DECLARE
    parent text;
    partition regclass;
    dropped integer := 0;
BEGIN
    FOREACH parent IN ARRAY ARRAY['packets', 'sums'] LOOP
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
