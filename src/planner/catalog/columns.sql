SELECT n.nspname::text, c.relname::text, a.attname::text, tn.nspname::text, t.typname::text, t.oid::text,
       a.atttypmod::text, (a.attnotnull OR t.typnotnull)::text,
       CASE WHEN a.attcollation = 0 THEN ''
            WHEN NOT l.collisdeterministic THEN 'N'
            WHEN l.collname IN ('C', 'POSIX', 'ucs_basic') THEN 'C'
            WHEN l.oid = 100 AND d.datcollate IN ('C', 'POSIX')
                 AND coalesce(pg_catalog.to_jsonb(d) ->> 'datlocprovider', 'c') = 'c' THEN 'C'
            ELSE 'D' END,
       CASE WHEN a.attgenerated = '' THEN coalesce(pg_catalog.pg_get_expr(e.adbin, e.adrelid),
            CASE WHEN t.typtype = 'd' THEN pg_catalog.pg_get_expr(t.typdefaultbin, 0) END) END,
       (a.attidentity <> '')::text, (a.attgenerated <> '')::text
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
JOIN pg_catalog.pg_namespace tn ON tn.oid = t.typnamespace
JOIN pg_catalog.pg_database d ON d.datname = pg_catalog.current_database()
LEFT JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation
LEFT JOIN pg_catalog.pg_attrdef e ON e.adrelid = a.attrelid AND e.adnum = a.attnum
WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 'c')
  AND NOT n.nspname::text ~ '^pg_(toast|temp)'
ORDER BY 1, 2, a.attnum
