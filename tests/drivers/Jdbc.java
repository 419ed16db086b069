import java.io.ByteArrayOutputStream;
import java.io.StringReader;
import java.net.URI;
import java.sql.BatchUpdateException;
import java.sql.CallableStatement;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.sql.Types;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.copy.CopyManager;

/** What applications do with pgjdbc. Usage: java -cp postgresql.jar Jdbc.java DATABASE_URL [CHECK...] */
final class Jdbc {
    /** More clients than the proxy has servers. */
    private static final int CLIENTS = 6;
    /** A check that takes longer hangs. */
    private static final int PATIENCE_SECONDS = 25;

    private final String url;
    private final String user;
    private final String password;

    private Jdbc(String databaseUrl) {
        URI uri = URI.create(databaseUrl);
        String[] who = uri.getUserInfo().split(":", 2);
        url = "jdbc:postgresql://" + uri.getHost() + ":" + uri.getPort() + uri.getPath();
        user = who[0];
        password = who.length > 1 ? who[1] : "";
    }

    interface Use {
        void with(Connection connection, int me) throws Exception;
    }

    interface Check {
        void run() throws Exception;
    }

    private Connection connect(String... properties) throws SQLException {
        Properties all = new Properties();
        all.setProperty("user", user);
        all.setProperty("password", password);
        for (int at = 0; at < properties.length; at += 2) {
            all.setProperty(properties[at], properties[at + 1]);
        }
        return DriverManager.getConnection(url, all);
    }

    private void together(Use use, String... properties) throws Exception {
        ExecutorService threads = Executors.newFixedThreadPool(CLIENTS);
        try {
            List<Future<?>> running = new ArrayList<>();
            for (int number = 0; number < CLIENTS; number++) {
                int me = number;
                running.add(threads.submit(() -> {
                    try (Connection connection = connect(properties)) {
                        use.with(connection, me);
                    }
                    return null;
                }));
            }
            for (Future<?> one : running) {
                one.get(PATIENCE_SECONDS, TimeUnit.SECONDS);
            }
        } finally {
            threads.shutdownNow();
        }
    }

    private static void equal(Object seen, Object expected) {
        if (seen == null ? expected != null : !seen.equals(expected)) {
            throw new AssertionError("saw " + seen + " instead of " + expected);
        }
    }

