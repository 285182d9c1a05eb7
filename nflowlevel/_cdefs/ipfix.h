/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Encode records of any kind as data records of IPFIX (RFC 7011), by a plan that Python made, and put those into messages.
 * This file is read twice: by the C compiler and by cffi, which takes no preprocessor lines.
 *
 * Between the two stands a queue of rows, each a line of bytes: its length to the first newline byte within, its class, the
 * data record, a newline. In place of each newline byte within stands the distance to the next one or to the end. Both are
 * xored with a newline, so that they are none. */

enum nfl_ipfix_kind {
	NFL_IPFIX_UNSIGNED,	/* the number of `size` bytes at field, plus `add`, in `width` bytes; one too large: all ones */
	NFL_IPFIX_BYTES,	/* `width` bytes at field */
	NFL_IPFIX_SUM,		/* uint64_t at field and at field2, added, in `width` bytes; a sum too large: all ones */
	NFL_IPFIX_PAIR,		/* uint8_t at field and at field2 */
	NFL_IPFIX_TIME,		/* uint32_t seconds at field, microseconds at field2, as milliseconds; width 4: as seconds. Where
				 * its bit is not set, what the plan's field number `otherwise` has; 255: the batch's time */
	NFL_IPFIX_TCP_FLAGS,	/* URG, ACK, PSH, RST, SYN, FIN: a byte each at field, as tcpControlBits */
	NFL_IPFIX_NAT_EVENT,	/* uint32_t at field, of enum nfl_flow_event, as natEvent (RFC 8158) of NAT44 */
	NFL_IPFIX_CHARS,	/* text in the record, up to its first NUL: at most `size` bytes; variable length */
	NFL_IPFIX_TEXT		/* text at field (uint32_t, offset into the buffer), its length (uint16_t) at field2, at most
				 * `size` bytes; variable length */
};

/* A record is of the class whose bit i is set where condition i holds: a bit number of nfl_any.valid, or one of these, which
 * only flows have. */
enum nfl_ipfix_condition {
	NFL_IPFIX_TRANSLATED = 64,	/* the reply does not come from where the original direction goes to, or the other way */
	NFL_IPFIX_BEGINS_OR_ENDS = 65	/* ct.event is new or destroy */
};

enum nfl_ipfix_limits {
	NFL_IPFIX_CLASSES = 256,
	NFL_IPFIX_RECORD_MAX = 250,	/* bytes of a data record */
	NFL_IPFIX_ROW_MAX = 253		/* with class, length and newline */
};

/* Where its bit is not set a number is 0, and a text is empty. */
struct nfl_ipfix_field {
	uint8_t kind, valid;		/* enum nfl_ipfix_kind; bit number in nfl_any.valid */
	uint8_t mask, value;		/* records of a class have it where class & mask == value */
	uint8_t size, width, add, otherwise;
	uint16_t field, field2;
};

struct nfl_ipfix_plan {
	const struct nfl_ipfix_field *fields;
	uint32_t count, condition_count;
	uint8_t conditions[8];		/* bit numbers, or enum nfl_ipfix_condition */
};

/* Encode the batch's rows from `first` on into out. *done is set to the first row that did not fit. Returns the bytes written. */
size_t nfl_ipfix_encode(const struct nfl_ipfix_plan *plan, const struct nfl_batch *batch, uint32_t first, uint8_t *out,
			size_t size, uint32_t *done);

/* Make a row of a class and a data record, which stand behind its first byte: row[0, 2 + length], of which the last is free.
 * Returns the bytes of the row. */
size_t nfl_ipfix_row(uint8_t *row, size_t length);

/* The template of a class. */
struct nfl_ipfix_template {
	const uint8_t *definition;	/* the template record, as it is sent; NULL: the class has no template */
	uint16_t size;			/* its bytes */
	uint16_t id;
	uint16_t least, most;		/* bytes of a data record */
	uint32_t announced;		/* the value of nfl_ipfix_session.round when it was sent last */
};

enum nfl_ipfix_announce { NFL_IPFIX_NEVER, NFL_IPFIX_ONCE, NFL_IPFIX_ALWAYS };

/* What is told to a collector. Its owner sets what stands first. */
struct nfl_ipfix_session {
	struct nfl_ipfix_template *templates;	/* NFL_IPFIX_CLASSES of them */
	uint32_t domain;
	uint32_t now;			/* export time */
	uint32_t sequence;		/* data records in the messages made so far */
	uint32_t round;			/* templates that were not announced in it are sent before they are used */
	uint16_t mtu;			/* bytes of a message; it is longer where a template and a record would not fit */
	uint8_t announce;		/* enum nfl_ipfix_announce */
	uint8_t broken;			/* the last call ended before what is no row of these templates */
	uint32_t records, messages;	/* of the last call */
};

/* Make messages of rows[0, size), as far as out has room for another message. *used: the bytes of the rows that are in. Returns
 * the bytes of the messages. */
size_t nfl_ipfix_pack(struct nfl_ipfix_session *session, const uint8_t *rows, size_t size, uint8_t *out, size_t room,
		      size_t *used);

/* Send messages, each as a datagram: at least `most` bytes, then a pause, then as many again. Up to `together` messages of one length
 * are handed to the kernel as one piece, which it splits; with 1 none are. An error of the socket ends it, also in a pause, and so
 * does a socket that takes no more. The bytes that were sent; -errno where that is none. */
int nfl_ipfix_send(int fd, const uint8_t *messages, uint32_t size, uint32_t most, int pause_ms, uint32_t together);
