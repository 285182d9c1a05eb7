/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Receive what nfnetlink_acct answers and decode it into an array of counters.
 * This file is read twice: by the C compiler and by cffi, which takes no preprocessor lines.
 */

/* Bit numbers of nfl_counter.valid; keys.py has the same conditions in the same order. */
enum nfl_counter_valid { NFL_COUNTER_ALWAYS, NFL_COUNTER_TIME };

/* An accounting object, as a record (record.h). Numbers are in host order. */
struct nfl_counter {
	uint64_t valid;
	uint64_t packets, bytes, quota;
	uint32_t flags;			/* NFACCT_F_*; 0 without a quota */
	uint32_t uses;			/* 1, and 1 more for each rule that counts into it */
	uint16_t length;		/* of its message */
	uint16_t head;			/* of the message up to the end of the name: see nfl_counters_room */
	uint32_t time_sec, time_usec;	/* of the poll, where nfl_counters_stamp was told it */
	char name[32];			/* NUL-padded; NFACCT_NAME_MAX */
};

enum nfl_counter_limits {
	NFL_COUNTER_MESSAGE_MIN = 20,	/* nlmsghdr and nfgenmsg */
	NFL_COUNTER_MESSAGE_MAX = 108	/* with all attributes and the longest name */
};

/* The answer to one request. Zeroed by its owner, who sets seq. */
struct nfl_answer {
	uint32_t seq;			/* of the request; 0 for notifications */
	uint32_t count;			/* counters decoded so far */
	uint32_t used;			/* bytes of the last datagram */
	uint32_t malformed;		/* messages that could not be decoded */
	uint64_t foreign;		/* datagrams of other processes, thrown away */
	uint8_t interrupted;		/* the kernel says that the objects changed during the dump */
};

/* Decode the datagram data[0, length) behind the counters[0, a->count) that are there, up to `room` of them.
 * 1: more is to come; 0: the answer is complete; -errno: the kernel refused the request or gave it up. */
int nfl_counters_decode(struct nfl_answer *a, const uint8_t *data, uint32_t length, struct nfl_counter *counters,
			uint32_t room);

/* Receive one datagram into buffer[0, size) and decode it; -EAGAIN when there is none, -EMSGSIZE when it was longer.
 * room >= a->count + size / NFL_COUNTER_MESSAGE_MIN. The kernel makes the next datagram of a dump as long as the largest
 * `size` this socket was read with. */
int nfl_counters_receive(struct nfl_answer *a, int fd, uint8_t *buffer, uint32_t size, struct nfl_counter *counters,
			 uint32_t room);

/* Choose how long the datagram of a dump may be that begins with counters[first]: at least `least`, at most `most` bytes, so
 * that the kernel does not run out of room within a message. It zeroes an object after it has put the name into the message;
 * where the numbers then do not fit, it begins the next datagram with that object once more, as zero: its counts are gone
 * (nfnetlink_acct.c, nfnl_acct_fill_info). *next is the first object that does not fit. 0 when there is no such length. */
uint32_t nfl_counters_room(const struct nfl_counter *counters, uint32_t first, uint32_t count, uint32_t least, uint32_t most,
			   uint32_t *next);

/* Say of all counters that they were read at this time. */
void nfl_counters_stamp(struct nfl_counter *counters, uint32_t count, uint32_t sec, uint32_t usec);

/* Write the names, each with a NUL behind it, to out[0, size); size >= count * sizeof(name). Returns the bytes written. */
uint32_t nfl_counters_names(const struct nfl_counter *counters, uint32_t count, char *out);
