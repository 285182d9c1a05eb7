/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Read plain lines of the kernel's LOG target, of LOGEMU and of SYSLOG, and write lines of JSON, with the members that the output
 * JSON gives them. Plain: ASCII, the usual head, one whole packet without fragments, options of IP and embedded packets. It stops at
 * any other line, which is left to a reader that knows all forms: so nothing here decides what is damaged.
 * This file is read twice: by the C compiler and by cffi, which takes no preprocessor lines.
 */

enum nfl_logscan_limits {
	NFL_LOGSCAN_ROOM = 12288,		/* bytes that must be writable for one more line */
	NFL_LOGSCAN_LINE_MAX = 8192,	/* a longer line is not plain */
	NFL_LOGSCAN_MINUTE_MAX = 17, NFL_LOGSCAN_ZONE_MAX = 6,
	NFL_LOGSCAN_MINUTES = 64		/* minutes that are known at a time: lines of one may stand among those of another */
};

/* Why it stopped. */
enum nfl_logscan_stop {
	NFL_LOGSCAN_END,			/* all is read */
	NFL_LOGSCAN_FULL,			/* there is no room for one more line */
	NFL_LOGSCAN_ODD,			/* the next line is left to the other reader */
	NFL_LOGSCAN_TIME			/* the next line begins with a minute that is not known: see `asked` */
};

/* A minute as lines have it, up to its last colon, and the zone behind it. */
struct nfl_logscan_minute {
	char text[NFL_LOGSCAN_MINUTE_MAX], zone[NFL_LOGSCAN_ZONE_MAX];
	uint8_t length, zone_length;	/* length 0: no entry */
	int64_t sec;			/* when it begins, since 1970; negative: lines of it are left to the other reader */
};

struct nfl_logscan {
	struct nfl_logscan_minute minutes[NFL_LOGSCAN_MINUTES];
	struct nfl_logscan_minute asked;
	char *out;
	uint32_t size, used;
	uint32_t lines, packets, other;	/* how many were read, became JSON, and are about something else; only counted up */
};

/* Where a minute is kept. */
uint32_t nfl_logscan_place(const struct nfl_logscan_minute *minute);

/* Read whole lines from data[0, size) until it has to stop (enum nfl_logscan_stop, into *why); returns the bytes that were read. */
uint32_t nfl_logscan_lines(struct nfl_logscan *s, const char *data, uint32_t size, uint32_t *why);
