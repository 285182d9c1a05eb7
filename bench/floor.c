/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * floor GROUP QTHRESHOLD QTIMEOUT NLBUFSIZ SOCKET_BUFFER [FILE BYTES|pcap]: what receiving the packets of a group costs
 * at the least. Receives datagrams and counts their messages; with FILE also writes to it, one write(2) per datagram:
 * BYTES bytes per packet, or the packets as records of pcap. Nothing else is decoded. NLBUFSIZ 0 leaves the kernel's
 * default. SIGTERM ends it; then it prints its counts as JSON.
 */
#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <libmnl/libmnl.h>
#include <libnetfilter_log/libnetfilter_log.h>
#include <linux/netfilter/nfnetlink_log.h>

enum { DATAGRAM_MAX = 264 * 1024, CONFIG_MAX = 256, TEXT_MAX = 16 << 20 };

static int receiving = -1;

/* From now on an empty queue ends the reading: whenever the signal comes, what is queued is still read. */
static void stop(int signal)
{
	(void)signal;
	fcntl(receiving, F_SETFL, O_NONBLOCK);
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

/* One message sets all: the kernel obeys the command first. */
static void bind_group(struct mnl_socket *nl, uint16_t group, uint32_t qthreshold, uint32_t qtimeout, uint32_t nlbufsiz)
{
	char message[CONFIG_MAX], answer[MNL_NLMSG_HDRLEN + CONFIG_MAX + 256];
	struct nlmsghdr *nlh = nflog_nlmsg_put_header(message, NFULNL_MSG_CONFIG, AF_UNSPEC, group);
	ssize_t n;

	nlh->nlmsg_flags |= NLM_F_ACK;
	nlh->nlmsg_seq = 1;
	if (nflog_attr_put_cfg_cmd(nlh, NFULNL_CFG_CMD_BIND) || nflog_attr_put_cfg_mode(nlh, NFULNL_COPY_PACKET, 0xffff))
		die("configure");
	mnl_attr_put_u32(nlh, NFULA_CFG_QTHRESH, htonl(qthreshold));
	mnl_attr_put_u32(nlh, NFULA_CFG_TIMEOUT, htonl(qtimeout));
	if (nlbufsiz)
		mnl_attr_put_u32(nlh, NFULA_CFG_NLBUFSIZ, htonl(nlbufsiz));
	mnl_attr_put_u16(nlh, NFULA_CFG_FLAGS, htons(NFULNL_CFG_F_SEQ));
	if (mnl_socket_sendto(nl, nlh, nlh->nlmsg_len) < 0)
		die("send");
	n = mnl_socket_recvfrom(nl, answer, sizeof(answer));
	if (n < 0 || mnl_cb_run(answer, (size_t)n, 1, mnl_socket_get_portid(nl), NULL, NULL) < 0)
		die("bind group");
}

static uint32_t sequence(const struct nlmsghdr *nlh)
{
	struct nlattr *attr;

	mnl_attr_for_each(attr, nlh, sizeof(struct nfgenmsg)) {
		if (mnl_attr_get_type(attr) == NFULA_SEQ)
			return ntohl(mnl_attr_get_u32(attr));
	}
	return 0;
}

/* The number of packets in a datagram, and the sequence number that follows its last. */
static uint32_t count_packets(const void *data, int length, uint32_t *next)
{
	const struct nlmsghdr *nlh = data, *last = NULL;
	uint32_t packets = 0;

	for (; mnl_nlmsg_ok(nlh, length); nlh = mnl_nlmsg_next(nlh, &length)) {
		if (nlh->nlmsg_type != (NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_PACKET))
			continue;
		packets++;
		last = nlh;
	}
	if (last)
		*next = sequence(last) + 1;
	return packets;
}

/* The packets of a datagram as records of pcap; the bytes that they take. */
static size_t put_packets(char *text, const void *data, int length)
{
	const struct nlmsghdr *nlh = data;
	char *p = text;

	for (; mnl_nlmsg_ok(nlh, length); nlh = mnl_nlmsg_next(nlh, &length)) {
		uint32_t head[4] = { 0 };
		const void *payload = NULL;
		struct nlattr *attr;

		if (nlh->nlmsg_type != (NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_PACKET))
			continue;
		mnl_attr_for_each(attr, nlh, sizeof(struct nfgenmsg)) {
			if (mnl_attr_get_type(attr) == NFULA_PAYLOAD) {
				payload = mnl_attr_get_payload(attr);
				head[2] = head[3] = mnl_attr_get_payload_len(attr);
			} else if (mnl_attr_get_type(attr) == NFULA_TIMESTAMP) {
				const struct nfulnl_msg_packet_timestamp *stamp = mnl_attr_get_payload(attr);

				head[0] = (uint32_t)be64toh(stamp->sec);
				head[1] = (uint32_t)be64toh(stamp->usec);
			}
		}
		memcpy(p, head, sizeof(head));
		if (payload)
			memcpy(p + sizeof(head), payload, head[2]);
		p += sizeof(head) + head[2];
	}
	return (size_t)(p - text);
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = stop };
	static char data[DATAGRAM_MAX], text[TEXT_MAX];
	uint64_t packets = 0, datagrams = 0, overruns = 0, truncated = 0, bytes;
	uint32_t next = 0;
	struct mnl_socket *nl;
	struct rusage usage;
	int fd, out = -1, buffer, pcap;

	if (argc != 6 && argc != 8) {
		fprintf(stderr, "usage: floor GROUP QTHRESHOLD QTIMEOUT NLBUFSIZ SOCKET_BUFFER [FILE BYTES|pcap]\n");
		return 2;
	}
	memset(text, 'x', sizeof(text));
	pcap = argc > 7 && !strcmp(argv[7], "pcap");
	bytes = argc > 7 && !pcap ? strtoull(argv[7], NULL, 10) : 0;
	if (argc > 6 && (out = open(argv[6], O_WRONLY | O_CREAT | O_APPEND, 0644)) < 0)
		die(argv[6]);
	nl = mnl_socket_open(NETLINK_NETFILTER);
	if (!nl || mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID))
		die("netlink socket");
	fd = receiving = mnl_socket_get_fd(nl);
	sigaction(SIGTERM, &action, NULL);
	buffer = atoi(argv[5]);
	if (buffer && setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof(buffer)))
		die("SO_RCVBUFFORCE");
	bind_group(nl, (uint16_t)atoi(argv[1]), (uint32_t)atoi(argv[2]), (uint32_t)atoi(argv[3]), (uint32_t)atoi(argv[4]));
	for (;;) {
		ssize_t n = recv(fd, data, sizeof(data), MSG_TRUNC);
		uint32_t found;

		if (n < 0) {
			overruns += errno == ENOBUFS;
			if (errno == EAGAIN)
				break;
			if (errno != ENOBUFS && errno != EINTR)
				die("recv");
			continue;
		}
		truncated += (size_t)n > sizeof(data);
		found = count_packets(data, (size_t)n > sizeof(data) ? (int)sizeof(data) : (int)n, &next);
		packets += found;
		datagrams++;
		if (pcap && write(out, text, put_packets(text, data, (int)n)) < 0)
			die("write");
		if (out >= 0 && !pcap && found * bytes <= sizeof(text) && write(out, text, found * bytes) < 0)
			die("write");
	}
	getrusage(RUSAGE_SELF, &usage);
	printf("{\"packets\": %llu, \"gap\": %lld, \"datagrams\": %llu, \"overruns\": %llu, \"truncated\": %llu, "
	       "\"cpu_user\": %.6f, \"cpu_sys\": %.6f}\n",
	       (unsigned long long)packets, (long long)next - (long long)packets, (unsigned long long)datagrams,
	       (unsigned long long)overruns, (unsigned long long)truncated,
	       (double)usage.ru_utime.tv_sec + (double)usage.ru_utime.tv_usec / 1e6,
	       (double)usage.ru_stime.tv_sec + (double)usage.ru_stime.tv_usec / 1e6);
	return 0;
}
