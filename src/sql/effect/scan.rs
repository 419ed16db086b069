use super::calls::{Call, Calls};
use super::runs::Family;
use super::setting::change;
use super::{
    Alters, CopyEffect, Effects, Pin, PinSet, Runs, SequenceEffect, TransactionEffect, opaque,
};
use crate::identifier::identifier;
use crate::lexer::{Depth, LexError, LexOptions, Lexer, Names, Token, TokenKind};
use crate::script::only_configures;
use crate::word::{Word, word};

/// How far a look ahead into the arguments of `set_config` goes, so that nested calls stay linear.
const LOOK_AHEAD: usize = 64;

/// Whether a function touches no session, by its name.
type Known<'k> = dyn Fn(&[u8]) -> bool + 'k;

/// One pass over a text.
pub(super) struct Scan<'a, 'k> {
    text: &'a [u8],
    lexer: Lexer<'a>,
    names: Names,
    effects: Effects<'a>,
    /// Functions beyond those of Postgres that touch no session.
    known: Option<&'k Known<'k>>,
    /// A `BEGIN ATOMIC` body was seen. Where it ends is a guess, so anything behind it pins.
    atomic: bool,
    /// A volatile function of Postgres' own is called.
    volatile: bool,
    /// What is copied may write: one of the words for that stands in it, or it takes numbers of a sequence.
    copies_writes: bool,
    /// The last statement shows what was there before it: rows of a cursor, or a setting.
    shows: bool,
}

/// Whether what was read last is called: arguments stand behind it.
fn is_called(behind: &Lexer<'_>) -> bool {
    matches!(behind.peek_token(), Ok(Some(next)) if next.is(b'('))
}

/// How a statement may change what the database consists of that is no definition: some wake event triggers.
fn other(first: &Token<'_>) -> Alters {
    const WAKE: [&[u8]; 5] = [b"grant", b"revoke", b"reassign", b"refresh", b"security"];
    if first.is_word(b"call") {
        Alters::Called
    } else if WAKE.iter().any(|word| first.is_word(word)) {
        Alters::Code
    } else {
        Alters::No
    }
}

/// What is remembered inside of a statement.
struct Statement<'a> {
    first: Word,
    family: Family,
    calls: Calls<'a>,
    depth: Depth,
    /// The word before, and the one before that; `Other` for what is no word.
    before: [Word; 2],
    temporary: bool,
    on_commit_drop: bool,
    copies: bool,
    language: bool,
    /// The code of a `DO` was seen.
    code: bool,
    /// It is a `CALL`.
    procedure: bool,
    /// All that it calls is `set_config`, in ways that are followed.
    configures: bool,
}

impl Statement<'_> {
    /// Whether the parenthesis in front opens the query of a `COPY (query)`, and no function's arguments.
    fn opens_query(&self) -> bool {
        self.first == Word::Copying
            && self.depth.parens == 1
            && self.before == [Word::Copying, Word::Other]
    }
}

impl<'a, 'k> Scan<'a, 'k> {
    pub(super) fn new(text: &'a [u8], options: LexOptions, known: Option<&'k Known<'k>>) -> Self {
        Self {
            text,
            lexer: Lexer::new(text, options),
            names: options.names,
            effects: Effects::default(),
            known,
            atomic: false,
            volatile: false,
            copies_writes: false,
            shows: false,
        }
    }

