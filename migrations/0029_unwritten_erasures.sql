-- Which erasures the ledger outside of the database lacks: that they are, or that they were lifted.
-- Safe under load: an index that has a row for each of these only. Who forgets somebody waits for one look at a table that has
-- one row for each person who was ever forgotten (about a second for a million).

-- What a worker has written stands in the receipt, in the counts of its phase. What was lifted before the ledger knew of it need
-- not be written.
CREATE INDEX erasures_unwritten ON erasures (requested_at)
 WHERE phases #>> '{ledger,counts,lines}' = '0' AND lifted_at IS NULL
    OR phases #>> '{ledger,counts,lines}' = '1' AND phases #>> '{ledger,counts,lifts}' IS NULL
       AND lifted_at IS NOT NULL AND ended_at IS NOT NULL;
