# What applications do with Ruby's pg. Usage: ruby_pg.rb DATABASE_URL
# frozen_string_literal: true

require "pg"
require "timeout"

URL = ARGV.fetch(0)
# More clients than the proxy has servers.
CLIENTS = 6
# A check that takes longer hangs.
PATIENCE = 30

def say(*seen)
  puts "    #{seen.map(&:inspect).join(' ')}"
end

def connect(**options)
  conn = PG.connect(URL, **options)
  conn.set_notice_processor { |message| }
  return conn unless block_given?

  begin
    yield conn
  ensure
    conn.finish unless conn.finished?
  end
end

def together
  Array.new(CLIENTS) { |me| Thread.new { yield me } }.map(&:value)
end

# Gives the error of a block, which must have one.
def refused
  yield
rescue PG::Error => e
  e
else
  raise "no error"
end

def state(&block)
  refused(&block).result.error_field(PG::PG_DIAG_SQLSTATE)
end

CHECKS = {}

def check(name, &block)
  CHECKS[name] = block
end

check "values go both ways" do
  connect(options: "-c timezone=UTC") do |conn|
    conn.type_map_for_results = PG::BasicTypeMapForResults.new(conn)
    conn.type_map_for_queries = PG::BasicTypeMapForQueries.new(conn)
    say conn.exec_params("select $1::text, $2::int8, $3::float8, $4::int, $5::bool", ["ü'\\", 2**62, -1.5, nil, true]).values
    say conn.exec_params("select $1::int[], $2::text[]", [[1, nil, 3], ["a", 'b"', "c,d"]]).values
    say conn.exec("select '{\"a\": [1]}'::jsonb, '2024-02-29'::date, '2024-02-29 12:00+02'::timestamptz, 1.10::numeric, '3 days'::interval::text").values.flatten.map(&:to_s)
    bytes = { value: "\0\xff".b, type: 17, format: 1 }
    conn.type_map_for_queries = PG::TypeMapAllStrings.new
    say conn.exec_params("select $1::bytea", [bytes], 1).getvalue(0, 0)
    say conn.exec("select 1 as a, 2 as b").to_a, conn.exec("").result_status
    conn.set_client_encoding("LATIN1")
    say conn.exec("select 'é', length('é')").values, conn.exec("show client_encoding").getvalue(0, 0)
  end
end

check "prepared statements over shared servers" do
  connect do |conn|
    conn.exec("create table prep (id int primary key, n int not null)")
    conn.exec("insert into prep select i, 0 from generate_series(0, 5) i")
  end
  say(together do |me|
    connect do |conn|
      conn.prepare("add", "update prep set n = n + 1 where id = $1")
      # One name, another statement for each client.
      conn.prepare("ask", "select n + #{me} from prep where id = $1")
      20.times do |turn|
        conn.transaction do
          conn.exec_prepared("add", [me])
          seen = conn.exec_prepared("ask", [me]).getvalue(0, 0)
          raise "#{seen} in turn #{turn}" unless seen == (turn + 1 + me).to_s
        end
      end
      about = conn.describe_prepared("ask")
      twice = state { conn.prepare("add", "select 1") }
      conn.exec("deallocate ask")
      gone = state { conn.exec_prepared("ask", [1]) }
      conn.exec("deallocate all")
      [about.nparams, about.fname(0), twice, gone, state { conn.exec_prepared("add", [1]) }]
    end
  end.uniq)
end

check "transactions and savepoints" do
  connect do |conn|
    conn.exec("create table trans (n int unique)")
    conn.transaction do
      conn.exec("insert into trans values (1); savepoint here")
      error = refused { conn.exec("insert into trans values (1)") }
      say error.class, error.result.error_field(PG::PG_DIAG_CONSTRAINT_NAME)
      say state { conn.exec("select 1") }, conn.transaction_status == PG::PQTRANS_INERROR
      conn.exec("rollback to here; insert into trans values (2)")
    end
    begin
      conn.transaction do
        conn.exec("insert into trans values (3)")
        raise KeyError
      end
    rescue KeyError
      say conn.exec("select * from trans").values
    end
    conn.exec("begin isolation level serializable read only deferrable")
    say conn.exec("show transaction_isolation").getvalue(0, 0), state { conn.exec("delete from trans") }
    conn.exec("rollback")
    say state { conn.exec("insert into trans values (7); select 1/0") }, conn.exec("select count(*) from trans").values
  end
end

check "copy in and out" do
  connect { |conn| conn.exec("create table cp (who int, t text)") }
  say(together do |me|
    connect do |conn|
      conn.copy_data("copy cp from stdin") { 2000.times { conn.put_copy_data("#{me}\tsome text\n") } }
      conn.copy_data("copy cp from stdin", PG::TextEncoder::CopyRow.new) do
        conn.put_copy_data([me, "by a\tcoder"])
      end
      bytes = 0
      conn.copy_data("copy (select t from cp where who = #{me}) to stdout") do
        while (row = conn.get_copy_data)
          bytes += row.bytesize
        end
      end
      bad = state { conn.copy_data("copy cp from stdin") { conn.put_copy_data("x\ty\n") } }
      begin
        conn.copy_data("copy cp from stdin") do
          conn.put_copy_data("1\tfine\n")
          raise KeyError, "mine"
        end
      rescue KeyError
        given_up = true
      end
      [bytes, bad, given_up, conn.exec("select count(*) from cp where who = #{me}").getvalue(0, 0)]
    end
  end)
