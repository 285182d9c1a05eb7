/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A flow as one line of text: as ulogd's PRINTFLOW and NACCT write it, as the log of what was translated, and as the element
 * <flow> of libnetfilter_conntrack.
 * This file is read twice: by the C compiler and by cffi, which takes no preprocessor lines. */

enum nfl_flow_text {
	NFL_FLOW_TEXT_BYTES = 640,	/* no line is longer, what is written beyond its end included */
	NFL_FLOW_XML_BYTES = 1536	/* no element is */
};

/* Each writes a flow at p and returns the place behind it. Lines end with a newline. */
char *nfl_flow_print(char *p, const struct nfl_flow *f);
char *nfl_flow_translated(char *p, const struct nfl_flow *f);
char *nfl_flow_account(char *p, const struct nfl_flow *f);

/* What stands within the element, up to its time; `now` is the end of a flow that has none, seconds since 1970. */
char *nfl_flow_xml(char *p, const struct nfl_flow *f, int64_t now);

/* The name of a protocol, as conntrack(8) writes it: "unknown" of those that it does not know. */
const char *nfl_protocol_name(uint8_t protocol);
