SELECT n.nspname::text, c.relname::text, ic.relname::text, i.indisprimary::text,
       (i.indpred IS NULL AND i.indexprs IS NULL AND i.indimmediate)::text,
       coalesce((SELECT pg_catalog.string_agg(a.attname::text, E'\n' ORDER BY k.place)
                 FROM pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY k (number, place)
                 JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
                 WHERE k.place <= i.indnkeyatts), '')
FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
JOIN pg_catalog.pg_class ic ON ic.oid = i.indexrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE i.indisunique AND i.indisvalid AND n.nspname NOT IN ('pg_catalog', 'information_schema')
  AND NOT n.nspname::text ~ '^pg_(toast|temp)'
ORDER BY 1, 2, 3
