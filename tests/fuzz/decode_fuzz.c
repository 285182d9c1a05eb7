// SPDX-License-Identifier: GPL-2.0-or-later
/* Mutates messages, decodes them and renders what came of it. Every buffer is allocated to the byte, so that the sanitizers
 * see each read and write beyond what is there; what they cannot see is checked here: that records point into their datagram,
 * that each line is JSON and each row COPY text, in UTF-8.
 *
 * decode_fuzz SEEDS COUNT SEED: the same arguments give the same messages. When something is found the datagram is printed. */
#include <math.h>
#include <linux/netlink.h>

#define PROGRAM "decode_fuzz"
#define SUBJECT "datagram"
#define SEED_HEAD uint32_t length;
#define SEED_MIN NFL_MESSAGE_MIN
#define SEED_MAX 16384
#include "harness.h"
#include "record.h"
#include "render.h"
#include "print.h"

#define DATAGRAM_MESSAGES 3
#define PACKET_MESSAGE 0x0400
enum { PAYLOAD = 9, PREFIX = 10, HWHEADER = 16, HWLEN = 17 };	/* NFULA_* */

/* -- mutation ------------------------------------------------------------------------------------------------------------ */

static const uint8_t bytes_of_interest[] = {
	0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 17, 20, 24, 43, 44, 45, 50, 51, 58, 59, 60, 64, 69, 70, 96, 127, 128, 132, 135, 136, 139,
	140, 192, 224, 237, 240, 244, 248, 254, 255
};
static const uint8_t families[] = { 2, 10, 3, 7, 5, 0, 1, 12, 255 };

static uint8_t interesting(void)
{
	return bytes_of_interest[below(ARRAY(bytes_of_interest))];
}

/* Where attributes begin; how many were found. */
static uint32_t attributes(const struct seed *m, uint32_t *at, uint32_t room)
{
	uint32_t count = 0, here = NFL_MESSAGE_MIN;
	uint16_t length;

	while (count < room && here + 4 <= m->length) {
		memcpy(&length, m->data + here, sizeof(length));
		if (length < 4 || length > m->length - here)
			break;
		at[count++] = here;
		here += NLMSG_ALIGN(length);
	}
	return count;
}

static void append(struct seed *m, const uint8_t *data, uint32_t length)
{
	if (length > SEED_MAX - m->length)
		length = SEED_MAX - m->length;
	if (length)
		memcpy(m->data + m->length, data, length);
	m->length += length;
}

static void append_attribute(struct seed *m, uint16_t type, const uint8_t *value, uint16_t length)
{
	const uint16_t attribute[2] = { (uint16_t)(4 + length), type };

	append(m, (const uint8_t[4]){ 0 }, -m->length & 3);
	append(m, (const uint8_t *)attribute, sizeof(attribute));
	append(m, value, length);
}

static void append_any(struct seed *m)
{
	uint8_t value[40];

	for (uint32_t i = 0; i < sizeof(value); i++)
		value[i] = one_in(2) ? interesting() : (uint8_t)any();
	append_attribute(m, (uint16_t)(below(25) | (one_in(8) ? 0x8000 : 0)), value, (uint16_t)below(sizeof(value) + 1));
}

/* A prefix or a link-layer header that as a text is longer than all else of a line together. */
static void append_long(struct seed *m)
{
	uint8_t value[4000];
	uint16_t length = (uint16_t)(sizeof(value) - below(100));

	for (uint32_t i = 0; i < sizeof(value); i++)
		value[i] = one_in(2) ? 1 : (uint8_t)any() | 1;
	append_attribute(m, one_in(2) ? PREFIX : HWHEADER, value, length);
	append_attribute(m, HWLEN, value, 2);
}

