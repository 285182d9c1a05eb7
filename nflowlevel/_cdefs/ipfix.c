// SPDX-License-Identifier: GPL-2.0-or-later
/* Records become rows, and rows messages of IPFIX; ipfix.h says how both look. Nothing is allocated. */
#define _GNU_SOURCE
#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "record.h"
#include "flow.h"
#include "ipfix.h"

/* RFC 7011, 3.1, 3.3.2, 3.4.1. */
enum { VERSION = 10, HEAD = 16, SET_HEAD = 4, TEMPLATE_SET = 2, MESSAGE_MAX = 65535 };
/* RFC 8158, 4.3: NAT44 session create, delete. */
enum { NAT44_CREATE = 4, NAT44_DELETE = 5 };
enum { BATCH_TIME = 255, NEWLINE = '\n', DATAGRAMS = 64 };
/* UDP_SEGMENT, which not all headers have; the longest datagram of IPv4. */
enum { SEGMENT = 103, PIECE_MAX = 65507 };

static inline uint8_t *put16(uint8_t *p, uint32_t n)
{
	uint16_t big = htobe16((uint16_t)n);

	memcpy(p, &big, sizeof(big));
	return p + sizeof(big);
}

static inline uint8_t *put32(uint8_t *p, uint32_t n)
{
	uint32_t big = htobe32(n);

	memcpy(p, &big, sizeof(big));
	return p + sizeof(big);
}

static inline uint8_t *put64(uint8_t *p, uint64_t n)
{
	uint64_t big = htobe64(n);

	memcpy(p, &big, sizeof(big));
	return p + sizeof(big);
}

static inline uint8_t *put_number(uint8_t *p, uint64_t n, uint32_t width)
{
	if (width < sizeof(n) && n >> 8 * width)
		n = ~0ULL;
	switch (width) {
	case 1:
		*p = (uint8_t)n;
		return p + 1;
	case 2:
		return put16(p, (uint32_t)n);
	case 4:
		return put32(p, (uint32_t)n);
	default:
		return put64(p, n);
	}
}

static inline uint32_t get32(const uint8_t *p)
{
	uint32_t n;

	memcpy(&n, p, sizeof(n));
	return n;
}

static inline uint64_t get64(const uint8_t *p)
{
	uint64_t n;

	memcpy(&n, p, sizeof(n));
	return n;
}

static inline uint32_t get16(const uint8_t *p)
{
	uint16_t n;

	memcpy(&n, p, sizeof(n));
	return n;
}

static inline uint64_t get_number(const uint8_t *p, uint32_t size)
{
	switch (size) {
	case 1:
		return *p;
	case 2:
		return get16(p);
	case 4:
		return get32(p);
	default:
		return get64(p);
	}
}

/* -- records become rows ------------------------------------------------------------------------------------------ */

static inline bool has(const uint8_t *record, uint32_t bit)
{
	return ((const struct nfl_any *)record)->valid >> bit & 1;
}

static bool is_translated(const struct nfl_flow *f)
{
	return memcmp(f->orig_ip_saddr, f->reply_ip_daddr, sizeof(f->orig_ip_saddr)) ||
	       memcmp(f->orig_ip_daddr, f->reply_ip_saddr, sizeof(f->orig_ip_daddr)) ||
	       (f->valid >> NFL_FLOW_PORTS & 1 &&
		(f->orig_l4_sport != f->reply_l4_dport || f->orig_l4_dport != f->reply_l4_sport));
}

static inline uint32_t class_of(const struct nfl_ipfix_plan *plan, const uint8_t *record)
{
	const struct nfl_flow *flow = (const void *)record;
	uint32_t class = 0;

	for (uint32_t i = 0; i < plan->condition_count; i++) {
		uint32_t condition = plan->conditions[i];
		bool holds;

		if (condition == NFL_IPFIX_TRANSLATED)
			holds = is_translated(flow);
		else if (condition == NFL_IPFIX_BEGINS_OR_ENDS)
			holds = flow->ct_event == NFL_FLOW_NEW || flow->ct_event == NFL_FLOW_DESTROY;
		else
			holds = has(record, condition);
		class |= (uint32_t)holds << i;
	}
	return class;
}

