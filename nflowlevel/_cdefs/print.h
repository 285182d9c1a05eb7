/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A packet as one line of text, as the kernel's LOG target and ulogd's PRINTPKT write it, and lines of a log made of them.
 * This file is read twice: by the C compiler and by cffi, which takes no preprocessor lines. */

/* No text of this packet is longer, what is written beyond its end included. */
size_t nfl_print_most(const struct nfl_record *r);

/* The text of a packet at p, which has nfl_print_most() bytes, with a newline at its end and nowhere else; the place behind it. */
char *nfl_print(char *p, const struct nfl_batch *batch, const struct nfl_record *r);

/* What a line is. */
enum nfl_log_text {
	NFL_LOG_PACKET,		/* the time, and the packet's text */
	NFL_LOG_FLOW,		/* the time, and the text of a flow */
	NFL_LOG_NAT,		/* the same of what was translated; no line for other flows */
	NFL_LOG_ACCOUNT		/* no time: the fields of NACCT; no line for a flow that is new */
};

/* What stands before each text: "Mmm dd hh:mm:ss" of the record's time, as local time, between two constant texts. */
struct nfl_log {
	const char *before, *after;
	uint32_t before_length, after_length;
	int64_t second;		/* the one that `time` was made for; start with -1 */
	char time[16];
	uint8_t text;		/* enum nfl_log_text: what the records are */
	uint32_t lines;		/* that nfl_log_render has written last */
};

/* Render the batch's rows from `first` on into out, a line each. *done is set to the first row that did not fit. Returns the
 * bytes written. */
size_t nfl_log_render(struct nfl_log *log, const struct nfl_batch *batch, uint32_t first, char *out, size_t size, uint32_t *done);