static void change_attribute(struct seed *m)
{
	uint32_t at[64], count = attributes(m, at, ARRAY(at)), other = below(seed_count), from;
	uint16_t head[2];

	if (!count)
		return;
	from = at[below(count)];
	memcpy(head, m->data + from, sizeof(head));
	switch (below(5)) {
	case 0:
		head[0] = (uint16_t)(head[0] + below(9) - 4);
		break;
	case 1:
		head[0] = one_in(2) ? (uint16_t)any() : interesting();
		break;
	case 2:
		head[0] = (uint16_t)(m->length - from + below(3) - 1);
		break;
	case 3:
		head[1] = (uint16_t)below(25);
		break;
	case 4:		/* the attributes of another message from somewhere on */
		append(m, (const uint8_t[4]){ 0 }, -m->length & 3);
		count = attributes(seeds + other, at, ARRAY(at));
		if (count) {
			from = at[below(count)];
			append(m, seeds[other].data + from, seeds[other].length - from);
		}
		return;
	}
	memcpy(m->data + from, head, sizeof(head));
}

/* The beginning of the packet, where its headers are. */
static void change_packet(struct seed *m)
{
	uint32_t at[64], count = attributes(m, at, ARRAY(at));
	uint16_t head[2];

	for (uint32_t i = 0; i < count; i++) {
		memcpy(head, m->data + at[i], sizeof(head));
		if (head[1] == PAYLOAD && head[0] > 4) {
			uint32_t reach = head[0] - 4u;

			m->data[at[i] + 4 + below(reach > 96 ? 96 : reach)] = one_in(2) ? interesting() : (uint8_t)any();
			if (one_in(4)) {
				head[0] = (uint16_t)(4 + below(head[0]));
				memcpy(m->data + at[i], head, sizeof(head));
				if (i == count - 1)
					m->length = at[i] + head[0];
			}
		}
	}
}

static void mutate(struct seed *m)
{
	uint32_t at = below(m->length), from = below(m->length), length;

	switch (below(10)) {
	case 0:
		m->data[at] = (uint8_t)any();
		break;
	case 1:
		m->data[at] ^= (uint8_t)(1 << below(8));
		break;
	case 2:
		m->data[at] = interesting();
		break;
	case 3:
		if (one_in(2))
			m->length = at > NFL_MESSAGE_MIN ? at : NFL_MESSAGE_MIN;
		break;
	case 4:
		length = below(m->length - (at > from ? at : from));
		memmove(m->data + at, m->data + from, length);
		break;
	case 5:
		m->data[NLMSG_HDRLEN] = families[below(ARRAY(families))];
		break;
	case 6:
		if (one_in(64))
			append_long(m);
		else
			append_any(m);
		break;
	case 7:
		change_attribute(m);
		break;
	default:
		change_packet(m);
	}
}

static void mutated(struct seed *m)
{
	const struct seed *seed = seeds + below(seed_count);
	struct nlmsghdr head;

	m->length = seed->length;
	memcpy(m->data, seed->data, seed->length);
	for (uint32_t times = 1 + below(5); times; times--)
		mutate(m);
	if (one_in(16))
		return;
	memcpy(&head, m->data, sizeof(head));
	head.nlmsg_len = m->length;
	head.nlmsg_type = PACKET_MESSAGE;
	if (one_in(32))
		head.nlmsg_len += below(41) - 20;
	if (one_in(32))
		head.nlmsg_type = (uint16_t)below(4);
	memcpy(m->data, &head, sizeof(head));
}

/* -- checks --------------------------------------------------------------------------------------------------------------- */

/* The character at p (RFC 3629, read off its syntax); 0 where there is none. */
static uint32_t character(const uint8_t *p, size_t left)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	uint32_t length = *p < 0x80 ? 1 : *p >= 0xf0 ? 4 : *p >= 0xe0 ? 3 : 2, code = *p;

	if (length == 1)
		return 1;
	if (*p < 0xc0 || *p > 0xf7 || length > left)
		return 0;
	code = *p & (0x7f >> length);
	for (uint32_t i = 1; i < length; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		code = code << 6 | (p[i] & 0x3f);
	}
	return code < least[length] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff) ? 0 : length;
}

/* Bytes of the escape at p, a backslash; 0 where it is none of RFC 8259's. */
static uint32_t escape(const uint8_t *p, size_t left)
{
	if (left < 2)
		return 0;
	if (strchr("\"\\/bfnrt", p[1]) && p[1])
		return 2;
	if (p[1] != 'u' || left < 6)
		return 0;
	for (int i = 2; i < 6; i++)
		if (!strchr("0123456789abcdef", p[i]) || !p[i])
			return 0;
	return 6;
}

