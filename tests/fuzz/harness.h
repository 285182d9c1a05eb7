/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What the fuzzers of the C part share: random numbers, seeds, buffers that are allocated to the byte, and a report of what was
 * being tried when something is found. A fuzzer defines, before it includes this file:
 *
 * PROGRAM	its name
 * SUBJECT	what it counts: "datagram"
 * SEED_HEAD	the numbers that seeds.py writes before each seed, the last of them its `length`
 * SEED_MIN	bytes that a seed has at least
 * SEED_MAX	room of a seed that grows; seeds.py writes at most half of it
 *
 * PROGRAM SEEDS COUNT SEED: the same arguments give the same run. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <sanitizer/common_interface_defs.h>

#include "packet.h"

#define ARRAY(a) (sizeof(a) / sizeof(*(a)))

static uint64_t random_state;

static uint32_t any(void)	/* splitmix64 */
{
	uint64_t z = random_state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return (uint32_t)(z >> 32);
}

static uint32_t below(uint32_t limit)
{
	return limit ? any() % limit : 0;
}

static bool one_in(uint32_t n)
{
	return !below(n);
}

/* -- what is being tried, for the report ------------------------------------------------------------------------------- */

static const uint8_t *tried;
static uint32_t tried_length;
static uint64_t tried_number;

static void report(void)
{
	fprintf(stderr, SUBJECT " %llu, %u bytes: ", (unsigned long long)tried_number, tried_length);
	for (uint32_t i = 0; i < tried_length; i++)
		fprintf(stderr, "%02x", tried[i]);
	fprintf(stderr, "\n");
}

static void check(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, PROGRAM ": %s\n", what);
	report();
	exit(1);
}

static void *exactly(size_t size, const void *from)
{
	void *made = malloc(size);

	check(made || !size, "out of memory");
	if (size && from)
		memcpy(made, from, size);
	return made;
}

__attribute__((unused)) static void check_record(const struct nfl_record *r)
{
	struct { uint32_t at, length; } pieces[] = {
		{ r->raw_pkt, r->raw_pktlen }, { r->oob_prefix, r->oob_prefix_len }, { r->raw_mac, r->raw_mac_len },
		{ r->raw_l2hdr, r->raw_l2hdr_len }, { r->ct, r->ct_len },
	};

	for (uint32_t i = 0; i < ARRAY(pieces); i++)
		check(pieces[i].at <= tried_length && pieces[i].length <= tried_length - pieces[i].at,
		      "a record points outside of its " SUBJECT);
	check(r->raw_mac_addrlen <= 8 && r->mac_saddr_len <= 8 && r->mac_daddr_len <= 6, "a hardware address is too long");
	check(r->valid & 1, "a record does not hold what always holds");
}

/* -- seeds --------------------------------------------------------------------------------------------------------------- */

struct seed { SEED_HEAD uint8_t data[SEED_MAX]; };

static struct seed *seeds;
static uint32_t seed_count;

static void load(const char *path)
{
	FILE *file = fopen(path, "rb");
	struct seed head;

	check(file, "the file of seeds cannot be opened");
	while (fread(&head, offsetof(struct seed, data), 1, file) == 1) {
		if (!(seed_count & (seed_count - 1)))	/* full: its size is a power of two */
			seeds = realloc(seeds, (seed_count ? 2 * seed_count : 1) * sizeof(*seeds));
		check(seeds && head.length >= SEED_MIN && head.length <= SEED_MAX / 2, "a seed is too short or too long");
		memcpy(seeds + seed_count, &head, offsetof(struct seed, data));
		check(fread(seeds[seed_count].data, head.length, 1, file) == 1, "a seed is cut");
		seed_count++;
	}
	fclose(file);
	check(seed_count, "there are no seeds");
}

/* -- the run -------------------------------------------------------------------------------------------------------------- */

static struct timespec started;

/* Read the arguments and the seeds; return COUNT. */
static uint64_t start(int argc, char **argv)
{
	uint64_t wanted = argc == 4 ? strtoull(argv[2], NULL, 10) : 0;

	if (!wanted) {
		fprintf(stderr, PROGRAM " SEEDS COUNT SEED\n");
		exit(2);
	}
	random_state = strtoull(argv[3], NULL, 10);
	load(argv[1]);
	__sanitizer_set_death_callback(report);
	clock_gettime(CLOCK_MONOTONIC, &started);
	return wanted;
}

/* Seconds since the start. */
static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)(now.tv_sec - started.tv_sec) + (double)(now.tv_nsec - started.tv_nsec) / 1e9;
}