end

check "rows one at a time, and cursors" do
  connect do |conn|
    conn.send_query("select n, repeat('x', 500) from generate_series(1, 3000) n")
    conn.set_single_row_mode
    sum = 0
    conn.get_result.stream_each_row { |row| sum += row[0].to_i }
    conn.get_result
    say sum
    conn.transaction do
      conn.exec("declare walk scroll cursor for select n from generate_series(1, 100) n")
      say conn.exec("fetch 3 from walk").column_values(0), conn.exec("fetch last from walk").values
      conn.exec("move backward 10 in walk")
      say conn.exec("fetch 1 from walk").values
    end
    say state { conn.exec("fetch 1 from walk") }
    conn.exec("begin; declare hold cursor with hold for select generate_series(1, 5); commit")
    say conn.exec("fetch all from hold").ntuples
  end
end

check "pipeline" do
  connect do |conn|
    conn.exec("create table pipe (n int)")
    conn.enter_pipeline_mode
    [1, 0, 2].each do |n|
      conn.send_query_params("insert into pipe values ($1::int)", [n])
      conn.send_query_params("select 10 / $1::int", [n])
      conn.pipeline_sync
    end
    seen = []
    until seen.count(:sync) == 3
      result = begin
        conn.get_result
      rescue PG::Error => e
        seen << e.result&.error_field(PG::PG_DIAG_SQLSTATE)
        next
      end
      next unless result

      seen << (result.result_status == PG::PGRES_PIPELINE_SYNC ? :sync : result.values)
    end
    conn.exit_pipeline_mode
    say seen, conn.exec("select n from pipe").column_values(0)
  end
end

check "cancel and timeouts" do
  connect(options: "-c statement_timeout=150") do |conn|
    say refused { conn.exec("select pg_sleep(20)") }.message.lines.first
    conn.exec("set statement_timeout = 0")
    2.times do |turn|
      conn.send_query("select pg_sleep(20)")
      sleep 0.2
      say conn.cancel, state { conn.get_last_result }, conn.exec_params("select $1::int", [turn]).values
    end
    # A thread that is killed while it waits.
    begin
      Timeout.timeout(0.3) { conn.exec("select pg_sleep(20)") }
    rescue Timeout::Error
      conn.cancel
      conn.discard_results
      say conn.exec("select 9").values
    end
  end
end

check "notifications" do
  connect do |ear|
    connect do |mouth|
      ear.exec("listen news")
      mouth.exec("notify news, 'first'")
      mouth.transaction { mouth.exec_params("select pg_notify('news', $1)", ["second"]) }
      mouth.exec("begin; notify news, 'undone'; rollback; notify other")
      2.times { ear.wait_for_notify(10) { |channel, _pid, payload| say channel, payload } }
      ear.exec("unlisten *")
      mouth.exec("notify news, 'unheard'")
      say ear.exec("select 1").values, ear.notifies
    end
  end
end

check "settings stay with their client" do
  say(together do |me|
    connect(application_name: "app #{me}", options: "-c work_mem=#{200 + me}kB") do |conn|
      10.times do
        conn.exec("begin; set local search_path to s#{me}; commit")
        raise "lost" unless conn.exec("show application_name").values == [["app #{me}"]]
      end
      shown = %w[work_mem application_name search_path].map { |name| conn.exec("show #{name}").getvalue(0, 0) }
      conn.reset
      shown + [conn.exec("show work_mem").getvalue(0, 0)]
    end
  end)
end

check "big results" do
  say(together do |me|
    connect do |conn|
      long = conn.exec_params("select repeat($1, 3000000)", [me.to_s]).getvalue(0, 0)
      rows = conn.exec("select repeat('#{me}', 1000) from generate_series(1, 3000)").column_values(0)
      [long == me.to_s * 3_000_000, rows.uniq == [me.to_s * 1000], rows.length]
    end
  end.uniq)
end

check "large objects" do
  connect do |conn|
    conn.transaction do
      number = conn.lo_create(0)
      big = conn.lo_open(number, PG::INV_READ | PG::INV_WRITE)
      conn.lo_write(big, "x" * 70_000)
      conn.lo_lseek(big, 69_998, PG::SEEK_SET)
      say conn.lo_read(big, 10), conn.lo_tell(big)
      conn.lo_close(big)
      conn.lo_unlink(number)
    end
  end
end

check "work goes on after the server was lost" do
  connect do |conn|
    connect do |killer|
      conn.exec("create table lost (n int)")
      conn.exec("begin; insert into lost values (1)")
      pid = conn.exec("select pg_backend_pid()").getvalue(0, 0)
      say killer.exec_params("select pg_terminate_backend($1, 5000)", [pid]).values
      refused { conn.exec("insert into lost values (2)") }
      conn.status == PG::CONNECTION_OK ? conn.exec("rollback") : conn.reset
      conn.exec("insert into lost values (3)")
      say conn.exec("select n from lost").values
    end
  end
end

failed = 0
CHECKS.each do |name, block|
  puts "#{name} ..."
  Timeout.timeout(PATIENCE) { block.call }
rescue StandardError => e
  failed += 1
  puts "#{name} FAILED"
  warn e.full_message(highlight: false)
end
exit(failed.zero?)
