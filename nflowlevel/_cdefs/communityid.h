/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Community IDs, version 1, of packets and flows; records/communityid.py says what they are.
 * This file is read twice: by the C compiler and by cffi, which takes no preprocessor lines. */

enum nfl_community { NFL_COMMUNITY_ID_BYTES = 30 };

/* Write the ID of each of the batch's rows to ids, NFL_COMMUNITY_ID_BYTES each, one behind the other without NULs; present[row] is 0
 * where there is none. Records are flows, or packets. */
void nfl_community_ids(const struct nfl_batch *batch, uint8_t of_flows, uint16_t seed, char *ids, uint8_t *present);
