/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * inject COUNT DEVICE SIZE: send COUNT Ethernet frames as fast as possible, those of SIZE bytes each that standard input has,
 * again and again, then print {"sent": N, "seconds": S}.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum { BURST = 64, FRAMES_MAX = 4096, SIZE_LEAST = 14, SIZE_MOST = 1514, COUNT_MAX = 10000000, SECONDS_MAX = 120 };

static uint8_t frames[FRAMES_MAX][SIZE_MOST];
static struct iovec iov[FRAMES_MAX];
static struct mmsghdr messages[FRAMES_MAX];

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static unsigned int read_frames(size_t size)
{
	unsigned int count = 0;

	while (count < FRAMES_MAX && fread(frames[count], size, 1, stdin) == 1) {
		iov[count].iov_base = frames[count];
		iov[count].iov_len = size;
		messages[count].msg_hdr.msg_iov = &iov[count];
		messages[count].msg_hdr.msg_iovlen = 1;
		count++;
	}
	return count;
}

static uint64_t inject(int fd, unsigned int frames_there, uint64_t count, double until)
{
	unsigned int at = 0, burst;
	uint64_t sent = 0;
	int n;

	while (sent < count && now() < until) {
		burst = frames_there - at < BURST ? frames_there - at : BURST;
		if (count - sent < burst)
			burst = (unsigned int)(count - sent);
		n = sendmmsg(fd, messages + at, burst, 0);
		if (n > 0) {
			sent += (uint64_t)n;
			at = (at + (unsigned int)n) % frames_there;
		} else if (errno != ENOBUFS && errno != EAGAIN) {
			perror("inject");
			return sent;
		}
	}
	return sent;
}

int main(int argc, char **argv)
{
	struct sockaddr_ll device = { .sll_family = AF_PACKET };
	unsigned int frames_there;
	uint64_t count, sent;
	double start, seconds;
	size_t size;
	int fd;

	if (argc != 4) {
		fprintf(stderr, "usage: inject COUNT DEVICE SIZE < FRAMES\n");
		return 2;
	}
	count = strtoull(argv[1], NULL, 10);
	device.sll_ifindex = (int)if_nametoindex(argv[2]);
	size = strtoul(argv[3], NULL, 10);
	if (count > COUNT_MAX || size < SIZE_LEAST || size > SIZE_MOST) {
		fprintf(stderr, "inject: at most %d frames of %d to %d bytes\n", COUNT_MAX, SIZE_LEAST, SIZE_MOST);
		return 2;
	}
	frames_there = read_frames(size);
	fd = socket(AF_PACKET, SOCK_RAW, 0);
	if (!frames_there || fd < 0 || bind(fd, (struct sockaddr *)&device, sizeof(device))) {
		perror("inject");
		return 1;
	}
	start = now();
	sent = inject(fd, frames_there, count, start + SECONDS_MAX);
	seconds = now() - start;
	printf("{\"sent\": %llu, \"seconds\": %.6f}\n", (unsigned long long)sent, seconds);
	return sent == count ? 0 : 1;
}