/* Lines of flat objects: strings, numbers, null. */
static void check_lines(const uint8_t *p, size_t size, uint32_t lines)
{
	bool text = false, value = false;
	uint32_t step;

	for (size_t i = 0; i < size; i += step) {
		step = p[i] == '\\' ? escape(p + i, size - i) : character(p + i, size - i);
		check(step, "a line is not UTF-8, or has a bad escape");
		if (text) {
			check(p[i] >= 0x20, "a control character is not escaped");
			if (p[i] == '"')
				text = false;
			continue;
		}
		if (p[i] == '"') {
			check(!i || strchr("{ ", p[i - 1]), "a text begins where it must not");
			text = true;
		} else if (p[i] == '\n') {
			check(i >= 2 && p[i - 1] == '}' && lines--, "a line ends where it must not");
			value = false;
		} else if (p[i] == ':') {
			check(!value, "a value is followed by another");
			value = true;
		} else if (p[i] == ',') {
			check(value, "a member lacks its value");
			value = false;
		} else {
			check(strchr("{} -+.0123456789enul", p[i]) && p[i], "a character stands where it must not");
		}
	}
	check(!text && !lines, "the last line is not whole");
}

/* Lines of items: no byte that ends a line or an item stands in a value, and each escape is one. */
static void check_items(const uint8_t *p, size_t size, uint32_t lines, char separator)
{
	for (size_t i = 0; i < size; i++) {
		if (p[i] == '\n' && separator == '\n')
			continue;
		if (p[i] == '\n') {
			check(lines--, "there are too many lines");
			continue;
		}
		check(p[i] >= 0x20 && p[i] != 0x7f, "a control character is not escaped");
		if (p[i] != '\\')
			continue;
		check(i + 1 < size && p[i + 1] && strchr("\\nrtx", p[i + 1]), "an item has a bad escape");
		if (p[++i] == 'x') {
			check(i + 2 < size && strchr("01237", p[i + 1]) && strchr("0123456789abcdef", p[i + 2]), "bad digits");
			i += 2;
		}
	}
	check(separator == '\n' || !lines, "there are too few lines");
	check(!size || p[size - 1] == '\n', "the last record is not whole");
}

/* The length of one of the words at p, or 0. */
static size_t one_of(const uint8_t *p, size_t left, const char *const words[])
{
	for (; *words; words++)
		if (left >= strlen(*words) && !memcmp(p, *words, strlen(*words)))
			return strlen(*words);
	return 0;
}

/* Elements <log>, each on a line of its own, in them elements <x> with text of XML 1.0. */
static void check_elements(const uint8_t *p, size_t size, uint32_t lines)
{
	static const char *const references[] = { "&amp;", "&lt;", "&gt;", "&#10;", "&#13;", NULL };
	static const char *const tags[] = { "<hour>", "</hour>", "<min>", "</min>", "<sec>", "</sec>", "<wday>", "</wday>",
		"<day>", "</day>", "<month>", "</month>", "<year>", "</year>", NULL };
	int depth = 0;
	size_t step;

	for (size_t i = 0; i < size; i += step) {
		const uint8_t *s = p + i;
		size_t left = size - i;

		if (one_of(s, left, (const char *const[]){ "<log>", NULL })) {
			check(!depth++ && (!i || s[-1] == '\n'), "an element begins where it must not");
			step = 5;
		} else if (one_of(s, left, (const char *const[]){ "</log>\n", NULL })) {
			check(!--depth && lines--, "an element ends where it must not");
			step = 7;
		} else if (one_of(s, left, (const char *const[]){ "<x>", NULL })) {
			check(depth++ == 1, "a value begins where it must not");
			step = 3;
		} else if (one_of(s, left, (const char *const[]){ "</x>", NULL })) {
			check(depth-- == 2, "a value ends where it must not");
			step = 4;
		} else if (*s == '<') {
			step = one_of(s, left, tags);
			check(step && depth == 2, "a text has a '<'");
		} else if (*s == '&') {
			step = one_of(s, left, references);
			check(step, "a text has a '&'");
		} else {
			step = character(s, left);
			check(depth == 2 && step && (*s >= 0x20 || *s == '\t'), "a text is none of XML");
			check(step != 3 || memcmp(s, "\xef\xbf", 2) || s[2] < 0xbe, "a text has no character of XML");
			check(left < 3 || memcmp(s, "]]>", 3), "a text ends a CDATA section");
		}
	}
	check(!depth && !lines, "the last element is not whole");
}