static uint8_t *put_time(uint8_t *p, const struct nfl_ipfix_plan *plan, const struct nfl_ipfix_field *field,
			 const struct nfl_batch *batch, const uint8_t *record)
{
	uint32_t width = field->width;
	uint64_t second = 0;
	uint32_t usec = 0;

	while (!has(record, field->valid) && field->otherwise != BATCH_TIME)
		field = plan->fields + field->otherwise;
	if (has(record, field->valid)) {
		second = get32(record + field->field);
		usec = get32(record + field->field2);
	} else if (batch->second > 0) {
		second = (uint64_t)batch->second;
		usec = batch->usec > 999999 ? 0 : batch->usec;
	}
	if (width == 4)
		return put_number(p, second, 4);
	return put64(p, second * 1000 + usec / 1000);
}

static uint8_t *put_text(uint8_t *p, const void *text, uint32_t length)
{
	*p++ = (uint8_t)length;		/* below 255: one byte (RFC 7011, 7) */
	memcpy(p, text, length);
	return p + length;
}

static inline uint8_t *put_field(uint8_t *p, const struct nfl_ipfix_plan *plan, const struct nfl_ipfix_field *f,
				 const struct nfl_batch *batch, const uint8_t *record)
{
	const uint8_t *at = record + f->field;
	uint32_t length;
	uint64_t sum;

	if (f->kind == NFL_IPFIX_TIME)
		return put_time(p, plan, f, batch, record);
	if (!has(record, f->valid)) {
		length = f->kind == NFL_IPFIX_CHARS || f->kind == NFL_IPFIX_TEXT ? 1 : f->width;
		memset(p, 0, length);
		return p + length;
	}
	switch (f->kind) {
	case NFL_IPFIX_UNSIGNED:
		return put_number(p, get_number(at, f->size) + f->add, f->width);
	case NFL_IPFIX_BYTES:
		memcpy(p, at, f->width);
		return p + f->width;
	case NFL_IPFIX_SUM:
		if (__builtin_add_overflow(get64(at), get64(record + f->field2), &sum))
			sum = ~0ULL;
		return put_number(p, sum, f->width);
	case NFL_IPFIX_PAIR:
		p[0] = *at;
		p[1] = record[f->field2];
		return p + 2;
	case NFL_IPFIX_TCP_FLAGS:
		*p = (uint8_t)(!!at[0] << 5 | !!at[1] << 4 | !!at[2] << 3 | !!at[3] << 2 | !!at[4] << 1 | !!at[5]);
		return p + 1;
	case NFL_IPFIX_NAT_EVENT:
		*p = get32(at) == NFL_FLOW_NEW ? NAT44_CREATE : NAT44_DELETE;
		return p + 1;
	case NFL_IPFIX_CHARS:
		return put_text(p, at, (uint32_t)strnlen((const char *)at, f->size));
	case NFL_IPFIX_TEXT:
		length = get16(record + f->field2);
		return put_text(p, batch->data + get32(at), length < f->size ? length : f->size);
	default:
		return p;
	}
}

size_t nfl_ipfix_row(uint8_t *row, size_t length)
{
	uint8_t *end = row + 2 + length, *last = row, *p = row + 1;

	while ((p = memchr(p, NEWLINE, (size_t)(end - p)))) {
		*last = (uint8_t)(p - last) ^ NEWLINE;
		last = p++;
	}
	*last = (uint8_t)(end - last) ^ NEWLINE;
	*end = NEWLINE;
	return length + 3;
}

