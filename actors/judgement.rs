//! What a statement's text means for the session that runs it.

use pgherd_session::{Judged, Reach};
use pgherd_sql::{
    Action, Alters, Change, Deed, Effects, FOLLOWED, LexOptions, Lexer, Mentions, Pin, PinSet,
    Reading, Runs, SequenceEffect, Step, Token, TransactionEffect, effects, is_followed, mentions,
    names_moment, script,
};

use pgherd_sql::parse::Channel;

use crate::upstream::Welcome;

/// The part of a statement's effects that a session acts on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Judgement {
    /// Reasons to keep the session on the server that ran it.
    pub pins: PinSet,
    /// Reasons that are over once it has succeeded, if nothing rolls it back.
    pub unpins: PinSet,
    /// Reasons that are perhaps over then.
    pub frees: PinSet,
    /// What it has done may be committed though it fails: it ends a transaction, or calls code that may.
    pub lasts: bool,
    /// How many of its statements stand in front of the one that commits, if that is known to be its last.
    pub commits_behind: Option<u32>,
    /// It may end a transaction by committing it.
    pub commits: bool,
    /// It may open a transaction block.
    pub begins: bool,
    /// It does nothing to the transaction.
    pub plain: bool,
    /// Which code it may run that does not stand in it.
    pub runs: Runs,
    /// What it has to do with the session's memory of sequences.
    pub sequence: SequenceEffect,
    /// It changes what the database consists of.
    pub alters: bool,
    /// How it may do so without saying it.
    pub may_alter: Alters,
    /// It makes something temporary, which names may stand for from then on.
    pub temporary: bool,
    /// It prepares a transaction.
    pub prepares: bool,
    /// It has its session forget what that remembers of sequences.
    pub forgets: bool,
    /// It is a query that may run twice as well as once, unless the database brings more with it than its
    /// text tells.
    pub steady: bool,
    /// It has written nothing, whatever becomes of its answer, with the same reserve.
    pub only_reads: bool,
    /// It does something to settings or savepoints that can be followed, statement by statement.
    pub follows: bool,
    /// It may have settings of the users' own set that are not followed.
    pub hides: bool,
    /// It is one SET or RESET, which does nothing if it fails.
    pub sets: bool,
    /// It may get a server out of a failed transaction block.
    pub leaves: bool,
    /// How the text was read, if the judgement hangs on nothing else.
    pub as_read: Option<LexOptions>,
    /// How the text was read.
    pub lexing: LexOptions,
    /// What it does to what the session listens to.
    pub listens: Listens,
    /// It has names of prepared statements in it: those of the client, which servers do not know.
    pub names: bool,
    /// It asks which prepared statements its session has.
    pub inspects: bool,
    /// It is one statement.
    pub single: bool,
    /// It is one `COMMIT` that begins no other transaction.
    pub ends: bool,
    /// It may change how later texts are to be read: where strings end, and which bytes are letters.
    pub relexes: bool,
    /// It is one statement that reads or changes rows: it takes a snapshot, and ends no transaction by itself.
    pub rows: bool,
}

/// What a text does to what its session listens to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Listens {
    /// Nothing.
    #[default]
    Nothing,
    /// It is one LISTEN, and nothing else.
    Listen,
    /// It is one UNLISTEN, and nothing else.
    Unlisten,
    /// It has one among other statements, or one that cannot be read.
    Opaque,
}

impl Judged for Judgement {
    fn listens(&self) -> bool {
        self.listens != Listens::Nothing
    }
}

impl Judgement {
    /// It ends all prepared statements: `DISCARD ALL`, `DEALLOCATE ALL`.
    pub fn clears(&self) -> bool {
        self.unpins.contains(Pin::Prepare)
    }

    /// It takes all parameters back to those of the connection by `RESET ALL`, and is not followed.
    pub fn resets(&self) -> bool {
        self.unpins.contains(Pin::Set) && self.unpins != PinSet::DISCARD_ALL && !self.follows
    }
}

