<?php
// What applications do with PHP: pdo_pgsql, and the functions of pgsql. Usage: pdo.php DATABASE_URL
declare(strict_types=1);

$place = parse_url($argv[1]);
$database = substr($place['path'], 1);

function say(mixed ...$seen): void
{
    echo '    ', implode(' ', array_map(fn ($one) => json_encode($one, JSON_UNESCAPED_UNICODE), $seen)), "\n";
}

function connect(array $options = [], string $more = ''): PDO
{
    global $place, $database;
    $name = "pgsql:host={$place['host']};port={$place['port']};dbname=$database$more";
    return new PDO($name, $place['user'], $place['pass'], $options + [
        PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION,
        PDO::ATTR_DEFAULT_FETCH_MODE => PDO::FETCH_ASSOC,
    ]);
}

function native(string $more = ''): PgSql\Connection
{
    global $place, $database;
    $name = "host={$place['host']} port={$place['port']} dbname=$database user={$place['user']} password={$place['pass']}";
    return pg_connect("$name $more", PGSQL_CONNECT_FORCE_NEW);
}

function state(callable $call): string
{
    try {
        $call();
    } catch (PDOException $error) {
        return $error->getCode() . '';
    }
    throw new LogicException('no error');
}

function rows(PDO $pdo, string $sql, array $values = []): array
{
    $statement = $pdo->prepare($sql);
    $statement->execute($values);
    return $statement->fetchAll(PDO::FETCH_NUM);
}

