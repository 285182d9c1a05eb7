-- SPDX-License-Identifier: GPL-2.0-or-later
-- What each writer has stored: the number of its last row, moved in the transaction that stores it.
CREATE TABLE IF NOT EXISTS nflowlevel_ledger (
    writer text PRIMARY KEY,
    row bigint NOT NULL,
    updated timestamptz NOT NULL DEFAULT now()
);
