-- Keys that took over from one another are one caller: whoever repeats a request with the newer key gets its first answer.
-- Safe under load: a column without a default, and an update of a small table.

-- The first of them. Null: none was before it.
ALTER TABLE api_keys ADD COLUMN origin_id text COLLATE "C";

WITH RECURSIVE line (project_no, api_key_id, origin_id) AS (
    SELECT project_no, api_key_id, api_key_id FROM api_keys WHERE rotated_from IS NULL
    UNION ALL
    SELECT k.project_no, k.api_key_id, line.origin_id
      FROM api_keys AS k JOIN line ON line.project_no = k.project_no AND line.api_key_id = k.rotated_from
)
UPDATE api_keys AS k SET origin_id = line.origin_id
  FROM line
 WHERE k.project_no = line.project_no AND k.api_key_id = line.api_key_id AND k.rotated_from IS NOT NULL;
