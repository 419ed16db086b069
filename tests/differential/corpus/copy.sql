-- COPY in both directions.
create table t (a int, b text);
copy t from stdin;
1	one
2	two
\.
select * from t;
copy t (b, a) from stdin with (format csv, header);
b,a
"three, or so",3
\.
copy t to stdout;
copy t (b) to stdout with (format csv, header, force_quote *);
copy (select a * 2 as twice from t order by a) to stdout (format csv);
copy t to stdout (format binary);
copy t from stdin;
x	wrong
\.
select count(*) from t;
copy t from stdin;
1
\.
copy nowhere from stdin;
copy nowhere to stdout;
copy t (z) from stdin;
copy t from stdin with (format nonsense);
copy (select 1 / 0) to stdout;
copy (select 1 / (a - 3) from t order by a) to stdout;
copy t from '/no/such/file';
copy (insert into t values (4, 'four') returning a) to stdout;
begin;
copy t from stdin;
5	five
\.
savepoint s;
copy t from stdin;
6	six
y	bad
\.
rollback to s;
copy t from stdin;
7	seven
\.
select a from t order by a;
rollback;
select a from t order by a;
truncate t\; copy t from stdin\; select count(*) from t;
8	eight
9	nine
\.
copy t to stdout\; select 'behind'\; copy t (a) to stdout;
select 'before'\; copy t from stdin\; copy t from stdin;
10	ten
\.
11	eleven
\.
select * from t order by a;
copy t from stdin where a > 100;
12	no
120	yes
\.
select a from t order by a;
create function says() returns trigger language plpgsql as $$ begin raise notice 'row %', new.a; return new; end $$;
create trigger says before insert on t for each row execute function says();
copy t from stdin;
13	with notice
14	and another
\.
create temp table tt (a int);
copy tt from stdin;
1
2
\.
select sum(a) from tt;
copy tt to stdout;
drop table tt;
copy t from stdin (freeze);
15	frozen
\.
set client_encoding = 'LATIN1';
copy (select 'ä'::text) to stdout;
reset client_encoding;
copy t from stdin;
\.
copy t from program 'false';