/* -- rendering ------------------------------------------------------------------------------------------------------------ */

#define NUMBER(type, bit, name) { ", \"" #name "\": ", 0, NFL_##type, NFL_VALID_##bit, NFL_VALID_IP6, offsetof(struct nfl_record, name), 0, 0, 0, 0, 0, 0, 0 }
#define TEXT(kind, bit, name, length) \
	{ ", \"" #name "\": ", 0, NFL_##kind, NFL_VALID_##bit, NFL_VALID_IP6, offsetof(struct nfl_record, name), length, 0, 0, 0, 0, 0, 0 }
#define LENGTH(name) offsetof(struct nfl_record, name)
#define WIDE(kind, bit, name, length, width) \
	{ ", \"" #name "\": ", 0, NFL_##kind, NFL_VALID_##bit, NFL_VALID_IP6, offsetof(struct nfl_record, name), length, width, 0, 0, 0, 0, 0 }

static const struct nfl_column all_columns[] = {
	NUMBER(U32, PAYLOAD, raw_pktlen), NUMBER(U32, ALWAYS, raw_pktcount), TEXT(BYTES_TEXT, PREFIX, oob_prefix, LENGTH(oob_prefix_len)),
	NUMBER(U32, ALWAYS, oob_time_sec), NUMBER(U32, ALWAYS, oob_time_usec), NUMBER(U32, ALWAYS, oob_mark),
	NUMBER(U32, INDEV, oob_ifindex_in), NUMBER(U8, HOOK, oob_hook), NUMBER(U16, HWHEADER, raw_mac_len),
	NUMBER(U32, SEQ, oob_seq_local), NUMBER(U8, ALWAYS, oob_family), NUMBER(U16, PACKET_HDR, hwhdr_protocol),
	NUMBER(U32, UID, oob_uid), NUMBER(ACTION, ALWAYS, raw_label), NUMBER(U16, HWTYPE, hwhdr_type),
	NUMBER(U16, HWADDR, raw_mac_addrlen), NUMBER(U16, VLAN, vlan_id), NUMBER(U8, VLAN, vlan_priority),
	NUMBER(U8, PROTOCOL, ip_protocol), NUMBER(U16, IP4, ip_totlen), NUMBER(U8, IP4, ip_ihl), NUMBER(U16, IP4, ip_fragoff),
	NUMBER(U16, IP6, ip6_payloadlen), NUMBER(U32, IP6, ip6_flowlabel), NUMBER(U8, IP6, ip6_nexthdr),
	NUMBER(U32, IP6_FRAG, ip6_fragid), NUMBER(U16, TCP, tcp_sport), NUMBER(U32, TCP, tcp_seq), NUMBER(U16, TCP_URGP, tcp_urgp),
	NUMBER(U16, UDP, udp_dport), NUMBER(U16, UDPLITE, udplite_coverage), NUMBER(U8, ICMP, icmp_type),
	NUMBER(U16, ICMP_FRAGMTU, icmp_fragmtu), NUMBER(U16, ICMPV6_ECHO, icmpv6_echoseq), NUMBER(U32, SCTP, sctp_csum),
	NUMBER(U32, SPI, ahesp_spi), NUMBER(U16, ARP, arp_operation),
	TEXT(IFNAME, ALWAYS, oob_ifindex_in, 0), TEXT(IFNAME, PHYSOUTDEV, oob_physoutdev, 0),
	TEXT(ADDR, IP, ip_saddr, 0), TEXT(ADDR, IP, ip_daddr, 0), TEXT(ADDR4, ARP_ADDR, arp_saddr, 0),
	TEXT(ADDR4, ICMP_GATEWAY, icmp_gateway, 0), WIDE(MAC, MAC_SADDR, mac_saddr, LENGTH(mac_saddr_len), 8),
	WIDE(MAC, MAC_DADDR, mac_daddr, LENGTH(mac_daddr_len), 6), WIDE(MAC, ALWAYS, raw_mac_saddr, LENGTH(ip_tos), 8), TEXT(MAC_BYTES, HWHEADER, raw_mac, LENGTH(raw_mac_len)),
	TEXT(ADDR_BIN, IP, ip_daddr, 0), NUMBER(PRINT, ALWAYS, valid),
	/* No field of a packet is of these kinds: any bytes will do, with a length of up to 65535 behind them. */
	NUMBER(U64, ALWAYS, ip_saddr), WIDE(CHARS, ALWAYS, ip_saddr, 0, 32), WIDE(CHARS, ALWAYS, raw_mac_saddr, LENGTH(tcp_window), 8),
	NUMBER(ROW_INT, ALWAYS, valid), NUMBER(ROW_UINT, ALWAYS, valid), NUMBER(ROW_FLOAT, ALWAYS, valid),
	NUMBER(ROW_TEXT, ALWAYS, valid), NUMBER(ROW_NONE, ALWAYS, valid),
};

#define COLUMNS ARRAY(all_columns)
#define ADDED 5		/* the last ones, which Python adds to a batch */
static struct nfl_column columns[COLUMNS], *const added = columns + COLUMNS - ADDED;

/* What only rows for a database have. */
static const struct nfl_column row_columns[] = {
	NUMBER(TIME, ALWAYS, valid), WIDE(ADDR_NUMBER, IP, ip_saddr, 0, 16), WIDE(ADDR_NUMBER, ARP_ADDR, arp_daddr, 0, 4),
	WIDE(BYTES_HEX, PAYLOAD, raw_pkt, LENGTH(raw_pktlen), 4), WIDE(BYTES_HEX, CT, ct, LENGTH(ct_len), 2),
	WIDE(FIXED_HEX, HWADDR, raw_mac_saddr, LENGTH(raw_mac_addrlen), 8), WIDE(FIXED_HEX, ARP_ADDR, arp_shwaddr, 0, 6),
};

#define ROW_COLUMNS (ARRAY(row_columns) + COLUMNS)
static struct nfl_column copied[ROW_COLUMNS];
static struct nfl_plan rows_plan = { .columns = copied, .count = ROW_COLUMNS, .second = -1 };

static const char head[] = "{\"timestamp\": \"", tail[] = "\", \"dvc\": \"fuzz\"";

static struct nfl_lines plan = {
	.head = head, .head_length = sizeof(head) - 1, .timestamp = 1, .tail = tail, .tail_length = sizeof(tail) - 1,
	.plan = { .columns = columns, .count = COLUMNS, .second = -1 },
};

/* What only elements have. */
static const struct nfl_column element_columns[] = {
	NUMBER(WHEN, ALWAYS, valid), NUMBER(U32_SET, ALWAYS, oob_mark), NUMBER(HEX16, PACKET_HDR, oob_protocol),
	NUMBER(U64_LONG, ALWAYS, ip_saddr), NUMBER(WORD, PACKET_HDR, valid),
	WIDE(BYTES_HEX, PAYLOAD, raw_pkt, LENGTH(raw_pktlen), 4), WIDE(BYTES_HEX, CT, ct, LENGTH(ct_len), 2),
	WIDE(FIXED_HEX, HWADDR, raw_mac_saddr, LENGTH(raw_mac_addrlen), 8), WIDE(ROW_UINT, ALWAYS, valid, 0, 20),
};

#define ELEMENT_COLUMNS (ARRAY(element_columns) + COLUMNS)
static struct nfl_column in_elements[ELEMENT_COLUMNS];

/* What is rendered: the records of a datagram. */
static struct nfl_batch batch = { .stride = sizeof(struct nfl_record) };

/* Where a record says its time, in any of the ways there are; there is no other without records. */
static void set_clock(struct nfl_plan *of)
{
	of->clock = batch.records ? (uint8_t)below(3) : NFL_CLOCK_BATCH;
	of->time = offsetof(struct nfl_record, oob_time_sec);
	of->time_usec = offsetof(struct nfl_record, oob_time_usec);
	of->second = -1;
	batch.second = any();
	batch.usec = one_in(2) ? below(1000000) : any();
}

/* The plan as records/render.py makes it: fixed_size there is what is asked for here. */
static void make_plan(void)
{
	plan.plan.fixed_size = 40 + 2 + plan.head_length + plan.tail_length;
	for (uint32_t i = 0; i < COLUMNS; i++) {
		char *label = exactly(NFL_LABEL_BYTES, NULL);

		columns[i] = all_columns[i];
		columns[i].label_length = (uint32_t)strlen(columns[i].label);
		check(columns[i].label_length <= NFL_LABEL_BYTES, "a label is too long");
		memset(label, ' ', NFL_LABEL_BYTES);
		memcpy(label, columns[i].label, columns[i].label_length);
		columns[i].label = label;
		plan.plan.fixed_size += columns[i].label_length + 6 * 32 + 2;
	}
	rows_plan.fixed_size = ROW_COLUMNS * (6 * 32 + 2);
}

static struct nfl_ifname *some_names(uint32_t *count)
{
	struct nfl_ifname *names;

	*count = below(5);
	names = exactly(*count * sizeof(*names), NULL);
	for (uint32_t i = 0; i < *count; i++) {
		names[i].index = i * (1 + below(2)) + (i ? names[i - 1].index : 1);
		names[i].length = below(sizeof(names[i].name) + 1);
		for (uint32_t j = 0; j < sizeof(names[i].name); j++)
			names[i].name[j] = (char)(one_in(2) ? interesting() | 1 : 'a' + below(26));
	}
	return names;
}

/* Values for the columns that Python adds, for `count` records. */
static void add_rows(uint32_t count)
{
	static const uint64_t whole[] = { 0, 1, UINT64_MAX, INT64_MAX, (uint64_t)INT64_MIN };
	const double fractions[] = { 0, -0.0, NAN, INFINITY, -INFINITY, 1e308, -5e-324, 0.1 };
	uint32_t blob_length = below(40);
	uint64_t *ints = exactly(count * sizeof(*ints), NULL), *uints = exactly(count * sizeof(*uints), NULL);
	double *floats = exactly(count * sizeof(*floats), NULL);
	struct nfl_span *spans = exactly(count * sizeof(*spans), NULL);
	char *blob = exactly(blob_length, NULL);

	for (uint32_t i = 0; i < blob_length; i++)
		blob[i] = (char)(one_in(4) ? (int)any() : interesting());
	for (uint32_t i = 0; i < count; i++) {
		ints[i] = whole[below(ARRAY(whole))];
		uints[i] = whole[below(ARRAY(whole))];
		floats[i] = fractions[below(ARRAY(fractions))];
		spans[i].at = below(blob_length + 1);
		spans[i].length = below(blob_length - spans[i].at + 1);
	}
	added[0].values = ints;
	added[1].values = uints;
	added[2].values = floats;
	added[3].values = spans;
	added[3].blob = blob;
	for (uint32_t i = 0; i < ADDED; i++) {
		uint8_t *present = one_in(2) ? NULL : exactly(count, NULL);

		for (uint32_t row = 0; present && row < count; row++)
			present[row] = (uint8_t)below(2);
		added[i].present = present;
	}
}

static void remove_rows(void)
{
	free((void *)added[3].blob);
	for (uint32_t i = 0; i < ADDED; i++) {
		free((void *)added[i].values);
		free((void *)added[i].present);
	}
}

static uint64_t rendered_bytes;

/* The columns as elements: the longest part of each is in fixed_size already. */
static void use_elements(struct nfl_lines *whole)
{
	static char begin[NFL_LABEL_BYTES] = "<x>", end[] = "</x>";

	memcpy(in_elements, element_columns, sizeof(element_columns));
	memcpy(in_elements + ARRAY(element_columns), columns, sizeof(columns));
	in_elements[ARRAY(element_columns) - 1].values = added[1].values;
	in_elements[ARRAY(element_columns) - 1].present = added[1].present;
	for (uint32_t i = 0; i < ELEMENT_COLUMNS; i++) {
		in_elements[i].label = begin;
		in_elements[i].label_length = 3;
		in_elements[i].after = end;
		in_elements[i].after_length = 4;
	}
	whole->plan.columns = in_elements;
	whole->plan.count = ELEMENT_COLUMNS;
	whole->plan.fixed_size += ELEMENT_COLUMNS * 7 + ARRAY(element_columns) * (6 * 32 + 2);
	whole->head = "<log>";
	whole->head_length = 5;
	whole->foot = "</log>\n";
	whole->foot_length = 7;
}

static void render_lines(enum nfl_form form)
{
	struct nfl_lines whole = plan;
	size_t size = one_in(2) ? below(2 * plan.plan.fixed_size) : 4u * plan.plan.fixed_size, used;
	uint32_t done;

	whole.form = (uint8_t)form;
	whole.separator = one_in(2) ? ',' : '\n';
	if (form == NFL_ITEMS)
		whole.head_length = one_in(2) ? 0 : 5;
	if (form == NFL_XML)
		use_elements(&whole);
	if (!batch.records) {	/* a batch that consists of added columns */
		whole.plan.columns += whole.plan.count - ADDED;
		whole.plan.count = ADDED;
	}
	set_clock(&whole.plan);
	for (uint32_t first = 0; first < batch.count; first = done) {
		char *out = exactly(size, NULL);

		used = nfl_lines_render(&whole, &batch, first, out, size, &done);
		check(used <= size && done >= first && done <= batch.count && !used == (done == first),
		      "lines and bytes do not agree");
		if (form == NFL_JSON)
			check_lines((uint8_t *)out, used, done - first);
		else if (form == NFL_ITEMS)
			check_items((uint8_t *)out, used, done - first, whole.separator);
		else
			check_elements((uint8_t *)out, used, done - first);
		rendered_bytes += used;
		size = done < batch.count ? size * 2 + 1 : size;
		free(out);
	}
}

/* Rows of fields in the text format of COPY. */
static void check_rows(const uint8_t *p, size_t size, uint32_t rows, uint32_t fields)
{
	uint32_t tabs = 0, step;

	for (size_t i = 0; i < size; i += step) {
		if (p[i] == '\\') {
			step = 2;
			check(i + 1 < size && p[i + 1] && strchr("\\Nbfnrtv", p[i + 1]), "a row has a bad escape");
			check(p[i + 1] != 'N' || ((!i || strchr("\t\n", p[i - 1])) && i + 2 < size && strchr("\t\n", p[i + 2])),
			      "a null is part of a text");
			continue;
		}
		step = character(p + i, size - i);
		check(step && p[i] && (p[i] < 8 || p[i] > 13 || strchr("\t\n", p[i])), "a row is not UTF-8, or lacks an escape");
		tabs += p[i] == '\t';
		if (p[i] == '\n') {
			check(tabs == fields - 1 && rows--, "a row has not as many fields as there are columns");
			tabs = 0;
		}
	}
	check(!rows && (!size || p[size - 1] == '\n'), "the last row is not whole");
}

static void render_rows(void)
{
	size_t size = one_in(2) ? below(2 * rows_plan.fixed_size) : 4u * rows_plan.fixed_size, used;
	struct nfl_plan whole = rows_plan;
	uint32_t done;

	/* The columns that were added are other ones each time. */
	memcpy(copied, row_columns, sizeof(row_columns));
	memcpy(copied + ARRAY(row_columns), columns, sizeof(columns));
	if (!batch.records) {
		whole.columns = copied + ROW_COLUMNS - ADDED;
		whole.count = ADDED;
	}
	set_clock(&whole);
	for (uint32_t first = 0; first < batch.count; first = done) {
		char *out = exactly(size, NULL);

		used = nfl_copy_render(&whole, &batch, first, out, size, &done);
		check(used <= size && done >= first && done <= batch.count && !used == (done == first),
		      "rows and bytes do not agree");
		check_rows((uint8_t *)out, used, done - first, whole.count);
		size = done < batch.count ? size * 2 + 1 : size;
		free(out);
	}
}

static void render_texts(void)
{
	size_t used;
	uint32_t done;

	for (const struct nfl_column *c = columns; c < added; c++) {
		size_t size = below(300);

		if (c->kind <= NFL_U64)
			continue;
		for (uint32_t first = 0; first < batch.count; first = done, size = size * 2 + 1) {
			char *out = exactly(size, NULL);

			used = nfl_text_render(c, &batch, first, out, size, &done);
			check(used <= size && (!used || !out[used - 1]) && done >= first && done <= batch.count,
			      "texts and bytes do not agree");
			free(out);
		}
	}
}

/* One line of a log for each packet, whatever is in it. */
static void render_log(void)
{
	static const char before[] = "<29>", after[] = " fuzz ";
	struct nfl_log log = { before, after, below(sizeof(before)), below(sizeof(after)), -1, "", NFL_LOG_PACKET, 0 };
	size_t size = one_in(2) ? below(2000) : 4000, used;
	uint32_t done;

	for (uint32_t first = 0; first < batch.count; first = done) {
		char *out = exactly(size, NULL);
		uint32_t lines = 0;

		used = nfl_log_render(&log, &batch, first, out, size, &done);
		check(used <= size && done >= first && done <= batch.count && !used == (done == first),
		      "lines of a log and bytes do not agree");
		for (size_t i = 0; i < used; i++) {
			uint8_t byte = (uint8_t)out[i];

			lines += byte == '\n';
			check(byte == '\n' || byte == '\t' || (byte >= 0x20 && byte != 0x7f), "a log has a control character");
		}
		check(lines == done - first && (!used || out[used - 1] == '\n'), "a packet is not one line of a log");
		size = done < batch.count ? size * 2 + 1 : size;
		free(out);
	}
}

/* All records, or some of them in any order. */
static void render(const struct nfl_record *records, const uint8_t *data, uint32_t total)
{
	uint32_t count = one_in(3) ? below(total + 1) : total;
	uint32_t *rows = count < total ? exactly(count * sizeof(*rows), NULL) : NULL;

	for (uint32_t i = 0; rows && i < count; i++)
		rows[i] = below(total);
	batch.data = data;
	batch.rows = rows;
	batch.count = count;
	batch.records = one_in(8) ? NULL : records;
	render_lines((enum nfl_form)below(NFL_XML + 1));
	batch.records = records;
	render_texts();
	render_log();
	batch.records = one_in(8) ? NULL : records;
	render_rows();
	free(rows);
}

/* -- the loop ------------------------------------------------------------------------------------------------------------- */

static uint64_t records_total;

static void decode(const uint8_t *data, uint32_t at)
{
	uint32_t room = one_in(8) ? below(3) : (tried_length - at) / NFL_MESSAGE_MIN + 1, count;
	struct nfl_record *records = exactly(room * sizeof(*records), NULL);
	struct nfl_receiver receiver = { .fd = -1, .label = (uint8_t)any(), .valid_all = ~0ULL };

	count = nfl_decode(&receiver, data, at, tried_length - at, any(), below(2) ? any() : below(1000000), records, room);
	check(count <= room && count == receiver.received, "there are more records than room");
	for (uint32_t i = 0; i < count; i++) {
		check_record(records + i);
		check(!(records[i].valid & ~receiver.valid_any) && !(receiver.valid_all & ~records[i].valid),
		      "valid_any or valid_all is wrong");
	}
	records_total += count;
	if (count) {
		batch.ifnames = some_names(&batch.ifname_count);
		add_rows(count);
		render(records, data, count);
		remove_rows();
		free((void *)batch.ifnames);
	}
	free(records);
}

int main(int argc, char **argv)
{
	uint64_t messages = 0, wanted = start(argc, argv);
	static uint8_t joined[DATAGRAM_MESSAGES * (SEED_MAX + 4)];
	static struct seed message;

	make_plan();
	while (messages < wanted) {
		uint32_t at = one_in(4) ? 4 * below(8) : 0, length = at;
		uint8_t *exact;

		memset(joined, 0xa5, at);
		for (uint32_t left = one_in(2) ? 1 : 1 + below(DATAGRAM_MESSAGES); left; left--, messages++) {
			mutated(&message);
			memcpy(joined + length, message.data, message.length);
			length += message.length;
			if (left > 1)
				for (; length & 3; length++)
					joined[length] = 0xa5;
		}
		exact = exactly(length, joined);
		tried = exact;
		tried_length = length;
		tried_number++;
		decode(exact, at);
		free(exact);
	}
	printf("%llu mutated messages, %llu records, %llu bytes of lines, %.1f seconds\n", (unsigned long long)messages,
	       (unsigned long long)records_total, (unsigned long long)rendered_bytes, seconds());
	for (uint32_t i = 0; i < COLUMNS; i++)
		free((void *)columns[i].label);
	free(seeds);
	return 0;
}
