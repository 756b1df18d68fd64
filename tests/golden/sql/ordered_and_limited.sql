SELECT f0, f1, src, pos
FROM (
  SELECT
    "image" AS f0,
    "label" AS f1,
    "part" AS f2,
    "id" AS f3,
    0 AS src,
    file_row_number AS pos
  FROM read_parquet('/data/a.parquet', file_row_number = true)
  UNION ALL
  SELECT
    "image" AS f0,
    "label" AS f1,
    "part" AS f2,
    "id" AS f3,
    1 AS src,
    file_row_number AS pos
  FROM read_parquet('/data/b.parquet', file_row_number = true)
) AS t
WHERE (((f1 % 2) = 0) AND (f1 < 8))
  AND (f2 = 'test')
ORDER BY f1 DESC NULLS LAST, f3 NULLS LAST, src, pos
LIMIT 10
