//! What a query gave.

use tokio_postgres::{Client, SimpleQueryMessage};

pub(crate) type Row = Vec<Option<String>>;

/// The columns' names and the rows, as texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Row>,
    /// How many rows a write says that it has changed.
    pub(crate) count: u64,
}

/// Runs one query; the error's SQLSTATE and message if it fails.
pub(crate) async fn ask(client: &Client, query: &str) -> Result<Answer, String> {
    let messages = client
        .simple_query(query)
        .await
        .map_err(|error| match error.as_db_error() {
            Some(error) => format!("{} {}", error.code().code(), error.message()),
            None => panic!("{query}: {error}"),
        })?;
    let mut answer = Answer {
        columns: Vec::new(),
        rows: Vec::new(),
        count: 0,
    };
    for message in messages {
        match message {
            SimpleQueryMessage::RowDescription(columns) => {
                answer.columns = columns
                    .iter()
                    .map(|column| column.name().to_owned())
                    .collect();
            }
            SimpleQueryMessage::Row(row) => {
                let values = (0..row.len()).map(|at| row.get(at).map(str::to_owned));
                answer.rows.push(values.collect());
            }
            SimpleQueryMessage::CommandComplete(count) => answer.count = count,
            _ => {}
        }
    }
    Ok(answer)
}

impl Answer {
    /// The rows of both, one behind the other.
    pub(crate) fn and(mut self, other: Self) -> Self {
        assert_eq!(self.columns, other.columns);
        self.rows.extend(other.rows);
        self.count += other.count;
        self
    }

    pub(crate) fn sorted(mut self) -> Self {
        self.rows.sort();
        self
    }
}
