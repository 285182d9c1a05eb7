/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Write packets as the records of a capture file (pcap, pcapng).
 * This file is read twice: by the C compiler and by cffi, which takes no preprocessor lines.
 */

/* The number that an interface of the kernel has in the file (pcapng). */
struct nfl_described { uint32_t index, id; };

/* What is written, and what came of the last call. Its owner sets what stands first. */
struct nfl_capture_writer {
	uint32_t linktype;		/* NFL_LINK_NFLOG, NFL_LINK_ETHERNET; else raw IP */
	uint32_t snaplen;		/* no record has more bytes of a packet */
	uint16_t group;			/* NFLOG's head names it */
	uint8_t blocks;			/* pcapng; else pcap */
	const struct nfl_described *interfaces;	/* pcapng: ascending by index; index 0 is for packets without an interface */
	uint32_t interface_count;
	uint32_t undescribed;		/* the index that ended the call, as the table lacks it; else 0xffffffff */
	uint32_t written, unfit;	/* rows that became records, and rows that the link type cannot hold */
};

/* Write the batch's rows from `first` on into out. *done is set to the first row that did not fit, or whose interface is not in
 * the table. Returns the bytes written. */
size_t nfl_capture_write(struct nfl_capture_writer *w, const struct nfl_batch *batch, uint32_t first, char *out, size_t size,
			 uint32_t *done);

/* Go through the records (blocks) of data[0, length), which begins with one; *packets is increased by the packets among them.
 * Of section headers and interface descriptions (pcapng) the first `room` places are put into `places`; *found is increased by
 * how many there are (NULL: nobody asks). Returns where the last whole record ends; *broken: what follows has a length that
 * cannot be, so it is not just cut. */
uint32_t nfl_capture_follow(uint8_t blocks, uint32_t snaplen, const uint8_t *data, uint32_t length, uint64_t *packets,
			    uint8_t *broken, uint32_t *places, uint32_t room, uint32_t *found);

/* Find where the last whole record of a file ends by its last `length` bytes alone, which need not begin with one. Every place in
 * the first `window` bytes, of which one must be the beginning of a record, is tried; `ends` has room for `length` + 1 numbers.
 * Returns the place in `data`, or 0xffffffff where the records found do not agree. */
uint32_t nfl_capture_last(uint8_t blocks, uint32_t snaplen, const uint8_t *data, uint32_t length, uint32_t window, uint32_t *ends);