    pub(super) fn run(mut self) -> Effects<'a> {
        if self.all().is_err() {
            self.pin(Pin::Unknown);
            self.effects.transaction = TransactionEffect::Mixed;
            self.effects.commits_behind = None;
            self.effects.procedural = true;
            self.effects.copy = CopyEffect::Unknown;
            self.effects.sets = None;
            self.effects.unpins = PinSet::EMPTY;
            self.effects.runs = Runs::Unknown;
            self.effects.may_alter = Alters::Code;
        }
        if self.effects.statements != 1 {
            self.effects.sets = None;
        }
        self.effects.steady = self.is_steady();
        self.effects.only_reads = self.effects.steady || self.only_reads();
        self.effects
    }

    /// One statement that runs no more than what reading does is a query: what is about the session runs
    /// nothing, and all others more.
    fn is_steady(&self) -> bool {
        let effects = &self.effects;
        effects.statements == 1
            && effects.runs == Runs::Reads
            && effects.sequence == SequenceEffect::None
            && effects.copy == CopyEffect::None
            && self.is_quiet()
    }

    /// One COPY to the client whose query does not write, or one statement that shows what was there before it.
    fn only_reads(&self) -> bool {
        let reads = match (self.effects.copy, self.effects.runs) {
            // A COPY counts as one that writes until its direction is known.
            (CopyEffect::Out, Runs::Writes) => !self.copies_writes,
            (CopyEffect::None, Runs::Nothing) => self.shows,
            _ => false,
        };
        reads && self.effects.statements == 1 && self.is_quiet()
    }

    /// It leaves nothing in its session, and calls no volatile function of Postgres' own.
    fn is_quiet(&self) -> bool {
        let effects = &self.effects;
        effects.pins.is_empty()
            && effects.unpins.is_empty()
            && !effects.configures
            && !self.volatile
    }

    fn all(&mut self) -> Result<(), LexError> {
        while let Some(token) = self.lexer.token()? {
            if !token.is(b';') {
                self.statement(token)?;
            }
        }
        Ok(())
    }

    fn pin(&mut self, pin: Pin) {
        self.effects.pins.insert(pin);
    }

    fn statement(&mut self, first: Token<'a>) -> Result<(), LexError> {
        self.effects.statements = self.effects.statements.saturating_add(1);
        if self.atomic {
            self.pin(Pin::Unknown);
        }
        let head = match first.kind {
            TokenKind::Word => word(first.text),
            _ => Word::Other,
        };
        self.head(head)?;
        self.shows = [&b"fetch"[..], b"move", b"show"]
            .iter()
            .any(|word| first.is_word(word));
        let family = Family::of(&first);
        self.runs(family.runs());
        let how = match family {
            Family::Other => other(&first),
            _ => Alters::No,
        };
        self.may_alter(how);
        self.effects.procedural |= how == Alters::Called || head == Word::Do;
        if family == (Family::Write { new: true }) {
            self.sequence(SequenceEffect::Uses);
        }
        let mut state = Statement {
            first: head,
            family,
            calls: Calls::default(),
            depth: Depth::default(),
            before: [Word::Other; 2],
            temporary: false,
            on_commit_drop: false,
            copies: false,
            language: false,
            code: false,
            procedure: how == Alters::Called,
            configures: head == Word::Select && only_configures(self.text, &first, self.lexer),
        };
        let mut token = first;
        loop {
            if state.depth.step(&token) {
                break;
            }
            self.visit(&mut state, &token);
            let Some(next) = self.lexer.token()? else {
                break;
            };
            token = next;
        }
        self.close(&state);
        Ok(())
    }

    fn runs(&mut self, runs: Runs) {
        self.effects.runs = self.effects.runs.max(runs);
    }

    fn may_alter(&mut self, how: Alters) {
        self.effects.may_alter = self.effects.may_alter.max(how);
    }

    fn sequence(&mut self, effect: SequenceEffect) {
        self.effects.sequence = self.effects.sequence.and(effect);
    }

    fn close(&mut self, state: &Statement<'_>) {
        if state.depth.parens > 0 || state.depth.atomic > 0 {
            self.pin(Pin::Unknown);
        }
        if state.temporary && !state.on_commit_drop {
            self.pin(Pin::TempTable);
        }
        if self.effects.executes {
            self.runs(Runs::Unknown);
        }
        self.effects.alters |= state.family == Family::Definition && !state.temporary;
        self.effects.temporary |= state.temporary;
    }

    #[inline]
    fn visit(&mut self, state: &mut Statement<'a>, token: &Token<'a>) {
        // Behind TO STDOUT come options, in which nothing is called; behind FROM STDIN there may be a WHERE.
        let in_options = state.copies && self.effects.copy == CopyEffect::Out;
        if let Some(call) = state.calls.step(token)
            && !state.opens_query()
            && !in_options
            && !state.configures
        {
            if call == Call::Unknown(None) {
                self.may_alter(match state.procedure {
                    true => Alters::Code,
                    false => Alters::Unnamed,
                });
            }
            self.call(call);
        }
        let here = match token.kind {
            TokenKind::Word => word(token.text),
            TokenKind::QuotedWord => {
                let name = word(&token.text[1..token.text.len() - 1]);
                self.name(name);
                self.view(state, name);
                Word::Other
            }
            // What such a statement names is found elsewhere, and is no function.
            TokenKind::UnicodeWord
                if matches!(
                    state.before[0],
                    Word::Prepare | Word::Execute | Word::Deallocate
                ) =>
            {
                Word::Other
            }
            TokenKind::UnicodeWord => {
                if self.may_matter(token) {
                    self.pin(Pin::Unknown);
                }
                Word::Other
            }
            _ => Word::Other,
        };
        self.atomic |= state.depth.atomic > 0;
        if here != Word::Other {
            self.word(state, here);
            self.name(here);
            self.view(state, here);
        }
        if state.family == Family::Composed {
            self.composed(here, token);
        }
        if state.first == Word::Do {
            self.block(state, token);
        }
        if state.first == Word::Copying {
            self.copied(here, token);
        }
        state.before = [here, state.before[0]];
    }

    fn call(&mut self, call: Call<'_>) {
        match call {
            Call::UsesSequence => {
                self.copies_writes = true;
                self.sequence(SequenceEffect::Uses);
            }
            Call::AsksSequence => self.sequence(SequenceEffect::Asks),
            Call::Volatile => self.volatile = true,
            Call::Unknown(name) => {
                let known = self.known.zip(name);
                if !known.is_some_and(|(known, name)| known(name)) {
                    self.runs(Runs::Unknown);
                }
            }
        }
    }

    /// A word of a COPY, whose query writes by these alone.
    fn copied(&mut self, here: Word, token: &Token<'_>) {
        self.copies_writes |= matches!(here, Word::Insert | Word::Merge | Word::Into)
            || token.is_word(b"update")
            || token.is_word(b"delete");
    }

    /// A word of a statement that writes, perhaps.
    fn composed(&mut self, here: Word, token: &Token<'_>) {
        if matches!(here, Word::Insert | Word::Merge) {
            self.runs(Runs::Writes);
            self.sequence(SequenceEffect::Uses);
        } else if token.is_word(b"update") || token.is_word(b"delete") {
            self.runs(Runs::Writes);
        } else if token.is_word(b"create") || token.is_word(b"refresh") {
            // EXPLAIN ANALYZE runs what makes a table, too.
            self.runs(Runs::Unknown);
            self.effects.alters = true;
        }
    }

    /// Words that mean something by their place.
    fn word(&mut self, state: &mut Statement<'_>, here: Word) {
        let outside = state.depth.parens == 0;
        let [before, earlier] = state.before;
        match (here, before) {
            (Word::Temp, Word::Create | Word::Replace | Word::Global | Word::Local) => {
                state.temporary = true;
            }
            // `INSERT INTO temp` is a table of that name.
            (Word::Temp, Word::Into) if !matches!(earlier, Word::Insert | Word::Merge) => {
                state.temporary = true;
            }
            // It makes a table, and so may wake an event trigger.
            (Word::Into, _)
                if matches!(state.family, Family::Query | Family::Composed)
                    && !matches!(before, Word::Insert | Word::Merge) =>
            {
                self.runs(Runs::Unknown);
            }
            (Word::Drop, Word::Commit) if outside && earlier == Word::On => {
                state.on_commit_drop = true;
            }
            (Word::Hold, Word::With) if matches!(state.first, Word::Declare | Word::Explain) => {
                self.pin(Pin::HoldCursor);
            }
            (Word::Stdin, Word::From | Word::To) if outside && state.first == Word::Copying => {
                self.copy(state, before);
            }
            (Word::Execute, _) if matches!(state.first, Word::Explain | Word::Create) => {
                self.effects.executes = true;
            }
            _ => {}
        }
    }

    fn copy(&mut self, state: &mut Statement<'_>, direction: Word) {
        if state.copies {
            return;
        }
        state.copies = true;
        self.effects.copy = match (self.effects.copy, direction) {
            (CopyEffect::None, Word::From) => CopyEffect::In,
            (CopyEffect::None, _) => CopyEffect::Out,
            _ => CopyEffect::Unknown,
        };
    }

    /// A rule turns an UPDATE of `pg_settings` into calls of `set_config`.
    fn view(&mut self, state: &Statement<'_>, name: Word) {
        if name == Word::PgSettings && state.first != Word::Select {
            self.pin(Pin::SetConfig);
        }
    }

    /// Whether a name with escapes, which stands in front, may be one of those that matter here: if it is called, if it
    /// cannot be told, or if it is the name of something of Postgres' own.
    fn may_matter(&self, token: &Token<'a>) -> bool {
        let mut behind = self.lexer;
        let found = identifier(token, &mut behind, self.names);
        let harmless = found
            .name
            .is_some_and(|name| word(&name) == Word::Other && !name.starts_with(b"pg_"));
        !harmless || is_called(&behind)
    }

    /// Names that pin wherever they stand, and those that do where they are called.
    fn name(&mut self, name: Word) {
        match name {
            Word::SetConfig => {
                self.effects.configures = true;
                if !self.local_config() {
                    self.pin(Pin::SetConfig);
                }
            }
            Word::Setseed => self.pin(Pin::Setseed),
            Word::AdvisoryLock => self.pin(Pin::AdvisoryLock),
            // Perhaps there is none.
            Word::TryAdvisoryLock => {
                self.pin(Pin::AdvisoryLock);
                self.effects.frees.insert(Pin::AdvisoryLock);
            }
            Word::AdvisoryUnlock => self.effects.frees.insert(Pin::AdvisoryLock),
            Word::PgTemp => self.pin(Pin::TempTable),
            Word::PreparedStatements => self.effects.inspects = true,
            Word::Bound if is_called(&self.lexer) => self.pin(Pin::Unknown),
            _ => {}
        }
    }

    /// Whether the call that begins here has exactly three arguments, the last the literal `true`.
    fn local_config(&self) -> bool {
        if self.effects.pins.contains(Pin::SetConfig) {
            return false;
        }
        let mut ahead = self.lexer;
        let (mut depth, mut commas, mut tokens, mut literal) = (0usize, 0, 0, false);
        for _ in 0..LOOK_AHEAD {
            let Ok(Some(token)) = ahead.token() else {
                return false;
            };
            match token.kind {
                TokenKind::Punct(b')' | b']') if depth <= 1 => {
                    return commas == 2 && tokens == 1 && literal;
                }
                TokenKind::Punct(b')' | b']') => depth -= 1,
                TokenKind::Punct(b'(' | b'[') => depth += 1,
                TokenKind::Punct(b',') if depth == 1 => {
                    commas += 1;
                    tokens = 0;
                    continue;
                }
                _ if depth == 0 => return false,
                _ => {}
            }
            tokens += 1;
            literal = token.is_word(b"true")
                || token.kind == TokenKind::String && matches!(token.text, b"'true'" | b"'t'");
        }
        false
    }

    fn block(&mut self, state: &mut Statement<'_>, token: &Token<'a>) {
        if token.is_string() && !state.language {
            self.effects.pins = self.effects.pins.union(opaque::opaque(token));
            // One that is written in several parts is read as a whole only by the server.
            if std::mem::replace(&mut state.code, true) || opaque::may_alter(token) {
                self.may_alter(Alters::Code);
            }
        }
        // Other languages can say anything without naming it.
        if state.language && !token.is_word(b"plpgsql") && token.text != b"'plpgsql'" {
            self.pin(Pin::Unknown);
            self.may_alter(Alters::Code);
        }
        state.language = token.is_word(b"language");
    }

    /// What the first word of a statement says, with what follows it.
    fn head(&mut self, first: Word) -> Result<(), LexError> {
        match first {
            Word::Select => self.unlock()?,
            Word::Begin
            | Word::Start
            | Word::Commit
            | Word::End
            | Word::Rollback
            | Word::Abort
            | Word::Savepoint
            | Word::Release => self.transaction(first)?,
            Word::Set | Word::Reset | Word::Show => {
                let next = self.lexer.peek_token()?;
                self.effects.configures |=
                    first == Word::Set && next.is_some_and(|next| next.is_word(b"local"));
                let change = change(first, self.text, self.lexer)?;
                self.effects.pins = self.effects.pins.union(change.pins);
                self.effects.unpins = self.effects.unpins.union(change.unpins);
                self.effects.sets = change.setting;
            }
            Word::Prepare => self.prepare()?,
            Word::Deallocate => self.all_or_pin(Pin::Prepare)?,
            Word::Discard => self.discard()?,
            Word::Drop => self.effects.frees.insert(Pin::TempTable),
            Word::Close => self.close_cursor()?,
            Word::Unlisten => self.unlisten()?,
            Word::Listen => {
                self.pin(Pin::Listen);
                self.effects.listens = true;
            }
            Word::Load => self.pin(Pin::Load),
            Word::Execute => self.effects.executes = true,
            _ => {}
        }
        Ok(())
    }

    fn transaction(&mut self, first: Word) -> Result<(), LexError> {
        let mut rest = self.lexer;
        let mut next = rest.token()?;
        let is = |token: Option<Token<'_>>, word: &[u8]| token.is_some_and(|t| t.is_word(word));
        // `COMMIT PREPARED` and `ROLLBACK PREPARED` end the transaction of somebody else.
        if matches!(first, Word::Commit | Word::Rollback) && is(next, b"prepared") {
            if first == Word::Commit {
                self.may_alter(Alters::Prepared);
            }
            return Ok(());
        }
        if is(next, b"work") || is(next, b"transaction") {
            next = rest.token()?;
        }
        let chain = is(next, b"and") && is(rest.token()?, b"chain");
        let effect = match first {
            Word::Begin | Word::Start => TransactionEffect::Begin,
            Word::Commit | Word::End if chain => TransactionEffect::CommitChain,
            Word::Commit | Word::End => TransactionEffect::Commit,
            Word::Savepoint => TransactionEffect::Savepoint,
            Word::Release => TransactionEffect::Release,
            _ if is(next, b"to") => TransactionEffect::RollbackTo,
            _ if chain => TransactionEffect::RollbackChain,
            _ => TransactionEffect::Rollback,
        };
        self.transacts(effect);
        Ok(())
    }

    fn transacts(&mut self, effect: TransactionEffect) {
        if matches!(
            effect,
            TransactionEffect::Commit | TransactionEffect::CommitChain | TransactionEffect::Prepare
        ) {
            let behind = self.effects.statements.saturating_sub(1);
            self.effects.commits_behind.get_or_insert(behind);
        }
        self.effects.transaction = match self.effects.transaction {
            TransactionEffect::None => effect,
            _ => TransactionEffect::Mixed,
        };
    }

    fn prepare(&mut self) -> Result<(), LexError> {
        let mut rest = self.lexer;
        let transaction = rest.token()?.is_some_and(|t| t.is_word(b"transaction"));
        // `PREPARE transaction AS …` is a statement of that name.
        if transaction && rest.token()?.is_some_and(|t| t.is_string()) {
            self.transacts(TransactionEffect::Prepare);
            self.effects.prepares = true;
        } else {
            self.pin(Pin::Prepare);
        }
        Ok(())
    }

    fn all_or_pin(&mut self, pin: Pin) -> Result<(), LexError> {
        let mut rest = self.lexer;
        let mut next = rest.token()?;
        if next.is_some_and(|t| t.is_word(b"prepare")) {
            // `DEALLOCATE prepare` alone is a statement of that name.
            next = rest.token()?;
        }
        if next.is_some_and(|t| t.is_word(b"all")) {
            self.effects.unpins.insert(pin);
        } else {
            self.pin(pin);
        }
        Ok(())
    }

    fn discard(&mut self) -> Result<(), LexError> {
        match self.lexer.peek_token()? {
            Some(what) if what.is_word(b"all") => {
                self.effects.unpins = self.effects.unpins.union(PinSet::DISCARD_ALL);
                self.effects.forgets = true;
            }
            Some(what) if what.is_word(b"sequences") => self.effects.forgets = true,
            Some(what) if what.is_word(b"temp") || what.is_word(b"temporary") => {
                self.effects.unpins.insert(Pin::TempTable);
                self.effects.frees.insert(Pin::TempTable);
            }
            _ => {}
        }
        Ok(())
    }

    fn unlisten(&mut self) -> Result<(), LexError> {
        self.effects.listens = true;
        if self.lexer.peek_token()?.is_some_and(|t| t.text == b"*") {
            self.effects.unpins.insert(Pin::Listen);
        }
        Ok(())
    }

    fn close_cursor(&mut self) -> Result<(), LexError> {
        self.effects.frees.insert(Pin::HoldCursor);
        if self.lexer.peek_token()?.is_some_and(|t| t.is_word(b"all")) {
            self.effects.unpins.insert(Pin::HoldCursor);
        }
        Ok(())
    }

    /// Exactly `SELECT pg_advisory_unlock_all()`: with anything more it might not be called.
    fn unlock(&mut self) -> Result<(), LexError> {
        let mut rest = self.lexer;
        let mut next = rest.token()?;
        if next.is_some_and(|t| t.is_word(b"pg_catalog")) {
            if !rest.token()?.is_some_and(|t| t.is(b'.')) {
                return Ok(());
            }
            next = rest.token()?;
        }
        if !next.is_some_and(|t| t.is_word(b"pg_advisory_unlock_all")) {
            return Ok(());
        }
        let open = rest.token()?.is_some_and(|t| t.is(b'('));
        let shut = rest.token()?.is_some_and(|t| t.is(b')'));
        if open && shut && rest.token()?.is_none_or(|t| t.is(b';')) {
            self.effects.unpins.insert(Pin::AdvisoryLock);
        }
        Ok(())
    }
}
