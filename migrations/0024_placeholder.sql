-- placeholder
-- Safe under load: yes.
SELECT 1;
