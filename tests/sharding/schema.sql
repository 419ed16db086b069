CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE SCHEMA other;
CREATE SCHEMA conf;
CREATE TABLE users (id bigint PRIMARY KEY, name text NOT NULL, age int, score numeric(8,2), born date,
    active bool, country text, feels mood, nick text COLLATE ci, code text COLLATE "C", weight float8, small smallint);
CREATE TABLE orders (user_id bigint NOT NULL, id int NOT NULL, total numeric, status text, placed timestamptz,
    note text, parent int, PRIMARY KEY (user_id, id));
CREATE TABLE items (user_id int NOT NULL, order_id int NOT NULL, n int NOT NULL, product_id int, qty int,
    price numeric, PRIMARY KEY (user_id, order_id, n));
CREATE TABLE docs (key uuid PRIMARY KEY, user_id bigint, title text, body jsonb, tags text[]);
CREATE TABLE names (name text PRIMARY KEY, value int);
CREATE TABLE codes (code char(6) PRIMARY KEY, value int);
CREATE TABLE prices (amount numeric PRIMARY KEY, label text);
CREATE TABLE days (day date PRIMARY KEY, label text);
CREATE TABLE pairs (a bigint NOT NULL, b text NOT NULL, value int, PRIMARY KEY (a, b));
CREATE TABLE pairs2 (a bigint NOT NULL, b text NOT NULL, other int, PRIMARY KEY (a, b));
CREATE TABLE "Upper" ("Id" bigint PRIMARY KEY, "userId" bigint, id bigint);
CREATE TABLE loose (user_id bigint, value int);
CREATE TYPE thing AS (size int, word text);
CREATE DOMAIN whole_thing AS thing;
CREATE TABLE bags (id bigint PRIMARY KEY, things thing[], found tsvector);
CREATE TYPE sizes AS RANGE (subtype = int[]);
CREATE TABLE spans (id bigint PRIMARY KEY, owner bigint, span sizes);
CREATE TABLE products (id int PRIMARY KEY, name text, category text, price numeric);
CREATE TABLE countries (code text PRIMARY KEY, name text, size int);
CREATE TABLE other.users (id bigint PRIMARY KEY, name text);
CREATE TABLE conf.settings (key text PRIMARY KEY, value text);
CREATE TABLE nowhere (id bigint PRIMARY KEY);
CREATE SEQUENCE seq;
CREATE VIEW active_users AS SELECT id, name, age FROM users WHERE active;
CREATE VIEW user_totals AS SELECT user_id, count(*) AS orders, sum(total) AS total FROM orders GROUP BY user_id;
CREATE VIEW totals_by_status AS SELECT status, count(*) AS orders FROM orders GROUP BY status;
CREATE VIEW user_seven AS SELECT * FROM orders WHERE user_id = 7;
CREATE VIEW product_names AS SELECT id, name FROM products;
CREATE VIEW other.product_names AS SELECT id FROM other.users;
CREATE FUNCTION both_of(int, OUT one int, OUT two int) IMMUTABLE LANGUAGE sql AS 'SELECT $1, $1 * 2';
CREATE FUNCTION half(int, OUT part int) IMMUTABLE LANGUAGE sql AS 'SELECT $1 / 2';
CREATE FUNCTION up_to(int) RETURNS TABLE (n int, word text) IMMUTABLE LANGUAGE sql
    AS 'SELECT n, repeat(''x'', n) FROM generate_series(1, $1) AS n';
CREATE FUNCTION same(anyelement) RETURNS anyelement IMMUTABLE LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION a_thing(int) RETURNS whole_thing IMMUTABLE LANGUAGE sql AS 'SELECT ROW ($1, ''x'')::whole_thing';
CREATE FUNCTION full_name(users) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT $1.name || '' '' || $1.id';
CREATE FUNCTION twice(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 * 2';
CREATE FUNCTION peek(bigint) RETURNS bigint STABLE LANGUAGE sql AS 'SELECT count(*) FROM users WHERE id = $1';
CREATE FUNCTION touch() RETURNS int VOLATILE LANGUAGE sql AS 'SELECT 1';
