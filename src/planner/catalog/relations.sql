SELECT n.nspname::text, c.relname::text, c.relkind::text, c.relrowsecurity::text,
       (EXISTS (SELECT 1 FROM pg_catalog.pg_rewrite w WHERE w.ev_class = c.oid
                AND NOT (w.rulename = '_RETURN' AND c.relkind IN ('v', 'm'))))::text,
       (EXISTS (WITH RECURSIVE parts (relid) AS (SELECT c.oid UNION ALL
                SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN parts p ON p.relid = i.inhparent)
                SELECT 1 FROM parts p JOIN pg_catalog.pg_trigger t ON t.tgrelid = p.relid WHERE NOT t.tgisinternal
                UNION ALL
                SELECT 1 FROM parts p JOIN pg_catalog.pg_constraint k ON k.conrelid = p.relid AND k.contype = 'c'
                JOIN pg_catalog.pg_depend d ON d.objid = k.oid AND d.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass
                JOIN pg_catalog.pg_proc f ON f.oid = CASE d.refclassid
                     WHEN 'pg_catalog.pg_proc'::pg_catalog.regclass THEN d.refobjid
                     WHEN 'pg_catalog.pg_operator'::pg_catalog.regclass
                     THEN (SELECT o.oprcode::oid FROM pg_catalog.pg_operator o WHERE o.oid = d.refobjid) END
                WHERE f.provolatile <> 'i' AND f.pronamespace <> 'pg_catalog'::pg_catalog.regnamespace))::text,
       pn.nspname::text, pc.relname::text,
       (c.relkind <> 'p' AND EXISTS (SELECT 1 FROM pg_catalog.pg_inherits i WHERE i.inhparent = c.oid))::text,
       CASE WHEN c.relkind = 'v' AND n.nspname NOT IN ('pg_catalog', 'information_schema')
            THEN pg_catalog.pg_get_viewdef(c.oid) END
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_inherits h ON h.inhrelid = c.oid AND h.inhseqno = 1
LEFT JOIN pg_catalog.pg_class pc ON pc.oid = h.inhparent
LEFT JOIN pg_catalog.pg_namespace pn ON pn.oid = pc.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 'c') AND NOT n.nspname::text ~ '^pg_(toast|temp)'
ORDER BY 1, 2
