/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A packet as one line of text, as the kernel's LOG target and ulogd's PRINTPKT write it, and lines of a log made of them.
 * This file is read twice: by the C compiler and by cffi, which takes no preprocessor lines. */

/* No text of this packet is longer, what is written beyond its end included. */
size_t nfl_print_most(const struct nfl_record *r);

/* The text of a packet at p, which has nfl_print_most() bytes, with a newline at its end and nowhere else; the place behind it. */
char *nfl_print(char *p, const struct nfl_batch *batch, const struct nfl_record *r);

/* What stands before each text: "Mmm dd hh:mm:ss" of the packet's time, as local time, between two constant texts. */
struct nfl_log {
	const char *before, *after;
	uint32_t before_length, after_length;
	int64_t second;		/* the one that `time` was made for; start with -1 */
	char time[16];
};

/* Render the batch's rows from `first` on into out: packets, a line each. *done is set to the first row that did not fit.
 * Returns the bytes written. */
size_t nfl_log_render(struct nfl_log *log, const struct nfl_batch *batch, uint32_t first, char *out, size_t size, uint32_t *done);
