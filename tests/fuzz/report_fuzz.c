// SPDX-License-Identifier: GPL-2.0-or-later
/* Mutates reports of packets and decodes them, in pieces as they come from a socket. Every buffer is allocated to the byte, so
 * that the sanitizers see each read beyond what is there; what they cannot see is checked here: that it goes on, that records
 * point into their piece and that what is left over is less than a report.
 *
 * report_fuzz SEEDS COUNT SEED: the same arguments give the same reports. When something is found the piece is printed. */
#define PROGRAM "report_fuzz"
#define SUBJECT "piece of a stream"
#define SEED_HEAD uint32_t length;
#define SEED_MIN 12
#define SEED_MAX 8192
#include "harness.h"
#include "report.h"
#include "record.h"
#include "render.h"
#include "print.h"

static const uint32_t numbers_of_interest[] = {
	0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 199, 200, 206, 207, 0x7f, 0xff, 0x7fff, 0xffff, 0x10000, 0x7fffffff, 0x80000000,
	0xfffffff0, 0xfffffff7, 0xfffffff8, 0xfffffff9, 0xffffffff
};

static void put(uint8_t *p, uint32_t number, uint32_t size)
{
	for (uint32_t i = 0; i < size; i++)
		p[i] = (uint8_t)(number >> 8 * (size - 1 - i));
}

static void mutate(struct seed *s)
{
	uint32_t at = below(s->length), from = below(s->length), number = numbers_of_interest[below(ARRAY(numbers_of_interest))];

	switch (below(7)) {
	case 0:
		s->data[at] = (uint8_t)any();
		break;
	case 1:
		s->data[at] ^= (uint8_t)(1 << below(8));
		break;
	case 2:		/* where options have their numbers */
		at = (at & ~3u) < s->length - 4 ? at & ~3u : 0;
		put(s->data + at, number, 4);
		break;
	case 3:		/* the length of the report or of its packet */
		put(s->data + (one_in(2) ? 4 : 10), one_in(2) ? number : s->length - below(9), 2);
		break;
	case 4:
		if (at >= SEED_MIN)
			s->length = at;
		break;
	case 5:
		memmove(s->data + at, s->data + from, below(s->length - (at > from ? at : from)));
		break;
	case 6:		/* another report behind it */
		if (one_in(4)) {
			const struct seed *other = seeds + below(seed_count);
			uint32_t size = other->length < SEED_MAX - s->length ? other->length : SEED_MAX - s->length;

			memcpy(s->data + s->length, other->data, size);
			s->length += size;
		}
		break;
	}
}

static uint64_t records_total;

/* The text of a packet takes no more than is said, and is one line. */
static void print(const struct nfl_reported *r, const uint8_t *data)
{
	struct nfl_batch batch = { .records = r, .stride = sizeof(*r), .count = 1, .data = data };
	size_t most = nfl_print_most(&r->packet);
	char *text = exactly(most, NULL), *end = nfl_print(text, &batch, &r->packet);

	check(end > text && memchr(text, '\n', (size_t)(end - text)) == end - 1, "the text of a packet is not a line");
	free(text);
}

static void check_reported(const struct nfl_reported *r)
{
	struct { uint32_t at, length; } texts[] = {
		{ r->oob_in, r->oob_in_len }, { r->oob_out, r->oob_out_len }, { r->nufw_user_name, r->nufw_user_name_len },
		{ r->nufw_os_name, r->nufw_os_name_len }, { r->nufw_os_rel, r->nufw_os_rel_len },
		{ r->nufw_os_vers, r->nufw_os_vers_len }, { r->nufw_app_name, r->nufw_app_name_len },
	};

	check_record(&r->packet);
	for (uint32_t i = 0; i < ARRAY(texts); i++)
		check(texts[i].at <= tried_length && texts[i].length <= tried_length - texts[i].at,
		      "a text lies outside of its piece");
	check(!(r->packet.valid >> NFL_REPORTED_NEVER & 1), "what never holds does");
}

/* As readers/reports.py reads a connection: what is left and more, until the reporter leaves or is disconnected. */
static void read_stream(const struct seed *s)
{
	uint32_t begin = 0, end = 0;
	struct nfl_reports reports = { .received = 0 };
	uint64_t received = 0;

	for (;;) {
		uint32_t room = one_in(2) ? below(4) : 64, before = one_in(2) ? 0 : below(40), count, position = before;
		struct nfl_reported *records = exactly(room * sizeof(*records), NULL);
		uint8_t *data;

		end += one_in(2) ? below(64) : s->length;
		if (end > s->length)
			end = s->length;
		/* What others wrote may lie before it. */
		tried_length = before + end - begin;
		tried = data = exactly(tried_length, NULL);
		memset(data, 0x41, before);
		memcpy(data + before, s->data + begin, end - begin);
		reports.valid_any = 0;
		reports.valid_all = ~0ULL;
		count = nfl_report_decode(&reports, data, &position, tried_length, 1, 2, records, room);
		check(count <= room && (received += count) == reports.received, "there are more records than room, or they are not counted");
		check(position >= before && position <= tried_length, "it stopped outside of what is there");
		check(reports.stop <= NFL_REPORT_BROKEN, "there is no such reason to stop");
		check(reports.stop != NFL_REPORT_FULL || count == room, "it is full without being full");
		check(reports.stop != NFL_REPORT_MORE || tried_length - position < NFL_REPORT_MAX, "it wants what it has");
		for (uint32_t i = 0; i < count; i++) {
			check_reported(records + i);
			print(records + i, data);
			check(!(records[i].packet.valid & ~reports.valid_any) && !(reports.valid_all & ~records[i].packet.valid),
			      "valid_any or valid_all is wrong");
		}
		records_total += count;
		free(records);
		free(data);
		if (reports.stop == NFL_REPORT_BROKEN || (reports.stop == NFL_REPORT_MORE && end == s->length))
			break;
		begin += position - before;
	}
}

int main(int argc, char **argv)
{
	uint64_t wanted = start(argc, argv);
	static struct seed stream;

	for (tried_number = 0; tried_number < wanted; tried_number++) {
		memcpy(&stream, seeds + below(seed_count), sizeof(stream));
		for (uint32_t times = below(6); times; times--)
			mutate(&stream);
		read_stream(&stream);
	}
	printf("%llu mutated reports, %llu records, %.1f seconds\n", (unsigned long long)wanted, (unsigned long long)records_total,
	       seconds());
	free(seeds);
	return 0;
}
