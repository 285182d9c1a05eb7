// SPDX-License-Identifier: GPL-2.0-or-later
/* Plain lines of the kernel's LOG target as JSON. nflowlevel/analytics/loglines.py is the reader of all forms, and says what they
 * mean: where this one reads a line, it writes what that one would. */
#define _GNU_SOURCE		/* memmem */
#include <arpa/inet.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include "record.h"
#include "packet.h"
#include "render.h"
#include "put.h"
#include "logscan.h"

#define LITERAL(text) text, sizeof(text) - 1

/* A line: where it is read, where it ends, and where JSON is written. Readers return false where a line is not plain. */
struct text {
	const char *p, *end;
	char *out;
};

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_alnum(char c)
{
	return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_hex(char c)
{
	return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* Read a constant text, if it is there. */
static bool skip(struct text *t, const char *text, size_t length)
{
	if ((size_t)(t->end - t->p) < length || memcmp(t->p, text, length))
		return false;
	t->p += length;
	return true;
}

/* Read up to `most` digits of a number that is at most `limit`. */
static bool number(struct text *t, unsigned most, uint64_t limit, uint64_t *value)
{
	const char *start = t->p;
	uint64_t made = 0;

	for (; t->p < t->end && t->p < start + most && is_digit(*t->p); t->p++)
		made = made * 10 + (uint64_t)(*t->p - '0');
	*value = made;
	return t->p > start && made <= limit;
}

/* Read up to `most` hex digits. */
static bool hexadecimal(struct text *t, unsigned most, bool is_upper, uint32_t *value)
{
	const char *start = t->p;
	uint32_t made = 0;

	for (; t->p < t->end && t->p < start + most && is_hex(*t->p); t->p++) {
		if (!is_digit(*t->p) && is_upper != (*t->p < 'a'))
			return false;
		made = made << 4 | (uint32_t)(is_digit(*t->p) ? *t->p - '0' : (*t->p | 0x20) - 'a' + 10);
	}
	*value = made;
	return t->p > start;
}

/* What ends a value: a blank, which is read, or the end of the line. */
static bool over(struct text *t)
{
	if (t->p == t->end)
		return true;
	return *t->p++ == ' ';
}

static void say(struct text *t, const char *name, size_t length)
{
	t->out = put(t->out, name, length);
}

static void say_number(struct text *t, const char *name, size_t length, uint64_t value)
{
	say(t, name, length);
	t->out = put_u64(t->out, value);
}

static void say_text(struct text *t, const char *name, size_t length, const char *text, size_t size)
{
	say(t, name, length);
	*t->out++ = '"';
	t->out = put(t->out, text, size);
	*t->out++ = '"';
}

#define SAY(name, value) say_number(t, LITERAL(", \"" name "\": "), value)
#define SAY_TEXT(name, text, size) say_text(t, LITERAL(", \"" name "\": "), text, size)

/* Read a number behind its name. */
#define READ(label, most, limit, value) (skip(t, LITERAL(label)) && number(t, most, limit, value))

/* -- heads --------------------------------------------------------------------------------------------------------- */

uint32_t nfl_logscan_place(const struct nfl_logscan_minute *minute)
{
	uint32_t hash = 2166136261u;

	for (uint32_t i = 0; i < minute->length; i++)
		hash = (hash ^ (uint8_t)minute->text[i]) * 16777619u;
	return (hash ^ hash >> 15) % NFL_LOGSCAN_MINUTES;
}

/* Whether text has the form: 0 stands for a digit, a for a letter, _ for a digit or a blank. */
static bool has_form(const char *text, const char *form)
{
	for (; *form; text++, form++) {
		switch (*form) {
		case '0':
			if (!is_digit(*text))
				return false;
			break;
		case 'a':
			if (is_digit(*text) || !is_alnum(*text))
				return false;
			break;
		case '_':
			if (*text != ' ' && !is_digit(*text))
				return false;
			break;
		default:
			if (*text != *form)
				return false;
		}
	}
	return true;
}

static bool is_same(const struct nfl_logscan_minute *one, const struct nfl_logscan_minute *other)
{
	return one->length == other->length && one->zone_length == other->zone_length &&
	       !memcmp(one->text, other->text, one->length) && !memcmp(one->zone, other->zone, one->zone_length);
}

/* Read the time. false with `asked` set: its minute is not known. */
static bool stamp(struct nfl_logscan *s, struct text *t, int64_t *sec, uint32_t *usec)
{
	struct nfl_logscan_minute *asked = &s->asked;
	const struct nfl_logscan_minute *known;
	size_t left = (size_t)(t->end - t->p);
	uint64_t second;

	asked->zone_length = 0;
	*usec = 0;
	if (left > 16 && has_form(t->p, "aaa _0 00:00:00 "))
		asked->length = 13;
	else if (left > 20 && has_form(t->p, "0000-00-00") && (t->p[10] == 'T' || t->p[10] == ' ') && has_form(t->p + 11, "00:00:00"))
		asked->length = 17;
	else
		return false;
	memcpy(asked->text, t->p, asked->length);
	t->p += asked->length;
	if (!number(t, 2, 59, &second))
		goto odd;
	if (asked->length == 17) {
		if (*t->p == '.' || *t->p == ',') {
			uint32_t digits = 0;

			for (t->p++; t->p < t->end && is_digit(*t->p); t->p++)
				if (digits++ < 6)
					*usec = *usec * 10 + (uint32_t)(*t->p - '0');
			if (!digits || digits > 9)
				goto odd;
			for (; digits < 6; digits++)
				*usec *= 10;
		}
		left = (size_t)(t->end - t->p);
		if (left > 1 && *t->p == 'Z')
			asked->zone_length = 1;
		else if (left > 6 && (*t->p == '+' || *t->p == '-'))
			asked->zone_length = t->p[3] == ':' ? 6 : 5;
		if (asked->zone_length > 1 && !has_form(t->p + 1, asked->zone_length == 6 ? "00:00" : "0000"))
			goto odd;
		memcpy(asked->zone, t->p, asked->zone_length);
		t->p += asked->zone_length;
	}
	if (t->end - t->p < 2 || t->p[0] != ' ' || t->p[1] == ' ')
		goto odd;
	t->p++;
	known = &s->minutes[nfl_logscan_place(asked)];
	if (!is_same(known, asked))
		return false;
	*sec = known->sec + (int64_t)second;
	asked->length = 0;
	return known->sec > 0;
odd:
	asked->length = 0;
	return false;
}

static bool begins(const char *p, const char *end, const char *with, size_t length)
{
	return (size_t)(end - p) >= length && !memcmp(p, with, length);
}

/* Whether a text begins with a facility of syslog, as in `kern.warn`. */
static bool is_facility(const char *p, const char *end)
{
	return begins(p, end, LITERAL("kern.")) || begins(p, end, LITERAL("user.")) || begins(p, end, LITERAL("daemon.")) ||
	       begins(p, end, LITERAL("syslog.")) || (begins(p, end, LITERAL("local")) && end - p > 6 && p[6] == '.');
}

/* Read `[   17.250000]` and `[T123]` behind it, if it is there, but nothing else in brackets; false: it begins as one of these. */
static bool uptime(struct text *t)
{
	const char *start = t->p;
	uint64_t any;

	if (!skip(t, LITERAL("[")))
		return true;
	while (t->p < t->end && *t->p == ' ')
		t->p++;
	if (t->p == t->end || !is_digit(*t->p)) {
		t->p = start;
		return true;
	}
	if (t->p - start > 13 || !number(t, 12, UINT64_MAX, &any) || !skip(t, LITERAL(".")) || !number(t, 9, UINT64_MAX, &any) ||
	    !skip(t, LITERAL("]")))
		return false;
	start = t->p;
	if (skip(t, LITERAL("["))) {
		while (t->p < t->end && *t->p == ' ')
			t->p++;
		if (t->p - start > 10)
			return false;
		if (!skip(t, LITERAL("T")) && !skip(t, LITERAL("C")))
			t->p = start;
		else if (!number(t, 9, UINT64_MAX, &any) || !skip(t, LITERAL("]")))
			return false;
	}
	(void)skip(t, LITERAL(" "));
	return true;
}

enum tag { NO_TAG, KERNEL, ULOGD };

/* Read host, tag and uptime; all of it lies before t->end, which is where the prefix ends. */
static bool head(struct text *t, enum tag *tag)
{
	const char *host = t->p;
	uint64_t any;

	while (t->p < t->end && (is_alnum(*t->p) || *t->p == '.' || *t->p == ':' || *t->p == '_' || *t->p == '-'))
		t->p++;
	if (t->p == host || t->p - host > 255 || !is_alnum(*host) || !is_alnum(t->p[-1]) || is_facility(host, t->p) ||
	    begins(host, t->p, LITERAL("kernel")) || begins(host, t->p, LITERAL("ulogd")))
		return false;
	SAY_TEXT("dvc", host, (size_t)(t->p - host));
	if (!skip(t, LITERAL(" ")) || is_facility(t->p, t->end))
		return false;
	*tag = skip(t, LITERAL("kernel")) ? KERNEL : skip(t, LITERAL("ulogd")) ? ULOGD : NO_TAG;
	if (*tag != NO_TAG) {
		if (skip(t, LITERAL("[")) && (!number(t, 10, UINT64_MAX, &any) || !skip(t, LITERAL("]"))))
			return false;
		if (!skip(t, LITERAL(":")))
			return false;
		(void)skip(t, LITERAL(" "));
	}
	return uptime(t);
}

/* -- bodies -------------------------------------------------------------------------------------------------------- */

/* Read a name of an interface, up to a blank or the end. */
static bool word(struct text *t, const char **start)
{
	for (*start = t->p; t->p < t->end && *t->p != ' '; t->p++)
		if (*t->p < 0x21 || *t->p > 0x7e || *t->p == '"' || *t->p == '\\')
			return false;
	return t->p - *start <= 64;
}

static bool mac(struct text *t)
{
	char text[192];
	unsigned length = 0;

	for (; t->p < t->end && *t->p != ' '; t->p++, length++) {
		if (length == 191 || (length % 3 == 2 ? *t->p != ':' : !is_hex(*t->p)))
			return false;
		text[length] = *t->p >= 'A' && *t->p <= 'F' ? (char)(*t->p | 0x20) : *t->p;
	}
	if (!length)
		return true;
	if (length % 3 != 2)
		return false;
	SAY_TEXT("mac.str", text, length);
	SAY("raw.mac_len", (length + 1) / 3);
	if (length == 41) {
		SAY_TEXT("mac.daddr.str", text, 17);
		SAY_TEXT("mac.saddr.str", text + 18, 17);
	}
	return true;
}

/* Read an address of Ethernet, whose form nobody checks. */
static bool address6(struct text *t, const char **start)
{
	for (*start = t->p; t->p < t->end && *t->p != ' '; t->p++)
		if (!is_digit(*t->p) && !(*t->p >= 'a' && *t->p <= 'f') && *t->p != ':')
			return false;
	return t->p - *start == 17;
}

/* Read what stands between `IN=` and the packet. */
static bool link_layer(struct text *t)
{
	const char *value, *other;
	uint32_t type;

	if (!skip(t, LITERAL("IN=")) || !word(t, &value))
		return false;
	SAY_TEXT("oob.in", value, (size_t)(t->p - value));
	if (!skip(t, LITERAL(" OUT=")) || !word(t, &value))
		return false;
	SAY_TEXT("oob.out", value, (size_t)(t->p - value));
	if (skip(t, LITERAL(" PHYSIN="))) {
		if (!word(t, &value))
			return false;
		if (t->p > value)
			SAY_TEXT("oob.physin", value, (size_t)(t->p - value));
	}
	if (skip(t, LITERAL(" PHYSOUT="))) {
		if (!word(t, &value))
			return false;
		if (t->p > value)
			SAY_TEXT("oob.physout", value, (size_t)(t->p - value));
	}
	if (skip(t, LITERAL(" MAC="))) {
		if (!mac(t))
			return false;
	} else if (skip(t, LITERAL(" MACSRC="))) {
		if (!address6(t, &value) || !skip(t, LITERAL(" MACDST=")) || !address6(t, &other))
			return false;
		SAY_TEXT("mac.saddr.str", value, 17);
		SAY_TEXT("mac.daddr.str", other, 17);
		value = t->p + sizeof(" MACPROTO=") - 1;
		if (!skip(t, LITERAL(" MACPROTO=")) || !hexadecimal(t, 4, false, &type) || t->p - value != 4)
			return false;
	}
	return skip(t, LITERAL(" "));
}

/* Read an address, and copy it if that is how it is written. */
static bool address4(struct text *t)
{
	const char *start = t->p;
	uint64_t part;

	for (int i = 0; i < 4; i++) {
		const char *digits;

		if (i && !skip(t, LITERAL(".")))
			return false;
		digits = t->p;
		if (!number(t, 3, 255, &part) || (*digits == '0' && t->p - digits > 1))
			return false;
	}
	t->out = put(t->out, start, (size_t)(t->p - start));
	*t->out++ = '"';
	return skip(t, LITERAL(" "));
}

static bool address16(struct text *t, bool *is_whole)
{
	char text[INET6_ADDRSTRLEN];
	uint8_t address[16];
	uint32_t length = 0;

	for (; t->p < t->end && *t->p != ' ' && length < sizeof(text) - 1; t->p++)
		text[length++] = *t->p;
	text[length] = 0;
	if (strspn(text, "0123456789abcdef:.") != length || inet_pton(AF_INET6, text, address) != 1)
		return false;
	if (length < 39)
		*is_whole = false;
	t->out = put_addr6(t->out, address);
	*t->out++ = '"';
	return skip(t, LITERAL(" "));
}

/* What the rest of a line depends on. */
struct packet {
	bool is_printed;		/* by PRINTPKT, not by the kernel */
	bool is_6;
	bool is_named;			/* the protocol has a name */
	uint32_t protocol;
};

static bool protocol(struct text *t, struct packet *packet)
{
	static const struct { const char *name; uint8_t length, number; } names[] = {
		{ "TCP ", 4, 6 }, { "UDP ", 4, 17 }, { "ICMP ", 5, 1 }, { "ICMPv6 ", 7, 58 }, { "SCTP ", 5, 132 },
	};
	uint64_t value;

	if (!skip(t, LITERAL("PROTO=")))
		return false;
	for (unsigned i = 0; i < sizeof(names) / sizeof(*names); i++) {
		if (skip(t, names[i].name, names[i].length)) {
			packet->protocol = names[i].number;
			packet->is_named = true;
			return true;
		}
	}
	/* Of a header of IPv6, a number alone does not say which one of those it is. */
	if (packet->is_6 || !number(t, 3, 255, &value))
		return false;
	packet->protocol = (uint32_t)value;
	return over(t);
}

static bool ip4(struct text *t, struct packet *packet)
{
	uint64_t length, ttl, id;
	uint32_t tos, precedence, flags = 0;
	const char *digits;

	say(t, LITERAL(", \"oob.protocol\": 2048, \"src_ip\": \""));
	if (!skip(t, LITERAL("SRC=")) || !address4(t))
		return false;
	say(t, LITERAL(", \"dest_ip\": \""));
	if (!skip(t, LITERAL("DST=")) || !address4(t) || !READ("LEN=", 5, UINT16_MAX, &length) || !skip(t, LITERAL(" TOS=")))
		return false;
	packet->is_printed = !skip(t, LITERAL("0x"));
	digits = t->p;
	if (!hexadecimal(t, 2, true, &tos) || t->p - digits != 2 || !skip(t, LITERAL(" PREC=0x")))
		return false;
	digits = t->p;
	if (!hexadecimal(t, 2, true, &precedence) || t->p - digits != 2)
		return false;
	if (!READ(" TTL=", 3, UINT8_MAX, &ttl) || !READ(" ID=", 5, UINT16_MAX, &id) || !skip(t, LITERAL(" ")))
		return false;
	flags |= (uint32_t)skip(t, LITERAL("CE ")) << 15;
	flags |= (uint32_t)skip(t, LITERAL("DF ")) << 14;
	flags |= (uint32_t)skip(t, LITERAL("MF ")) << 13;
	if (!protocol(t, packet))
		return false;
	SAY("ip.totlen", length);
	SAY("ip.ttl", ttl);
	SAY("ip.id", id);
	SAY("ip.tos", tos | precedence);
	SAY("ip.fragoff", flags);
	SAY("ip.protocol", packet->protocol);
	return true;
}

static bool ip6(struct text *t, struct packet *packet)
{
	uint64_t length, priority, hops, label;
	bool is_whole = true;

	say(t, LITERAL(", \"oob.protocol\": 34525, \"src_ip\": \""));
	if (!skip(t, LITERAL("SRC=")) || !address16(t, &is_whole))
		return false;
	say(t, LITERAL(", \"dest_ip\": \""));
	if (!skip(t, LITERAL("DST=")) || !address16(t, &is_whole) || !READ("LEN=", 5, UINT16_MAX, &length) || length < 40 ||
	    !READ(" TC=", 3, UINT8_MAX, &priority) || !READ(" HOPLIMIT=", 3, UINT8_MAX, &hops) ||
	    !READ(" FLOWLBL=", 7, 0xfffff, &label) || !skip(t, LITERAL(" ")))
		return false;
	packet->is_6 = true;
	packet->is_printed = !is_whole;
	if (!protocol(t, packet))
		return false;
	SAY("ip6.payloadlen", length - 40);
	SAY("ip6.priority", priority);
	SAY("ip6.hoplimit", hops);
	SAY("ip6.flowlabel", label);
	SAY("ip6.nexthdr", packet->protocol);
	SAY("ip.protocol", packet->protocol);
	return true;
}

static bool ports(struct text *t)
{
	uint64_t source, destination;

	if (!READ("SPT=", 5, UINT16_MAX, &source) || !READ(" DPT=", 5, UINT16_MAX, &destination))
		return false;
	SAY("src_port", source);
	SAY("dest_port", destination);
	return true;
}

static bool tcp(struct text *t, struct packet *packet)
{
	static const struct { const char *text; uint8_t length; } names[] = {
		{ "AE ", 3 }, { "CWR ", 4 }, { "ECE ", 4 }, { "URG ", 4 }, { "ACK ", 4 }, { "PSH ", 4 }, { "RST ", 4 }, { "SYN ", 4 },
		{ "FIN ", 4 },
	};
	enum { AE, CWR, ECE, URG, ACK, PSH, RST, SYN, FIN };
	uint64_t sequence = 0, acknowledged = 0, window, urgent;
	uint32_t reserved = 0, flags = 0;
	bool has_sequence, has_reserved;

	if (!ports(t) || !skip(t, LITERAL(" ")))
		return false;
	has_sequence = skip(t, LITERAL("SEQ="));
	if (has_sequence && (!number(t, 10, UINT32_MAX, &sequence) || !READ(" ACK=", 10, UINT32_MAX, &acknowledged) ||
			     !skip(t, LITERAL(" "))))
		return false;
	if (!READ("WINDOW=", 5, UINT16_MAX, &window) || !skip(t, LITERAL(" ")))
		return false;
	has_reserved = skip(t, LITERAL("RES=0x"));
	if (has_reserved) {
		const char *digits = t->p;

		if (!hexadecimal(t, 2, false, &reserved) || t->p - digits != 2 || !skip(t, LITERAL(" ")))
			return false;
	}
	for (unsigned i = 0; i < sizeof(names) / sizeof(*names); i++)
		flags |= (uint32_t)skip(t, names[i].text, names[i].length) << i;
	if (!READ("URGP=", 5, UINT16_MAX, &urgent))
		return false;
	SAY("tcp.window", window);
	if (has_sequence) {
		SAY("tcp.seq", sequence);
		SAY("tcp.ackseq", acknowledged);
	}
	SAY("tcp.urg", flags >> URG & 1);
	SAY("tcp.ack", flags >> ACK & 1);
	SAY("tcp.psh", flags >> PSH & 1);
	SAY("tcp.rst", flags >> RST & 1);
	SAY("tcp.syn", flags >> SYN & 1);
	SAY("tcp.fin", flags >> FIN & 1);
	if (flags >> URG & 1)
		SAY("tcp.urgp", urgent);
	if (has_reserved) {
		SAY("tcp.reserved", (reserved >> 2 & 0xf) | (flags >> AE & 1));
		SAY("tcp.res1", (reserved >> 2 & 0xf) | (flags >> AE & 1));
		SAY("tcp.res2", (flags >> CWR & 1) << 1 | (flags >> ECE & 1));
	}
	packet->is_printed |= has_sequence && !has_reserved;
	if (skip(t, LITERAL(" OPT ("))) {
		char text[80];
		uint32_t length = 0;

		for (; t->p < t->end && *t->p != ')'; t->p++) {
			if (length == sizeof(text) || !is_hex(*t->p) || *t->p >= 'a')
				return false;
			text[length++] = is_digit(*t->p) ? *t->p : (char)(*t->p | 0x20);
		}
		if (!skip(t, LITERAL(")")))
			return false;
		SAY_TEXT("tcp.options", text, length);
		SAY("tcp.offset", 5 + (length + 7) / 8);
	}
	return over(t);
}

static bool udp(struct text *t)
{
	uint64_t length;

	if (!ports(t) || !READ(" LEN=", 5, UINT16_MAX, &length))
		return false;
	SAY("udp.len", length);
	return over(t);
}

static bool icmp(struct text *t, bool is_6)
{
	uint64_t type, code, id, sequence;

	if (!READ("TYPE=", 3, UINT8_MAX, &type) || !READ(" CODE=", 3, UINT8_MAX, &code) || !over(t))
		return false;
	if (is_6) {
		SAY("icmpv6.type", type);
		SAY("icmpv6.code", code);
	} else {
		SAY("icmp.type", type);
		SAY("icmp.code", code);
	}
	if (!skip(t, LITERAL("ID=")))
		return true;
	if (!number(t, 5, UINT16_MAX, &id) || !READ(" SEQ=", 5, UINT16_MAX, &sequence) || !over(t))
		return false;
	if (is_6 && (type == 128 || type == 129)) {
		SAY("icmpv6.echoid", id);
		SAY("icmpv6.echoseq", sequence);
	} else if (!is_6 && (type == 0 || type == 8)) {
		SAY("icmp.echoid", id);
		SAY("icmp.echoseq", sequence);
	}
	return true;
}

static bool tail(struct text *t, struct packet *packet)
{
	uint64_t value;
	uint32_t mark;

	if (skip(t, LITERAL("UID="))) {
		if (!number(t, 10, UINT32_MAX, &value) || !over(t))
			return false;
		SAY("oob.uid", value);
	}
	if (skip(t, LITERAL("GID="))) {
		if (!number(t, 10, UINT32_MAX, &value) || !over(t))
			return false;
		SAY("oob.gid", value);
	}
	if (skip(t, LITERAL("MARK=0x"))) {
		const char *digits = t->p;

		if (!hexadecimal(t, 8, false, &mark))
			return false;
		packet->is_printed |= t->p - digits == 1 && !mark;
		if (!over(t))
			return false;
		SAY("oob.mark", mark);
	}
	(void)skip(t, LITERAL(" "));
	(void)skip(t, LITERAL(" "));
	return t->p == t->end;
}

static bool body(struct text *t, struct packet *packet)
{
	bool is_read;
	const char *start;
	char *out;

	if (!link_layer(t))
		return false;
	start = t->p;
	out = t->out;
	if (!ip4(t, packet)) {
		t->p = start;
		t->out = out;
		if (!ip6(t, packet))
			return false;
	}
	if (!packet->is_named)
		is_read = true;
	else if (packet->protocol == 6)
		is_read = tcp(t, packet);
	else if (packet->protocol == 17)
		is_read = udp(t);
	else if (packet->protocol == 132)
		is_read = ports(t) && over(t);
	else
		is_read = icmp(t, packet->protocol == 58);
	return is_read && tail(t, packet);
}

/* -- lines --------------------------------------------------------------------------------------------------------- */

/* Where the last ` OUT=` of a line begins, NULL where there is none. */
static const char *last_out(const char *line, const char *end)
{
	const char *found = NULL, *next;

	while ((next = memmem(line, (size_t)(end - line), LITERAL(" OUT=")))) {
		found = next;
		line = next + 1;
	}
	return found;
}

/* Where the `IN=` before it begins: at most 64 bytes of a name lie between; NULL where there is none. */
static const char *last_in(const char *line, const char *out)
{
	size_t before = (size_t)(out - line);

	for (size_t back = 3; back <= before && back <= 67; back++)
		if (!memcmp(out - back, "IN=", 3))
			return out - back;
	return NULL;
}

/* Write the line from `line` to `end`, whose packet begins at `start`, to where s->out goes on; false where it is not plain. */
static bool convert(struct nfl_logscan *s, const char *line, const char *start, const char *end)
{
	struct packet packet = { 0 };
	struct text made = { line, end, s->out + s->used }, *t = &made;
	const char *prefix;
	enum tag tag;
	size_t length;
	int64_t sec;
	uint32_t usec;

	s->asked.length = 0;
	if (!stamp(s, t, &sec, &usec))
		return false;
	say_number(t, LITERAL("{\"oob.time.sec\": "), (uint64_t)sec);
	SAY("oob.time.usec", usec);
	say(t, LITERAL(", \"raw.pktcount\": 1"));
	t->end = start;
	if (t->p > start || !head(t, &tag))
		return false;
	prefix = t->p;
	length = (size_t)(start - prefix);
	if (length >= 17 && !memcmp(prefix, "message repeated ", 17))
		return false;
	for (const char *p = prefix; p < start; p++)
		if (*p < 0x20 || *p > 0x7e || *p == '"' || *p == '\\')
			return false;
	t->p = start;
	t->end = end;
	if (!body(t, &packet))
		return false;
	if (length) {
		/* PRINTPKT ends a prefix with a blank of its own. */
		if (prefix[length - 1] == ' ' && tag != KERNEL && (packet.is_printed || tag == ULOGD))
			length--;
		SAY_TEXT("oob.prefix", prefix, length);
	}
	t->out = put(t->out, LITERAL("}\n"));
	s->used = (uint32_t)(t->out - s->out);
	return true;
}

uint32_t nfl_logscan_lines(struct nfl_logscan *s, const char *data, uint32_t size, uint32_t *why)
{
	const char *p = data, *end = data + size;

	while (p < end) {
		const char *newline = memchr(p, '\n', (size_t)(end - p)), *stop = newline ? newline : end;
		const char *out, *in;

		*why = NFL_LOGSCAN_FULL;
		if (s->size - s->used < NFL_LOGSCAN_ROOM)
			return (uint32_t)(p - data);
		*why = NFL_LOGSCAN_ODD;
		if (stop - p > NFL_LOGSCAN_LINE_MAX)
			return (uint32_t)(p - data);
		if (p < stop) {
			out = last_out(p, stop);
			in = out ? last_in(p, out) : NULL;
			if (in) {
				if (!convert(s, p, in, stop)) {
					if (s->asked.length)
						*why = NFL_LOGSCAN_TIME;
					return (uint32_t)(p - data);
				}
				s->packets++;
			} else if (!memmem(p, (size_t)(stop - p), LITERAL("SRC="))) {
				s->other++;
			} else {
				return (uint32_t)(p - data);
			}
			s->lines++;
		}
		p = newline ? newline + 1 : end;
	}
	*why = NFL_LOGSCAN_END;
	return (uint32_t)(p - data);
}
