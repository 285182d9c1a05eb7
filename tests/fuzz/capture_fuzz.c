// SPDX-License-Identifier: GPL-2.0-or-later
/* Mutates what follows the header of capture files and decodes it, in pieces as a file is read. Every buffer is allocated to the
 * byte, so that the sanitizers see each read and write beyond what is there; what they cannot see is checked here: that it goes
 * on, that records point into their piece and that each packet is counted once.
 *
 * capture_fuzz SEEDS COUNT SEED: the same arguments give the same files. When something is found the piece is printed. */
#define PROGRAM "capture_fuzz"
#define SUBJECT "piece of file"
#define SEED_HEAD uint32_t blocks, swapped, linktype, length;	/* in this machine's order */
#define SEED_MIN 1
#define SEED_MAX 32768
#include "harness.h"
#include "capture.h"

/* -- mutation ------------------------------------------------------------------------------------------------------------ */

static const uint32_t numbers_of_interest[] = {
	0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 14, 16, 20, 28, 31, 32, 33, 36, 64, 0x7f, 0x80, 0xff, 0x100, 0xffff, 0x10000, 0x3ffff,
	0x40000, 0x40001, 0x7ffff, 0x80000, 0x80004, 0x7fffffff, 0x80000000, 0xfffffffc, 0xffffffff, 0x0a0d0d0a, 0x1a2b3c4d
};

static uint32_t swapped32(bool swapped, uint32_t n)
{
	return swapped ? __builtin_bswap32(n) : n;
}

static void mutate(struct seed *f)
{
	uint32_t at = below(f->length), from = below(f->length), size, number;

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
		if (at + 4 > f->length)
			break;
		number = numbers_of_interest[below(ARRAY(numbers_of_interest))];
		number = swapped32(f->swapped, one_in(8) ? any() : number);
		memcpy(f->data + at, &number, 4);
		break;
	case 4:		/* a little more or less */
		at &= ~3u;
		if (at + 4 > f->length)
			break;
		memcpy(&number, f->data + at, 4);
		number = swapped32(f->swapped, swapped32(f->swapped, number) + below(17) - 8);
		memcpy(f->data + at, &number, 4);
		break;
	case 5:
		if (one_in(2) && at)
			f->length = at;
		break;
	case 6:
		size = f->length - (at > from ? at : from);
		memmove(f->data + at, f->data + from, below(size));
		break;
	case 7:		/* the rest of another file */
		if (one_in(4)) {
			const struct seed *other = seeds + below(seed_count);

			size = other->length < SEED_MAX - f->length ? other->length : SEED_MAX - f->length;
			memcpy(f->data + f->length, other->data, size);
			f->length += size;
		}
		break;
	}
}

/* -- reading ------------------------------------------------------------------------------------------------------------- */

static const uint32_t linktypes[] = {
	NFL_LINK_ETHERNET, NFL_LINK_DLT_RAW, NFL_LINK_RAW, NFL_LINK_SLL, NFL_LINK_IPV4, NFL_LINK_IPV6, NFL_LINK_NFLOG, NFL_LINK_SLL2,
	0, 147, 0xffffffff
};
static const uint64_t resolutions[] = { 1, 2, 1000, 1000000, 1000000000, 10000000000000000000u, 1ULL << 63, UINT64_MAX };
static const int64_t offsets[] = { 0, 1, -1, INT64_MAX, INT64_MIN };

static struct nfl_interface *some_interfaces(const struct seed *f, uint32_t count)
{
	struct nfl_interface *made = exactly(count * sizeof(*made), NULL);

	for (uint32_t i = 0; i < count; i++) {
		made[i].linktype = one_in(4) ? linktypes[below(ARRAY(linktypes))] : f->linktype;
		made[i].snaplen = one_in(2) ? 0 : below(200);
		made[i].index = f->blocks ? i + 1 : 0;
		made[i].units = resolutions[below(ARRAY(resolutions))];
		made[i].offset = offsets[below(ARRAY(offsets))];
		made[i].fcs = one_in(2) ? 0 : (uint8_t)below(32);
	}
	return made;
}

static uint64_t records_total;

/* As readers/files.py reads a file: a piece, what is left of it and more, until it ends or cannot be read on. */
static void read_file(const struct seed *f)
{
	uint32_t count_of_interfaces = f->blocks ? below(4) : 1, begin = 0, end = 0;
	struct nfl_interface *interfaces = some_interfaces(f, count_of_interfaces);
	struct nfl_capture c = {
		.interfaces = interfaces, .interface_count = count_of_interfaces, .blocks = (uint8_t)f->blocks,
		.swapped = (uint8_t)(f->swapped ^ one_in(32)), .label = (uint8_t)any(),
	};
	uint64_t received = 0;

	for (;;) {
		uint32_t room = one_in(2) ? below(4) : 64, count;
		struct nfl_record *records = exactly(room * sizeof(*records), NULL);
		uint64_t position = 0;
		uint8_t *data;

		end += one_in(2) ? below(64) : f->length;
		if (end > f->length)
			end = f->length;
		tried_length = end - begin;
		tried = data = exactly(tried_length, f->data + begin);
		c.valid_any = 0;
		c.valid_all = ~0ULL;
		c.named = 0;
		count = nfl_capture_decode(&c, data, &position, tried_length, records, room);
		check(count <= room && (received += count) == c.received, "there are more records than room, or they are not counted");
		check(c.stop <= NFL_CAPTURE_BROKEN, "there is no such reason to stop");
		check(position <= tried_length || c.stop == NFL_CAPTURE_MORE, "it stopped behind the end");
		check(c.stop != NFL_CAPTURE_MORE || position > tried_length || c.wanted > tried_length - position,
		      "it wants what it has");
		check(c.wanted <= NFL_CAPTURE_BLOCK_MAX || position > tried_length || c.stop != NFL_CAPTURE_MORE, "it wants too much");
		check(c.stop != NFL_CAPTURE_FULL || count == room, "it is full without being full");
		check(c.stop != NFL_CAPTURE_NAMES || c.named, "other names than none");
		for (uint32_t i = 0; i < count; i++) {
			check_record(records + i);
			check(!(records[i].valid & ~c.valid_any) && !(c.valid_all & ~records[i].valid), "valid_any or valid_all is wrong");
		}
		records_total += count;
		if (c.stop == NFL_CAPTURE_BLOCK && position + 12 <= tried_length) {
			uint32_t size;

			memcpy(&size, data + position + 4, sizeof(size));
			size = swapped32(c.swapped, size);
			position += size >= 12 && size <= tried_length - position ? size : 4;
		}
		free(records);
		free(data);
		if (c.stop == NFL_CAPTURE_BROKEN || (c.stop == NFL_CAPTURE_MORE && end == f->length))
			break;
		begin = position > f->length - begin ? f->length : begin + (uint32_t)position;
		end = begin > end ? begin : end;
	}
	free(interfaces);
}

int main(int argc, char **argv)
{
	uint64_t wanted = start(argc, argv);
	static struct seed file;

	for (tried_number = 0; tried_number < wanted; tried_number++) {
		memcpy(&file, seeds + below(seed_count), sizeof(file));
		for (uint32_t times = below(6); times; times--)
			mutate(&file);
		read_file(&file);
	}
	printf("%llu mutated captures, %llu records, %.1f seconds\n", (unsigned long long)wanted, (unsigned long long)records_total,
	       seconds());
	free(seeds);
	return 0;
}
