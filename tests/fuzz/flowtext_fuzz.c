// SPDX-License-Identifier: GPL-2.0-or-later
/* Mutates messages of nf_conntrack_netlink, decodes them and writes the flows as text; then the same of flows of random bytes.
 * Every buffer is allocated to the byte, so that the sanitizers see each access beyond it.
 *
 * flowtext_fuzz SEEDS COUNT SEED: the same arguments give the same messages. When something is found the message is printed. */
#define PROGRAM "flowtext_fuzz"
#define SUBJECT "message"
#define SEED_HEAD uint32_t length;
#define SEED_MIN 20
#define SEED_MAX 4096
#include "harness.h"
#include "record.h"
#include "flow.h"
#include "flowtext.h"
#include "communityid.h"

static uint64_t records_total;

static void mutate(struct seed *s)
{
	uint32_t at = below(s->length), from = below(s->length);

	switch (one_in(8) ? 4 : below(4)) {
	case 0:
		s->data[at] = (uint8_t)any();
		break;
	case 1:
		s->data[at] ^= (uint8_t)(1 << below(8));
		break;
	case 2:		/* the length of an attribute */
		at = (at & ~3u) < s->length - 4 ? at & ~3u : 0;
		s->data[at] = (uint8_t)(one_in(2) ? below(12) : any());
		s->data[at + 1] = (uint8_t)(one_in(4) ? any() : 0);
		break;
	case 3:
		memmove(s->data + at, s->data + from, below(s->length - (at > from ? at : from)));
		break;
	case 4:
		if (at >= SEED_MIN)
			s->length = at;
		break;
	}
}

static void line(char *(*write)(char *, const struct nfl_flow *), const struct nfl_flow *f)
{
	char *text = exactly(NFL_FLOW_TEXT_BYTES, NULL), *end = write(text, f);

	check(end > text && memchr(text, '\n', (size_t)(end - text)) == end - 1, "the text of a flow is not a line");
	free(text);
}

static void community_id(const struct nfl_flow *f)
{
	struct nfl_batch batch = { .records = f, .stride = sizeof(*f), .count = 1 };
	char *id = exactly(NFL_COMMUNITY_ID_BYTES, NULL);
	uint8_t *present = exactly(1, NULL);

	nfl_community_ids(&batch, 1, (uint16_t)any(), id, present);
	check(*present ? !memcmp(id, "1:", 2) && id[NFL_COMMUNITY_ID_BYTES - 1] == '=' : id[0] == ' ', "a community ID is none");
	free(id);
	free(present);
}

static void print(const struct nfl_flow *f)
{
	char *text = exactly(NFL_FLOW_XML_BYTES, NULL), *end = nfl_flow_xml(text, f, (int64_t)any());

	check(!memchr(text, '&', (size_t)(end - text)), "an element has what would have to be escaped");
	free(text);
	community_id(f);
	line(nfl_flow_print, f);
	line(nfl_flow_translated, f);
	line(nfl_flow_account, f);
}

static void decode(const struct seed *s)
{
	struct nfl_flows flows = { .events = one_in(4) ? below(8) : 7, .seq = one_in(8) };
	uint32_t room = one_in(8) ? 0 : 2, count;
	struct nfl_flow *records = exactly(room * sizeof(*records), NULL);
	uint8_t *data;

	flows.valid_all = ~0ULL;
	tried_length = s->length;
	tried = data = exactly(s->length, s->data);
	/* A length of the message that is right lets more of it be read. */
	if (s->length >= 4 && !one_in(4))
		memcpy(data, &s->length, 4);
	count = nfl_flows_decode(&flows, data, s->length, any(), records, room);
	check(count <= room && count == flows.received, "there are more flows than room, or they are not counted");
	for (uint32_t i = 0; i < count; i++) {
		check(records[i].valid & 1, "a flow does not hold what always holds");
		check(!(records[i].valid & ~flows.valid_any) && !(flows.valid_all & ~records[i].valid), "valid_any or valid_all is wrong");
		print(records + i);
	}
	records_total += count;
	free(records);
	free(data);
}

static void random_flow(void)
{
	struct nfl_flow *f = exactly(sizeof(*f), NULL);

	for (uint32_t i = 0; i < sizeof(*f); i++)
		((uint8_t *)f)[i] = one_in(3) ? 0xff : (uint8_t)any();
	print(f);
	free(f);
}

int main(int argc, char **argv)
{
	uint64_t wanted = start(argc, argv);
	static struct seed message;

	for (tried_number = 0; tried_number < wanted; tried_number++) {
		memcpy(&message, seeds + below(seed_count), sizeof(message));
		for (uint32_t times = below(3); times; times--)
			mutate(&message);
		decode(&message);
		if (one_in(8))
			random_flow();
	}
	printf("%llu mutated messages of conntrack, %llu flows, %.1f seconds\n", (unsigned long long)wanted,
	       (unsigned long long)records_total, seconds());
	free(seeds);
	return 0;
}
