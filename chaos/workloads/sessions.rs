//! Each client asks who it is, and finds the session that it left.

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio_postgres::{SimpleQueryMessage, Statement};

use crate::checks::Check;
use crate::checks::errors::Doing;
use crate::checks::identity::Identity;
use crate::door::{Caller, Door, Failure, Fate, Stage};
use crate::workloads::crew::Crew;
use crate::workloads::life::Life;

/// The name in the table of errors.
pub const KIND: &str = "session";

/// Starts clients that ask until their life ends.
pub(crate) fn start(life: &Arc<Life>, door: &Door, clients: usize, seed: u64) -> Crew {
    Crew::start(clients, |number, identity| {
        let session = Session {
            name: format!("{KIND}{number}"),
            door: door.clone(),
            life: Arc::clone(life),
            identity,
            turn: 0,
        };
        let rng = StdRng::seed_from_u64(seed.wrapping_add(number as u64));
        session.live(rng)
    })
}

/// One client.
struct Session {
    name: String,
    door: Door,
    life: Arc<Life>,
    identity: Arc<Identity>,
    turn: u64,
}

/// What belongs to one connection.
#[derive(Default)]
struct State {
    prepared: Option<Statement>,
    /// What the setting may be: one value, or two after a failure.
    settings: Vec<String>,
}

impl State {
    /// It may have been set to this, or be as it was; where nothing was set, it reads as an empty text.
    fn doubt(&mut self, value: String) {
        if self.settings.is_empty() {
            self.settings.push(String::new());
        }
        self.settings.push(value);
    }
}

/// Gives who asks and what it has set.
const WHO: &str = "current_setting('application_name'), current_setting('app.who', true)";

impl Session {
    async fn live(mut self, mut rng: StdRng) {
        let life = Arc::clone(&self.life);
        let mut present: Option<(Caller, State)> = None;
        loop {
            let (caller, state) = match present.take() {
                Some((caller, state)) => (Some(caller), state),
                None => (None, State::default()),
            };
            let was_usable = caller.as_ref().is_some_and(Caller::is_usable);
            let caller = life.caller(caller, &self.door, KIND, &self.name).await;
            let Some(caller) = caller else { return };
            // A new connection begins with nothing.
            let mut state = if was_usable { state } else { State::default() };
            let mut doing = Doing::Read;
            let outcome = match rng.random_range(0..5) {
                0 if self.door.has_sessions() => {
                    doing = Doing::Setting;
                    self.set(&caller, &mut state).await
                }
                1 => self.fail(&caller).await,
                2 | 3 if self.door.has_sessions() => self.prepared(&caller, &mut state).await,
                _ => self.simple(&caller, &mut state).await,
            };
            if let Err(failure) = outcome {
                life.failed(KIND, &self.name, doing, &failure);
            }
            life.rest().await;
            present = Some((caller, state));
        }
    }

    fn token(&mut self) -> String {
        self.turn += 1;
        format!("{}-{}", self.name, self.turn)
    }

    /// Sets what is to follow the session.
    async fn set(&mut self, caller: &Caller, state: &mut State) -> Result<(), Failure> {
        let value = self.token();
        let text = format!("set app.who = '{value}'");
        let outcome = caller.ask(caller.client.batch_execute(&text)).await;
        match self.door.fate(&outcome, Stage::Commit) {
            Fate::Acknowledged => state.settings = vec![value],
            Fate::Failed => {}
            Fate::Unknown => state.doubt(value),
        }
        outcome
    }

    /// An error carries who asked.
    async fn fail(&mut self, caller: &Caller) -> Result<(), Failure> {
        let token = self.token();
        let text = format!("select '{token}'::int");
        let outcome = caller
            .ask(async { Ok(caller.client.batch_execute(&text).await) })
            .await?;
        match outcome {
            Ok(()) => self.identity.fault(format!("{token} did not fail")),
            Err(error) if error.code().is_some_and(|code| code.code() == "22P02") => {
                let said = error.as_db_error().map_or("", |error| error.message());
                let expected = format!("invalid input syntax for type integer: \"{token}\"");
                self.identity.answer(&self.name, &expected, Some(said));
            }
            Err(error) => return Err(Failure::of(&error)),
        }
        Ok(())
    }

    /// A statement that is prepared once for the connection.
    async fn prepared(&mut self, caller: &Caller, state: &mut State) -> Result<(), Failure> {
        let client = &caller.client;
        let statement = match &state.prepared {
            Some(statement) => statement.clone(),
            None => {
                let text = format!("select $1::text, {WHO}");
                caller.ask(client.prepare(&text)).await?
            }
        };
        state.prepared = Some(statement.clone());
        let token = self.token();
        let row = caller.ask(client.query_one(&statement, &[&token])).await?;
        let [echo, name, setting] = [row.get(0), row.get(1), row.get(2)];
        self.compare(&token, state, [echo, name, setting]);
        Ok(())
    }

    async fn simple(&mut self, caller: &Caller, state: &mut State) -> Result<(), Failure> {
        let token = self.token();
        let text = format!("select '{token}', {WHO}");
        let messages = caller.ask(caller.client.simple_query(&text)).await?;
        let row = messages.into_iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let row = row.as_ref();
        let values = [0, 1, 2].map(|column| row.and_then(|row| row.get(column)));
        self.compare(&token, state, values);
        Ok(())
    }

    fn compare(&self, token: &str, state: &mut State, values: [Option<&str>; 3]) {
        let [echo, name, setting] = values;
        self.identity.answer(&self.name, token, echo);
        self.identity.answer(&self.name, &self.name, name);
        if !self.door.has_sessions() {
            return;
        }
        // A setting that somebody else has had on the server reads as an empty text.
        let setting = setting.unwrap_or_default();
        let expected = state.settings.join(" or ");
        if state.settings.is_empty() && setting.is_empty() {
            return;
        }
        if state.settings.iter().any(|known| known == setting) {
            state.settings = vec![setting.to_owned()];
            return;
        }
        let what = format!("{} has {setting:?} where it had set {expected}", self.name);
        self.identity.catch(Check::Session, what);
    }
}

#[cfg(test)]
mod tests {
    use super::State;

    #[test]
    fn what_may_not_have_been_set_may_be_as_it_was() {
        let mut state = State::default();
        state.doubt("a".to_owned());
        assert_eq!(state.settings, ["", "a"]);
        state.doubt("b".to_owned());
        assert_eq!(state.settings, ["", "a", "b"]);
    }
}
