// SPDX-License-Identifier: GPL-2.0-or-later
/* Mutates what follows the header of capture files and decodes it, in pieces as a file is read. Every buffer is allocated to the
 * byte, so that the sanitizers see each read and write beyond what is there; what they cannot see is checked here: that it goes
 * on, that records point into their piece and that each packet is counted once.
 *
 * What was decoded is written again, as each format and link type, and decoded once more: as many packets, and of link type
 * NFLOG the same bytes and prefixes. The end of what was written is found wherever it is cut.
 *
 * capture_fuzz SEEDS COUNT SEED: the same arguments give the same files. When something is found the piece is printed. */
#define PROGRAM "capture_fuzz"
#define SUBJECT "piece of file"
#define SEED_HEAD uint32_t blocks, swapped, linktype, length;	/* in this machine's order */
#define SEED_MIN 1
#define SEED_MAX 32768
#include "harness.h"
#include "record.h"
#include "capture.h"
#include "capturewrite.h"

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

/* -- writing -------------------------------------------------------------------------------------------------------------- */

static uint64_t written_total;

/* Decode what was written, and compare; `unfit` rows are not among it. */
static void read_again(const struct nfl_capture_writer *w, uint8_t *out, uint32_t size, const struct nfl_record *records,
		       uint32_t count, const uint8_t *data)
{
	struct nfl_interface interface = { .linktype = w->linktype, .units = 1000000, .index = 1 };
	struct nfl_interface interfaces[] = { interface, interface, interface };
	struct nfl_capture c = { .interfaces = interfaces, .interface_count = ARRAY(interfaces), .blocks = w->blocks };
	struct nfl_record *again = exactly(count * sizeof(*again), NULL);
	uint8_t *exact = exactly(size, out);
	uint64_t position = 0;

	check(nfl_capture_decode(&c, exact, &position, size, again, count) == count && position == size,
	      "what was written cannot be read");
	for (uint32_t i = 0; i < count && w->linktype == NFL_LINK_NFLOG; i++) {
		const struct nfl_record *a = again + i, *r = records + i;

		check(a->raw_pktlen == (r->raw_pktlen < 65531 ? r->raw_pktlen : 65531) &&
		      !memcmp(exact + a->raw_pkt, data + r->raw_pkt, a->raw_pktlen), "another packet");
		check(a->oob_prefix_len == r->oob_prefix_len &&
		      !memcmp(exact + a->oob_prefix, data + r->oob_prefix, a->oob_prefix_len), "another prefix");
		check(a->oob_mark == r->oob_mark && a->oob_uid == r->oob_uid && a->vlan_id == r->vlan_id, "another number");
	}
	free(exact);
	free(again);
}

/* Find the end of what was written, cut somewhere. */
static void find_end(const struct nfl_capture_writer *w, const uint8_t *out, uint32_t size)
{
	uint32_t length = below(size + 1), *ends = exactly((length + 1) * sizeof(*ends), NULL), end, found;
	uint8_t *exact = exactly(length, out), broken;
	uint32_t room = below(3), *places = exactly(room * sizeof(*places), NULL), met = 0;
	uint64_t packets = 0;

	end = nfl_capture_follow(w->blocks, w->snaplen, exact, length, &packets, &broken, NULL, 0, NULL);
	check(end <= length && !broken, "what was written is broken");
	found = nfl_capture_last(w->blocks, w->snaplen, exact, length, 1 + below(length), ends);
	check(found == 0xffffffff || found == end, "another end");
	for (uint32_t times = below(4); times && length; times--)
		exact[below(length)] = (uint8_t)any();
	end = nfl_capture_follow(w->blocks, w->snaplen, exact, length, &packets, &broken, places, room, &met);
	check(end <= length, "an end behind the end");
	for (uint32_t i = 0; i < met && i < room; i++)
		check(places[i] < end, "a block behind the end");
	found = nfl_capture_last(w->blocks, w->snaplen, exact, length, below(2 * length), ends);
	check(found == 0xffffffff || found <= length, "an end behind the end");
	free(exact);
	free(ends);
	free(places);
}

static void write_again(struct nfl_record *records, uint32_t count, const uint8_t *data)
{
	static const uint32_t kinds[] = { NFL_LINK_RAW, NFL_LINK_DLT_RAW, NFL_LINK_NFLOG, NFL_LINK_ETHERNET };
	struct nfl_described interfaces[] = { { 0, 0 }, { 1, 1 }, { 7, 2 } };
	struct nfl_capture_writer w = {
		.linktype = kinds[below(ARRAY(kinds))], .snaplen = NFL_CAPTURE_PACKET_MAX, .group = (uint16_t)any(),
		.blocks = (uint8_t)below(2), .interfaces = interfaces, .interface_count = ARRAY(interfaces),
	};
	struct nfl_batch batch = { .records = records, .stride = sizeof(*records), .count = count, .data = data };
	uint32_t first = 0, done;

	for (uint32_t i = 0; i < count; i++) {
		records[i].oob_time_sec |= 1;	/* 0 is taken for what a power failure left */
		if (w.blocks) {
			records[i].oob_ifindex_in = interfaces[below(ARRAY(interfaces))].index;
			records[i].oob_ifindex_out = one_in(8) ? 5 : interfaces[below(ARRAY(interfaces))].index;
		}
	}
	for (uint32_t room = below(4096); first < count; room = first == done ? room : below(4096)) {
		uint8_t *out = exactly(room, NULL);
		uint32_t size = (uint32_t)nfl_capture_write(&w, &batch, first, (char *)out, room, &done);

		check(size <= room && done >= first && done <= count, "it wrote too much");
		check(w.written + w.unfit == done - first, "a row is not counted, or twice");
		check(w.linktype != NFL_LINK_NFLOG || !w.unfit, "NFLOG holds every packet");
		check(w.undescribed == 0xffffffff || (w.blocks && w.undescribed == 5), "it knows that interface");
		if (!w.unfit)
			read_again(&w, out, size, records + first, w.written, data);
		find_end(&w, out, size);
		written_total += w.written;
		free(out);
		if (w.undescribed != 0xffffffff)
			records[done].oob_ifindex_out = 0;
		if (done == first)
			room = 2 * room + 1;
		first = done;
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
		write_again(records, count, data);
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
	printf("%llu mutated captures, %llu records, %llu written again, %.1f seconds\n", (unsigned long long)wanted,
	       (unsigned long long)records_total, (unsigned long long)written_total, seconds());
	free(seeds);
	return 0;
}
