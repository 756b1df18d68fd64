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
) AS t
WHERE (((f1 % 2) = 0) AND (f1 < 8))
  AND (NOT (coalesce((f2 = 'test'), FALSE)) AND md5_number_upper(CAST(length(coalesce('s' || f3, 'n')) AS VARCHAR) || ':' || coalesce('s' || f3, 'n') || CAST(length(coalesce('i' || CAST(f1 AS VARCHAR), 'n')) AS VARCHAR) || ':' || coalesce('i' || CAST(f1 AS VARCHAR), 'n')) >= CAST('16602069666338596864' AS UBIGINT))
