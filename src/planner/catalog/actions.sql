SELECT pn.nspname::text, pc.relname::text, n.nspname::text, c.relname::text, e.event, e.action,
       (SELECT pg_catalog.string_agg(a.attname::text, E'\n' ORDER BY s.place)
        FROM pg_catalog.unnest(k.confkey) WITH ORDINALITY s (number, place)
        JOIN pg_catalog.pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = s.number),
       (SELECT pg_catalog.string_agg(a.attname::text, E'\n' ORDER BY s.place)
        FROM pg_catalog.unnest(coalesce(CASE WHEN e.event = 'd' THEN (
               SELECT pg_catalog.array_agg(x.number::int2)
               FROM pg_catalog.jsonb_array_elements_text(
                 nullif(pg_catalog.to_jsonb(k) -> 'confdelsetcols', 'null'::jsonb)) x (number)) END, k.conkey))
             WITH ORDINALITY s (number, place)
        JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = s.number)
FROM pg_catalog.pg_constraint k
JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_class pc ON pc.oid = k.confrelid
JOIN pg_catalog.pg_namespace pn ON pn.oid = pc.relnamespace
CROSS JOIN LATERAL (VALUES ('u', k.confupdtype::text), ('d', k.confdeltype::text)) e (event, action)
WHERE k.contype = 'f' AND e.action IN ('c', 'n', 'd')
  AND NOT n.nspname::text ~ '^pg_(toast|temp)' AND NOT pn.nspname::text ~ '^pg_(toast|temp)'
ORDER BY 1, 2, 3, 4, 5, 6, 7, 8
