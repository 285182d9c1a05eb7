/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Render records as lines of JSON, as rows for a database, or one of their columns as text, by a plan that Python made.
 * This file is read twice: by the C compiler and by cffi, which takes no preprocessor lines. */

/* How a value lies in the record (field = offset of the field) or beside it (values = one per row). */
enum nfl_kind {
	NFL_U8, NFL_U16, NFL_U32,
	NFL_BYTES_TEXT,		/* text at field (offset into the buffer), its length at field2 */
	NFL_ADDR,		/* 4 or 16 address bytes, by nfl_record.valid */
	NFL_ADDR4,
	NFL_MAC,		/* hardware address bytes in the record, their number (uint8_t) at field2 */
	NFL_MAC_BYTES,		/* bytes at field (offset into the buffer), their number (uint16_t) at field2 */
	NFL_IFNAME,		/* an interface index: its name in the table, or "" */
	NFL_ACTION,		/* uint8_t: 0 "blocked", else "allowed" */
	NFL_ADDR_BIN,		/* as NFL_ADDR: "0x" and 32 hex digits, IPv4 mapped into ::ffff:0:0/96 */
	NFL_ADDR_NUMBER,	/* 4 address bytes as a number; no value where the address is IPv6 */
	NFL_BYTES_HEX,		/* bytes at field (offset into the buffer), their number at field2: "\\x" and hex digits */
	NFL_FIXED_HEX,		/* bytes in the record, their number (uint16_t) at field2 or, where that is 0, in width */
	NFL_TIME,		/* oob_time_sec and oob_time_usec as UTC, or the batch's time */
	NFL_ROW_INT,		/* values: int64_t a row */
	NFL_ROW_UINT,		/* values: uint64_t a row */
	NFL_ROW_FLOAT,		/* values: double a row */
	NFL_ROW_TEXT		/* values: nfl_span a row, into blob */
};

enum nfl_label { NFL_LABEL_BYTES = 32 };	/* labels lie in at least as many readable bytes */

struct nfl_span { uint32_t at, length; };

struct nfl_column {
	const char *label;	/* what stands before the value: separator, name, colon */
	uint32_t label_length;
	uint8_t kind, valid;	/* enum nfl_kind; bit number in nfl_record.valid */
	uint16_t field, field2;
	uint16_t width;		/* NFL_FIXED_HEX; NFL_BYTES_HEX: bytes that field2 has, 2 or 4 */
	const void *values;	/* kinds NFL_ROW_*: one a row, by row number */
	const uint8_t *present;	/* kinds NFL_ROW_*: 0 where the row has no value; NULL: all have one */
	const char *blob;
};

struct nfl_ifname { uint32_t index; uint32_t length; char name[32]; };

struct nfl_json {
	const char *head;	/* beginning of each line, up to the timestamp's text (or to the columns) */
	uint32_t head_length;
	uint8_t timestamp;	/* 1: head ends where the timestamp's text goes */
	const char *tail;	/* after the timestamp's text: closing quote, constant members */
	uint32_t tail_length;
	const struct nfl_column *columns;
	uint32_t count;
	uint32_t fixed_size;	/* no line is longer than this plus its texts */
	const struct nfl_ifname *ifnames;	/* ascending by index */
	uint32_t ifname_count;
	int64_t batch_second;	/* time of rows without a record; batch_usec above 999999: to the second only */
	uint32_t batch_usec;
	int64_t second;		/* the second that clock and zone were made for; start with -1 */
	char clock[32], zone[8];
	uint32_t clock_length;
};

/* Render rows first..count-1 (row i is records[rows[i]], or records[i] where rows is NULL) into out. Where records is NULL
 * all columns are of the kinds NFL_ROW_*; *done is set to the first
 * row that did not fit. Returns the bytes written. */
size_t nfl_json_render(struct nfl_json *plan, const struct nfl_record *records, const uint8_t *data,
		       const uint32_t *rows, uint32_t first, uint32_t count, char *out, size_t size, uint32_t *done);

/* Rows in the text format of PostgreSQL's COPY (its documentation, "COPY", Text Format): fields between tabs, "\N" where the
 * record has no value, a newline behind each row. */
struct nfl_copy {
	const struct nfl_column *columns;
	uint32_t count;
	uint32_t fixed_size;	/* no row is longer than this plus its texts */
	const struct nfl_ifname *ifnames;	/* ascending by index */
	uint32_t ifname_count;
	int64_t batch_second;	/* time of rows without a record */
	uint32_t batch_usec;
	int64_t second;		/* the second that clock was made for; start with -1 */
	char clock[32];
	uint32_t clock_length;
};

/* As nfl_json_render. */
size_t nfl_copy_render(struct nfl_copy *plan, const struct nfl_record *records, const uint8_t *data,
		       const uint32_t *rows, uint32_t first, uint32_t count, char *out, size_t size, uint32_t *done);

/* One column as text, each row's value followed by a NUL; rows without a value give an empty text. As above otherwise. */
size_t nfl_text_render(const struct nfl_column *column, const struct nfl_ifname *ifnames, uint32_t ifname_count,
		       const struct nfl_record *records, const uint8_t *data, const uint32_t *rows,
		       uint32_t first, uint32_t count, char *out, size_t size, uint32_t *done);
