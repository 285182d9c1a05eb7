-- SPDX-License-Identifier: GPL-2.0-or-later
-- How far each writer has come: the number of its last row, updated in the transaction that stores the row.
CREATE TABLE IF NOT EXISTS nflowlevel_ledger (
    writer varchar(64) CHARACTER SET ascii NOT NULL PRIMARY KEY,
    `row` bigint NOT NULL,
    updated timestamp NOT NULL DEFAULT current_timestamp ON UPDATE current_timestamp
) ENGINE=InnoDB;
