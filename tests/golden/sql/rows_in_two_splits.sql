SELECT count(*) FILTER (WHERE coalesce((f2 = 'x'), FALSE) AND coalesce((f4 > 1), FALSE)) AS o0
FROM (
  SELECT
    "label" AS f1,
    "part" AS f2,
    "n" AS f4,
    0 AS src,
    file_row_number AS pos
  FROM read_parquet('/data/a.parquet', file_row_number = true)
) AS t
WHERE (((f1 % 2) = 0) AND (f1 < 8))