size_t nfl_ipfix_encode(const struct nfl_ipfix_plan *plan, const struct nfl_batch *batch, uint32_t first, uint8_t *out,
			size_t size, uint32_t *done)
{
	const struct nfl_ipfix_field *fields = plan->fields, *end = fields + plan->count;
	const uint8_t *records = batch->records;
	uint8_t *row = out;
	uint32_t i;

	for (i = first; i < batch->count && (size_t)(out + size - row) >= NFL_IPFIX_ROW_MAX; i++) {
		const uint8_t *record = records + (size_t)(batch->rows ? batch->rows[i] : i) * batch->stride;
		uint32_t class = class_of(plan, record);
		uint8_t *p = row + 1;

		*p++ = (uint8_t)class;
		for (const struct nfl_ipfix_field *f = fields; f < end; f++)
			if ((class & f->mask) == f->value)
				p = put_field(p, plan, f, batch, record);
		row += nfl_ipfix_row(row, (size_t)(p - row) - 2);
	}
	*done = i;
	return (size_t)(row - out);
}

/* -- rows become messages ----------------------------------------------------------------------------------------- */

/* Write class and data record of a row to p; their bytes, 0 if it is no row. `length`: its bytes without the newline. */
static size_t unrow(uint8_t *p, const uint8_t *row, size_t length)
{
	size_t at = 0, step;

	if (length < 2 || length >= NFL_IPFIX_ROW_MAX)
		return 0;
	memcpy(p, row + 1, length - 1);
	for (;;) {
		step = row[at] ^ NEWLINE;
		if (!step || step > length - at)
			return 0;
		at += step;
		if (at == length)
			return length - 1;
		p[at - 1] = NEWLINE;
	}
}

struct message {
	uint8_t *start, *p;	/* NULL: there is none */
	uint8_t *set;		/* the set that is open, NULL: none */
	uint32_t id;		/* of its template */
	uint32_t records;
};

static void close_set(struct message *m)
{
	if (m->set)
		put16(m->set + 2, (uint32_t)(m->p - m->set));
	m->set = NULL;
}

static void open_set(struct message *m, uint32_t id)
{
	close_set(m);
	m->set = m->p;
	m->id = id;
	m->p = put16(m->p, id) + 2;
}

static void close_message(struct nfl_ipfix_session *s, struct message *m)
{
	uint8_t *p = m->start;

	if (!p)
		return;
	close_set(m);
	p = put16(p, VERSION);
	p = put16(p, (uint32_t)(m->p - m->start));
	p = put32(p, s->now);
	p = put32(p, s->sequence);
	put32(p, s->domain);
	s->sequence += m->records;
	s->messages++;
	m->start = NULL;
}

static void open_message(struct nfl_ipfix_session *s, struct message *m, uint8_t *at)
{
	m->start = at;
	m->p = at + HEAD;
	m->set = NULL;
	m->records = 0;
	if (s->announce == NFL_IPFIX_ALWAYS)
		s->round++;
}

/* Bytes that a record takes in a message, with its template if that has to be sent. */
static size_t needed(const struct nfl_ipfix_session *s, const struct message *m, const struct nfl_ipfix_template *t,
		     size_t length, bool fresh)
{
	bool announces = s->announce != NFL_IPFIX_NEVER &&
			 (t->announced != s->round || (fresh && s->announce == NFL_IPFIX_ALWAYS));
	size_t size = length;

	if (announces)
		size += SET_HEAD + t->size;
	if (fresh || announces || !m->set || m->id != t->id)
		size += SET_HEAD;
	return size;
}