/// Judges a text as a session with these lexical settings means it; `is_reported` is asked only if
/// the answer matters.
///
/// A single SET or RESET of a parameter that the server reports binds nobody: the report is what
/// the next server is brought to. Nor does what can be followed statement by statement.
pub fn judge(
    text: &[u8],
    options: LexOptions,
    is_reported: impl FnOnce(&Effects<'_>) -> bool,
) -> Judgement {
    let effects = effects(text, options);
    let mut pins = effects.pins;
    let as_read = pins.is_empty().then_some(options);
    if as_read.is_none() && is_reported(&effects) {
        pins.remove(Pin::Set);
    }
    let named = (effects.executes || pins.contains(Pin::Prepare)).then(|| mentions(text, options));
    let named = named.and_then(Result::ok);
    let are_clear = named.as_ref().is_some_and(Mentions::are_clear);
    let named = named.unwrap_or_default();
    if prepares_only(&named) {
        // The query does nothing yet, and its server has forgotten it once the connection is lost.
        return Judgement {
            lexing: options,
            names: true,
            plain: true,
            single: true,
            steady: true,
            only_reads: true,
            ..Judgement::default()
        };
    }
    if are_clear {
        pins.remove(Pin::Prepare);
    }
    let (mut follows, mut hides, mut names_unseen) = (false, false, false);
    if is_followed(&effects) {
        match script(text, options) {
            Reading::Nothing => {}
            Reading::Script(parts) => {
                follows = true;
                hides = parts.iter().any(|part| is_untold(&part.step));
                names_unseen = parts.iter().any(|part| is_named_elsewhere(&part.step));
                pins = pins.without(FOLLOWED);
            }
            // A savepoint, then: what a ROLLBACK TO it takes back would not be known.
            Reading::Unclear if effects.sets.is_none() && pins.without(FOLLOWED) == pins => {
                pins.insert(Pin::Set);
            }
            Reading::Unclear => {}
        }
    }
    hides |= pins.contains(Pin::Set) || pins.contains(Pin::SetConfig);
    // What a call names may come from a column as well.
    names_unseen |= pins.contains(Pin::SetConfig);
    let listens = listens(&effects, text);
    if listens == Listens::Listen {
        // Whether it binds is known when it runs.
        pins.remove(Pin::Listen);
    }
    Judgement {
        listens,
        relexes: names_unseen || relexes(&effects, text),
        names: !named.found.is_empty(),
        inspects: effects.inspects,
        single: effects.statements == 1,
        ends: effects.statements == 1 && effects.transaction == TransactionEffect::Commit,
        rows: effects.statements == 1 && is_analysed(text, options),
        pins,
        unpins: effects.unpins,
        frees: effects.frees,
        lasts: effects.procedural || effects.transaction != TransactionEffect::None,
        commits_behind: effects
            .commits_behind
            .filter(|behind| behind.saturating_add(1) == effects.statements),
        runs: effects.runs,
        sequence: effects.sequence,
        alters: effects.alters,
        may_alter: effects.may_alter,
        temporary: effects.temporary || effects.pins.contains(Pin::TempTable),
        prepares: effects.prepares,
        forgets: effects.forgets,
        steady: effects.steady,
        only_reads: effects.only_reads,
        as_read,
        lexing: options,
        begins: matches!(
            effects.transaction,
            TransactionEffect::Begin
                | TransactionEffect::CommitChain
                | TransactionEffect::RollbackChain
                | TransactionEffect::Mixed
        ),
        plain: effects.transaction == TransactionEffect::None,
        follows,
        hides,
        sets: effects
            .sets
            .is_some_and(|setting| setting.action != Action::Show),
        leaves: !matches!(
            effects.transaction,
            TransactionEffect::None
                | TransactionEffect::Begin
                | TransactionEffect::Savepoint
                | TransactionEffect::Release
                | TransactionEffect::RollbackTo
        ),
        commits: matches!(
            effects.transaction,
            TransactionEffect::Commit
                | TransactionEffect::CommitChain
                | TransactionEffect::Prepare
                | TransactionEffect::Mixed
        ),
    }
}

/// Whether a statement sets something for the transaction of which the text does not tell what, in no way.
fn is_untold(step: &Step) -> bool {
    let untold = |change: &Change| change.name.is_empty() && change.named_by.is_none();
    matches!(step, Step::Change(changes) if changes.iter().any(untold))
}

/// Whether a statement sets something of which the text alone does not tell what.
fn is_named_elsewhere(step: &Step) -> bool {
    let elsewhere = |change: &Change| change.named_by.is_some() || change.name.is_empty();
    matches!(step, Step::Change(changes) if changes.iter().any(elsewhere))
}

/// Whether a text is one PREPARE with a name that can be told.
fn prepares_only(named: &Mentions<'_>) -> bool {
    let prepares = |mention: &pgherd_sql::Mention<'_>| matches!(mention.deed, Deed::Prepare { query } if query > 0);
    named.are_clear() && named.only().is_some_and(prepares)
}

/// Whether a text may set what texts are read by, or has it in it and is not understood.
fn relexes(effects: &Effects<'_>, text: &[u8]) -> bool {
    const WORDS: [&[u8]; 4] = [
        b"standard_conforming_strings",
        b"client_encoding",
        b"names",
        b"all",
    ];
    let sets = effects.sets.is_some()
        || effects.pins != PinSet::EMPTY
        || effects.unpins != PinSet::EMPTY
        || is_followed(effects);
    let has = |word: &&[u8]| {
        text.windows(word.len())
            .any(|window| window.eq_ignore_ascii_case(word))
    };
    // A name may be written by numbers, or made up.
    let is_plain = |text: &[u8]| !text.iter().any(|byte| matches!(byte, b'&' | b'\\' | b'|'));
    sets && (!is_plain(text) || WORDS.iter().any(has))
}

fn listens(effects: &Effects<'_>, text: &[u8]) -> Listens {
    if !effects.listens {
        return Listens::Nothing;
    }
    // A text of several is none of these, and long to parse.
    let one = (effects.statements == 1).then(|| pgherd_sql::parse::channel(text));
    match one.flatten() {
        Some(Channel::Listen(_)) => Listens::Listen,
        Some(Channel::Unlisten(_) | Channel::UnlistenAll) => Listens::Unlisten,
        None => Listens::Opaque,
    }
}

/// Whether a text sets one parameter that the server reports, and does nothing else.
pub fn is_reported(effects: &Effects<'_>, welcome: Option<&Welcome>) -> bool {
    let (Some(setting), Some(welcome)) = (&effects.sets, welcome) else {
        return false;
    };
    matches!(setting.action, Action::Set | Action::Reset)
        && welcome
            .parameters
            .iter()
            .any(|(name, _)| name.as_bytes().eq_ignore_ascii_case(setting.name))
}

/// Who may use the prepared statement of this text. What FETCH, EXECUTE, SHOW, EXPLAIN or CALL
/// answers with depends on the session that prepared it, so only what surely may is shared.
pub fn reach(text: &[u8], options: LexOptions) -> Reach {
    const UTILITIES: [&[u8]; 10] = [
        b"begin",
        b"start",
        b"commit",
        b"end",
        b"rollback",
        b"abort",
        b"savepoint",
        b"release",
        b"set",
        b"reset",
    ];
    let Ok(Some(first)) = Lexer::new(text, options).token() else {
        return Reach::Own;
    };
    let is_one_of = |words: &[&[u8]]| words.iter().any(|word| first.is_word(word));
    if is_first_of_analysed(&first) {
        if names_moment(text, options) {
            Reach::Bound
        } else {
            Reach::Shared
        }
    } else if is_one_of(&UTILITIES) {
        Reach::Shared
    } else {
        Reach::Own
    }
}

/// Whether what a text means is settled when it is prepared, constants included: Postgres looks into
/// other statements only when they run.
pub fn is_analysed(text: &[u8], options: LexOptions) -> bool {
    let first = Lexer::new(text, options).token();
    matches!(first, Ok(Some(first)) if is_first_of_analysed(&first))
}

fn is_first_of_analysed(first: &Token<'_>) -> bool {
    const ANALYSED: [&[u8]; 8] = [
        b"select", b"insert", b"update", b"delete", b"with", b"values", b"table", b"merge",
    ];
    first.is(b'(') || ANALYSED.iter().any(|word| first.is_word(word))
}

#[cfg(test)]
mod tests {
    use pgherd_sql::{LexOptions, Pin};

    use super::{Reach, is_reported, judge, reach};
    use crate::upstream::Welcome;

    #[test]
    fn only_reported_parameters_travel_without_a_pin() {
        let welcome = Welcome {
            parameters: vec![("TimeZone".into(), "UTC".into())],
            ..Welcome::default()
        };
        let pins = |sql: &str| {
            judge(sql.as_bytes(), LexOptions::default(), |effects| {
                is_reported(effects, Some(&welcome))
            })
            .pins
        };
        assert!(pins("SET timezone = 'UTC'").is_empty());
        assert!(pins("SET TIME ZONE 'UTC'").is_empty());
        assert!(pins("SET TIME ZONE INTERVAL '1' HOUR").is_empty());
        assert!(pins("SET search_path = $$a$$").contains(Pin::Set));
        assert!(pins("SET timezone = 'a\\b'; SET timezone = 'GMT'").contains(Pin::Set));
        let unknown = judge(b"SET timezone = $$a$$", LexOptions::default(), |_| false);
        assert!(unknown.pins.contains(Pin::Set));
    }

    #[test]
    fn what_is_named_elsewhere_may_be_how_texts_are_read() {
        let relexes = |sql: &str| judge(sql.as_bytes(), LexOptions::default(), |_| false).relexes;
        for text in [
            "select set_config($1, $2, false)",
            "select set_config('app.a', '1', true), set_config($1, $2, $3)",
            "select set_config(a, b, true) from t",
            "select set_config(a, b, false) from t",
            "set standard_conforming_strings = off",
        ] {
            assert!(relexes(text), "{text}");
        }
        for text in [
            "select set_config('work_mem', $1, false)",
            "set work_mem = '5MB'",
            "select $1",
        ] {
            assert!(!relexes(text), "{text}");
        }
    }

    #[test]
    fn what_can_be_followed_binds_nobody() {
        let judge = |sql: &str| judge(sql.as_bytes(), LexOptions::default(), |_| false);
        for text in [
            "SET search_path = a",
            "SET ROLE joe",
            "select set_config('a.b', 'c', false)",
            "begin; savepoint s; set x = 1; rollback to s; commit",
            "SAVEPOINT s",
            "RESET ALL",
        ] {
            let judgement = judge(text);
            assert!(judgement.follows && judgement.pins.is_empty(), "{text}");
            assert!(!judgement.resets(), "{text}");
        }
        for (text, pin) in [
            ("savepoint U&\"s\"", Pin::Set),
            (
                "set x = 1; select set_config('a', b, false) from t",
                Pin::SetConfig,
            ),
            ("set role joe; set x = e'a'", Pin::Role),
        ] {
            let judgement = judge(text);
            assert!(!judgement.follows && judgement.pins.contains(pin), "{text}");
        }
        let plain = judge("begin; insert into t values ('\u{e9}'); commit");
        assert!(!plain.follows && plain.pins.is_empty() && plain.leaves);
    }

    #[test]
    fn statements_of_sql_bind_nobody_whose_names_can_be_told() {
        let judge = |sql: &str| judge(sql.as_bytes(), LexOptions::default(), |_| false);
        for text in [
            "prepare s as select set_config('a', 'b', false), pg_advisory_lock(1)",
            "deallocate s",
            "begin; prepare s (int) as select $1; execute s(1); deallocate prepare s; commit",
            "execute s",
            "explain execute s",
        ] {
            let judgement = judge(text);
            assert!(judgement.names && judgement.pins.is_empty(), "{text}");
        }
        for text in [
            "prepare u&\"\\00e9\" as select 1",
            "do $$ begin prepare s as select 1; end $$",
            "do $$ begin prepare s as select 1; end $$; deallocate s",
        ] {
            assert!(judge(text).pins.contains(Pin::Prepare), "{text}");
        }
        assert!(!judge("create trigger t after insert on u execute function f()").names);
    }

    #[test]
    fn what_hangs_on_a_session_is_not_shared() {
        for (text, expected) in [
            ("select 1", Reach::Shared),
            (" /* x */ INSERT INTO t VALUES ($1)", Reach::Shared),
            ("(select 1)", Reach::Shared),
            ("(select 'today'::date)", Reach::Bound),
            ("set timezone = 'now'", Reach::Shared),
            ("fetch c", Reach::Own),
            ("EXPLAIN select 'now'::date", Reach::Own),
            ("show all", Reach::Own),
            ("", Reach::Own),
        ] {
            let options = LexOptions::default();
            assert_eq!(reach(text.as_bytes(), options), expected, "{text}");
        }
    }
}
