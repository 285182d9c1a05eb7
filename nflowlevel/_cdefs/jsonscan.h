/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Read plain lines of JSON into columns, as JSON outputs write them: one flat object a line, whole numbers, ASCII without escapes.
 * Any other line is only pointed out, and left to a reader that knows all of JSON: so nothing here decides what a record is.
 * This file is read twice: by the C compiler and by cffi, which takes no preprocessor lines.
 */

/* What becomes of a member's value. */
enum nfl_scan_kind {
	NFL_SCAN_NONE,			/* in no column */
	NFL_SCAN_U8, NFL_SCAN_U16, NFL_SCAN_U32, NFL_SCAN_U64,
	NFL_SCAN_TEXT,			/* a view of 16 bytes, as Arrow has it, into `texts` */
	NFL_SCAN_ACTION,		/* u8: "blocked" 0, "allowed" 1, else no value */
	NFL_SCAN_SEC, NFL_SCAN_USEC,	/* u32: parts of the time */
	NFL_SCAN_ODD			/* a line with it is left to the other reader */
};

enum nfl_scan_limits { NFL_SCAN_MEMBERS_MAX = 1024, NFL_SCAN_COLUMNS_MAX = 512 };

struct nfl_scan_member {
	const char *name;
	uint32_t length;
	uint16_t kind;
	uint16_t column;
	uint32_t next;			/* the one that followed it last time: lines of one writer are alike */
};

struct nfl_scan_column {
	uint8_t *valid;			/* a bit for each row */
	uint8_t *values;
};

struct nfl_scan_line {
	uint32_t start, length;
};

/* What is looked for, and where it goes. members has count + 1 entries: the last one has no name, its `next` is the first of a
 * line. table has mask + 1 entries, more than count: numbers of members, UINT32_MAX where there is none. */
struct nfl_scan {
	struct nfl_scan_member *members;
	uint32_t count, mask;
	uint32_t *table;
	struct nfl_scan_column *columns;
	uint32_t columns_count;
	int64_t *sec, *us;		/* of each row: the time, in seconds and in microseconds */
	char *texts;			/* copies of those that do not fit into their view */
	uint32_t texts_room, texts_used; /* a line that finds no room is left to the other reader: give as much as there are lines */
	uint32_t room;			/* for rows */
	struct nfl_scan_line *odd;	/* lines that are left to the other reader */
	uint32_t odd_room;
	uint32_t rows, odds;		/* how many there are */
};

/* The place of a name in the table, before & mask. */
uint32_t nfl_scan_hash(const char *name, uint32_t length);

/* Read lines from data[0, size) until all are read or the room for rows or odd lines is full; returns the bytes that were read.
 * All valid bits are 0 before. Nothing points into data behind it. */
uint32_t nfl_scan_lines(struct nfl_scan *s, const char *data, uint32_t size);

enum nfl_scan_state { NFL_SCAN_EMPTY, NFL_SCAN_SAME, NFL_SCAN_MIXED };

/* What the first rows of a column have, one at least, each value `width` bytes: none a value, all the same one, or anything else.
 * A long text that comes again after another one counts as another. */
enum nfl_scan_state nfl_scan_state(const struct nfl_scan_column *column, uint32_t width, uint32_t rows);
