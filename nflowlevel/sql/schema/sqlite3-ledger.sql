-- SPDX-License-Identifier: GPL-2.0-or-later
-- How far each writer has come: the number of its last row, updated in the transaction that stores the row.
CREATE TABLE IF NOT EXISTS nflowlevel_ledger (
    writer TEXT PRIMARY KEY,
    row INTEGER NOT NULL,
    updated TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
) WITHOUT ROWID;
