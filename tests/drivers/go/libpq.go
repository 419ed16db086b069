// What applications do with Go's database/sql by lib/pq. Usage: libpq DATABASE_URL
package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/lib/pq"
)

// More connections than the proxy has servers.
const clients = 6

// A check that takes longer hangs.
const patience = 30 * time.Second

var url string

func say(seen ...any) {
	fmt.Print("   ")
	for _, one := range seen {
		fmt.Printf(" %v", one)
	}
	fmt.Println()
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func got[T any](value T, err error) T {
	must(err)
	return value
}

// code gives the SQLSTATE of an error, or what else it is.
func code(err error) string {
	var told *pq.Error
	if errors.As(err, &told) {
		return string(told.Code)
	}
	return fmt.Sprint(err)
}

func open(more ...string) *sql.DB {
	db := got(sql.Open("postgres", url+"?sslmode=disable"+strings.Join(more, "")))
	db.SetMaxOpenConns(clients)
	return db
}

type asker interface {
	QueryRow(query string, args ...any) *sql.Row
}

func ask[T any](db asker, query string, args ...any) T {
	var value T
	must(db.QueryRow(query, args...).Scan(&value))
	return value
}

func together[T any](use func(me int) T) []T {
	seen := make([]T, clients)
	var all sync.WaitGroup
	for me := range seen {
		all.Add(1)
		go func(me int) {
			defer all.Done()
			seen[me] = use(me)
		}(me)
	}
	all.Wait()
	return seen
}

func values(db *sql.DB) {
	moment := time.Date(2024, 2, 29, 12, 30, 1, 5000, time.UTC)
	for _, more := range []string{"", "&binary_parameters=yes"} {
		db := open(more, "&timezone=UTC")
		var t string
		var i int64
		var n sql.NullInt64
		var b bool
		var y []byte
		var a pq.Int64Array
		var s pq.StringArray
		var f float64
		var w time.Time
		must(db.QueryRow("select $1::text, $2::int8, $3::int, $4::bool, $5::bytea, $6::int8[], $7::text[], $8::float8, $9::timestamptz",
			"ü'\\", int64(1)<<62, nil, true, []byte{0, 255}, pq.Array([]int64{1, 2}), pq.Array([]string{"a", `b"`}), -1.5, moment).
			Scan(&t, &i, &n, &b, &y, &a, &s, &f, &w))
		say(t, i, n, b, y, a, s, f, w.UTC())
		say(ask[string](db, "select $1::jsonb", `{"a": [1]}`), ask[string](db, "select '3 days'::interval"), ask[string](db, "select 1.10::numeric"))
		rows := got(db.Query("select 1 as a; select 2, 3"))
		for more := true; more; more = rows.NextResultSet() {
			for rows.Next() {
				say(got(rows.Columns()))
			}
		}
		must(rows.Err())
		must(db.Close())
	}
}

func prepared(db *sql.DB) {
	got(db.Exec("create table prep (id int primary key, n int not null)"))
	got(db.Exec("insert into prep select i, 0 from generate_series(0, 5) i"))
	say(together(func(me int) int {
		// Not one for all: database/sql would hold its lock while it waits for a server.
		add := got(db.Prepare("update prep set n = n + 1 where id = $1"))
		defer add.Close()
		ask := got(db.Prepare(fmt.Sprintf("select n + %d from prep where id = $1", me)))
		defer ask.Close()
		last := 0
		for turn := 0; turn < 15; turn++ {
			tx := got(db.Begin())
			got(tx.Stmt(add).Exec(me))
			must(tx.Stmt(ask).QueryRow(me).Scan(&last))
			must(tx.Commit())
		}
		return last
	}))
}

func transactions(db *sql.DB) {
	got(db.Exec("create table trans (n int unique)"))
	tx := got(db.BeginTx(context.Background(), &sql.TxOptions{Isolation: sql.LevelSerializable}))
	say(ask[string](tx, "show transaction_isolation"))
	got(tx.Exec("insert into trans values (1)"))
	got(tx.Exec("savepoint here"))
	_, err := tx.Exec("insert into trans values ($1)", 1)
	say(code(err))
	_, err = tx.Exec("select 1")
	say(code(err))
	got(tx.Exec("rollback to here"))
	must(tx.Commit())
	tx = got(db.BeginTx(context.Background(), &sql.TxOptions{ReadOnly: true}))
	_, err = tx.Exec("delete from trans")
	say(code(err), code(tx.Commit()))
	tx = got(db.Begin())
	got(tx.Exec("insert into trans values (2)"))
	must(tx.Rollback())
	say(ask[int](db, "select count(*) from trans"))
	for _, wrong := range []string{"select 1/0", "selekt", "select * from nowhere", "select 'x'::int"} {
		_, err := db.Exec(wrong)
		_, again := db.Exec(wrong+" -- $1", "x")
		say(code(err), again != nil)
	}
}

func copies(db *sql.DB) {
	got(db.Exec("create table cp (who int, t text)"))
	say(together(func(me int) string {
		tx := got(db.Begin())
		in := got(tx.Prepare(pq.CopyIn("cp", "who", "t")))
		for n := 0; n < 2000; n++ {
			got(in.Exec(me, "some\ttext"))
		}
		got(in.Exec())
		must(in.Close())
		must(tx.Commit())
		tx = got(db.Begin())
		in = got(tx.Prepare(pq.CopyIn("cp", "who")))
		got(in.Exec("x"))
		_, err := in.Exec()
		in.Close()
		tx.Rollback()
		return fmt.Sprint(code(err), " ", ask[int](db, "select count(*) from cp where who = $1", me))
	}))
}

func results(db *sql.DB) {
	tx := got(db.Begin())
	got(tx.Exec("declare walk cursor for select n from generate_series(1, 100) n"))
	say(ask[int](tx, "fetch 1 from walk"), ask[int](tx, "fetch relative 50 from walk"))
	must(tx.Commit())
	say(together(func(me int) int {
		rows := got(db.Query("select n, repeat($1, 1000) from generate_series(1, 3000) n", fmt.Sprint(me)))
		defer rows.Close()
		sum := 0
		for rows.Next() {
			var n int
			var x string
			must(rows.Scan(&n, &x))
			if x != strings.Repeat(fmt.Sprint(me), 1000) {
				panic("not mine")
			}
			sum += n
		}
		must(rows.Err())
		return sum
	}))
	say(ask[int](db, "select length($1::text)", strings.Repeat("y", 3_000_000)), bytes.Count(ask[[]byte](db, "select repeat('z', 3000000)::bytea"), []byte("z")))
	// Rows that nobody reads to the end.
	rows := got(db.Query("select generate_series(1, 100000)"))
	rows.Next()
	must(rows.Close())
	say(ask[int](db, "select 7"))
}

func cancels(db *sql.DB) {
	for turn := 0; turn < 2; turn++ {
		patient, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		_, err := db.ExecContext(patient, "select pg_sleep(20)")
		cancel()
		say(err != nil, ask[int](db, "select $1::int", turn))
	}
	own := open("&statement_timeout=150")
	_, err := own.Exec("select pg_sleep(20)")
	say(code(err), ask[string](own, "show statement_timeout"), ask[string](db, "show statement_timeout"))
	must(own.Close())
}

func notifications(db *sql.DB) {
	listener := pq.NewListener(url+"?sslmode=disable", 10*time.Millisecond, time.Second, nil)
	must(listener.Listen("news"))
	got(db.Exec("notify news, 'first'"))
	tx := got(db.Begin())
	got(tx.Exec("select pg_notify('news', $1)", "second"))
	got(tx.Exec("notify other, 'unheard'"))
	must(tx.Commit())
	for turn := 0; turn < 2; turn++ {
		note := <-listener.Notify
		say(note.Channel, note.Extra)
	}
	must(listener.Ping())
	must(listener.UnlistenAll())
	must(listener.Close())
}

func lost(db *sql.DB) {
	got(db.Exec("create table lost (n int)"))
	tx := got(db.Begin())
	got(tx.Exec("insert into lost values (1)"))
	say(ask[bool](db, "select pg_terminate_backend($1, 5000)", ask[int](tx, "select pg_backend_pid()")))
	_, err := tx.Exec("insert into lost values (2)")
	say(err != nil)
	tx.Rollback()
	got(db.Exec("insert into lost values (3)"))
	say(ask[int](db, "select sum(n) from lost"))
}

func main() {
	url = os.Args[1]
	checks := []struct {
		name string
		run  func(*sql.DB)
	}{
		{"values go both ways", values},
		{"prepared statements over shared servers", prepared},
		{"transactions and savepoints", transactions},
		{"copy in", copies},
		{"results", results},
		{"cancel and timeouts", cancels},
		{"notifications", notifications},
		{"work goes on after the server was lost", lost},
	}
	for _, check := range checks {
		fmt.Println(check.name, "...")
		watch := time.AfterFunc(patience, func() { panic(check.name + " hangs") })
		db := open()
		check.run(db)
		must(db.Close())
		watch.Stop()
	}
}
