/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Decode what programs report of packets to ulogd's unix socket into an array of records.
 * This file is read twice: by the C compiler and by cffi, which takes no preprocessor lines.
 *
 * A report is (numbers in network order, but those marked *, which are in the reporter's own):
 *	0	marker 0x41c90fd4
 *	4	u16: bytes of the report behind the marker
 *	6	u32, not used
 *	10	u16: bytes of the packet
 *	12	the packet, filled up with zeros to a multiple of 8
 *	...	options: u32 id, u32 length, a value that is filled up to a multiple of 8
 */

enum nfl_report_limits {
	NFL_REPORT_MIN = 12,		/* a report without packet and options */
	NFL_REPORT_MAX = 65539		/* all that its length can say, and the marker */
};

/* Options by id. Texts end at their NUL, or with the value. */
enum nfl_report_option {
	NFL_REPORT_OPTION_PREFIX = 1, NFL_REPORT_OPTION_IN = 2, NFL_REPORT_OPTION_OUT = 3,
	NFL_REPORT_OPTION_SECONDS = 4,	/* u32*: since 1970 */
	NFL_REPORT_OPTION_USER_NAME = 200,
	NFL_REPORT_OPTION_USER_ID = 201,	/* u32* */
	NFL_REPORT_OPTION_OS_NAME = 202, NFL_REPORT_OPTION_OS_REL = 203, NFL_REPORT_OPTION_OS_VERS = 204,
	NFL_REPORT_OPTION_APP_NAME = 205,
	NFL_REPORT_OPTION_STATE = 206	/* u8 */
};

/* Bit numbers of nfl_reported.valid besides those of nfl_record: what the reporter said (ReportedCondition of
 * records/keys.py has the same in the same order). */
enum nfl_reported_valid {
	NFL_REPORTED_ALWAYS = NFL_VALID_ARP_ADDR + 1,	/* it is an nfl_reported */
	NFL_REPORTED_NEVER,				/* is not set */
	NFL_REPORTED_PREFIX, NFL_REPORTED_PROTOCOL,	/* as those of a packet, but the reporter says it */
	NFL_REPORTED_SECONDS, NFL_REPORTED_IN, NFL_REPORTED_OUT, NFL_REPORTED_STATE, NFL_REPORTED_USER_NAME,
	NFL_REPORTED_USER_ID, NFL_REPORTED_OS_NAME, NFL_REPORTED_OS_REL, NFL_REPORTED_OS_VERS, NFL_REPORTED_APP_NAME
};

/* A reported packet, as a record (record.h). Its time is that of reception where the reporter says none. */
struct nfl_reported {
	struct nfl_record packet;
	uint32_t oob_in, oob_out, nufw_user_name, nufw_os_name, nufw_os_rel, nufw_os_vers, nufw_app_name;
	uint32_t nufw_user_id;
	uint16_t oob_in_len, oob_out_len, nufw_user_name_len, nufw_os_name_len, nufw_os_rel_len, nufw_os_vers_len,
		 nufw_app_name_len, unused;
};

/* Why nfl_report_decode stopped. */
enum nfl_report_stop {
	NFL_REPORT_MORE,	/* the report there is not whole */
	NFL_REPORT_FULL,	/* there is no room for another record */
	NFL_REPORT_BROKEN	/* no marker, or a length that cannot be: nothing can be read from there on */
};

/* What was counted. Zeroed by its owner. */
struct nfl_reports {
	uint64_t valid_any, valid_all;	/* nfl_reported.valid of the records, joined by or and by and; the owner sets them */
	uint64_t received;
	uint64_t malformed;		/* reports left out: their packet is longer than they are */
	uint64_t cut;			/* options that are not whole, left out with all behind them, or too short for their value */
	uint64_t unknown;		/* options with an id that is not known */
	uint32_t unknown_id;		/* that of the last one */
	uint8_t stop;			/* enum nfl_report_stop */
};

/* Decode what lies in data[*position, end) into at most `room` records; return their number, and in *position where it
 * stopped. Packets stay where they are, and records point to them. `now_sec`, `now_usec`: time of packets whose reporter
 * says none. */
uint32_t nfl_report_decode(struct nfl_reports *reports, const uint8_t *data, uint32_t *position, uint32_t end,
			   uint32_t now_sec, uint32_t now_usec, struct nfl_reported *records, uint32_t room);
