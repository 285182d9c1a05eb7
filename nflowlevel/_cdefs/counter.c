// SPDX-License-Identifier: GPL-2.0-or-later
/* Netlink messages of nfnetlink_acct to counters (attributes: net/netfilter/nfnetlink_acct.c, nfnl_acct_fill_info).
 *
 * No length in a message is believed: each read is checked against the bytes that are there. */
#include <endian.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <linux/netlink.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_acct.h>

#include "descriptor.h"
#include "counter.h"

#define COUNTER_MESSAGE (NFNL_SUBSYS_ACCT << 8 | NFNL_MSG_ACCT_NEW)

static bool be64_attribute(const uint8_t *value, uint32_t length, uint64_t *to)
{
	if (length < sizeof(*to))
		return false;
	memcpy(to, value, sizeof(*to));
	*to = be64toh(*to);
	return true;
}

static bool be32_attribute(const uint8_t *value, uint32_t length, uint32_t *to)
{
	if (length < sizeof(*to))
		return false;
	memcpy(to, value, sizeof(*to));
	*to = be32toh(*to);
	return true;
}

static bool name_attribute(struct nfl_counter *c, const uint8_t *value, uint32_t length)
{
	uint32_t used = (uint32_t)strnlen((const char *)value, length);

	if (!used || used >= sizeof(c->name))
		return false;
	memset(c->name, 0, sizeof(c->name));
	memcpy(c->name, value, used);
	return true;
}

/* One message of `length` bytes (nlmsghdr and nfgenmsg included); false when it is malformed. */
static bool counter(struct nfl_counter *c, const uint8_t *message, uint32_t length)
{
	uint32_t at = NFL_COUNTER_MESSAGE_MIN;
	bool named = false, packets = false, bytes = false;
	struct nlattr head;

	if (length < NFL_COUNTER_MESSAGE_MIN)
		return false;
	memset(c, 0, sizeof(*c));
	c->valid = 1ULL << NFL_COUNTER_ALWAYS;
	c->length = (uint16_t)NLMSG_ALIGN(length);
	while (length - at >= NLA_HDRLEN) {
		const uint8_t *value = message + at + NLA_HDRLEN;
		uint32_t size, step;

		memcpy(&head, message + at, sizeof(head));
		if (head.nla_len < NLA_HDRLEN || head.nla_len > length - at)
			return false;
		size = head.nla_len - NLA_HDRLEN;
		step = NLA_ALIGN(head.nla_len);
		at = step < length - at ? at + step : length;
		switch (head.nla_type & NLA_TYPE_MASK) {
		case NFACCT_NAME:
			named = name_attribute(c, value, size);
			c->head = (uint16_t)at;
			break;
		case NFACCT_PKTS:
			packets = be64_attribute(value, size, &c->packets);
			break;
		case NFACCT_BYTES:
			bytes = be64_attribute(value, size, &c->bytes);
			break;
		case NFACCT_USE:
			be32_attribute(value, size, &c->uses);
			break;
		case NFACCT_FLAGS:
			be32_attribute(value, size, &c->flags);
			break;
		case NFACCT_QUOTA:
			be64_attribute(value, size, &c->quota);
			break;
		}
	}
	return named && packets && bytes;
}

/* What NLMSG_ERROR and NLMSG_DONE carry: 0 or -errno. */
static int result(const uint8_t *message, uint32_t length)
{
	int32_t error = 0;

	if (length >= NLMSG_HDRLEN + sizeof(error))
		memcpy(&error, message + NLMSG_HDRLEN, sizeof(error));
	return error < 0 ? error : 0;
}

int nfl_counters_decode(struct nfl_answer *a, const uint8_t *data, uint32_t length, struct nfl_counter *counters,
			uint32_t room)
{
	uint32_t at = 0, step;
	struct nlmsghdr head;

	a->used = length;
	while (length - at >= sizeof(head)) {
		memcpy(&head, data + at, sizeof(head));
		if (head.nlmsg_len < sizeof(head) || head.nlmsg_len > length - at) {
			a->malformed++;
			break;
		}
		/* What is left of an answer that was given up has another number. */
		if (head.nlmsg_seq == a->seq) {
			if (head.nlmsg_flags & NLM_F_DUMP_INTR)
				a->interrupted = 1;
			if (head.nlmsg_type == NLMSG_ERROR || head.nlmsg_type == NLMSG_DONE)
				return result(data + at, head.nlmsg_len);
			if (head.nlmsg_type == COUNTER_MESSAGE) {
				if (a->count < room && counter(counters + a->count, data + at, head.nlmsg_len))
					a->count++;
				else
					a->malformed++;
			}
		}
		step = NLMSG_ALIGN(head.nlmsg_len);
		at = step < length - at ? at + step : length;
	}
	return 1;
}

int nfl_counters_receive(struct nfl_answer *a, int fd, uint8_t *buffer, uint32_t size, struct nfl_counter *counters,
			 uint32_t room)
{
	int64_t got = nfl_netlink_receive(fd, buffer, size, &a->foreign);

	if (got < 0)
		return (int)got;
	if (got > size) {
		a->malformed++;
		return -EMSGSIZE;
	}
	return nfl_counters_decode(a, buffer, (uint32_t)got, counters, room);
}

uint32_t nfl_counters_room(const struct nfl_counter *counters, uint32_t first, uint32_t count, uint32_t least, uint32_t most,
			   uint32_t *next)
{
	uint32_t size = least, used = 0, i;

	for (i = first; i < count; i++) {
		const struct nfl_counter *c = counters + i;

		if (used + c->length > size) {
			/* Room for less than the name: the kernel stops before it has touched the object. */
			if (size - used < c->head)
				break;
			size = used + c->length;
			if (size > most)
				return 0;
		}
		used += c->length;
	}
	*next = i;
	return size;
}

uint32_t nfl_counters_names(const struct nfl_counter *counters, uint32_t count, char *out)
{
	char *end = out;

	for (uint32_t i = 0; i < count; i++) {
		size_t length = strnlen(counters[i].name, sizeof(counters[i].name) - 1);

		memcpy(end, counters[i].name, length);
		end += length;
		*end++ = '\0';
	}
	return (uint32_t)(end - out);
}

void nfl_counters_stamp(struct nfl_counter *counters, uint32_t count, uint32_t sec, uint32_t usec)
{
	for (struct nfl_counter *c = counters; c < counters + count; c++) {
		c->time_sec = sec;
		c->time_usec = usec;
		c->valid |= 1ULL << NFL_COUNTER_TIME;
	}
}
