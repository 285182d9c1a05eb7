/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What all records have in common: packets (packet.h), accounting objects (counter.h), and kinds that are yet to come.
 * This file is read twice: by the C compiler and by cffi, which takes no preprocessor lines.
 */

/* A record of any kind, as far as all are alike. Each kind numbers its own bits; one bit stands for all keys that come together
 * (records/keys.py says which). Bit 0 is always set. A field whose bit is not set is zero. */
struct nfl_any {
	uint64_t valid;
};

struct nfl_ifname { uint32_t index; uint32_t length; char name[32]; };

/* What is rendered: some records of one kind, and what they refer to. */
struct nfl_batch {
	const void *records;	/* NULL: the rows have nothing but columns of the kinds NFL_ROW_* */
	uint32_t stride;	/* bytes from record to record */
	uint32_t count;		/* rows */
	const uint32_t *rows;	/* the number of each row's record; NULL: row i is record i */
	const uint8_t *data;	/* what offsets in the records point into */
	const struct nfl_ifname *ifnames;	/* ascending by index */
	uint32_t ifname_count;
	uint32_t usec;		/* with second: the time of records that have none; above 999999: to the second only */
	int64_t second;
};
