// SPDX-License-Identifier: GPL-2.0-or-later
/* Mutates what follows the header of capture files and decodes it, in pieces as a file is read. Every buffer is allocated to the
 * byte, so that the sanitizers see each read and write beyond what is there; what they cannot see is checked here: that it goes
 * on, that records point into their piece and that each packet is counted once.
 *
 * capture_fuzz SEEDS COUNT SEED: the same arguments give the same files. When something is found the piece is printed. */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <sanitizer/common_interface_defs.h>

#include "packet.h"
#include "capture.h"

#define ARRAY(a) (sizeof(a) / sizeof(*(a)))
#define FILE_MAX 32768

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

static const uint8_t *piece;
static uint32_t piece_length;
static uint64_t file_number;

static void report(void)
{
	fprintf(stderr, "file %llu, a piece of %u bytes: ", (unsigned long long)file_number, piece_length);
	for (uint32_t i = 0; i < piece_length; i++)
		fprintf(stderr, "%02x", piece[i]);
	fprintf(stderr, "\n");
}

static void check(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "capture_fuzz: %s\n", what);
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

/* -- seeds --------------------------------------------------------------------------------------------------------------- */

/* seeds.py writes them so, in this machine's order. */
struct seed_head { uint32_t blocks, swapped, linktype, length; };
struct file { struct seed_head head; uint8_t data[FILE_MAX]; };

static struct file *seeds;
static uint32_t seed_count;

static void load(const char *path)
{
	FILE *file = fopen(path, "rb");
	struct seed_head head;

	check(file, "the file of seeds cannot be opened");
	while (fread(&head, sizeof(head), 1, file) == 1) {
		if (!(seed_count & (seed_count - 1)))	/* full: its size is a power of two */
			seeds = realloc(seeds, (seed_count ? 2 * seed_count : 1) * sizeof(*seeds));
		check(seeds && head.length && head.length <= FILE_MAX / 2, "a seed is too short or too long");
		seeds[seed_count].head = head;
		check(fread(seeds[seed_count].data, head.length, 1, file) == 1, "a seed is cut");
		seed_count++;
	}
	fclose(file);
	check(seed_count, "there are no seeds");
}

/* -- mutation ------------------------------------------------------------------------------------------------------------ */

static const uint32_t numbers_of_interest[] = {
	0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 14, 16, 20, 28, 31, 32, 33, 36, 64, 0x7f, 0x80, 0xff, 0x100, 0xffff, 0x10000, 0x3ffff,
	0x40000, 0x40001, 0x7ffff, 0x80000, 0x80004, 0x7fffffff, 0x80000000, 0xfffffffc, 0xffffffff, 0x0a0d0d0a, 0x1a2b3c4d
};

static uint32_t swapped32(bool swapped, uint32_t n)
{
	return swapped ? __builtin_bswap32(n) : n;
}

static void mutate(struct file *f)
{
	uint32_t at = below(f->head.length), from = below(f->head.length), size, number;

	switch (below(8)) {
	case 0:
		f->data[at] = (uint8_t)any();
		break;
	case 1:
		f->data[at] ^= (uint8_t)(1 << below(8));
		break;
	case 2:		/* a number that stands where numbers stand */
	case 3:
		at &= ~3u;
		if (at + 4 > f->head.length)
			break;
		number = numbers_of_interest[below(ARRAY(numbers_of_interest))];
		number = swapped32(f->head.swapped, one_in(8) ? any() : number);
		memcpy(f->data + at, &number, 4);
		break;
	case 4:		/* a little more or less */
		at &= ~3u;
		if (at + 4 > f->head.length)
			break;
		memcpy(&number, f->data + at, 4);
		number = swapped32(f->head.swapped, swapped32(f->head.swapped, number) + below(17) - 8);
		memcpy(f->data + at, &number, 4);
		break;
	case 5:
		if (one_in(2) && at)
			f->head.length = at;
		break;
	case 6:
		size = f->head.length - (at > from ? at : from);
		memmove(f->data + at, f->data + from, below(size));
		break;
	case 7:		/* the rest of another file */
		if (one_in(4)) {
			const struct file *other = seeds + below(seed_count);

			size = other->head.length < FILE_MAX - f->head.length ? other->head.length : FILE_MAX - f->head.length;
			memcpy(f->data + f->head.length, other->data, size);
			f->head.length += size;
		}
		break;
	}
}

/* -- checks --------------------------------------------------------------------------------------------------------------- */

static void check_record(const struct nfl_record *r)
{
	struct { uint32_t at, length; } pieces[] = {
		{ r->raw_pkt, r->raw_pktlen }, { r->oob_prefix, r->oob_prefix_len }, { r->raw_mac, r->raw_mac_len },
		{ r->raw_l2hdr, r->raw_l2hdr_len }, { r->ct, r->ct_len },
	};

	for (uint32_t i = 0; i < ARRAY(pieces); i++)
		check(pieces[i].at <= piece_length && pieces[i].length <= piece_length - pieces[i].at,
		      "a record points outside of its piece");
	check(r->raw_mac_addrlen <= 8 && r->mac_saddr_len <= 8 && r->mac_daddr_len <= 6, "a hardware address is too long");
	check(r->valid & 1, "a record does not hold what always holds");
}

