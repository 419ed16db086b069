import java.io.ByteArrayOutputStream;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.Statement;
import org.postgresql.PGConnection;

/**
 * Rows of several shards, some at a time, and COPY, by pgjdbc. It prints what it sees, which has to be the same on one
 * server that has all rows. Usage: java -cp postgresql.jar JdbcShards.java DATABASE_URL
 */
final class JdbcShards {
    private JdbcShards() {}

    private static void fetched(Connection connection, String query, int size, Integer least) throws Exception {
        try (PreparedStatement statement = connection.prepareStatement(query)) {
            statement.setFetchSize(size);
            if (least != null) {
                statement.setInt(1, least);
            }
            StringBuilder seen = new StringBuilder();
            try (ResultSet rows = statement.executeQuery()) {
                while (rows.next()) {
                    seen.append(rows.getString(1)).append(' ');
                    if (rows.getRow() == size) {
                        // Another statement while rows are left.
                        try (Statement other = connection.createStatement();
                                ResultSet count = other.executeQuery("select count(*) from accounts")) {
                            count.next();
                            seen.append('(').append(count.getLong(1)).append(") ");
                        }
                    }
                }
            }
            System.out.println(seen);
        }
    }

    private static void copied(Connection connection, String query) throws Exception {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        long rows = connection.unwrap(PGConnection.class).getCopyAPI().copyOut(query, out);
        System.out.println(rows + " " + out.toString(StandardCharsets.UTF_8));
    }

    public static void main(String[] arguments) throws Exception {
        URI uri = URI.create(arguments[0]);
        String[] who = uri.getUserInfo().split(":", 2);
        String url = "jdbc:postgresql://" + uri.getHost() + ":" + uri.getPort() + uri.getPath();
        try (Connection connection = DriverManager.getConnection(url, who[0], who[1])) {
            connection.setAutoCommit(false);
            // Behind some runs, a statement has a name on the server, and its results come in binary.
            for (int run = 0; run < 7; run++) {
                fetched(connection, "select amount from accounts order by amount", 5, null);
                fetched(connection, "select amount from accounts where amount >= ? order by amount", 4, 3);
                fetched(
                        connection,
                        "select owner || count(*) from accounts group by owner order by owner",
                        2,
                        null);
                fetched(
                        connection,
                        "select a.amount + e.n from accounts a join entries e on e.what = a.owner"
                                + " where a.amount > ? order by a.amount, e.n",
                        3,
                        0);
                connection.commit();
            }
            copied(connection, "copy (select amount, owner from accounts order by amount) to stdout");
            copied(connection, "copy (select count(*) from accounts) to stdout (format csv, header)");
            connection.commit();
            connection.setAutoCommit(true);
            copied(connection, "copy (select amount, owner from accounts order by amount) to stdout (format csv)");
        }
    }
}
