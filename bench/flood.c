/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * flood COUNT RATE DST PORT [SIZE]: send COUNT UDP datagrams of SIZE bytes at RATE a second (0: as fast as possible),
 * then print {"sent": N, "seconds": S}. Paced packets leave one by one, as they fall due: bursts would hide what a
 * reader's wake-ups cost.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>

enum { BURST = 64, SIZE_MAX_UDP = 1400, COUNT_MAX = 10000000, SECONDS_MAX = 120 };

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void sleep_until(uint64_t ns)
{
	struct timespec t = { .tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u) };

	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}

/* Packets that may have left `elapsed` ns after the start, never more than `count`. */
static uint64_t due(uint64_t elapsed, uint64_t rate, uint64_t count)
{
	uint64_t packets = rate ? (uint64_t)((double)elapsed * (double)rate / 1e9) + 1 : count;

	return packets < count ? packets : count;
}

static uint64_t flood(int fd, struct mmsghdr *burst, uint64_t count, uint64_t rate)
{
	uint64_t start = now_ns(), sent = 0;

	while (sent < count) {
		uint64_t elapsed = now_ns() - start, ready = due(elapsed, rate, count) - sent;
		int n;

		if (elapsed > (uint64_t)SECONDS_MAX * 1000000000u)
			break;
		if (!ready) {
			sleep_until(start + (uint64_t)((double)sent * 1e9 / (double)rate));
			continue;
		}
		n = sendmmsg(fd, burst, ready < BURST ? (unsigned int)ready : BURST, 0);
		if (n > 0)
			sent += (uint64_t)n;
		else if (errno != ENOBUFS && errno != EAGAIN && errno != ECONNREFUSED)
			return sent;
	}
	return sent;
}

int main(int argc, char **argv)
{
	static uint8_t payload[SIZE_MAX_UDP];
	struct sockaddr_in to = { .sin_family = AF_INET };
	struct iovec iov = { .iov_base = payload, .iov_len = 64 };
	struct mmsghdr burst[BURST];
	uint64_t count, rate, sent, start;
	double seconds;
	int fd, i;

	if (argc < 5 || inet_pton(AF_INET, argv[3], &to.sin_addr) != 1) {
		fprintf(stderr, "usage: flood COUNT RATE|0 DST PORT [SIZE]\n");
		return 2;
	}
	count = strtoull(argv[1], NULL, 10);
	rate = strtoull(argv[2], NULL, 10);
	to.sin_port = htons((uint16_t)atoi(argv[4]));
	if (argc > 5)
		iov.iov_len = strtoul(argv[5], NULL, 10);
	if (count > COUNT_MAX || iov.iov_len > sizeof(payload)) {
		fprintf(stderr, "flood: at most %d packets of %d bytes\n", COUNT_MAX, SIZE_MAX_UDP);
		return 2;
	}
	memset(payload, 'x', sizeof(payload));
	memset(burst, 0, sizeof(burst));
	for (i = 0; i < BURST; i++) {
		burst[i].msg_hdr.msg_iov = &iov;
		burst[i].msg_hdr.msg_iovlen = 1;
	}
	prctl(PR_SET_TIMERSLACK, 1);
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to))) {
		perror("flood");
		return 1;
	}
	start = now_ns();
	sent = flood(fd, burst, count, rate);
	seconds = (double)(now_ns() - start) / 1e9;
	printf("{\"sent\": %llu, \"seconds\": %.6f}\n", (unsigned long long)sent, seconds);
	return sent == count ? 0 : 1;
}
