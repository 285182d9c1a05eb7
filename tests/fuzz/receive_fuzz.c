// SPDX-License-Identifier: GPL-2.0-or-later
/* The receiver, fed through a socket: the input is cut into datagrams, and nfl_receive reads them into a buffer that is
 * allocated to the byte, some at a time, as packets arrive. What the sanitizers cannot see is checked here: that the numbers of
 * datagrams, bytes and records agree, that records point into what was received, and that it stops where it has to.
 *
 * The target is libFuzzer's, LLVMFuzzerTestOneInput; `run` links it with libFuzzer where clang has that, and with receive_main.c
 * elsewhere. The input: for each datagram its length (16 bits, little-endian), then its bytes; the last one may be cut. A
 * length with its highest bit set has the receiver called before the datagram is sent. */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "packet.h"

#define LENGTH_MASK 0x7fff
#define CALL 0x8000
/* So that a few datagrams fill it, or are enough. */
#define SIZE (NFL_DATAGRAM_MAX + 256)
#define ENOUGH 3
#define ROOM (ENOUGH + NFL_DATAGRAM_MAX / NFL_MESSAGE_MIN)

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

static void check(int good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "receive_fuzz: %s\n", what);
	abort();
}

static void check_record(const struct nfl_record *r, uint32_t used)
{
	const struct { uint32_t at, length; } pieces[] = {
		{ r->raw_pkt, r->raw_pktlen }, { r->oob_prefix, r->oob_prefix_len }, { r->raw_mac, r->raw_mac_len },
		{ r->raw_l2hdr, r->raw_l2hdr_len }, { r->ct, r->ct_len },
	};

	for (size_t i = 0; i < sizeof(pieces) / sizeof(*pieces); i++)
		check(pieces[i].at <= used && pieces[i].length <= used - pieces[i].at, "a record points outside of the buffer");
	check(r->valid & 1, "a record does not hold what always holds");
}

/* Receive what is there; what was sent so far is `sent` datagrams. */
static void receive(struct nfl_receiver *r, uint64_t sent, uint64_t bytes)
{
	static struct nfl_record *records;
	static uint8_t *data;
	uint64_t before, datagrams, got;
	int count;

	if (!data) {
		data = malloc(SIZE);
		records = malloc(ROOM * sizeof(*records));
		check(data && records, "out of memory");
	}
	do {
		before = r->received;
		datagrams = r->datagrams;
		got = r->bytes;
		count = nfl_receive(r, data, SIZE, records, ROOM, ENOUGH);
		check(count >= 0 && (uint32_t)count <= ROOM, "it failed, or has more records than room");
		check(r->received == before + (uint64_t)count, "the records are counted wrongly");
		datagrams = r->datagrams - datagrams;
		got = r->bytes - got;
		check(r->used >= got && r->used <= got + 3 * datagrams && r->used <= SIZE, "the buffer's use is counted wrongly");
		check(r->more == ((uint32_t)count >= ENOUGH || SIZE - r->used < NFL_DATAGRAM_MAX), "it stopped, or did not stop");
		for (int i = 0; i < count; i++) {
			check_record(records + i, r->used);
			check(!(records[i].valid & ~r->valid_any) && !(r->valid_all & ~records[i].valid), "valid_any or valid_all is wrong");
		}
	} while (r->more);
	check(r->datagrams == sent && r->bytes == bytes && !r->truncated && !r->overrun, "datagrams are lost");
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	struct nfl_receiver receiver = { .label = 7, .valid_all = ~0ULL, .ack_seq = 1 };
	uint64_t sent = 0, bytes = 0;
	int ends[2];

	check(!socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends), "no socket pair");
	receiver.fd = ends[0];
	while (size >= 2) {
		uint32_t length = input[0] | (uint32_t)input[1] << 8;
		uint32_t taken = length & LENGTH_MASK;

		input += 2;
		size -= 2;
		if (taken > size)
			taken = (uint32_t)size;
		if (length & CALL)
			receive(&receiver, sent, bytes);
		if (send(ends[1], input, taken, MSG_DONTWAIT) < 0) {
			check(errno == EAGAIN, "a datagram cannot be sent");
			receive(&receiver, sent, bytes);
			check(send(ends[1], input, taken, MSG_DONTWAIT) == (ssize_t)taken, "a datagram cannot be sent");
		}
		sent++;
		bytes += taken;
		input += taken;
		size -= taken;
	}
	receive(&receiver, sent, bytes);
	close(ends[0]);
	close(ends[1]);
	return 0;
}
