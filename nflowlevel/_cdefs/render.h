/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Render records of any kind as lines (JSON, "name=value", XML), as rows for a database, or one of their columns as text, by a
 * plan that Python made.
 * This file is read twice: by the C compiler and by cffi, which takes no preprocessor lines. */

/* How a value lies in the record (field = offset of the field) or beside it (values = one per row). */
enum nfl_kind {
	NFL_U8, NFL_U16, NFL_U32, NFL_U64,
	NFL_BYTES_TEXT,		/* text at field (offset into the buffer), its length at field2 */
	NFL_CHARS,		/* text in the record, up to its first NUL: at most `width` bytes and, where field2 is not 0, at
				 * most as many as it says (uint16_t) */
	NFL_IFNAME,		/* an interface index: its name in the table, or "" */
	NFL_ACTION,		/* uint8_t: 0 "blocked", else "allowed" */
	NFL_PROTOCOL,		/* uint8_t: the protocol's name */
	NFL_ADDR,		/* 4 address bytes, or 16 where the bit `six` is set */
	NFL_ADDR4,
	NFL_ADDR_BIN,		/* as NFL_ADDR: "0x" and 32 hex digits, IPv4 mapped into ::ffff:0:0/96 */
	NFL_MAC,		/* hardware address bytes in the record, their number (uint8_t, at most width) at field2 */
	NFL_MAC_BYTES,		/* bytes at field (offset into the buffer), their number (uint16_t) at field2 */
	NFL_ADDR_NUMBER,	/* 4 address bytes as a number; where width is 16, no value if the bit `six` is set */
	NFL_BYTES_HEX,		/* bytes at field (offset into the buffer), their number at field2: "\\x" and hex digits */
	NFL_PRINT,		/* the packet as a line of text (print.h); its records are of struct nfl_record */
	NFL_PRINT_FLOW,		/* the flow as a line of text (flowtext.h); its records are of struct nfl_flow */
	NFL_PRINT_NAT,		/* the same: what was translated to what */
	NFL_FIXED_HEX,		/* bytes in the record, their number (uint16_t) at field2 or, where that is 0, in width */
	NFL_TIME,		/* the record's time, as UTC */
	NFL_WORD,		/* lines: no value, the label says it all */
	NFL_U32_SET,		/* lines: as NFL_U32; no value where it is 0 */
	NFL_HEX16,		/* lines: uint16_t as 4 hex digits */
	NFL_U64_LONG,		/* lines: uint64_t as 20 digits */
	NFL_FLOW_ELEMENT,	/* lines: what stands in an element of a flow (flowtext.h) */
	NFL_WHEN,		/* lines: the record's local time, an element for each of its parts */
	NFL_ROW_INT,		/* values: int64_t a row */
	NFL_ROW_UINT,		/* values: uint64_t a row */
	NFL_ROW_FLOAT,		/* values: double a row */
	NFL_ROW_TEXT,		/* values: nfl_span a row, into blob */
	NFL_ROW_NONE		/* no row has a value */
};

enum nfl_label { NFL_LABEL_BYTES = 32 };	/* labels lie in at least as many readable bytes */

struct nfl_span { uint32_t at, length; };

struct nfl_column {
	const char *label;	/* what stands before the value: separator, name, colon */
	uint32_t label_length;
	uint8_t kind, valid;	/* enum nfl_kind; bit number in nfl_any.valid */
	uint8_t six;		/* addresses: number of the bit that says IPv6 */
	uint16_t field, field2;
	uint16_t width;		/* bytes of the field in the record; NFL_BYTES_HEX: those of field2, 2 or 4; NFL_ROW_UINT in XML:
				 * not 0 where it has 20 digits */
	const void *values;	/* kinds NFL_ROW_*: one a row, by row number */
	const uint8_t *present;	/* kinds NFL_ROW_*: 0 where the row has no value; NULL: all have one */
	const char *blob;
	const char *after;	/* XML: what stands behind the value */
	uint32_t after_length;
};

/* Where a record has its time. */
enum nfl_clock {
	NFL_CLOCK_BATCH,	/* it has none: that of nfl_batch */
	NFL_CLOCK_USEC,		/* uint32_t seconds at `time`, uint32_t microseconds at time_usec */
	NFL_CLOCK_NS		/* uint64_t nanoseconds since 1970 at `time` */
};

/* What is rendered of each row, and how a second was written last. */
struct nfl_plan {
	const struct nfl_column *columns;
	uint32_t count;
	uint32_t fixed_size;	/* no line or row is longer than this plus its texts */
	uint8_t clock;		/* enum nfl_clock; NFL_CLOCK_BATCH where there are no records */
	uint8_t whole;		/* number of the bit that says that only the second is known; 0: there is none */
	uint16_t time, time_usec;
	int64_t second;		/* the second that `text` was made for; start with -1 */
	char text[32];
	uint32_t text_length;
};

/* How lines are written. */
enum nfl_form {
	NFL_JSON,		/* members of an object (RFC 8259), texts in quotes */
	NFL_ITEMS,		/* values behind their labels, `separator` behind each; texts with backslash escapes */
	NFL_XML			/* elements: `label` and `after` are their tags, texts with character references */
};

struct nfl_lines {
	struct nfl_plan plan;
	const char *head;	/* beginning of each line, up to the timestamp's text (or to the columns) */
	const char *tail;	/* JSON: after the timestamp's text: closing quote, constant members */
	const char *foot;	/* XML: end of each line */
	uint32_t head_length, tail_length, foot_length;
	uint8_t form;		/* enum nfl_form */
	char separator;		/* NFL_ITEMS: a comma or a newline */
	uint8_t timestamp;	/* JSON: 1: head ends where the timestamp's text goes */
	char zone[8];
	char when[160];		/* XML: plan.second, as NFL_WHEN writes it */
	uint32_t when_length;
};

/* Render the batch's rows from `first` on into out. *done is set to the first row that did not fit. Returns the bytes
 * written. */
size_t nfl_lines_render(struct nfl_lines *lines, const struct nfl_batch *batch, uint32_t first, char *out, size_t size,
			uint32_t *done);

/* Rows in the text format of PostgreSQL's COPY (its documentation, "COPY", Text Format): fields between tabs, "\N" where the
 * record has no value, a newline behind each row. As nfl_lines_render. */
size_t nfl_copy_render(struct nfl_plan *plan, const struct nfl_batch *batch, uint32_t first, char *out, size_t size,
		       uint32_t *done);

/* One column as text, each row's value followed by a NUL; rows without a value give an empty text. As above otherwise. */
size_t nfl_text_render(const struct nfl_column *column, const struct nfl_batch *batch, uint32_t first, char *out,
		       size_t size, uint32_t *done);
