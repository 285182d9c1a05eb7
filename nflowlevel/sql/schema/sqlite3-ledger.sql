-- SPDX-License-Identifier: GPL-2.0-or-later
-- What each writer has stored: the number of its last row, moved in the transaction that stores it.
CREATE TABLE IF NOT EXISTS nflowlevel_ledger (
    writer TEXT PRIMARY KEY,
    row INTEGER NOT NULL,
    updated TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
) WITHOUT ROWID;
