/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * floor_flows PORT BYTES MESSAGE: what flows cost at the least. Receives conntrack's events of flows that end, and for each
 * copies BYTES bytes into a message; messages of up to MESSAGE bytes are sent to PORT of 127.0.0.1 over UDP, many with one
 * call. Between two looks at the socket it sleeps for 5 ms. Nothing is decoded. SIGTERM ends it; then it prints its counts
 * as JSON.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_compat.h>
#include <linux/netlink.h>

enum { BUFFER = 64 << 20, DATAGRAM = 65536, DATAGRAMS = 64, HEAD = 20, PAUSE_NS = 5000000 };

static volatile sig_atomic_t stopping;

static void stop(int signal)
{
	(void)signal;
	stopping = 1;
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static uint8_t data[DATAGRAMS][DATAGRAM];
static struct iovec parts[DATAGRAMS];
static struct mmsghdr messages[DATAGRAMS];
static uint32_t used, count;
static uint64_t sent;

static void flush(int udp)
{
	if (count && sendmmsg(udp, messages, count, 0) != (int)count)
		die("sendmmsg");
	sent += count;
	count = 0;
}

static void finish_message(int udp)
{
	if (used <= HEAD)
		return;
	parts[count].iov_base = data[count];
	parts[count].iov_len = used;
	messages[count].msg_hdr.msg_iov = parts + count;
	messages[count].msg_hdr.msg_iovlen = 1;
	used = HEAD;
	if (++count == DATAGRAMS)
		flush(udp);
}

int main(int argc, char **argv)
{
	struct sockaddr_nl local = { .nl_family = AF_NETLINK, .nl_groups = NF_NETLINK_CONNTRACK_DESTROY };
	struct sockaddr_in to = { .sin_family = AF_INET };
	struct timespec pause = { .tv_nsec = PAUSE_NS };
	int netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK, NETLINK_NETFILTER), udp = socket(AF_INET, SOCK_DGRAM, 0);
	int size = BUFFER;
	uint32_t bytes, most;
	uint64_t flows = 0;
	static uint8_t buffer[DATAGRAM], record[DATAGRAM];

	if (argc != 4)
		return 2;
	to.sin_port = htons((uint16_t)atoi(argv[1]));
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	bytes = (uint32_t)atoi(argv[2]);
	most = (uint32_t)atoi(argv[3]);
	if (setsockopt(netlink, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) || connect(udp, (void *)&to, sizeof(to)) ||
	    bind(netlink, (void *)&local, sizeof(local)))
		die("open");
	signal(SIGTERM, stop);
	used = HEAD;
	for (;;) {
		ssize_t n = recv(netlink, buffer, sizeof(buffer), 0);

		if (n < 0 && errno == EAGAIN) {
			finish_message(udp);
			flush(udp);
			if (stopping)
				break;
			nanosleep(&pause, NULL);
			continue;
		}
		if (n < 0)
			die("recv");
		for (struct nlmsghdr *nlh = (void *)buffer; NLMSG_OK(nlh, n); nlh = NLMSG_NEXT(nlh, n)) {
			if (used + bytes > most)
				finish_message(udp);
			memcpy(record, nlh, bytes < nlh->nlmsg_len ? bytes : nlh->nlmsg_len);
			memcpy(data[count] + used, record, bytes);
			used += bytes;
			flows++;
		}
	}
	printf("{\"flows\": %llu, \"messages\": %llu}\n", (unsigned long long)flows, (unsigned long long)sent);
	return 0;
}
