import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.net.URI;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.sql.CallableStatement;
import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.DriverManager;
import java.sql.ParameterMetaData;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.SQLWarning;
import java.sql.Statement;
import java.sql.Types;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;
import javax.sql.XAConnection;
import javax.transaction.xa.XAException;
import javax.transaction.xa.XAResource;
import javax.transaction.xa.Xid;
import org.postgresql.PGConnection;
import org.postgresql.copy.CopyIn;
import org.postgresql.copy.CopyManager;
import org.postgresql.replication.PGReplicationStream;
import org.postgresql.xa.PGXADataSource;

/** What pgjdbc can do beyond its usual idioms. Usage: java -cp postgresql.jar JdbcMore.java DATABASE_URL [CHECK...] */
final class JdbcMore {
    /** A check that takes longer hangs. */
    private static final int PATIENCE_SECONDS = 120;

    private final String url;
    private final String database;
    private final int port;
    private final String user;
    private final String password;

    private JdbcMore(String databaseUrl) {
        URI uri = URI.create(databaseUrl);
        String[] who = uri.getUserInfo().split(":", 2);
        url = "jdbc:postgresql://" + uri.getHost() + ":" + uri.getPort() + uri.getPath();
        database = uri.getPath().substring(1);
        port = uri.getPort();
        user = who[0];
        password = who.length > 1 ? who[1] : "";
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

    private static void say(Object... seen) {
        StringBuilder line = new StringBuilder("   ");
        for (Object one : seen) {
            line.append(' ').append(one);
        }
        System.out.println(line);
    }

    private static void run(Connection connection, String sql) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            statement.execute(sql);
        }
    }

    private static List<String> rows(ResultSet rows, String... columns) throws SQLException {
        List<String> all = new ArrayList<>();
        while (rows.next()) {
            StringBuilder row = new StringBuilder();
            int count = columns.length > 0 ? columns.length : rows.getMetaData().getColumnCount();
            for (int at = 0; at < count; at++) {
                String value = columns.length > 0 ? rows.getString(columns[at]) : rows.getString(at + 1);
                row.append(at > 0 ? "|" : "").append(value);
            }
            all.add(row.toString());
        }
        rows.close();
        return all;
    }

    private static List<String> rows(Connection connection, String sql) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            return rows(statement.executeQuery(sql));
        }
    }

    /** Tells how a call went: well, or the SQLSTATE. */
    private static String state(Check call) throws Exception {
        try {
            call.run();
            return "well";
        } catch (SQLException error) {
            return error.getSQLState();
        } catch (XAException error) {
            return "XA " + error.errorCode;
        }
    }

    /**
     * What makes prepared statements invalid, in and out of blocks, for each way in which the driver may save
     * itself by savepoints and by preparing anew.
     */
    void statementsThatBecomeInvalid() throws Exception {
        List<String> faults = List.of("select 1/0", "alter table auto add column more int", "deallocate all",
                "discard all", "set search_path = nowhere; set search_path = public", "drop table auto");
        try (Connection other = connect()) {
            for (String save : List.of("never", "conservative", "always")) {
                for (boolean auto : List.of(true, false)) {
                    for (String fault : faults) {
                        say(save, auto, fault, becomesInvalid(other, save, auto, fault));
                    }
                }
            }
        }
    }

    private List<String> becomesInvalid(Connection other, String save, boolean auto, String fault) throws Exception {
        List<String> seen = new ArrayList<>();
        try (Connection c = connect("autosave", save, "prepareThreshold", "2", "cleanupSavepoints", "true")) {
            run(other, "drop table if exists auto");
            run(other, "create table auto (id int)");
            run(other, "insert into auto values (1), (2)");
            c.setAutoCommit(auto);
            try (PreparedStatement ask = c.prepareStatement("select * from auto where id > ?")) {
                Check use = () -> {
                    ask.setInt(1, 0);
                    seen.addAll(rows(ask.executeQuery()));
                };
                for (int turn = 0; turn < 4; turn++) {
                    seen.add(state(use));
                }
                if (!auto) {
                    c.commit();
                    seen.add(state(use));
                }
                seen.add(state(() -> run(c, fault)));
                for (int turn = 0; turn < 3; turn++) {
                    seen.add(state(use));
                }
                if (!auto) {
                    seen.add(state(c::rollback));
                    seen.add(state(use));
                    seen.add(state(c::commit));
                }
            }
        }
        return seen;
    }

    private record Branch(byte[] name) implements Xid {
        @Override
        public int getFormatId() {
            return 7;
        }

        @Override
        public byte[] getGlobalTransactionId() {
            return name;
        }

        @Override
        public byte[] getBranchQualifier() {
            return new byte[] {1};
        }
    }

    void transactionsOfTwoPhases() throws Exception {
        try (Connection c = connect()) {
            run(c, "create table xa (n int)");
        }
        PGXADataSource source = new PGXADataSource();
        source.setUrl(url);
        source.setUser(user);
        source.setPassword(password);
        XAConnection one = source.getXAConnection();
        XAConnection two = source.getXAConnection();
        try {
            XAResource first = one.getXAResource();
            XAResource second = two.getXAResource();
            Connection c = one.getConnection();
            Xid both = new Branch((database + " both").getBytes(StandardCharsets.UTF_8));
            first.start(both, XAResource.TMNOFLAGS);
            run(c, "insert into xa values (1)");
            first.end(both, XAResource.TMSUCCESS);
            say(first.prepare(both) == XAResource.XA_OK, rows(c, "select n from xa"));
            Xid[] prepared = second.recover(XAResource.TMSTARTRSCAN | XAResource.TMENDRSCAN);
            say(Arrays.stream(prepared)
                    .filter(xid -> Arrays.equals(xid.getGlobalTransactionId(), both.getGlobalTransactionId())).count());
            // Another connection ends it, which may be on another server connection.
            second.commit(both, false);
            say(state(() -> second.commit(both, false)), rows(c, "select n from xa"));
            Xid undone = new Branch((database + " undone").getBytes(StandardCharsets.UTF_8));
            first.start(undone, XAResource.TMNOFLAGS);
            run(c, "insert into xa values (2)");
            first.end(undone, XAResource.TMSUCCESS);
            first.prepare(undone);
            second.rollback(undone);
            say(state(() -> second.rollback(undone)));
            Xid once = new Branch((database + " once").getBytes(StandardCharsets.UTF_8));
            first.start(once, XAResource.TMNOFLAGS);
            run(c, "insert into xa values (3)");
            first.end(once, XAResource.TMSUCCESS);
            first.commit(once, true);
            say(rows(c, "select n from xa order by n"), c.getAutoCommit());
        } finally {
            one.close();
            two.close();
        }
    }

    void resultsThatAreWrittenTo() throws Exception {
        try (Connection c = connect()) {
            run(c, "create table up (id int primary key, t text)");
            run(c, "insert into up values (1, 'a'), (2, 'b'), (3, 'c')");
            try (Statement s = c.createStatement(ResultSet.TYPE_SCROLL_INSENSITIVE, ResultSet.CONCUR_UPDATABLE);
                    ResultSet up = s.executeQuery("select id, t from up order by id")) {
                up.absolute(2);
                up.updateString("t", "B");
                up.updateRow();
                run(c, "update up set t = 'C' where id = 3");
                up.last();
                up.refreshRow();
                say(up.getString("t"));
                up.moveToInsertRow();
                up.updateInt("id", 4);
                up.updateString("t", "d");
                up.insertRow();
                up.first();
                up.deleteRow();
            }
            say(rows(c, "select * from up order by id"));
        }
    }

    void portalsSideBySideAndCursorsOfFunctions() throws Exception {
        try (Connection c = connect()) {
            run(c, "create function several() returns setof refcursor language plpgsql as $$"
                    + "declare a refcursor; b refcursor; begin open a for select generate_series(1, 3);"
                    + "open b for select 'x'; return next a; return next b; end $$");
            run(c, "create function one() returns refcursor language plpgsql as $$"
                    + "declare a refcursor; begin open a for select generate_series(1, 3); return a; end $$");
            c.setAutoCommit(false);
            try (PreparedStatement a = c.prepareStatement("select generate_series(1, 100)");
                    PreparedStatement b = c.prepareStatement("select generate_series(101, 200)")) {
                a.setFetchSize(7);
                b.setFetchSize(11);
                try (ResultSet left = a.executeQuery(); ResultSet right = b.executeQuery()) {
                    long sum = 0;
                    while (left.next() && right.next()) {
                        sum += left.getInt(1) * (long) right.getInt(1);
                    }
                    say(sum);
                }
                try (ResultSet left = a.executeQuery()) {
                    left.next();
                    // The portal ends with the block, and the rest of its rows.
                    c.commit();
                    say(state(() -> {
                        while (left.next()) {
                            left.getInt(1);
                        }
                    }));
                }
                c.rollback();
            }
            try (CallableStatement call = c.prepareCall("{? = call one()}")) {
                call.registerOutParameter(1, Types.REF_CURSOR);
                call.execute();
                say(rows((ResultSet) call.getObject(1)));
            }
            for (String name : rows(c, "select several()")) {
                say(rows(c, "fetch all in \"" + name + "\""));
            }
            c.commit();
            say(state(() -> rows(c, "fetch all in \"<unnamed portal 1>\"")));
            c.rollback();
            try (Statement s = c.createStatement(ResultSet.TYPE_FORWARD_ONLY, ResultSet.CONCUR_READ_ONLY,
                    ResultSet.HOLD_CURSORS_OVER_COMMIT)) {
                s.setFetchSize(2);
                ResultSet held = s.executeQuery("select generate_series(1, 5)");
                held.next();
                c.commit();
                say(rows(held));
            }
        }
        try (Connection c = connect("defaultRowFetchSize", "5", "adaptiveFetch", "true", "maxResultBuffer", "1M")) {
            c.setAutoCommit(false);
            say(rows(c, "select repeat('x', n) from generate_series(1, 60) n").size());
            c.rollback();
        }
    }

    void whatTheCatalogueSays() throws Exception {
        try (Connection c = connect()) {
            run(c, "create type mood as enum ('glad', 'sad')");
            run(c, "create table meta (id bigserial primary key, m mood, a int[], t varchar(7) not null default 'x')");
            run(c, "create table points (meta_id bigint references meta)");
            DatabaseMetaData meta = c.getMetaData();
            say(rows(meta.getTables(null, "public", "%", new String[] {"TABLE"}), "TABLE_NAME"));
            say(rows(meta.getColumns(null, "public", "meta", "%"), "COLUMN_NAME", "TYPE_NAME", "COLUMN_SIZE",
                    "IS_NULLABLE", "IS_AUTOINCREMENT"));
            say(rows(meta.getPrimaryKeys(null, "public", "meta"), "COLUMN_NAME", "PK_NAME"));
            say(rows(meta.getImportedKeys(null, "public", "points"), "PKTABLE_NAME", "FKCOLUMN_NAME"));
            say(rows(meta.getIndexInfo(null, "public", "meta", true, false), "INDEX_NAME", "COLUMN_NAME"));
            say(meta.getMaxConnections() > 0, meta.getDefaultTransactionIsolation(), meta.getUserName(), c.getSchema());
            try (PreparedStatement p = c.prepareStatement("select m, a, t from meta where id = ? and m = ?::mood")) {
                ParameterMetaData about = p.getParameterMetaData();
                say(about.getParameterTypeName(1), about.getParameterTypeName(2));
                say(p.getMetaData().getColumnTypeName(1), p.getMetaData().getColumnTypeName(2),
                        p.getMetaData().getColumnDisplaySize(3));
            }
            run(c, "drop table points");
            run(c, "drop table meta");
            run(c, "drop type mood");
        }
    }

    void parametersThatAreReported() throws Exception {
        List<String> names = List.of("application_name", "client_encoding", "DateStyle", "integer_datetimes",
                "IntervalStyle", "is_superuser", "session_authorization", "standard_conforming_strings", "TimeZone");
        try (Connection c = connect("ApplicationName", "more", "options", "-c timezone=UTC")) {
            PGConnection pg = c.unwrap(PGConnection.class);
            List<String> texts = List.of("select 1", "begin", "set timezone = 'Asia/Tokyo'",
                    "set local application_name = 'inner'", "savepoint s", "set intervalstyle = 'iso_8601'",
                    "rollback to s", "set datestyle = 'ISO, DMY'", "commit", "reset timezone", "set role other",
                    "reset role", "set session authorization other", "reset session authorization", "discard all");
            for (String text : texts) {
                run(c, text);
                Map<String, String> told = new TreeMap<>();
                for (String name : names) {
                    told.put(name, pg.getParameterStatus(name));
                }
                say(text, told);
            }
            say(state(() -> run(c, "set datestyle = 'German'")), c.isValid(2));
        }
        for (String mode : List.of("ignore", "transaction", "always")) {
            try (Connection c = connect("readOnlyMode", mode)) {
                c.setReadOnly(true);
                say(mode, rows(c, "show default_transaction_read_only"), state(() -> run(c, "create table ro (n int)")));
                c.setAutoCommit(false);
                say(state(() -> run(c, "create table ro (n int)")));
                c.rollback();
                c.setAutoCommit(true);
                c.setReadOnly(false);
                run(c, "drop table if exists ro");
            }
        }
        for (String type : List.of("any", "primary", "preferSecondary", "secondary")) {
            say(type, state(() -> connect("targetServerType", type, "hostRecheckSeconds", "0").close()));
        }
    }

    void warningsAndTimeouts() throws Exception {
        try (Connection c = connect(); Statement s = c.createStatement()) {
            s.execute("do $$ begin for i in 1..3 loop raise notice 'n %', i; end loop; raise warning 'w'; end $$");
            for (SQLWarning one = s.getWarnings(); one != null; one = one.getNextWarning()) {
                say(one.getSQLState(), one.getMessage());
            }
            c.setNetworkTimeout(Runnable::run, 5000);
            say(rows(c, "select 1"), c.getNetworkTimeout());
            s.setQueryTimeout(1);
            for (String text : List.of("select pg_sleep(20)", "select 1; select pg_sleep(20)", "begin; select pg_sleep(20)")) {
                say(state(() -> s.execute(text)), state(() -> rows(c, "select 2")));
                run(c, "rollback");
            }
        }
        try (Connection c = connect("socketTimeout", "1")) {
            say(state(() -> run(c, "select pg_sleep(20)")), c.isClosed());
        }
        Connection c = connect();
        c.abort(Runnable::run);
        say(c.isClosed(), state(() -> run(c, "select 1")));
    }

    void copiesThatAreBrokenOff() throws Exception {
        try (Connection c = connect()) {
            run(c, "create table brk (n int)");
            CopyManager copy = c.unwrap(PGConnection.class).getCopyAPI();
            CopyIn in = copy.copyIn("copy brk from stdin");
            in.writeToCopy("1\n".getBytes(StandardCharsets.UTF_8), 0, 2);
            in.cancelCopy();
            say(in.isActive(), rows(c, "select count(*) from brk"));
            InputStream broken = new InputStream() {
                private int left = 100_000;

                @Override
                public int read() throws IOException {
                    if (left == 0) {
                        throw new IOException("broken");
                    }
                    left--;
                    return left % 2 == 0 ? '\n' : '7';
                }
            };
            try {
                copy.copyIn("copy brk from stdin", broken);
            } catch (IOException | SQLException error) {
                say(error.getClass().getSimpleName());
            }
            say(rows(c, "select count(*) from brk"));
            say(state(() -> copy.copyIn("copy nowhere from stdin", new ByteArrayInputStream(new byte[0]))));
            say(state(() -> copy.copyOut("copy (select 1/0) to stdout")), state(() -> copy.copyIn("select 1")));
            say(state(() -> run(c, "copy brk from stdin")), rows(c, "select 2"));
            c.setAutoCommit(false);
            run(c, "insert into brk values (1)");
            say(state(() -> copy.copyIn("copy brk from stdin", new ByteArrayInputStream("x\n".getBytes()))));
            say(state(() -> rows(c, "select 1")));
            c.rollback();
            say(copy.copyIn("copy brk from stdin", new ByteArrayInputStream("5\n6\n".getBytes())));
            c.commit();
            say(rows(c, "select n from brk"));
        }
    }

    void aStreamOfChanges() throws Exception {
        String slot = "more_" + port;
        try (Connection c = connect();
                Connection stream = connect("replication", "database", "preferQueryMode", "simple", "assumeMinServerVersion", "12")) {
            run(c, "create table streamed (n int)");
            PGConnection pg = stream.unwrap(PGConnection.class);
            pg.getReplicationAPI().createReplicationSlot().logical().withSlotName(slot)
                    .withOutputPlugin("test_decoding").withTemporaryOption().make();
            run(c, "insert into streamed values (1), (2)");
            PGReplicationStream changes = pg.getReplicationAPI().replicationStream().logical().withSlotName(slot)
                    .withSlotOption("include-xids", false).withSlotOption("skip-empty-xacts", true)
                    .withStatusInterval(1, TimeUnit.SECONDS).start();
            for (int seen = 0; seen < 4;) {
                ByteBuffer change = changes.read();
                String text = StandardCharsets.UTF_8.decode(change).toString();
                // Others write in this database, too.
                if (text.contains("streamed") || seen == 3 || text.equals("BEGIN")) {
                    say(text);
                    seen++;
                }
                changes.setAppliedLSN(changes.getLastReceiveLSN());
                changes.setFlushedLSN(changes.getLastReceiveLSN());
            }
            changes.forceUpdateStatus();
            changes.close();
            say(rows(stream, "select 3"));
        }
    }

    private Map<String, Check> checks() {
        Map<String, Check> checks = new LinkedHashMap<>();
        checks.put("statementsThatBecomeInvalid", this::statementsThatBecomeInvalid);
        checks.put("transactionsOfTwoPhases", this::transactionsOfTwoPhases);
        checks.put("resultsThatAreWrittenTo", this::resultsThatAreWrittenTo);
        checks.put("portalsSideBySideAndCursorsOfFunctions", this::portalsSideBySideAndCursorsOfFunctions);
        checks.put("whatTheCatalogueSays", this::whatTheCatalogueSays);
        checks.put("parametersThatAreReported", this::parametersThatAreReported);
        checks.put("warningsAndTimeouts", this::warningsAndTimeouts);
        checks.put("copiesThatAreBrokenOff", this::copiesThatAreBrokenOff);
        checks.put("aStreamOfChanges", this::aStreamOfChanges);
        return checks;
    }

    public static void main(String[] arguments) {
        List<String> chosen = Arrays.asList(arguments).subList(1, arguments.length);
        int failed = 0;
        for (Map.Entry<String, Check> check : new JdbcMore(arguments[0]).checks().entrySet()) {
            if (!chosen.isEmpty() && !chosen.contains(check.getKey())) {
                continue;
            }
            System.out.println(check.getKey() + " ...");
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
            try {
                check.getValue().run();
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