$checks = [
    'values go both ways' => function () {
        foreach ([false, true] as $emulated) {
            $pdo = connect([PDO::ATTR_EMULATE_PREPARES => $emulated]);
            say(rows($pdo, 'select ?::text, ?::int8, ?::int, ?::bool', ["ü'\\", 2 ** 62, null, 'true']));
            $named = $pdo->prepare('select :a::jsonb as j, :b::int[] as l, :b::text as t');
            $named->execute(['a' => '{"a": [1]}', 'b' => '{1,2}']);
            say($named->fetch());
            $bytes = $pdo->prepare('select ?::bytea as y, ?::bool as b');
            $bytes->bindValue(1, "\0\xff'", PDO::PARAM_LOB);
            $bytes->bindValue(2, false, PDO::PARAM_BOOL);
            $bytes->execute();
            $row = $bytes->fetch();
            say(bin2hex(stream_get_contents($row['y'])), $row['b']);
            say(rows($pdo, "select '2024-02-29 12:00+02'::timestamptz at time zone 'UTC', '1.10'::numeric, '3 days'::interval, current_date > '2024-01-01'"));
        }
        say($pdo->getAttribute(PDO::ATTR_DRIVER_NAME), $pdo->quote("it's \\ ü"));
        say($pdo->query('select 1 as a; select 2 as b')->fetchAll());
    },

    'the key that an insert made' => function () {
        $pdo = connect();
        $pdo->exec('create table made (id serial primary key, t text); create table other (id serial primary key)');
        $other = connect();
        for ($turn = 1; $turn <= 10; $turn++) {
            $pdo->beginTransaction();
            $insert = $pdo->prepare('insert into made (t) values (?)');
            $insert->execute(["row $turn"]);
            $other->exec('insert into other default values; insert into other default values');
            $ids[] = [$pdo->lastInsertId(), $pdo->lastInsertId('made_id_seq')];
            $pdo->commit();
        }
        say($ids, rows($pdo, "insert into made (t) values ('by returning') returning id"));
    },

    'prepared statements over shared servers' => function () {
        $clients = array_map(fn ($me) => connect([], ";options='-c application_name=app$me'"), range(0, 5));
        $clients[0]->exec('create table prep (id int primary key, n int not null)');
        $clients[0]->exec('insert into prep select i, 0 from generate_series(0, 5) i');
        // PDO names them pdo_stmt_00000001 and so on, in each client.
        $add = array_map(fn ($pdo) => $pdo->prepare('update prep set n = n + 1 where id = ?'), $clients);
        $ask = array_map(fn ($pdo, $me) => $pdo->prepare("select n + $me from prep where id = ?"), $clients, array_keys($clients));
        for ($turn = 1; $turn <= 15; $turn++) {
            foreach ($clients as $me => $pdo) {
                $pdo->beginTransaction();
                $add[$me]->execute([$me]);
                $ask[$me]->execute([$me]);
                if ($ask[$me]->fetchColumn() !== $turn + $me) {
                    throw new LogicException("turn $turn of $me");
                }
                $pdo->commit();
            }
        }
        unset($add, $ask);
        say(array_map(fn ($pdo) => rows($pdo, 'show application_name')[0][0], $clients));
    },

    'transactions and savepoints' => function () {
        $pdo = connect();
        $pdo->exec('create table trans (n int unique)');
        $pdo->beginTransaction();
        $pdo->exec('insert into trans values (1)');
        $pdo->exec('savepoint here');
        say(state(fn () => $pdo->exec('insert into trans values (1)')), state(fn () => $pdo->query('select 1')), $pdo->inTransaction());
        $pdo->exec('rollback to here');
        $pdo->commit();
        $pdo->beginTransaction();
        $pdo->exec('insert into trans values (2)');
        $pdo->rollBack();
        say(rows($pdo, 'select * from trans'), $pdo->inTransaction());
        $pdo->exec('begin isolation level serializable read only');
        say(rows($pdo, 'show transaction_isolation'), state(fn () => $pdo->exec('delete from trans')));
        $pdo->exec('rollback');
        foreach (['select 1/0', 'selekt', 'select * from nowhere', "select 'x'::int"] as $wrong) {
            say(state(fn () => $pdo->query($wrong)), state(fn () => rows($pdo, $wrong)));
        }
        say(state(fn () => $pdo->exec('insert into trans values (7); select 1/0')), rows($pdo, 'select count(*) from trans'));
    },

    'copy in and out' => function () {
        $pdo = connect();
        $pdo->exec('create table cp (who int, t text)');
        say($pdo->pgsqlCopyFromArray('cp', array_fill(0, 3000, "7\tsome text\n")));
        say(count($pdo->pgsqlCopyToArray('cp')), $pdo->pgsqlCopyToArray('(select t from cp limit 1)'));
        say(state(fn () => $pdo->pgsqlCopyFromArray('cp', ["x\ty\n"])), rows($pdo, 'select count(*), sum(who) from cp'));
    },

    'cursors and many rows' => function () {
        $pdo = connect();
        $pdo->beginTransaction();
        $walk = $pdo->prepare('select n from generate_series(1, 50) n', [PDO::ATTR_CURSOR => PDO::CURSOR_SCROLL]);
        $walk->execute();
        say(
            $walk->fetch(PDO::FETCH_NUM, PDO::FETCH_ORI_NEXT),
            $walk->fetch(PDO::FETCH_NUM, PDO::FETCH_ORI_LAST),
            $walk->fetch(PDO::FETCH_NUM, PDO::FETCH_ORI_PRIOR),
        );
        $walk->closeCursor();
        $pdo->commit();
        $rows = rows($pdo, "select n, repeat('x', 1000) from generate_series(1, 5000) n");
        say(count($rows), strlen(rows($pdo, "select repeat('y', 4000000)")[0][0]));
        $insert = $pdo->prepare('select count(*) from unnest(?::text[]) x');
        $insert->execute(['{' . implode(',', range(1, 20000)) . '}']);
        say($insert->fetchColumn());
    },

    'notifications' => function () {
        $ear = connect();
        $mouth = connect();
        $ear->exec('listen news');
        $mouth->exec("notify news, 'first'");
        $mouth->beginTransaction();
        rows($mouth, 'select pg_notify(?, ?)', ['news', 'second']);
        $mouth->commit();
        for ($heard = []; count($heard) < 2;) {
            $note = $ear->pgsqlGetNotify(PDO::FETCH_ASSOC, 10000);
            $heard[] = [$note['message'], $note['payload']];
        }
        $ear->exec('unlisten *');
        say($heard, rows($ear, 'select 1'));
    },

    'large objects' => function () {
        $pdo = connect();
        $pdo->beginTransaction();
        $number = $pdo->pgsqlLOBCreate();
        fwrite($big = $pdo->pgsqlLOBOpen($number, 'w'), str_repeat('x', 70000));
        fclose($big);
        say(strlen(stream_get_contents($pdo->pgsqlLOBOpen($number, 'r'))));
        say($pdo->pgsqlLOBUnlink($number));
        $pdo->commit();
    },

    'settings and timeouts' => function () {
        $pdo = connect([], ";options='-c statement_timeout=150'");
        say(state(fn () => $pdo->query('select pg_sleep(20)')), rows($pdo, 'show statement_timeout'));
        $pdo->exec("set time zone 'Asia/Tokyo'");
        say(rows($pdo, "select '2024-02-29 12:00+00'::timestamptz::text, ?", ['x']), rows(connect(), 'show statement_timeout'));
        $pdo->exec("set client_encoding to 'LATIN1'");
        say(bin2hex(rows($pdo, "select chr(233)")[0][0]));
    },

    'the functions of pgsql' => function () {
        $conn = native("options='-c work_mem=123kB'");
        say(pg_fetch_all(pg_query_params($conn, 'select $1::int + 1 as n, $2::text as t', [4, "it's"])));
        pg_prepare($conn, 'mine', 'select $1::int * 2 as n');
        for ($turn = 0; $turn < 5; $turn++) {
            $seen[] = pg_fetch_result(pg_execute($conn, 'mine', [$turn]), 0, 0);
        }
        say($seen, pg_parameter_status($conn, 'server_encoding'), pg_transaction_status($conn));
        pg_query($conn, 'create table native (id serial, t text)');
        say(pg_insert($conn, 'native', ['t' => 'by name']) !== false, pg_select($conn, 'native', ['t' => 'by name']));
        pg_send_query($conn, 'select 1 as a; select 2 as b');
        while ($result = pg_get_result($conn)) {
            $many[] = pg_fetch_assoc($result);
        }
        pg_send_query($conn, 'select pg_sleep(20)');
        usleep(200000);
        say($many, pg_cancel_query($conn), pg_fetch_result(pg_query($conn, 'show work_mem'), 0, 0));
        pg_query($conn, 'copy native (t) from stdin');
        pg_put_line($conn, "a line\n");
        pg_put_line($conn, "\\.\n");
        say(pg_end_copy($conn), pg_fetch_result(pg_query($conn, 'select count(*) from native'), 0, 0));
        say(@pg_query($conn, 'select 1/0'), pg_last_error($conn), pg_ping($conn));
        pg_close($conn);
    },

    'work goes on after the server was lost' => function () {
        $pdo = connect();
        $killer = connect();
        $pdo->exec('create table lost (n int)');
        $pdo->beginTransaction();
        $pdo->exec('insert into lost values (1)');
        $pid = rows($pdo, 'select pg_backend_pid()')[0][0];
        say(rows($killer, 'select pg_terminate_backend(?, 5000)', [$pid]));
        state(fn () => $pdo->exec('insert into lost values (2)'));
        try {
            $pdo->rollBack();
            $pdo->query('select 1');
        } catch (PDOException) {
            $pdo = connect();
        }
        $pdo->exec('insert into lost values (3)');
        say(rows($pdo, 'select * from lost'));
    },
];

$failed = 0;
foreach ($checks as $name => $check) {
    echo "$name ...\n";
    try {
        $check();
    } catch (Throwable $error) {
        $failed++;
        echo "$name FAILED\n";
        fwrite(STDERR, "$error\n");
    }
}
exit($failed > 0 ? 1 : 0);
