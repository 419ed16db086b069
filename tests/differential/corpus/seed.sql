-- Random numbers after setseed, which belong to the session.
select setseed(0.5);
select random();
select random(), random();
begin;
select setseed(0.25);
select random();
rollback;
select random();
select setseed(2);
do $$ begin perform setseed(0.75); end $$;
select random();
select setseed(0.1)\; select random();
select random();
discard all;
select random();
