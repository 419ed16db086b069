# What applications on Rails do with its ActiveRecord. Usage: active_record.rb DATABASE_URL
# frozen_string_literal: true

require "logger"
require "timeout"
require "uri"
require "active_record"

uri = URI(ARGV.fetch(0))
# More clients than the proxy has servers.
CLIENTS = 6
PLACE = {
  adapter: "postgresql", host: uri.host, port: uri.port, database: uri.path[1..],
  username: uri.user, password: uri.password, pool: CLIENTS
}.freeze
# A check that takes longer hangs.
PATIENCE = 60

def say(*seen)
  puts "    #{seen.map(&:inspect).join(' ')}"
end

# Takes other settings than the rest, for a block.
def established(**more)
  ActiveRecord::Base.establish_connection(**PLACE, **more)
  yield ActiveRecord::Base.connection
ensure
  ActiveRecord::Base.establish_connection(**PLACE)
end

def together
  threads = Array.new(CLIENTS) do |me|
    Thread.new { ActiveRecord::Base.connection_pool.with_connection { yield me } }
  end
  threads.map(&:value)
end

# Gives the kind of a block's error, which must have one.
def refused
  yield
rescue ActiveRecord::ActiveRecordError => e
  e.class
else
  raise "no error"
end

def connection
  ActiveRecord::Base.connection
end

class Herd < ActiveRecord::Base
  has_many :animals, -> { order(:id) }, inverse_of: :herd
end

class Animal < ActiveRecord::Base
  belongs_to :herd, optional: true
end

class MakeTables < ActiveRecord::Migration[6.1]
  def change
    enable_extension "hstore"
    create_table(:herds) do |t|
      t.string :name, null: false, index: { unique: true }
      t.integer :animals_count, default: 0
      t.integer :lock_version, default: 0
      t.jsonb :about, default: {}
      t.string :marks, array: true
      t.hstore :more
      t.timestamps
    end
    create_table(:animals, id: :uuid, default: "gen_random_uuid()") do |t|
      t.references :herd, foreign_key: true
      t.integer :number
      t.decimal :weight, precision: 6, scale: 2
      t.daterange :seen
    end
  end
end

class IndexTables < ActiveRecord::Migration[6.1]
  disable_ddl_transaction!

  def change
    add_index :animals, :number, algorithm: :concurrently
  end
end

def migrate(direction)
  migrations = [MakeTables, IndexTables].each.with_index(1).map { |kind, version| kind.new(kind.name, version) }
  ActiveRecord::Migrator.new(direction, migrations, ActiveRecord::SchemaMigration).migrate
end

CHECKS = {}

def check(name, &block)
  CHECKS[name] = block
end

check "migrations, one at a time" do
  migrate(:up)
  migrate(:down)
  migrate(:up)
  say connection.tables.sort, connection.indexes("animals").map(&:name), connection.foreign_keys("animals").length
  say ActiveRecord::SchemaMigration.all_versions
  schema = StringIO.new
  ActiveRecord::SchemaDumper.dump(connection, schema)
  say schema.string.lines.grep(/t\.|create_table|enable/).map(&:strip)
  # Whoever else migrates holds this lock, as a session.
  say connection.get_advisory_lock(77), connection.get_advisory_lock(77)
  held = Thread.new { ActiveRecord::Base.connection_pool.with_connection { |other| other.get_advisory_lock(77) } }
  say held.value, connection.release_advisory_lock(77), connection.release_advisory_lock(77)
  say connection.release_advisory_lock(77)
end

check "values go both ways" do
  herd = Herd.create!(name: "ü'\\", about: { "a" => [1, nil] }, marks: ["a", 'b"', "c,d"], more: { "k" => "v" })
  herd.animals.create!(number: 7, weight: "12.50", seen: Date.new(2024, 2, 28)..Date.new(2024, 2, 29))
  seen = Herd.find(herd.id)
  say seen.name, seen.about, seen.marks, seen.more, seen.created_at.utc_offset
  animal = seen.animals.first
  say animal.number, animal.weight, animal.seen, animal.id.length, animal.herd == herd
  say Herd.where("about @> ?", { a: [1] }.to_json).pluck(:name), Herd.where(name: ["x", "ü'\\"]).count
  say Animal.joins(:herd).group("herds.name").sum(:weight), Herd.includes(:animals).map { |one| one.animals.length }
  say Herd.find_by(name: "none"), refused { Herd.find(0) }, Herd.where(name: "none").exists?
  say Herd.where(id: herd.id).explain.lines.first
  herd.animals.destroy_all
  herd.destroy!
end

check "many clients with the same statements, and others" do
  say(together do |me|
    herd = Herd.create!(name: "herd #{me}")
    20.times do |turn|
      Herd.transaction do
        Herd.where(id: herd.id).update_all("animals_count = animals_count + 1")
        count = Herd.select("animals_count + #{me} as seen").find_by!(id: herd.id).seen
        raise "#{count} in turn #{turn}" unless count == turn + 1 + me
      end
    end
    herd.reload.animals_count
  end)
  say Herd.order(:name).pluck(:name, :animals_count)
end

