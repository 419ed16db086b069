/// The words that decide what a statement does to its session. All others are `Other`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    Other,
    // First words.
    Abort,
    Begin,
    Close,
    Commit,
    Copying,
    Create,
    Deallocate,
    Declare,
    Discard,
    Do,
    End,
    Execute,
    Explain,
    Listen,
    Load,
    Prepare,
    Release,
    Reset,
    Rollback,
    Savepoint,
    Select,
    Set,
    Show,
    Start,
    Unlisten,
    // Words that matter by what stands before them.
    As,
    Drop,
    From,
    Global,
    Hold,
    Insert,
    Into,
    Local,
    Merge,
    On,
    Replace,
    Stdin,
    Temp,
    To,
    With,
    // Names.
    SetConfig,
    Setseed,
    AdvisoryLock,
    TryAdvisoryLock,
    AdvisoryUnlock,
    PgTemp,
    PgSettings,
    PreparedStatements,
    Bound,
}

/// For each first letter, the lengths (as bits) that some word of [`known`] has. Most identifiers end here.
const LENGTHS: [u64; 26] = lengths();

const fn lengths() -> [u64; 26] {
    let mut table = [0u64; 26];
    let mut at = 0;
    while at < WORDS.len() {
        let (word, _) = WORDS[at];
        table[(word[0] - b'a') as usize] |= 1 << word.len();
        at += 1;
    }
    table
}

/// Which word this is, in any case. Names with an unbounded family (`pg_temp_3`) are told by their beginning.
#[inline]
pub(crate) fn word(text: &[u8]) -> Word {
    let Some(&first) = text.first() else {
        return Word::Other;
    };
    let letter = (first | 0x20).wrapping_sub(b'a');
    let Some(lengths) = LENGTHS.get(usize::from(letter)) else {
        return Word::Other;
    };
    if text.len() < 64 && lengths >> text.len() & 1 == 1 {
        return known(text, first | 0x20);
    }
    temporary_schema(text)
}

/// `pg_temp` and `pg_temp_3`, but not `pg_template`.
fn temporary_schema(text: &[u8]) -> Word {
    match text.split_at_checked(7) {
        Some((head, [] | [b'_', ..])) if head.eq_ignore_ascii_case(b"pg_temp") => Word::PgTemp,
        _ => Word::Other,
    }
}

#[inline]
fn known(text: &[u8], first: u8) -> Word {
    for (name, word) in &WORDS[FIRST[usize::from(first - b'a')]..] {
        if name[0] != first {
            break;
        }
        if name.len() == text.len() && text.eq_ignore_ascii_case(name) {
            return *word;
        }
    }
    temporary_schema(text)
}

/// Where the words of each letter begin in [`WORDS`].
const FIRST: [usize; 26] = firsts();

const fn firsts() -> [usize; 26] {
    let mut table = [WORDS.len(); 26];
    let mut at = WORDS.len();
    while at > 0 {
        at -= 1;
        table[(WORDS[at].0[0] - b'a') as usize] = at;
    }
    table
}

/// Grouped by first letter, frequent ones first.
const WORDS: [(&[u8], Word); 70] = [
    (b"as", Word::As),
    (b"abort", Word::Abort),
    (b"begin", Word::Begin),
    (b"commit", Word::Commit),
    (b"create", Word::Create),
    (b"close", Word::Close),
    (b"copy", Word::Copying),
    (b"do", Word::Do),
    (b"drop", Word::Drop),
    (b"declare", Word::Declare),
    (b"deallocate", Word::Deallocate),
    (b"discard", Word::Discard),
    (b"dblink_connect", Word::Bound),
    (b"dblink_connect_u", Word::Bound),
    (b"end", Word::End),
    (b"execute", Word::Execute),
    (b"explain", Word::Explain),
    (b"from", Word::From),
    (b"global", Word::Global),
    (b"hold", Word::Hold),
    (b"into", Word::Into),
    (b"insert", Word::Insert),
    (b"local", Word::Local),
    (b"load", Word::Load),
    (b"listen", Word::Listen),
    (b"merge", Word::Merge),
    (b"on", Word::On),
    (b"prepare", Word::Prepare),
    (b"pg_advisory_lock", Word::AdvisoryLock),
    (b"pg_advisory_lock_shared", Word::AdvisoryLock),
    (b"pg_try_advisory_lock", Word::TryAdvisoryLock),
    (b"pg_try_advisory_lock_shared", Word::TryAdvisoryLock),
    (b"pg_advisory_unlock", Word::AdvisoryUnlock),
    (b"pg_advisory_unlock_shared", Word::AdvisoryUnlock),
    (b"pg_advisory_unlock_all", Word::AdvisoryUnlock),
    (b"pg_settings", Word::PgSettings),
    (b"pg_prepared_statement", Word::PreparedStatements),
    (b"pg_prepared_statements", Word::PreparedStatements),
    (b"pg_start_backup", Word::Bound),
    (b"pg_backup_start", Word::Bound),
    (b"pg_replication_origin_session_setup", Word::Bound),
    (b"pg_create_logical_replication_slot", Word::Bound),
    (b"pg_create_physical_replication_slot", Word::Bound),
    (b"pg_copy_logical_replication_slot", Word::Bound),
    (b"pg_copy_physical_replication_slot", Word::Bound),
    (b"query_to_xml", Word::Bound),
    (b"query_to_xmlschema", Word::Bound),
    (b"query_to_xml_and_xmlschema", Word::Bound),
    (b"rollback", Word::Rollback),
    (b"reset", Word::Reset),
    (b"release", Word::Release),
    (b"replace", Word::Replace),
    (b"select", Word::Select),
    (b"set", Word::Set),
    (b"show", Word::Show),
    (b"start", Word::Start),
    (b"stdin", Word::Stdin),
    (b"stdout", Word::Stdin),
    (b"savepoint", Word::Savepoint),
    (b"set_config", Word::SetConfig),
    (b"setseed", Word::Setseed),
    (b"set_limit", Word::SetConfig),
    (b"to", Word::To),
    (b"temp", Word::Temp),
    (b"temporary", Word::Temp),
    (b"ts_stat", Word::Bound),
    (b"ts_rewrite", Word::Bound),
    (b"unlisten", Word::Unlisten),
    (b"with", Word::With),
    (b"xpath_table", Word::Bound),
];
