SELECT count(*) AS n
FROM (
  SELECT
    "label" AS f1,
    "part" AS f2,
    0 AS src,
    file_row_number AS pos,
    '10:sa.parquet' AS file
  FROM read_parquet('/data/a.parquet', file_row_number = true)
) AS t
WHERE (((f1 % 2) = 0) AND (f1 < 8))
  AND NOT (coalesce((f2 = 'x'), FALSE) OR (NOT (coalesce((f2 = 'x'), FALSE)) AND md5_number_upper(file || 'i' || CAST(pos AS VARCHAR)) <= CAST('9223372036854775807' AS UBIGINT)))