check "rows in many, in batches" do
  rows = Array.new(250) { |number| { number: number, weight: number } }
  say Animal.insert_all(rows).length, refused { Herd.insert_all!([{ name: "herd 1", created_at: Time.now, updated_at: Time.now }]) }
  say Animal.find_each(batch_size: 40).sum(&:number), Animal.in_batches(of: 60).map(&:count)
  moment = Time.utc(2024)
  again = [{ name: "herd 1", animals_count: 99, created_at: moment, updated_at: moment }]
  Herd.upsert_all(again, unique_by: :name)
  say Herd.find_by(name: "herd 1").animals_count, Animal.where("number > 5").delete_all
  Animal.delete_all
end

check "transactions nest, fail and are told apart" do
  Herd.transaction do
    Herd.create!(name: "kept")
    say refused { Herd.transaction(requires_new: true) { Herd.create!(name: "kept") } }
    Herd.transaction(requires_new: true) do
      Herd.create!(name: "undone")
      raise ActiveRecord::Rollback
    end
  end
  say Herd.where(name: %w[kept undone]).pluck(:name)
  say refused { Animal.create!(herd_id: 0) }, refused { Herd.create!(name: nil) }
  say refused { Animal.create!(weight: 10**9) }, refused { connection.execute("select nothing") }
  kept = Herd.find_by!(name: "kept")
  stale = Herd.find(kept.id)
  kept.update!(animals_count: 1)
  say refused { stale.update!(animals_count: 2) }
  Herd.transaction(isolation: :serializable) { say connection.select_value("show transaction_isolation") }
  kept.with_lock do
    other = Thread.new do
      ActiveRecord::Base.connection_pool.with_connection do
        refused { Herd.transaction { Herd.lock("for update nowait").find(kept.id) } }
      end
    end
    say other.value
  end
end

check "two who wait for each other" do
  one = Herd.find_by!(name: "herd 0")
  two = Herd.find_by!(name: "herd 1")
  both = Queue.new
  ends = [[one, two], [two, one]].map do |first, second|
    Thread.new do
      ActiveRecord::Base.connection_pool.with_connection do
        Herd.transaction do
          first.class.lock.find(first.id)
          both << true
          Thread.pass until both.length == 2
          second.class.lock.find(second.id)
        end
        :done
      rescue ActiveRecord::Deadlocked => e
        e.class
      end
    end
  end
  say ends.map(&:value).map(&:to_s).sort
end

check "a table that changes behind prepared statements" do
  ask = -> { Herd.where(name: "kept").first.attributes.keys.length }
  say Array.new(3) { ask.call }
  Thread.new { ActiveRecord::Base.connection_pool.with_connection { |other| other.add_column(:herds, :late, :integer) } }.join
  say ask.call
  Herd.reset_column_information
  say ask.call, Herd.where(name: "kept").first.late
  connection.remove_column(:herds, :late)
  Herd.reset_column_information
end

check "few statements are kept" do
  established(statement_limit: 3) do |conn|
    say(Array.new(8) { |n| conn.exec_query("select #{n} + $1::int as n", "SQL", [ActiveRecord::Relation::QueryAttribute.new("n", 1, ActiveModel::Type::Integer.new)], prepare: true).rows })
    conn.clear_cache!
    say conn.select_rows("select count(*) from pg_prepared_statements")
  end
  established(prepared_statements: false) { say Herd.where(name: "kept").count }
end

check "settings of connections" do
  established(variables: { statement_timeout: "3s", lock_timeout: :default, work_mem: "3MB" }, schema_search_path: "public, elsewhere", min_messages: "error") do |conn|
    say %w[statement_timeout work_mem search_path client_min_messages timezone standard_conforming_strings intervalstyle].map { |name| conn.select_value("show #{name}") }
    say refused { conn.execute("select pg_sleep(20)") }
    conn.reset!
    say conn.select_value("show statement_timeout"), conn.select_value("show work_mem"), conn.active?
    conn.disable_referential_integrity { conn.execute("insert into animals (herd_id) values (0)") }
    say Animal.where(herd_id: 0).delete_all
  end
end

check "notifications, as Action Cable has them" do
  heard = Queue.new
  ready = Queue.new
  ear = Thread.new do
    ActiveRecord::Base.connection_pool.with_connection do |conn|
      raw = conn.raw_connection
      raw.exec("LISTEN #{raw.escape_identifier('cable')}")
      ready << true
      2.times { raw.wait_for_notify(10) { |channel, _, message| heard << [channel, message] } }
      raw.exec("UNLISTEN *")
    end
  end
  ready.pop
  connection.execute("NOTIFY cable, 'first'")
  Herd.transaction { connection.execute("NOTIFY cable, 'second'") }
  ear.join
  say heard.pop, heard.pop
end

check "work goes on after the server was lost" do
  Herd.transaction do
    pid = connection.select_value("select pg_backend_pid()")
    Thread.new { ActiveRecord::Base.connection_pool.with_connection { |other| say other.select_value("select pg_terminate_backend(#{pid}, 5000)") } }.join
    Herd.create!(name: "lost")
  end
rescue ActiveRecord::ActiveRecordError
  connection.reconnect! unless connection.active?
  say Herd.where(name: "lost").count
end

ActiveRecord::Base.establish_connection(**PLACE)
ActiveRecord::Migration.verbose = false
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
