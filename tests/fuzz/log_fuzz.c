// SPDX-License-Identifier: GPL-2.0-or-later
/* Mutates lines of the kernel's LOG target and makes JSON of them. Every buffer is allocated to the byte, so that the sanitizers see
 * each access beyond what is there; what they cannot see is checked here: that it goes on, that it stops only where a line begins,
 * and that all that is written are whole lines.
 *
 * log_fuzz SEEDS COUNT SEED: the same arguments give the same lines. When something is found they are printed. */
#define PROGRAM "log_fuzz"
#define SUBJECT "block of log lines"
#define SEED_HEAD uint32_t length;
#define SEED_MIN 2
#define SEED_MAX 8192
#include "harness.h"
#include "logscan.h"

static const char *const pieces[] = {
	"\n", " ", "\"", "\\", "[", "]", "IN=", " OUT=", "SRC=", "DST=", "LEN=0 ", "TOS=0x00 ", "PROTO=TCP ", "PROTO=2 ", "MARK=0x1",
	"OPT (020405B4)", "AE CWR ", "MAC=", "MACSRC=", "UID=0 ", "99999999999", "ffff:", "1.2.3.4", "kernel: ", "ulogd[1]: ", "kern.warn ",
	"[ 17.25] ", "2026-11-27T12:00:00.5+01:00 ", "Nov 27 12:00:00 ", "\xc3\xbc",
};

static void mutate(struct seed *s)
{
	uint32_t at = below(s->length), from = below(s->length), size;
	const char *piece = pieces[below(ARRAY(pieces))];

	switch (below(5)) {
	case 0:
		s->data[at] = (uint8_t)any();
		break;
	case 1:		/* something of a line in the place of what is there, or before it */
		size = (uint32_t)strlen(piece);
		if (s->length + size > SEED_MAX)
			break;
		if (one_in(2)) {
			memmove(s->data + at + size, s->data + at, s->length - at);
			s->length += size;
		} else if (at + size > s->length) {
			break;
		}
		memcpy(s->data + at, piece, size);
		break;
	case 2:
		if (at >= SEED_MIN)
			s->length = at;
		break;
	case 3:
		memmove(s->data + at, s->data + from, below(s->length - (at > from ? at : from)));
		break;
	case 4:		/* more lines behind it */
		if (one_in(2)) {
			const struct seed *other = seeds + below(seed_count);

			size = other->length < SEED_MAX - s->length ? other->length : SEED_MAX - s->length;
			memcpy(s->data + s->length, other->data, size);
			s->length += size;
		}
		break;
	}
}

static uint64_t packets_total, odd_total;

static void scan(const struct seed *s)
{
	uint32_t at = 0, why = NFL_LOGSCAN_END, asked = 0;
	struct nfl_logscan plan = { .size = NFL_LOGSCAN_ROOM + below(1000) };
	uint8_t *data = exactly(s->length, s->data);

	tried = data;
	tried_length = s->length;
	plan.out = exactly(plan.size, NULL);
	while (at < s->length) {
		uint32_t size = nfl_logscan_lines(&plan, (const char *)data + at, s->length - at, &why), newlines = 0;

		check(size <= s->length - at, "it reads beyond the end");
		at += size;
		check(!at || at == s->length || data[at - 1] == '\n', "it stops within a line");
		check(plan.used <= plan.size && (!plan.used || plan.out[plan.used - 1] == '\n'), "what is written is no whole line");
		for (uint32_t i = 0; i < plan.used; i++) {
			newlines += plan.out[i] == '\n';
			check(plan.out[i] == '\n' || (plan.out[i] >= 0x20 && plan.out[i] < 0x7f), "what is written is not plain");
		}
		check(newlines == plan.packets, "there are not as many lines as packets");
		packets_total += plan.packets;
		plan.used = plan.packets = 0;
		if (why == NFL_LOGSCAN_END) {
			check(at == s->length, "it stops before the end");
		} else if (why == NFL_LOGSCAN_TIME) {
			struct nfl_logscan_minute minute = plan.asked;

			check(minute.length && minute.length <= NFL_LOGSCAN_MINUTE_MAX && minute.zone_length <= NFL_LOGSCAN_ZONE_MAX,
			      "it asks for no minute");
			check(size || !asked++, "it asks for a minute that it knows");
			minute.sec = one_in(8) ? -1 : 60 * (int64_t)below(40000000);
			plan.minutes[nfl_logscan_place(&minute)] = minute;
			continue;
		} else if (why == NFL_LOGSCAN_ODD) {
			odd_total++;
			while (at < s->length && data[at] != '\n')
				at++;
			at += at < s->length;
		} else {
			check(size, "it does not go on");
		}
		asked = 0;
	}
	free(plan.out);
	free(data);
}

int main(int argc, char **argv)
{
	uint64_t wanted = start(argc, argv);
	static struct seed lines;

	for (tried_number = 0; tried_number < wanted; tried_number++) {
		memcpy(&lines, seeds + below(seed_count), sizeof(lines));
		for (uint32_t times = below(6); times; times--)
			mutate(&lines);
		scan(&lines);
	}
	printf("%llu mutated blocks of log lines, %llu packets, %llu handed back, %.1f seconds\n", (unsigned long long)wanted,
	       (unsigned long long)packets_total, (unsigned long long)odd_total, seconds());
	free(seeds);
	return 0;
}
