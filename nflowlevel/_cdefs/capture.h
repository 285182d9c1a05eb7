/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Decode the packets of a capture file (pcap, pcapng) into an array of records.
 * This file is read twice: by the C compiler and by cffi, which takes no preprocessor lines.
 */

enum nfl_capture_limits {
	NFL_CAPTURE_PACKET_MAX = 262144,	/* bytes of one packet; libpcap's MAXIMUM_SNAPLEN */
	NFL_CAPTURE_BLOCK_MAX = 524288		/* bytes of one block of pcapng that is looked at as a whole */
};

/* Link types as files name them (LINKTYPE_*); DLT_RAW has another number on each system. */
enum nfl_linktype {
	NFL_LINK_ETHERNET = 1, NFL_LINK_DLT_RAW = 12, NFL_LINK_DLT_RAW_OPENBSD = 14, NFL_LINK_RAW = 101, NFL_LINK_SLL = 113,
	NFL_LINK_IPV4 = 228, NFL_LINK_IPV6 = 229, NFL_LINK_NFLOG = 239, NFL_LINK_SLL2 = 276
};

/* Where a capture was made. */
struct nfl_interface {
	uint32_t linktype, snaplen;	/* snaplen 0: no limit */
	uint32_t index;			/* becomes the ifindex of packets whose link type has none; 0: they have no interface */
	uint64_t units;			/* time stamps count 1/units seconds; not 0 */
	int64_t offset;			/* seconds that are added to them */
	uint8_t fcs;			/* bytes of checksum behind an Ethernet frame, where the packet itself does not say */
};

/* Why nfl_capture_decode stopped at its position. */
enum nfl_capture_stop {
	NFL_CAPTURE_MORE,	/* the packet or block there is not whole: `wanted` bytes from there on are needed */
	NFL_CAPTURE_FULL,	/* there is no room for another record */
	NFL_CAPTURE_BLOCK,	/* a section header or an interface description: for the caller to read */
	NFL_CAPTURE_NAMES,	/* the next packet's ifindex is of the other kind: see kernel_indexes */
	NFL_CAPTURE_BROKEN	/* a length that cannot be; nothing can be read from there on */
};

/* What is known of a file and was counted. Zeroed by its owner, who sets what stands first. */
struct nfl_capture {
	const struct nfl_interface *interfaces;
	uint32_t interface_count;
	uint8_t blocks;			/* pcapng; else pcap, with one interface */
	uint8_t swapped;		/* its numbers are not in this machine's order */
	uint8_t label;			/* becomes raw.label */
	uint8_t stop;			/* enum nfl_capture_stop */
	uint8_t named;			/* a packet with an ifindex is among the records; the owner clears it for new ones */
	uint8_t kernel_indexes;		/* its ifindex was the kernel's, where the capture was made; else nfl_interface.index */
	uint32_t wanted;
	uint64_t valid_any, valid_all;	/* nfl_record.valid of the records, joined by or and by and; the owner sets them */
	uint64_t received, malformed, foreign, snapped;
};

/* Decode what lies in data[*position, length) into at most `room` records; return their number, and in *position where it
 * stopped, which is behind `length` where a block to be passed over ends there. Packets stay where they are and records point to
 * them, but for what is brought into the kernel's form in place: a VLAN tag is taken out, NFLOG attributes get this
 * machine's byte order. So a packet is decoded once only. */
uint32_t nfl_capture_decode(struct nfl_capture *c, uint8_t *data, uint64_t *position, uint32_t length,
			    struct nfl_record *records, uint32_t room);