static const uint32_t linktypes[] = {
	NFL_LINK_ETHERNET, NFL_LINK_DLT_RAW, NFL_LINK_RAW, NFL_LINK_SLL, NFL_LINK_IPV4, NFL_LINK_IPV6, NFL_LINK_NFLOG, NFL_LINK_SLL2,
	0, 147, 0xffffffff
};
static const uint64_t resolutions[] = { 1, 2, 1000, 1000000, 1000000000, 10000000000000000000u, 1ULL << 63, UINT64_MAX };
static const int64_t offsets[] = { 0, 1, -1, INT64_MAX, INT64_MIN };

static struct nfl_interface *some_interfaces(const struct file *f, uint32_t count)
{
	struct nfl_interface *made = exactly(count * sizeof(*made), NULL);

	for (uint32_t i = 0; i < count; i++) {
		made[i].linktype = one_in(4) ? linktypes[below(ARRAY(linktypes))] : f->head.linktype;
		made[i].snaplen = one_in(2) ? 0 : below(200);
		made[i].index = f->head.blocks ? i + 1 : 0;
		made[i].units = resolutions[below(ARRAY(resolutions))];
		made[i].offset = offsets[below(ARRAY(offsets))];
		made[i].fcs = one_in(2) ? 0 : (uint8_t)below(32);
	}
	return made;
}

static uint64_t records_total;

/* As readers/files.py reads a file: a piece, what is left of it and more, until it ends or cannot be read on. */
static void read_file(const struct file *f)
{
	uint32_t count_of_interfaces = f->head.blocks ? below(4) : 1, begin = 0, end = 0;
	struct nfl_interface *interfaces = some_interfaces(f, count_of_interfaces);
	struct nfl_capture c = {
		.interfaces = interfaces, .interface_count = count_of_interfaces, .blocks = (uint8_t)f->head.blocks,
		.swapped = (uint8_t)(f->head.swapped ^ one_in(32)), .label = (uint8_t)any(),
	};
	uint64_t received = 0;

	for (;;) {
		uint32_t room = one_in(2) ? below(4) : 64, count;
		struct nfl_record *records = exactly(room * sizeof(*records), NULL);
		uint64_t position = 0;
		uint8_t *data;

		end += one_in(2) ? below(64) : f->head.length;
		if (end > f->head.length)
			end = f->head.length;
		piece_length = end - begin;
		piece = data = exactly(piece_length, f->data + begin);
		c.valid_any = 0;
		c.valid_all = ~0ULL;
		c.named = 0;
		count = nfl_capture_decode(&c, data, &position, piece_length, records, room);
		check(count <= room && (received += count) == c.received, "there are more records than room, or they are not counted");
		check(c.stop <= NFL_CAPTURE_BROKEN, "there is no such reason to stop");
		check(position <= piece_length || c.stop == NFL_CAPTURE_MORE, "it stopped behind the end");
		check(c.stop != NFL_CAPTURE_MORE || position > piece_length || c.wanted > piece_length - position,
		      "it wants what it has");
		check(c.wanted <= NFL_CAPTURE_BLOCK_MAX || position > piece_length || c.stop != NFL_CAPTURE_MORE, "it wants too much");
		check(c.stop != NFL_CAPTURE_FULL || count == room, "it is full without being full");
		check(c.stop != NFL_CAPTURE_NAMES || c.named, "other names than none");
		for (uint32_t i = 0; i < count; i++) {
			check_record(records + i);
			check(!(records[i].valid & ~c.valid_any) && !(c.valid_all & ~records[i].valid), "valid_any or valid_all is wrong");
		}
		records_total += count;
		if (c.stop == NFL_CAPTURE_BLOCK && position + 12 <= piece_length) {
			uint32_t size;

			memcpy(&size, data + position + 4, sizeof(size));
			size = swapped32(c.swapped, size);
			position += size >= 12 && size <= piece_length - position ? size : 4;
		}
		free(records);
		free(data);
		if (c.stop == NFL_CAPTURE_BROKEN || (c.stop == NFL_CAPTURE_MORE && end == f->head.length))
			break;
		begin = position > f->head.length - begin ? f->head.length : begin + (uint32_t)position;
		end = begin > end ? begin : end;
	}
	free(interfaces);
}

int main(int argc, char **argv)
{
	uint64_t wanted = argc == 4 ? strtoull(argv[2], NULL, 10) : 0;
	static struct file file;
	struct timespec begin, end;

	if (!wanted) {
		fprintf(stderr, "capture_fuzz SEEDS COUNT SEED\n");
		return 2;
	}
	random_state = strtoull(argv[3], NULL, 10);
	load(argv[1]);
	__sanitizer_set_death_callback(report);
	clock_gettime(CLOCK_MONOTONIC, &begin);
	for (file_number = 0; file_number < wanted; file_number++) {
		memcpy(&file, seeds + below(seed_count), sizeof(file));
		for (uint32_t times = below(6); times; times--)
			mutate(&file);
		read_file(&file);
	}
	clock_gettime(CLOCK_MONOTONIC, &end);
	printf("%llu mutated captures, %llu records, %.1f seconds\n", (unsigned long long)wanted, (unsigned long long)records_total,
	       (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9);
	free(seeds);
	return 0;
}