size_t nfl_ipfix_pack(struct nfl_ipfix_session *s, const uint8_t *rows, size_t size, uint8_t *out, size_t room, size_t *used)
{
	const uint8_t *row = rows, *end = rows + size, *newline;
	struct message m = { .start = NULL };
	uint8_t *free_at = out;

	s->broken = 0;
	s->records = s->messages = 0;
	while (row < end && (newline = memchr(row, NEWLINE, (size_t)(end - row)))) {
		uint8_t record[NFL_IPFIX_ROW_MAX];
		size_t length = unrow(record, row, (size_t)(newline - row));
		struct nfl_ipfix_template *t = s->templates + (length ? record[0] : 0);

		if (!length || !t->definition || length - 1 < t->least || length - 1 > t->most) {
			s->broken = 1;
			break;
		}
		length--;
		if (m.start && (size_t)(m.p - m.start) + needed(s, &m, t, length, false) > s->mtu) {
			free_at = m.p;
			close_message(s, &m);
		}
		if (!m.start) {
			size_t least = HEAD + needed(s, &m, t, length, true);

			if ((size_t)(out + room - free_at) < (least > s->mtu ? least : s->mtu))
				break;
			open_message(s, &m, free_at);
		}
		if (s->announce != NFL_IPFIX_NEVER && t->announced != s->round) {
			t->announced = s->round;
			open_set(&m, TEMPLATE_SET);
			memcpy(m.p, t->definition, t->size);
			m.p += t->size;
		}
		if (!m.set || m.id != t->id)
			open_set(&m, t->id);
		memcpy(m.p, record + 1, length);
		m.p += length;
		m.records++;
		s->records++;
		row = newline + 1;
	}
	s->broken |= row < end && !memchr(row, NEWLINE, (size_t)(end - row));
	if (m.start)
		free_at = m.p;
	close_message(s, &m);
	*used = (size_t)(row - rows);
	return (size_t)(free_at - out);
}

/* Messages in one piece: the kernel splits what has a control part into datagrams of so many bytes (udp(7), UDP_SEGMENT). */
struct piece {
	struct iovec part;
	union {
		struct cmsghdr head;
		uint8_t bytes[CMSG_SPACE(sizeof(uint16_t))];
	} control;
};

/* Take the messages at the beginning of messages[0, size) that can go in one piece: of one length, only the last one is shorter.
 * `most`: no more than so many. Their bytes, 0 where there is no message. */
static uint32_t take_piece(struct piece *piece, struct msghdr *to, const uint8_t *messages, uint32_t size, uint32_t most)
{
	uint32_t bytes = 0, count = 0, first = 0, length;
	uint16_t each;

	while (count < most && size - bytes >= HEAD) {
		length = (uint32_t)messages[bytes + 2] << 8 | messages[bytes + 3];
		if (length < HEAD || length > size - bytes || (count && (length > first || bytes + length > PIECE_MAX)))
			break;
		first = count ? first : length;
		bytes += length;
		count++;
		if (length < first)
			break;
	}
	piece->part = (struct iovec){ .iov_base = (void *)messages, .iov_len = bytes };
	*to = (struct msghdr){ .msg_iov = &piece->part, .msg_iovlen = 1 };
	if (count > 1) {
		each = (uint16_t)first;
		to->msg_control = &piece->control;
		to->msg_controllen = sizeof(piece->control);
		piece->control.head = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(each)), .cmsg_level = IPPROTO_UDP,
							.cmsg_type = SEGMENT };
		memcpy(CMSG_DATA(&piece->control.head), &each, sizeof(each));
	}
	return bytes;
}

int nfl_ipfix_send(int fd, const uint8_t *messages, uint32_t size, uint32_t most, int pause_ms, uint32_t together)
{
	struct pollfd errors = { .fd = fd };	/* they are always told */
	uint32_t sent = 0, pause_at = most;

	while (sent < size) {
		struct mmsghdr datagrams[DATAGRAMS] = { 0 };
		struct piece pieces[DATAGRAMS];
		uint32_t count = 0, at = sent, bytes;
		int done;

		if (sent >= pause_at) {
			poll(&errors, 1, pause_ms);	/* what is sent behind an error fails */
			pause_at = sent + most;
		}
		while (count < DATAGRAMS && at < pause_at) {
			bytes = take_piece(pieces + count, &datagrams[count].msg_hdr, messages + at, size - at, together);
			if (!bytes)
				break;
			at += bytes;
			count++;
		}
		done = count ? sendmmsg(fd, datagrams, count, MSG_DONTWAIT | MSG_NOSIGNAL) : -1;
		if (done <= 0)
			return sent ? (int)sent : count ? -errno : -EBADMSG;
		for (int i = 0; i < done; i++)
			sent += (uint32_t)pieces[i].part.iov_len;
	}
	return (int)sent;
}
