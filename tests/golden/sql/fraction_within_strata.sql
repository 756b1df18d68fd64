SELECT f0, f1, src, pos
FROM (
  SELECT
    "image" AS f0,
    "label" AS f1,
    "part" AS f2,
    0 AS src,
    file_row_number AS pos,
    '10:sa.parquet' AS file
  FROM read_parquet('/data/a.parquet', file_row_number = true)
) AS t
WHERE (((f1 % 2) = 0) AND (f1 < 8))
  AND (md5_number_upper('stratum' || CAST(length(coalesce('i' || CAST(f1 AS VARCHAR), 'n')) AS VARCHAR) || ':' || coalesce('i' || CAST(f1 AS VARCHAR), 'n') || CAST(length(coalesce('s' || f2, 'n')) AS VARCHAR) || ':' || coalesce('s' || f2, 'n') || file || 'i' || CAST(pos AS VARCHAR)) <= CAST('9223372036854775807' AS UBIGINT))