    private static void run(Connection connection, String sql) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            statement.execute(sql);
        }
    }

    private static Object value(Connection connection, String sql, Object... values) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            return value(statement, values);
        }
    }

    private static Object value(PreparedStatement statement, Object... values) throws SQLException {
        for (int at = 0; at < values.length; at++) {
            statement.setObject(at + 1, values[at]);
        }
        try (ResultSet rows = statement.executeQuery()) {
            rows.next();
            return rows.getObject(1);
        }
    }

    private static void fails(String state, Check call) throws Exception {
        try {
            call.run();
        } catch (SQLException error) {
            equal(error.getSQLState(), state);
            return;
        }
        throw new AssertionError("no error " + state);
    }

    void valuesGoBothWays() throws Exception {
        for (String mode : List.of("extended", "simple", "extendedForPrepared", "extendedCacheEverything")) {
            try (Connection c = connect("preferQueryMode", mode)) {
                equal(value(c, "select ?::text", "ü'\\"), "ü'\\");
                equal(value(c, "select ?::int8", 1L << 62), 1L << 62);
                equal(value(c, "select length(?::text)", "x".repeat(3_000_000)), 3_000_000);
                try (Statement s = c.createStatement()) {
                    equal(s.execute("select 1; create temp table gone (n int) on commit drop; select 2"), true);
                    equal(s.getMoreResults(), false);
                    equal(s.getMoreResults(), true);
                }
                equal(c.getMetaData().getDatabaseProductName(), "PostgreSQL");
                equal(c.isValid(5), true);
            }
        }
    }

    void serverPreparedStatementsOverSharedServers() throws Exception {
        try (Connection c = connect()) {
            run(c, "create table prep (id int primary key, n int not null)");
            run(c, "insert into prep select i, 0 from generate_series(0, 5) i");
        }
        together((c, me) -> {
            c.setAutoCommit(false);
            // Every client calls its statements S_1, S_2, …, but they are not the same.
            try (PreparedStatement add = c.prepareStatement("update prep set n = n + 1 where id = ?");
                    PreparedStatement ask = c.prepareStatement("select n + " + me + " from prep where id = ?")) {
                for (int turn = 1; turn <= 30; turn++) {
                    add.setInt(1, me);
                    equal(add.executeUpdate(), 1);
                    equal(value(ask, me), turn + me);
                    c.commit();
                }
                equal(ask.unwrap(org.postgresql.PGStatement.class).isUseServerPrepare(), true);
            }
        });
        together((c, me) -> {
            try (PreparedStatement ask = c.prepareStatement("select ?::int + " + me)) {
                for (int turn = 0; turn < 30; turn++) {
                    equal(value(ask, turn), turn + me);
                }
            }
        }, "prepareThreshold", "1", "preparedStatementCacheQueries", "2");
        together((c, me) -> equal(value(c, "select ?::int", me), me), "prepareThreshold", "0");
    }

    void changedTableBehindAPreparedStatement() throws Exception {
        try (Connection c = connect("prepareThreshold", "1", "autosave", "conservative"); Connection other = connect()) {
            run(c, "create table shape (a int)");
            run(c, "insert into shape values (1)");
            for (int turn = 0; turn < 3; turn++) {
                equal(value(c, "select * from shape"), 1);
            }
            run(other, "alter table shape alter a type text");
            c.setAutoCommit(false);
            equal(value(c, "select * from shape"), "1");
            c.commit();
            equal(value(c, "select * from shape"), "1");
            c.commit();
        }
    }

    void batches() throws Exception {
        for (String rewrite : List.of("false", "true")) {
            try (Connection c = connect("reWriteBatchedInserts", rewrite)) {
                run(c, "drop table if exists batch");
                run(c, "create table batch (n int primary key, t text)");
                try (PreparedStatement insert = c.prepareStatement("insert into batch values (?, ?)")) {
                    for (int n = 0; n < 2000; n++) {
                        insert.setInt(1, n);
                        insert.setString(2, "row " + n);
                        insert.addBatch();
                    }
                    equal(insert.executeBatch().length, 2000);
                    for (int n : new int[] {5000, 1, 5001}) {
                        insert.setInt(1, n);
                        insert.setString(2, "again");
                        insert.addBatch();
                    }
                    try {
                        insert.executeBatch();
                        throw new AssertionError("a key twice");
                    } catch (BatchUpdateException error) {
                        equal(error.getSQLState(), "23505");
                    }
                }
                equal(value(c, "select count(*) from batch"), 2000L);
                try (Statement mixed = c.createStatement()) {
                    mixed.addBatch("delete from batch where n < 10");
                    mixed.addBatch("update batch set t = 'x' where n = 10");
                    equal(mixed.executeBatch()[0], 10);
                }
                try (PreparedStatement keys = c.prepareStatement(
                        "insert into batch values (?, 'k')", Statement.RETURN_GENERATED_KEYS)) {
                    keys.setInt(1, 9000);
                    keys.executeUpdate();
                    try (ResultSet made = keys.getGeneratedKeys()) {
                        made.next();
                        equal(made.getInt(1), 9000);
                    }
                }
            }
        }
    }

    void rowsInPartsByFetchSize() throws Exception {
        together((c, me) -> {
            c.setAutoCommit(false);
            try (PreparedStatement many = c.prepareStatement("select n from generate_series(1, ?) n")) {
                many.setFetchSize(50);
                for (int turn = 0; turn < 8; turn++) {
                    many.setInt(1, 500);
                    long sum = 0;
                    try (ResultSet rows = many.executeQuery()) {
                        while (rows.next()) {
                            sum += rows.getInt(1);
                            if (rows.getRow() % 100 == 0) {
                                // Another statement between two parts of the portal.
                                equal(value(c, "select ?::int", me), me);
                            }
                        }
                    }
                    equal(sum, 125250L);
                    c.commit();
                }
                try (ResultSet rows = many.executeQuery()) {
                    rows.next();
                }
                c.rollback();
            }
        });
    }

    void transactionsAndSavepoints() throws Exception {
        try (Connection c = connect()) {
            run(c, "create table trans (n int unique)");
            c.setAutoCommit(false);
            c.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
            equal(value(c, "show transaction_isolation"), "serializable");
            run(c, "insert into trans values (1)");
            Savepoint here = c.setSavepoint("here");
            fails("23505", () -> run(c, "insert into trans values (1)"));
            fails("25P02", () -> run(c, "select 1"));
            c.rollback(here);
            run(c, "insert into trans values (2)");
            c.commit();
            run(c, "delete from trans");
            c.rollback();
            equal(value(c, "select count(*) from trans"), 2L);
            c.rollback();
            c.setReadOnly(true);
            fails("25006", () -> run(c, "insert into trans values (3)"));
            c.rollback();
            c.setReadOnly(false);
            c.setAutoCommit(true);
            run(c, "insert into trans values (3)");
        }
        try (Connection c = connect("autosave", "always")) {
            c.setAutoCommit(false);
            run(c, "insert into trans values (4)");
            fails("23505", () -> run(c, "insert into trans values (4)"));
            run(c, "insert into trans values (5)");
            c.commit();
            equal(value(c, "select count(*) from trans"), 5L);
        }
    }

    void errorsThenContinue() throws Exception {
        together((c, me) -> {
            for (int turn = 0; turn < 8; turn++) {
                fails("22012", () -> value(c, "select 1 / ?", 0));
                fails("42601", () -> run(c, "selekt"));
                fails("42P01", () -> value(c, "select ? from nowhere", 1));
                fails("22012", () -> run(c, "select 1; select 1/0; select 2"));
                equal(value(c, "select ?::int", me), me);
            }
        });
    }

    void cancelAndTimeouts() throws Exception {
        try (Connection c = connect(); Statement s = c.createStatement()) {
            s.setQueryTimeout(1);
            fails("57014", () -> s.execute("select pg_sleep(20)"));
            equal(value(c, "select 1"), 1);
            s.setQueryTimeout(0);
            for (int turn = 0; turn < 3; turn++) {
                Thread killer = new Thread(() -> {
                    try {
                        Thread.sleep(400);
                        s.cancel();
                    } catch (Exception error) {
                        throw new AssertionError(error);
                    }
                });
                killer.start();
                fails("57014", () -> s.execute("select pg_sleep(20)"));
                killer.join();
                equal(value(c, "select ?::int", turn), turn);
            }
        }
    }

    void copyInAndOut() throws Exception {
        try (Connection c = connect()) {
            run(c, "create table cp (who int, t text)");
        }
        together((c, me) -> {
            CopyManager copy = c.unwrap(PGConnection.class).getCopyAPI();
            String lines = (me + "\tsome text\n").repeat(5000);
            equal(copy.copyIn("copy cp from stdin", new StringReader(lines)), 5000L);
            ByteArrayOutputStream out = new ByteArrayOutputStream();
            equal(copy.copyOut("copy (select * from cp where who = " + me + ") to stdout", out), 5000L);
            equal(out.toString(), lines);
            fails("22P02", () -> copy.copyIn("copy cp from stdin", new StringReader("x\ty\n")));
            equal(value(c, "select count(*) from cp where who = ?", me), 5000L);
        });
    }

    void notifications() throws Exception {
        try (Connection ear = connect(); Connection mouth = connect()) {
            run(ear, "listen news");
            value(mouth, "select pg_notify('news', ?)", "first");
            PGNotification[] heard = ear.unwrap(PGConnection.class).getNotifications(10_000);
            equal(heard.length, 1);
            equal(heard[0].getParameter(), "first");
            equal(value(ear, "select 5"), 5);
            mouth.setAutoCommit(false);
            run(mouth, "notify news, 'second'");
            mouth.commit();
            equal(ear.unwrap(PGConnection.class).getNotifications(10_000)[0].getParameter(), "second");
            run(ear, "unlisten *");
        }
    }

    void settingsStayWithTheirClient() throws Exception {
        together((c, me) -> {
            c.setClientInfo("ApplicationName", "app " + me);
            c.setSchema("s" + me);
            run(c, "set timezone to '" + (me % 2 == 0 ? "Asia/Tokyo" : "America/Lima") + "'");
            for (int turn = 0; turn < 15; turn++) {
                equal(value(c, "show application_name"), "app " + me);
                equal(value(c, "show search_path"), "s" + me);
                equal(value(c, "show timezone"), me % 2 == 0 ? "Asia/Tokyo" : "America/Lima");
                equal(value(c, "show extra_float_digits"), "3");
                equal(value(c, "show work_mem"), "3MB");
            }
        }, "options", "-c work_mem=3MB");
    }

    void functionsAndLargeObjects() throws Exception {
        try (Connection c = connect()) {
            run(c, "create function twice(n int) returns int language sql as 'select n * 2'");
            try (CallableStatement call = c.prepareCall("{? = call twice(?)}")) {
                call.registerOutParameter(1, Types.INTEGER);
                call.setInt(2, 21);
                call.execute();
                equal(call.getInt(1), 42);
            }
            c.setAutoCommit(false);
            var manager = c.unwrap(PGConnection.class).getLargeObjectAPI();
            long id = manager.createLO();
            // These go by the function call protocol.
            try (var object = manager.open(id)) {
                object.write(new byte[100_000]);
                equal(object.size(), 100_000);
            }
            manager.delete(id);
            c.commit();
        }
    }

    private Map<String, Check> checks() {
        Map<String, Check> checks = new LinkedHashMap<>();
        checks.put("valuesGoBothWays", this::valuesGoBothWays);
        checks.put("serverPreparedStatementsOverSharedServers", this::serverPreparedStatementsOverSharedServers);
        checks.put("changedTableBehindAPreparedStatement", this::changedTableBehindAPreparedStatement);
        checks.put("batches", this::batches);
        checks.put("rowsInPartsByFetchSize", this::rowsInPartsByFetchSize);
        checks.put("transactionsAndSavepoints", this::transactionsAndSavepoints);
        checks.put("errorsThenContinue", this::errorsThenContinue);
        checks.put("cancelAndTimeouts", this::cancelAndTimeouts);
        checks.put("copyInAndOut", this::copyInAndOut);
        checks.put("notifications", this::notifications);
        checks.put("settingsStayWithTheirClient", this::settingsStayWithTheirClient);
        checks.put("functionsAndLargeObjects", this::functionsAndLargeObjects);
        return checks;
    }

    public static void main(String[] arguments) {
        Set<String> chosen = Set.of(arguments).size() > 1 ? Set.of(arguments) : Set.of();
        int failed = 0;
        for (Map.Entry<String, Check> check : new Jdbc(arguments[0]).checks().entrySet()) {
            if (!chosen.isEmpty() && !chosen.contains(check.getKey())) {
                continue;
            }
            System.out.print(check.getKey() + " ... ");
            Thread watch = new Thread(() -> {
                try {
                    Thread.sleep(PATIENCE_SECONDS * 1000L);
                    System.out.println("HANGS");
                    Runtime.getRuntime().halt(1);
                } catch (InterruptedException done) {
                    // It did not hang.
                }
            });
            watch.setDaemon(true);
            watch.start();
            long start = System.nanoTime();
            try {
                check.getValue().run();
                System.out.printf("ok, %.2f s%n", (System.nanoTime() - start) / 1e9);
            } catch (Throwable error) {
                failed++;
                System.out.println("FAILED");
                error.printStackTrace();
            }
            watch.interrupt();
        }
        System.exit(failed > 0 ? 1 : 0);
    }
}
