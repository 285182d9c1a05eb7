/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * flow_flood COUNT RATE SOURCE DST PORT: begin COUNT flows at RATE a second (0: as fast as possible), a UDP datagram each, then print
 * {"sent": N, "seconds": S}. They come from ports 1024 and up of SOURCE, of the address behind it, and so on.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>

enum { BURST = 64, PORTS = 60000, FIRST = 1024, PAYLOAD = 40 };

struct packet {
	struct iphdr ip;
	struct udphdr udp;
	char payload[PAYLOAD];
};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int main(int argc, char **argv)
{
	static struct packet packets[BURST];
	struct sockaddr_in to = { .sin_family = AF_INET };
	struct iovec parts[BURST];
	struct mmsghdr burst[BURST];
	uint64_t count, rate, sent = 0, start;
	struct in_addr source;
	int fd, i;

	if (argc != 6 || inet_pton(AF_INET, argv[3], &source) != 1 || inet_pton(AF_INET, argv[4], &to.sin_addr) != 1) {
		fprintf(stderr, "usage: flow_flood COUNT RATE|0 SOURCE DST PORT\n");
		return 2;
	}
	count = strtoull(argv[1], NULL, 10);
	rate = strtoull(argv[2], NULL, 10);
	memset(burst, 0, sizeof(burst));
	for (i = 0; i < BURST; i++) {
		packets[i].ip = (struct iphdr){ .ihl = 5, .version = 4, .ttl = 64, .protocol = IPPROTO_UDP, .daddr = to.sin_addr.s_addr,
						.tot_len = htons(sizeof(struct packet)) };
		packets[i].udp.dest = htons((uint16_t)atoi(argv[5]));
		packets[i].udp.len = htons(sizeof(struct udphdr) + PAYLOAD);
		parts[i] = (struct iovec){ packets + i, sizeof(struct packet) };
		burst[i].msg_hdr = (struct msghdr){ .msg_name = &to, .msg_namelen = sizeof(to), .msg_iov = parts + i,
						    .msg_iovlen = 1 };
	}
	prctl(PR_SET_TIMERSLACK, 1);
	fd = socket(AF_INET, SOCK_RAW, IPPROTO_RAW);
	if (fd < 0) {
		perror("flow_flood");
		return 1;
	}
	start = now_ns();
	while (sent < count) {
		uint64_t due = rate ? (uint64_t)((double)(now_ns() - start) * (double)rate / 1e9) + 1 : count, ready;
		int n;

		ready = (due < count ? due : count) - sent;
		if (!ready) {
			struct timespec pause = { 0, 200000 };

			nanosleep(&pause, NULL);
			continue;
		}
		n = ready < BURST ? (int)ready : BURST;
		for (i = 0; i < n; i++) {
			packets[i].ip.saddr = htonl(ntohl(source.s_addr) + (uint32_t)((sent + (uint64_t)i) / PORTS));
			packets[i].udp.source = htons((uint16_t)(FIRST + (sent + (uint64_t)i) % PORTS));
		}
		n = sendmmsg(fd, burst, (unsigned int)n, 0);
		if (n > 0)
			sent += (uint64_t)n;
		else if (errno != ENOBUFS && errno != EAGAIN)
			break;
	}
	printf("{\"sent\": %llu, \"seconds\": %.6f}\n", (unsigned long long)sent, (double)(now_ns() - start) / 1e9);
	return sent == count ? 0 : 1;
}
