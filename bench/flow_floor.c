/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * flow_floor SOCKET_BUFFER FILE: the least that a flow can cost. Hears of the ends of flows, reads out of each message what a line has
 * to say and writes it as JSON, the same line as NFCT, IP2STR and JSON make; ends on SIGTERM and prints {"flows": N}. Nothing is
 * checked but the kernel's lengths, no address can be IPv6, no text needs escaping.
 */
#define _GNU_SOURCE
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>

enum { TEXT_MAX = 1 << 20, ENOUGH = TEXT_MAX - 8192 };

struct flow {
	uint32_t addresses[4], mark, id;
	uint16_t ports[4];
	uint8_t protocol;
	uint64_t counts[4], start, stop;
};

static volatile sig_atomic_t ended;
static char text[TEXT_MAX];
static size_t used;

static void stop(int number)
{
	(void)number;
	ended = 1;
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void put(const char *words)
{
	size_t length = strlen(words);

	memcpy(text + used, words, length);
	used += length;
}

static void number(uint64_t value)
{
	char digits[20];
	int at = 20;

	do
		digits[--at] = (char)('0' + value % 10);
	while (value /= 10);
	memcpy(text + used, digits + at, (size_t)(20 - at));
	used += (size_t)(20 - at);
}

static void member(const char *name, uint64_t value)
{
	put(name);
	number(value);
}

static void address(const char *name, uint32_t value)
{
	const uint8_t *bytes = (const uint8_t *)&value;

	put(name);
	for (int i = 0; i < 4; i++) {
		if (i)
			text[used++] = '.';
		number(bytes[i]);
	}
	text[used++] = '"';
}

static void tuple(struct flow *f, const struct nlattr *nest, int way)
{
	const struct nlattr *part, *a;

	mnl_attr_for_each_nested(part, nest) {
		mnl_attr_for_each_nested(a, part) {
			uint16_t type = mnl_attr_get_type(a);

			if (mnl_attr_get_type(part) == CTA_TUPLE_IP && type <= CTA_IP_V4_DST)
				f->addresses[2 * way + type - 1] = mnl_attr_get_u32(a);
			else if (mnl_attr_get_type(part) == CTA_TUPLE_PROTO && type == CTA_PROTO_NUM)
				f->protocol = mnl_attr_get_u8(a);
			else if (mnl_attr_get_type(part) == CTA_TUPLE_PROTO && type <= CTA_PROTO_DST_PORT)
				f->ports[2 * way + type - 2] = ntohs(mnl_attr_get_u16(a));
		}
	}
}

static void pair(uint64_t *to, const struct nlattr *nest)
{
	const struct nlattr *a;

	mnl_attr_for_each_nested(a, nest)
		if (mnl_attr_get_type(a) == 1 || mnl_attr_get_type(a) == 2)
			to[mnl_attr_get_type(a) - 1] = be64toh(mnl_attr_get_u64(a));
}

static void line(const struct nlmsghdr *nlh, const char *now)
{
	struct flow f = { 0 };
	const struct nlattr *a;

	mnl_attr_for_each(a, nlh, sizeof(struct nfgenmsg)) {
		switch (mnl_attr_get_type(a)) {
		case CTA_TUPLE_ORIG:
		case CTA_TUPLE_REPLY:
			tuple(&f, a, mnl_attr_get_type(a) - 1);
			break;
		case CTA_COUNTERS_ORIG:
		case CTA_COUNTERS_REPLY:
			pair(f.counts + 2 * (mnl_attr_get_type(a) - CTA_COUNTERS_ORIG), a);
			break;
		case CTA_TIMESTAMP:
			pair(&f.start, a);
			break;
		case CTA_MARK:
			f.mark = ntohl(mnl_attr_get_u32(a));
			break;
		case CTA_ID:
			f.id = ntohl(mnl_attr_get_u32(a));
			break;
		}
	}
	put("{\"timestamp\": \"");
	put(now);
	member("\", \"dvc\": \"Netfilter\", \"orig.ip.protocol\": ", f.protocol);
	member(", \"orig.l4.sport\": ", f.ports[0]);
	member(", \"orig.l4.dport\": ", f.ports[1]);
	member(", \"orig.raw.pktlen\": ", f.counts[1]);
	member(", \"orig.raw.pktcount\": ", f.counts[0]);
	member(", \"reply.ip.protocol\": ", f.protocol);
	member(", \"reply.l4.sport\": ", f.ports[2]);
	member(", \"reply.l4.dport\": ", f.ports[3]);
	member(", \"reply.raw.pktlen\": ", f.counts[3]);
	member(", \"reply.raw.pktcount\": ", f.counts[2]);
	member(", \"ct.mark\": ", f.mark);
	member(", \"ct.id\": ", f.id);
	member(", \"ct.event\": ", 4);
	member(", \"flow.start.sec\": ", f.start / 1000000000);
	member(", \"flow.start.usec\": ", f.start % 1000000000 / 1000);
	member(", \"flow.end.sec\": ", f.stop / 1000000000);
	member(", \"flow.end.usec\": ", f.stop % 1000000000 / 1000);
	put(", \"oob.family\": 2, \"oob.protocol\": 0");
	address(", \"src_ip\": \"", f.addresses[0]);
	address(", \"dest_ip\": \"", f.addresses[1]);
	address(", \"reply.ip.saddr.str\": \"", f.addresses[2]);
	address(", \"reply.ip.daddr.str\": \"", f.addresses[3]);
	put("}\n");
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = stop };
	static char data[65536];
	uint64_t flows = 0, overruns = 0;
	struct mnl_socket *nl;
	int out, buffer, group = NFNLGRP_CONNTRACK_DESTROY;

	if (argc != 3) {
		fprintf(stderr, "usage: flow_floor SOCKET_BUFFER FILE\n");
		return 2;
	}
	nl = mnl_socket_open2(NETLINK_NETFILTER, SOCK_NONBLOCK);
	if (!nl || mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID))
		die("netlink socket");
	buffer = atoi(argv[1]);
	if (setsockopt(mnl_socket_get_fd(nl), SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof(buffer)))
		die("SO_RCVBUFFORCE");
	if (mnl_socket_setsockopt(nl, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)))
		die("NETLINK_ADD_MEMBERSHIP");
	sigaction(SIGTERM, &action, NULL);
	if ((out = open(argv[2], O_WRONLY | O_CREAT | O_APPEND, 0644)) < 0)
		die(argv[2]);
	while (!ended) {
		struct pollfd wait = { .fd = mnl_socket_get_fd(nl), .events = POLLIN };
		time_t now = time(NULL);
		char stamp[32];
		ssize_t n;

		strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S%z", localtime(&now));
		while ((n = recv(wait.fd, data, sizeof(data), 0)) > 0) {
			line((struct nlmsghdr *)data, stamp);
			flows++;
			if (used > ENOUGH)
				break;
		}
		overruns += n < 0 && errno == ENOBUFS;
		if (used && write(out, text, used) < 0)
			die("write");
		used = 0;
		if (n < 0) {
			if (poll(&wait, 1, -1) > 0)
				usleep(5000);	/* so that more can be read at once */
		}
	}
	printf("{\"flows\": %llu, \"overruns\": %llu}\n", (unsigned long long)flows, (unsigned long long)overruns);
	return 0;
}
